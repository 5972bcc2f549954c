"""The judgement: a candidate's error against the error that the formula makes in that precision.

The reference is the formula in float64, on the numbers that the candidate was given, which are
rounded to its precision first. The bound is the formula's own error in float32 on the same numbers,
scaled by the ratio of the precisions, times MULTIPLE; and never less than ULPS units in the last
place of the largest number. Sums in another order, or exponentials of another library, stay far
below it; a wrong formula does not.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtnp._array.trees import tree_map
from vtnp._registry.calls import Call, Proceed, intercept

# Of some 500 runs of right candidates (formulas on torch, layers of torch and HuggingFace) the
# closest came to half of these bounds; of all usual mistakes none stays below them everywhere.
# Gradients summed in another order need the most units in the last place. In half precision 32 of
# them would be a quarter of the number, but there sums are taken in single precision.
MULTIPLE = 16.0
ULPS = {"float64": 32.0, "float32": 32.0, "float16": 16.0, "bfloat16": 16.0}
HALF_PRECISIONS = frozenset({"float16", "bfloat16"})
EPS = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
INVERSE = "pseudo-inverse"
_FAR_OFF = 0.5  # of the largest number

Results = list[NDArray[Any]]
Function = Callable[..., Any]


@dataclass(frozen=True)
class Deviation:
    """How far one result lies off.

    error: the largest. bound: the most that it may be. index: of the element with that error, in
    the formula's layout; None where none is beyond the bound. got, expected: the numbers there.
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
        """Where it lies off the most, and by how much, if it does."""
        if self.index is None:
            return ""
        got, expected = _in_digits_that_differ(self.got, self.expected)
        times = f", {self.ratio:.2g} times the bound" if self.bound else ""
        return f"worst at {list(self.index)}: {got}, expected {expected}{times}"

    @property
    def ratio(self) -> float:
        """The error over its bound."""
        return self.error / self.bound if self.bound else (0.0 if self.holds else float("inf"))


def _in_digits_that_differ(a: float, b: float) -> tuple[str, str]:
    """Write two numbers with as many digits as it takes to see the difference."""
    for digits in range(3, 17):
        if f"{a:.{digits}g}" != f"{b:.{digits}g}":
            return f"{a:.{digits + 1}g}", f"{b:.{digits + 1}g}"
    return f"{a:.17g}", f"{b:.17g}"


# --- Numbers in a precision -----------------------------------------------------------------------


def rounded(arguments: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    """Round all real numbers to a precision; the arrays stay float64, or what they are."""
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


def perturbed(arguments: Mapping[str, Any], dtype: str, seed: int) -> dict[str, Any]:
    """Change every real number by one unit in the last place of a precision."""
    seeds = count(seed)
    return {
        name: tree_map(lambda x: perturbed_array(x, dtype, next(seeds)), x)
        for name, x in arguments.items()
    }


def perturbed_array(x: Any, dtype: str, seed: int) -> Any:
    """Change each number of one array so; an array of integers or truth values stays as it is."""
    x = np.asarray(x)
    if x.dtype.kind != "f":
        return x
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], x.shape)
    return x * (1.0 + EPS[dtype] * signs)


# --- Results of functions -------------------------------------------------------------------------


def results_of(function: Function, arguments: Mapping[str, Any], dtype: str = "float64") -> Results:
    """Return the arrays that a function of NumPy arrays computes in a dtype."""
    converted = {name: tree_map(lambda x: _as_dtype(x, dtype), x) for name, x in arguments.items()}
    with np.errstate(all="ignore"):
        results = function(**converted)
    return [np.asarray(y) for y in as_list(results)]


def as_list(results: Any) -> list[Any]:
    """Return the results of a call one by one: arrays, and sizes where a formula returns some."""
    is_several = isinstance(results, tuple | list) and not is_sizes(results)
    return list(results) if is_several else [results]


def is_sizes(y: Any) -> bool:
    """Tell whether a result is an integer, or a sequence of them, and no array."""
    return isinstance(y, int) or (isinstance(y, tuple | list) and all(map(is_sizes, y)))


def _as_dtype(x: Any, dtype: str) -> Any:
    x = np.asarray(x)
    return x.astype(dtype) if x.dtype.kind == "f" else x


# --- What the formula itself errs by --------------------------------------------------------------


def error_units(exact: Results, approximate: Results, dtype: str = "float32") -> list[float]:
    """Return the largest error of each result, in units of the eps of a dtype."""
    return [_largest_error(x, y) / EPS[dtype] for x, y in zip(exact, approximate, strict=True)]


