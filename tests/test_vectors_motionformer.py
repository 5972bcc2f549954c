"""Numbers that the official implementation computed: values, and the gradient of everything."""

from pathlib import Path

import numpy as np
import pytest
from autograd import grad

from tests.compare import assert_close
from tests.motionformer_weights import params_of
from tests.trees import leaves
from vtnp._xp import namespace
from vtnp.encoder import head_projection
from vtnp.motionformer import (
    orthogonal_prototypes,
    prototype_attention,
    trajectory_prototypes,
    trajectory_self_attention,
    trajectory_tokens,
)

WITHIN = 1e-10
FRAMES, PLACES, HEADS = 3, 4, 3


def load(case):
    with np.load(Path(__file__).parent / "data" / "vectors" / f"{case}.npz") as file:
        return dict(file)


def named(vectors, kind):
    """Return the arrays of one kind, "par" or "gpar", by their official names."""
    return {k.removeprefix(f"{kind}."): v for k, v in vectors.items() if k.startswith(f"{kind}.")}


def split(x):
    """Take the class token and the patches, frame after frame, apart: (z, cls)."""
    batch, _, d = x.shape
    return x[:, 1:].reshape(batch, FRAMES, PLACES, d), x[:, 0]


def options_of(vectors, *, value_projection):
    """Return the keywords of a case; its random first prototypes are among its arrays."""
    if "aux.first_index" not in vectors:
        return {"value_projection": value_projection}
    order = vectors["aux.selection_order"]
    start = vectors["aux.first_index"].reshape(-1, HEADS, 1)
    return {"prototypes": {"r": order.shape[-1], "start": start}}


CASES = {
    "motionformer_trajectory_original": False,
    "motionformer_trajectory_paper": True,
    "motionformer_orthoformer_trajectory_original": False,
}
each_case = pytest.mark.parametrize(("name", "value_projection"), CASES.items())


@each_case
def test_value(name, value_projection):
    vectors = load(name)
    options = options_of(vectors, value_projection=value_projection)
    params = params_of(named(vectors, "par"), HEADS)
    result = trajectory_self_attention(*split(vectors["in.x"]), params, **options)
    assert_close(result, split(vectors["out.y"]), within=WITHIN)


@each_case
def test_gradient_of_everything(name, value_projection):
    """The released code's dead value projection has the gradient 0 there and here."""
    vectors = load(name)
    options = options_of(vectors, value_projection=value_projection)
    cotangents = split(vectors["cot.y"])

    def f(arguments):
        result = trajectory_self_attention(*arguments, **options)
        xp = namespace(result[0])
        return sum(xp.sum(y * c) for y, c in zip(result, cotangents, strict=True))

    tree = grad(f)([*split(vectors["in.x"]), params_of(named(vectors, "par"), HEADS)])
    wanted = [*split(vectors["gin.x"]), params_of(named(vectors, "gpar"), HEADS)]
    found = dict(leaves(tree))
    assert found.keys() == dict(leaves(wanted)).keys()
    for path, value in leaves(wanted):
        assert_close(found[path], value, within=WITHIN, what=str(path))
    dead = tree[2]["trajectory"]["W_v"]
    assert np.any(dead) == value_projection


def test_trajectory_tokens():
    vectors = load("motionformer_trajectory_original")
    Q, K, V = (vectors[f"aux.{x}"][..., 1:, :].reshape(2, HEADS, FRAMES, PLACES, -1) for x in "qkv")
    tokens = np.moveaxis(trajectory_tokens(Q, K, V), 1, -2)
    shape = (2, FRAMES * PLACES, FRAMES, -1)
    assert_close(tokens.reshape(shape), vectors["aux.trajectory_tokens"], within=WITHIN)


def test_choice_of_prototypes_in_a_video():
    vectors = load("motionformer_orthoformer_trajectory_original")
    first = params_of(named(vectors, "par"), HEADS)["attention"]
    patches = vectors["in.x"][:, 1:]
    Q = head_projection(patches, first["W_q"], bias=first["b_q"])
    start = vectors["aux.first_index"].reshape(-1, HEADS)
    order = orthogonal_prototypes(Q, 5, start=start)
    assert np.array_equal(order.reshape(-1, 5), vectors["aux.selection_order"])
    Q = Q.reshape(2, HEADS, FRAMES, PLACES, -1)
    P = trajectory_prototypes(Q, 5, start=start[..., None])[..., 0, :, :]
    # The released code stores them in the order of their indices, and scaled.
    P = np.take_along_axis(P, np.argsort(order, axis=-1)[..., None], axis=-2)
    assert_close(P * P.shape[-1] ** -0.25, vectors["aux.landmarks"], within=WITHIN)


def rows(x, index):
    return np.take_along_axis(x, index[..., None], axis=-2)


def test_prototype_attention():
    """Values and gradients; the released code lets none through the prototypes."""
    vectors = load("orthoformer_plain")
    Q, K, V = (vectors[f"in.{x}"] for x in "qkv")
    order = orthogonal_prototypes(Q, 4, start=vectors["aux.first_index"])
    assert np.array_equal(order, vectors["aux.selection_order"])
    P = rows(Q, order)
    assert_close(prototype_attention(Q, K, V, P), vectors["out.y"], within=WITHIN)

    def f(arrays):
        y = prototype_attention(*arrays, P)
        return namespace(y).sum(y * vectors["cot.y"])

    for found, name in zip(grad(f)([Q, K, V]), "qkv", strict=True):
        assert_close(found, vectors[f"gin.{name}"], within=WITHIN, what=name)
