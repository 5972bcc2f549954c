"""CuPy's functions, by name, on the stand-in's arrays: bound to CuPy's signatures."""

import warnings
from collections.abc import Callable, Iterator
from functools import partial, wraps
from typing import Any

import numpy as np
import scipy.linalg

from tests.support.cupy_standin import devices
from tests.support.cupy_standin.arrays import (
    UndefinedError,
    _plain,
    cast,
    check_range,
    ndarray,
    on_current,
    ufunc,
)
from tests.support.cupy_standin.devices import called, noted
from tests.support.cupy_standin.signatures import DATA, loops, signature

Function = Callable[..., Any]


def bound(key: str, compute: Function | None) -> Function:
    """Return a function of CuPy: its signature, and what it computes."""
    parameters = signature(key)

    def function(*args: Any, **kwargs: Any) -> Any:
        call = parameters.bind(*args, **kwargs)
        called(key)
        if compute is None:
            raise NotImplementedError(f"the stand-in does not compute {key}")
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            return compute(*call.args, **call.kwargs)

    function.__name__ = key.rpartition(".")[2]
    function.__signature__ = parameters  # type: ignore[attr-defined]
    return function


def _arrays(tree: Any) -> Iterator[ndarray]:
    for x in tree:
        if isinstance(x, ndarray):
            yield x
        elif isinstance(x, tuple | list):
            yield from _arrays(x)


def _values(x: Any) -> Any:
    if isinstance(x, tuple | list):
        return type(x)(map(_values, x))
    if isinstance(x, np.ndarray):
        raise TypeError(f"Unsupported type {type(x)}")
    return _plain(x)


def _wrapped(x: Any) -> Any:
    if isinstance(x, tuple | list):
        return tuple(map(_wrapped, x))
    return ndarray._of(x) if isinstance(x, np.ndarray | np.generic) else x


def _of_array(x: Any, name: str) -> None:
    if not isinstance(x, ndarray):
        raise TypeError(f"{name}: expected a CuPy array, got {type(x)}")


def computed(function: Function) -> Function:
    """Compute by a function of NumPy, whose first arguments are CuPy's."""

    @wraps(function)
    def compute(*args: Any, **kwargs: Any) -> Any:
        first = args[0]
        for x in first if isinstance(first, tuple | list) else (first,):
            _of_array(x, function.__name__)
        on_current(*_arrays(args), *_arrays(kwargs.values()))
        values = {key: _values(x) for key, x in kwargs.items()}
        return _wrapped(function(*map(_values, args), **values))

    return compute


def viewed(function: Function) -> Function:
    """Compute by a function of NumPy that makes a view of its first argument."""

    @wraps(function)
    def compute(a: Any, *args: Any, **kwargs: Any) -> Any:
        _of_array(a, function.__name__)
        return a._viewed(function(a._values, *args, **kwargs))

    return compute


def reduced(key: str, function: Function) -> Function:
    """Compute a reduction, for the dtypes that CuPy has a loop for."""
    found = loops(DATA["reductions"][key])

    @wraps(function)
    def compute(a: Any, axis: Any = None, *args: Any, **kwargs: Any) -> Any:
        _of_array(a, key)
        on_current(a)
        loop = next((each for each in found if np.can_cast(a.dtype, each.takes[0])), None)
        if loop is None:
            raise TypeError(f"Wrong type ({a.dtype}) of arguments for {key}")
        result = np.asarray(function(a._values, axis, *map(_values, args), **kwargs))
        given = kwargs.get("dtype") or (
            args[0] if args and key in {"cupy.sum", "cupy.prod"} else None
        )
        return ndarray._of(result if given else result.astype(loop.makes[0], copy=False))

    return compute


# --- Creation -------------------------------------------------------------------------------------


