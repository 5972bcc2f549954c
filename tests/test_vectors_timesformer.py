"""Numbers that the official implementation computed: values, and the gradient of everything."""

from pathlib import Path

import autograd.numpy as anp
import numpy as np
from autograd import grad

from tests import timesformer_weights as weights
from tests.compare import assert_close
from tests.trees import leaves
from vtnp.models.timesformer import TimeSformerConfig, apply
from vtnp.timesformer import divided_layer

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


BLOCK, FRAMES, HEADS = load("timesformer_block_divided"), 3, 3
MODEL = load("timesformer_full_joint")
JOINT = TimeSformerConfig(
    "joint", frames=4, image=(12, 8), patch=4, d=12, heads=HEADS, d_f=24, layers=2, classes=5
)


def split(x):
    """Take the block's tokens, the class token and (h, w, t) with t fastest, to (z, cls)."""
    batch, n, d = x.shape
    z = x[:, 1:].reshape(batch, (n - 1) // FRAMES, FRAMES, d)
    return z.transpose(0, 2, 1, 3), x[:, 0]


def channels_last(x):
    return np.moveaxis(x, 1, -1)


def test_divided_block():
    params = weights.layer(named(BLOCK, "par"), "", HEADS)
    result = divided_layer(*split(BLOCK["in.x"]), params)
    assert_close(result, split(BLOCK["out.y"]), within=WITHIN)


def test_gradients_of_the_divided_block():
    cotangents = split(BLOCK["cot.y"])
    params = weights.layer(named(BLOCK, "par"), "", HEADS)

    def f(arguments):
        result = divided_layer(*arguments)
        return sum(anp.sum(y * c) for y, c in zip(result, cotangents, strict=True))

    z, cls, tree = grad(f)([*split(BLOCK["in.x"]), params])
    assert_trees_close([z, cls], list(split(BLOCK["gin.x"])))
    assert_trees_close(tree, weights.layer(named(BLOCK, "gpar"), "", HEADS))


def test_joint_model():
    params = weights.model(named(MODEL, "par"), HEADS)
    logits = apply(params, channels_last(MODEL["in.x"]), JOINT)
    assert_close(logits, MODEL["out.y"], within=WITHIN)


def test_gradients_of_the_joint_model():
    params = weights.model(named(MODEL, "par"), HEADS)

    def f(arguments):
        return anp.sum(apply(*arguments, JOINT) * MODEL["cot.y"])

    tree, video = grad(f)([params, channels_last(MODEL["in.x"])])
    assert_close(video, channels_last(MODEL["gin.x"]), within=WITHIN)
    assert_trees_close(tree, weights.model(named(MODEL, "gpar"), HEADS))
