"""Shapes as written in signatures, and the check of a call against them.

A shape is a sequence of axes: a name ("t"), a number ("2"), any batch axes ("*b"), or axes that
broadcast against the batch axes ("*#b", for masks). An axis whose name begins with an underscore
("_n") has any size.
"""

import typing
from collections.abc import Mapping, Sequence
from functools import cache
from types import NoneType, UnionType
from typing import Any, NamedTuple

Bound = dict[str, int | tuple[int, ...]]


class Shape(NamedTuple):
    """One parsed shape string: fixed axes before and after at most one row of batch axes."""

    text: str
    before: tuple[str, ...]
    row: str | None
    broadcasts: bool
    after: tuple[str, ...]

    @property
    def axes(self) -> tuple[str, ...]:
        """The names of its axes, less those that are numbers and the batch axes."""
        return tuple(axis for axis in self.before + self.after if not axis.isdigit())


class Argument(NamedTuple):
    """One array of a signature: its name, kind ("float", "int", "bool"), shape, and need."""

    name: str
    kind: str
    shape: Shape
    optional: bool


@cache
def parse(text: str) -> Shape:
    """Split a shape string into its axes."""
    axes = text.split()
    rows = [i for i, axis in enumerate(axes) if axis.startswith("*")]
    if len(rows) > 1:
        raise ValueError(f"shape {text!r}: at most one row of batch axes")
    if not rows:
        return Shape(text, tuple(axes), None, False, ())
    row = axes[rows[0]]
    return Shape(
        text,
        tuple(axes[: rows[0]]),
        row.lstrip("*#"),
        "#" in row,
        tuple(axes[rows[0] + 1 :]),
    )


def is_unknown(size: float) -> bool:
    """An axis of unknown length (Dask has them after a data-dependent operation) fits any other."""
    return size != size  # noqa: PLR0124


def _fits(row: tuple[int, ...], onto: tuple[int, ...], *, broadcasts: bool) -> bool:
    tail = onto[max(0, len(onto) - len(row)) :] if broadcasts else onto
    return len(row) == len(tail) and all(
        a == b or (broadcasts and a == 1) or is_unknown(a) or is_unknown(b)
        for a, b in zip(row, tail, strict=True)
    )


def bind(shape: Shape, sizes: tuple[int, ...], bound: Bound) -> str | None:
    """Bind the axes of a shape to sizes; return what is wrong, None where nothing is."""
    fixed = len(shape.before) + len(shape.after)
    if len(sizes) < fixed or (shape.row is None and len(sizes) != fixed):
        more, noun = (" or more", "axes") if shape.row else ("", "axis" if fixed == 1 else "axes")
        return f"expected {fixed}{more} {noun}, got {len(sizes)}"
    end = len(sizes) - len(shape.after)
    axes = zip(shape.before + shape.after, sizes[: len(shape.before)] + sizes[end:], strict=True)
    for axis, size in axes:
        if axis.startswith("_"):
            continue
        expected: Any = int(axis) if axis.isdigit() else bound.setdefault(axis, size)
        if is_unknown(expected):
            bound[axis] = size
        elif size != expected and not is_unknown(size):
            return f"axis {axis} has size {size}, expected {expected}"
    if shape.row is not None:
        row = tuple(sizes[len(shape.before) : end])
        onto: Any = bound.setdefault(shape.row, row)
        if not _fits(row, onto, broadcasts=shape.broadcasts):
            if shape.broadcasts:
                return f"batch axes {row} do not broadcast onto {shape.row}={onto}"
            return f"batch axes {shape.row} are {row}, expected {onto}"
    return None


def bound_as_text(bound: Mapping[str, Any]) -> str:
    """Write the axes bound so far as text."""
    return ", ".join(f"{axis}={size}" for axis, size in bound.items()) or "none"


def kind_of(dtype: Any) -> str:
    """Return "float", "int", "bool", "complex" or the dtype's own name."""
    name = dtype_name(dtype)
    return next((kind for kind, starts in _KINDS.items() if name.startswith(starts)), name)


def alternatives(hint: Any) -> tuple[Any, ...]:
    """Return the members of a union; a type hint that is none, alone."""
    # `Literal["a"] | None` is typing's own union, `int | None` is Python's.
    is_union = typing.get_origin(hint) in (UnionType, typing.Union)
    return typing.get_args(hint) if is_union else (hint,)


def argument_of(name: str, hint: Any) -> Argument | None:
    """Return the array that a type hint means, None where it means none."""
    options = alternatives(hint)
    for option in options:
        text = getattr(option, "dim_str", None)
        if text is not None:
            optional = NoneType in options
            return Argument(name, kind_of(option.dtypes[-1]), parse(text), optional)
    return None


def sequence_of(name: str, hint: Any) -> Argument | None:
    """Return the array that each member of a sequence is; None for a type hint of another kind."""
    if typing.get_origin(hint) is not Sequence:
        return None
    return argument_of(name, typing.get_args(hint)[0])


def has_other_meaning(x: Any) -> bool:
    """Tell whether x is one of NumPy's matrices or masked arrays, whose operators are others.

    They would change the formula without a word.
    """
    return not _OTHER_MEANINGS.isdisjoint(each.__name__ for each in type(x).__mro__)


def dtype_name(dtype: Any) -> str:
    """Return the name that all libraries share: "float32" for torch.float32."""
    return str(getattr(dtype, "name", None) or str(dtype).rsplit(".", 1)[-1])


_OTHER_MEANINGS = {"matrix", "MaskedArray"}
_KINDS: dict[str, tuple[str, ...]] = {
    "float": ("float", "bfloat"),
    "int": ("int", "uint"),
    "bool": ("bool",),
    "complex": ("complex",),
}
