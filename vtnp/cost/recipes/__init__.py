"""Recipes: for each formula, what makes its arguments from sizes beyond its signature."""

from importlib import import_module
from typing import Any

from vtnp._registry.spec import registry
from vtnp.cost.recipes.tables import COMMON, Recipe


def recipe(id: str) -> Recipe:
    """Return the recipe of a formula."""
    found: dict[str, Recipe] = _module(id).RECIPES
    return found.get(id, Recipe())


def defaults_of(id: str) -> dict[str, Any]:
    """Return the defaults and rules that a formula's names have: its own, its system's, and all's.

    Names that it does not have are among them.
    """
    return {**COMMON, **_module(id).SIZES, **recipe(id).sizes}


def _module(id: str) -> Any:
    return import_module(f"{__name__}.{registry[id].module}")
