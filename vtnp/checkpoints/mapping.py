"""Params out of the tensors of a layout, and back; what does not fit is listed, all of it."""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from vtnp._array import trees
from vtnp._array.typing import Array
from vtnp._array.xp import device, namespace
from vtnp.checkpoints.rows import Part, Row, Shape, Sizes, shape_there, to_here, to_there


@dataclass(frozen=True)
class Layout:
    """How one publisher lays out the weights of one config.

    rows: of all params that their checkpoints can hold; those whose params a config does not have
    are left out. sizes: of axes that our arrays do not tell. ignored: what else a checkpoint holds,
    names with *, each with the reason why it is not needed. refused: likewise, with the reason why
    our model cannot do without it and has no place for it. alone: our params that have no
    counterpart there, by the first word of their path, with the reason. prefixes: that files may
    have before names.
    """

    rows: tuple[Row, ...]
    sizes: Sizes = field(default_factory=dict)
    ignored: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    alone: Mapping[str, str] = field(default_factory=dict)
    prefixes: tuple[str, ...] = ()


class Problem(NamedTuple):
    """What is wrong with one key.

    kind: "unknown", "missing", "mis-shaped", "no float", "contradicting" (two names of one tensor,
    with different numbers), "refused" (with a reason), and "without counterpart" (a param).
    """

    kind: str
    name: str
    told: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r}: {self.told}"


