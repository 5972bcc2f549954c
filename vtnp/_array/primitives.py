"""The array-API names that formulas use, as autograd primitives; their rules are in rules.py.

The value of each is what the array's own library computes.
"""

from collections.abc import Callable
from operator import attrgetter
from types import EllipsisType, NoneType
from typing import Any

import array_api_compat
import numpy as np
from autograd.extend import SparseObject
from autograd.extend import primitive as _primitive

from vtnp._array.erfc import erfc_of
from vtnp._array.scatter import elements_at, slices_at
from vtnp._array.values import is_subclassed, on_device_of, unboxed, value_namespace

Array = Any
Function = Callable[..., Any]


def primitive(function: Function) -> Function:
    traceable: Function = _primitive(function)
    return traceable


def _traced(name: str) -> Function:
    """The function of that name, of whichever library its arrays come from, as a primitive."""
    find = attrgetter(name)

    def function(*args: Any, **kwargs: Any) -> Any:
        return find(value_namespace(*args))(*args, **kwargs)

    function.__name__ = name
    return primitive(function)


def _of_one(name: str) -> Function:
    """As _traced, where only the first argument is an array; the others say what to do."""
    find = attrgetter(name)

    def function(x: Array, *args: Any, **kwargs: Any) -> Any:
        return find(value_namespace(x))(x, *args, **kwargs)

    function.__name__ = name
    return primitive(function)


def constant(name: str) -> Function:
    """The function of that name with the boxes of its arguments removed: its derivative is 0."""
    find = attrgetter(name)

    def function(x: Array, *args: Any, **kwargs: Any) -> Any:
        values = [unboxed(arg) for arg in (x, *args)]
        return find(value_namespace(*values))(*values, **kwargs)

    function.__name__ = name
    return function


# Whatever has a rule of its own. The last two rows, and `bounded`, have other signatures below.
abs, add, cos, divide, exp = map(_traced, ("abs", "add", "cos", "divide", "exp"))
log, log1p, matmul, maximum = map(_traced, ("log", "log1p", "matmul", "maximum"))
minimum, multiply, negative, pow = map(_traced, ("minimum", "multiply", "negative", "pow"))
sin, sqrt, square, subtract, tanh = map(_traced, ("sin", "sqrt", "square", "subtract", "tanh"))
tensordot, vecdot, where, bounded = map(_traced, ("tensordot", "vecdot", "where", "clip"))

sum, mean, max, min = map(_of_one, ("sum", "mean", "max", "min"))
broadcast_to, expand_dims, flip = map(_of_one, ("broadcast_to", "expand_dims", "flip"))
inv, pinv = map(_of_one, ("linalg.inv", "linalg.pinv"))
matrix_transpose, moveaxis = map(_of_one, ("matrix_transpose", "moveaxis"))
permute_dims, reshape, roll = map(_of_one, ("permute_dims", "reshape", "roll"))
squeeze, tile, tril, triu = map(_of_one, ("squeeze", "tile", "tril", "triu"))
running_sum, repeated = map(_of_one, ("cumulative_sum", "repeat"))
taken, taken_along = map(_of_one, ("take", "take_along_axis"))

equal, greater, less, less_equal = map(constant, ("equal", "greater", "less", "less_equal"))
sign, zeros_like, ones_like = map(constant, ("sign", "zeros_like", "ones_like"))


@primitive
def plain(x: Array) -> Array:
    """NumPy's own array of the same memory, for one of a subclass; any other as it is."""
    return x.view(np.ndarray) if is_subclassed(x) else x


@primitive
def converted(x: Array, dtype: Any, **options: Any) -> Array:
    """Another dtype; of a complex number that becomes a real one, the real part."""
    xp = value_namespace(x)
    if xp.isdtype(x.dtype, "complex floating") and not xp.isdtype(dtype, "complex floating"):
        x = xp.real(x)
    return xp.astype(x, dtype, **options)


def shape_of(x: Array) -> tuple[int, ...]:
    return tuple(getattr(unboxed(x), "shape", ()))


def cast(g: Array, x: Array) -> Array:
    """Give g the dtype of x, so that a float32 argument has a float32 gradient."""
    dtype = getattr(unboxed(x), "dtype", None)
    return g if dtype is None or unboxed(g).dtype == dtype else astype(g, dtype)


def like(x: Array) -> dict[str, Any]:
    """The dtype and device with which to create something that will meet x."""
    value = unboxed(x)
    return {"dtype": value.dtype, "device": array_api_compat.device(value)}


def _only_axis(x: Array, axis: int | None) -> int:
    """The axis, which only a vector may leave out."""
    if axis is None and len(shape_of(x)) != 1:
        raise ValueError(f"axis is required for an array of {len(shape_of(x))} axes")
    return axis or 0


