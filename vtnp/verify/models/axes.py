"""Arrays of candidates arranged as ours: patterns of einops, with a selection of entries."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtnp.verify.rearrange import rearranged

_AXIS = re.compile(r"(\([^)]*\)|\w+)(?:\[([^]]*)\])?")
_INNER = re.compile(r"(\w+)(?:\[([^]]*)\])?")
_SELECTIONS: Mapping[str, Any] = {
    "mean": lambda x, axis: np.mean(x, axis=axis),
    "0": lambda x, axis: np.take(x, 0, axis=axis),
    "1": lambda x, axis: np.take(x, 1, axis=axis),
    "2": lambda x, axis: np.take(x, 2, axis=axis),
    "1:": lambda x, axis: np.delete(x, 0, axis=axis),
}


def arranged(x: NDArray[Any], axes: str, sizes: Mapping[str, int]) -> NDArray[Any]:
    """Arrange an array of a candidate as ours. Raises ValueError where it does not fit."""
    if not axes:
        return x
    before, _, after = axes.partition("->")
    groups = _AXIS.findall(before.replace(" 1 ", " one "))
    if len(groups) != x.ndim:
        raise ValueError(f"expected the axes {before.strip()!r}, got {x.ndim} axes")
    for axis, (_, pick) in reversed(list(enumerate(groups))):
        x = _selected(x, pick, axis)
    groups = [group for group, pick in groups if pick in ("", "1:")]
    inner = [each for group in groups for each in _INNER.findall(group)]
    within = {name for group in groups if "(" in group for name, _ in _INNER.findall(group)}
    outer = " ".join(re.sub(r"\[[^]]*\]", "", group) for group in groups)
    apart = " ".join(name for name, _ in inner)
    known = {name: size for name, size in sizes.items() if name in within}
    x = rearranged(x, f"{outer} -> {apart}", **known)
    for axis, (_, pick) in reversed(list(enumerate(inner))):
        x = _selected(x, pick, axis)
    left = " ".join(name for name, pick in inner if pick in ("", "1:"))
    return rearranged(x, f"{left} -> {after.strip()}")


def _selected(x: NDArray[Any], pick: str, axis: int) -> NDArray[Any]:
    if not pick:
        return x
    if pick not in _SELECTIONS:
        raise ValueError(f"[{pick}]: expected one of {', '.join(_SELECTIONS)}")
    found: NDArray[Any] = _SELECTIONS[pick](x, axis)
    return found
