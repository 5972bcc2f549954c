"""The error of a formula's value, in units of what rounding makes unavoidable.

For one element of a result the unit is the sum of

- the largest change of the exact element over some random roundings of the inputs: every float is
  changed by a quarter to half of an eps, up or down, and the element is computed again with 50
  digits;
- half the distance from the exact element to the next number of the dtype.

Nobody knows the inputs better than the first, nor can state the result better than the second. What
cancels between inputs makes the first large, so that an ill-conditioned element is not held against
the formula. What cancels within the formula alone leaves it small.

Each element has a unit of its own: a norm over the array would hide that the small weights of a
softmax are wrong. An element that depends on many inputs has a change of nearly normal
distribution; that the largest of 8 draws is below a third of its standard deviation, which would
make the error look large, happens once in 50,000 elements. Four draws do where the bound is four
times as large: the largest is below a twelfth as rarely. Roundings are of different sizes for the
sake of elements that depend on few inputs: of two that nearly cancel, equal ones would change
nothing half of the time.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from tests.exact.numbers import exact, mp
from tests.support.trees import floats
from vtnp._registry.spec import registry

DRAWS = 8
FEWER = 4


@dataclass(frozen=True)
class Worst:
    """The element of the largest error, in units."""

    error: float
    result: int = 0
    index: tuple[int, ...] = ()
    value: Any = None
    exact: Any = None
    unit: Any = None

    def __str__(self) -> str:
        return (
            f"{self.error:.3g} units at {list(self.index)} of result {self.result}: "
            f"{self.value!s}, exactly {mp.nstr(self.exact, 20)}, unit {mp.nstr(self.unit, 3)}"
        )


def derivation(id: str) -> Callable[..., Any]:
    """Return the derivation of a formula in 50 digits."""
    entry = registry[id]
    function: Callable[..., Any] = getattr(
        import_module(f"tests.exact.{entry.module}"), entry.function.__name__
    )
    return function


def outputs(result: Any) -> list[np.ndarray]:
    """Return the arrays among the results, and their integers as arrays."""
    results = result if isinstance(result, tuple) else (result,)
    return [np.asarray(y) for y in results if y is not None]


def in_dtype(args: Mapping[str, Any], dtype: Any) -> dict[str, Any]:
    """Return the arguments with their arrays of floats in another dtype."""
    return _mapped(args, lambda x: x.astype(dtype), lambda number: number)


def in_50_digits(args: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments with the same numbers as numbers of 50 digits."""
    return _mapped(args, exact, mp.mpf)


def rounded(args: Mapping[str, Any], eps: float, rng: np.random.Generator) -> dict[str, Any]:
    """Return the arguments of 50 digits with every number rounded at random, up or down."""
    sizes = [mp.mpf(eps) * k / 256 for k in range(64, 129)]
    factors = np.array([1 + sign * size for size in sizes for sign in (-1, 1)], dtype=object)

    def of_array(x: np.ndarray) -> np.ndarray:
        return x * factors[rng.integers(len(factors), size=x.shape)]

    return _mapped(args, of_array, lambda number: number * rng.choice(factors))


def _mapped(tree: Any, of_array: Callable[..., Any], of_number: Callable[..., Any]) -> Any:
    if isinstance(tree, Mapping):
        return {key: _mapped(value, of_array, of_number) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        make = getattr(tree, "_make", type(tree))
        return make(_mapped(value, of_array, of_number) for value in tree)
    if isinstance(tree, np.ndarray):
        return of_array(tree) if tree.dtype.kind in "fO" else tree
    return of_number(tree) if isinstance(tree, float | mp.mpf) else tree


def worst(
    function: Callable[..., Any],
    derived: Callable[..., Any],
    args: Mapping[str, Any],
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Worst:
    """Return the element of a function's results whose error is largest.

    function, derived : the function, and its derivation in 50 digits.
    args : arguments whose arrays of floats have the dtype that is measured.
    """
    dtype = next(iter(x.dtype for _, x in floats(args)), np.dtype(np.float64))
    info, rng = np.finfo(dtype), np.random.default_rng(seed)
    with np.errstate(all="ignore"):
        values = outputs(function(**args))
    right = in_50_digits(args)
    expected = outputs(derived(**right))
    assert [y.shape for y in values] == [y.shape for y in expected], (
        f"shapes {[y.shape for y in values]}, derived {[y.shape for y in expected]}"
    )
    if all(y.dtype.kind != "f" for y in values):
        draws = 0
    others = [outputs(derived(**rounded(right, float(info.eps), rng))) for _ in range(draws)]
    found = Worst(0.0)
    for k, (value, y) in enumerate(zip(values, expected, strict=True)):
        for index in np.ndindex(y.shape):
            if value.dtype.kind != "f":
                error, unit = (0.0 if value[index] == y[index] else np.inf), mp.mpf(1)
            else:
                changes = [abs(_difference(other[k][index], y[index])) for other in others]
                error, unit = _error(value[index], mp.mpf(y[index]), changes, info)
            if not error <= found.error:
                found = Worst(error, k, index, value[index], y[index], unit)
    return found


def _difference(x: Any, y: Any) -> Any:
    return mp.mpf(0) if x == y else x - y  # infinities have no difference


def _error(value: Any, y: Any, changes: list[Any], info: Any) -> tuple[float, Any]:
    half_ulp = max(mp.mpf(float(info.eps)) * abs(y), mp.mpf(float(info.smallest_subnormal))) / 2
    unit = max(changes, default=mp.mpf(0)) + (half_ulp if mp.isfinite(y) else 0)
    got = mp.mpf(float(value))
    if got == y or (mp.isnan(got) and mp.isnan(y)):
        return 0.0, unit
    if mp.isinf(got) and got * y > 0 and abs(y) + unit > float(info.max):
        return 0.0, unit  # rounding overflows as well
    if not (mp.isfinite(got) and mp.isfinite(y)):
        return np.inf, unit
    return float(abs(got - y) / unit), unit
