"""The differentiable functions: array-API names as autograd primitives, and their derivatives.

Every rule is written in the functions of this file, so that it can itself be differentiated, and
in functions rather than operators: array-api-strict raises where other libraries defer to a box.
"""

import math
from collections.abc import Callable
from operator import attrgetter
from types import EllipsisType, NoneType
from typing import Any

import array_api_compat
from autograd.extend import (
    SparseObject,
    def_linear,
    defjvp,
    defjvp_argnums,
    defvjp,
    defvjp_argnum,
    vspace,
)
from autograd.extend import primitive as _primitive

from vtnp._values import unboxed, value_namespace

Array = Any
Function = Callable[..., Any]


def primitive(function: Function) -> Function:
    traceable: Function = _primitive(function)
    return traceable


# --- What rules are made of -----------------------------------------------------------------------


def _traced(name: str) -> Function:
    """The function of that name, of whichever library its arrays come from, as a primitive."""
    find = attrgetter(name)

    def function(*args: Any, **kwargs: Any) -> Any:
        return find(value_namespace(*args))(*args, **kwargs)

    function.__name__ = name
    return primitive(function)


def _of_one(name: str) -> Function:
    """As _traced, where only the first argument is an array and the others describe what to do."""
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


equal, greater, less, less_equal = map(constant, ("equal", "greater", "less", "less_equal"))
sign, zeros_like, ones_like = map(constant, ("sign", "zeros_like", "ones_like"))


def _shape(x: Array) -> tuple[int, ...]:
    return tuple(getattr(unboxed(x), "shape", ()))


def _cast(g: Array, x: Array) -> Array:
    """Give g the dtype of x, so that a float32 argument has a float32 gradient."""
    dtype = getattr(unboxed(x), "dtype", None)
    return g if dtype is None or unboxed(g).dtype == dtype else astype(g, dtype)


def _fit(g: Array, x: Array) -> Array:
    """Sum g over the axes along which x was broadcast."""
    shape, full = _shape(x), _shape(g)
    if shape != full:
        lead = len(full) - len(shape)
        stretched = [lead + i for i, n in enumerate(shape) if n != full[lead + i]]
        g = reshape(sum(g, axis=(*range(lead), *stretched)), shape)
    return _cast(g, x)


def _spread(g: Array, ans: Array) -> Array:
    """Broadcast g to the shape of the answer."""
    return _cast(g if _shape(g) == _shape(ans) else broadcast_to(g, _shape(ans)), ans)


def elementwise(function: Function, *partials: Function) -> None:
    """Register both modes at once: partials[i](g, ans, *args) is g times d ans / d args[i]."""

    def vjp(i: int) -> Function:
        return lambda ans, *args: lambda g: _fit(partials[i](g, ans, *args), args[i])

    def jvp(i: int) -> Function:
        return lambda g, ans, *args: _spread(partials[i](g, ans, *args), ans)

    defvjp(function, *(vjp(i) for i in range(len(partials))))
    defjvp(function, *(jvp(i) for i in range(len(partials))))


def _linear(function: Function, *transposes: Function) -> None:
    """Register a function linear in each array; transposes[i](g, *args, **kwargs) is the adjoint."""

    def vjp(i: int) -> Function:
        return lambda ans, *args, **kwargs: (
            lambda g: _cast(transposes[i](g, *args, **kwargs), args[i])
        )

    defvjp(function, *(vjp(i) for i in range(len(transposes))))
    def_linear(function)


# --- Arithmetic -----------------------------------------------------------------------------------

add, subtract, multiply, divide, negative = map(
    _traced, ("add", "subtract", "multiply", "divide", "negative")
)
pow, exp, log, log1p, sqrt, square = map(_traced, ("pow", "exp", "log", "log1p", "sqrt", "square"))
sin, cos, tanh, abs = map(_traced, ("sin", "cos", "tanh", "abs"))
maximum, minimum, where, _clip = map(_traced, ("maximum", "minimum", "where", "clip"))


