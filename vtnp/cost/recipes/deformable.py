"""Sizes of vtnp.deformable's formulas: the Deformable Video Transformer, N = 8 samples of a frame.

16 frames of 14 x 14 tokens in B = 4 sub-clips, widths of ViT-B (Wang and Torresani 2022).
"""

from vtnp.cost.recipes.tables import (
    Recipe,
    Sizes,
    Table,
    feed_forward_half,
    letters,
    norm,
    plus_bias,
    share,
)


def _heads(z: Sizes) -> Table:
    return {
        "W_q": "d d",
        "W_v": "heads d d_v",
        "W_alpha": "heads d points",
        "W_delta": "heads d points 2",
        "W_c": "heads d_v d",
        "b_q": plus_bias(z, "d"),
        "b_v": plus_bias(z, "heads d_v"),
        "b_alpha": plus_bias(z, "heads points"),
        "b_delta": plus_bias(z, "heads points 2"),
        "b_c": plus_bias(z, "d"),
    }


def _layer(z: Sizes) -> Table:
    motion = {"E": "2 d", "bias": plus_bias(z, "d")}
    rest = {"norm_1": norm(z), "motion": motion, **feed_forward_half(z)}
    return {**rest, "attention": _heads(z)}


_SUBCLIPS = {"clips": 4, "u": lambda z: share(z, "t", "clips")}
_NAMES = letters("heads d_v points", biases=bool)
SIZES = {"t": 16, "points": 8}
RECIPES = {
    "deformable-self-attention": Recipe(_SUBCLIPS, _NAMES, _heads),
    "deformable-layer": Recipe(_SUBCLIPS, {**letters("d_f"), **_NAMES}, _layer),
}