def _array(obj: Any, dtype: Any = None, copy: Any = True, *args: Any, **kwargs: Any) -> Any:
    if isinstance(obj, ndarray):
        same = dtype is None or obj.dtype == np.dtype(dtype)
        if same and not copy and obj._device == devices.current():
            return obj
        return ndarray._of(cast(obj._values, obj.dtype if dtype is None else dtype))
    if isinstance(obj, tuple | list) and any(True for _ in _arrays(obj)):
        on_current(*_arrays(obj))
        return ndarray._of(np.array(_values(obj), dtype))
    noted("upload", "cupy.array")
    values = np.asarray(obj)
    if values.dtype.kind not in "biufc":
        raise ValueError(f"Unsupported dtype {values.dtype}")
    native = values.astype(values.dtype.newbyteorder("="), copy=True)
    return ndarray._of(native if dtype is None else cast(native, dtype))


def _asarray(
    a: Any, dtype: Any = None, order: Any = None, *, copy: Any = None, **kwargs: Any
) -> Any:
    return _array(a, dtype, copy)


def _asnumpy(a: Any, *args: Any, **kwargs: Any) -> Any:
    return a.get() if isinstance(a, ndarray) else np.asarray(a)


def _created(function: Function) -> Function:
    """Create by a function of NumPy, of Python's numbers."""

    def compute(*args: Any, **kwargs: Any) -> Any:
        if any(isinstance(x, ndarray | np.ndarray) for x in (*args, *kwargs.values())):
            raise TypeError(f"{function.__name__}: expected numbers, got arrays")
        return ndarray._of(function(*args, **kwargs))

    return compute


def _full(shape: Any, fill_value: Any, dtype: Any = None, order: str = "C") -> Any:
    on_current(fill_value)
    if isinstance(fill_value, np.ndarray):
        raise TypeError(f"Unsupported type {type(fill_value)}")
    value = np.asarray(_plain(fill_value))
    return ndarray._of(np.broadcast_to(cast(value, dtype or value.dtype), shape).copy(order))


def _like(make: Function) -> Function:
    def compute(a: Any, dtype: Any = None, *args: Any, **kwargs: Any) -> Any:
        _of_array(a, make.__name__)
        return ndarray._of(make(a.shape, dtype=dtype or a.dtype))

    return compute


def _full_like(a: Any, fill_value: Any, dtype: Any = None, *args: Any, **kwargs: Any) -> Any:
    return _full(a.shape, fill_value, dtype or a.dtype)


def _triangle(lower: bool) -> Function:
    def compute(m: Any, k: int = 0) -> Any:
        _of_array(m, "tril or triu")
        on_current(m)
        return ndarray._of((np.tril if lower else np.triu)(m._values, k))

    return compute


# --- Selection ------------------------------------------------------------------------------------


def _where(condition: Any, x: Any = None, y: Any = None) -> Any:
    if x is None or y is None:
        raise NotImplementedError("the stand-in does not compute cupy.where(condition)")
    return WHERE(condition.astype("?", copy=False), x, y)


def _take(a: Any, indices: Any, axis: Any = None, out: Any = None) -> Any:
    _of_array(a, "take")
    if not isinstance(indices, ndarray) and not np.isscalar(indices):
        indices = _array(indices, int)
    on_current(a, indices)
    n = a.size if axis is None else a.shape[axis]
    check_range(_plain(indices), n, "cupy.take")
    return ndarray._of(np.take(a._values, _plain(indices), axis))


def _take_along_axis(a: Any, indices: Any, axis: Any) -> Any:
    if indices.dtype.kind not in "iu":
        raise IndexError("`indices` must be an integer array")
    if a.ndim != indices.ndim:
        raise ValueError("`indices` and `a` must have the same number of dimensions")
    on_current(a, indices)
    check_range(indices._values, a.shape[axis], "cupy.take_along_axis")
    return ndarray._of(np.take_along_axis(a._values, indices._values, axis))


def _repeat(a: Any, repeats: Any, axis: Any = None) -> Any:
    on_current(a, repeats)
    if isinstance(repeats, ndarray):  # their sum is the result's size
        noted("synchronisation", "cupy.repeat")
    return ndarray._of(np.repeat(a._values, _plain(repeats), axis))


def _searchsorted(a: Any, v: Any, side: str = "left", sorter: Any = None) -> Any:
    on_current(a, v, sorter)
    if not isinstance(v, ndarray):
        raise NotImplementedError("Only int or ndarray are supported for v")
    return ndarray._of(np.searchsorted(a._values, v._values, side, _plain(sorter)))


