"""Sizes of vtnp.positions' formulas: ViT-B's tokens; distances up to 16, as Shaw et al. (2018)."""

from typing import Any

from vtnp.cost.recipes.recipe import Recipe

SIZES: dict[str, Any] = {}
RECIPES = {"relative-attention": Recipe({"r": 2 * 16 + 1})}
