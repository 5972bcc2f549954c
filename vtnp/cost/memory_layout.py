"""Where the elements of an array lie in memory, and which of NumPy's results are views.

Strides are counted in elements. Sizes are Python integers, so that no array is too large.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise, zip_longest
from typing import Any, NamedTuple

Shape = tuple[int, ...]


class MemoryLayout(NamedTuple):
    """The sizes of an array's axes, and the stride along each."""

    shape: Shape
    strides: Shape

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def distinct(self) -> int:
        """The number of elements in memory: along a broadcast axis one element is repeated."""
        axes = zip(self.shape, self.strides, strict=True)
        return math.prod(n for n, stride in axes if stride != 0 or n == 0)


def contiguous(shape: Iterable[int]) -> MemoryLayout:
    """Return the layout of a new array, the last axis fastest."""
    return in_order(tuple(shape), None)


def in_order(shape: Shape, axes: Sequence[int] | None) -> MemoryLayout:
    """Return the layout of a new array whose axes have that order in memory, the slowest first."""
    strides, stride = [0] * len(shape), 1
    for axis in reversed(range(len(shape)) if axes is None else axes):
        strides[axis] = stride
        stride *= shape[axis]
    return MemoryLayout(shape, tuple(strides))


def normal(axis: int, ndim: int) -> int:
    """Count an axis from the front."""
    if not -ndim <= axis < ndim:
        raise ValueError(f"axis {axis} is out of bounds for an array of {ndim} axes")
    return axis % ndim


def permuted(x: MemoryLayout, axes: Sequence[int]) -> MemoryLayout:
    """Put the axes in another order."""
    axes = [normal(axis, len(x.shape)) for axis in axes]
    if sorted(axes) != list(range(len(x.shape))):
        raise ValueError(f"axes {tuple(axes)} are not a permutation of {len(x.shape)} axes")
    return MemoryLayout(tuple(x.shape[i] for i in axes), tuple(x.strides[i] for i in axes))


def broadcast_shapes(*shapes: Shape) -> Shape:
    """Return the shape that shapes broadcast to together."""
    result = []
    for sizes in zip_longest(*(reversed(shape) for shape in shapes), fillvalue=1):
        wide = {n for n in sizes if n != 1}
        if len(wide) > 1:
            raise ValueError(f"shapes {', '.join(map(str, shapes))} do not broadcast together")
        result.append(wide.pop() if wide else 1)
    return tuple(reversed(result))


def broadcast(x: MemoryLayout, shape: Shape) -> MemoryLayout:
    """Repeat an array along new axes and axes of size 1."""
    if broadcast_shapes(x.shape, shape) != shape:
        raise ValueError(f"shape {x.shape} does not broadcast to {shape}")
    new = len(shape) - len(x.shape)
    old = zip(x.shape, x.strides, shape[new:], strict=True)
    return MemoryLayout(shape, (0,) * new + tuple(0 if n != m else stride for n, stride, m in old))


def reshaped(x: MemoryLayout, shape: Shape) -> MemoryLayout | None:
    """Return the layout of a view of another shape; None where NumPy would have to copy.

    Axes fall into groups of the same size before and after. A group is a view where the stride of
    each of its old axes spans the whole of the next.
    """
    if x.size in {0, 1}:
        return contiguous(shape)
    old = [(n, stride) for n, stride in zip(x.shape, x.strides, strict=True) if n != 1]
    strides: list[int] = []
    i = j = 0
    while j < len(shape):
        if shape[j] == 1:
            strides.append(0)
            j += 1
            continue
        first, start = i, j
        before, after = old[i][0], shape[j]
        while before != after:
            if before < after:
                i += 1
                before *= old[i][0]
            else:
                j += 1
                after *= shape[j]
        group = old[first : i + 1]
        if any(a[1] != b[0] * b[1] for a, b in pairwise(group)):
            return None
        inner = contiguous(shape[start : j + 1]).strides
        strides += [stride * group[-1][1] for stride in inner]
        i, j = i + 1, j + 1
    return MemoryLayout(shape, tuple(strides))


def full_shape(size: int, shape: Sequence[int]) -> Shape:
    """Fill in the -1 of a new shape, and check that the sizes agree."""
    known = math.prod(n for n in shape if n != -1)
    unknown = sum(n == -1 for n in shape)
    if unknown == 1 and known > 0 and size % known == 0:
        return tuple(size // known if n == -1 else n for n in shape)
    if unknown or known != size or min(shape, default=0) < 0:
        raise ValueError(f"{size} elements do not fill the shape {tuple(shape)}")
    return tuple(shape)


def indexed(x: MemoryLayout, index: Any) -> MemoryLayout:
    """Return the layout of x[index] for a basic index: integers, slices, None and an ellipsis."""
    entries = list(index) if isinstance(index, tuple) else [index]
    indexed_axes = sum(entry is not None and entry is not ... for entry in entries)
    rest = [slice(None)] * (len(x.shape) - indexed_axes)
    at = next((i for i, entry in enumerate(entries) if entry is ...), None)
    entries = [*entries, *rest] if at is None else [*entries[:at], *rest, *entries[at + 1 :]]
    shape, strides = [], []
    axes = iter(zip(x.shape, x.strides, strict=True))
    for entry in entries:
        if entry is None:
            shape.append(1)
            strides.append(0)
            continue
        n, stride = next(axes, (0, 0))
        if isinstance(entry, slice):
            start, stop, step = entry.indices(n)
            shape.append(max(0, -((start - stop) // step)))  # len(range(...)) of any size
            strides.append(stride * step)
        elif isinstance(entry, int) and not isinstance(entry, bool) and -n <= entry < n:
            continue
        else:
            reason = "out of bounds" if isinstance(entry, int) else "no basic index"
            raise IndexError(f"index {entry!r} is {reason} for an axis of size {n}")
    return MemoryLayout(tuple(shape), tuple(strides))


def alike(shape: Shape, *operands: MemoryLayout) -> MemoryLayout:
    """Return the layout that NumPy gives the result of an elementwise operation.

    Axes keep the order that the operands have in memory. Where the operands disagree or do not
    say, the result keeps the order of its axes.
    """
    strides_of_operands = [broadcast(x, shape).strides for x in operands]
    order: list[int] = []  # the fastest first
    for axis in reversed(range(len(shape))):
        position = len(order)
        for i in reversed(range(len(order))):
            slower = _is_slower(axis, order[i], shape, strides_of_operands)
            if slower is None:
                continue
            if slower:
                break
            position = i
        order.insert(position, axis)
    return in_order(shape, order[::-1])


def _is_slower(axis: int, later: int, shape: Shape, operands: list[Shape]) -> bool | None:
    """Return whether an axis has a larger stride than a later one; None where no operand says.

    operands: the strides of each.
    """
    verdict = None
    for strides in operands:
        later_stride, stride = abs(strides[later]), abs(strides[axis])
        if later_stride == 0 or stride == 0 or shape[axis] == 1 or shape[later] == 1:
            continue
        if later_stride <= stride:
            return True
        verdict = False
    return verdict