def _nonzero(a: Any) -> Any:
    noted("synchronisation", "cupy.nonzero")
    return _wrapped(np.nonzero(a._values))


def _extreme(function: Function) -> Function:
    def compute(
        a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False
    ) -> Any:
        _of_array(a, function.__name__)
        on_current(a)
        index = np.asarray(function(a._values, axis, keepdims=keepdims))
        return ndarray._of(index.astype(dtype or np.int64))

    return compute


def _sorted(function: Function) -> Function:
    def compute(a: Any, axis: int = -1, kind: Any = None) -> Any:
        if kind not in {None, "stable"}:
            raise ValueError("only None or 'stable' is supported for kind")
        on_current(a)
        return ndarray._of(function(a._values, axis, kind="stable"))

    return compute


# --- Products and linear algebra ------------------------------------------------------------------


def _wide(values: Any) -> Any:
    """Half precision is summed up in single precision."""
    return values.astype(np.float32) if values.dtype == np.float16 else values


def _matmul(*args: Any, out: Any = None, **kwargs: Any) -> Any:
    if kwargs or out is not None or len(args) != 2:
        raise NotImplementedError("the stand-in computes cupy.matmul of two arrays alone")
    for x in args:
        _of_array(x, "matmul")
        if x.ndim == 0:
            raise ValueError("matmul: Input operand 0 does not have enough dimensions")
    on_current(*args)
    x, y = (each._values for each in args)
    dtype = np.result_type(x, y)
    return ndarray._of(np.asarray(np.matmul(_wide(x), _wide(y))).astype(dtype, copy=False))


def _tensordot(a: Any, b: Any, axes: Any = 2) -> Any:
    on_current(a, b)
    if 0 in (a.ndim, b.ndim) and axes not in (0, ((), ())):
        raise ValueError("An input is zero-dim while axes has dimensions")
    dtype = np.result_type(a.dtype, b.dtype)
    result = np.tensordot(_wide(a._values), _wide(b._values), axes)
    return ndarray._of(np.asarray(result).astype(dtype, copy=False))


def _matrices(a: Any) -> np.dtype[Any]:
    """Return the dtype that a routine of cuSOLVER computes these matrices in."""
    if not isinstance(a, ndarray):
        raise np.linalg.LinAlgError("cupy.linalg only supports cupy.ndarray")
    if a.ndim < 2:
        raise np.linalg.LinAlgError("Array must be at least two-dimensional")
    if a.dtype == np.float16:
        raise TypeError("float16 is unsupported in linalg")
    on_current(a)
    return a.dtype if a.dtype.kind in "fc" else np.dtype(float)


def _each(function: Function, values: Any, *shapes: tuple[int, ...]) -> list[Any]:
    """Apply a routine of LAPACK to each matrix in its own precision; NaN where it fails."""
    batch = values.shape[:-2]
    results = [np.full((*batch, *shape), np.nan, values.dtype) for shape in shapes]
    for at in np.ndindex(batch):
        try:
            found = function(values[at])
        except (np.linalg.LinAlgError, ValueError):
            continue
        for result, each in zip(results, found, strict=True):
            result[at] = each
    return results


def _inv(a: Any) -> Any:
    dtype = _matrices(a)
    if a.shape[-1] != a.shape[-2]:
        raise np.linalg.LinAlgError("Last 2 dimensions of the array must be square")
    one = partial(scipy.linalg.inv, check_finite=False)
    (result,) = _each(lambda m: (one(m),), a._values.astype(dtype), a.shape[-2:])
    return ndarray._of(result)


def _svd(a: Any, full_matrices: bool = True, compute_uv: bool = True) -> Any:
    dtype = _matrices(a)
    m, n = a.shape[-2:]
    k = min(m, n)
    if k == 0:
        raise NotImplementedError("the stand-in decomposes no empty matrices")
    one = partial(scipy.linalg.svd, full_matrices=full_matrices, check_finite=False)
    shapes = ((m, m), (k,), (n, n)) if full_matrices else ((m, k), (k,), (k, n))
    u, s, vt = map(ndarray._of, _each(one, a._values.astype(dtype), *shapes))
    return (u, s, vt) if compute_uv else s


