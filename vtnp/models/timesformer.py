"""TimeSformer (Bertasius et al. 2021): eq. (1), layers of one scheme, class token, head."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from vtnp import timesformer as formulas
from vtnp._array.typing import Array
from vtnp._array.xp import namespace, on_its_device
from vtnp.encoder import Activation
from vtnp.models import parts
from vtnp.models.initialisers import Initialiser, RandomInitialiser
from vtnp.models.parts import Params
from vtnp.tokens import Grid, patch_tokens

# The attention sublayers of each scheme's layer, in order.
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

    Attributes
    ----------
    scheme : {"space", "joint", "divided", "local-global", "axial"}
        Of space-time attention.
    frames, channels : int
        Of the video.
    image : tuple of int
        Height and width of the video in pixels.
    patch : int
        Height and width of a patch in pixels.
    d, heads, d_f, layers : int
        Of the layers: width of a token, number of heads, hidden width, and how many layers.
    classes : int
        Number of logits.
    eps : float
        Added to the variance in all norms.
    activation : {"relu", "gelu", "gelu_tanh"}
        Of the feed-forward networks.
    options : Mapping[str, str]
        Further options of every layer, for instance {"cls_in_time": "key"}.
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
    activation: Activation = "gelu"
    options: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.scheme not in SCHEMES:
            raise ValueError(f"unknown scheme {self.scheme!r}: expected one of {list(SCHEMES)}")
        if not parts.divides(self.patch, *self.image):
            raise ValueError(f"image {self.image} is not a multiple of the patch {self.patch}")

    @property
    def grid(self) -> Grid:
        """Frames, rows and columns of tokens."""
        height, width = self.image
        return Grid(self.frames, height // self.patch, width // self.patch)


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

    Parameters
    ----------
    rng : numpy.random.Generator
        The same state gives the same params.
    config : TimeSformerConfig
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

    Notes
    -----
    As in the published code, ``e_time`` starts at 0, and so does the linear map ``fc`` after every
    attention but the last of a layer. A new model therefore sees each frame as an image.
    """
    return make_params(RandomInitialiser(rng, dtype), config)


def make_params(new: Initialiser, config: TimeSformerConfig) -> Params:
    """Return the params of a model, whose arrays `new` makes."""
    d, (t, h, w) = config.d, config.grid
    flat = config.patch * config.patch * config.channels
    in_time = {} if config.scheme == "space" else {"e_time": parts.zeros(new, t, d)}
    return {
        "embedding": parts.embedding(new, flat, d),
        "cls": parts.table(new, d),
        "e_cls": parts.table(new, d),
        "e_space": parts.table(new, h * w, d),
        **in_time,
        "layers": [_layer(new, config) for _ in range(config.layers)],
        **parts.head(new, d, config.classes),
    }


def _layer(new: Initialiser, config: TimeSformerConfig) -> Params:
    d, (*others, last) = config.d, SCHEMES[config.scheme]
    sublayer = parts.self_attention_sublayer(new, d, config.heads)
    mlp = parts.feed_forward_sublayer(new, d, config.d_f)
    if not others:
        return sublayer | mlp
    sublayers = {
        attend: parts.self_attention_sublayer(new, d, config.heads)
        | {"fc": {"W": parts.zeros(new, d, d), "b": parts.zeros(new, d)}}
        for attend in others
    }
    return sublayers | {last: sublayer} | mlp


_LAYERS: Mapping[str, Callable[..., tuple[Array, Array]]] = {
    "space": formulas.space_layer,
    "joint": formulas.joint_layer,
    "divided": formulas.divided_layer,
    "local-global": formulas.local_global_layer,
    "axial": formulas.axial_layer,
}


@on_its_device
def apply(params: Mapping[str, Any], video: Array, config: TimeSformerConfig) -> Array:
    """Return the logits of videos.

    Parameters
    ----------
    params : mapping
        As `init` returns them.
    video : array
        Normalised videos, `*b T H W C`: frames, rows, columns, channels.
    config : TimeSformerConfig
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

    Notes
    -----
    With the scheme "space" every frame is an image with its own class token. Those are averaged
    before the last norm.
    """
    parts.require_keys("timesformer", params, "embedding cls e_cls e_space layers norm head")
    # A clip may have fewer frames; the positions are refused where it has more.
    parts.require_video("timesformer", video, config, any_frames=True)
    x = patch_tokens(video, size=(1, config.patch, config.patch))
    e_pos = _positions(params, x.shape[-3])
    z = formulas.space_time_embedding(x, e_pos=e_pos, **params["embedding"])
    *batch, t, s, d = z.shape
    by_frames = config.scheme == "space"
    if by_frames:
        z = namespace(z).reshape(z, (*batch, t, 1, s, d))
    cls = parts.repeated(params["cls"] + params["e_cls"], tuple(z.shape[:-3]))
    options: dict[str, Any] = {"eps": config.eps, "activation": config.activation, **config.options}
    if config.scheme in {"local-global", "axial"}:
        options["grid"] = config.grid._replace(t=t)
    for layer in params["layers"]:
        z, cls = _LAYERS[config.scheme](z, cls, layer, **options)
    feature = namespace(cls).mean(cls, axis=-2) if by_frames else cls
    return parts.logits(feature, params, config.eps)


def _positions(params: Mapping[str, Any], t: int) -> Array:
    """Return e_pos of eq. (1) as published models have it: a row for space plus one for time."""
    e_space = params["e_space"]
    if "e_time" in params:
        return e_space + params["e_time"][:, None, :]
    return namespace(e_space).broadcast_to(e_space, (t, *e_space.shape))
