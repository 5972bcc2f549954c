"""Official numbers: torchscale's DilatedAttention in float64, values and every gradient.

Its flash-attention call was replaced by an exact one. The module takes its mixing weights out of
the graph; `gin_full` and `gpar_full` hold the gradient with them in it, which is that of its
forward pass.
"""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from autograd import value_and_grad

from tests.compare import assert_close, largest
from vtnp._xp import namespace
from vtnp.encoder import head_merge, head_projection
from vtnp.longnet import dilated_attention, dilated_branch, mix_branches
from vtnp.mistakes import mistakes

FOLDER = Path(__file__).parent / "data" / "vectors"
HEADS = 4
OPTIONS = {
    "longnet_noncausal_multiple": {
        "segments": [4, 8, 16],
        "dilations": [1, 2, 4],
        "causal": False,
    },
    "longnet_causal_ragged": {"segments": [4, 8, 12], "dilations": [1, 2, 4], "causal": True},
}
each_vector = pytest.mark.parametrize("name", OPTIONS)


def loaded(name: str, key: str) -> dict[str, np.ndarray]:
    """Return the arrays whose names begin with key, the rest of the name as the key."""
    with np.load(FOLDER / f"{name}.npz") as arrays:
        return {k.removeprefix(key): arrays[k] for k in arrays.files if k.startswith(key)}


def by_head(weight):
    """(out, in) with rows head-major -> (heads, in, out of one head)."""
    return namespace(weight).matrix_transpose(weight.reshape((HEADS, -1, weight.shape[-1])))


def projected(tree, letter):
    """Return Q, K or V of every head."""
    weight, bias = tree["par"][f"{letter}_proj.weight"], tree["par"][f"{letter}_proj.bias"]
    return head_projection(tree["in"]["x"], by_head(weight), bias=bias.reshape((HEADS, -1)))


def module(tree, read):
    """The whole module, from x to the output projection; `read` is its attention."""
    y = read(*(projected(tree, letter) for letter in "qkv"))
    weight, bias = tree["par"]["out_proj.weight"], tree["par"]["out_proj.bias"]
    W_c = namespace(weight).matrix_transpose(weight).reshape((HEADS, -1, weight.shape[0]))
    return head_merge(y, W_c, bias=bias)


def reader(name):
    return partial(dilated_attention, **OPTIONS[name], offsets="torchscale")


def inputs(name):
    return {"in": loaded(name, "in."), "par": loaded(name, "par.")}


@each_vector
def test_values(name):
    tree, expected = inputs(name), loaded(name, "out.")
    assert_close(module(tree, reader(name)), expected["y"], within=1e-10)


@each_vector
def test_branches_and_their_mixture(name):
    options, aux = dict(OPTIONS[name]), loaded(name, "aux.")
    pairs = zip(options.pop("segments"), options.pop("dilations"), strict=True)
    Q, K, V = (projected(inputs(name), letter) for letter in "qkv")
    found = [
        dilated_branch(Q, K, V, segment=w, dilation=r, offsets="torchscale", **options)
        for w, r in pairs
    ]
    for i, (y, l) in enumerate(found):
        assert_close(y, aux["branch_out"][i], within=1e-10)
        official = np.where(aux["branch_lse"][i] == -1e8, -np.inf, aux["branch_lse"][i])
        assert_close(l, official, within=1e-10)
    mixed = mix_branches(*zip(*found, strict=True))
    tokens_first = np.moveaxis(mixed, -3, -2)
    assert_close(tokens_first.reshape(aux["mixed"].shape), aux["mixed"], within=1e-10)


@each_vector
def test_gradients(name):
    """Of the forward pass: with the mixing weights differentiated too."""
    tree, cotangent = inputs(name), loaded(name, "cot.")["y"]
    _, gradient = value_and_grad(
        lambda tree: namespace(tree["in"]["x"]).sum(module(tree, reader(name)) * cotangent)
    )(tree)
    for key, full, plain in (("in", "gin_full.", "gin."), ("par", "gpar_full.", "gpar.")):
        expected = {**loaded(name, plain), **loaded(name, full)}
        assert expected.keys() == gradient[key].keys()
        for part, value in expected.items():
            assert_close(gradient[key][part], value, within=1e-10, what=part)


@each_vector
def test_gradients_with_detached_weights(name):
    """The module's own autograd gives what the mistake of that name does, far from the gradient."""
    options, cotangent = dict(OPTIONS[name]), loaded(name, "cot.")["y"]
    pairs = [*zip(options.pop("segments"), options.pop("dilations"), strict=True)]
    mixed = mistakes["mix-branches", "detached-weights"]

    def read(Q, K, V):
        found = [
            dilated_branch(Q, K, V, segment=w, dilation=r, offsets="torchscale", **options)
            for w, r in pairs
        ]
        return mixed(*zip(*found, strict=True))

    def f(tree):
        return namespace(tree["in"]["x"]).sum(module(tree, read) * cotangent)

    _, gradient = value_and_grad(f)(inputs(name))
    for key, plain in (("in", "gin."), ("par", "gpar.")):
        for part, value in loaded(name, plain).items():
            assert_close(gradient[key][part], value, within=1e-10, what=part)
    true = loaded(name, "gin_full.")["x"]
    assert largest(gradient["in"]["x"] - true) > 0.2 * largest(true)
