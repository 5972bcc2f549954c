"""Sizes of vtnp.positions' formulas: ViT-B's tokens; distances up to 16, as Shaw et al. (2018)."""

from vtnp.cost.recipes.tables import Recipe, Table

SIZES: Table = {}
RECIPES = {"relative-attention": Recipe({"r": 2 * 16 + 1})}
