"""Training with the gradients of the formulas: loss, optimiser, schedule, evaluation."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from autograd import value_and_grad

from vtnp._array.xp import constant, namespace
from vtnp.models import tree_leaves, tree_map

Table = dict[str, Any]  # arrays by name
_PEAK_RATE = 3e-3
_WARM_UP = 0.1  # of all steps
_CLIP_NORM = 1.0
_DECAY = 0.01
_MEAN_KEPT, _SQUARE_KEPT = 0.9, 0.99
_EPS = 1e-8
_EVALUATION_BATCH = 120


class Optimiser(NamedTuple):
    """The state of AdamW for each array: running means of its gradient and of its square.

    autograd.misc.optimizers.adam keeps these inside its loop, where no checkpoint can get at them,
    and has neither weight decay nor gradient clipping.
    """

    mean: Table
    square: Table


def fresh(params: Any) -> Optimiser:
    """Return the state of an optimiser before the first step."""
    zeros = {name: array * 0.0 for name, array in tree_leaves(params)}
    return Optimiser(zeros, dict(zeros))


def rate(step: int, steps: int) -> float:
    """Return the learning rate of a step: a linear warm-up, then a cosine decay to 0."""
    warm = min(1.0, (step + 1) / max(1.0, _WARM_UP * steps))
    return _PEAK_RATE * min(warm, 0.5 * (1.0 + math.cos(math.pi * step / steps)))


def clipped(gradient: Table) -> Table:
    """Clip a gradient to the largest norm allowed."""
    xp = namespace(*gradient.values())
    norm = math.sqrt(math.fsum(float(xp.sum(g * g)) for g in gradient.values()))
    scale = min(1.0, _CLIP_NORM / (norm + _EPS))
    return {name: g * scale for name, g in gradient.items()}


def adamw(
    params: Any, gradient: Any, optimiser: Optimiser, step: int, steps: int
) -> tuple[Any, Optimiser]:
    """Take one step of AdamW; weight decay applies to matrices, not to biases, gains and tokens."""
    mean, square, new = {}, {}, {}
    table = dict(tree_leaves(params))
    xp = namespace(*table.values())
    lr = rate(step, steps)
    for name, g in clipped(dict(tree_leaves(gradient))).items():
        x = table[name]
        mean[name] = m = _MEAN_KEPT * optimiser.mean[name] + (1 - _MEAN_KEPT) * g
        square[name] = v = _SQUARE_KEPT * optimiser.square[name] + (1 - _SQUARE_KEPT) * g * g
        m, v = m / (1 - _MEAN_KEPT ** (step + 1)), v / (1 - _SQUARE_KEPT ** (step + 1))
        new[name] = x - lr * (m / (xp.sqrt(v) + _EPS) + (_DECAY * x if x.ndim > 1 else 0.0))
    return filled(params, new), Optimiser(mean, square)


def filled(tree: Any, table: Table) -> Any:
    """Return a tree whose arrays are those of the same path in a table."""
    values = iter([table[name] for name, _ in tree_leaves(tree)])
    return tree_map(lambda _: next(values), tree)


def cross_entropy(logits: Any, targets: Any) -> Any:
    """Return the mean of -log softmax(logits)[label]; targets: the labels, one-hot."""
    xp = namespace(logits, targets)
    shifted = logits - xp.max(constant(logits), axis=-1, keepdims=True)
    log_total = xp.log(xp.sum(xp.exp(shifted), axis=-1, keepdims=True))
    return -xp.sum(targets * (shifted - log_total)) / logits.shape[0]


def loss_and_gradient(apply: Callable[[Any, Any], Any]) -> Callable[..., tuple[Any, Any]]:
    """Return f(params, video, targets) for a model's apply(params, video)."""
    return value_and_grad(lambda params, *batch: cross_entropy(apply(params, batch[0]), batch[1]))


def predictions(apply: Callable[[Any], Any], video: Any) -> Any:
    """Return the label of the largest logit of apply(video) for each clip."""
    xp = namespace(video)
    starts = range(0, len(video), _EVALUATION_BATCH)
    return xp.concat(
        [xp.argmax(apply(video[i : i + _EVALUATION_BATCH]), axis=-1) for i in starts], axis=0
    )
