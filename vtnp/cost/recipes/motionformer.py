"""Sizes of vtnp.motionformer's formulas: Motionformer, 8 frames of 196 patches, 128 prototypes.

Where a formula is that of one head, its width is 64 (Patrick et al. 2021).
"""

from vtnp.cost.recipes.tables import (
    HEADS,
    LAYER,
    Recipe,
    Sizes,
    Table,
    attention,
    feed_forward_half,
    letters,
    norm,
    plus_bias,
)


def _attention(z: Sizes) -> Table:
    # The second projections take the tokens of all heads side by side.
    side_by_side = z["heads"] * z["d_v"]
    projects = z["value_projection"]
    second = {
        f"W_{letter}": (z["heads"], side_by_side, z[width])
        for letter, width in (("q", "d_k"), ("k", "d_k"), ("v", "d_v"))
        if letter != "v" or projects
    }
    biases = {
        "b_q": plus_bias(z, "heads d_k"),
        "b_k": plus_bias(z, "heads d_k"),
        "b_v": plus_bias(z, "heads d_v") if projects else None,
    }
    return {"attention": attention(z), "trajectory": {**second, **biases}}


def _layer(z: Sizes) -> Table:
    return {**_attention(z), "norm_1": norm(z), **feed_forward_half(z)}


def _prototypes(z: Sizes) -> Table:
    if z["prototypes"] is None:
        return {"prototypes": None}
    chosen = {"r": z["prototypes"], "start": 0}
    return {"prototypes": {**chosen, "candidates": z["candidates"], "shared": z["shared"]}}


def _letters(z: Sizes) -> Table:
    return {"r": z["prototypes"], "g": 1 if z["shared"] else z["t"]}


def _own_values(z: Sizes) -> int:
    return int(z["d_k"] if z["value_projection"] else z["d"])


_SECOND = letters("d_k", prototypes=int | None, candidates=str, shared=bool)
_HEAD = {"d": 64}
SIZES = {
    "r": 128, "start": 0, "prototypes": None, "candidates": "queries", "shared": True,
    "d_k": lambda z: z.get("d_h", 64),
}  # fmt: skip
RECIPES = {
    "trajectory-tokens": Recipe(_HEAD),
    "trajectory-attention": Recipe({"W_v": lambda z: z["value_projection"], "d_v": _own_values}),
    "prototype-attention": Recipe({**_HEAD, "n": 8 * 196}),
    "orthogonal-prototypes": Recipe({**_HEAD, "n": 8 * 196}),
    "trajectory-prototypes": Recipe(_HEAD),
    "prototype-trajectory-tokens": Recipe({**_HEAD, "g": 1}),
    "trajectory-self-attention": Recipe(
        names={**HEADS, **_SECOND}, params=_attention, arguments=_prototypes, letters=_letters
    ),
    "trajectory-layer": Recipe(
        names={**LAYER, **_SECOND}, params=_layer, arguments=_prototypes, letters=_letters
    ),
}
