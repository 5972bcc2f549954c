"""What the tests of whole models share. A model is a module of vtnp.models: its init and apply."""

from dataclasses import replace
from functools import cache
from typing import Any

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import value_and_grad

import vtnp
from tests import readings
from tests.compare import assert_close
from vtnp.models import parts

each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])
# The formulas are read on every library one by one; JAX and Dask would take long over a model.
each_reading = pytest.mark.parametrize(
    "name", [name for name in readings.NAMES if name in {"strict", "torch"}]
)


def videos(config: Any, batch: tuple[int, ...] = (3,), seed: int = 1) -> Any:
    shape = (*batch, config.frames, *config.image, config.channels)
    return np.random.default_rng(seed).standard_normal(shape)


def new(model: Any, config: Any, seed: int = 0) -> Any:
    return model.init(np.random.default_rng(seed), config)


def drawn(model: Any, config: Any, seed: int = 0) -> Any:
    """Return params none of which is at its initial value, small enough not to saturate."""
    rng = np.random.default_rng(seed)
    params = model.init(rng, config)
    return parts.mapped(lambda x: x + 0.1 * rng.standard_normal(x.shape), params)


@cache
def numbers(model: Any, config: Any) -> int:
    """Count the numbers of a model; layers are alike, so that one of them is enough to draw."""
    none, one = (
        parts.size(
            model.init(np.random.default_rng(0), replace(config, layers=n), dtype=np.float16)
        )
        for n in (0, 1)
    )
    return none + config.layers * (one - none)


def logits_of_pre_norm_layers(params: Any, video: Any, config: Any) -> Any:
    """Return what a model of sequences is when its attention is the exact one of all tokens."""
    z = vtnp.linear_embedding(vtnp.patch_tokens(video, size=config.patch), **params["embedding"])
    z = vtnp.separable_positions(z, params["e_space"], params["e_time"])
    z = z.reshape((len(video), -1, config.d))
    for layer in params["layers"]:
        z = vtnp.pre_norm_layer(z, layer, eps=config.eps)
    return parts.logits(z.mean(axis=-2), params, config.eps)


def spread_of_change(before: Any, after: Any) -> str:
    """Return the root mean square change of logits over their spread between clips."""
    spread = np.sqrt(np.mean((before - before.mean(axis=0)) ** 2))
    return f"{np.sqrt(np.mean((after - before) ** 2)) / spread:.2g}"


# --- Losses and training --------------------------------------------------------------------------


def loss(params: Any, model: Any, config: Any, video: Any, labels: Any) -> Any:
    """Return the mean cross entropy of the videos with their classes."""
    logits = model.apply(params, video, config)
    right = anp.sum(logits * np.eye(config.classes)[labels], axis=-1)
    return anp.mean(anp.log(anp.sum(anp.exp(logits), axis=-1)) - right)


def trained(params: Any, steps: int, *loss_args: Any, rate: float = 3e-3) -> list[float]:
    """Return the losses along so many steps of Adam."""
    losses, mean, square = [], {}, {}
    for k in range(1, steps + 1):
        value, gradient = value_and_grad(loss)(params, *loss_args)
        losses.append(value)
        updates = []
        for path, g in parts.leaves(gradient):
            mean[path] = 0.9 * mean.get(path, 0.0) + 0.1 * g
            square[path] = 0.99 * square.get(path, 0.0) + 0.01 * g**2
            spread = np.sqrt(square[path] / (1 - 0.99**k)) + 1e-8
            updates.append(rate * mean[path] / (1 - 0.9**k) / spread)
        params = moved(params, updates)
    return losses


def moved(params: Any, updates: list[Any]) -> Any:
    """Return params less the updates, which stand in the order of the leaves."""
    each = iter(updates)
    return parts.mapped(lambda x: x - next(each), params)


def assert_learns_which_way_a_bar_moves(model: Any, config: Any, *, step: int) -> None:
    """Assert that forty steps of Adam from init bring the loss down."""
    config = replace(config, layers=1, classes=2)
    clip = np.zeros((2, config.frames, *config.image, config.channels))
    for i in range(config.frames):
        at = slice(step * i, step * i + 4)
        clip[0, i, :, at] = clip[1, i, at] = 1.0
    losses = trained(new(model, config), 40, model, config, clip, [0, 1])
    assert abs(losses[0] - np.log(2)) < 0.1, "a new model should not be sure of anything"
    assert losses[-1] < 0.1 * losses[0]


# --- What holds for all ---------------------------------------------------------------------------


def assert_init_is_of_the_dtype_and_of_the_seed(model: Any, config: Any, dtype: Any) -> None:
    one, same = (model.init(np.random.default_rng(7), config, dtype=dtype) for _ in range(2))
    other = model.init(np.random.default_rng(8), config, dtype=dtype)
    again = dict(parts.leaves(same))
    for path, x in parts.leaves(one):
        assert x.dtype == dtype, path
        assert np.array_equal(x, again[path]), path
    first = next(path for path, _ in parts.leaves(one) if path.startswith("embedding"))
    assert not np.array_equal(again[first], dict(parts.leaves(other))[first])


def assert_logits(model: Any, config: Any, dtype: Any) -> None:
    """Assert their shape and dtype, that videos do not meet, and what single precision costs."""
    params, video = drawn(model, config), videos(config, batch=(2, 2))
    exact = model.apply(params, video, config)
    params = parts.mapped(lambda x: x.astype(dtype), params)
    video = video.astype(dtype)
    logits = model.apply(params, video, config)
    assert logits.shape == (2, 2, config.classes)
    assert logits.dtype == dtype
    assert np.all(np.isfinite(logits))
    single = dtype == np.float32
    alone = model.apply(params, video[1, 0], config)
    assert_close(alone, logits[1, 0], within=1e-5 if single else 1e-12)
    assert_close(logits, exact, within=1e-4 if single else 0.0)


def assert_every_param_has_a_gradient_and_a_step_along_it_helps(
    model: Any, config: Any, *, cancels: str = "b_k", least: float = 1e-12
) -> float:
    """Return the loss of a new model, whose params all have gradients larger than the least.

    What cancels in every softmax, by default a bias on the keys, has 0 but for rounding.
    """
    params = new(model, config)
    args = (model, config, videos(config, (config.classes,)), np.arange(config.classes))
    before, gradient = value_and_grad(loss)(params, *args)
    for path, g in parts.leaves(gradient):
        assert np.any(np.abs(g) > least) or path.endswith(cancels), path
    step = [0.02 * g for _, g in parts.leaves(gradient)]
    assert loss(moved(params, step), *args) < before
    return before


def assert_reading_agrees(name: str, model: Any, config: Any) -> None:
    """Assert that another array library computes the same logits."""
    reading = readings.reading(name)
    params, video = drawn(model, config), videos(config, (2,))
    there = model.apply(parts.mapped(reading.asarray, params), reading.asarray(video), config)
    assert_close(reading.to_numpy(there), model.apply(params, video, config))
