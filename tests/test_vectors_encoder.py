"""The encoder layers against numbers that torch computed: values, and all gradients."""

from pathlib import Path

import numpy as np
import pytest
from autograd import value_and_grad

import vtnp
from tests import torch_names
from tests.compare import assert_close, difference
from vtnp._xp import namespace

VECTORS = Path(__file__).parent / "data" / "vectors"
CONFIGS = {
    "encoder_survey_fig2": {"norm_first": False, "heads": 3, "eps": 1e-5},
    "encoder_preln_gelu": {"norm_first": True, "heads": 4, "eps": 1e-6},
}


def layer(config):
    """Return the formula that a case was computed with, as a function of torch's parameters."""

    def f(x, raw):
        params = torch_names.encoder_layer(raw, config["heads"])
        if config["norm_first"]:
            return vtnp.pre_norm_layer(x, params, eps=config["eps"], activation="gelu")
        return vtnp.encoder_layer(x, params, eps=config["eps"])

    return f


def loaded(name):
    with np.load(VECTORS / f"{name}.npz") as file:
        arrays = dict(file)
    raw = {key.removeprefix("par."): x for key, x in arrays.items() if key.startswith("par.")}
    return arrays, raw


@pytest.mark.parametrize("name", CONFIGS)
def test_values_and_gradients_are_those_of_torch(name, record_property):
    arrays, raw = loaded(name)
    f = layer(CONFIGS[name])
    assert_close(f(arrays["in.x"], raw), arrays["out.y"], within=1e-10, what=name)

    def loss(leaves):
        y = f(leaves["x"], leaves["raw"])
        return namespace(y).sum(y * arrays["cot.y"])

    _, gradient = value_and_grad(loss)({"x": arrays["in.x"], "raw": raw})
    found = {"gin.x": gradient["x"]}
    found |= {f"gpar.{key}": g for key, g in gradient["raw"].items()}
    assert set(found) == {key for key in arrays if key.startswith(("gin.", "gpar."))}
    for key, g in found.items():
        assert_close(g, arrays[key], within=1e-10, what=f"{name} {key}")
    worst = max(difference(g, arrays[key]) for key, g in found.items())
    record_property("largest_difference", worst)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_vectors_tell_the_two_layers_apart(name):
    arrays, raw = loaded(name)
    other = {**CONFIGS[name], "norm_first": not CONFIGS[name]["norm_first"]}
    assert difference(layer(other)(arrays["in.x"], raw), arrays["out.y"]) > 1e-2
