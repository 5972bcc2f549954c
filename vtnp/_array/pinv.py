"""The product of a pseudo-inverse and another matrix, value and derivatives: A^+ B.

A^+ itself is a poor means to this end. Where A is ill-conditioned its numbers are large, they are
rounded, and in the product they cancel. The product is therefore computed from the factors of A,
and never becomes larger than it is.
"""

from typing import Any, NamedTuple

import array_api_compat as compat
from autograd.extend import defjvp, defvjp

from vtnp._array.primitives import (
    Array,
    add,
    cast,
    matmul,
    matrix_transpose,
    primitive,
    subtract,
    where,
    zeros_like,
)
from vtnp._array.values import unboxed, value_namespace

_TINY = 2.0**-900  # the reciprocals of singular values below 2**-1022 overflow


class Factors(NamedTuple):
    """The constants of A^+ = right diag(reciprocals) left^T / unit, in double precision.

    The reciprocal of a singular value that counts as 0 is 0. If A has an entry that is not finite,
    the vectors are those of 0, and the reciprocals NaN. The unit is 1, or a power of 2 in which
    denormal matrices have inverses.
    """

    left: Array
    reciprocals: Array
    right: Array
    unit: Array

    def of_transpose(self) -> "Factors":
        return self._replace(left=self.right, right=self.left)


def has_batched_svd(x: Array) -> bool:
    """Tell whether the library of an array decomposes batches of matrices; Dask takes one."""
    return not compat.is_dask_array(unboxed(x))


def pinv_matmul(A: Array, B: Array, *, rtol: float) -> Array:
    """Return A^+ B. Singular values up to rtol times the largest count as 0.

    The gradient is the one along matrices of the same rank.
    """
    return _product(A, B, _factors(_detached(unboxed(A)), rtol))


def _factors(A: Array, rtol: float) -> Factors:
    xp = value_namespace(A)
    A = _widened(xp, A)
    is_finite = xp.all(xp.isfinite(A), axis=(-2, -1), keepdims=True)
    A = xp.where(is_finite, A, 0.0)
    is_tiny = xp.max(xp.abs(A), axis=(-2, -1), keepdims=True) < _TINY
    unit = xp.where(is_tiny, xp.full_like(is_tiny, _TINY, dtype=A.dtype), 1.0)
    U, sigma, Wt = xp.linalg.svd(A / unit)
    sigma = xp.expand_dims(sigma, axis=-1)
    is_kept = sigma > rtol * sigma[..., :1, :]
    reciprocals = xp.where(is_kept, 1.0 / xp.where(is_kept, sigma, 1.0), 0.0)
    reciprocals = xp.where(is_finite, reciprocals, xp.nan)
    return Factors(U, reciprocals, xp.matrix_transpose(Wt), unit)


def _widened(xp: Any, x: Array) -> Array:
    """Double precision for everything narrower: some libraries would decompose in single."""
    # JAX has it only where it is enabled, and result_type then gives single precision.
    return xp.astype(x, xp.result_type(x.dtype, xp.float64), copy=False)


@primitive
def _product(A: Array, B: Array, factors: Factors) -> Array:
    xp = value_namespace(A, B)
    wide_A, wide_B = xp.divide(_widened(xp, A), factors.unit), _widened(xp, B)
    inverse = _own_gradient(xp, wide_A, factors) if _has_own_gradient(A) else None

    def times(Y: Array) -> Array:
        coordinates = xp.matmul(xp.matrix_transpose(factors.left), Y)
        scaled = xp.multiply(factors.reciprocals, coordinates)
        if inverse is not None:
            scaled = xp.matmul(inverse, coordinates)
        return xp.matmul(factors.right, scaled)

    X = times(wide_B)
    # Singular values are as accurate as the largest. The correction makes small rows of A count.
    X = xp.add(X, times(xp.subtract(wide_B, xp.matmul(wide_A, X))))
    return xp.astype(xp.divide(X, factors.unit), B.dtype, copy=False)


