"""Trees of params: nested dicts and lists of arrays, walked and mapped."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any


def tree_leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (path, array) for every array of a tree, paths like "layers.0.norm_1.gamma"."""
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from tree_leaves(value, f"{path}.{key}" if path else str(key))
    elif isinstance(tree, list | tuple):
        for index, value in enumerate(tree):
            yield from tree_leaves(value, f"{path}.{index}" if path else str(index))
    elif hasattr(tree, "dtype"):
        yield path, tree


def tree_map(f: Callable[[Any], Any], tree: Any) -> Any:
    """Apply f to every array of a tree, for instance to bring it to another library.

    What is neither an array nor a dict, list or tuple stays what it is.
    """
    if isinstance(tree, Mapping):
        return {key: tree_map(f, value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        make = getattr(tree, "_make", type(tree))  # a NamedTuple takes its fields one by one
        return make(tree_map(f, value) for value in tree)
    return f(tree) if hasattr(tree, "dtype") else tree


def tree_replaced(tree: Mapping[str, Any], arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tree with other arrays at some paths, which are those of tree_leaves."""
    by_path = iter([arrays.get(path, x) for path, x in tree_leaves(tree)])
    return dict(tree_map(lambda _: next(by_path), tree))
