"""Official numbers: values and all gradients of torchscale's DilatedAttention, in float64.

Its flash attention was replaced by exact attention. The module detaches its mixing weights from the
computation graph; `gin_full` and `gpar_full` are the gradients without that, those of its forward
pass.
"""

from functools import partial

import numpy as np
import pytest

from tests.support.compare import assert_close, largest
from tests.support.layouts import params_of, prefixed
from tests.support.vectors import WITHIN, assert_gradients, assert_results, gradients, load, named
from vtnp.encoder import output_projection, qkv_projection
from vtnp.longnet import dilated_attention, dilated_branch, mix_branches
from vtnp.mistakes import mistakes
from vtnp.models.longnet import LongNetConfig

CONFIG = LongNetConfig(
    frames=2, image=(4, 4), patch=(1, 4, 4), d=8, heads=4, d_f=8, layers=1, classes=2
)
OPTIONS = {
    "longnet_noncausal_multiple": {
        "branches": [(4, 1), (8, 2), (16, 4)],
        "causal": False,
    },
    "longnet_causal_ragged": {"branches": [(4, 1), (8, 2), (12, 4)], "causal": True},
}
each_vector = pytest.mark.parametrize("name", OPTIONS)


def attention_params(vectors):
    weights = prefixed("layers.0.self_attn.", named(vectors, "par"))
    return params_of("longnet", CONFIG, "torchscale", weights, "layers.0.attention")


def projected(vectors):
    """Return Q, K and V of every head."""
    params = attention_params(vectors)
    return [
        qkv_projection(vectors["in.x"], params[f"W_{letter}"], bias=params[f"b_{letter}"])
        for letter in "qkv"
    ]


def module(attend):
    """Return the whole module, from x to the output projection, with this attention."""

    def f(vectors):
        params = attention_params(vectors)
        y = attend(*projected(vectors))
        return {"out.y": output_projection(y, params["W_c"], bias=params["b_c"])}

    return f


def ours(name):
    return module(partial(dilated_attention, **OPTIONS[name], offsets="torchscale"))


def branches(name, Q, K, V):
    branches, causal = OPTIONS[name].values()
    attend = partial(dilated_branch, offsets="torchscale", causal=causal)
    return [attend(Q, K, V, branch=branch) for branch in branches]


@each_vector
def test_values(name):
    assert_results(ours(name), load(name))


@each_vector
def test_branches_and_their_mixture(name):
    vectors = load(name)
    aux = named(vectors, "aux")
    found = branches(name, *projected(vectors))
    for i, (y, l) in enumerate(found):
        assert_close(y, aux["branch_out"][i], within=WITHIN)
        official = np.where(aux["branch_lse"][i] == -1e8, -np.inf, aux["branch_lse"][i])
        assert_close(l, official, within=WITHIN)
    mixed = mix_branches(*zip(*found, strict=True))
    tokens_first = np.moveaxis(mixed, -3, -2)
    assert_close(tokens_first.reshape(aux["mixed"].shape), aux["mixed"], within=WITHIN)


@each_vector
def test_gradients(name):
    """Those of the forward pass, with the mixing weights differentiated too."""
    vectors = load(name)
    for kind in ("gin", "gpar"):
        full = named(vectors, f"{kind}_full")
        assert full
        vectors |= {f"{kind}.{part}": x for part, x in full.items()}
    assert_gradients(ours(name), vectors)


@each_vector
def test_gradients_with_detached_weights(name):
    """The module computes what the mistake of that name does, which is far from the gradient."""
    mixed = mistakes["mix-branches", "detached-weights"]
    detached = module(lambda Q, K, V: mixed(*zip(*branches(name, Q, K, V), strict=True)))
    vectors = load(name)
    assert_gradients(detached, vectors)
    true = vectors["gin_full.x"]
    assert largest(gradients(detached, vectors)["in.x"] - true) > 0.2 * largest(true)
