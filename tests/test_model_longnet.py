"""The video encoder of dilated attention."""

from dataclasses import replace

import numpy as np
import pytest
from autograd import value_and_grad

import vtnp
from tests import readings
from tests.compare import assert_close
from vtnp._xp import namespace
from vtnp.models import parts
from vtnp.models.longnet import CONFIGS, LongNetConfig, apply, init

TINY = CONFIGS["longnet-tiny"]
ODD = replace(TINY, image=(20, 12), patch=(2, 4, 4), segments=(7, 50, 99), dilations=(1, 3, 5))


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
    assert_close(
        apply(params, video[1], config), logits[1], within=1e-5 if dtype == np.float32 else 1e-12
    )


def test_one_dense_branch_is_a_stack_of_pre_norm_layers():
    t, s = TINY.grid
    config = replace(TINY, segments=(t * s,), dilations=(1,))
    params, video = drawn(config)
    z = vtnp.linear_embedding(vtnp.patch_tokens(video, size=config.patch), **params["embedding"])
    z = vtnp.separable_positions(z, params["e_space"], params["e_time"])
    z = z.reshape((2, t * s, config.d))
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
        # A bias on the keys cancels in the softmax: its gradient is 0 but for rounding.
        assert np.any(np.abs(g) > 1e-12) or path.endswith("b_k"), path
    step = iter([0.02 * g for _, g in parts.leaves(gradient)])
    assert loss(parts.mapped(lambda x: x - next(step), params), video, label, TINY) < before


# The formulas are read on every library one by one; JAX and Dask would take long over a model.
@pytest.mark.parametrize("name", [name for name in readings.NAMES if name in {"strict", "torch"}])
def test_other_readings_agree(name):
    reading, config = readings.reading(name), replace(ODD, layers=1)
    params, video = drawn(config)
    there = apply(parts.mapped(reading.asarray, params), reading.asarray(video), config)
    assert_close(reading.to_numpy(there), apply(params, video, config))


def test_configs():
    for config in CONFIGS.values():
        assert len(config.segments) == len(config.dilations)
        assert 1 in config.dilations, "some token might be read by nobody"
        assert max(config.dilations) <= config.heads, "some branch might leave tokens out"
    assert CONFIGS["longnet"].d == 768
    with pytest.raises(ValueError, match="no multiple of the patch"):
        LongNetConfig(image=(20, 20))
