"""Why a quantity of a model may diverge: what to look at, and what gives exactly its numbers."""

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vtnp._registry.calls import Handler
from vtnp.mistakes import mistakes
from vtnp.verify.handlers import in_place_of, with_arguments
from vtnp.verify.judge import EPS, Deviation, largest
from vtnp.verify.page_text import what_goes_wrong, where_to_look

Key = tuple[str, str]  # a formula's id and the name of a mistake
_SECONDS = 30.0  # for all changes of one quantity
_POOLED = [["attention", f"norm_{letter}"] for letter in "qkv"]
_OF_FLOAT32 = (EPS["float32"] / 64, 64 * EPS["float32"])

_LOOK_AT: Mapping[str, str] = {
    "input": "Look at what is added before: an update, the tokens that bypass it, the positions",
    "norm": "Look at the norm's eps, its gain and offset, and the axis",
    "projection": "Look for a transposed weight, rows of q, k, v or of heads in another order, "
    "a missing bias",
    "weights": "Look at the scale, a mask, the axis of the softmax, which tokens see each other",
    "context": "Look at how values are averaged; where no weights are exposed, at scale and mask",
    "attention_output": "Look for heads in another order, a transposed weight, a missing bias",
    "fc": "Look for a transposed weight, a missing bias",
    "pre_activation": "Look for a transposed weight, a missing bias",
    "pooled": "Look at the pooling: its kernel, stride, padding, and the class token's row",
    "shortcut": "Look for a transposed weight, a missing bias, what is normalised before",
    "pre_logits": "Look for a transposed weight, a missing bias",
    "hidden": "Look at the activation: GELU by erf or by tanh, ReLU",
    "feed_forward": "Look for a transposed weight, a missing bias",
    "embedding": "Look at the order of a patch's pixels, frames and channels, and at the bias",
    "tokens": "Look at the order of tokens, and the tables of positions",
    "logits": "Look at which tokens the head takes, and at its weight and bias",
}
_FORMULAS: Mapping[str, tuple[str, ...]] = {
    "norm": ("layer-norm",),
    "projection": ("qkv-projection",),
    "weights": ("attention-weights", "softmax"),
    "context": (
        "attention-weights", "softmax", "attention", "nystrom-attention", "segment-means",
        "iterative-pinv", "sequence-convolution", "nystrom-self-attention", "class-attention",
        "factorised-dot-product-attention", "trajectory-tokens", "trajectory-attention",
        "trajectory-self-attention", "pooling-attention", "multi-head-pooling-attention",
        "dilated-attention", "dilated-branch", "mix-branches", "head-offsets",
    ),
    "pooled": ("pool", "pooled-tokens"),
    "attention_output": ("output-projection",),
    "hidden": ("gelu", "relu"),
    "feed_forward": ("feed-forward",),
    "embedding": ("patch-tokens", "linear-embedding", "tubelet-embedding"),
    "tokens": ("separable-positions",),
}  # fmt: skip


class Cause(NamedTuple):
    """The change with which our model gives a candidate's numbers; equivalents: others that do."""

    explanation: str = ""
    fix: str = ""
    mistakes: tuple[Key, ...] = ()
    equivalents: tuple[str, ...] = ()


def kind_of_quantity(name: str) -> str:
    """Return what kind of quantity a name is of."""
    words = [word for word in name.split(".") if word != "cls"]
    words = words[:-1] if words[-1].isdigit() else words
    last = words[-1]
    if last == "input" and words[-3:-1] in _POOLED:
        return "pooled"
    if last.startswith("norm"):
        return "norm"
    return "projection" if last in ("q", "k", "v") else last


def likely_cause(name: str, found: Deviation, got: NDArray[Any], dtype: str) -> str:
    """Say what to look at, by the kind of quantity. got: the candidate's numbers."""
    least, most = (bound * largest(got) for bound in _OF_FLOAT32)
    if dtype == "float64" and least < found.error < most:
        in_single = "; the error is as small as that of float32: is it computed in that?"
    else:
        in_single = "."
    return _LOOK_AT.get(kind_of_quantity(name), "Look at how it is computed") + in_single


def find_cause(name: str, explains: Callable[[str, Handler], bool], heads: int) -> Cause:
    """Try the mistakes of the formula's page, and other arguments of the formula.

    explains: tells whether our model, under a handler, computes the candidate's quantity. Changes
    are tried in order, for _SECONDS.
    """
    end, found = time.monotonic() + _SECONDS, []
    for title, key, handler in _changes(kind_of_quantity(name), heads):
        if time.monotonic() > end:
            break
        if explains(name, handler):
            found.append((title, key))
    if not found:
        return Cause()
    (first, key), *others = found
    of_page = f": {what_goes_wrong(*key)}" if key else "."
    return Cause(
        f"With {first}, our model gives exactly the candidate's numbers{of_page}",
        where_to_look(key[0]) if key else "",
        (key,) if key else (),
        tuple(title for title, _ in others),
    )


def _changes(kind: str, heads: int) -> Iterator[tuple[str, Key | None, Handler]]:
    """Yield changes of a formula: a title, the mistake of a page, and a handler that makes it."""
    for id in _FORMULAS.get(kind, ()):
        for key in mistakes:
            if key[0] == id:
                yield f"{key[1]} ({id})", key, in_place_of({id: mistakes[key]})
    for title, handler in _other_arguments(kind, heads):
        yield title, None, handler


def _other_arguments(kind: str, heads: int) -> Iterator[tuple[str, Handler]]:
    """Yield arguments that a formula may be passed instead, and the handler that passes them."""
    if kind == "norm":
        for eps in (0.0, *(10.0**-n for n in range(12, 1, -1))):
            yield f"eps = {eps:g}", with_arguments("layer-norm", partial(dict, eps=eps))
    if kind in ("weights", "context"):
        for title, power, factor in (
            ("scale = 1 / d_h", -1.0, 1), ("scale = 1 / sqrt(heads d_h)", -0.5, heads),
            ("scale = d_h^(-1/4)", -0.25, 1), ("scale = sqrt(d_h)", 0.5, 1),
        ):  # fmt: skip
            yield title, with_arguments("attention-weights", partial(_scaled, power, factor))
    if kind == "projection":
        yield "its weight transposed", with_arguments("qkv-projection", _columns_transposed)
    if kind == "attention_output":
        yield "its weight transposed", with_arguments("output-projection", _rows_transposed)


def _scaled(power: float, factor: int, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**arguments, "scale": float(factor * arguments["K"].shape[-1]) ** power}


def _columns_transposed(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """Transpose the matrix of all heads, whose columns are those of each head."""
    whole = np.moveaxis(np.asarray(arguments["W"]), 0, 1)
    transposed = whole.reshape(whole.shape[0], -1).T.reshape(whole.shape)
    return {**arguments, "W": np.moveaxis(transposed, 1, 0)}


def _rows_transposed(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """Transpose the matrix of all heads, whose rows are those of each head."""
    W = np.asarray(arguments["W_c"])
    return {**arguments, "W_c": W.reshape(-1, W.shape[-1]).T.reshape(W.shape)}
