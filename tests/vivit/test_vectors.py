"""Vectors from the official implementation: values, and gradients of all inputs and weights."""

from dataclasses import replace

import numpy as np
import pytest

from tests.support.layouts import params_of, prefixed
from tests.support.trees import leaves
from tests.support.vectors import assert_gradients, assert_results, load, named
from vtnp._array.xp import namespace
from vtnp.checkpoints.layouts import layout_of
from vtnp.checkpoints.mapping import to_params
from vtnp.models.vivit import ViViTConfig, apply, init
from vtnp.vivit import factorised_dot_product_attention, factorised_self_attention_layer

BLOCK, FRAMES = load("vivit_block_factorised_self_attention_time_space"), 3
FUNCTION = load("vivit_factorised_dot_product_function")
MODEL = load("vivit_full_factorised_encoder_token")
CONFIG = ViViTConfig(
    "factorised-encoder", frames=4, image=(8, 12), patch=(2, 4, 4), d=12, heads=4, d_f=16, layers=2,
    time_layers=1, classes=5,
)  # fmt: skip
OF_BLOCK = replace(CONFIG, model="factorised-self-attention", d_f=20, layers=1)


def params_of_block(weights):
    weights = prefixed("Transformer/encoderblock_0/", weights)
    return params_of("vivit", OF_BLOCK, "official", weights, "encoder.layers.0")


def params_of_model(weights):
    """Its temporal encoder has other heads and hidden widths, which no config of ours has."""
    rng = np.random.default_rng(0)
    skeleton = init(rng, CONFIG)
    skeleton["encoder"]["time"] = init(rng, replace(CONFIG, heads=3, d_f=14))["encoder"]["time"]
    return to_params(layout_of("vivit", CONFIG, "official"), skeleton, weights)


def self_attention_block(vectors):
    """The official block takes the tokens of all frames as one sequence."""
    x, params = vectors["in.x"], params_of_block(named(vectors, "par"))
    batch, n, d = x.shape
    framed = x.reshape((batch, FRAMES, n // FRAMES, d))
    return {"out.y": factorised_self_attention_layer(framed, params).reshape((batch, n, d))}


def dot_product_function(vectors):
    """The official function has the axis of heads after that of the tokens."""
    Y = factorised_dot_product_attention(
        *(
            namespace(x).moveaxis(x, -2, 1)
            for x in (vectors["in.query"], vectors["in.key"], vectors["in.value"])
        )
    )
    return {"out.y": namespace(Y).moveaxis(Y, 1, -2)}


def factorised_encoder_model(vectors):
    params = params_of_model(named(vectors, "par"))
    return {"out.y": apply(params, vectors["in.x"], CONFIG)}


CASES = {
    "self-attention-block": (self_attention_block, BLOCK),
    "dot-product-function": (dot_product_function, FUNCTION),
    "factorised-encoder-model": (factorised_encoder_model, MODEL),
}
each_case = pytest.mark.parametrize(("f", "vectors"), CASES.values(), ids=CASES)


@each_case
def test_values(f, vectors):
    assert_results(f, vectors)


@each_case
def test_gradients(f, vectors):
    assert_gradients(f, vectors)


@pytest.mark.parametrize(
    ("vectors", "params_of"),
    [(BLOCK, params_of_block), (MODEL, params_of_model)],
    ids=["self-attention-block", "factorised-encoder-model"],
)
def test_every_official_weight_is_used(vectors, params_of):
    """A bias on the keys changes no result, so no other test detects that it was left out."""
    official = named(vectors, "par")
    ours = sum(x.size for _, x in leaves(params_of(official)))
    assert ours == sum(x.size for x in official.values())
