"""Sizes of vtnp.vivit's formulas: ViViT-B/16x2, 32 frames of 224 x 224 pixels, 12 layers.

Tubelets of 2 x 16 x 16 pixels make 16 frames of 196 tokens; the factorised encoder has 4 layers
over time (Arnab et al. 2021). Frames are sampled from the 300 of a Kinetics clip.
"""

from vtnp.cost.recipes.tables import (
    LAYER,
    Recipe,
    Sizes,
    Table,
    attention_half,
    feed_forward_half,
    layer,
    letters,
    norm,
)


def _encoder(z: Sizes, rows: int, layers: int) -> Table:
    return {
        "cls": "d" if z["cls"] else None,
        "positions": (rows + z["cls"], z["d"]),
        "layers": [layer(z) for _ in range(layers)],
        "norm": norm(z),
    }


def _sequence(z: Sizes) -> Table:
    return _encoder(z, z["n"] if "n" in z else z["t"] * z["s"], z["layers"])


def _factorised(z: Sizes) -> Table:
    over_time = None if z["time_layers"] is None else _encoder(z, z["t"], z["time_layers"])
    return {"space": _encoder(z, z["s"], z["layers"]), "time": over_time}


def _in_turn(z: Sizes) -> Table:
    return {"time": attention_half(z), "space": attention_half(z), **feed_forward_half(z)}


_ENCODER = {**LAYER, **letters("layers", cls=bool)}
SIZES = {
    "T": 32, "t": 16, "p_t": 2, "p_h": 16, "p_w": 16, "cls": True, "layers": 12, "time_layers": 4,
}  # fmt: skip
RECIPES = {
    "uniform-frame-sampling": Recipe({"T": 300, "k": 32}),
    "sequence-encoder": Recipe({"n": 196}, _ENCODER, _sequence),
    "spatio-temporal-encoder": Recipe(names=_ENCODER, params=_sequence),
    "factorised-encoder": Recipe(names={**_ENCODER, "time_layers": int | None}, params=_factorised),
    "factorised-self-attention-layer": Recipe(names=LAYER, params=_in_turn),
    "factorised-dot-product-layer": Recipe(names=LAYER, params=layer),
}
