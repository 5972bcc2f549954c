"""Params of a formula: the keys it needs, and in which words it asks for them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from autograd import grad

import vtnp
from vtnp._array.typing import Array, Float
from vtnp._registry.spec import registry, spec
from vtnp.models import parts

RNG = np.random.default_rng(5)
X = RNG.normal(size=(3, 4))
Z, CLS = RNG.normal(size=(2, 6, 4)), RNG.normal(size=4)


def layer():
    return parts.layer(RNG, 4, 2, 8, np.float64)


def divided():
    step = parts.attention_half(RNG, 4, 2, np.float64)
    return parts.feed_forward_half(RNG, 4, 8, np.float64) | {"time": step, "space": step}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda p: p.pop("norm_2"), r"params: expected a key 'norm_2', got \['norm_1', "),
        (
            lambda p: p["attention"].pop("W_c"),
            r"params\['attention'\]: expected a key 'W_c', got \['W_q', ",
        ),
        (
            lambda p: p["attention"].update(W_o=X),
            r"params\['attention'\]: expected no keys but \['W_c', .*, 'b_v'\], got \['W_o'\]",
        ),
        (lambda p: p.update(norm2={}), r"params: expected no keys but \[.*\], got \['norm2'\]"),
        (lambda p: p.update(norm_1=X), r"params\['norm_1'\]: expected a mapping, got array"),
    ],
)
def test_keys_are_asked_for_by_name(spoil, message):
    params = layer()
    spoil(params)
    for call in (vtnp.encoder.encoder_layer, vtnp.encoder.pre_norm_layer):
        with pytest.raises(vtnp.FormulaError, match=r"^[a-z-]+-layer: argument " + message):
            call(X, params, eps=1e-6)


def test_params_that_are_no_mapping_are_refused():
    with pytest.raises(vtnp.FormulaError, match="params: expected a mapping, got None"):
        vtnp.encoder.encoder_layer(X, None, eps=1e-6)


def test_a_step_is_named_in_the_message():
    params = divided()
    del params["time"]["attention"]["W_q"]
    expected = r"^divided-layer: argument params\['time'\]\['attention'\]: expected a key 'W_q'"
    with pytest.raises(vtnp.FormulaError, match=expected):
        vtnp.timesformer.divided_layer(Z, CLS, params)


def test_a_step_does_not_look_at_the_other_half():
    params = layer()
    assert vtnp.encoder.feed_forward_sublayer(X, params | {"more": X}, eps=1e-6).shape == X.shape


def test_boxed_params_are_looked_through():
    params = layer()
    slope = grad(lambda p: np.sum(1.0) * vtnp.encoder.encoder_layer(X, p, eps=1e-6)[0, 0])(params)
    assert slope.keys() == params.keys()
    del params["norm_1"]["beta"]
    with pytest.raises(vtnp.FormulaError, match=r"params\['norm_1'\]: expected a key 'beta'"):
        grad(lambda p: vtnp.encoder.encoder_layer(X, p, eps=1e-6)[0, 0])(params)


def test_every_formula_with_params_says_which():
    def silent(x: Float[Array, "*b"], params: Mapping[str, Any]) -> Float[Array, "*b"]:
        return x * params["W"]

    with pytest.raises(TypeError, match="'silent': an argument params and its keys go together"):
        spec("silent")(silent)
    assert "silent" not in registry


def test_values_that_are_to_be_projected_need_their_matrix():
    attention = parts.attention(RNG, 4, 2, np.float64)
    W = np.ones((2, 4, 2))
    params = {"attention": attention, "trajectory": {"W_q": W, "W_k": W}}
    assert vtnp.motionformer.trajectory_self_attention(Z, CLS, params)[0].shape == Z.shape
    with pytest.raises(vtnp.FormulaError, match="params: expected a key 'W_v' in 'trajectory'"):
        vtnp.motionformer.trajectory_self_attention(Z, CLS, params, value_projection=True)
