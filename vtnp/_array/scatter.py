"""Sums by index, the adjoints of `take` and `take_along_axis`, which the standard lacks.

Each library has its own, in time and memory of the size of what is summed: CuPy `add.at`, torch
`index_add` and `scatter_add`, JAX `at[].add`, Dask NumPy's in each block. On a GPU those of CuPy,
torch and JAX add by atomic operations, in an order that varies from run to run, and with it the
last digits of the sums. Any other library sorts the indices, and adds in the same order each time.
"""

import math
from typing import Any

import array_api_compat as compat

Array = Any


def slices_at(xp: Any, g: Array, indices: Array, n: int, axis: int) -> Array:
    """Add the slices of g along an axis where `take` found them, among n."""
    axis %= g.ndim
    if hasattr(xp, "scattered"):  # the cost reading, which has no indices to compare
        return xp.scattered(g, (*g.shape[:axis], n, *g.shape[axis + 1 :]))
    if compat.is_numpy_namespace(xp):
        return _by_sparse_product(xp, g, indices, n, axis)
    if compat.is_dask_namespace(xp):
        return _in_blocks(xp, g, indices, n, axis)
    shape = (*g.shape[:axis], n, *g.shape[axis + 1 :])
    if compat.is_torch_namespace(xp):
        return xp.index_add(_zeros(xp, shape, g), axis, xp.remainder(indices, n), g)
    if _adds_at_indices(xp):
        return _added(xp, _zeros(xp, shape, g), (*(slice(None),) * axis, indices), g)
    rows = xp.moveaxis(g, axis, 0)
    flat = xp.reshape(rows, (rows.shape[0], math.prod(rows.shape[1:])))
    sums = _by_sorting(xp, flat, xp.remainder(indices, n), n)
    return xp.moveaxis(xp.reshape(sums, (n, *rows.shape[1:])), 0, axis)


def elements_at(xp: Any, g: Array, indices: Array, shape: tuple[int, ...], axis: int) -> Array:
    """Add the elements of g where `take_along_axis` found them, in an array of that shape."""
    axis %= len(shape)
    n = shape[axis]
    if hasattr(xp, "scattered"):
        return xp.scattered(g, shape)
    if compat.is_numpy_namespace(xp) or _adds_at_indices(xp):
        # Axes of one element are broadcast, so that what they were stretched to is summed.
        return _added(xp, _zeros(xp, shape, g), _open_grid(xp, indices, shape, axis), g)
    full = (*g.shape[:axis], n, *g.shape[axis + 1 :])
    wrapped = xp.broadcast_to(xp.remainder(indices, n), g.shape)
    if compat.is_torch_namespace(xp):
        sums = xp.scatter_add(_zeros(xp, full, g), axis, xp.astype(wrapped, xp.int64), g)
    else:
        grid = _open_grid(xp, wrapped, full, axis)
        strides = [math.prod(full[i + 1 :]) for i in range(len(full))]
        flat = sum((part * stride for part, stride in zip(grid, strides, strict=True)), start=0)
        rows = xp.reshape(g, (math.prod(g.shape), 1))
        where = xp.reshape(xp.broadcast_to(flat, g.shape), (-1,))
        sums = xp.reshape(_by_sorting(xp, rows, where, math.prod(full)), full)
    stretched = tuple(i for i, size in enumerate(shape) if size != full[i])
    return xp.sum(sums, axis=stretched, keepdims=True) if stretched else sums


def _zeros(xp: Any, shape: tuple[int, ...], g: Array) -> Array:
    return xp.zeros(shape, dtype=g.dtype, device=compat.device(g))


def _adds_at_indices(xp: Any) -> bool:
    return bool(compat.is_cupy_namespace(xp) or compat.is_jax_namespace(xp))


def _added(xp: Any, total: Array, index: tuple[Any, ...], g: Array) -> Array:
    if compat.is_jax_namespace(xp):
        return total.at[index].add(g)
    xp.add.at(total, index, g)
    return total


def _open_grid(xp: Any, indices: Array, shape: tuple[int, ...], axis: int) -> tuple[Array, ...]:
    """Return the indices for one axis, and all positions for each of the others."""
    ndim, device = len(shape), compat.device(indices)
    return tuple(
        indices
        if i == axis
        else xp.reshape(
            xp.arange(size, dtype=indices.dtype, device=device),
            (1,) * i + (size,) + (1,) * (ndim - i - 1),
        )
        for i, size in enumerate(shape)
    )


def _by_sparse_product(xp: Any, g: Array, indices: Array, n: int, axis: int) -> Array:
    """Multiply by a matrix of ones at the indices, which need not be written out."""
    from scipy.sparse import csr_array

    rows, k = xp.moveaxis(g, axis, 0), len(indices)
    flat = xp.reshape(rows, (k, math.prod(rows.shape[1:])))
    # scipy knows no half precision, and sums of it are better off in single anyway.
    dtype = xp.result_type(g.dtype, xp.float32)
    hot = csr_array((xp.ones(k, dtype=dtype), indices % n, xp.arange(k + 1)), shape=(k, n))
    sums = xp.astype(hot.T @ xp.astype(flat, dtype), g.dtype)
    return xp.moveaxis(xp.reshape(sums, (n, *rows.shape[1:])), 0, axis)


def _in_blocks(xp: Any, g: Array, indices: Array, n: int, axis: int) -> Array:
    """Sum in each block of the other axes; that of the indices is in one piece."""
    import array_api_compat.numpy as host

    def in_block(g: Array, indices: Array) -> Array:
        return _by_sparse_product(host, g, indices, n, axis)

    labels = tuple(range(g.ndim))
    return xp.blockwise(
        in_block,
        tuple(g.ndim if label == axis else label for label in labels),
        g.rechunk({axis: -1}),
        labels,
        indices.rechunk(-1),
        (axis,),
        new_axes={g.ndim: n},
        concatenate=True,
        dtype=g.dtype,
    )


def _by_sorting(xp: Any, rows: Array, indices: Array, n: int) -> Array:
    """Sort rows by index, sum those of one index pairwise, and put the sums in their places."""
    k = rows.shape[0]
    if k == 0 or n == 0:
        return _zeros(xp, (n, *rows.shape[1:]), rows)
    order = xp.argsort(indices)
    indices, rows = xp.take(indices, order, axis=0), xp.take(rows, order, axis=0)
    step = 1
    while step < k:  # each row becomes the sum of up to 2 step rows that end with it
        same = xp.expand_dims(xp.equal(indices[step:], indices[:-step]), axis=-1)
        sums = xp.add(
            rows[step:, :], xp.where(same, rows[:-step, :], xp.zeros_like(rows[:-step, :]))
        )
        rows = xp.concat([rows[:step, :], sums], axis=0)
        step *= 2
    number = xp.arange(n, dtype=indices.dtype, device=compat.device(indices))
    last = xp.searchsorted(indices, number, side="right") - 1
    last = xp.maximum(last, xp.zeros_like(last))
    found = xp.expand_dims(xp.equal(xp.take(indices, last, axis=0), number), axis=-1)
    sums = xp.take(rows, last, axis=0)
    return xp.where(found, sums, xp.zeros_like(sums))
