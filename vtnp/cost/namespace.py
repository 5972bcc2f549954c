"""The array-API standard for arrays without values: every operation is counted, none computed.

    matmul, vecdot, tensordot   multiply-adds: one for each product that enters a sum
    elementwise operations      one operation of that name for each element of the result
    sum, mean, max, min, ...    one for each element beyond the first of each result
    all else                    no operation: elements are moved, or viewed in another layout

Bytes are read and written once for each element in memory; views move none. Three costs depend on
numbers, which these arrays do not have, and follow a rule: linalg.svd, pinv and inv of an n x m
matrix count n m min(n, m) operations of their own name, argsort n ceil(log2 n) comparisons for n
elements, and the gradient of a gather one addition for each element gathered. What numbers would
only choose costs the same whatever they choose: a sample outside the frame is read like one inside,
each prototype is found by comparing all candidates, and as many iterations run as are asked for.
"""

import builtins
import math
import sys
from collections.abc import Callable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np

from vtnp._array.xp import is_boxed
from vtnp.cost import memory_layout as layouts
from vtnp.cost.arrays import CostArray, Ledger
from vtnp.cost.memory_layout import MemoryLayout, Shape, normal

Operand = Any  # a CostArray or a number of Python

inf, nan, pi, newaxis = math.inf, math.nan, math.pi, None
bool, int8, int16, int32, int64 = np.bool, np.int8, np.int16, np.int32, np.int64
uint8, uint16, uint32, uint64 = np.uint8, np.uint16, np.uint32, np.uint64
float16, float32, float64 = np.float16, np.float32, np.float64
isdtype, iinfo = np.isdtype, np.iinfo


def finfo(of: Any) -> Any:
    return np.finfo(getattr(of, "dtype", of))


def result_type(*of: Any) -> Any:
    return np.result_type(*(x.dtype if isinstance(x, CostArray) else x for x in of))


def _arrays(*operands: Operand) -> list[CostArray]:
    for x in operands:
        if not isinstance(x, CostArray | float | int):
            raise TypeError(f"{type(x).__name__} combined with an array of vtnp.cost")
    return [x for x in operands if isinstance(x, CostArray)]


def _computed(
    inputs: Sequence[CostArray], layout: MemoryLayout, dtype: Any, **operations: int
) -> CostArray:
    """Return the result of an operation, and add what it takes to the ledger."""
    ledger = inputs[0].device
    result = ledger.laid_out(layout, dtype)
    ledger.bytes_read += builtins.sum(x.layout.distinct * x.dtype.itemsize for x in inputs)
    ledger.bytes_written += layout.size * result.dtype.itemsize
    # A Counter would keep names that never occurred.
    ledger.operations.update({name: count for name, count in operations.items() if count})
    return result


# --- Element by element ---------------------------------------------------------------------------


def _elementwise(name: str, dtype: Any, *operands: Operand) -> CostArray:
    arrays = _arrays(*operands)
    shape = layouts.broadcast_shapes(*(x.shape for x in arrays))
    layout = layouts.alike(shape, *(x.layout for x in arrays))
    return _computed(arrays, layout, dtype, **{name: layout.size})


def _same_dtype(name: str) -> Callable[..., CostArray]:
    """An operation whose result has the dtype of its operands."""
    return lambda *operands: _elementwise(name, result_type(*operands), *operands)


def _real_valued(name: str) -> Callable[..., CostArray]:
    """An operation whose result is real, of integers in float64."""

    def operation(*operands: Operand) -> CostArray:
        dtype = result_type(*operands)
        real = dtype if isdtype(dtype, "real floating") else np.float64
        return _elementwise(name, real, *operands)

    return operation


def _boolean(name: str) -> Callable[..., CostArray]:
    """An operation whose result is True or False."""
    return lambda *operands: _elementwise(name, np.bool, *operands)


