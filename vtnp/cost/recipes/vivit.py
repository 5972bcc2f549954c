"""Sizes of vtnp.vivit's formulas: ViViT-B/16x2, 32 frames of 224 x 224 pixels, 12 layers.

Tubelets of 2 x 16 x 16 pixels make 16 frames of 196 tokens; the factorised encoder has 4 layers
over time (Arnab et al. 2021). Frames are sampled from the 300 of a Kinetics clip.
"""

from vtnp.cost.recipes.recipe import Recipe, Rule, Sizes


def _positions(*tokens: str) -> Rule:
    """Return the rule of position embeddings: one for each token, and for the class token."""

    def shape(z: Sizes) -> tuple[int, int]:
        count = 1
        for name in tokens:
            count *= z[name]
        return count + z["cls"], z["d"]

    return shape


def _same(name: str) -> Rule:
    return lambda z: z[name]


SIZES = {
    "T": 32, "t": 16, "p_t": 2, "p_h": 16, "p_w": 16, "cls": True, "layers": 12, "time_layers": 4,
}  # fmt: skip
RECIPES = {
    "uniform-frame-sampling": Recipe({"T": 300, "k": 32}),
    "sequence-encoder": Recipe({"n": 196}, params={"positions": _positions("n")}),
    "spatio-temporal-encoder": Recipe(params={"positions": _positions("t", "s")}),
    "factorised-encoder": Recipe(
        # The temporal encoder has heads and widths like the spatial one.
        {f"{name}_time": _same(name) for name in ("heads", "d_h", "d_v", "d_f")},
        names={"time_layers": int | None},
        params={
            "space.positions": _positions("s"),
            "time": lambda z: z["time_layers"] is not None,
            "time.positions": _positions("t"),
            "time.layers": lambda z: z["time_layers"],
        },
    ),
}
