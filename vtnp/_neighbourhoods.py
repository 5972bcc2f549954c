"""The neighbourhoods of TimeSformer as groups: attention within groups needs no mask."""

import math

from vtnp._array.typing import Array
from vtnp._array.xp import namespace
from vtnp._registry.errors import require

NAMES = ("space", "time", "joint", "local", "global", "width", "height")
# Those that are about rows and columns of patches, not only about frames and places.
ON_GRID = {"local", "global", "width", "height"}


def grouped(x: Array, attend: str, grid: tuple[int, int] | None) -> Array:
    """Bring those who attend to each other together: `*b t s d` to `*b groups members d`."""
    *batch, t, s, d = x.shape
    sizes, groups, members = _split(attend, t, s, grid)
    x = _permuted(namespace(x).reshape(x, (*batch, *sizes, d)), (*groups, *members))
    together = (math.prod(sizes[i] for i in groups), math.prod(sizes[i] for i in members))
    return namespace(x).reshape(x, (*batch, *together, d))


def ungrouped(y: Array, attend: str, grid: tuple[int, int] | None, t: int, s: int) -> Array:
    """Bring every token back to its frame and place: `*b groups members d` to `*b t s d`."""
    *batch, _, _, d = y.shape
    sizes, groups, members = _split(attend, t, s, grid)
    order = (*groups, *members)
    y = namespace(y).reshape(y, (*batch, *(sizes[i] for i in order), d))
    y = _permuted(y, tuple(order.index(i) for i in range(len(order))))
    return namespace(y).reshape(y, (*batch, t, s, d))


def _split(
    attend: str, t: int, s: int, grid: tuple[int, int] | None
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Return the axes that t and s are split into; which tell groups apart, and which members."""
    h, w = (1, s) if grid is None else grid
    fits = attend not in ON_GRID or (grid is not None and h * w == s and min(grid) >= 0)
    require(fits, f"{attend}-attention", "grid", f"(h, w) with h w = {s}", grid)
    halved = {"local": (h, w), "global": (t, h, w)}.get(attend, ())
    even = all(n % 2 == 0 for n in halved)
    require(even, f"{attend}-attention", "grid", "sizes that are even", halved)
    sizes, groups = {
        "space": ((t, s), (0,)),
        "time": ((t, s), (1,)),
        "joint": ((t, s), ()),
        "local": ((t, 2, h // 2, 2, w // 2), (1, 3)),
        "global": ((t // 2, 2, h // 2, 2, w // 2, 2), (1, 3, 5)),
        "width": ((t, h, w), (0, 1)),
        "height": ((t, h, w), (0, 2)),
    }[attend]
    return sizes, groups, tuple(i for i in range(len(sizes)) if i not in groups)


def _permuted(x: Array, order: tuple[int, ...]) -> Array:
    """Permute the axes before the last one; the batch axes stay in front."""
    front = x.ndim - len(order) - 1
    axes = (*range(front), *(front + i for i in order), x.ndim - 1)
    return namespace(x).permute_dims(x, axes)
