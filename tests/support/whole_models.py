"""What the tests of whole models share. A model is a module of vtnp.models: its init and apply."""

from dataclasses import replace
from typing import Any, NamedTuple

import autograd.numpy as anp
import numpy as np
from autograd import value_and_grad

import vtnp
from vtnp._array import trees
from vtnp.longnet import Branch
from vtnp.models import longnet, motionformer, mvit, nystromformer, parts, timesformer, vivit
from vtnp.motionformer import Prototypes


class Small(NamedTuple):
    """A model, and sizes of it that are quick to compute."""

    model: Any
    config: Any


def _variants(model: Any, name: str, **changed: dict[str, Any]) -> dict[str, Small]:
    tiny = model.CONFIGS[f"{name}-tiny"]
    return {f"{name}-{key}": Small(model, replace(tiny, **each)) for key, each in changed.items()}


SMALL = {
    **_variants(
        timesformer,
        "timesformer",
        **{scheme: {"scheme": scheme} for scheme in timesformer.SCHEMES},
    ),
    **{
        f"vivit-{each.model}": Small(vivit, each)
        for name, each in vivit.CONFIGS.items()
        if name.startswith("vivit-tiny")
    },
    **_variants(vivit, "vivit", sampled={"sampled": 6}),
    **_variants(
        motionformer,
        "motionformer",
        released={},
        paper={"value_projection": True},
        orthoformer={"prototypes": Prototypes(6)},
        both={
            "value_projection": True,
            "prototypes": Prototypes(6, "both", start=1),
        },
    ),
    **_variants(
        mvit,
        "mvit",
        tiny={},
        odd={"frames": 5, "image": (10, 18), "stem_stride": (1, 2, 2), "stages": (1, 1), "d": 6},
        max={"mode": "max", "size": None},
    ),
    # Four frames of fifteen tokens; seven landmarks leave a rest.
    **_variants(
        nystromformer,
        "nystromformer",
        tiny={},
        odd={"image": (20, 12), "patch": (2, 4, 4), "landmarks": 7, "kernel": 3},
    ),
    **_variants(
        longnet,
        "longnet",
        tiny={},
        odd={
            "image": (20, 12),
            "patch": (2, 4, 4),
            "branches": (Branch(7, 1), Branch(50, 3), Branch(99, 5)),
        },
    ),
}


def videos(config: Any, batch: tuple[int, ...] = (3,), seed: int = 1) -> Any:
    shape = (*batch, config.frames, *config.image, config.channels)
    return np.random.default_rng(seed).standard_normal(shape)


def new(model: Any, config: Any, seed: int = 0, dtype: Any = np.float64) -> Any:
    return model.init(np.random.default_rng(seed), config, dtype=dtype)


def drawn(model: Any, config: Any, seed: int = 0) -> Any:
    """Return params none of which is at its initial value, small enough not to saturate."""
    rng = np.random.default_rng(seed)
    params = model.init(rng, config)
    return trees.tree_map(lambda x: x + 0.1 * rng.standard_normal(x.shape), params)


def logits_of_pre_norm_layers(params: Any, video: Any, config: Any) -> Any:
    """Return what a model of sequences is when its attention is the exact one of all tokens."""
    z = vtnp.tokens.linear_embedding(
        vtnp.tokens.patch_tokens(video, size=config.patch), **params["embedding"]
    )
    z = vtnp.positions.separable_positions(z, params["e_space"], params["e_time"])
    z = z.reshape((len(video), -1, config.d))
    for layer in params["layers"]:
        z = vtnp.encoder.pre_norm_layer(z, layer, eps=config.eps)
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
        for path, g in trees.tree_leaves(gradient):
            mean[path] = 0.9 * mean.get(path, 0.0) + 0.1 * g
            square[path] = 0.99 * square.get(path, 0.0) + 0.01 * g**2
            spread = np.sqrt(square[path] / (1 - 0.99**k)) + 1e-8
            updates.append(rate * mean[path] / (1 - 0.9**k) / spread)
        params = moved(params, updates)
    return losses


def moved(params: Any, updates: list[Any]) -> Any:
    """Return params minus the updates, which are in the order of the leaves."""
    each = iter(updates)
    return trees.tree_map(lambda x: x - next(each), params)


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


# --- Gradients ---------------------------------------------------------------------------


def assert_every_param_has_a_gradient_and_a_step_along_it_helps(
    model: Any, config: Any, *, cancels: str = "b_k", least: float = 1e-12
) -> float:
    """Return the loss of a new model, whose params all have gradients larger than the least.

    What cancels in every softmax, by default a bias on the keys, has 0 but for rounding.
    """
    params = new(model, config)
    args = (model, config, videos(config, (config.classes,)), np.arange(config.classes))
    before, gradient = value_and_grad(loss)(params, *args)
    for path, g in trees.tree_leaves(gradient):
        assert np.any(np.abs(g) > least) or path.endswith(cancels), path
    step = [0.02 * g for _, g in trees.tree_leaves(gradient)]
    assert loss(moved(params, step), *args) < before
    return before
