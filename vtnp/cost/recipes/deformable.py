"""Sizes of vtnp.deformable's formulas: the Deformable Video Transformer, N = 8 samples of a frame.

16 frames of 14 x 14 tokens in B = 4 sub-clips, widths of ViT-B (Wang and Torresani 2022).
"""

from vtnp.cost.recipes.recipe import Recipe, equal_part

_SUBCLIPS = {"clips": 4, "u": lambda z: equal_part(z, "t", "clips")}
SIZES = {"t": 16, "points": 8}
RECIPES = {
    "deformable-self-attention": Recipe(_SUBCLIPS),
    "deformable-layer": Recipe(_SUBCLIPS),
}
