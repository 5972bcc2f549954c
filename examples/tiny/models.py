"""The models that can be trained, by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from tiny import attention, coded
from tiny.attention import View
from tiny.task import Task

from vtnp.longnet import Branch
from vtnp.models import deformable, longnet, motionformer, mvit, nystromformer, timesformer, vivit
from vtnp.motionformer import Prototypes

Params = Any
Config = Any


@dataclass(frozen=True)
class Model:
    """A model small enough to be trained in a minute or two.

    schemes: its variants, the default first. config: returns a config for a scheme and a task.
    init: init(rng, config, dtype=...) draws params. apply: returns the logits of a batch of clips.
    attention: how to show what it attends to; left out, the gradient is shown. steps: of schemes
    that need more than others. data: returns a scheme's task with all inputs that the model needs.
    """

    schemes: tuple[str, ...]
    config: Callable[[str, Task], Config]
    init: Callable[..., Params]
    apply: Callable[[Params, Any, Config], Any]
    attention: View | None = None
    steps: Mapping[str, int] = field(default_factory=dict)
    data: Callable[[str, Task], Task] = lambda _, task: task

    @property
    def view(self) -> View:
        """How to show what the model attends to, or what its prediction depends on."""
        by_gradient = View(
            name="gradient",
            caption="gradient of the predicted class's logit with respect to the clip",
            unit="share of the gradient",
            of=partial(attention.of_gradient, self.apply),
        )
        return self.attention or by_gradient


_LAYERS: dict[str, Any] = {"d": 48, "heads": 4, "d_f": 96, "layers": 2}
# A token of two frames contains motion. Where every token is of one frame, a model must first
# learn which frames are neighbours; of these models only TimeSformer has no such tokens.
_PATCH = (2, 4, 4)


def _of(task: Task) -> dict[str, Any]:
    frames, height, width, channels = task.clip_shape
    classes = len(task.classes)
    return {"frames": frames, "image": (height, width), "channels": channels, "classes": classes}


def _timesformer(scheme: str, task: Task) -> timesformer.TimeSformerConfig:
    # Attention along time alone compares what is at one position at different times. Where queries
    # also attend to other positions, larger patches leave them fewer keys.
    patch = 8 if scheme in {"joint", "local-global"} else 4
    layers = _LAYERS | ({"heads": 16} if scheme == "joint" else {})
    return timesformer.TimeSformerConfig(scheme=scheme, patch=patch, **layers, **_of(task))


def _timesformer_params(rng: np.random.Generator, config: Config, *, dtype: DTypeLike) -> Params:
    """Draw TimeSformer's params, with time embeddings and temporal attention that are not 0.

    TimeSformer is initialised from an image model, with e_time and the maps fc at 0. From scratch,
    and where only motion counts, that costs several hundred steps: every token must first learn
    which frame it is from.
    """
    params = timesformer.init(rng, config, dtype=dtype)
    if "e_time" in params:
        _distinguish_frames(rng, params, dtype)
    for layer in params["layers"]:
        for sublayer in layer.values():
            if "fc" in sublayer:
                sublayer["fc"]["W"] = np.eye(config.d, dtype=dtype)
    if config.scheme == "joint":
        _separate_time_from_space(params, config, dtype)
    return params


def _distinguish_frames(rng: np.random.Generator, params: Params, dtype: DTypeLike) -> None:
    params["e_time"] = (0.5 * rng.standard_normal(params["e_time"].shape)).astype(dtype)


def _separate_time_from_space(
    params: Params, config: timesformer.TimeSformerConfig, dtype: DTypeLike
) -> None:
    """Give joint attention sinusoidal positions, and larger weights before the nonlinearity.

    To joint attention all tokens of all frames are alike. From a usual initialisation it learns
    the axis of the motion, from the blur of all frames, and stays there: its sign needs products of
    content and time, which are too small to be learned.
    """
    d, (_, h, w) = config.d, config.grid
    params["e_time"] = (1.5 * _sinusoids(config.frames, d)).astype(dtype)
    rows, columns = (
        np.repeat(_sinusoids(h, d // 2), w, axis=0),
        np.tile(_sinusoids(w, d // 2), (h, 1)),
    )
    params["e_space"] = np.concatenate([rows, columns], axis=-1).astype(dtype)
    for layer in params["layers"]:
        layer["feed_forward"]["W_1"] *= 3.0


def _sinusoids(n: int, d: int) -> NDArray[np.float64]:
    """Return sines and cosines of n positions, with periods from 2 pi to nearly 16 pi."""
    angle = np.arange(n)[:, None] * 8.0 ** -np.linspace(0.0, 1.0, d // 2, endpoint=False)
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=-1)


def _vivit(scheme: str, task: Task) -> vivit.ViViTConfig:
    return vivit.ViViTConfig(model=scheme, patch=_PATCH, time_layers=1, **_LAYERS, **_of(task))


def _motionformer(scheme: str, task: Task) -> motionformer.MotionformerConfig:
    prototypes = {"exact": None, "orthoformer": Prototypes(16)}[scheme]
    return motionformer.MotionformerConfig(
        tubelet=_PATCH[0], patch=_PATCH[1], prototypes=prototypes, **_LAYERS, **_of(task)
    )


def _mvit(scheme: str, task: Task) -> mvit.MViTConfig:
    return mvit.MViTConfig(
        d=24, stages=(1, 1), stride_kv=(1, 2, 2), mlp_ratio=2, mode=scheme, **_of(task)
    )


def _nystromformer(scheme: str, task: Task) -> nystromformer.NystromformerConfig:
    return nystromformer.NystromformerConfig(
        patch=_PATCH, landmarks=16, kernel=33, pinv=scheme, **_LAYERS, **_of(task)
    )


def _longnet(scheme: str, task: Task) -> longnet.LongNetConfig:
    return longnet.LongNetConfig(
        patch=_PATCH, branches=(Branch(16, 1), Branch(32, 2), Branch(64, 4)), offsets=scheme,
        **_LAYERS, **_of(task),
    )  # fmt: skip


# Sub-clips of each scheme; "still" is "halves" with all motion set to 0.
_CLIPS = {"halves": 2, "whole": 1, "still": 2}


def _with_motion(scheme: str, task: Task) -> Task:
    return coded.with_motion(task, _CLIPS[scheme], still=scheme == "still")


def _deformable_params(
    rng: np.random.Generator, config: deformable.DeformableConfig, *, dtype: DTypeLike
) -> Params:
    """Draw the Deformable Video Transformer's params, with larger time embeddings.

    By its motion a token prefers some frames, for instance those in which it is further right.
    Whether these are late or early frames is the direction of motion, and only e_time says so. With
    the usual small e_time four predictions in ten are still wrong after 240 steps.
    """
    params = deformable.init(rng, config, dtype=dtype)
    _distinguish_frames(rng, params, dtype)
    return params


def _deformable(scheme: str, task: Task) -> deformable.DeformableConfig:
    sizes, clips = _of(task), _CLIPS[scheme]
    sizes["channels"] -= 2 * (sizes["frames"] // clips)
    return deformable.DeformableConfig(patch=coded.PATCH, points=4, clips=clips, **_LAYERS, **sizes)


MODELS = {
    "timesformer": Model(
        schemes=("divided", "space", "joint", "local-global", "axial"),
        config=_timesformer,
        init=_timesformer_params,
        apply=timesformer.apply,
        attention=View(
            name="attention",
            caption="attention of the class token in the last layer",
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
        init=_deformable_params,
        apply=coded.apply,
        attention=View(
            name="samples",
            caption="sampling locations of all tokens in the last layer",
            unit="share of the samples",
            of=coded.of_samples,
        ),
        data=_with_motion,
    ),
    "mvit": Model(("conv",), _mvit, mvit.init, mvit.apply),
    "nystromformer": Model(("iterative",), _nystromformer, nystromformer.init, nystromformer.apply),
    "longnet": Model(("paper", "torchscale"), _longnet, longnet.init, longnet.apply),
}