# --- Gradients of torch and JAX -------------------------------------------------------------------


def _detached(x: Array) -> Array:
    """Cut an array off from the gradient of its own library: that of an SVD may be infinite."""
    if compat.is_torch_array(x):
        return x.detach()
    if compat.is_jax_array(x):
        from jax.lax import stop_gradient

        return stop_gradient(x)
    return x


def _has_own_gradient(x: Array) -> bool:
    """Tell whether an array's library is differentiating it."""
    if compat.is_jax_array(x):
        from jax.core import Tracer

        return isinstance(x, Tracer)
    return bool(getattr(x, "requires_grad", False))


def _own_gradient(xp: Any, A: Array, factors: Factors) -> Array:
    """Return diag(1 / sigma) as a function of A: (left^T A right)^+ with constant factors."""
    left, reciprocals, right, _ = factors
    is_kept, is_finite = reciprocals != 0.0, xp.isfinite(reciprocals)
    sigma = xp.where(is_kept & is_finite, 1.0 / xp.where(is_kept, reciprocals, 1.0), 0.0)
    # The change is 0, and its derivative 1.
    change = xp.where(is_finite, xp.subtract(A, _detached(A)), 0.0)
    change = xp.matmul(xp.matrix_transpose(left), xp.matmul(change, right))
    diagonal = xp.multiply(sigma, xp.eye(A.shape[-1], dtype=A.dtype, device=compat.device(A)))
    # Whatever has been kept is above this, and rounding errors of 0 are below.
    rtol = 0.5 * A.shape[-1] * float(xp.finfo(A.dtype).eps)
    inverse = xp.linalg.pinv(xp.add(diagonal, change), rtol=rtol)
    return xp.where(is_finite, inverse, xp.nan)


# --- Gradients of autograd ------------------------------------------------------------------------


def _where_cut(x: Array, factors: Factors) -> Array:
    """Keep what vanishes for non-singular matrices but for rounding errors."""
    xp = value_namespace(factors.reciprocals)
    cuts = xp.any(xp.equal(factors.reciprocals, 0.0), axis=(-2, -1), keepdims=True)
    return where(cuts, x, zeros_like(x))


def _cotangent(g: Array, ans: Array, A: Array, B: Array, factors: Factors) -> Array:
    """The adjoint of the tangent below, term by term."""
    t, of_transpose = matrix_transpose, factors.of_transpose()
    h = _product(t(A), g, of_transpose)
    outside = _where_cut(subtract(B, matmul(A, ans)), factors)
    beside = _where_cut(subtract(g, matmul(t(A), h)), factors)
    column = matmul(outside, t(_product(A, h, factors)))
    row = matmul(_product(t(A), ans, of_transpose), t(beside))
    return cast(subtract(add(column, row), matmul(h, t(ans))), A)


def _tangent(g: Array, ans: Array, A: Array, B: Array, factors: Factors) -> Array:
    """Golub and Pereyra (1973), eq. (4.12), times B; right where the rank does not change."""
    t, of_transpose = matrix_transpose, factors.of_transpose()
    outside = _where_cut(subtract(B, matmul(A, ans)), factors)
    inside = subtract(_product(t(A), matmul(t(g), outside), of_transpose), matmul(g, ans))
    v = matmul(t(g), _product(t(A), ans, of_transpose))
    beside = _where_cut(subtract(v, _product(A, matmul(A, v), factors)), factors)
    return cast(add(_product(A, inside, factors), beside), ans)


def _adjoint(g: Array, A: Array, B: Array, factors: Factors) -> Array:
    return cast(_product(matrix_transpose(A), g, factors.of_transpose()), B)


defvjp(
    _product,
    lambda ans, A, B, factors: lambda g: _cotangent(g, ans, A, B, factors),
    lambda _, A, B, factors: lambda g: _adjoint(g, A, B, factors),
)
defjvp(_product, _tangent, lambda g, ans, A, _, factors: cast(_product(A, g, factors), ans))