# --- Other signatures than a rule can have --------------------------------------------------------


def clip(x: Array, min: Array = None, max: Array = None) -> Array:
    return bounded(x, min, max)


@primitive
def erfc(x: Array) -> Array:
    """1 - erf(x) of a real array, which the standard lacks; the dtype stays."""
    return erfc_of(value_namespace(x), x)


def cumulative_sum(
    x: Array, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False
) -> Array:
    axis = _only_axis(x, axis)
    options = {} if dtype is None else {"dtype": dtype}
    sums = running_sum(x, axis=axis, **options)
    if not include_initial:
        return sums
    first = list(shape_of(sums))
    first[axis] = 1
    start = value_namespace(x).zeros(tuple(first), **like(sums))
    return concat([start, sums], axis=axis)


def repeat(x: Array, repeats: Any, *, axis: int | None = None) -> Array:
    if axis is None:
        x, axis = reshape(x, (-1,)), 0
    if isinstance(repeats, int):
        return repeated(x, repeats, axis=axis)
    xp = value_namespace(x)
    places = xp.arange(shape_of(x)[axis], device=array_api_compat.device(unboxed(x)))
    return take(x, xp.repeat(places, repeats), axis=axis)


def astype(x: Array, dtype: Any, **options: Any) -> Array:
    """Another dtype; integers and booleans are constants, so the result is not boxed."""
    real = value_namespace(x).isdtype(dtype, ("real floating", "complex floating"))
    return converted(x if real else unboxed(x), dtype, **options)


def asarray(x: Any, *, dtype: Any = None) -> Array:
    """The box itself, in that dtype."""
    return x if dtype is None or unboxed(x).dtype == dtype else astype(x, dtype)


# --- Many arrays ----------------------------------------------------------------------------------


@primitive
def joined(*arrays: Array, axis: int) -> Array:
    return value_namespace(*arrays).concat(arrays, axis=axis)


def concat(arrays: Any, *, axis: int | None = 0) -> Array:
    if axis is None:
        return joined(*(reshape(x, (-1,)) for x in arrays), axis=0)
    return joined(*arrays, axis=axis)


def stack(arrays: Any, *, axis: int = 0) -> Array:
    return joined(*(expand_dims(x, axis=axis) for x in arrays), axis=axis)


def unstack(x: Array, *, axis: int = 0) -> tuple[Array, ...]:
    front = moveaxis(x, axis, 0)
    return tuple(getitem(front, (i, ...)) for i in range(shape_of(front)[0]))


def broadcast_arrays(*arrays: Array) -> list[Array]:
    values = [unboxed(x) for x in arrays]
    shape = shape_of(value_namespace(*values).broadcast_arrays(*values)[0])
    return [broadcast_to(x, shape) for x in arrays]


# --- Indexing -------------------------------------------------------------------------------------


def is_basic(index: Any) -> bool:
    """Tell whether the index is made of ints, slices, None and ... alone."""
    entries = index if isinstance(index, tuple) else (index,)
    return all(type(entry) in (int, slice, NoneType, EllipsisType) for entry in entries)


@primitive
def getitem(x: Array, index: Any) -> Array:
    return x[index]


@primitive
def ungetitem(g: Array, index: Any, space: Any) -> Any:
    """Zeros with g at a basic index, left unmade until it is added to something.

    A basic index meets each place once, so that plain assignment does what np.add.at would.
    """
    return SparseObject(space, lambda total: _added_at(total, index, g))


def _added_at(total: Array, index: Any, g: Array) -> Array:
    entries = index if isinstance(index, tuple) else (index,)
    place = tuple(i for i in entries if i is not None)
    if ... not in place:
        place = (*place, ...)
    there = total[place]
    g = value_namespace(g).reshape(g, there.shape)
    if hasattr(total, "at"):  # JAX, whose arrays cannot be written to.
        return total.at[place].add(g)
    with on_device_of(total):
        total[place] = value_namespace(g).add(there, g)
    return total


def take(x: Array, indices: Array, *, axis: int | None = None) -> Array:
    return taken(x, unboxed(indices), axis=_only_axis(x, axis))


def take_along_axis(x: Array, indices: Array, *, axis: int = -1) -> Array:
    return taken_along(x, unboxed(indices), axis=axis)


@primitive
def scatter(g: Array, indices: Array, shape: tuple[int, ...], axis: int) -> Array:
    """Add the slices of g where take found them."""
    return slices_at(value_namespace(g), g, indices, shape[axis], axis)


@primitive
def scatter_along(g: Array, indices: Array, shape: tuple[int, ...], axis: int) -> Array:
    """Add the elements of g where take_along_axis found them."""
    return elements_at(value_namespace(g), g, indices, shape, axis)
