"""Where the elements of an array lie: shapes and strides, and what of NumPy's arrays is a view.

Strides are counted in elements. Sizes are Python's whole numbers, so that no array is too large.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise, zip_longest
from typing import Any, NamedTuple

Shape = tuple[int, ...]


class Layout(NamedTuple):
    """The sizes of an array's axes and the steps between neighbours along each."""

    shape: Shape
    strides: Shape

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def distinct(self) -> int:
        """How many elements there are in memory: an axis that was broadcast repeats one."""
        axes = zip(self.shape, self.strides, strict=True)
        return math.prod(n for n, step in axes if step != 0 or n == 0)


def contiguous(shape: Iterable[int]) -> Layout:
    """Return the layout of a new array, the last axis fastest."""
    return in_order(tuple(shape), None)


def in_order(shape: Shape, axes: Sequence[int] | None) -> Layout:
    """Return the layout of a new array whose axes lie in that order, the slowest first."""
    strides, step = [0] * len(shape), 1
    for axis in reversed(range(len(shape)) if axes is None else axes):
        strides[axis] = step
        step *= shape[axis]
    return Layout(shape, tuple(strides))


def normal(axis: int, ndim: int) -> int:
    """Count an axis from the front."""
    if not -ndim <= axis < ndim:
        raise ValueError(f"axis {axis} is out of bounds for an array of {ndim} axes")
    return axis % ndim


def permuted(x: Layout, axes: Sequence[int]) -> Layout:
    """Put the axes in another order."""
    axes = [normal(axis, len(x.shape)) for axis in axes]
    if sorted(axes) != list(range(len(x.shape))):
        raise ValueError(f"axes {tuple(axes)} are no order of {len(x.shape)} axes")
    return Layout(tuple(x.shape[i] for i in axes), tuple(x.strides[i] for i in axes))


def broadcast_shapes(*shapes: Shape) -> Shape:
    """Return the shape that shapes broadcast to together."""
    result = []
    for sizes in zip_longest(*(reversed(shape) for shape in shapes), fillvalue=1):
        wide = {n for n in sizes if n != 1}
        if len(wide) > 1:
            raise ValueError(f"shapes {', '.join(map(str, shapes))} do not broadcast together")
        result.append(wide.pop() if wide else 1)
    return tuple(reversed(result))


def broadcast(x: Layout, shape: Shape) -> Layout:
    """Repeat an array along new axes and axes of size 1."""
    if broadcast_shapes(x.shape, shape) != shape:
        raise ValueError(f"shape {x.shape} does not broadcast to {shape}")
    new = len(shape) - len(x.shape)
    old = zip(x.shape, x.strides, shape[new:], strict=True)
    return Layout(shape, (0,) * new + tuple(0 if n != m else step for n, step, m in old))


def reshaped(x: Layout, shape: Shape) -> Layout | None:
    """Return the view of another shape; None where NumPy would have to copy.

    Axes fall into runs of the same size before and after; a run is a view where each of its old
    axes steps over the whole of the next.
    """
    if x.size in {0, 1}:
        return contiguous(shape)
    old = [(n, step) for n, step in zip(x.shape, x.strides, strict=True) if n != 1]
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
        run = old[first : i + 1]
        if any(a[1] != b[0] * b[1] for a, b in pairwise(run)):
            return None
        inner = contiguous(shape[start : j + 1]).strides
        strides += [step * run[-1][1] for step in inner]
        i, j = i + 1, j + 1
    return Layout(shape, tuple(strides))


def full_shape(size: int, shape: Sequence[int]) -> Shape:
    """Fill in the -1 of a shape to be, and see that the sizes agree."""
    known = math.prod(n for n in shape if n != -1)
    unknown = sum(n == -1 for n in shape)
    if unknown == 1 and known > 0 and size % known == 0:
        return tuple(size // known if n == -1 else n for n in shape)
    if unknown or known != size or min(shape, default=0) < 0:
        raise ValueError(f"{size} elements do not fill the shape {tuple(shape)}")
    return tuple(shape)


def indexed(x: Layout, index: Any) -> Layout:
    """Take a basic index: whole numbers, slices, None and an ellipsis."""
    entries = list(index) if isinstance(index, tuple) else [index]
    taking = sum(entry is not None and entry is not ... for entry in entries)
    rest = [slice(None)] * (len(x.shape) - taking)
    at = next((i for i, entry in enumerate(entries) if entry is ...), None)
    entries = [*entries, *rest] if at is None else [*entries[:at], *rest, *entries[at + 1 :]]
    shape, strides = [], []
    axes = iter(zip(x.shape, x.strides, strict=True))
    for entry in entries:
        if entry is None:
            shape.append(1)
            strides.append(0)
            continue
        n, step = next(axes, (0, 0))
        if isinstance(entry, slice):
            places = range(*entry.indices(n))
            shape.append(len(places))
            strides.append(step * places.step)
        elif isinstance(entry, int) and not isinstance(entry, bool) and -n <= entry < n:
            continue
        else:
            what = "out of bounds" if isinstance(entry, int) else "no basic index"
            raise IndexError(f"index {entry!r} is {what} for an axis of size {n}")
    return Layout(tuple(shape), tuple(strides))


def alike(shape: Shape, *operands: Layout) -> Layout:
    """Return the layout that NumPy gives the result of an elementwise operation.

    Axes keep the order in which the operands have them in memory; where operands contradict each
    other or say nothing, the order of the axes.
    """
    stepping = [broadcast(x, shape).strides for x in operands]
    order: list[int] = []  # the fastest first
    for axis in reversed(range(len(shape))):
        place = len(order)
        for i in reversed(range(len(order))):
            slower = _is_slower(axis, order[i], shape, stepping)
            if slower is None:
                continue
            if slower:
                break
            place = i
        order.insert(place, axis)
    return in_order(shape, order[::-1])


def _is_slower(axis: int, other: int, shape: Shape, stepping: list[Shape]) -> bool | None:
    """Tell whether an axis lies outside one behind it; None where no operand tells."""
    verdict = None
    for strides in stepping:
        near, far = abs(strides[other]), abs(strides[axis])
        if near == 0 or far == 0 or shape[axis] == 1 or shape[other] == 1:
            continue
        if near <= far:
            return True
        verdict = False
    return verdict
