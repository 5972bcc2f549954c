"""Numbers that the official implementation computed: values, and the gradient of everything."""

from dataclasses import replace

from tests.support.layouts import params_of, prefixed
from tests.support.vectors import assert_gradients, assert_results, load, named
from vtnp._array.xp import namespace
from vtnp.checkpoints import from_published
from vtnp.models.timesformer import TimeSformerConfig, apply
from vtnp.timesformer import divided_layer

BLOCK, FRAMES, HEADS = load("timesformer_block_divided"), 3, 3
MODEL = load("timesformer_full_joint")
JOINT = TimeSformerConfig(
    "joint", frames=4, image=(12, 8), patch=4, d=12, heads=HEADS, d_f=24, layers=2, classes=5
)
DIVIDED = replace(JOINT, scheme="divided", layers=1)


def divided_block(vectors):
    """The block's tokens are the class token, then (h, w, t) with t fastest."""
    weights = prefixed("blocks.0.", named(vectors, "par"))
    x = vectors["in.x"]
    params = params_of("timesformer", DIVIDED, "official", weights, "layers.0")
    xp, (batch, n, d) = namespace(x), x.shape
    positions_first = x[:, 1:].reshape((batch, (n - 1) // FRAMES, FRAMES, d))
    z, cls = divided_layer(xp.moveaxis(positions_first, 1, 2), x[:, 0], params)
    tokens = xp.moveaxis(z, 2, 1).reshape((batch, n - 1, d))
    return {"out.y": xp.concat([cls[:, None], tokens], axis=1)}


def joint_model(vectors):
    params = from_published("timesformer", JOINT, "official", named(vectors, "par"))
    video = vectors["in.x"]
    return {"out.y": apply(params, namespace(video).moveaxis(video, 1, -1), JOINT)}


def test_divided_block():
    assert_results(divided_block, BLOCK)


def test_gradients_of_the_divided_block():
    assert_gradients(divided_block, BLOCK)


def test_joint_model():
    assert_results(joint_model, MODEL)


def test_gradients_of_the_joint_model():
    assert_gradients(joint_model, MODEL)
