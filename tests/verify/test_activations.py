"""What our models compute on the way, by name: every model, and params that layers share."""

import numpy as np
import pytest

from vtnp._array.trees import tree_leaves
from vtnp._registry.spec import registry
from vtnp.cost.models import config as configuration
from vtnp.cost.models import names
from vtnp.verify.models.activations import record
from vtnp.verify.models.subjects import subject

LAYERS_ALONE = ("nystromformer", "longnet")
TINY = sorted(x for x in names() if "tiny" in x and not x.startswith(LAYERS_ALONE))


def drawn(name):
    """Return a model, its config, what is compared of it, params and an input."""
    module, config = names()[name], configuration(name)
    ours = subject(module.__name__.rpartition(".")[2], config)
    params = module.init(np.random.default_rng(0), config)
    x = np.random.default_rng(1).standard_normal((2, *ours.shape))
    return module, config, ours, params, x


def recorded(ours, params, x, **options):
    found = {}
    record(ours.run, params, x, found.__setitem__, **options)
    return found


@pytest.mark.parametrize("name", TINY)
def test_every_model_has_quantities_and_computes_the_same_while_they_are_recorded(name):
    module, config, ours, params, x = drawn(name)
    found = recorded(ours, params, x)
    np.testing.assert_array_equal(found["logits"], module.apply(params, x, config))
    assert not [path for path in found if path.endswith(".2") and "weights" not in path]
    layers = [path for path, _ in tree_leaves(params) if "layers.1." in path and "norm" in path]
    wanted = {path.rpartition(".")[0] for path in layers}
    assert wanted
    assert wanted <= found.keys()


# --- Shared params --------------------------------------------------------------------------------


def tied(params):
    """Let both layers have the very same arrays."""
    params["layers"][1] = params["layers"][0]
    return params


def test_params_that_two_layers_share_are_attributed_to_the_layer_that_uses_them():
    _, _, ours, params, x = drawn("timesformer-tiny")
    apart = recorded(ours, params, x)
    shared = recorded(ours, tied(params), x)
    assert list(shared) == list(apart)
    norms = [shared[f"layers.{i}.space.norm_1.input"] for i in (0, 1)]
    assert not np.array_equal(*norms)


def test_one_gain_that_two_layers_share():
    _, _, ours, params, x = drawn("vivit-tiny")
    names_apart = list(recorded(ours, params, x))
    layers = params["encoder"]["layers"]
    gamma = layers[0]["norm_1"]["gamma"]
    layers[1]["norm_1"]["gamma"] = gamma
    found = recorded(ours, params, x)
    assert list(found) == names_apart
    for i in (0, 1):
        name = f"encoder.layers.{i}.norm_1"
        of_layer = registry["layer-norm"].function(
            found[f"{name}.input"], gamma, layers[i]["norm_1"]["beta"], eps=1e-6
        )
        np.testing.assert_allclose(found[name], of_layer, rtol=1e-12)


def test_a_replacement_goes_to_the_layer_that_it_is_for():
    """Of two layers with the same params, the first alone is changed."""
    _, _, ours, params, x = drawn("timesformer-tiny")
    before = recorded(ours, tied(params), x)
    name = "layers.1.space.norm_1"
    after = recorded(ours, params, x, replacements={name: before[name] + 1.0})
    changed = [key for key in before if not np.array_equal(before[key], after[key])]
    assert changed
    assert not any(key.startswith("layers.0.") for key in changed)
