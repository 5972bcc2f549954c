"""Recipes: for each formula, what makes its arguments from sizes beyond its signature."""

from typing import Any

from vtnp._registry.spec import registry
from vtnp.cost.recipes import (
    deformable,
    encoder,
    longnet,
    motionformer,
    mvit,
    nystromformer,
    positions,
    timesformer,
    tokens,
    vivit,
)
from vtnp.cost.recipes.recipe import COMMON, Recipe

CHAPTERS: dict[str, Any] = {
    module.__name__.rpartition(".")[2]: module
    for module in (
        encoder,
        tokens,
        positions,
        timesformer,
        vivit,
        motionformer,
        deformable,
        mvit,
        nystromformer,
        longnet,
    )
}


def recipe(id: str) -> Recipe:
    """Return the recipe of a formula."""
    found: dict[str, Recipe] = CHAPTERS[registry[id].module].RECIPES
    return found.get(id, Recipe())


def defaults_of(id: str) -> dict[str, Any]:
    """Return the defaults and rules that a formula has: its own, its chapter's, and those of all.

    Names that the formula does not have are among them.
    """
    return {**COMMON, **CHAPTERS[registry[id].module].SIZES, **recipe(id).sizes}
