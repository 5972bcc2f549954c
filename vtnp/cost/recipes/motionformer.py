"""Sizes of vtnp.motionformer's formulas: Motionformer, 8 frames of 196 patches, 128 prototypes.

Where a formula is that of one head, its width is 64 (Patrick et al. 2021).
"""

from vtnp.cost.recipes.recipe import Recipe, Sizes


def _own_values(z: Sizes) -> int:
    return int(z["d_k"] if z["value_projection"] else z["d"])


_HEAD = {"d": 64}
_TRAJECTORY = Recipe(
    params={
        "trajectory.W_v": lambda z: z["value_projection"],
        "trajectory.b_v": lambda z: z["value_projection"] and z["biases"],
    }
)
SIZES = {
    "r": 128, "start": 0, "d_k": lambda z: z.get("d_h", 64), "e": lambda z: z["heads"] * z["d_v"],
}  # fmt: skip
RECIPES = {
    "trajectory-tokens": Recipe(_HEAD),
    "trajectory-attention": Recipe({"W_v": lambda z: z["value_projection"], "d_v": _own_values}),
    "prototype-attention": Recipe({**_HEAD, "n": 8 * 196}),
    "orthogonal-prototypes": Recipe({**_HEAD, "n": 8 * 196}),
    "trajectory-prototypes": Recipe(_HEAD),
    "prototype-trajectory-tokens": Recipe({**_HEAD, "g": 1}),
    "trajectory-self-attention": _TRAJECTORY,
    "trajectory-layer": _TRAJECTORY,
}
