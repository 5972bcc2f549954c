"""The video encoder of Nyström attention."""

from dataclasses import replace

import numpy as np
import pytest
from autograd import value_and_grad

import vtnp
from tests import readings
from tests.compare import assert_close, difference
from vtnp._xp import namespace
from vtnp.models import parts
from vtnp.models.nystromformer import CONFIGS, NystromformerConfig, apply, init

TINY = CONFIGS["nystromformer-tiny"]
# Four frames of fifteen tokens; seven landmarks leave a rest.
ODD = replace(TINY, image=(20, 12), patch=(2, 4, 4), landmarks=7, kernel=3)


def drawn(config, dtype=np.float64):
    rng = np.random.default_rng(0)
    video = rng.standard_normal((2, *config.video, config.channels)).astype(dtype)
    return init(rng, config, dtype=dtype), video


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("config", [TINY, ODD], ids=["tiny", "odd"])
def test_logits(config, dtype):
    params, video = drawn(config, dtype)
    logits = apply(params, video, config)
    assert logits.shape == (2, config.classes)
    assert logits.dtype == dtype
    assert np.all(np.isfinite(logits))
    alone = apply(params, video[1], config)
    assert_close(alone, logits[1], within=1e-5 if dtype == np.float32 else 1e-12)


def test_the_released_start_value_makes_videos_of_a_batch_depend_on_each_other():
    params, video = drawn(TINY)
    # At first all scores are near 0 and all start values alike.
    for layer in params["layers"]:
        layer["attention"]["W_q"] = 30.0 * layer["attention"]["W_q"]
    for start, apart in (("paper", False), ("original", True)):
        config = replace(TINY, start=start)
        together = apply(params, video, config)
        alone = np.stack([apply(params, each, config) for each in video])
        # The video with the largest sums has its own start value in either case.
        assert (difference(alone, together) > 1e-6) == apart


def test_all_landmarks_without_kernel_are_a_stack_of_pre_norm_layers():
    config = replace(TINY, image=(4, 4), patch=(2, 4, 4), landmarks=4, kernel=0, pinv="exact")
    params, video = drawn(config)
    # Tokens that attend mostly to themselves, so that the pseudo-inverse is well conditioned.
    for layer in params["layers"]:
        layer["attention"]["W_q"] = 3.0 * layer["attention"]["W_k"]
    z = vtnp.linear_embedding(vtnp.patch_tokens(video, size=config.patch), **params["embedding"])
    z = vtnp.separable_positions(z, params["e_space"], params["e_time"])
    z = z.reshape((2, 4, config.d))
    for layer in params["layers"]:
        z = vtnp.pre_norm_layer(z, layer, eps=config.eps)
    assert_close(apply(params, video, config), parts.logits(z.mean(axis=-2), params, config.eps))


def loss(params, video, label, config):
    weights = vtnp.softmax(apply(params, video, config))
    xp = namespace(weights)
    return -xp.mean(xp.log(xp.sum(weights * label, axis=-1)))


def test_every_param_has_a_gradient_and_a_step_along_it_helps():
    params, video = drawn(TINY)
    label = np.eye(TINY.classes)[[0, 3]]
    before, gradient = value_and_grad(loss)(params, video, label, TINY)
    for path, g in parts.leaves(gradient):
        # A bias on the keys cancels in every softmax: its gradient is 0 but for rounding.
        assert np.any(np.abs(g) > 1e-12) or path.endswith("b_k"), path
    step = iter([0.02 * g for _, g in parts.leaves(gradient)])
    assert loss(parts.mapped(lambda x: x - next(step), params), video, label, TINY) < before


def largest_gradient(config, seed):
    rng = np.random.default_rng(seed)
    video = rng.standard_normal((2, *config.video, config.channels))
    params, label = init(rng, config), np.eye(config.classes)[[0, 3]]
    _, gradient = value_and_grad(loss)(params, video, label, config)
    return max(np.max(np.abs(g)) for _, g in parts.leaves(gradient))


def test_exact_inverse_has_unbounded_gradients_at_random_weights():
    """Finite, but of some draws hundreds of times larger than the iteration's."""
    exact = [largest_gradient(replace(TINY, pinv="exact"), seed) for seed in range(4)]
    iterative = [largest_gradient(TINY, seed) for seed in range(4)]
    assert max(iterative) < 1.0
    assert 50.0 < max(exact) < np.inf


# The formulas are read on every library one by one; JAX and Dask would take long over a model.
@pytest.mark.parametrize("name", [name for name in readings.NAMES if name in {"strict", "torch"}])
def test_other_readings_agree(name):
    reading, config = readings.reading(name), replace(ODD, layers=1)
    params, video = drawn(config)
    there = apply(parts.mapped(reading.asarray, params), reading.asarray(video), config)
    assert_close(reading.to_numpy(there), apply(params, video, config))


def test_configs():
    for config in CONFIGS.values():
        t, s = config.grid
        assert config.landmarks < t * s
        assert config.kernel % 2 == 1
    assert CONFIGS["nystromformer"].d == 768
    with pytest.raises(ValueError, match="no multiple of the patch"):
        NystromformerConfig(image=(20, 20))
