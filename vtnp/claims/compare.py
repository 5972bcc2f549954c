"""What claims assert: that arrays are close, or that arguments are refused."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from vtnp._registry.errors import FormulaError
from vtnp.claims.rounding import comparisons, distance


def largest(x: Any) -> float:
    """Return the largest magnitude of an array; 0 for an empty one."""
    x = np.asarray(x)
    return float(np.max(np.abs(x))) if x.size else 0.0


def difference(actual: Any, expected: Any) -> float:
    """Return max|a - b| / max(1, max|b|); infinite where NaNs or infinities do not match."""
    a, b = np.asarray(actual), np.asarray(expected)
    if a.shape != b.shape:
        return np.inf
    if b.dtype.kind != "f":
        return 0.0 if np.array_equal(a, b) else np.inf
    finite = np.isfinite(b)
    same = np.array_equal(a[~finite], b[~finite], equal_nan=True)
    if not same or not np.all(np.isfinite(a[finite])):
        return np.inf
    return largest(a[finite] - b[finite]) / max(1.0, largest(b[finite]))


def assert_close(actual: Any, expected: Any, *, within: float = 1e-12, what: str = "") -> float:
    """Assert equal shapes, and values equal within a fraction of the largest entry.

    Tuples are compared part by part. A claim in a lower precision, or on badly conditioned numbers,
    has the tolerance of `vtnp.claims.rounding`. Returns the largest difference.
    """
    if isinstance(expected, tuple):
        assert isinstance(actual, tuple), f"{what}: expected a tuple, got {type(actual).__name__}"
        assert len(actual) == len(expected), f"{what}: {len(actual)} results, not {len(expected)}"
        parts = enumerate(zip(actual, expected, strict=True))
        found = [
            assert_close(a, b, within=within, what=f"{what} result {i}") for i, (a, b) in parts
        ]
        return max(found, default=0.0)
    assert np.shape(actual) == np.shape(expected), (
        f"{what}: shape {np.shape(actual)}, not {np.shape(expected)}"
    )
    off, bound, unavoidable = difference(actual, expected), within, _nothing
    comparing = comparisons.get()
    if comparing is not None:
        bound, unavoidable = comparing.within(within), comparing.allowance(actual, expected)
    assert off <= bound or distance(actual, expected) <= unavoidable(), (
        f"{what}: relative difference {off:.3g} exceeds {bound:.3g}"
    )
    return off


def assert_at_most(actual: Any, bound: Any, *, within: float = 1e-12) -> None:
    """Assert that no number exceeds its bound by more than a fraction of the largest bound.

    A claim in a lower precision, or on badly conditioned numbers, has the tolerance of
    `assert_close`.
    """
    actual, bound = np.broadcast_arrays(actual, bound)
    assert_close(np.maximum(actual, bound), bound, within=within)


def _nothing() -> float:
    return 0.0


@contextmanager
def refused(pattern: str) -> Iterator[None]:
    """Assert that a FormulaError is raised whose message has this pattern."""
    try:
        yield
    except FormulaError as error:
        assert re.search(pattern, str(error)), f"{error} is no {pattern}"
    else:
        raise AssertionError(f"no error was raised; expected one that matches {pattern}")
