"""Numbers that the official implementation computed: values, and the gradient of everything."""

from functools import partial

import pytest

from tests import vivit_weights as weights
from tests.trees import leaves
from tests.vectors import assert_gradients, assert_results, load, named
from vtnp._xp import namespace
from vtnp.models.vivit import ViViTConfig, apply
from vtnp.vivit import factorised_dot_product_attention, factorised_self_attention_layer

BLOCK, FRAMES = load("vivit_block_factorised_self_attention_time_space"), 3
FUNCTION = load("vivit_factorised_dot_product_function")
MODEL = load("vivit_full_factorised_encoder_token")
# Heads and hidden widths are the params' business; the official model's differ in time and space.
CONFIG = ViViTConfig(
    "factorised-encoder", frames=4, image=(8, 12), patch=(2, 4, 4), d=12, classes=5
)


def self_attention_block(vectors):
    """Tokens stand in one row there, frame after frame."""
    x, params = vectors["in.x"], weights.self_attention_layer(named(vectors, "par"), "")
    batch, n, d = x.shape
    framed = x.reshape((batch, FRAMES, n // FRAMES, d))
    return {"out.y": factorised_self_attention_layer(framed, params).reshape((batch, n, d))}


def dot_product_function(vectors):
    """Heads stand behind the tokens there."""
    read = factorised_dot_product_attention(
        *(
            namespace(x).moveaxis(x, -2, 1)
            for x in (vectors["in.query"], vectors["in.key"], vectors["in.value"])
        )
    )
    return {"out.y": namespace(read).moveaxis(read, 1, -2)}


def factorised_encoder_model(vectors):
    params = weights.factorised_encoder_model(named(vectors, "par"))
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
    [
        (BLOCK, partial(weights.self_attention_layer, name="")),
        (MODEL, weights.factorised_encoder_model),
    ],
    ids=["self-attention-block", "factorised-encoder-model"],
)
def test_every_official_weight_is_used(vectors, params_of):
    """A bias on the keys changes no result: nothing else would notice that it was left out."""
    official = named(vectors, "par")
    ours = sum(x.size for _, x in leaves(params_of(official)))
    assert ours == sum(x.size for x in official.values())
