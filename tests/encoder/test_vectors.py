"""The encoder layers against vectors from torch: values and all gradients."""

import pytest

import vtnp
from tests.support import torch_names
from tests.support.compare import difference
from tests.support.vectors import assert_gradients, assert_results, load, named

CONFIGS = {
    "encoder_survey_fig2": {"norm_first": False, "heads": 3, "eps": 1e-5},
    "encoder_preln_gelu": {"norm_first": True, "heads": 4, "eps": 1e-6},
}
each_vector = pytest.mark.parametrize("name", CONFIGS)


def layer(config):
    """Return the formula of a case as a function of torch's parameters."""

    def f(vectors):
        x, params = (
            vectors["in.x"],
            torch_names.encoder_layer(named(vectors, "par"), config["heads"]),
        )
        if config["norm_first"]:
            return {
                "out.y": vtnp.encoder.pre_norm_layer(
                    x, params, eps=config["eps"], activation="gelu"
                )
            }
        return {"out.y": vtnp.encoder.encoder_layer(x, params, eps=config["eps"])}

    return f


@each_vector
def test_values_are_those_of_torch(name):
    assert_results(layer(CONFIGS[name]), load(name))


@each_vector
def test_gradients_are_those_of_torch(name):
    assert_gradients(layer(CONFIGS[name]), load(name))


@each_vector
def test_the_vectors_distinguish_the_two_layers(name):
    vectors = load(name)
    other = {**CONFIGS[name], "norm_first": not CONFIGS[name]["norm_first"]}
    assert difference(layer(other)(vectors)["out.y"], vectors["out.y"]) > 1e-2
