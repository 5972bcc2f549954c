"""Numbers that the official implementation computed: values, and the gradient of everything."""

from pathlib import Path

import autograd.numpy as anp
import numpy as np
from autograd import grad

from tests import vivit_weights as weights
from tests.compare import assert_close
from tests.trees import leaves
from vtnp.models.vivit import ViViTConfig, apply
from vtnp.vivit import factorised_dot_product_attention, factorised_self_attention_layer

WITHIN = 1e-10


def load(case):
    with np.load(Path(__file__).parent / "data" / "vectors" / f"{case}.npz") as file:
        return dict(file)


def named(vectors, kind):
    """Return the arrays of one kind, "par" or "gpar", by their official names."""
    return {k.removeprefix(f"{kind}."): v for k, v in vectors.items() if k.startswith(f"{kind}.")}


def assert_trees_close(actual, expected):
    found, wanted = dict(leaves(actual)), dict(leaves(expected))
    assert found.keys() == wanted.keys()
    for path, value in wanted.items():
        assert_close(found[path], value, within=WITHIN, what=str(path))


BLOCK, FRAMES = load("vivit_block_factorised_self_attention_time_space"), 3
FUNCTION = load("vivit_factorised_dot_product_function")
MODEL = load("vivit_full_factorised_encoder_token")
# Heads and hidden widths are the params' business; the official model's differ in time and space.
CONFIG = ViViTConfig(
    "factorised-encoder", frames=4, image=(8, 12), patch=(2, 4, 4), d=12, classes=5
)


def framed(x):
    """Take tokens in one row, frame after frame, to `b t s d`."""
    batch, n, d = x.shape
    return x.reshape(batch, FRAMES, n // FRAMES, d)


def test_self_attention_block():
    params = weights.self_attention_layer(named(BLOCK, "par"), "")
    result = factorised_self_attention_layer(framed(BLOCK["in.x"]), params)
    assert_close(result, framed(BLOCK["out.y"]), within=WITHIN)


def test_gradients_of_the_self_attention_block():
    params = weights.self_attention_layer(named(BLOCK, "par"), "")

    def f(arguments):
        return anp.sum(factorised_self_attention_layer(*arguments) * framed(BLOCK["cot.y"]))

    z, tree = grad(f)([framed(BLOCK["in.x"]), params])
    assert_close(z, framed(BLOCK["gin.x"]), within=WITHIN)
    assert_trees_close(tree, weights.self_attention_layer(named(BLOCK, "gpar"), ""))


def heads_first(x):
    """Take `b t s heads d_h` to `b heads t s d_h`."""
    return np.moveaxis(x, -2, 1)


def of_queries_keys_values(kind):
    return [heads_first(FUNCTION[f"{kind}.{name}"]) for name in ("query", "key", "value")]


def test_dot_product_function():
    result = factorised_dot_product_attention(*of_queries_keys_values("in"))
    assert_close(result, heads_first(FUNCTION["out.y"]), within=WITHIN)


def test_gradients_of_the_dot_product_function():
    def f(arguments):
        read = factorised_dot_product_attention(*arguments)
        return anp.sum(read * heads_first(FUNCTION["cot.y"]))

    gradients = grad(f)(of_queries_keys_values("in"))
    assert_trees_close(gradients, of_queries_keys_values("gin"))


def test_factorised_encoder_model():
    params = weights.factorised_encoder_model(named(MODEL, "par"))
    assert_close(apply(params, MODEL["in.x"], CONFIG), MODEL["out.y"], within=WITHIN)


def test_gradients_of_the_factorised_encoder_model():
    params = weights.factorised_encoder_model(named(MODEL, "par"))

    def f(arguments):
        return anp.sum(apply(*arguments, CONFIG) * MODEL["cot.y"])

    tree, video = grad(f)([params, MODEL["in.x"]])
    assert_close(video, MODEL["gin.x"], within=WITHIN)
    assert_trees_close(tree, weights.factorised_encoder_model(named(MODEL, "gpar")))


def test_every_official_weight_is_used():
    """What the maps of names leave out would be compared with nothing."""
    for vectors, params in (
        (BLOCK, weights.self_attention_layer(named(BLOCK, "par"), "")),
        (MODEL, weights.factorised_encoder_model(named(MODEL, "par"))),
    ):
        ours = sum(x.size for _, x in leaves(params))
        assert ours == sum(x.size for x in named(vectors, "par").values())