abs, add, ceil, floor, floor_divide = map(_same_dtype, "abs add ceil floor floor_divide".split())
maximum, minimum, multiply, negative = map(_same_dtype, "maximum minimum multiply negative".split())
pow, remainder, round, sign = map(_same_dtype, "pow remainder round sign".split())
square, subtract, trunc = map(_same_dtype, "square subtract trunc".split())
cos, divide, erfc, exp, log, log1p = map(_real_valued, "cos divide erfc exp log log1p".split())
sin, sqrt, tanh = map(_real_valued, "sin sqrt tanh".split())
equal, not_equal, greater, greater_equal = map(
    _boolean, "equal not_equal greater greater_equal".split()
)
less, less_equal, isfinite, isinf, isnan = map(
    _boolean, "less less_equal isfinite isinf isnan".split()
)
logical_and, logical_not, logical_or = map(_boolean, "logical_and logical_not logical_or".split())


def where(condition: CostArray, x: Operand, y: Operand) -> CostArray:
    return _elementwise("where", result_type(x, y), condition, x, y)


def clip(x: CostArray, min: Operand = None, max: Operand = None) -> CostArray:
    bounds = [bound for bound in (min, max) if bound is not None]
    return _elementwise("clip", x.dtype, x, *bounds)


# --- Reductions -----------------------------------------------------------------------------------


def _axes(x: CostArray, axis: int | Sequence[int] | None) -> set[int]:
    if axis is None:
        return set(range(x.ndim))
    return {normal(i, x.ndim) for i in ([axis] if isinstance(axis, int) else axis)}


def _reduced(
    name: str, x: CostArray, axis: Any, dtype: Any, *, keepdims: Any, divides: Any = False
) -> CostArray:
    axes = _axes(x, axis)
    shape = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    strides = tuple(0 if i in axes else stride for i, stride in enumerate(x.layout.strides))
    layout = layouts.alike(shape, MemoryLayout(shape, strides))
    beyond_the_first = builtins.max(x.size - layout.size, 0)
    operations = {name: beyond_the_first} | ({"divide": layout.size} if divides else {})
    result = _computed([x], layout, dtype, **operations)
    return result if keepdims else squeeze(result, tuple(sorted(axes)))


def _reduction(name: str, dtype: Any = None) -> Callable[..., CostArray]:
    def reduction(x: CostArray, *, axis: Any = None, keepdims: Any = False) -> CostArray:
        return _reduced(name, x, axis, dtype or x.dtype, keepdims=keepdims)

    return reduction


max, min = _reduction("maximum"), _reduction("minimum")
all, any = _reduction("logical_and", np.bool), _reduction("logical_or", np.bool)
argmax, argmin = _reduction("maximum", np.int64), _reduction("minimum", np.int64)


def sum(x: CostArray, *, axis: Any = None, dtype: Any = None, keepdims: Any = False) -> CostArray:
    own = x.dtype if isdtype(x.dtype, "real floating") else np.int64
    return _reduced("add", x, axis, dtype or own, keepdims=keepdims)


def mean(x: CostArray, *, axis: Any = None, keepdims: Any = False) -> CostArray:
    return _reduced("add", x, axis, x.dtype, keepdims=keepdims, divides=True)


