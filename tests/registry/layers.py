"""Params of the encoder's layers: 4 channels, 2 heads of width 2, 8 hidden units, all biases."""

from typing import Any

import numpy as np

Params = dict[str, Any]


def drawn(rng: np.random.Generator, **shapes: tuple[int, ...]) -> Params:
    """Draw an array of each shape."""
    return {name: rng.normal(size=shape) for name, shape in shapes.items()}


def norm(rng: np.random.Generator) -> Params:
    return drawn(rng, gamma=(4,), beta=(4,))


def attention(rng: np.random.Generator) -> Params:
    weights = drawn(rng, W_q=(2, 4, 2), W_k=(2, 4, 2), W_v=(2, 4, 2), W_c=(2, 2, 4))
    return weights | drawn(rng, b_q=(2, 2), b_k=(2, 2), b_v=(2, 2), b_c=(4,))


def attention_sublayer(rng: np.random.Generator) -> Params:
    return {"norm_1": norm(rng), "attention": attention(rng)}


def feed_forward_sublayer(rng: np.random.Generator) -> Params:
    network = drawn(rng, W_1=(4, 8), W_2=(8, 4), b_1=(8,), b_2=(4,))
    return {"norm_2": norm(rng), "feed_forward": network}


def layer(rng: np.random.Generator) -> Params:
    return attention_sublayer(rng) | feed_forward_sublayer(rng)
