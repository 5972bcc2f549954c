"""The models that can be trained here, by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from tiny import attention, coded
from tiny.attention import View
from tiny.task import Task

from vtnp.models import deformable, longnet, motionformer, mvit, nystromformer, timesformer, vivit

Params = Any
Config = Any


@dataclass(frozen=True)
class Model:
    """A model small enough to be trained in a minute or two.

    schemes: its variants, the default first. config: its sizes for a scheme and a task. init:
    init(rng, config, dtype=...), params drawn for a config. apply: logits of a batch of clips.
    view: how to see what it looks at; left out, what moves its answer. steps: of schemes that
    need more than others. data: the task with all that the model must be given, for a scheme.
    """

    schemes: tuple[str, ...]
    config: Callable[[str, Task], Config]
    init: Callable[..., Params]
    apply: Callable[[Params, Any, Config], Any]
    view: View | None = None
    steps: Mapping[str, int] = field(default_factory=dict)
    data: Callable[[str, Task], Task] = lambda _, task: task

    @property
    def shown(self) -> View:
        """The view, of whatever kind."""
        by_gradient = View(
            name="gradient",
            says="how strongly each place moves the logit of what was predicted",
            unit="share of the gradient",
            of=partial(attention.of_gradient, self.apply),
        )
        return self.view or by_gradient


_LAYERS: dict[str, Any] = {"d": 48, "heads": 4, "d_f": 96, "layers": 2}
# A token that spans two frames sees motion at once; where every token is of one frame, a model
# must first find out which frames are neighbours. TimeSformer alone has no such tokens.
_PATCH = (2, 4, 4)


def _of(task: Task) -> dict[str, Any]:
    frames, height, width, channels = task.clip_shape
    classes = len(task.classes)
    return {"frames": frames, "image": (height, width), "channels": channels, "classes": classes}


def _timesformer(scheme: str, task: Task) -> timesformer.TimeSformerConfig:
    # Attention along time alone finds at once what was here before. Where a query reads other
    # places of other frames, too, larger patches leave it fewer to choose from.
    patch = 8 if scheme in {"joint", "local-global"} else 4
    layers = _LAYERS | ({"heads": 16} if scheme == "joint" else {})
    return timesformer.TimeSformerConfig(scheme=scheme, patch=patch, **layers, **_of(task))


def _awake(rng: np.random.Generator, config: Config, *, dtype: DTypeLike) -> Params:
    """Draw TimeSformer's params with time awake.

    TimeSformer starts from a model of images, with e_time and the maps fc at 0. From scratch, and
    where motion is all there is to see, that start costs several hundred steps: every token must
    first find out which frame it is from.
    """
    params = timesformer.init(rng, config, dtype=dtype)
    if "e_time" in params:
        _tell_frames_apart(rng, params, dtype)
    for layer in params["layers"]:
        for step in layer.values():
            if "fc" in step:
                step["fc"]["W"] = np.eye(config.d, dtype=dtype)
    if config.scheme == "joint":
        _tell_time_from_place(params, config, dtype)
    return params


def _tell_frames_apart(rng: np.random.Generator, params: Params, dtype: DTypeLike) -> None:
    params["e_time"] = (0.5 * rng.standard_normal(params["e_time"].shape)).astype(dtype)


def _tell_time_from_place(
    params: Params, config: timesformer.TimeSformerConfig, dtype: DTypeLike
) -> None:
    """Let joint attention know neighbours in time, and bend what it has read.

    To this attention alone frames and places are all the same. It finds the axis of a flight in
    the blur of all frames, and from a usual start stays with that: which end of it is first takes
    products of what is seen and when. Waves for positions, and larger weights before the
    nonlinearity, make them large enough to be found.
    """
    d, (_, h, w) = config.d, config.grid
    params["e_time"] = (1.5 * _waves(config.frames, d)).astype(dtype)
    rows, columns = np.repeat(_waves(h, d // 2), w, axis=0), np.tile(_waves(w, d // 2), (h, 1))
    params["e_space"] = np.concatenate([rows, columns], axis=-1).astype(dtype)
    for layer in params["layers"]:
        layer["feed_forward"]["W_1"] *= 3.0


def _waves(n: int, d: int) -> NDArray[np.float64]:
    """Return sines and cosines of n positions, with periods from 2 pi to nearly 16 pi."""
    angle = np.arange(n)[:, None] * 8.0 ** -np.linspace(0.0, 1.0, d // 2, endpoint=False)
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=-1)


def _vivit(scheme: str, task: Task) -> vivit.ViViTConfig:
    return vivit.ViViTConfig(model=scheme, patch=_PATCH, time_layers=1, **_LAYERS, **_of(task))


def _motionformer(scheme: str, task: Task) -> motionformer.MotionformerConfig:
    prototypes = {"exact": None, "orthoformer": {"r": 16, "start": 0}}[scheme]
    return motionformer.MotionformerConfig(
        tubelet=_PATCH[0], patch=_PATCH[1], prototypes=prototypes, **_LAYERS, **_of(task)
    )


def _mvit(scheme: str, task: Task) -> mvit.MViTConfig:
    return mvit.MViTConfig(
        d=24, stages=(1, 1), stride_kv=(1, 2, 2), widening=2, mode=scheme, **_of(task)
    )


def _nystromformer(scheme: str, task: Task) -> nystromformer.NystromformerConfig:
    return nystromformer.NystromformerConfig(
        patch=_PATCH, landmarks=16, kernel=33, pinv=scheme, **_LAYERS, **_of(task)
    )


def _longnet(scheme: str, task: Task) -> longnet.LongNetConfig:
    return longnet.LongNetConfig(
        patch=_PATCH, segments=(16, 32, 64), dilations=(1, 2, 4), offsets=scheme,
        **_LAYERS, **_of(task),
    )  # fmt: skip


# Sub-clips of each; "still" is "halves" told that nothing moves.
_CLIPS = {"halves": 2, "whole": 1, "still": 2}


def _moving(scheme: str, task: Task) -> Task:
    return coded.with_motion(task, _CLIPS[scheme], still=scheme == "still")


def _aware(
    rng: np.random.Generator, config: deformable.DeformableConfig, *, dtype: DTypeLike
) -> Params:
    """Draw the Deformable Video Transformer's params, frames told apart.

    Motion chooses which frames a token prefers, for instance those that it leads to the right in.
    Whether these are the late ones or the early ones is the direction, and only e_time tells. With
    the usual small e_time four answers in ten are still wrong after 240 steps.
    """
    params = deformable.init(rng, config, dtype=dtype)
    _tell_frames_apart(rng, params, dtype)
    return params


def _deformable(scheme: str, task: Task) -> deformable.DeformableConfig:
    sizes, clips = _of(task), _CLIPS[scheme]
    sizes["channels"] -= 2 * (sizes["frames"] // clips)
    return deformable.DeformableConfig(patch=coded.PATCH, points=4, clips=clips, **_LAYERS, **sizes)


MODELS = {
    "timesformer": Model(
        schemes=("divided", "space", "joint", "local-global", "axial"),
        config=_timesformer,
        init=_awake,
        apply=timesformer.apply,
        view=View(
            name="attention",
            says="attention of the class token in the last layer",
            unit="share of the class token's attention",
            of=attention.of_class_token,
        ),
        steps={"joint": 1600},
    ),
    "vivit": Model(tuple(vivit.MODELS), _vivit, vivit.init, vivit.apply),
    "motionformer": Model(
        ("exact", "orthoformer"), _motionformer, motionformer.init, motionformer.apply
    ),
    "deformable": Model(
        schemes=tuple(_CLIPS),
        config=_deformable,
        init=_aware,
        apply=coded.apply,
        view=View(
            name="samples",
            says="where all tokens sample in the last layer",
            unit="share of the samples",
            of=coded.of_samples,
        ),
        data=_moving,
    ),
    "mvit": Model(("conv",), _mvit, mvit.init, mvit.apply),
    "nystromformer": Model(("iterative",), _nystromformer, nystromformer.init, nystromformer.apply),
    "longnet": Model(("paper", "torchscale"), _longnet, longnet.init, longnet.apply),
}