def cumulative_sum(x: CostArray, *, axis: int = 0, dtype: Any = None) -> CostArray:
    sums = x.size - (x.size // x.shape[axis] if x.size else 0)
    return _computed([x], layouts.contiguous(x.shape), dtype or x.dtype, add=sums)


def argsort(x: CostArray, *, axis: int = -1, **_order: Any) -> CostArray:
    comparisons = x.size * math.ceil(math.log2(builtins.max(x.shape[axis], 1)))
    return _computed([x], layouts.contiguous(x.shape), np.int64, less=comparisons)


# --- Products of matrices -------------------------------------------------------------------------


def _product(inputs: Sequence[CostArray], layout: MemoryLayout, inner: int) -> CostArray:
    result = _computed(inputs, layout, result_type(*inputs))
    result.device.multiply_adds += layout.size * inner
    return result


def _require_equal(name: str, n: int, m: int) -> None:
    if n != m:
        raise ValueError(f"{name}: the axes summed over have sizes {n} and {m}")


def matmul(x: CostArray, y: CostArray) -> CostArray:
    _arrays(x, y)
    if x.ndim == 1:
        return matmul(expand_dims(x, axis=0), y)[..., 0, :] if y.ndim > 1 else vecdot(x, y)
    if y.ndim == 1:
        return matmul(x, expand_dims(y, axis=1))[..., 0]
    _require_equal("matmul", x.shape[-1], y.shape[-2])
    batch = layouts.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    layout = layouts.contiguous((*batch, x.shape[-2], y.shape[-1]))
    return _product([x, y], layout, x.shape[-1])


def vecdot(x: CostArray, y: CostArray, *, axis: int = -1) -> CostArray:
    x, y = moveaxis(x, axis, -1), moveaxis(y, axis, -1)
    _require_equal("vecdot", x.shape[-1], y.shape[-1])
    batch = layouts.broadcast_shapes(x.shape[:-1], y.shape[:-1])
    return _product([x, y], layouts.contiguous(batch), x.shape[-1])


def tensordot(x: CostArray, y: CostArray, *, axes: Any = 2) -> CostArray:
    if isinstance(axes, int):
        axes = range(x.ndim - axes, x.ndim), range(axes)
    left = [normal(i, x.ndim) for i in axes[0]]
    right = [normal(i, y.ndim) for i in axes[1]]
    for i, j in zip(left, right, strict=True):
        _require_equal("tensordot", x.shape[i], y.shape[j])
    outer = [n for i, n in enumerate(x.shape) if i not in left]
    outer += [n for i, n in enumerate(y.shape) if i not in right]
    inner = math.prod(x.shape[i] for i in left)
    return _product([x, y], layouts.contiguous(outer), inner)


def _inverse(name: str, x: CostArray) -> CostArray:
    *batch, n, m = x.shape
    layout = layouts.contiguous((*batch, m, n))
    return _computed([x], layout, x.dtype, **{name: x.size * builtins.min(n, m)})


def _pinv(x: CostArray, *, rtol: float | None = None) -> CostArray:
    return _inverse("pinv", x)


def _svd(x: CostArray, *, full_matrices: builtins.bool = True) -> tuple[CostArray, ...]:
    *batch, n, m = x.shape
    k = builtins.min(n, m)
    rows, columns = (n, m) if full_matrices else (k, k)
    left = _computed([x], layouts.contiguous((*batch, n, rows)), x.dtype, svd=x.size * k)
    sigma, right = (
        x.device.laid_out(layouts.contiguous((*batch, *shape)), x.dtype)
        for shape in ((k,), (columns, m))
    )
    x.device.bytes_written += (sigma.size + right.size) * x.dtype.itemsize
    return left, sigma, right


linalg = SimpleNamespace(inv=partial(_inverse, "inv"), pinv=_pinv, svd=_svd)


# --- Views ----------------------------------------------------------------------------------------


def permute_dims(x: CostArray, axes: Sequence[int]) -> CostArray:
    return x.view(layouts.permuted(x.layout, axes))


def matrix_transpose(x: CostArray) -> CostArray:
    return permute_dims(x, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


def moveaxis(x: CostArray, source: Any, destination: Any) -> CostArray:
    sources, destinations = (
        [normal(i, x.ndim) for i in ([axes] if isinstance(axes, int) else axes)]
        for axes in (source, destination)
    )
    order = [i for i in range(x.ndim) if i not in sources]
    for position, axis in sorted(zip(destinations, sources, strict=True)):
        order.insert(position, axis)
    return permute_dims(x, order)


def expand_dims(x: CostArray, *, axis: int) -> CostArray:
    axis = normal(axis, x.ndim + 1)
    return x[(*(slice(None),) * axis, None)]


def squeeze(x: CostArray, axis: Any) -> CostArray:
    axes = _axes(x, axis)
    if builtins.any(x.shape[i] != 1 for i in axes):
        raise ValueError(f"axes {sorted(axes)} of shape {x.shape} are not all of size 1")
    return x[tuple(0 if i in axes else slice(None) for i in range(x.ndim))]


def flip(x: CostArray, *, axis: Any = None) -> CostArray:
    axes = _axes(x, axis)
    return x[tuple(slice(None, None, -1) if i in axes else slice(None) for i in range(x.ndim))]


def broadcast_to(x: CostArray, shape: Shape) -> CostArray:
    return x.view(layouts.broadcast(x.layout, tuple(shape)))


def broadcast_arrays(*arrays: CostArray) -> list[CostArray]:
    shape = layouts.broadcast_shapes(*(x.shape for x in arrays))
    return [broadcast_to(x, shape) for x in arrays]


def unstack(x: CostArray, *, axis: int = 0) -> tuple[CostArray, ...]:
    front = moveaxis(x, axis, 0)
    return tuple(front[i] for i in range(len(front)))


# --- Copies ---------------------------------------------------------------------------------------


def _copied(inputs: Sequence[CostArray], layout: MemoryLayout) -> CostArray:
    return _computed(inputs, layout, result_type(*inputs))


def reshape(x: CostArray, shape: Sequence[int]) -> CostArray:
    full = layouts.full_shape(x.size, shape)
    view = layouts.reshaped(x.layout, full)
    return _copied([x], layouts.contiguous(full)) if view is None else x.view(view)


def concat(arrays: Sequence[CostArray], *, axis: int | None = 0) -> CostArray:
    if axis is None:
        return concat([reshape(x, (-1,)) for x in arrays], axis=0)
    arrays = _arrays(*arrays)
    axis = normal(axis, arrays[0].ndim)
    other_axes = {(*x.shape[:axis], *x.shape[axis + 1 :]) for x in arrays}
    if len(other_axes) != 1:
        raise ValueError(f"shapes {[x.shape for x in arrays]} do not join along axis {axis}")
    length = builtins.sum(x.shape[axis] for x in arrays)
    shape = (*arrays[0].shape[:axis], length, *arrays[0].shape[axis + 1 :])
    # Strides alone decide the order of axes in memory, so each operand may pretend to be as long.
    lengthened = [MemoryLayout(shape, x.layout.strides) for x in arrays]
    return _copied(arrays, layouts.alike(shape, *lengthened))


def stack(arrays: Sequence[CostArray], *, axis: int = 0) -> CostArray:
    return concat([expand_dims(x, axis=axis) for x in arrays], axis=axis)


def astype(x: CostArray, dtype: Any, *, copy: Any = True) -> CostArray:
    if not copy and x.dtype == np.dtype(dtype):
        return x
    return _computed([x], layouts.alike(x.shape, x.layout), dtype)


def take(x: CostArray, indices: CostArray, *, axis: int | None = None) -> CostArray:
    axis = normal(0 if axis is None else axis, x.ndim)
    shape = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
    return _gathered(x, indices, shape)


def take_along_axis(x: CostArray, indices: CostArray, *, axis: int = -1) -> CostArray:
    axis = normal(axis, x.ndim)
    shape = layouts.broadcast_shapes(
        *((*y.shape[:axis], 1, *y.shape[axis + 1 :]) for y in (x, indices))
    )
    return _gathered(x, indices, (*shape[:axis], indices.shape[axis], *shape[axis + 1 :]))


def _gathered(x: CostArray, indices: CostArray, shape: Shape) -> CostArray:
    """Read one element of x for each of the result."""
    layout = layouts.contiguous(shape)
    result = _computed([indices], layout, x.dtype)
    result.device.bytes_read += layout.size * x.dtype.itemsize
    return result


def scattered(g: CostArray, shape: Shape) -> CostArray:
    """Add every element of g to zeros, wherever they go: the gradient of a gather.

    One addition for each element, and memory for the result alone, as NumPy, CuPy, torch and JAX
    have it (`vtnp._array.scatter`).
    """
    return _computed([g], layouts.contiguous(shape), g.dtype, add=g.size)


def assign(target: CostArray, value: Operand) -> None:
    """Overwrite the elements of an array."""
    arrays = _arrays(value)
    layouts.broadcast(arrays[0].layout if arrays else layouts.contiguous(()), target.shape)
    ledger = target.device
    ledger.bytes_read += builtins.sum(x.layout.distinct * x.dtype.itemsize for x in arrays)
    ledger.bytes_written += target.size * target.dtype.itemsize


def repeat(x: CostArray, repeats: int, *, axis: int | None = None) -> CostArray:
    if axis is None:
        x, axis = reshape(x, (-1,)), 0
    axis = normal(axis, x.ndim)
    shape = (*x.shape[:axis], x.shape[axis] * repeats, *x.shape[axis + 1 :])
    return _copied([x], layouts.contiguous(shape))


def tile(x: CostArray, repetitions: Sequence[int]) -> CostArray:
    ndim = builtins.max(x.ndim, len(repetitions))
    sizes = (1,) * (ndim - x.ndim) + x.shape
    times = (1,) * (ndim - len(repetitions)) + tuple(repetitions)
    return _copied([x], layouts.contiguous(n * m for n, m in zip(sizes, times, strict=True)))


def roll(x: CostArray, shift: Any, *, axis: Any = None) -> CostArray:
    return _copied([x], layouts.alike(x.shape, x.layout))


def _triangle(x: CostArray, *, k: int = 0) -> CostArray:
    return _copied([x], layouts.alike(x.shape, x.layout))


tril = triu = _triangle


# --- New arrays -----------------------------------------------------------------------------------


def _new(shape: Any, dtype: Any, device: Ledger) -> CostArray:
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    array = device.array(shape, dtype)
    device.bytes_written += array.size * array.dtype.itemsize
    return array


def zeros(shape: Any, *, dtype: Any = np.float64, device: Ledger) -> CostArray:
    return _new(shape, dtype, device)


ones = zeros


def full(shape: Any, fill_value: Any, *, dtype: Any = None, device: Ledger) -> CostArray:
    return _new(shape, result_type(fill_value) if dtype is None else dtype, device)


def zeros_like(x: CostArray, *, dtype: Any = None) -> CostArray:
    layout = layouts.alike(x.shape, x.layout)
    array = x.device.laid_out(layout, x.dtype if dtype is None else dtype)
    x.device.bytes_written += array.size * array.dtype.itemsize
    return array


ones_like = zeros_like


def full_like(x: CostArray, fill_value: Any, *, dtype: Any = None) -> CostArray:
    return zeros_like(x, dtype=dtype)


def eye(n: int, m: int | None = None, *, dtype: Any = np.float64, device: Ledger) -> CostArray:
    return _new((n, n if m is None else m), dtype, device)


def arange(
    start: Any, stop: Any = None, step: Any = 1, *, dtype: Any = None, device: Ledger
) -> CostArray:
    start, stop = (0, start) if stop is None else (start, stop)
    size = builtins.max(0, math.ceil((stop - start) / step))
    return _new(size, result_type(start, stop, step) if dtype is None else dtype, device)


def linspace(
    start: Any,
    stop: Any,
    num: int,
    *,
    dtype: Any = np.float64,
    device: Ledger,
    endpoint: Any = True,
) -> CostArray:
    return _new(num, dtype, device)


def asarray(x: Any, *, dtype: Any = None, device: Ledger | None = None) -> CostArray:
    if isinstance(x, CostArray):
        return x if dtype is None else astype(x, dtype, copy=False)
    if device is None:
        raise TypeError("no argument is an array of vtnp.cost: pass device=")
    return _new(np.shape(x), np.asarray(x).dtype if dtype is None else dtype, device)


# --- What CostArray is set up with ----------------------------------------------------------------

CostArray.namespace = sys.modules[__name__]


def _operator(function: Callable[..., Any], *, swapped: Any = False) -> Callable[..., Any]:
    def operator(x: CostArray, other: Any) -> Any:
        if is_boxed(other):
            return NotImplemented
        return function(other, x) if swapped else function(x, other)

    return operator


for _name, _function in {
    "add": add, "sub": subtract, "mul": multiply, "truediv": divide, "floordiv": floor_divide,
    "mod": remainder, "pow": pow, "matmul": matmul, "and": logical_and, "or": logical_or,
}.items():  # fmt: skip
    setattr(CostArray, f"__{_name}__", _operator(_function))
    setattr(CostArray, f"__r{_name}__", _operator(_function, swapped=True))

for _name, _function in {
    "eq": equal, "ne": not_equal, "lt": less, "le": less_equal, "gt": greater, "ge": greater_equal,
}.items():  # fmt: skip
    setattr(CostArray, f"__{_name}__", _operator(_function))

for _name, _function in {"neg": negative, "abs": abs, "invert": logical_not}.items():
    setattr(CostArray, f"__{_name}__", _function)