def _power_of_base(g: Array, ans: Array, x: Array, y: Array) -> Array:
    # x**(y-1) is infinite at x = y = 0, where the derivative is 0: any finite exponent will do.
    if isinstance(y, int | float):
        return multiply(g, multiply(pow(x, y - 1), y)) if y else zeros_like(g)
    safe = where(equal(y, 0), zeros_like(y), subtract(y, 1))
    return multiply(g, multiply(y, pow(x, safe)))


def _power_of_exponent(g: Array, ans: Array, x: Array, y: Array) -> Array:
    # 0**y is 0 on all of y > 0, so that there log 0 must not be met.
    if isinstance(x, int | float):
        return multiply(g, multiply(ans, math.log(x) if x else 0.0))
    return multiply(g, multiply(ans, log(where(equal(x, 0), ones_like(x), x))))


POWER = (_power_of_base, _power_of_exponent)


def _only(g: Array, condition: Array) -> Array:
    """Keep g where the condition holds; a product with 0 would let NaN and infinity through."""
    return where(condition, g, zeros_like(g))


def _except(g: Array, condition: Array) -> Array:
    return where(condition, zeros_like(g), g)


elementwise(add, lambda g, ans, x, y: g, lambda g, ans, x, y: g)
elementwise(subtract, lambda g, ans, x, y: g, lambda g, ans, x, y: negative(g))
elementwise(multiply, lambda g, ans, x, y: multiply(g, y), lambda g, ans, x, y: multiply(g, x))
elementwise(
    divide,
    lambda g, ans, x, y: divide(g, y),
    lambda g, ans, x, y: negative(divide(multiply(g, ans), y)),
)
elementwise(pow, *POWER)
elementwise(negative, lambda g, ans, x: negative(g))
elementwise(exp, lambda g, ans, x: multiply(g, ans))
elementwise(log, lambda g, ans, x: divide(g, x))
elementwise(log1p, lambda g, ans, x: divide(g, add(x, 1)))
elementwise(sqrt, lambda g, ans, x: divide(g, multiply(ans, 2)))
elementwise(square, lambda g, ans, x: multiply(g, multiply(x, 2)))
elementwise(sin, lambda g, ans, x: multiply(g, cos(x)))
elementwise(cos, lambda g, ans, x: negative(multiply(g, sin(x))))
elementwise(tanh, lambda g, ans, x: subtract(g, multiply(g, square(ans))))
elementwise(abs, lambda g, ans, x: multiply(g, sign(x)))
elementwise(
    maximum,
    lambda g, ans, x, y: _only(g, greater(x, y)),
    lambda g, ans, x, y: _except(g, greater(x, y)),
)
elementwise(
    minimum,
    lambda g, ans, x, y: _only(g, less(x, y)),
    lambda g, ans, x, y: _except(g, less(x, y)),
)


def _inside(g: Array, ans: Array, x: Array, low: Array, high: Array) -> Array:
    if low is not None:
        g = _only(g, less_equal(low, x))
    return g if high is None else _only(g, less_equal(x, high))


elementwise(
    _clip,
    _inside,
    lambda g, ans, x, low, high: _only(g, less(x, low)),
    lambda g, ans, x, low, high: _only(g, greater(x, high)),
)


def clip(x: Array, min: Array = None, max: Array = None) -> Array:  # noqa: A002
    return _clip(x, min, max)


def selection(function: Function) -> None:
    """Register both modes of where(condition, x, y)."""
    defvjp(
        function,
        None,
        lambda ans, c, x, y: lambda g: _fit(_only(g, c), x),
        lambda ans, c, x, y: lambda g: _fit(_except(g, c), y),
    )
    defjvp(
        function,
        None,
        lambda g, ans, c, x, y: _spread(_only(g, c), ans),
        lambda g, ans, c, x, y: _spread(_except(g, c), ans),
    )


selection(where)


@primitive
def erf(x: Array) -> Array:
    """The error function of a real array, which the standard lacks; the dtype stays."""
    from vtnp._erf import erf_of

    return erf_of(value_namespace(x), x)


elementwise(
    erf, lambda g, ans, x: multiply(g, multiply(exp(negative(square(x))), 2 / math.sqrt(math.pi)))
)

# --- Reductions -----------------------------------------------------------------------------------

sum, mean, max, min = map(_of_one, ("sum", "mean", "max", "min"))
_cumulative_sum = _of_one("cumulative_sum")


