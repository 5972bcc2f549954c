"""Arguments as trees: dicts and lists of arrays, walked by path."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np


def leaves(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield (path, array) for every array of a tree."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from leaves(value, (*path, key))
    elif isinstance(tree, list | tuple):
        for index, value in enumerate(tree):
            yield from leaves(value, (*path, index))
    elif hasattr(tree, "dtype"):
        yield path, tree


def tree_map(f: Callable[[Any], Any], tree: Any) -> Any:
    """Apply f to every array of a tree; what is not an array stays."""
    if isinstance(tree, dict):
        return {key: tree_map(f, value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        make = getattr(tree, "_make", type(tree))  # a NamedTuple takes its fields one by one
        return make(tree_map(f, value) for value in tree)
    return f(tree) if hasattr(tree, "dtype") else tree


def replaced(tree: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Return the tree with another value at a path."""
    if not path:
        return value
    head, *rest = path
    if isinstance(tree, dict):
        return {k: replaced(v, tuple(rest), value) if k == head else v for k, v in tree.items()}
    return type(tree)(
        replaced(v, tuple(rest), value) if i == head else v for i, v in enumerate(tree)
    )


def floats(tree: Any) -> list[tuple[tuple[Any, ...], np.ndarray]]:
    """Return the (path, array) pairs of a tree of NumPy arrays that a gradient exists for."""
    return [(path, x) for path, x in leaves(tree) if np.asarray(x).dtype.kind == "f"]
