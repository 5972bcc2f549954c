"""What a trained model looks at."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np
from autograd import grad
from numpy.typing import NDArray

import vtnp.timesformer as formulas
from vtnp.models import timesformer

_CELL = 4  # pixels


@dataclass(frozen=True)
class View:
    """A way to see what a model looks at.

    name: of its picture. says: what the picture shows. unit: of its colours. of: from params, a
    clip and a config to one number for each cell of the clip, `t h w`.
    """

    name: str
    says: str
    unit: str
    of: Callable[[Any, Any, Any], NDArray[Any]]


def of_class_token(
    params: Any, clip: NDArray[Any], config: timesformer.TimeSformerConfig
) -> NDArray[Any]:
    """Return the share of the class token's attention that each patch gets in the last layer.

    clip: one clip, `T H W C`. The result is `t h w`, averaged over the heads; what is missing
    from a sum of 1 is what the class token gives to itself.
    """
    with patch.object(formulas, "class_attention", wraps=formulas.class_attention) as watched:
        timesformer.apply(params, clip, config)
    (Q_cls, K, _), options = watched.call_args
    t, s = K.shape[-3:-1]
    # A reading is linear in the values. Where each patch's value is its own name, the reading is
    # the weight of each patch, whatever the scheme's neighbourhoods are.
    names = np.eye(t * s, dtype=K.dtype).reshape(t, s, t * s)
    options["V_cls"] = np.zeros((*options["V_cls"].shape[:-1], t * s), K.dtype)
    shares = formulas.class_attention(
        Q_cls, K, np.broadcast_to(names, (*K.shape[:-1], t * s)), **options
    )
    # With the scheme "space" every frame has a class token of its own: an axis before the heads.
    shares = shares.mean(axis=-3) / (config.frames if config.scheme == "space" else 1)
    return shares.reshape(config.grid)


def of_gradient(apply: Callable[[Any, Any, Any], Any], params: Any, clip: Any, config: Any) -> Any:
    """Return the share of each cell in how strongly pixels move the likeliest logit.

    clip: one clip, `T H W C`. The result is `t h w`, cells of one frame, and sums to 1.
    """
    likeliest = int(np.argmax(apply(params, clip, config)))
    strength = np.abs(grad(lambda clip: apply(params, clip, config)[likeliest])(clip))
    frames, height, width, _ = clip.shape
    shape = (frames, height // _CELL, _CELL, width // _CELL, _CELL, -1)
    return strength.reshape(shape).sum(axis=(2, 4, 5)) / strength.sum()
