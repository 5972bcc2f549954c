"""Params from the tensors of a layout, and tensors from params; every key that does not fit."""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from vtnp._array.trees import tree_leaves
from vtnp._array.typing import Array
from vtnp._array.xp import device, namespace
from vtnp._registry.printable import printable, shortened
from vtnp.checkpoints.tensors import (
    Part,
    PublishedTensor,
    Shape,
    Sizes,
    tensor_shape,
    to_param,
    to_tensor,
)


@dataclass(frozen=True)
class CheckpointLayout:
    """How one publisher stores the weights of one config.

    tensors: all that hold params; those whose params a config does not have are left out. sizes: of
    axes that the params lack. ignored: what else a checkpoint may hold, name patterns with *, each
    with the reason why it is not needed. unsupported: likewise, with the reason why the model would
    need it and cannot use it. unpublished: params that no tensor holds, by the first word of their
    path, with the reason. prefixes: that a file may put before names.
    """

    tensors: tuple[PublishedTensor, ...]
    sizes: Sizes = field(default_factory=dict)
    ignored: Mapping[str, str] = field(default_factory=dict)
    unsupported: Mapping[str, str] = field(default_factory=dict)
    unpublished: Mapping[str, str] = field(default_factory=dict)
    prefixes: tuple[str, ...] = ()


class Problem(NamedTuple):
    """What is wrong with one key.

    Attributes
    ----------
    kind : str
        "unknown", "missing", "wrong shape", "wrong dtype", "contradictory" (two names of one tensor
        with different numbers), "unsupported", or "no counterpart" (of a param).
    name : str
        Of a tensor, or the path of a param.
    detail : str
        What was expected and what came, or the reason.
    """

    kind: str
    name: str
    detail: str

    def __str__(self) -> str:
        return shortened(f"{self.kind} {shortened(self.name, 200)!r}: {self.detail}", 500)


