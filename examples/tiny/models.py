"""The models that can be trained here, by name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from tiny import attention
from tiny.task import Task

from vtnp.models import timesformer

Params = Any
Config = Any


@dataclass(frozen=True)
class Model:
    """A model small enough to be trained in a minute.

    schemes: its variants, the default first. config: its sizes for a scheme and a task. init:
    params drawn for a config. apply: logits of a batch of clips. attention: what the model looks
    at, one number for each token of one clip, `t h w`.
    """

    schemes: tuple[str, ...]
    config: Callable[[str, Task], Config]
    init: Callable[[np.random.Generator, Config, DTypeLike], Params]
    apply: Callable[[Params, Any, Config], Any]
    attention: Callable[[Params, Any, Config], NDArray[Any]]


def _timesformer_config(scheme: str, task: Task) -> timesformer.TimeSformerConfig:
    frames, height, width, channels = task.clip_shape
    return timesformer.TimeSformerConfig(
        scheme=scheme,
        frames=frames,
        image=(height, width),
        patch=4,
        channels=channels,
        d=48,
        heads=4,
        d_f=96,
        layers=2,
        classes=len(task.classes),
    )


def _timesformer_init(
    rng: np.random.Generator, config: timesformer.TimeSformerConfig, dtype: DTypeLike
) -> Params:
    """Draw params with time awake.

    TimeSformer starts from a model of images, with e_time and the maps fc at 0. From scratch, and
    where motion is all there is to see, that start costs several hundred steps: every token must
    first find out which frame it is from.
    """
    params = timesformer.init(rng, config, dtype=dtype)
    if "e_time" in params:
        params["e_time"] = (0.5 * rng.standard_normal(params["e_time"].shape)).astype(dtype)
    for layer in params["layers"]:
        for step in layer.values():
            if "fc" in step:
                step["fc"]["W"] = np.eye(config.d, dtype=dtype)
    return params


MODELS = {
    "timesformer": Model(
        schemes=("divided", "space", "joint", "local-global", "axial"),
        config=_timesformer_config,
        init=_timesformer_init,
        apply=timesformer.apply,
        attention=attention.of_class_token,
    ),
}
