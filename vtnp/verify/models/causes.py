"""Why a quantity of a model may part: what to look at, and what makes exactly its numbers."""

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vtnp._registry.calls import Handler
from vtnp.mistakes import mistakes
from vtnp.verify.handlers import in_place_of, with_arguments
from vtnp.verify.judge import EPS, Figure, largest
from vtnp.verify.page_text import what_goes_wrong, where_to_look

Key = tuple[str, str]  # a formula's id and the name of a mistake
_SECONDS = 30.0  # for all changes of one quantity
_POOLED = [["attention", f"norm_{letter}"] for letter in "qkv"]
_OF_FLOAT32 = (EPS["float32"] / 64, 64 * EPS["float32"])

_LIKELY: Mapping[str, str] = {
    "input": "look at what is added before: an update, the tokens that go around it, positions",
    "norm": "look at the norm's eps, its gain and offset, and the axis",
    "projection": "look for a weight transposed, rows of q, k, v or of heads in another order, "
    "a bias left out",
    "weights": "look at the scale, a mask, the softmax's axis, which tokens see each other",
    "read": "look at how values are averaged; where no weights are exposed, at scale and mask",
    "merged": "look for heads merged in another order, a weight transposed, a bias left out",
    "fc": "look for a weight transposed, a bias left out",
    "widened": "look for a weight transposed, a bias left out",
    "pooled": "look at the pooling: its kernel, stride, padding, and the class token's row",
    "shortcut": "look for a weight transposed, a bias left out, what is normalised before",
    "pre_logits": "look for a weight transposed, a bias left out",
    "hidden": "look at the activation: GELU by erf or by tanh, ReLU",
    "feed_forward": "look for a weight transposed, a bias left out",
    "embedding": "look at the order of a patch's pixels, frames and channels, and at the bias",
    "tokens": "look at the order of tokens, and the tables of positions",
    "logits": "look at which tokens are read out, and at the head's weight and bias",
}
_FORMULAS: Mapping[str, tuple[str, ...]] = {
    "norm": ("layer-norm",),
    "projection": ("qkv-projection",),
    "weights": ("attention-weights", "softmax"),
    "read": (
        "attention-weights", "softmax", "attention", "nystrom-attention", "segment-means",
        "iterative-pinv", "sequence-convolution", "nystrom-self-attention", "class-attention",
        "factorised-dot-product-attention", "trajectory-tokens", "trajectory-attention",
        "trajectory-self-attention", "pooling-attention", "multi-head-pooling-attention",
        "dilated-attention", "dilated-branch", "mix-branches", "head-offsets",
    ),
    "pooled": ("pool", "pooled-tokens"),
    "merged": ("output-projection",),
    "hidden": ("gelu", "relu"),
    "feed_forward": ("feed-forward",),
    "embedding": ("patch-tokens", "linear-embedding", "tubelet-embedding"),
    "tokens": ("separable-positions",),
}  # fmt: skip


class Explained(NamedTuple):
    """The changes with which our model makes a candidate's numbers; the first one is told."""

    says: str = ""
    mend: str = ""
    mistakes: tuple[tuple[str, str], ...] = ()
    same: tuple[str, ...] = ()


def kind_of(name: str) -> str:
    """Return what sort of quantity a name is of."""
    words = [word for word in name.split(".") if word != "cls"]
    words = words[:-1] if words[-1].isdigit() else words
    last = words[-1]
    if last == "input" and words[-3:-1] in _POOLED:
        return "pooled"
    if last.startswith("norm"):
        return "norm"
    return "projection" if last in ("q", "k", "v") else last


def likely(name: str, found: Figure, theirs: NDArray[Any], dtype: str) -> str:
    """Say what to look at, by the quantity."""
    least, most = (bound * largest(theirs) for bound in _OF_FLOAT32)
    if dtype == "float64" and least < found.error < most:
        small = "; or is it computed in float32? Its error is as small as that makes it"
    else:
        small = ""
    return f"{_LIKELY.get(kind_of(name), 'look at how it is computed')}{small}."


def explained(name: str, explains: Callable[[str, Handler], bool], heads: int) -> Explained:
    """Try the mistakes of the formula's page, and other values of what it is given.

    explains: tells whether a change makes the candidate's numbers. What takes longer than _SECONDS
    is not tried.
    """
    end, found = time.monotonic() + _SECONDS, []
    for says, key, handler in _changes(kind_of(name), heads):
        if time.monotonic() > end:
            break
        if explains(name, handler):
            found.append((says, key))
    if not found:
        return Explained()
    (first, key), *others = found
    of_page = f": {what_goes_wrong(*key)}" if key else "."
    return Explained(
        f"With {first} our model makes exactly its numbers{of_page}",
        where_to_look(key[0]) if key else "",
        (key,) if key else (),
        tuple(says for says, _ in others),
    )


def _changes(kind: str, heads: int) -> Iterator[tuple[str, Key | None, Handler]]:
    """Yield changes in words, as mistakes of pages, and as handlers that make them."""
    for id in _FORMULAS.get(kind, ()):
        for key in mistakes:
            if key[0] == id:
                yield f"{key[1]} ({id})", key, in_place_of({id: mistakes[key]})
    for says, handler in _others(kind, heads):
        yield says, None, handler


def _others(kind: str, heads: int) -> Iterator[tuple[str, Handler]]:
    """Yield what a formula may have been given instead, and the handler that gives it."""
    if kind == "norm":
        for eps in (0.0, *(10.0**-n for n in range(12, 1, -1))):
            yield f"eps = {eps:g}", with_arguments("layer-norm", partial(dict, eps=eps))
    if kind in ("weights", "read"):
        for says, power, many in (
            ("scale = 1 / d_h", -1.0, 1), ("scale = 1 / sqrt(heads d_h)", -0.5, heads),
            ("scale = d_h^(-1/4)", -0.25, 1), ("scale = sqrt(d_h)", 0.5, 1),
        ):  # fmt: skip
            yield says, with_arguments("attention-weights", partial(_scaled, power, many))
    if kind == "projection":
        yield "its weight transposed", with_arguments("qkv-projection", _transposed_by_column)
    if kind == "merged":
        yield "its weight transposed", with_arguments("output-projection", _transposed_by_row)


def _scaled(power: float, many: int, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**arguments, "scale": float(many * arguments["K"].shape[-1]) ** power}


def _transposed_by_column(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """Transpose the matrix of all heads, whose columns are those of each head."""
    whole = np.moveaxis(np.asarray(arguments["W"]), 0, 1)
    turned = whole.reshape(whole.shape[0], -1).T.reshape(whole.shape)
    return {**arguments, "W": np.moveaxis(turned, 1, 0)}


def _transposed_by_row(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """Transpose the matrix of all heads, whose rows are those of each head."""
    W = np.asarray(arguments["W_c"])
    turned = W.reshape(-1, W.shape[-1]).T.reshape(W.shape)
    return {**arguments, "W_c": turned}