class LayoutError(ValueError):
    """Tensors or params that do not fit a layout.

    Attributes
    ----------
    problems : tuple of Problem
        One for each key that does not fit.
    """

    def __init__(self, what: str, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        keys = f"{len(self.problems)} key{'s' if len(self.problems) > 1 else ''}"
        lines = [f"{what}: {keys} wrong", *map(str, self.problems)]
        super().__init__("\n  ".join(map(printable, lines)))


def shapes_by_name(layout: CheckpointLayout, abstract: Any) -> dict[str, Shape]:
    """Return the name and shape of each tensor of the layout.

    abstract: params of which only the shapes matter.
    """
    return {each.tensor.name: each.shape for each in _mapped(layout, _shapes(abstract))}


def to_params(
    layout: CheckpointLayout,
    abstract: Any,
    tensors: Mapping[str, Any],
    *,
    extra_params: Any = None,
    what: str = "tensors",
) -> Any:
    """Return the params that tensors of the layout hold.

    abstract: the params, of which only the shapes matter. extra_params: params that take the place
    of those in the tensors. what: what errors name.
    Raises LayoutError.
    """
    shapes, extra = _shapes(abstract), dict(tree_leaves(extra_params))
    mapped = _mapped(layout, shapes)
    needed = [each for each in mapped if not extra.keys() >= each.paths.keys()]
    problems = [
        *_problems_of_params({path: x.shape for path, x in extra.items()}, shapes),
        *_params_without_counterpart(layout, shapes, mapped, extra),
        *_problems_of_tensors(layout, mapped, needed, tensors),
    ]
    if problems:
        raise LayoutError(what, problems)
    arrays: dict[str, Any] = {}
    for each in needed:
        name = next(name for name in each.names if name in tensors)
        arrays |= each.cut(tensors[name])
    return _filled(abstract, arrays | extra)


def to_tensors(
    layout: CheckpointLayout, abstract: Any, params: Any, *, what: str = "params"
) -> dict[str, Array]:
    """Return the tensors of the layout, by name, that hold params.

    abstract: the params, of which only the shapes matter. what: what errors name.
    Raises LayoutError.
    """
    shapes, arrays = _shapes(abstract), dict(tree_leaves(params))
    mapped = _mapped(layout, shapes)
    missing = [
        Problem("missing", path, f"expected {shapes[path]}")
        for path in shapes
        if path not in arrays
    ]
    unpublished = {path: "" for path in shapes if path.partition(".")[0] in layout.unpublished}
    problems = [
        *_problems_of_params({path: tuple(x.shape) for path, x in arrays.items()}, shapes),
        *missing,
        *_params_without_counterpart(layout, shapes, mapped, unpublished),
    ]
    if problems:
        raise LayoutError(what, problems)
    return {each.tensor.name: each.joined(arrays) for each in mapped}


# --- Tensors whose shapes are known ---------------------------------------------------------------


class _Piece(NamedTuple):
    """A part, the shape of its param, None where there is none, and its shape in the tensor."""

    part: Part
    param_shape: Shape | None
    shape: Shape


@dataclass(frozen=True)
class _MappedTensor:
    """A tensor whose shape is known from those of its params."""

    tensor: PublishedTensor
    pieces: tuple[_Piece, ...]
    sizes: Sizes

    @property
    def names(self) -> tuple[str, ...]:
        return (self.tensor.name, *self.tensor.copies)

    @property
    def paths(self) -> dict[str, Shape]:
        return {
            each.part.path: each.param_shape for each in self.pieces if each.param_shape is not None
        }

    @property
    def shape(self) -> Shape:
        axis, shape = self.tensor.axis, self.pieces[0].shape
        whole = sum(piece.shape[axis] for piece in self.pieces)
        return (*shape[:axis], whole, *shape[axis + 1 :])

    def cut(self, x: Array) -> dict[str, Array]:
        """Return the params that the tensor holds."""
        arrays, begin, before = {}, 0, (slice(None),) * self.tensor.axis
        for (path, axes), param_shape, shape in self.pieces:
            end = begin + shape[self.tensor.axis]
            if param_shape is not None:
                piece = x[(*before, slice(begin, end), ...)]
                arrays[path] = to_param(piece, axes, param_shape, self.sizes)
            begin = end
        return arrays

    def joined(self, arrays: Mapping[str, Array]) -> Array:
        """Return the tensor that holds the params, with zeros for those that are missing."""
        pieces = [
            None if shape is None else to_tensor(arrays[path], axes, shape, self.sizes)
            for (path, axes), shape, _ in self.pieces
        ]
        like = next(x for x in pieces if x is not None)
        xp = namespace(like)
        filled = [
            xp.zeros(piece.shape, dtype=like.dtype, device=device(like)) if x is None else x
            for x, piece in zip(pieces, self.pieces, strict=True)
        ]
        return filled[0] if len(filled) == 1 else xp.concat(filled, axis=self.tensor.axis)


def _mapped(layout: CheckpointLayout, shapes: Mapping[str, Shape]) -> list[_MappedTensor]:
    """Return the tensors that hold params of these shapes, in the layout's order."""
    numbers = [int(word) for path in shapes for word in path.split(".") if word.isdigit()]
    mapped = []
    for pattern in layout.tensors:
        layers = range(max(numbers, default=-1) + 1) if "{i}" in pattern.name else range(1)
        for tensor in map(pattern.of_layer, layers):
            param_shapes = [shapes.get(part.path) for part in tensor.parts]
            known = [shape is not None for shape in param_shapes]
            if any(known) if tensor.unused else all(known):
                mapped.append(_with_shapes(tensor, param_shapes, layout.sizes))
    return mapped


def _with_shapes(
    tensor: PublishedTensor, param_shapes: list[Shape | None], sizes: Sizes
) -> _MappedTensor:
    pieces: list[_Piece] = []
    for part, param_shape in zip(tensor.parts, param_shapes, strict=True):
        if param_shape is None:
            shape = pieces[0].shape
        else:
            shape = tensor_shape(part.axes, param_shape, sizes)
        pieces.append(_Piece(part, param_shape, shape))
    return _MappedTensor(tensor, tuple(pieces), sizes)


def _shapes(params: Any) -> dict[str, Shape]:
    return {path: tuple(x.shape) for path, x in tree_leaves(params)}


def _filled(abstract: Any, arrays: Mapping[str, Any], path: str = "") -> Any:
    """Return params with the arrays of those paths in them."""
    front = f"{path}." if path else ""
    if isinstance(abstract, Mapping):
        return {key: _filled(x, arrays, f"{front}{key}") for key, x in abstract.items()}
    if isinstance(abstract, list | tuple):
        return [_filled(x, arrays, f"{front}{i}") for i, x in enumerate(abstract)]
    return arrays[path]


# --- What does not fit ----------------------------------------------------------------------------


def _problems_of_params(passed: Mapping[str, Shape], shapes: Mapping[str, Shape]) -> list[Problem]:
    """Return the unknown and misshapen params among those that a caller passes."""
    near, problems = _Near(shapes), []
    for path, shape in passed.items():
        if path not in shapes:
            problems.append(Problem("unknown", path, f"a param of shape {shape}{near(path)}"))
        elif tuple(shape) != shapes[path]:
            detail = f"expected {shapes[path]}, got {tuple(shape)}"
            problems.append(Problem("wrong shape", path, detail))
    return problems


def _params_without_counterpart(
    layout: CheckpointLayout,
    shapes: Mapping[str, Shape],
    mapped: list[_MappedTensor],
    extra: Mapping[str, Any],
) -> list[Problem]:
    published = {path for each in mapped for path in each.paths}
    return [
        Problem(
            "no counterpart",
            path,
            layout.unpublished.get(path.partition(".")[0], "the layout has no such weights")
            + f"; a param of shape {shape}",
        )
        for path, shape in shapes.items()
        if path not in published and path not in extra
    ]


def _problems_of_tensors(
    layout: CheckpointLayout,
    mapped: list[_MappedTensor],
    needed: list[_MappedTensor],
    tensors: Mapping[str, Any],
) -> list[Problem]:
    missing = {
        each.tensor.name: each.shape for each in needed if tensors.keys().isdisjoint(each.names)
    }
    problems = [Problem("missing", name, f"expected {shape}") for name, shape in missing.items()]
    for each in needed:
        problems += _problems_of_names(each, tensors)
    known = {name for each in mapped for name in each.names}
    near = _Near(missing or known)
    for name in tensors:
        if name in known or _reason(layout.ignored, name):
            continue
        if reason := _reason(layout.unsupported, name):
            problems.append(Problem("unsupported", name, reason))
        else:
            problems.append(Problem("unknown", name, f"{_described(tensors[name])}{near(name)}"))
    return problems


def _problems_of_names(mapped: _MappedTensor, tensors: Mapping[str, Any]) -> list[Problem]:
    """Return what is wrong with a tensor under each of its names."""
    names = [name for name in mapped.names if name in tensors]
    problems = [problem for name in names for problem in _misfit(name, tensors[name], mapped.shape)]
    if problems:
        return problems
    for name in names[1:]:
        first, other = tensors[names[0]], tensors[name]
        xp = namespace(first, other)
        if not (first is other or bool(xp.all(first == other))):
            detail = f"it is {names[0]!r} under another name, with other numbers"
            problems.append(Problem("contradictory", name, detail))
    return problems


def _misfit(name: str, x: Any, shape: Shape) -> list[Problem]:
    if not _is_array(x):
        return [Problem("wrong dtype", name, f"expected a tensor, got {_described(x)}")]
    if tuple(x.shape) != shape:
        return [Problem("wrong shape", name, f"expected {shape}, got {tuple(x.shape)}")]
    if not namespace(x).isdtype(x.dtype, "real floating"):
        return [Problem("wrong dtype", name, f"expected floats, got {x.dtype}")]
    return []


def _is_array(x: Any) -> bool:
    return hasattr(x, "shape") and hasattr(x, "dtype")


def _described(x: Any) -> str:
    if _is_array(x):
        return f"a tensor of shape {tuple(x.shape)}"
    return f"an object of type {type(x).__name__}"


def _reason(table: Mapping[str, str], name: str) -> str:
    return next((reason for pattern, reason in table.items() if fnmatchcase(name, pattern)), "")


_LONGEST_NAME, _MOST_NAMES = 200, 200  # beyond these a comparison takes too long


class _Near:
    """The nearest of some names, compared without the numbers of layers."""

    def __init__(self, names: Iterable[str]) -> None:
        self.by_form: dict[str, list[str]] = {}
        for name in names:
            self.by_form.setdefault(_form(name), []).append(name)
        self.near_forms: dict[str, list[str]] = {}

    def __call__(self, name: str) -> str:
        """Return the end of a message: the nearest names, of the same layer if possible."""
        form = _form(name)
        if form not in self.near_forms:
            if len(form) > _LONGEST_NAME or len(self.near_forms) > _MOST_NAMES:
                return ""
            self.near_forms[form] = difflib.get_close_matches(form, self.by_form, n=2, cutoff=0.7)
        numbers = re.findall(r"\d+", name)
        near = []
        for each in self.near_forms[form]:
            same_layers = [x for x in self.by_form[each] if re.findall(r"\d+", x) == numbers]
            near.append(repr((same_layers or self.by_form[each])[0]))
        return f"; near {' and '.join(near)}" if near else ""


def _form(name: str) -> str:
    return re.sub(r"\d+", "#", name)
