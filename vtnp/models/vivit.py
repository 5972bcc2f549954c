"""ViViT (Arnab et al. 2021): tubelets, one of the four models of attention, and a linear head."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from vtnp import vivit as formulas
from vtnp._array.typing import Array
from vtnp._array.xp import namespace, plus_bias
from vtnp._registry.errors import ShapeError
from vtnp.encoder import layer_norm
from vtnp.models import parts
from vtnp.models.parts import Params
from vtnp.positions import learned_positions


@dataclass(frozen=True)
class ViViTConfig:
    """Sizes and choices of one ViViT.

    model: a key of MODELS, in the paper's order 1 to 4. frames, image, patch, channels: of the
    video, image = (height, width), patch = (frames, height, width). sampled: frames chosen by
    uniform frame sampling before they are embedded; None for all. d, heads, d_f, layers: of the
    layers; in the factorised encoder, of those in space. time_layers: of the factorised encoder's
    layers in time; 0 to average the frames. class_token: of the encoders of models 1 and 2, which
    otherwise average their tokens; models 3 and 4 always do. order: as in
    factorised-self-attention-layer. first: as in factorised-dot-product-layer.
    """

    model: str = "spatio-temporal"
    frames: int = 32
    image: tuple[int, int] = (224, 224)
    patch: tuple[int, int, int] = (2, 16, 16)
    channels: int = 3
    sampled: int | None = None
    d: int = 768
    heads: int = 12
    d_f: int = 3072
    layers: int = 12
    time_layers: int = 4
    class_token: bool = True
    order: str = "time-space"
    first: str = "time"
    classes: int = 400
    eps: float = 1e-6
    activation: str = "gelu_tanh"

    def __post_init__(self) -> None:
        if self.model not in MODELS:
            raise ValueError(f"model {self.model!r} is none of {list(MODELS)}")
        if any(pixels % p for pixels, p in zip(self.embedded, self.patch, strict=True)):
            raise ValueError(f"video {self.embedded} is no multiple of the patch {self.patch}")

    @property
    def embedded(self) -> tuple[int, int, int]:
        """Frames that are embedded, height and width."""
        return self.frames if self.sampled is None else self.sampled, *self.image

    @property
    def grid(self) -> tuple[int, int]:
        """Frames of tokens, and tokens of each."""
        t, h, w = (pixels // p for pixels, p in zip(self.embedded, self.patch, strict=True))
        return t, h * w


# --- Params ---------------------------------------------------------------------------------------


def init(rng: np.random.Generator, config: ViViTConfig, *, dtype: DTypeLike = np.float64) -> Params:
    """Draw the params of a model that is to be trained from scratch."""
    d, flat = config.d, int(np.prod(config.patch)) * config.channels
    kernel = parts.linear(rng, (*config.patch, config.channels, d), flat, d, dtype)
    return {
        "embedding": {"E": kernel, "bias": np.zeros(d, dtype)},
        "encoder": MODELS[config.model].init(rng, config, dtype),
        "head": parts.head(rng, d, config.classes, dtype)["head"],
    }


_Draw = Callable[[], Params]


def _stack(
    rng: np.random.Generator, n: int, layers: int, layer: _Draw, d: int, dtype: DTypeLike
) -> Params:
    """Draw positions for n tokens, so many layers, and the norm after them."""
    return {
        "positions": parts.table(rng, (n, d), dtype),
        "layers": [layer() for _ in range(layers)],
        "norm": parts.norm(d, dtype),
    }


def _reader(
    rng: np.random.Generator, n: int, layers: int, config: ViViTConfig, dtype: DTypeLike
) -> Params:
    """Draw the params of sequence-encoder for n tokens."""
    d = config.d
    cls = {"cls": parts.table(rng, (d,), dtype)} if config.class_token else {}

    def layer() -> Params:
        return parts.layer(rng, d, config.heads, config.d_f, dtype)

    return cls | _stack(rng, n + len(cls), layers, layer, d, dtype)


def _init_joint(rng: np.random.Generator, config: ViViTConfig, dtype: DTypeLike) -> Params:
    t, s = config.grid
    return _reader(rng, t * s, config.layers, config, dtype)


def _init_factorised(rng: np.random.Generator, config: ViViTConfig, dtype: DTypeLike) -> Params:
    t, s = config.grid
    space = {"space": _reader(rng, s, config.layers, config, dtype)}
    if not config.time_layers:
        return space
    return space | {"time": _reader(rng, t, config.time_layers, config, dtype)}


def _init_self_attention(rng: np.random.Generator, config: ViViTConfig, dtype: DTypeLike) -> Params:
    d, (t, s) = config.d, config.grid

    def layer() -> Params:
        return {
            "time": parts.attention_half(rng, d, config.heads, dtype),
            "space": parts.attention_half(rng, d, config.heads, dtype),
            **parts.feed_forward_half(rng, d, config.d_f, dtype),
        }

    return _stack(rng, t * s, config.layers, layer, d, dtype)


def _init_dot_product(rng: np.random.Generator, config: ViViTConfig, dtype: DTypeLike) -> Params:
    return _init_joint(rng, replace(config, class_token=False), dtype)


# --- Logits ---------------------------------------------------------------------------------------


def apply(params: Mapping[str, Any], video: Array, config: ViViTConfig) -> Array:
    """Return the logits, `*b classes`, of videos `*b T H W C` that are already normalised.

    Raises ShapeError where the video has other sizes than the config.
    """
    expected = (config.frames, *config.image, config.channels)
    if tuple(video.shape[-4:]) != expected:
        raise ShapeError(f"vivit: argument video: expected *b {expected}, got {video.shape}")
    if config.sampled is not None:
        chosen = formulas.uniform_frame_sampling(config.frames, config.sampled, like=video)
        video = namespace(video).take(video, chosen, axis=-4)
    z = formulas.tubelet_embedding(video, **params["embedding"])
    h = MODELS[config.model].apply(z, params["encoder"], config)
    return plus_bias(h @ params["head"]["W"], params["head"]["b"])


def _known(config: ViViTConfig) -> dict[str, Any]:
    return {"eps": config.eps, "activation": config.activation}


def _joint(z: Array, params: Mapping[str, Any], config: ViViTConfig) -> Array:
    return formulas.spatio_temporal_encoder(z, params, **_known(config))


def _factorised(z: Array, params: Mapping[str, Any], config: ViViTConfig) -> Array:
    return formulas.factorised_encoder(z, params, **_known(config))


def _self_attention(z: Array, params: Mapping[str, Any], config: ViViTConfig) -> Array:
    def layer(z: Array, params: Mapping[str, Any]) -> Array:
        return formulas.factorised_self_attention_layer(
            z, params, order=config.order, **_known(config)
        )

    return _averaged(z, params, layer, config)


def _dot_product(z: Array, params: Mapping[str, Any], config: ViViTConfig) -> Array:
    def layer(z: Array, params: Mapping[str, Any]) -> Array:
        return formulas.factorised_dot_product_layer(
            z, params, first=config.first, **_known(config)
        )

    return _averaged(z, params, layer, config)


def _averaged(
    z: Array,
    params: Mapping[str, Any],
    layer: Callable[[Array, Mapping[str, Any]], Array],
    config: ViViTConfig,
) -> Array:
    """Add positions, go through the layers, normalise, and average all tokens."""
    xp = namespace(z)
    z = learned_positions(z, xp.reshape(params["positions"], (-1, *z.shape[-2:])))
    for of_layer in params["layers"]:
        z = layer(z, of_layer)
    return xp.mean(layer_norm(z, **params["norm"], eps=config.eps), axis=(-3, -2))


# --- The four models ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Model:
    """How one of the four models draws the params of its encoder, and reads tokens with them."""

    init: Callable[[np.random.Generator, ViViTConfig, DTypeLike], Params]
    apply: Callable[[Array, Mapping[str, Any], ViViTConfig], Array]


MODELS: Mapping[str, Model] = MappingProxyType({
    "spatio-temporal": Model(_init_joint, _joint),
    "factorised-encoder": Model(_init_factorised, _factorised),
    "factorised-self-attention": Model(_init_self_attention, _self_attention),
    "factorised-dot-product": Model(_init_dot_product, _dot_product),
})  # fmt: skip

_BASE = ViViTConfig()
_LARGE = replace(_BASE, d=1024, heads=16, d_f=4096, layers=24, time_layers=24)
_TINY = ViViTConfig(
    frames=8, image=(16, 16), patch=(2, 4, 4), channels=1, d=24, heads=4, d_f=48, layers=2,
    time_layers=1, classes=4,
)  # fmt: skip
CONFIGS: Mapping[str, ViViTConfig] = MappingProxyType({
    "vivit-b": _BASE,
    "vivit-b-fe": replace(_BASE, model="factorised-encoder"),
    "vivit-b-fsa": replace(_BASE, model="factorised-self-attention"),
    "vivit-b-fdp": replace(_BASE, model="factorised-dot-product"),
    "vivit-b-average": replace(_BASE, model="factorised-encoder", time_layers=0),
    "vivit-b-sampled": replace(_BASE, patch=(1, 16, 16), sampled=8),
    "vivit-l": _LARGE,
    "vivit-l-fe": replace(_LARGE, model="factorised-encoder", frames=128),
    "vivit-h": replace(_BASE, patch=(2, 14, 14), d=1280, heads=16, d_f=5120, layers=32),
    "vivit-tiny": _TINY,
    "vivit-tiny-fe": replace(_TINY, model="factorised-encoder"),
    "vivit-tiny-fsa": replace(_TINY, model="factorised-self-attention"),
    "vivit-tiny-fdp": replace(_TINY, model="factorised-dot-product"),
})  # fmt: skip
