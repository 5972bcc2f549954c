"""The error function of each library: the one function beyond the standard."""

import math
from typing import Any

import array_api_compat as compat


def erf_of(xp: Any, x: Any) -> Any:
    """erf(x) from x's own library, or from its series; the dtype stays."""
    if hasattr(xp, "erf"):  # torch, and the cost reading
        return xp.erf(x)
    if compat.is_jax_namespace(xp):
        from jax.scipy import special

        return special.erf(x)
    if compat.is_cupy_namespace(xp):
        from cupyx.scipy import special

        return xp.astype(special.erf(x), x.dtype, copy=False)
    if compat.is_dask_namespace(xp):
        return x.map_blocks(_erf_of_numpy, dtype=x.dtype)
    if compat.is_numpy_namespace(xp):
        return _erf_of_numpy(x)
    return series(xp, x)


def _erf_of_numpy(x: Any) -> Any:
    from scipy import special

    # Half precision comes back as single precision; Python's floats have no dtype.
    return special.erf(x).astype(getattr(x, "dtype", float), copy=False)


def series(xp: Any, x: Any) -> Any:
    """erf(x) = 2/sqrt(pi) x exp(-x^2) sum_n (2x^2)^n / (2n+1)!! (DLMF 7.6.2).

    It converges everywhere and all its terms are positive: no digits cancel. Beyond |x| = 6 the
    result is exactly 1 in double precision, so that the terms stay finite and their number bounded.
    """
    inside = xp.clip(x, -6.0, 6.0)
    square = xp.square(inside)
    term = total = xp.ones_like(x)
    for n in range(1, 160):
        term = xp.multiply(term, xp.divide(xp.multiply(square, 2.0), 2.0 * n + 1.0))
        total = xp.add(total, term)
    scale = xp.multiply(inside, xp.exp(xp.negative(square)))
    within = xp.multiply(xp.multiply(scale, total), 2 / math.sqrt(math.pi))
    return xp.where(xp.greater_equal(xp.abs(x), 6.0), xp.sign(x), within)
