"""Sizes of vtnp.timesformer's formulas: TimeSformer, 8 frames of 14 x 14 patches, width 768.

As in its released code every attention sublayer but a layer's last has a further linear map, `fc`.
"""

from vtnp.cost.recipes.recipe import Recipe


def _without_fc(last: str) -> Recipe:
    """Return the recipe of a layer whose last attention sublayer has no linear map of its own."""
    return Recipe(params={f"{last}.fc": lambda _: False})


SIZES = {"fc": True}
RECIPES = {
    "attention-sublayer": Recipe({"attend": "time", "class_token": "out"}),
    "divided-layer": _without_fc("space"),
    "local-global-layer": _without_fc("global"),
    "axial-layer": _without_fc("height"),
}
