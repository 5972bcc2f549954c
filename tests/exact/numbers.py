"""Arrays of numbers of 50 digits: NumPy's object arrays of mpmath's numbers.

Sums, products, comparisons, `@`, indexing and reshaping are NumPy's own. Here is what NumPy cannot
do with them: functions of one number.
"""

from typing import Any

import mpmath
import numpy as np

mp = mpmath.MPContext()
mp.dps = 50


def exact(x: Any) -> np.ndarray:
    """Return an array of floating-point numbers as the very numbers that they are."""
    x = np.asarray(x)
    # Through float64, which holds the numbers of all narrower types exactly.
    numbers = [mp.mpf(float(number)) for number in x.ravel()]
    return _array(numbers, x.shape)


def zeros(shape: tuple[int, ...]) -> np.ndarray:
    """Return an array of zeros."""
    return np.full(shape, mp.mpf(0), dtype=object)


def where(condition: Any, x: Any, y: Any) -> np.ndarray:
    """Return x where the condition holds and y elsewhere."""
    return np.where(np.asarray(condition, dtype=bool), x, y)


def _array(numbers: list[Any], shape: tuple[int, ...]) -> np.ndarray:
    y = np.empty(len(numbers), dtype=object)
    y[:] = numbers
    return y.reshape(shape)


def _of_each(function: Any) -> Any:
    def of_array(x: Any) -> np.ndarray:
        x = np.asarray(x, dtype=object)
        return _array([function(number) for number in x.ravel()], x.shape)

    return of_array


exp, log, log1p, sqrt, tanh = map(_of_each, (mp.exp, mp.log, mp.log1p, mp.sqrt, mp.tanh))
sin, cos, erf, erfc = map(_of_each, (mp.sin, mp.cos, mp.erf, mp.erfc))
floor = _of_each(mp.floor)