def _axes(axis: Any, ndim: int) -> tuple[int, ...]:
    """The reduced axes, counted from the front."""
    if axis is None:
        return tuple(range(ndim))
    return tuple(i % ndim for i in (axis if isinstance(axis, tuple) else (axis,)))


def _only_axis(x: Array, axis: int | None) -> int:
    """The axis, which only a vector may leave out."""
    if axis is None and len(_shape(x)) != 1:
        raise ValueError(f"an array of {len(_shape(x))} axes needs to be told which")
    return axis or 0


def _reopened(g: Array, x: Array, axis: Any) -> Array:
    """Put the reduced axes of g back, with size 1."""
    reduced = _axes(axis, len(_shape(x)))
    return reshape(g, tuple(1 if i in reduced else n for i, n in enumerate(_shape(x))))


def _unsum(
    g: Array, x: Array, axis: Any = None, dtype: Any = None, keepdims: bool = False
) -> Array:
    return broadcast_to(_reopened(g, x, axis), _shape(x))


def _unmean(g: Array, x: Array, axis: Any = None, **options: Any) -> Array:
    count = math.prod(_shape(x)[i] for i in _axes(axis, len(_shape(x))))
    return _unsum(divide(g, count), x, axis)


def _shares(ans: Array, x: Array, axis: Any) -> Array:
    """The share of each element in the extremum: equal among those that attain it."""
    attained = _cast(equal(x, unboxed(_reopened(ans, x, axis))), x)
    return divide(attained, sum(attained, axis=axis, keepdims=True))


def _extremum(function: Function) -> None:
    defvjp(
        function,
        lambda ans, x, axis=None, keepdims=False: (
            lambda g: multiply(_reopened(g, x, axis), _shares(ans, x, axis))
        ),
    )
    defjvp(
        function,
        lambda g, ans, x, axis=None, keepdims=False: sum(
            multiply(g, _shares(ans, x, axis)), axis=axis, keepdims=keepdims
        ),
    )


_linear(sum, _unsum)
_linear(mean, _unmean)
_extremum(max)
_extremum(min)


def _suffix_sum(g: Array, x: Array, axis: int, **options: Any) -> Array:
    return flip(_cumulative_sum(flip(g, axis=axis), axis=axis), axis=axis)


_linear(_cumulative_sum, _suffix_sum)


def cumulative_sum(
    x: Array, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False
) -> Array:
    axis = _only_axis(x, axis)
    options = {} if dtype is None else {"dtype": dtype}
    sums = _cumulative_sum(x, axis=axis, **options)
    if not include_initial:
        return sums
    first = list(_shape(sums))
    first[axis] = 1
    start = value_namespace(x).zeros(tuple(first), **like(sums))
    return concat([start, sums], axis=axis)


def like(x: Array) -> dict[str, Any]:
    """The dtype and device with which to create something that will meet x."""
    value = unboxed(x)
    return {"dtype": value.dtype, "device": array_api_compat.device(value)}


# --- Products -------------------------------------------------------------------------------------

matmul, vecdot, tensordot = map(_traced, ("matmul", "vecdot", "tensordot"))
matrix_transpose = _of_one("matrix_transpose")


def _unmatmul(g: Array, x: Array, y: Array, adjoint: Function) -> Array:
    """The adjoint for matrices; a vector is a row on the left and a column on the right."""
    row, column = len(_shape(x)) == 1, len(_shape(y)) == 1
    g = expand_dims(g, axis=-1) if column else g
    g = expand_dims(g, axis=-2) if row else g
    return adjoint(
        g, expand_dims(x, axis=0) if row else x, expand_dims(y, axis=-1) if column else y
    )


def _unmatmul_x(g: Array, x: Array, y: Array) -> Array:
    out = _unmatmul(g, x, y, lambda g, x, y: _fit(matmul(g, matrix_transpose(y)), x))
    return reshape(out, _shape(x))


def _unmatmul_y(g: Array, x: Array, y: Array) -> Array:
    out = _unmatmul(g, x, y, lambda g, x, y: _fit(matmul(matrix_transpose(x), g), y))
    return reshape(out, _shape(y))


