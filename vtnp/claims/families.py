"""Families of numbers: what a case's numbers are made into, to be hard on an implementation."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from vtnp._registry.spec import Entry

Array = np.ndarray[Any, Any]


def _repeated(x: Array) -> Array:
    """All rows are the first."""
    return np.broadcast_to(x[..., :1, :], x.shape).copy() if x.ndim > 1 else x


def _nearly_tied(x: Array) -> Array:
    """All rows are nearly the first."""
    return _repeated(x) + 1e-4 * x


def _uneven(x: Array) -> Array:
    """Every other row is ten thousand times as large."""
    return x * np.where(np.arange(x.shape[-2]) % 2, 1e4, 1.0)[:, None] if x.ndim > 1 else 1e4 * x


FAMILIES: Mapping[str, Callable[[Array], Array]] = {
    "typical": lambda x: x,
    "large": lambda x: 8.0 * x,
    "huge": lambda x: 1e4 * x,
    "tiny": lambda x: 1e-3 * x,
    "denormal": lambda x: 1e-310 * x,
    "repeated": _repeated,
    "nearly tied": _nearly_tied,
    "offset": lambda x: x + 10.0,
    "far offset": lambda x: x + 1e6,
    "uneven": _uneven,
}
# Rounding alone decides what a lower precision makes of these.
ONLY_IN_FLOAT64 = frozenset({"huge", "denormal", "uneven", "far offset", "offset"})
# And which of several equal rows a formula chooses, or which singular values it counts as 0.
TIED = frozenset({"repeated", "nearly tied"})

INVERTS = frozenset({"pseudo-inverse", "nystrom-approximation"})


def families_for(entry: Entry, dtype: str) -> tuple[str, ...]:
    """Return the families on which a formula can be judged in a dtype."""
    if dtype == "float64":
        return tuple(FAMILIES)
    chooses = any(argument.kind == "int" for argument in entry.signature.returns)
    chooses |= dtype == "float16" and entry.id in INVERTS
    left_out = ONLY_IN_FLOAT64 | (TIED if chooses else frozenset())
    return tuple(name for name in FAMILIES if name not in left_out)


def in_family(entry: Entry, arguments: Mapping[str, Any], family: str) -> dict[str, Any]:
    """Return a formula's arguments in a family: the arrays with batch axes, not the weights."""
    changed = {
        argument.name: FAMILIES[family](arguments[argument.name])
        for argument in entry.signature.arguments
        if argument.kind == "float" and argument.shape.row is not None
        if arguments.get(argument.name) is not None
    }
    return {**arguments, **changed}
