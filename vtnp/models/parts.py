"""What the models share: params drawn from a generator, and the head.

Params are nested dicts and lists of NumPy arrays; vtnp._array.trees brings them to another library.
Linear maps are drawn as Glorot and Bengio (2010) have it, uniformly, so that signals keep their
scale at any width; tables of tokens and positions, and the head, are small.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from vtnp._array.trees import tree_leaves
from vtnp._array.typing import Array
from vtnp._array.xp import namespace, plus_bias
from vtnp.encoder import layer_norm

Params = dict[str, Any]
_SMALL = 0.02  # the deviation that ViT and its successors draw tables from


def divides(part: int, *wholes: int) -> bool:
    """Tell whether each whole falls into parts of that size, which is at least 1."""
    return part >= 1 and all(whole % part == 0 for whole in wholes)


def linear(
    rng: np.random.Generator, shape: tuple[int, ...], inputs: int, outputs: int, dtype: DTypeLike
) -> NDArray[Any]:
    """Draw the weights of a linear map from so many inputs to so many outputs."""
    limit = math.sqrt(6.0 / (inputs + outputs))
    return rng.uniform(-limit, limit, shape).astype(dtype)


def table(rng: np.random.Generator, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Draw small normal numbers: a token, or the positions of tokens."""
    return (_SMALL * rng.standard_normal(shape)).astype(dtype)


def norm(d: int, dtype: DTypeLike) -> Params:
    """Return the params of a layer norm that leaves what it has normalised as it is."""
    return {"gamma": np.ones(d, dtype), "beta": np.zeros(d, dtype)}


def attention(rng: np.random.Generator, d: int, heads: int, dtype: DTypeLike) -> Params:
    """Draw the params of multi-head self-attention, heads of width d / heads, biases 0."""
    if not divides(heads, d):
        raise ValueError(f"width {d} is no multiple of {heads} heads")
    d_h = d // heads
    projections = {
        f"W_{letter}": linear(rng, (heads, d, d_h), d, d, dtype) for letter in ("q", "k", "v")
    }
    biases = {f"b_{letter}": np.zeros((heads, d_h), dtype) for letter in ("q", "k", "v")}
    merge = {"W_c": linear(rng, (heads, d_h, d), d, d, dtype), "b_c": np.zeros(d, dtype)}
    return projections | biases | merge


def feed_forward(rng: np.random.Generator, d: int, d_f: int, dtype: DTypeLike) -> Params:
    """Draw the params of a feed-forward network, biases 0."""
    return {
        "W_1": linear(rng, (d, d_f), d, d_f, dtype),
        "b_1": np.zeros(d_f, dtype),
        "W_2": linear(rng, (d_f, d), d_f, d, dtype),
        "b_2": np.zeros(d, dtype),
    }


def attention_half(rng: np.random.Generator, d: int, heads: int, dtype: DTypeLike) -> Params:
    """Draw the params of the first half of a pre-norm layer: norm and attention."""
    return {"norm_1": norm(d, dtype), "attention": attention(rng, d, heads, dtype)}


def feed_forward_half(rng: np.random.Generator, d: int, d_f: int, dtype: DTypeLike) -> Params:
    """Draw the params of the second half of a pre-norm layer: norm and feed-forward network."""
    return {"norm_2": norm(d, dtype), "feed_forward": feed_forward(rng, d, d_f, dtype)}


def layer(rng: np.random.Generator, d: int, heads: int, d_f: int, dtype: DTypeLike) -> Params:
    """Draw the params of pre-norm-layer and encoder-layer."""
    return attention_half(rng, d, heads, dtype) | feed_forward_half(rng, d, d_f, dtype)


def embedding(rng: np.random.Generator, p: int, d: int, dtype: DTypeLike) -> Params:
    """Draw the params of a linear embedding of flattened patches, bias 0."""
    return {"E": linear(rng, (p, d), p, d, dtype), "bias": np.zeros(d, dtype)}


def head(rng: np.random.Generator, d: int, classes: int, dtype: DTypeLike) -> Params:
    """Draw the params of a model's end: its last norm and the linear map to logits."""
    weights = {"W": table(rng, (d, classes), dtype), "b": np.zeros(classes, dtype)}
    return {"norm": norm(d, dtype), "head": weights}


def logits(feature: Array, params: Mapping[str, Any], eps: float) -> Array:
    """Normalise a feature, `*b d`, and map it to one logit for each class."""
    feature = layer_norm(feature, **params["norm"], eps=eps)
    return plus_bias(feature @ params["head"]["W"], params["head"]["b"])


def repeated(token: Array, batch: tuple[int, ...]) -> Array:
    """Repeat a learned token, `d`, for every element of a batch."""
    return namespace(token).broadcast_to(token, (*batch, *token.shape))


def size(tree: Any) -> int:
    """Count the numbers in a tree of params."""
    return sum(math.prod(array.shape) for _, array in tree_leaves(tree))