_linear(matrix_transpose, lambda g, x: matrix_transpose(g))
_linear(matmul, _unmatmul_x, _unmatmul_y)
_linear(
    vecdot,
    lambda g, x, y, axis=-1: _fit(multiply(expand_dims(g, axis=axis), y), x),
    lambda g, x, y, axis=-1: _fit(multiply(expand_dims(g, axis=axis), x), y),
)


def _contracted(x: Array, y: Array, axes: Any) -> tuple[list[int], list[int]]:
    """The axes of x and of y that tensordot sums over, counted from the front."""
    n, m = len(_shape(x)), len(_shape(y))
    if isinstance(axes, int):
        return list(range(n - axes, n)), list(range(axes))
    return [i % n for i in axes[0]], [i % m for i in axes[1]]


def _others(x: Array, axes: list[int]) -> list[int]:
    return [i for i in range(len(_shape(x))) if i not in axes]


def _untensordot_x(g: Array, x: Array, y: Array, axes: Any = 2) -> Array:
    of_x, of_y = _contracted(x, y, axes)
    kept = len(_shape(x)) - len(of_x)
    out = tensordot(g, y, axes=(list(range(kept, len(_shape(g)))), _others(y, of_y)))
    # The axes of out: the kept ones of x, then the contracted ones in the order they have in y.
    places = _others(x, of_x) + [i for _, i in sorted(zip(of_y, of_x, strict=True))]
    return permute_dims(out, tuple(places.index(i) for i in range(len(places))))


def _untensordot_y(g: Array, x: Array, y: Array, axes: Any = 2) -> Array:
    of_x, of_y = _contracted(x, y, axes)
    out = tensordot(x, g, axes=(_others(x, of_x), list(range(len(_shape(x)) - len(of_x)))))
    places = [i for _, i in sorted(zip(of_x, of_y, strict=True))] + _others(y, of_y)
    return permute_dims(out, tuple(places.index(i) for i in range(len(places))))


_linear(tensordot, _untensordot_x, _untensordot_y)

inv, pinv = map(_of_one, ("linalg.inv", "linalg.pinv"))


def _sandwich(left: Array, middle: Array, right: Array) -> Array:
    return matmul(left, matmul(middle, right))


def _pinv_tangent(g: Array, ans: Array, x: Array, **options: Any) -> Array:
    """Golub and Pereyra (1973), eq. (4.12); right where the rank does not change."""
    h, p, t = matrix_transpose(g), matrix_transpose(ans), matrix_transpose
    column = _sandwich(ans, p, subtract(h, matmul(h, matmul(x, ans))))
    row = matmul(subtract(h, _sandwich(ans, x, h)), matmul(t(ans), ans))
    return subtract(add(column, row), _sandwich(ans, g, ans))


def _pinv_cotangent(g: Array, ans: Array, x: Array) -> Array:
    """The adjoint of the tangent, term by term."""
    h, p = matrix_transpose(g), matrix_transpose(ans)
    column = matmul(subtract(h, matmul(x, matmul(ans, h))), matmul(ans, p))
    row = _sandwich(p, ans, subtract(h, matmul(h, matmul(ans, x))))
    return subtract(add(column, row), _sandwich(p, g, p))


defvjp(
    inv,
    lambda ans, x: lambda g: negative(_sandwich(matrix_transpose(ans), g, matrix_transpose(ans))),
)
defjvp(inv, lambda g, ans, x: negative(_sandwich(ans, g, ans)))
defvjp(pinv, lambda ans, x, **options: lambda g: _pinv_cotangent(g, ans, x))
defjvp(pinv, _pinv_tangent)

# --- Shapes ---------------------------------------------------------------------------------------

permute_dims, moveaxis, reshape, expand_dims, squeeze, broadcast_to = map(
    _of_one, ("permute_dims", "moveaxis", "reshape", "expand_dims", "squeeze", "broadcast_to")
)
flip, roll, tile, _repeat, tril, triu = map(
    _of_one, ("flip", "roll", "tile", "repeat", "tril", "triu")
)


def _unpermute(g: Array, x: Array, axes: Any) -> Array:
    axes = [i % len(axes) for i in axes]
    return permute_dims(g, tuple(axes.index(i) for i in range(len(axes))))


