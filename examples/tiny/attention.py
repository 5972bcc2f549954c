"""What a trained model attends to."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from autograd import grad
from numpy.typing import NDArray

import vtnp
from vtnp.models import timesformer

_CELL = 4  # pixels


@dataclass(frozen=True)
class View:
    """A way to show what a model attends to.

    name: of the picture's file. caption: what the picture shows. unit: of the colours. of: computes
    one number for each cell of a clip, `t h w`, from params, the clip and a config.
    """

    name: str
    caption: str
    unit: str
    of: Callable[[Any, Any, Any], NDArray[Any]]


def last_call(id: str, function: Callable[..., Any], *args: Any) -> vtnp.Call:
    """Return the last call of a formula that function(*args) makes."""
    calls = []

    def record(call: vtnp.Call, proceed: Callable[[vtnp.Call], Any]) -> Any:
        if call.id == id:
            calls.append(call)
        return proceed(call)

    with vtnp.intercept(record):
        function(*args)
    return calls[-1]


def of_class_token(
    params: Any, clip: NDArray[Any], config: timesformer.TimeSformerConfig
) -> NDArray[Any]:
    """Return the share of the class token's attention that each patch gets in the last layer.

    clip: one clip, `T H W C`. The result is `t h w`, averaged over the heads. What is missing from
    a sum of 1 is the weight of the class token itself.
    """
    arguments = last_call("class-attention", timesformer.apply, params, clip, config).arguments
    K, V_cls = arguments["K"], arguments["V_cls"]
    t, s = K.shape[-3:-1]
    # Attention is linear in the values: where each patch's value is a unit vector of its own, the
    # output is the weight of each patch, in whatever neighbourhood.
    units = np.eye(t * s, dtype=K.dtype).reshape(t, s, t * s)
    V = np.broadcast_to(units, (*K.shape[:-1], t * s))
    no_value = np.zeros((*V_cls.shape[:-1], t * s), K.dtype)
    shares = vtnp.timesformer.class_attention(**{**arguments, "V": V, "V_cls": no_value})
    # With the scheme "space" every frame has a class token of its own: an axis before the heads.
    shares = shares.mean(axis=-3) / (config.frames if config.scheme == "space" else 1)
    return shares.reshape(config.grid)


def of_gradient(apply: Callable[[Any, Any, Any], Any], params: Any, clip: Any, config: Any) -> Any:
    """Return the share of each cell in the gradient of the largest logit.

    clip: one clip, `T H W C`. The result is `t h w`, of absolute values, and sums to 1.
    """
    predicted = int(np.argmax(apply(params, clip, config)))
    gradient = np.abs(grad(lambda clip: apply(params, clip, config)[predicted])(clip))
    frames, height, width, _ = clip.shape
    shape = (frames, height // _CELL, _CELL, width // _CELL, _CELL, -1)
    return gradient.reshape(shape).sum(axis=(2, 4, 5)) / gradient.sum()
