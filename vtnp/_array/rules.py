"""The derivatives of the primitives, in reverse and forward mode.

Every rule is written in primitives, so that it can itself be differentiated, and in functions
rather than operators: array-api-strict raises where other libraries defer to a box.
"""

import math
from itertools import accumulate
from typing import Any

from autograd.extend import (
    def_linear,
    defjvp,
    defjvp_argnums,
    defvjp,
    defvjp_argnum,
    vspace,
)

from vtnp._array.primitives import (
    Array,
    Function,
    abs,
    add,
    bounded,
    broadcast_to,
    cast,
    converted,
    cos,
    divide,
    equal,
    erfc,
    exp,
    expand_dims,
    flip,
    getitem,
    greater,
    inv,
    joined,
    less,
    less_equal,
    log,
    log1p,
    matmul,
    matrix_transpose,
    max,
    maximum,
    mean,
    min,
    minimum,
    moveaxis,
    multiply,
    negative,
    ones_like,
    permute_dims,
    pinv,
    plain,
    pow,
    repeated,
    reshape,
    roll,
    running_sum,
    scatter,
    scatter_along,
    shape_of,
    sign,
    sin,
    sqrt,
    square,
    squeeze,
    subtract,
    sum,
    taken,
    taken_along,
    tanh,
    tensordot,
    tile,
    tril,
    triu,
    ungetitem,
    vecdot,
    where,
    zeros_like,
)
from vtnp._array.values import unboxed

# --- What rules are made of -----------------------------------------------------------------------


def _fit(g: Array, x: Array) -> Array:
    """Sum g over the axes along which x was broadcast."""
    shape, full = shape_of(x), shape_of(g)
    if shape != full:
        lead = len(full) - len(shape)
        stretched = [lead + i for i, n in enumerate(shape) if n != full[lead + i]]
        g = reshape(sum(g, axis=(*range(lead), *stretched)), shape)
    return cast(g, x)


def _spread(g: Array, ans: Array) -> Array:
    """Broadcast g to the shape of the result."""
    return cast(g if shape_of(g) == shape_of(ans) else broadcast_to(g, shape_of(ans)), ans)


def elementwise(function: Function, *partials: Function | None) -> None:
    """Register both modes at once: partials[i](g, ans, *args) is g times d ans / d args[i].

    None marks an argument that has no derivative.
    """

    def vjp(i: int, partial: Function) -> Function:
        return lambda ans, *args: lambda g: _fit(partial(g, ans, *args), args[i])

    def jvp(partial: Function) -> Function:
        return lambda g, ans, *args: _spread(partial(g, ans, *args), ans)

    defvjp(function, *(partial and vjp(i, partial) for i, partial in enumerate(partials)))
    defjvp(function, *(partial and jvp(partial) for partial in partials))


def linear(function: Function, *transposes: Function) -> None:
    """Register a function linear in each array, with adjoints transposes[i](g, *args, **kwargs)."""

    def vjp(i: int) -> Function:
        return lambda ans, *args, **kwargs: (
            lambda g: cast(transposes[i](g, *args, **kwargs), args[i])
        )

    defvjp(function, *(vjp(i) for i in range(len(transposes))))
    def_linear(function)


# --- Arithmetic -----------------------------------------------------------------------------------


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
    """Keep g where it does not."""
    return where(condition, zeros_like(g), g)


# Not -g x / y^2: the square of y may overflow or vanish where the quotient does not.
QUOTIENT = (
    lambda g, ans, x, y: divide(g, y),
    lambda g, ans, x, y: negative(divide(multiply(g, ans), y)),
)

elementwise(add, lambda g, ans, x, y: g, lambda g, ans, x, y: g)
elementwise(subtract, lambda g, ans, x, y: g, lambda g, ans, x, y: negative(g))
elementwise(multiply, lambda g, ans, x, y: multiply(g, y), lambda g, ans, x, y: multiply(g, x))
elementwise(divide, *QUOTIENT)
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
    bounded,
    _inside,
    lambda g, ans, x, low, high: _only(g, less(x, low)),
    lambda g, ans, x, low, high: _only(g, greater(x, high)),
)


SELECTION = (
    None,
    lambda g, ans, c, x, y: _only(g, c),
    lambda g, ans, c, x, y: _except(g, c),
)

elementwise(where, *SELECTION)
elementwise(
    erfc,
    lambda g, ans, x: multiply(g, multiply(exp(negative(square(x))), -2 / math.sqrt(math.pi))),
)

# --- Reductions -----------------------------------------------------------------------------------


def _axes(axis: Any, ndim: int) -> tuple[int, ...]:
    """The reduced axes, counted from the front."""
    if axis is None:
        return tuple(range(ndim))
    return tuple(i % ndim for i in (axis if isinstance(axis, tuple) else (axis,)))


