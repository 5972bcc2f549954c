"""One tensor of published weights, and the params that it holds: an entry of a layout.

Axes are written as words, those of the tensor before the arrow and those of the param after it, for
example "(heads d_h) d -> heads d d_h". Axes in brackets are one axis of the array, the last of them
fastest; 1 is an axis of a single entry. Read backwards, the same words map the param to the tensor.
An array is only cut, reshaped and permuted, so that gradients pass through as well as weights.
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
    """A part of a tensor.

    path: of the param that it holds. axes: of the part and of the param.
    """

    path: str
    axes: str


class PublishedTensor(NamedTuple):
    """A tensor of published weights.

    name: with {i} for the number of a layer, as in the paths of the parts. parts: in their order
    along the axis. copies: further names under which the same tensor may be published. unused:
    why a config may lack the params of some parts; those parts are ignored, and written as zeros
    of the first part's shape.
    """

    name: str
    parts: tuple[Part, ...]
    axis: int = 0
    copies: tuple[str, ...] = ()
    unused: str = ""

    def of_layer(self, i: int) -> "PublishedTensor":
        """Return the tensor of layer i."""

        def numbered(text: str) -> str:
            return text.replace("{i}", str(i))

        parts = tuple(Part(numbered(part.path), part.axes) for part in self.parts)
        return self._replace(
            name=numbered(self.name), parts=parts, copies=tuple(map(numbered, self.copies))
        )


# --- Axes -----------------------------------------------------------------------------------------


def tensor_shape(axes: str, param_shape: Shape, sizes: Sizes) -> Shape:
    """Return the shape of the tensor that holds a param; sizes: of axes that the param lacks."""
    of_tensor, of_param = _parsed(axes)
    return _shape(of_tensor, _bound(of_param, param_shape, sizes))


def to_param(tensor: Array, axes: str, param_shape: Shape, sizes: Sizes) -> Array:
    """Rearrange a tensor to the param that it holds."""
    of_tensor, of_param = _parsed(axes)
    return _rearranged(tensor, of_tensor, of_param, _bound(of_param, param_shape, sizes))


def to_tensor(param: Array, axes: str, param_shape: Shape, sizes: Sizes) -> Array:
    """Rearrange a param to the tensor that holds it."""
    of_tensor, of_param = _parsed(axes)
    return _rearranged(param, of_param, of_tensor, _bound(of_param, param_shape, sizes))


@cache
def _parsed(axes: str) -> tuple[_Groups, _Groups]:
    of_tensor, of_param = (
        tuple(
            tuple(name for name in group.strip("()").split() if name != "1")
            for group in re.findall(r"\([^)]*\)|\S+", side)
        )
        for side in axes.split("->")
    )
    return of_tensor, of_param


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


def _rearranged(x: Array, source: _Groups, target: _Groups, sizes: Sizes) -> Array:
    xp = namespace(x)
    before, after = ([name for group in groups for name in group] for groups in (source, target))
    x = xp.reshape(x, tuple(sizes[name] for name in before))
    x = xp.permute_dims(x, tuple(before.index(name) for name in after))
    return xp.reshape(x, _shape(target, sizes))


# --- Tensors that many layouts have ---------------------------------------------------------------


def single(name: str, path: str, axes: str) -> PublishedTensor:
    """Return a tensor that is a single param."""
    return PublishedTensor(name, (Part(path, axes),))


def norm(
    module: str, path: str, weight: str = ".weight", bias: str = ".bias"
) -> list[PublishedTensor]:
    """Return the tensors of a layer norm, whose params are at a path."""
    return [
        single(f"{module}{weight}", f"{path}.gamma", "d -> d"),
        single(f"{module}{bias}", f"{path}.beta", "d -> d"),
    ]


def linear(module: str, path: str, number: str = "") -> list[PublishedTensor]:
    """Return the tensors of a torch.nn.Linear; number: at the end of the params' names."""
    return [
        single(f"{module}.weight", f"{path}.W{number}", "d_out d_in -> d_in d_out"),
        single(f"{module}.bias", f"{path}.b{number}", "d_out -> d_out"),
    ]


def feed_forward(first: str, second: str, path: str) -> list[PublishedTensor]:
    """Return the tensors of the two linear maps of a feed-forward network."""
    return [*linear(first, path, "_1"), *linear(second, path, "_2")]


_OF_HEADS = "(heads d_h) d -> heads d d_h"
_BIAS_OF_HEADS = "(heads d_h) -> heads d_h"


def qkv_projections(
    module: str, path: str, letters: str, unused: str = ""
) -> list[PublishedTensor]:
    """Return the tensors of one linear map to queries, keys or values, or to several of them.

    The rows are those of each letter, and for each letter head after head.
    """
    return [
        PublishedTensor(
            f"{module}.{kind}",
            tuple(Part(f"{path}.{param}_{letter}", axes) for letter in letters),
            unused=unused,
        )
        for kind, param, axes in (("weight", "W", _OF_HEADS), ("bias", "b", _BIAS_OF_HEADS))
    ]


def output_projection(module: str, path: str) -> list[PublishedTensor]:
    """Return the tensors of the linear map after the heads, whose columns are head after head."""
    return [
        single(f"{module}.weight", f"{path}.W_c", "d (heads d_h) -> heads d_h d"),
        single(f"{module}.bias", f"{path}.b_c", "d -> d"),
    ]


def attention(modules: Mapping[str, str], path: str) -> list[PublishedTensor]:
    """Return the tensors of an attention; modules: by "qkv", or by "q", "k" and "v"; and by "c"."""
    tensors: list[PublishedTensor] = []
    for letters, module in modules.items():
        if letters == "c":
            tensors += output_projection(module, path)
        else:
            tensors += qkv_projections(module, path, letters)
    return tensors


def prefixed(prefix: str, tensors: Iterable[PublishedTensor]) -> list[PublishedTensor]:
    """Put a prefix before all names."""
    return [
        each._replace(name=prefix + each.name, copies=tuple(prefix + copy for copy in each.copies))
        for each in tensors
    ]
