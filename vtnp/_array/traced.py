"""The gradient reading: the array-API names that formulas use, differentiable by autograd.

autograd.numpy has a right rule for only part of the standard, and for NumPy's arrays alone. Here
each name is defined once more as an autograd primitive: its value is what the array's own library
computes, bit for bit, and its derivatives (reverse and forward, of any order) are array-API
functions again. One set of rules serves every library. NumPy's arrays keep autograd's ArrayBox,
so that autograd.numpy and these functions mix in one program; the other arrays get StandardBox.

Where a function has no derivative, this is what it gets:

    abs                 at 0                    0
    max, min            ties                    split equally among the places that attain it
    maximum, minimum    ties                    all to the second: maximum(x, 0) at 0 gives x 0
    clip                at a bound              all to x; beyond it all to that bound
    sqrt                at 0                    inf, as calculus says (and 0 * inf = nan)
    pow                 0**0, to the base       0;  0**y, to the exponent: 0
    where               the branch not taken    exactly 0, even where it is NaN or infinite
    linalg.pinv         where the rank changes  that of constant rank; so has pinv_matmul (pinv.py)

The gradients of take and take_along_axis are sums by index. On a GPU the order of the additions,
and with it the last digits, vary from run to run; `vtnp._array.scatter` says how each library adds.

autograd's jacobian and hessian_vector_product finish in NumPy, so those two are for NumPy arrays;
grad, value_and_grad, elementwise_grad, make_vjp and make_jvp take any.
"""

from collections.abc import Callable
from functools import cache
from types import SimpleNamespace
from typing import Any

from vtnp._array import primitives
from vtnp._array.values import is_boxed, unboxed

DIFFERENTIABLE = tuple(
    """
    abs add asarray astype broadcast_arrays broadcast_to clip concat cos cumulative_sum divide erfc
    exp expand_dims flip linalg.inv linalg.pinv log log1p matmul matrix_transpose max maximum mean
    min minimum moveaxis multiply negative permute_dims pow repeat reshape roll sin sqrt square
    squeeze stack subtract sum take take_along_axis tanh tensordot tile tril triu unstack vecdot
    where
    """.split()
)

CONSTANT = tuple(
    """
    all any arange argmax argmin argsort bool ceil equal eye finfo float16 float32 float64 floor
    floor_divide full full_like greater greater_equal iinfo inf int16 int32 int64 int8 isdtype
    isfinite isinf isnan less less_equal linspace logical_and logical_not logical_or nan newaxis
    not_equal ones ones_like pi remainder result_type round sign trunc uint16 uint32 uint64 uint8
    zeros zeros_like
    """.split()
)


def _of_values(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with the boxes removed from what it is given."""

    def constant(*args: Any, **kwargs: Any) -> Any:
        return function(*map(unboxed, args), **{key: unboxed(x) for key, x in kwargs.items()})

    return constant


def _constants(xp: Any) -> dict[str, Any]:
    # Dtypes are classes in some libraries and instances in others; functions are neither. Not
    # every library has every dtype.
    found = {name: getattr(xp, name) for name in CONSTANT if hasattr(xp, name)}
    return {
        name: _of_values(x) if callable(x) and not isinstance(x, type) else x
        for name, x in found.items()
    }


@cache
def traced(xp: Any) -> SimpleNamespace:
    """Return the namespace xp with its functions differentiable: boxes in, boxes out."""
    functions = {name: getattr(primitives, name) for name in DIFFERENTIABLE if "." not in name}
    linalg = SimpleNamespace(inv=primitives.inv, pinv=primitives.pinv)
    functions["asarray"] = _asarray(xp)
    return SimpleNamespace(**_constants(xp), **functions, linalg=linalg)


def _asarray(xp: Any) -> Callable[..., Any]:
    def asarray(x: Any, **options: Any) -> Any:
        if is_boxed(x):
            return primitives.asarray(x, **options)
        if isinstance(x, list | tuple) and any(map(is_boxed, x)):
            raise TypeError("asarray of a list of boxes: use stack")
        return xp.asarray(x, **options)

    return asarray