def _reopened(g: Array, x: Array, axis: Any) -> Array:
    """Put the reduced axes of g back, with size 1."""
    reduced = _axes(axis, len(shape_of(x)))
    return reshape(g, tuple(1 if i in reduced else n for i, n in enumerate(shape_of(x))))


def _unsum(g: Array, x: Array, axis: Any = None, **options: Any) -> Array:
    return broadcast_to(_reopened(g, x, axis), shape_of(x))


def _unmean(g: Array, x: Array, axis: Any = None, **options: Any) -> Array:
    count = math.prod(shape_of(x)[i] for i in _axes(axis, len(shape_of(x))))
    return _unsum(divide(g, count), x, axis)


def _shares(ans: Array, x: Array, axis: Any) -> Array:
    """The share of each element in the extremum: equal among those that attain it."""
    attained = cast(equal(x, unboxed(_reopened(ans, x, axis))), x)
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


linear(sum, _unsum)
linear(mean, _unmean)
_extremum(max)
_extremum(min)


def _suffix_sum(g: Array, x: Array, axis: int, **options: Any) -> Array:
    return flip(running_sum(flip(g, axis=axis), axis=axis), axis=axis)


linear(running_sum, _suffix_sum)


# --- Products -------------------------------------------------------------------------------------


def _unmatmul(g: Array, x: Array, y: Array, adjoint: Function) -> Array:
    """The adjoint for matrices; a vector is a row on the left and a column on the right."""
    row, column = len(shape_of(x)) == 1, len(shape_of(y)) == 1
    g = expand_dims(g, axis=-1) if column else g
    g = expand_dims(g, axis=-2) if row else g
    return adjoint(
        g, expand_dims(x, axis=0) if row else x, expand_dims(y, axis=-1) if column else y
    )


def _of_right(g: Array, x: Array, y: Array) -> Array:
    """The adjoint with respect to y, x^T g summed over the batch axes along which y was stretched.

    Those axes are folded into the rows that the product sums over anyway: one matrix times a large
    batch would else need an outer product for each element of the batch.
    """
    lead = len(shape_of(g)) - 2
    padded = [(1,) * (lead + 2 - len(shape_of(a))) + shape_of(a) for a in (g, x, y)]
    sizes, _, of_y = padded
    folded = [i for i in range(lead) if of_y[i] == 1 != sizes[i]]
    if folded:
        g, x = (_rows_of(a, shape, folded) for a, shape in zip((g, x), padded, strict=False))
    return reshape(matmul(matrix_transpose(x), g), shape_of(y))


def _rows_of(a: Array, shape: tuple[int, ...], folded: list[int]) -> Array:
    """Fold batch axes of a, of that shape, into its rows."""
    kept = [i for i in range(len(shape) - 2) if i not in folded]
    a = permute_dims(reshape(a, shape), (*kept, *folded, len(shape) - 2, len(shape) - 1))
    rows = math.prod(shape[i] for i in folded) * shape[-2]
    return reshape(a, (*(shape[i] for i in kept), rows, shape[-1]))


def _of_left(g: Array, x: Array, y: Array) -> Array:
    t = matrix_transpose
    return t(_of_right(t(g), t(y), t(x)))


def _unmatmul_x(g: Array, x: Array, y: Array) -> Array:
    return reshape(_unmatmul(g, x, y, _of_left), shape_of(x))


def _unmatmul_y(g: Array, x: Array, y: Array) -> Array:
    return reshape(_unmatmul(g, x, y, _of_right), shape_of(y))


linear(matrix_transpose, lambda g, x: matrix_transpose(g))
MATMUL = (_unmatmul_x, _unmatmul_y)

linear(matmul, *MATMUL)
linear(
    vecdot,
    lambda g, x, y, axis=-1: _fit(multiply(expand_dims(g, axis=axis), y), x),
    lambda g, x, y, axis=-1: _fit(multiply(expand_dims(g, axis=axis), x), y),
)


def _contracted(x: Array, y: Array, axes: Any) -> tuple[list[int], list[int]]:
    """The axes of x and of y that tensordot sums over, counted from the front."""
    n, m = len(shape_of(x)), len(shape_of(y))
    if isinstance(axes, int):
        return list(range(n - axes, n)), list(range(axes))
    return [i % n for i in axes[0]], [i % m for i in axes[1]]


def _others(x: Array, axes: list[int]) -> list[int]:
    return [i for i in range(len(shape_of(x))) if i not in axes]


def _untensordot_x(g: Array, x: Array, y: Array, axes: Any = 2) -> Array:
    of_x, of_y = _contracted(x, y, axes)
    kept = len(shape_of(x)) - len(of_x)
    out = tensordot(g, y, axes=(list(range(kept, len(shape_of(g)))), _others(y, of_y)))
    # The axes of out: the kept ones of x, then the contracted ones in the order they have in y.
    places = _others(x, of_x) + [i for _, i in sorted(zip(of_y, of_x, strict=True))]
    return permute_dims(out, tuple(places.index(i) for i in range(len(places))))


