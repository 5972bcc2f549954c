"""The judgement: an error against the error that the formula itself makes in that precision.

The reference is the formula in float64, on the numbers that the candidate was given, which have
been rounded to its precision first. What the formula errs by in float32 on the same numbers, times
the ratio of the precisions, is what a candidate may err by, times MULTIPLE; and never less than
ULPS units in the last place of the largest number. Sums in another order, or exponentials of
another library, stay far below; a wrong formula does not.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtnp._array.trees import tree_map

# Of some 500 runs of right candidates (formulas on torch, layers of torch and HuggingFace) the
# closest came to half of these bounds; of all usual mistakes none stays below them everywhere.
# Gradients summed in another order are what needs the most units in the last place; half
# precision, where 32 of them would be a quarter of the number, is summed in single.
MULTIPLE = 16.0
ULPS = {"float64": 32.0, "float32": 32.0, "float16": 16.0, "bfloat16": 16.0}
_APART = 0.5  # of the largest number
HALVES = frozenset({"float16", "bfloat16"})
EPS = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}

Results = list[NDArray[Any]]
Function = Callable[..., Any]


@dataclass(frozen=True)
class Figure:
    """How far one result lies off: the largest error, its bound, and where.

    index: of the first element beyond the bound, in the formula's layout; None where none is.
    """

    error: float
    bound: float
    index: tuple[int, ...] | None
    got: float = 0.0
    expected: float = 0.0

    @property
    def holds(self) -> bool:
        return self.index is None

    @property
    def note(self) -> str:
        """Say where it parts, if it does."""
        if self.index is None:
            return ""
        return f"first at {list(self.index)}: {self.got:.9g}, not {self.expected:.9g}"

    @property
    def ratio(self) -> float:
        """The error over its bound."""
        return self.error / self.bound if self.bound else (0.0 if self.holds else float("inf"))


def rounded(arguments: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    """Round all real numbers to a precision; they stay float64, or what they are."""
    return {name: tree_map(lambda x: _rounded(x, dtype), x) for name, x in arguments.items()}


def _rounded(x: Any, dtype: str) -> Any:
    x = np.asarray(x)
    if x.dtype.kind != "f" or dtype == "float64":
        return x
    if dtype != "bfloat16":
        return x.astype(dtype).astype(np.float64)
    # The upper half of a float32, to the nearest, ties to even.
    bits = x.astype(np.float32).view(np.uint32)
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return bits.view(np.float32).astype(np.float64)


def nudge(arguments: Mapping[str, Any], dtype: str, seed: int) -> dict[str, Any]:
    """Change every real number by one unit in the last place of a precision."""
    seeds = count(seed)
    return {
        name: tree_map(lambda x: nudged(x, dtype, next(seeds)), x) for name, x in arguments.items()
    }


def nudged(x: Any, dtype: str, seed: int) -> Any:
    """Change one array so; what is no real number stays what it is."""
    x = np.asarray(x)
    if x.dtype.kind != "f":
        return x
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], x.shape)
    return x * (1.0 + EPS[dtype] * signs)


def results_of(function: Function, arguments: Mapping[str, Any], dtype: str = "float64") -> Results:
    """Return the arrays that a function of NumPy's arrays makes, computed in that dtype."""
    given = {name: tree_map(lambda x: _in(x, dtype), x) for name, x in arguments.items()}
    with np.errstate(all="ignore"):
        found = function(**given)
    return [np.asarray(y) for y in several(found)]


def several(found: Any) -> list[Any]:
    """Return the results one by one: arrays, and sizes where a formula tells some."""
    return list(found) if isinstance(found, tuple | list) and not is_sizes(found) else [found]


def is_sizes(y: Any) -> bool:
    """Tell whether a result is whole numbers, or rows of them, and no array."""
    return isinstance(y, int) or (isinstance(y, tuple | list) and all(map(is_sizes, y)))


def _in(x: Any, dtype: str) -> Any:
    x = np.asarray(x)
    return x.astype(dtype) if x.dtype.kind == "f" else x


