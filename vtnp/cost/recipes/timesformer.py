"""Sizes of vtnp.timesformer's formulas: TimeSformer, 8 frames of 14 x 14 patches, width 768.

As in its released code every attention sublayer but a layer's last has a further linear map, `fc`.
"""

from vtnp.cost.recipes.recipe import Recipe

SIZES = {"fc": True}
RECIPES = {
    "attention-sublayer": Recipe({"attend": "time", "class_token": "out"}),
}