def _untensordot_y(g: Array, x: Array, y: Array, axes: Any = 2) -> Array:
    of_x, of_y = _contracted(x, y, axes)
    out = tensordot(x, g, axes=(_others(x, of_x), list(range(len(shape_of(x)) - len(of_x)))))
    places = [i for _, i in sorted(zip(of_x, of_y, strict=True))] + _others(y, of_y)
    return permute_dims(out, tuple(places.index(i) for i in range(len(places))))


linear(tensordot, _untensordot_x, _untensordot_y)


def _sandwich(left: Array, middle: Array, right: Array) -> Array:
    return matmul(left, matmul(middle, right))


def _pinv_tangent(g: Array, ans: Array, x: Array, **options: Any) -> Array:
    """Golub and Pereyra (1973), eq. (4.12); right where the rank does not change."""
    h, p = matrix_transpose(g), matrix_transpose(ans)
    column = _sandwich(ans, p, subtract(h, matmul(h, matmul(x, ans))))
    row = matmul(subtract(h, _sandwich(ans, x, h)), matmul(p, ans))
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


def _unpermute(g: Array, x: Array, axes: Any) -> Array:
    axes = [i % len(axes) for i in axes]
    return permute_dims(g, tuple(axes.index(i) for i in range(len(axes))))


def _reshape_back(g: Array, x: Array, *args: Any, **kwargs: Any) -> Array:
    return reshape(g, shape_of(x))


def _unroll(g: Array, x: Array, shift: Any, *, axis: Any = None) -> Array:
    back = tuple(-s for s in shift) if isinstance(shift, tuple) else -shift
    return roll(g, back, axis=axis)


def _untile(g: Array, x: Array, repetitions: tuple[int, ...]) -> Array:
    shape = (1,) * (len(shape_of(g)) - len(shape_of(x))) + shape_of(x)
    times = (1,) * (len(shape) - len(repetitions)) + tuple(repetitions)
    apart = tuple(n for pair in zip(times, shape, strict=True) for n in pair)
    return reshape(sum(reshape(g, apart), axis=tuple(range(0, len(apart), 2))), shape_of(x))


def _unrepeat(g: Array, x: Array, repeats: int, *, axis: int) -> Array:
    axis %= len(shape_of(x))
    before, after = shape_of(x)[: axis + 1], shape_of(x)[axis + 1 :]
    return sum(reshape(g, (*before, repeats, *after)), axis=axis + 1)


linear(permute_dims, _unpermute)
linear(moveaxis, lambda g, x, source, destination: moveaxis(g, destination, source))
linear(reshape, _reshape_back)
linear(expand_dims, _reshape_back)
linear(squeeze, _reshape_back)
linear(plain, lambda g, x: g)
linear(broadcast_to, lambda g, x, shape: _fit(g, x))
linear(flip, lambda g, x, axis=None: flip(g, axis=axis))
linear(roll, _unroll)
linear(tile, _untile)
linear(repeated, _unrepeat)
linear(tril, lambda g, x, k=0: tril(g, k=k))
linear(triu, lambda g, x, k=0: triu(g, k=k))


# --- Dtypes ---------------------------------------------------------------------------------------

linear(converted, lambda g, x, dtype, **options: cast(g, x))


# --- Many arrays ----------------------------------------------------------------------------------


def _slice_of(i: int, ans: Array, arrays: tuple[Array, ...], axis: int) -> Function:
    axis %= len(shape_of(ans))
    sizes = [shape_of(x)[axis] for x in arrays]
    end = list(accumulate(sizes))[i]
    index = (*(slice(None),) * axis, slice(end - sizes[i], end), ...)
    return lambda g: cast(getitem(g, index), arrays[i])


defvjp_argnum(joined, lambda i, ans, args, kwargs: _slice_of(i, ans, args, **kwargs))
defjvp_argnums(
    joined,
    lambda argnums, gs, ans, args, kwargs: joined(
        *(dict(zip(argnums, gs, strict=True)).get(i, zeros_like(x)) for i, x in enumerate(args)),
        **kwargs,
    ),
)


# --- Indexing -------------------------------------------------------------------------------------


defvjp(getitem, lambda ans, x, index: lambda g: ungetitem(g, index, vspace(x)))
defvjp(ungetitem, lambda ans, g, index, space: lambda h: getitem(h, index))
defjvp(getitem, "same")
defjvp(ungetitem, "same")


linear(taken, lambda g, x, indices, axis: scatter(g, indices, shape_of(x), axis))
linear(scatter, lambda h, g, indices, shape, axis: taken(h, indices, axis=axis))
linear(taken_along, lambda g, x, indices, axis: scatter_along(g, indices, shape_of(x), axis))
linear(scatter_along, lambda h, g, indices, shape, axis: taken_along(h, indices, axis=axis))
