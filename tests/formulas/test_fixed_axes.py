"""An axis that a signature gives as a number, "*b k 2", has that size."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import vtnp
from tests.support.trees import tree_map
from vtnp._registry.params import arrays_in, shapes_of
from vtnp._registry.shapes import Argument
from vtnp._registry.spec import registry
from vtnp.claims.cases import make

SEEDS = 6  # one of them draws every optional array


def arrays(name: str, args: dict[str, Any]) -> Iterator[tuple[Argument, Any]]:
    """Yield each array of a formula's arguments with its shape in the signature."""
    for argument in registry[name].signature.arguments:
        if args.get(argument.name) is not None:
            yield argument, args[argument.name]
    for params, table in registry[name].signature.tables.items():
        yield from arrays_in(table, args[params], params)


def fixed_axes(argument: Argument) -> list[int]:
    """Return which axes of an array have a number for a letter."""
    before, after = argument.shape.before, argument.shape.after
    places = [*enumerate(before), *enumerate(after, start=-len(after))]
    return [place for place, axis in places if axis.isdigit()]


def lengthened(x: np.ndarray, axes: list[int]) -> np.ndarray:
    """Repeat the last entry along some axes."""
    by_axis = [(0, 0)] * x.ndim
    for axis in axes:
        by_axis[axis] = (0, 1)
    return np.pad(x, by_axis, mode="edge")


def has_fixed_axes(name: str) -> bool:
    signature = registry[name].signature
    texts = [argument.shape.text for argument in signature.arguments]
    texts += [text for table in signature.tables.values() for _, text in shapes_of(table)]
    return any(axis.isdigit() for text in texts for axis in text.split())


@pytest.mark.parametrize("name", [name for name in registry if has_fixed_axes(name)])
def test_another_size_is_refused(name):
    """In all arrays at once: if one alone differed, it would be refused for that."""
    tried = 0
    for seed in range(SEEDS):
        args = make(name, seed).args
        of_arrays = [(x, fixed_axes(argument)) for argument, x in arrays(name, args)]
        longer = {id(x): lengthened(x, axes) for x, axes in of_arrays}
        changed = tree_map(lambda x, longer=longer: longer.get(id(x), x), args)
        if any(axes for _, axes in of_arrays):
            tried += 1
            with pytest.raises(vtnp.ShapeError, match=r"axis \d has size \d, expected \d "):
                registry[name].function(**changed)
    assert tried