def own_error_units(
    function: Function, arguments: Mapping[str, Any], exact: Results, dtype: str
) -> list[float]:
    """Return what a formula itself errs by in a dtype, for each result, in units of its eps.

    That is its error in float32; for half precision in float16 too, which rounds so coarsely that
    errors no longer grow with eps. In float64, for which there is no more exact reference, it is
    also the effect of a change of the inputs in the last place, and of pseudo-inverses that are
    rounded before they are multiplied, times MULTIPLE.
    """
    units = error_units(exact, results_of(function, arguments, "float32"))
    if dtype in HALF_PRECISIONS:
        coarse = error_units(exact, results_of(function, arguments, "float16"), "float16")
        return list(map(max, units, coarse))
    if dtype == "float64":
        with intercept(_inverse_first, {INVERSE}):
            moved = results_of(function, perturbed(arguments, dtype, 0))
        of_inputs = error_units(exact, moved, dtype)
        return [max(unit, MULTIPLE * each) for unit, each in zip(units, of_inputs, strict=True)]
    return units


def _inverse_first(call: Call, proceed: Proceed) -> Any:
    """Round a pseudo-inverse, and multiply by it afterwards, as others do."""
    times = call.arguments.get("times")
    if times is None:
        return proceed(call)
    return proceed(call.replace(arguments={**call.arguments, "times": None})) @ times


def _largest_error(x: NDArray[Any], y: NDArray[Any]) -> float:
    with np.errstate(all="ignore"):
        error = np.abs(x.astype(np.float64) - y.astype(np.float64))
    return float(np.max(error[np.isfinite(error)], initial=0.0))


# --- The judgement --------------------------------------------------------------------------------


def agrees(
    function: Function, arguments: Mapping[str, Any], got: Sequence[NDArray[Any]], dtype: str
) -> bool:
    """Tell whether results are those of a function; sizes after the arrays may be left out."""
    every = results_of(function, arguments)
    exact = every[: len(got)]
    if [x.shape for x in got] != [y.shape for y in exact]:
        return False
    apart = [deviation(x, y, 0.0, dtype) for x, y in zip(got, exact, strict=True)]
    if all(each.error == 0.0 for each in apart):
        return True  # whatever the formula itself errs by
    if any(each.error > _FAR_OFF * largest(y) > 0.0 for each, y in zip(apart, exact, strict=True)):
        return False  # farther than any rounding, which need not be measured
    units = own_error_units(function, arguments, every, dtype)[: len(got)]
    return all(each.holds for each in deviations(got, exact, units, dtype))


def deviations(
    got: Sequence[NDArray[Any]], expected: Results, units: Sequence[float], dtype: str
) -> list[Deviation]:
    """Judge all results, whose shapes agree."""
    each = zip(got, expected, units, strict=True)
    return [deviation(x, y, unit, dtype) for x, y, unit in each]


def deviation(got: NDArray[Any], expected: NDArray[Any], units: float, dtype: str) -> Deviation:
    """Judge one result. units: the formula's own error, in units of the eps of the dtype."""
    if expected.dtype.kind in "iub":
        wrong = np.asarray(got != expected)
        return _deviation(np.where(wrong, 1.0, 0.0), 0.0, wrong, got, expected)
    got, expected = got.astype(np.float64), expected.astype(np.float64)
    with np.errstate(all="ignore"):
        error = np.abs(got - expected)
    same = (got == expected) | (np.isnan(got) & np.isnan(expected))
    error = np.where(same, 0.0, np.where(np.isnan(error), np.inf, error))
    eps = EPS[dtype]
    ulp = max(largest(expected) * eps, _smallest_subnormal(dtype))
    bound = max(MULTIPLE * units * eps, ULPS[dtype] * ulp)
    return _deviation(error, bound, error > bound, got, expected)


def _deviation(
    error: NDArray[Any], bound: float, wrong: Any, got: NDArray[Any], expected: NDArray[Any]
) -> Deviation:
    worst = float(np.max(error, initial=0.0))
    if not np.any(wrong):
        return Deviation(worst, bound, None)
    index = tuple(int(i) for i in np.unravel_index(np.argmax(error), error.shape))
    return Deviation(worst, bound, index, float(got[index]), float(expected[index]))


def largest(y: NDArray[Any]) -> float:
    """Return the largest finite magnitude."""
    return float(np.max(np.abs(y[np.isfinite(y)]), initial=0.0))


def _smallest_subnormal(dtype: str) -> float:
    return {"float16": 2.0**-24, "float64": 2.0**-1074}.get(dtype, 2.0**-149)