def _pinv(a: Any, rcond: Any = 1e-15) -> Any:
    """As CuPy's own: no precision is added, and a mask among singular values waits."""
    if not isinstance(a, ndarray):
        raise np.linalg.LinAlgError("cupy.linalg only supports cupy.ndarray")
    if a.size == 0:
        _matrices(a)
        return ndarray._of(np.empty((*a.shape[:-2], a.shape[-1], a.shape[-2]), a.dtype))
    u, s, vt = _svd(a, full_matrices=False)
    largest = ndarray._of(s._values.max(axis=-1))
    small = s <= (rcond * largest)[..., None]
    s = 1.0 / s
    s[small] = 0
    return _matmul(vt.mT, s[..., None] * u.mT)


# --- All of them ----------------------------------------------------------------------------------

WHERE = ufunc("cupy.where")


def _plain_function(function: Function) -> Function:
    """A function of dtypes and shapes, in which arrays count by dtype."""
    return lambda *args, **kwargs: function(
        *(x.dtype if isinstance(x, ndarray) else x for x in args), **kwargs
    )


_COMPUTED = ("cumsum", "concatenate", "stack", "flip", "roll", "tile", "around", "round", "clip")
_VIEWS = ("transpose", "swapaxes", "moveaxis", "expand_dims", "squeeze", "broadcast_to", "ravel")
_REDUCED = ("sum", "prod", "max", "min", "all", "any")
_PLAIN = ("isdtype", "result_type", "can_cast", "issubdtype", "broadcast_shapes", "isscalar")

COMPUTES: dict[str, Function] = {
    **{f"cupy.{name}": computed(getattr(np, name)) for name in _COMPUTED},
    **{f"cupy.{name}": viewed(getattr(np, name)) for name in _VIEWS},
    **{f"cupy.{name}": reduced(f"cupy.{name}", getattr(np, name)) for name in _REDUCED},
    **{f"cupy.{name}": _plain_function(getattr(np, name)) for name in _PLAIN},
    **{
        f"cupy.{name}": _created(getattr(np, name)) for name in ("arange", "linspace", "eye", "tri")
    },
    **{f"cupy.{name}": _created(getattr(np, name)) for name in ("empty", "zeros", "ones")},
    "cupy.empty_like": _like(np.empty),
    "cupy.zeros_like": _like(np.zeros),
    "cupy.ones_like": _like(np.ones),
    "cupy.full": _full,
    "cupy.full_like": _full_like,
    "cupy.array": _array,
    "cupy.asarray": _asarray,
    "cupy.asnumpy": _asnumpy,
    "cupy.astype": lambda x, dtype, copy=True: x.astype(dtype, copy=copy),
    "cupy.reshape": viewed(lambda a, newshape, order="C", *, copy=None: a.reshape(newshape)),
    "cupy.broadcast_arrays": lambda *args: [
        x._viewed(y) for x, y in zip(args, np.broadcast_arrays(*map(_values, args)), strict=True)
    ],
    "cupy.mean": computed(np.mean),
    "cupy.tril": _triangle(lower=True),
    "cupy.triu": _triangle(lower=False),
    "cupy.where": _where,
    "cupy.take": _take,
    "cupy.take_along_axis": _take_along_axis,
    "cupy.repeat": _repeat,
    "cupy.searchsorted": _searchsorted,
    "cupy.nonzero": _nonzero,
    "cupy.argmax": _extreme(np.argmax),
    "cupy.argmin": _extreme(np.argmin),
    "cupy.argsort": _sorted(np.argsort),
    "cupy.sort": _sorted(np.sort),
    "cupy.matmul": _matmul,
    "cupy.tensordot": _tensordot,
    "cupy.linalg.inv": _inv,
    "cupy.linalg.svd": _svd,
    "cupy.linalg.pinv": _pinv,
}
__all__ = ["COMPUTES", "UndefinedError", "bound"]
