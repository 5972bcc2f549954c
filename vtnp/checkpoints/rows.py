"""One tensor of a published checkpoint, and the params that it holds: a row of a layout's table.

Axes are written as words, theirs before the arrow and ours behind it, e.g.
"(heads d_h) d -> heads d d_h": axes in brackets are one axis of the array, the last running
fastest, and 1 is an axis of a single entry. Read backwards it is the way back. All that happens to
an array is that it is cut, reshaped and permuted, so that gradients pass through as well as
weights.
"""

import math
import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import NamedTuple

from vtnp._array.typing import Array
from vtnp._array.xp import namespace

Shape = tuple[int, ...]
Sizes = Mapping[str, int]
_Groups = tuple[tuple[str, ...], ...]


class Part(NamedTuple):
    """Where in our params a part of their tensor is, and how its axes stand there and here."""

    path: str
    axes: str


class Row(NamedTuple):
    """A tensor of theirs.

    name: there, with {i} for the number of a layer; the same in the paths. parts: in their order
    along the axis. copies: other names under which they may have the same tensor once more.
    unread: why our params may lack some of the parts; those are not read, and written as zeros as
    large as the first part.
    """

    name: str
    parts: tuple[Part, ...]
    axis: int = 0
    copies: tuple[str, ...] = ()
    unread: str = ""

    def at(self, i: int) -> "Row":
        """Return the row of layer i."""

        def numbered(text: str) -> str:
            return text.replace("{i}", str(i))

        parts = tuple(Part(numbered(part.path), part.axes) for part in self.parts)
        return self._replace(
            name=numbered(self.name), parts=parts, copies=tuple(map(numbered, self.copies))
        )


# --- Axes -----------------------------------------------------------------------------------------


def shape_there(axes: str, shape_here: Shape, sizes: Sizes) -> Shape:
    """Return the shape that our array has there; sizes are of axes that ours does not tell."""
    there, here = _parsed(axes)
    return _shape(there, _bound(here, shape_here, sizes))


def to_here(x: Array, axes: str, shape_here: Shape, sizes: Sizes) -> Array:
    """Turn their array into ours."""
    there, here = _parsed(axes)
    return _turned(x, there, here, _bound(here, shape_here, sizes))


def to_there(x: Array, axes: str, shape_here: Shape, sizes: Sizes) -> Array:
    """Turn our array into theirs."""
    there, here = _parsed(axes)
    return _turned(x, here, there, _bound(here, shape_here, sizes))


@cache
def _parsed(axes: str) -> tuple[_Groups, _Groups]:
    there, here = (
        tuple(
            tuple(name for name in group.strip("()").split() if name != "1")
            for group in re.findall(r"\([^)]*\)|\S+", side)
        )
        for side in axes.split("->")
    )
    return there, here


def _bound(groups: _Groups, shape: Shape, sizes: Sizes) -> dict[str, int]:
    """Return the size of every single axis; in each group at most one may be unknown."""
    known = dict(sizes)
    for group, size in zip(groups, shape, strict=True):
        unknown = [name for name in group if name not in known]
        if unknown:
            (name,) = unknown
            known[name] = size // math.prod(known[each] for each in group if each != name)
    return known


def _shape(groups: _Groups, sizes: Sizes) -> Shape:
    return tuple(math.prod(sizes[name] for name in group) for group in groups)


def _turned(x: Array, source: _Groups, target: _Groups, sizes: Sizes) -> Array:
    xp = namespace(x)
    before, after = ([name for group in groups for name in group] for groups in (source, target))
    x = xp.reshape(x, tuple(sizes[name] for name in before))
    x = xp.permute_dims(x, tuple(before.index(name) for name in after))
    return xp.reshape(x, _shape(target, sizes))


# --- Rows that many layouts share -----------------------------------------------------------------


def row(name: str, path: str, axes: str) -> Row:
    """Write a tensor that is a single param."""
    return Row(name, (Part(path, axes),))


def norm(there: str, here: str, weight: str = ".weight", bias: str = ".bias") -> list[Row]:
    """Write a layer norm."""
    return [
        row(f"{there}{weight}", f"{here}.gamma", "d -> d"),
        row(f"{there}{bias}", f"{here}.beta", "d -> d"),
    ]


def linear(there: str, here: str, number: str = "") -> list[Row]:
    """Write a torch.nn.Linear; here, W and b may have a number."""
    return [
        row(f"{there}.weight", f"{here}.W{number}", "d_out d_in -> d_in d_out"),
        row(f"{there}.bias", f"{here}.b{number}", "d_out -> d_out"),
    ]


def feed_forward(first: str, second: str, here: str) -> list[Row]:
    """Write the two linear maps of a feed-forward network."""
    return [*linear(first, here, "_1"), *linear(second, here, "_2")]


_OF_HEADS = "(heads d_h) d -> heads d d_h"
_BIAS_OF_HEADS = "(heads d_h) -> heads d_h"


def stacked(there: str, here: str, letters: str, unread: str = "") -> list[Row]:
    """Write linear maps whose rows are those of each letter, in each head after head."""
    return [
        Row(
            f"{there}.{kind}",
            tuple(Part(f"{here}.{ours}_{letter}", axes) for letter in letters),
            unread=unread,
        )
        for kind, ours, axes in (("weight", "W", _OF_HEADS), ("bias", "b", _BIAS_OF_HEADS))
    ]


def merge(there: str, here: str) -> list[Row]:
    """Write the linear map behind the heads; its columns are head after head."""
    return [
        row(f"{there}.weight", f"{here}.W_c", "d (heads d_h) -> heads d_h d"),
        row(f"{there}.bias", f"{here}.b_c", "d -> d"),
    ]


def attention(there: Mapping[str, str], here: str) -> list[Row]:
    """Write the linear maps of an attention by their letters: "qkv", or "q", "k", "v"; and "c"."""
    rows: list[Row] = []
    for letters, name in there.items():
        rows += merge(name, here) if letters == "c" else stacked(name, here, letters)
    return rows


def under(prefix: str, rows: Iterable[Row]) -> list[Row]:
    """Put a prefix before all names of theirs."""
    return [
        each._replace(name=prefix + each.name, copies=tuple(prefix + copy for copy in each.copies))
        for each in rows
    ]
