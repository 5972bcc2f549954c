"""Sizes of vtnp.encoder's formulas: an image of ViT-B/16, its 196 patches and the class token."""

from typing import Any

from vtnp.cost.recipes.recipe import Recipe

SIZES: dict[str, Any] = {}
RECIPES: dict[str, Recipe] = {}
