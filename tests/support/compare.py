"""The comparison of the claims, which here keeps in mind how large the differences were."""

from typing import Any

from vtnp.claims import compare
from vtnp.claims.compare import difference, largest

__all__ = ["assert_close", "difference", "differences", "largest"]

# What assert_close has seen within one test; the run's summary tells it for tests against peers.
differences: list[float] = []


def assert_close(actual: Any, expected: Any, *, within: float = 1e-12, what: str = "") -> None:
    """Assert that arrays, or tuples of them, are close, and note the largest difference."""
    differences.append(compare.assert_close(actual, expected, within=within, what=what))
