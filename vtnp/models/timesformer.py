"""TimeSformer (Bertasius et al. 2021): eq. (1), layers of one scheme, class token, head."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from vtnp import timesformer as formulas
from vtnp._array.typing import Array
from vtnp._array.xp import namespace
from vtnp.models import parts
from vtnp.models.parts import Params
from vtnp.tokens import Grid, patch_tokens

# The steps of each scheme's layer, in order.
SCHEMES: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "space": ("space",),
    "joint": ("joint",),
    "divided": ("time", "space"),
    "local-global": ("local", "global"),
    "axial": ("time", "width", "height"),
})  # fmt: skip


@dataclass(frozen=True)
class TimeSformerConfig:
    """Sizes and choices of one TimeSformer.

    scheme: "space", "joint", "divided", "local-global" or "axial". frames, image, patch, channels:
    of the video, image = (height, width) and patch in pixels. d, heads, d_f, layers: of the
    layers. options: passed on to every layer, for instance {"cls_in_time": "key"}.
    """

    scheme: str = "divided"
    frames: int = 8
    image: tuple[int, int] = (224, 224)
    patch: int = 16
    channels: int = 3
    d: int = 768
    heads: int = 12
    d_f: int = 3072
    layers: int = 12
    classes: int = 400
    eps: float = 1e-6
    activation: str = "gelu"
    options: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.scheme not in SCHEMES:
            raise ValueError(f"scheme {self.scheme!r} is none of {list(SCHEMES)}")
        if not parts.divides(self.patch, *self.image):
            raise ValueError(f"image {self.image} is no multiple of the patch {self.patch}")

    @property
    def grid(self) -> Grid:
        """Frames, rows and columns of patches."""
        return Grid(self.frames, self.image[0] // self.patch, self.image[1] // self.patch)


_BASE = TimeSformerConfig()
CONFIGS: Mapping[str, TimeSformerConfig] = MappingProxyType({
    "timesformer": _BASE,
    "timesformer-hr": replace(_BASE, frames=16, image=(448, 448)),
    "timesformer-l": replace(_BASE, frames=96),
    "timesformer-tiny": TimeSformerConfig(
        frames=4, image=(16, 16), patch=4, channels=1, d=24, heads=3, d_f=48, layers=2, classes=4
    ),
})  # fmt: skip


def init(
    rng: np.random.Generator, config: TimeSformerConfig, *, dtype: DTypeLike = np.float64
) -> Params:
    """Draw the params of a model that is to be trained from scratch.

    As in the published code, time starts out silent: e_time, and the extra linear map `fc` of
    every step but the last, are 0, so that at first the model sees each frame as an image.
    """
    d, (_, h, w) = config.d, config.grid
    flat = config.patch * config.patch * config.channels
    in_time = {} if config.scheme == "space" else {"e_time": np.zeros((config.frames, d), dtype)}
    return {
        "embedding": parts.embedding(rng, flat, d, dtype),
        "cls": parts.table(rng, (d,), dtype),
        "e_cls": parts.table(rng, (d,), dtype),
        "e_space": parts.table(rng, (h * w, d), dtype),
        **in_time,
        "layers": [_layer(rng, config, dtype) for _ in range(config.layers)],
        **parts.head(rng, d, config.classes, dtype),
    }


def _layer(rng: np.random.Generator, config: TimeSformerConfig, dtype: DTypeLike) -> Params:
    d, (*extra, last) = config.d, SCHEMES[config.scheme]
    step = parts.attention_half(rng, d, config.heads, dtype)
    rest = parts.feed_forward_half(rng, d, config.d_f, dtype)
    if not extra:
        return step | rest
    steps = {}
    for attend in extra:
        fc = {"W": np.zeros((d, d), dtype), "b": np.zeros(d, dtype)}
        steps[attend] = parts.attention_half(rng, d, config.heads, dtype) | {"fc": fc}
    return steps | {last: step} | rest


_LAYERS: Mapping[str, Callable[..., tuple[Array, Array]]] = {
    "space": formulas.space_layer,
    "joint": formulas.joint_layer,
    "divided": formulas.divided_layer,
    "local-global": formulas.local_global_layer,
    "axial": formulas.axial_layer,
}


def apply(params: Mapping[str, Any], video: Array, config: TimeSformerConfig) -> Array:
    """Return the logits, `*b classes`, of videos `*b T H W C` that are already normalised.

    Raises ShapeError where the video has other sizes than the config.
    Notes: with the scheme "space" every frame is an image of its own, with a class token of its
    own; the class tokens are averaged before the last norm.
    """
    x = patch_tokens(video, size=(1, config.patch, config.patch))
    z = formulas.space_time_embedding(
        x, e_pos=_positions(params, x.shape[-3]), **params["embedding"]
    )
    *batch, t, s, d = z.shape
    alone = config.scheme == "space"
    if alone:
        z = namespace(z).reshape(z, (*batch, t, 1, s, d))
    cls = parts.repeated(params["cls"] + params["e_cls"], tuple(z.shape[:-3]))
    known: dict[str, Any] = {"eps": config.eps, "activation": config.activation, **config.options}
    if config.scheme in {"local-global", "axial"}:
        known["grid"] = config.grid._replace(t=t)
    for layer in params["layers"]:
        z, cls = _LAYERS[config.scheme](z, cls, layer, **known)
    feature = namespace(cls).mean(cls, axis=-2) if alone else cls
    return parts.logits(feature, params, config.eps)


def _positions(params: Mapping[str, Any], t: int) -> Array:
    """Return the table of eq. (1) as published models have it: a place's row plus a frame's."""
    e_space = params["e_space"]
    if "e_time" in params:
        return e_space + params["e_time"][:, None, :]
    return namespace(e_space).broadcast_to(e_space, (t, *e_space.shape))