class LayoutError(ValueError):
    """Tensors or params that do not fit a layout; `problems` lists every one of them."""

    def __init__(self, what: str, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        number = f"{len(self.problems)} key{'s' if len(self.problems) > 1 else ''}"
        super().__init__("\n  ".join([f"{what}: {number} wrong", *map(str, self.problems)]))


def names_there(layout: Layout, skeleton: Any) -> dict[str, Shape]:
    """Return the names and shapes that the layout has for params shaped as the skeleton's."""
    return {place.row.name: place.shape for place in _placed(layout, _shapes(skeleton))}


def to_params(
    layout: Layout,
    skeleton: Any,
    tensors: Mapping[str, Any],
    *,
    beside: Any = None,
    what: str = "tensors",
) -> Any:
    """Return params shaped as the skeleton's out of their tensors.

    beside: a tree of params that come from the caller; what tensors there are for them is left
    aside.
    Raises LayoutError.
    """
    shapes, own = _shapes(skeleton), dict(trees.tree_leaves(beside))
    placed = _placed(layout, shapes)
    used = [place for place in placed if not own.keys() >= place.paths.keys()]
    problems = [
        *_unlike({path: x.shape for path, x in own.items()}, shapes),
        *_without_counterpart(layout, shapes, placed, own),
        *_unfit(layout, placed, used, tensors),
    ]
    if problems:
        raise LayoutError(what, problems)
    arrays: dict[str, Any] = {}
    for place in used:
        name = next(name for name in place.names if name in tensors)
        arrays |= place.cut(tensors[name])
    return _filled(skeleton, arrays | own)


def to_tensors(
    layout: Layout, skeleton: Any, params: Any, *, what: str = "params"
) -> dict[str, Array]:
    """Return their tensors by name, out of params shaped as the skeleton's.

    Raises LayoutError.
    """
    shapes, arrays = _shapes(skeleton), dict(trees.tree_leaves(params))
    placed = _placed(layout, shapes)
    given = {path: tuple(x.shape) for path, x in arrays.items()}
    missing = [
        Problem("missing", path, f"expected {shapes[path]}") for path in shapes if path not in given
    ]
    left = {path: "" for path in shapes if path.partition(".")[0] in layout.alone}
    problems = [
        *_unlike(given, shapes),
        *missing,
        *_without_counterpart(layout, shapes, placed, left),
    ]
    if problems:
        raise LayoutError(what, problems)
    return {place.row.name: place.joined(arrays) for place in placed}


# --- Places ---------------------------------------------------------------------------------------


class _Piece(NamedTuple):
    """A part, and its shapes; here is None where our params lack it."""

    part: Part
    here: Shape | None
    there: Shape


@dataclass(frozen=True)
class _Place:
    """A row whose shapes are known."""

    row: Row
    pieces: tuple[_Piece, ...]
    sizes: Sizes

    @property
    def names(self) -> tuple[str, ...]:
        return (self.row.name, *self.row.copies)

    @property
    def paths(self) -> dict[str, Shape]:
        return {piece.part.path: piece.here for piece in self.pieces if piece.here is not None}

    @property
    def shape(self) -> Shape:
        axis, shape = self.row.axis, self.pieces[0].there
        whole = sum(piece.there[axis] for piece in self.pieces)
        return (*shape[:axis], whole, *shape[axis + 1 :])

    def cut(self, x: Array) -> dict[str, Array]:
        """Return our params out of their tensor."""
        arrays, begin, before = {}, 0, (slice(None),) * self.row.axis
        for (path, axes), here, there in self.pieces:
            end = begin + there[self.row.axis]
            if here is not None:
                y = x[(*before, slice(begin, end), ...)]
                arrays[path] = to_here(y, axes, here, self.sizes)
            begin = end
        return arrays

    def joined(self, arrays: Mapping[str, Array]) -> Array:
        """Return their tensor out of our params; zeros where they have no part."""
        known = [
            None if here is None else to_there(arrays[path], axes, here, self.sizes)
            for (path, axes), here, _ in self.pieces
        ]
        like = next(x for x in known if x is not None)
        xp = namespace(like)
        pieces = [
            xp.zeros(piece.there, dtype=like.dtype, device=device(like)) if x is None else x
            for x, piece in zip(known, self.pieces, strict=True)
        ]
        return pieces[0] if len(pieces) == 1 else xp.concat(pieces, axis=self.row.axis)


def _placed(layout: Layout, shapes: Mapping[str, Shape]) -> list[_Place]:
    """Return the rows that hold params of these shapes, in the table's order."""
    numbers = [int(word) for path in shapes for word in path.split(".") if word.isdigit()]
    places = []
    for pattern in layout.rows:
        layers = range(max(numbers, default=-1) + 1) if "{i}" in pattern.name else range(1)
        for row in map(pattern.at, layers):
            here = [shapes.get(part.path) for part in row.parts]
            there = [shape is not None for shape in here]
            if any(there) if row.unread else all(there):
                places.append(_place(row, here, layout.sizes))
    return places


def _place(row: Row, here: list[Shape | None], sizes: Sizes) -> _Place:
    pieces: list[_Piece] = []
    for part, shape in zip(row.parts, here, strict=True):
        there = pieces[0].there if shape is None else shape_there(part.axes, shape, sizes)
        pieces.append(_Piece(part, shape, there))
    return _Place(row, tuple(pieces), sizes)


def _shapes(skeleton: Any) -> dict[str, Shape]:
    return {path: tuple(x.shape) for path, x in trees.tree_leaves(skeleton)}


def _filled(skeleton: Any, arrays: Mapping[str, Any], path: str = "") -> Any:
    """Return the skeleton with the arrays of those paths in it."""
    front = f"{path}." if path else ""
    if isinstance(skeleton, Mapping):
        return {key: _filled(x, arrays, f"{front}{key}") for key, x in skeleton.items()}
    if isinstance(skeleton, list | tuple):
        return [_filled(x, arrays, f"{front}{i}") for i, x in enumerate(skeleton)]
    return arrays[path]


# --- What does not fit ----------------------------------------------------------------------------


def _unlike(given: Mapping[str, Shape], shapes: Mapping[str, Shape]) -> list[Problem]:
    """Return what is wrong with params that the caller gives."""
    near, problems = _Near(shapes), []
    for path, shape in given.items():
        if path not in shapes:
            problems.append(Problem("unknown", path, f"a param of shape {shape}{near(path)}"))
        elif tuple(shape) != shapes[path]:
            told = f"expected {shapes[path]}, found {tuple(shape)}"
            problems.append(Problem("mis-shaped", path, told))
    return problems


def _without_counterpart(
    layout: Layout, shapes: Mapping[str, Shape], placed: list[_Place], own: Mapping[str, Any]
) -> list[Problem]:
    there = {path for place in placed for path in place.paths}
    return [
        Problem(
            "without counterpart",
            path,
            layout.alone.get(path.partition(".")[0], "the layout has no such weights")
            + f"; a param of shape {shape}",
        )
        for path, shape in shapes.items()
        if path not in there and path not in own
    ]


def _unfit(
    layout: Layout, placed: list[_Place], used: list[_Place], tensors: Mapping[str, Any]
) -> list[Problem]:
    """Return what is wrong with their tensors."""
    missing = {
        place.row.name: place.shape for place in used if tensors.keys().isdisjoint(place.names)
    }
    problems = [Problem("missing", name, f"expected {shape}") for name, shape in missing.items()]
    for place in used:
        there = [name for name in place.names if name in tensors]
        wrong = [each for name in there for each in _misshaped(name, tensors[name], place.shape)]
        problems += wrong
        for name in there[1:] if not wrong else ():
            first, other = tensors[there[0]], tensors[name]
            xp = namespace(first, other)
            if not (first is other or bool(xp.all(first == other))):
                problems.append(
                    Problem("contradicting", name, f"it is {there[0]!r}, with other numbers")
                )
    known = {name for place in placed for name in place.names}
    near = _Near(missing or known)
    for name in tensors:
        if name in known or _reason(layout.ignored, name):
            continue
        if reason := _reason(layout.refused, name):
            problems.append(Problem("refused", name, reason))
        else:
            problems.append(Problem("unknown", name, f"{_described(tensors[name])}{near(name)}"))
    return problems


def _misshaped(name: str, x: Any, shape: Shape) -> list[Problem]:
    if not _is_array(x):
        return [Problem("no float", name, f"found {_described(x)}")]
    if tuple(x.shape) != shape:
        return [Problem("mis-shaped", name, f"expected {shape}, found {tuple(x.shape)}")]
    if not namespace(x).isdtype(x.dtype, "real floating"):
        return [Problem("no float", name, f"found {x.dtype}")]
    return []


def _is_array(x: Any) -> bool:
    return hasattr(x, "shape") and hasattr(x, "dtype")


def _described(x: Any) -> str:
    return (
        f"a tensor of shape {tuple(x.shape)}" if _is_array(x) else f"no tensor, {type(x).__name__}"
    )


def _reason(table: Mapping[str, str], name: str) -> str:
    return next((reason for pattern, reason in table.items() if fnmatchcase(name, pattern)), "")


class _Near:
    """The nearest of some names: numbers of layers are set aside, then put back."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = list(names)
        self.by_form: dict[str, list[str]] = {}
        for name in self.names:
            self.by_form.setdefault(_form(name), []).append(name)
        self.forms: dict[str, list[str]] = {}

    def __call__(self, name: str) -> str:
        """Return words to append to a message."""
        form = _form(name)
        if form not in self.forms:
            self.forms[form] = difflib.get_close_matches(form, self.by_form, n=2, cutoff=0.7)
        numbers = re.findall(r"\d+", name)
        near = []
        for each in self.forms[form]:
            alike = [x for x in self.by_form[each] if re.findall(r"\d+", x) == numbers]
            near.append(repr((alike or self.by_form[each])[0]))
        return f"; near {' and '.join(near)}" if near else ""


def _form(name: str) -> str:
    return re.sub(r"\d+", "#", name)