def _reshape_back(g: Array, x: Array, *args: Any, **kwargs: Any) -> Array:
    return reshape(g, _shape(x))


def _unroll(g: Array, x: Array, shift: Any, *, axis: Any = None) -> Array:
    back = tuple(-s for s in shift) if isinstance(shift, tuple) else -shift
    return roll(g, back, axis=axis)


def _untile(g: Array, x: Array, repetitions: tuple[int, ...]) -> Array:
    shape = (1,) * (len(_shape(g)) - len(_shape(x))) + _shape(x)
    times = (1,) * (len(shape) - len(repetitions)) + tuple(repetitions)
    apart = tuple(n for pair in zip(times, shape, strict=True) for n in pair)
    return reshape(sum(reshape(g, apart), axis=tuple(range(0, len(apart), 2))), _shape(x))


def _unrepeat(g: Array, x: Array, repeats: int, *, axis: int) -> Array:
    axis %= len(_shape(x))
    before, after = _shape(x)[: axis + 1], _shape(x)[axis + 1 :]
    return sum(reshape(g, (*before, repeats, *after)), axis=axis + 1)


_linear(permute_dims, _unpermute)
_linear(moveaxis, lambda g, x, source, destination: moveaxis(g, destination, source))
_linear(reshape, _reshape_back)
_linear(expand_dims, _reshape_back)
_linear(squeeze, _reshape_back)
_linear(broadcast_to, lambda g, x, shape: _fit(g, x))
_linear(flip, lambda g, x, axis=None: flip(g, axis=axis))
_linear(roll, _unroll)
_linear(tile, _untile)
_linear(_repeat, _unrepeat)
_linear(tril, lambda g, x, k=0: tril(g, k=k))
_linear(triu, lambda g, x, k=0: triu(g, k=k))


def repeat(x: Array, repeats: Any, *, axis: int | None = None) -> Array:
    if axis is None:
        x, axis = reshape(x, (-1,)), 0
    if isinstance(repeats, int):
        return _repeat(x, repeats, axis=axis)
    xp = value_namespace(x)
    places = xp.arange(_shape(x)[axis], device=array_api_compat.device(unboxed(x)))
    return take(x, xp.repeat(places, repeats), axis=axis)


# --- Dtypes ---------------------------------------------------------------------------------------

_astype = _of_one("astype")
_linear(_astype, lambda g, x, dtype, **options: _cast(g, x))


def astype(x: Array, dtype: Any, **options: Any) -> Array:
    """Another dtype; whole numbers and truth values are constants, so the box ends there."""
    real = value_namespace(x).isdtype(dtype, ("real floating", "complex floating"))
    return _astype(x if real else unboxed(x), dtype, **options)


def asarray(x: Any, *, dtype: Any = None, **options: Any) -> Array:
    """The array itself, in that dtype: a box stays a box."""
    return x if dtype is None or unboxed(x).dtype == dtype else astype(x, dtype)


# --- Many arrays ----------------------------------------------------------------------------------


@primitive
def _concat(*arrays: Array, axis: int) -> Array:
    return value_namespace(*arrays).concat(arrays, axis=axis)


def _slice_of(i: int, ans: Array, arrays: tuple[Array, ...], axis: int) -> Function:
    axis %= len(_shape(ans))
    start = math.fsum(_shape(x)[axis] for x in arrays[:i])
    index = (slice(None),) * axis + (slice(int(start), int(start) + _shape(arrays[i])[axis]), ...)
    return lambda g: _cast(getitem(g, index), arrays[i])


defvjp_argnum(_concat, lambda i, ans, args, kwargs: _slice_of(i, ans, args, **kwargs))
defjvp_argnums(
    _concat,
    lambda argnums, gs, ans, args, kwargs: _concat(
        *(dict(zip(argnums, gs, strict=True)).get(i, zeros_like(x)) for i, x in enumerate(args)),
        **kwargs,
    ),
)


def concat(arrays: Any, *, axis: int | None = 0) -> Array:
    if axis is None:
        return _concat(*(reshape(x, (-1,)) for x in arrays), axis=0)
    return _concat(*arrays, axis=axis)


