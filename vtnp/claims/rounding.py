"""Claims in any precision: what they compare may lie as far apart as rounding takes it.

A claim is a statement about real numbers, and an implementation rounds. Where the results that a
claim compares lie further apart than its own tolerance, the claim is evaluated several times more
with every input of every call moved by one unit in the last place. How far the results move is what
rounding the inputs alone does to them; an implementation may err by MULTIPLE times that.
"""

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from vtnp._array.trees import tree_map
from vtnp._array.xp import is_boxed, namespace, value_namespace

MULTIPLE = 16.0  # as vtnp.verify's judgement has it
RUNS = 4
EPS = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10}
_UNITS = 64.0  # in the last place of the largest number: the tolerance in lower precisions

Pair = tuple[Any, Any]


class Comparisons(Protocol):
    """Receives what a claim compares, pair by pair."""

    def within(self, tolerance: float) -> float:
        """Return the relative tolerance in the precision at hand."""

    def allowance(self, actual: Any, expected: Any, /) -> Callable[[], float]:
        """Return what computes how far apart rounding may take the next pair."""


@dataclass
class Recorded:
    """Lets everything pass, and keeps it."""

    pairs: list[Pair] = field(default_factory=list)

    def within(self, tolerance: float) -> float:
        return tolerance

    def allowance(self, actual: Any, expected: Any) -> Callable[[], float]:
        self.pairs.append((actual, expected))
        return lambda: np.inf


@dataclass
class Judged:
    """Compares in a precision. pairs: all of them as rounding moves them, of None unmoved."""

    dtype: str
    pairs: Callable[[int | None], list[Pair]]
    _count: int = 0

    def within(self, tolerance: float) -> float:
        return tolerance if self.dtype == "float64" else _UNITS * EPS[self.dtype]

    def allowance(self, _actual: Any, expected: Any) -> Callable[[], float]:
        i, self._count = self._count, self._count + 1

        def allowed() -> float:
            unmoved, *runs = self._runs
            moves = [
                distance(after, before)
                for pairs in runs
                if i < min(len(pairs), len(unmoved))
                for after, before in zip(pairs[i], unmoved[i], strict=True)
                if np.shape(after) == np.shape(before)
            ]
            return MULTIPLE * (max(moves, default=0.0) + EPS[self.dtype] * _size(expected))

        return allowed

    @cached_property
    def _runs(self) -> list[list[Pair]]:
        return [self.pairs(k) for k in (None, *range(RUNS))]


comparisons: ContextVar[Comparisons | None] = ContextVar("vtnp_comparisons", default=None)


def in_precision(
    function: Callable[..., Any], dtype: str, rng: np.random.Generator | None = None
) -> Callable[..., Any]:
    """Return a function that takes and returns float64, and computes in another precision.

    Arrays of other dtypes stay what they are: a claim may be about one precision. rng: moves each
    number by one unit in the last place, up or down.
    """
    if dtype == "float64" and rng is None:
        return function

    def rounded(x: Any) -> Any:
        xp = value_namespace(x)
        if x.dtype != xp.float64:
            return x
        narrow = namespace(x).astype(x, getattr(xp, dtype))
        return narrow if rng is None else _moved(narrow, rng.choice([-1.0, 1.0], x.shape))

    def widened(y: Any) -> Any:
        xp = value_namespace(y)
        return namespace(y).astype(y, xp.float64) if y.dtype == getattr(xp, dtype) else y

    def computed(**arguments: Any) -> Any:
        narrow = {name: tree_map(rounded, value) for name, value in arguments.items()}
        return tree_map(widened, function(**narrow))

    return computed


def _moved(x: Any, signs: Any) -> Any:
    """Move each number by one unit in the last place, up or down; infinities stay."""
    if is_boxed(x):
        return x * (1.0 + EPS[str(x.dtype)] * signs).astype(x.dtype)
    neighbours = np.nextafter(x, np.where(signs > 0, np.inf, -np.inf).astype(x.dtype))
    return np.where(np.isfinite(x), neighbours, x)


def distance(a: Any, b: Any) -> float:
    """Return the largest difference of two arrays; equal infinities and NaNs have none."""
    a, b = np.asarray(a), np.asarray(b)
    with np.errstate(all="ignore"):
        apart = np.abs(np.subtract(a, b, dtype=np.float64))
    apart = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, apart)
    return float(np.max(np.where(np.isnan(apart), np.inf, apart), initial=0.0))


def _size(x: Any) -> float:
    x = np.abs(np.asarray(x, dtype=np.float64))
    return float(np.max(x[np.isfinite(x)], initial=0.0))