def slack(exact: Results, other: Results, dtype: str = "float32") -> list[float]:
    """Return what the formula errs by in a lower precision, for each result, in units of it."""
    return [_largest(x, y) / EPS[dtype] for x, y in zip(exact, other, strict=True)]


def units_of(
    function: Function, arguments: Mapping[str, Any], exact: Results, dtype: str
) -> list[float]:
    """Return what the formula itself errs by, for each result, in units of a precision.

    That is its error in float32; where half precision is judged, in float16 too, which rounds so
    coarsely that errors no longer grow with the unit. In float64, which nothing can be held
    against, it is as well what a change of the inputs in the last place makes, eightfold.
    """
    units = slack(exact, results_of(function, arguments, "float32"))
    if dtype in HALVES:
        try:
            coarse = slack(exact, results_of(function, arguments, "float16"), "float16")
        except (TypeError, np.linalg.LinAlgError):  # linear algebra has no half precision
            return units
        return list(map(max, units, coarse))
    if dtype == "float64":
        moved = slack(exact, results_of(function, nudge(arguments, dtype, 0)), dtype)
        return [max(unit, MULTIPLE * each) for unit, each in zip(units, moved, strict=True)]
    return units


def agrees(
    function: Function, arguments: Mapping[str, Any], got: Sequence[NDArray[Any]], dtype: str
) -> bool:
    """Tell whether results are those of a function; sizes after the arrays may be left out."""
    every = results_of(function, arguments)
    exact = every[: len(got)]
    if [x.shape for x in got] != [y.shape for y in exact]:
        return False
    apart = (figure(x, y, 0.0, dtype) for x, y in zip(got, exact, strict=True))
    if any(each.error > _APART * largest(y) > 0.0 for each, y in zip(apart, exact, strict=True)):
        return False  # no rounding makes that, and need not be measured
    units = units_of(function, arguments, every, dtype)[: len(got)]
    return all(each.holds for each in figures(got, exact, units, dtype))


def _largest(x: NDArray[Any], y: NDArray[Any]) -> float:
    with np.errstate(all="ignore"):
        error = np.abs(x.astype(np.float64) - y.astype(np.float64))
    return float(np.max(error[np.isfinite(error)], initial=0.0))


def figure(got: NDArray[Any], expected: NDArray[Any], units: float, dtype: str) -> Figure:
    """Judge one result. units: the formula's own error, as slack tells it."""
    if expected.dtype.kind in "iub":
        wrong = np.asarray(got != expected)
        return _figure(np.where(wrong, 1.0, 0.0), 0.0, wrong, got, expected)
    got, expected = got.astype(np.float64), expected.astype(np.float64)
    with np.errstate(all="ignore"):
        error = np.abs(got - expected)
    same = (got == expected) | (np.isnan(got) & np.isnan(expected))
    error = np.where(same, 0.0, np.where(np.isnan(error), np.inf, error))
    eps = EPS[dtype]
    ulps = max(largest(expected) * eps, _tiny(dtype))
    bound = max(MULTIPLE * units * eps, ULPS[dtype] * ulps)
    return _figure(error, bound, error > bound, got, expected)


def largest(y: NDArray[Any]) -> float:
    """Return the largest finite number."""
    return float(np.max(np.abs(y[np.isfinite(y)]), initial=0.0))


def _tiny(dtype: str) -> float:
    """Return the smallest step of a precision, below which it cannot tell numbers apart."""
    return {"float16": 2.0**-24, "float64": 2.0**-1074}.get(dtype, 2.0**-149)


def _figure(
    error: NDArray[Any], bound: float, wrong: Any, got: NDArray[Any], expected: NDArray[Any]
) -> Figure:
    worst = float(np.max(error, initial=0.0))
    if not np.any(wrong):
        return Figure(worst, bound, None)
    index = tuple(int(i) for i in np.argwhere(wrong)[0])
    return Figure(worst, bound, index, float(got[index]), float(expected[index]))


def figures(
    got: Sequence[NDArray[Any]], expected: Results, units: Sequence[float], dtype: str
) -> list[Figure]:
    """Judge all results, whose shapes agree."""
    judged = zip(got, expected, units, strict=True)
    return [figure(x, y, unit, dtype) for x, y, unit in judged]
