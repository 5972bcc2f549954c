"""ViViT (Arnab et al. 2021): tubelets, one of the four models of attention, and a linear head."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from vtnp import vivit as formulas
from vtnp._array.typing import Array
from vtnp._array.xp import namespace, on_its_device
from vtnp.encoder import Activation, layer_norm
from vtnp.models import parts
from vtnp.models.initialisers import Initialiser, RandomInitialiser
from vtnp.models.parts import Params
from vtnp.positions import learned_positions
from vtnp.tokens import Grid
from vtnp.vivit import Axis, AxisOrder


@dataclass(frozen=True)
class ViViTConfig:
    """Sizes and choices of one ViViT.

    Attributes
    ----------
    model : str
        A key of `MODELS`, in the paper's order 1 to 4.
    frames, channels : int
        Of the video.
    image : tuple of int
        Height and width of the video in pixels.
    patch : tuple of int
        Frames, height and width of a tubelet.
    sampled : int, optional
        How many frames uniform frame sampling chooses before they are embedded; left out, all are
        embedded.
    d, heads, d_f, layers : int
        Of the layers: width of a token, number of heads, hidden width, and how many layers; in the
        factorised encoder, layers in space.
    time_layers : int
        Layers in time of the factorised encoder; with 0, frames are averaged.
    class_token : bool
        Whether the encoders of models 1 and 2 have a class token; otherwise they average their
        tokens, as models 3 and 4 always do.
    order : {"time-space", "space-time"}
        Of the two attentions in a layer of model 3.
    first : {"time", "space"}
        Which axis the first half of the heads attends to in model 4.
    classes : int
        Number of logits.
    eps : float
        Added to the variance in all norms.
    activation : {"relu", "gelu", "gelu_tanh"}
        Of the feed-forward networks.
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
    order: AxisOrder = "time-space"
    first: Axis = "time"
    classes: int = 400
    eps: float = 1e-6
    activation: Activation = "gelu_tanh"

    def __post_init__(self) -> None:
        if self.model not in MODELS:
            raise ValueError(f"unknown model {self.model!r}: expected one of {list(MODELS)}")
        if any(pixels % p for pixels, p in zip(self.embedded, self.patch, strict=True)):
            raise ValueError(f"video {self.embedded} is not a multiple of the patch {self.patch}")

    @property
    def embedded(self) -> tuple[int, int, int]:
        """Size of the video that is embedded: frames, height and width."""
        return self.frames if self.sampled is None else self.sampled, *self.image

    @property
    def grid(self) -> Grid:
        """Frames, rows and columns of tokens."""
        return Grid(*(pixels // p for pixels, p in zip(self.embedded, self.patch, strict=True)))


# --- Params ---------------------------------------------------------------------------------------


def init(rng: np.random.Generator, config: ViViTConfig, *, dtype: DTypeLike = np.float64) -> Params:
    """Draw the params of a model that is to be trained from scratch.

    Parameters
    ----------
    rng : numpy.random.Generator
        The same state gives the same params.
    config : ViViTConfig
        Sizes and choices of the model.
    dtype : dtype
        Of all params.

    Returns
    -------
    dict
        NumPy arrays in nested dicts and lists.

    Raises
    ------
    ValueError
        If the sizes of the configuration do not fit each other.
    """
    return make_params(RandomInitialiser(rng, dtype), config)


def make_params(new: Initialiser, config: ViViTConfig) -> Params:
    """Return the params of a model, whose arrays `new` makes."""
    d, flat = config.d, int(np.prod(config.patch)) * config.channels
    kernel = parts.linear(new, (*config.patch, config.channels, d), flat, d)
    return {
        "embedding": {"E": kernel, "bias": parts.zeros(new, d)},
        "encoder": MODELS[config.model].make_params(new, config),
        "head": parts.head(new, d, config.classes)["head"],
    }


def _stack(new: Initialiser, n: int, layers: int, layer: Callable[[], Params], d: int) -> Params:
    """Return positions of n tokens, so many layers, and the norm after them."""
    return {
        "positions": parts.table(new, n, d),
        "layers": [layer() for _ in range(layers)],
        "norm": parts.norm(new, d),
    }


def _sequence_encoder(new: Initialiser, n: int, layers: int, config: ViViTConfig) -> Params:
    """Return the params of sequence-encoder for n tokens."""
    d = config.d
    cls = {"cls": parts.table(new, d)} if config.class_token else {}

    def layer() -> Params:
        return parts.layer(new, d, config.heads, config.d_f)

    return cls | _stack(new, n + len(cls), layers, layer, d)


def _joint_params(new: Initialiser, config: ViViTConfig) -> Params:
    t, h, w = config.grid
    return _sequence_encoder(new, t * h * w, config.layers, config)


def _factorised_params(new: Initialiser, config: ViViTConfig) -> Params:
    t, h, w = config.grid
    space = {"space": _sequence_encoder(new, h * w, config.layers, config)}
    if not config.time_layers:
        return space
    return space | {"time": _sequence_encoder(new, t, config.time_layers, config)}


def _self_attention_params(new: Initialiser, config: ViViTConfig) -> Params:
    d, (t, h, w) = config.d, config.grid

    def layer() -> Params:
        return {
            "time": parts.self_attention_sublayer(new, d, config.heads),
            "space": parts.self_attention_sublayer(new, d, config.heads),
            **parts.feed_forward_sublayer(new, d, config.d_f),
        }

    return _stack(new, t * h * w, config.layers, layer, d)


def _dot_product_params(new: Initialiser, config: ViViTConfig) -> Params:
    return _joint_params(new, replace(config, class_token=False))


# --- Logits ---------------------------------------------------------------------------------------


@on_its_device
def apply(params: Mapping[str, Any], video: Array, config: ViViTConfig) -> Array:
    """Return the logits of videos.

    Parameters
    ----------
    params : mapping
        As `init` returns them.
    video : array
        Normalised videos, `*b T H W C`: frames, rows, columns, channels.
    config : ViViTConfig
        The configuration of the params.

    Returns
    -------
    array
        One logit for each class, `*b classes`.

    Raises
    ------
    ShapeError
        If the video has other sizes than the configuration.
    FormulaError
        If a param is missing.
    """
    parts.require_keys("vivit", params, "embedding encoder head")
    parts.require_video("vivit", video, config)
    if config.sampled is not None:
        chosen = formulas.uniform_frame_sampling(config.frames, config.sampled, like=video)
        video = namespace(video).take(video, chosen, axis=-4)
    z = formulas.tubelet_embedding(video, **params["embedding"])
    return parts.head_logits(MODELS[config.model].apply(z, params["encoder"], config), params)


def _options(config: ViViTConfig) -> dict[str, Any]:
    return {"eps": config.eps, "activation": config.activation}


def _joint(z: Array, params: Any, config: ViViTConfig) -> Array:
    return formulas.spatio_temporal_encoder(z, params, **_options(config))


def _factorised(z: Array, params: Any, config: ViViTConfig) -> Array:
    return formulas.factorised_encoder(z, params, **_options(config))


def _self_attention(z: Array, params: Any, config: ViViTConfig) -> Array:
    def layer(z: Array, params: Any) -> Array:
        return formulas.factorised_self_attention_layer(
            z, params, order=config.order, **_options(config)
        )

    return _averaged(z, params, layer, config)


def _dot_product(z: Array, params: Any, config: ViViTConfig) -> Array:
    def layer(z: Array, params: Any) -> Array:
        return formulas.factorised_dot_product_layer(
            z, params, first=config.first, **_options(config)
        )

    return _averaged(z, params, layer, config)


def _averaged(
    z: Array,
    params: Mapping[str, Any],
    layer: Callable[[Array, Any], Array],
    config: ViViTConfig,
) -> Array:
    """Add positions, go through the layers, normalise, and average all tokens."""
    parts.require_keys("vivit", params, "positions layers norm")
    xp = namespace(z)
    z = learned_positions(z, xp.reshape(params["positions"], (-1, *z.shape[-2:])))
    for of_layer in params["layers"]:
        z = layer(z, of_layer)
    return xp.mean(layer_norm(z, **params["norm"], eps=config.eps), axis=(-3, -2))


# --- The four models ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Model:
    """One of the four models.

    Attributes
    ----------
    make_params : Callable
        Takes an initialiser and a configuration to the params of the encoder.
    apply : Callable
        Takes tokens, params of the encoder and a configuration to one feature for each video.
    """

    make_params: Callable[[Initialiser, ViViTConfig], Params]
    apply: Callable[[Array, Any, ViViTConfig], Array]


MODELS: Mapping[str, Model] = MappingProxyType({
    "spatio-temporal": Model(_joint_params, _joint),
    "factorised-encoder": Model(_factorised_params, _factorised),
    "factorised-self-attention": Model(_self_attention_params, _self_attention),
    "factorised-dot-product": Model(_dot_product_params, _dot_product),
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