def stack(arrays: Any, *, axis: int = 0) -> Array:
    return _concat(*(expand_dims(x, axis=axis) for x in arrays), axis=axis)


def unstack(x: Array, *, axis: int = 0) -> tuple[Array, ...]:
    front = moveaxis(x, axis, 0)
    return tuple(getitem(front, (i, ...)) for i in range(_shape(front)[0]))


def broadcast_arrays(*arrays: Array) -> list[Array]:
    values = [unboxed(x) for x in arrays]
    shape = _shape(value_namespace(*values).broadcast_arrays(*values)[0])
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
    total[place] = value_namespace(g).add(there, g)
    return total


defvjp(getitem, lambda ans, x, index: lambda g: ungetitem(g, index, vspace(x)))
defvjp(ungetitem, lambda ans, g, index, space: lambda h: getitem(h, index))
defjvp(getitem, "same")
defjvp(ungetitem, "same")

_take, _take_along = map(_of_one, ("take", "take_along_axis"))


def _one_hot(indices: Array, n: int, g: Array) -> Array:
    """One row for each index, in the dtype of g, with a 1 at the place it names."""
    xp = value_namespace(indices)
    places = xp.arange(n, **like(indices))
    return _cast(xp.equal(xp.expand_dims(xp.remainder(indices, n), axis=-1), places), g)


@primitive
def _scatter(g: Array, indices: Array, shape: tuple[int, ...], axis: int) -> Array:
    """Add the slices of g where take found them."""
    xp = value_namespace(g)
    if _adds_in_place(xp, g):
        out = xp.zeros(shape, **like(g))
        xp.add.at(xp.moveaxis(out, axis, 0), indices, xp.moveaxis(g, axis, 0))
        return out
    last = xp.matmul(xp.moveaxis(g, axis, -1), _one_hot(indices, shape[axis], g))
    return xp.moveaxis(last, -1, axis)


@primitive
def _scatter_along(g: Array, indices: Array, shape: tuple[int, ...], axis: int) -> Array:
    """Add the elements of g where take_along_axis found them."""
    xp = value_namespace(g)
    if _adds_in_place(xp, g):
        out = xp.zeros(shape, **like(g))
        xp.add.at(out, _open_grid(xp, indices, shape, axis), g)
        return out
    rows = xp.expand_dims(xp.moveaxis(g, axis, -1), axis=-2)
    hot = _one_hot(xp.moveaxis(indices, axis, -1), shape[axis], g)
    last = xp.squeeze(xp.matmul(rows, hot), axis=-2)
    return _fit_value(xp, xp.moveaxis(last, -1, axis), shape)


def _adds_in_place(xp: Any, g: Array) -> bool:
    # The standard has no scatter-add. A one-hot product is portable and its sums have a fixed
    # order, but NumPy's own add.at needs neither its memory nor its multiplications.
    return array_api_compat.is_numpy_namespace(xp)


def _open_grid(xp: Any, indices: Array, shape: tuple[int, ...], axis: int) -> tuple[Array, ...]:
    ndim = len(shape)
    return tuple(
        indices
        if i == axis % ndim
        else xp.reshape(xp.arange(n), (1,) * i + (n,) + (1,) * (ndim - i - 1))
        for i, n in enumerate(shape)
    )


def _fit_value(xp: Any, g: Array, shape: tuple[int, ...]) -> Array:
    stretched = tuple(i for i, n in enumerate(shape) if n != g.shape[i])
    return xp.sum(g, axis=stretched, keepdims=True) if stretched else g


_linear(_take, lambda g, x, indices, axis: _scatter(g, indices, _shape(x), axis))
_linear(_scatter, lambda h, g, indices, shape, axis: _take(h, indices, axis=axis))
_linear(_take_along, lambda g, x, indices, axis: _scatter_along(g, indices, _shape(x), axis))
_linear(_scatter_along, lambda h, g, indices, shape, axis: _take_along(h, indices, axis=axis))


def take(x: Array, indices: Array, *, axis: int | None = None) -> Array:
    return _take(x, unboxed(indices), axis=_only_axis(x, axis))


def take_along_axis(x: Array, indices: Array, *, axis: int = -1) -> Array:
    return _take_along(x, unboxed(indices), axis=axis)
