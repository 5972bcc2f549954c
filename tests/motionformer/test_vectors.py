"""Official numbers: values, and the gradients of all inputs and params."""

import numpy as np
import pytest

from tests.support.compare import assert_close
from tests.support.layouts import params_of, prefixed
from tests.support.vectors import WITHIN, assert_gradients, assert_results, gradients, load, named
from vtnp._array.xp import namespace
from vtnp.encoder import qkv_projection
from vtnp.models.motionformer import MotionformerConfig
from vtnp.motionformer import (
    Prototypes,
    orthogonal_prototypes,
    prototype_attention,
    trajectory_prototypes,
    trajectory_self_attention,
    trajectory_tokens,
)

FRAMES, POSITIONS, HEADS = 3, 4, 3
# Its second stage has params for the values even where they are not used.
CONFIG = MotionformerConfig(
    frames=6, image=(4, 4), patch=2, d=12, heads=HEADS, d_f=20, layers=1, classes=5,
    value_projection=True,
)  # fmt: skip


def attention_params(vectors):
    """Return the params of trajectory-self-attention."""
    weights = prefixed("blocks.0.attn.", named(vectors, "par"))
    return {
        part: params_of("motionformer", CONFIG, "official", weights, f"layers.0.{part}")
        for part in ("attention", "trajectory")
    }


def options_of(vectors, *, value_projection):
    """Return the options of a case; the arrays have the first prototypes, which were random."""
    if "aux.first_index" not in vectors:
        return {"value_projection": value_projection}
    r = vectors["aux.selection_order"].shape[-1]
    start = vectors["aux.first_index"].reshape(-1, HEADS, 1)
    return {"prototypes": Prototypes(r, start=start)}


CASES = {
    "motionformer_trajectory_original": False,
    "motionformer_trajectory_paper": True,
    "motionformer_orthoformer_trajectory_original": False,
}
each_case = pytest.mark.parametrize(("name", "value_projection"), CASES.items())


def self_attention(value_projection):
    """Return the formula for official arrays: the class token, then the patches frame by frame."""

    def f(vectors):
        options = options_of(vectors, value_projection=value_projection)
        x, params = vectors["in.x"], attention_params(vectors)
        batch, n, d = x.shape
        patches = x[:, 1:].reshape((batch, FRAMES, POSITIONS, d))
        z, cls = trajectory_self_attention(patches, x[:, 0], params, **options)
        rows = [cls[:, None], z.reshape((batch, n - 1, d))]
        return {"out.y": namespace(z).concat(rows, axis=1)}

    return f


@each_case
def test_value(name, value_projection):
    assert_results(self_attention(value_projection), load(name))


@each_case
def test_gradient_of_everything(name, value_projection):
    assert_gradients(self_attention(value_projection), load(name))


@each_case
def test_the_unused_value_projection_has_no_gradient(name, value_projection):
    """The second half of proj_kv projects the values, which the released code does not use."""
    found = gradients(self_attention(value_projection), load(name))["par.proj_kv.weight"]
    assert np.any(found[len(found) // 2 :]) == value_projection


def test_trajectory_tokens():
    vectors = load("motionformer_trajectory_original")
    Q, K, V = (
        vectors[f"aux.{x}"][..., 1:, :].reshape(2, HEADS, FRAMES, POSITIONS, -1) for x in "qkv"
    )
    tokens = np.moveaxis(trajectory_tokens(Q, K, V), 1, -2)
    tokens = tokens.reshape(2, FRAMES * POSITIONS, FRAMES, -1)
    assert_close(tokens, vectors["aux.trajectory_tokens"], within=WITHIN)


def test_choice_of_prototypes_in_a_video():
    vectors = load("motionformer_orthoformer_trajectory_original")
    first = attention_params(vectors)["attention"]
    patches = vectors["in.x"][:, 1:]
    Q = qkv_projection(patches, first["W_q"], bias=first["b_q"])
    start = vectors["aux.first_index"].reshape(-1, HEADS)
    order = orthogonal_prototypes(Q, 5, start=start)
    assert np.array_equal(order.reshape(-1, 5), vectors["aux.selection_order"])
    Q = Q.reshape(2, HEADS, FRAMES, POSITIONS, -1)
    P = trajectory_prototypes(Q, 5, start=start[..., None])[..., 0, :, :]
    # The released code has them in ascending order of their indices, and scaled.
    P = np.take_along_axis(P, np.argsort(order, axis=-1)[..., None], axis=-2)
    assert_close(P * P.shape[-1] ** -0.25, vectors["aux.landmarks"], within=WITHIN)


def test_prototype_attention():
    """Values and gradients, of which the prototypes have none in the released code."""
    vectors = load("orthoformer_plain")
    order = orthogonal_prototypes(vectors["in.q"], 4, start=vectors["aux.first_index"])
    assert np.array_equal(order, vectors["aux.selection_order"])
    P = np.take_along_axis(vectors["in.q"], order[..., None], axis=-2)

    def f(vectors):
        return {"out.y": prototype_attention(*(vectors[f"in.{x}"] for x in "qkv"), P)}

    assert_results(f, vectors)
    assert_gradients(f, vectors)
