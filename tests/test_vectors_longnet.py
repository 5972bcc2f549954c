"""Official numbers: torchscale's DilatedAttention in float64, values and every gradient.

Its flash-attention call was replaced by an exact one. The module takes its mixing weights out of
the graph; `gin_full` and `gpar_full` hold the gradient with them in it, which is that of its
forward pass.
"""

from functools import partial

import numpy as np
import pytest

from tests.compare import assert_close, largest
from tests.vectors import WITHIN, assert_gradients, assert_results, gradients, load, named
from vtnp._xp import namespace
from vtnp.encoder import head_merge, head_projection
from vtnp.longnet import dilated_attention, dilated_branch, mix_branches
from vtnp.mistakes import mistakes

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


def by_head(weight):
    """(out, in) with rows head-major -> (heads, in, out of one head)."""
    return namespace(weight).matrix_transpose(weight.reshape((HEADS, -1, weight.shape[-1])))


def projected(vectors, letter):
    """Return Q, K or V of every head."""
    weight, bias = vectors[f"par.{letter}_proj.weight"], vectors[f"par.{letter}_proj.bias"]
    return head_projection(vectors["in.x"], by_head(weight), bias=bias.reshape((HEADS, -1)))


def module(read):
    """The whole module, from x to the output projection; `read` is its attention."""

    def f(vectors):
        y = read(*(projected(vectors, letter) for letter in "qkv"))
        weight, bias = vectors["par.out_proj.weight"], vectors["par.out_proj.bias"]
        W_c = namespace(weight).matrix_transpose(weight).reshape((HEADS, -1, weight.shape[0]))
        return {"out.y": head_merge(y, W_c, bias=bias)}

    return f


def ours(name):
    return module(partial(dilated_attention, **OPTIONS[name], offsets="torchscale"))


def branches(name, Q, K, V):
    options = dict(OPTIONS[name])
    pairs = zip(options.pop("segments"), options.pop("dilations"), strict=True)
    return [
        dilated_branch(Q, K, V, segment=w, dilation=r, offsets="torchscale", **options)
        for w, r in pairs
    ]


@each_vector
def test_values(name):
    assert_results(ours(name), load(name))


@each_vector
def test_branches_and_their_mixture(name):
    vectors = load(name)
    aux = named(vectors, "aux")
    found = branches(name, *(projected(vectors, letter) for letter in "qkv"))
    for i, (y, l) in enumerate(found):
        assert_close(y, aux["branch_out"][i], within=WITHIN)
        official = np.where(aux["branch_lse"][i] == -1e8, -np.inf, aux["branch_lse"][i])
        assert_close(l, official, within=WITHIN)
    mixed = mix_branches(*zip(*found, strict=True))
    tokens_first = np.moveaxis(mixed, -3, -2)
    assert_close(tokens_first.reshape(aux["mixed"].shape), aux["mixed"], within=WITHIN)


@each_vector
def test_gradients(name):
    """Of the forward pass: with the mixing weights differentiated too."""
    vectors = load(name)
    for kind in ("gin", "gpar"):
        full = named(vectors, f"{kind}_full")
        assert full
        vectors |= {f"{kind}.{part}": x for part, x in full.items()}
    assert_gradients(ours(name), vectors)


@each_vector
def test_gradients_with_detached_weights(name):
    """The module's own autograd gives what the mistake of that name does, far from the gradient."""
    mixed = mistakes["mix-branches", "detached-weights"]
    detached = module(lambda Q, K, V: mixed(*zip(*branches(name, Q, K, V), strict=True)))
    vectors = load(name)
    assert_gradients(detached, vectors)
    true = vectors["gin_full.x"]
    assert largest(gradients(detached, vectors)["in.x"] - true) > 0.2 * largest(true)
