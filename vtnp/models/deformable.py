"""Deformable Video Transformer (Wang and Torresani 2022): attention to where motion leads.

No code of the paper is public, and its text was not available. What goes beyond eq. (5)-(9) is a
choice made here: tokens of single frames with learned positions, no class token, pre-norm layers,
and the mean of all tokens as the feature. The sizes are those of ViT-B, and of notes on the paper.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from vtnp._array.typing import Array
from vtnp._array.xp import device, namespace, on_its_device
from vtnp.deformable import deformable_layer
from vtnp.encoder import Activation
from vtnp.models import parts
from vtnp.models.initialisers import Initialiser, RandomInitialiser
from vtnp.models.parts import Params
from vtnp.positions import separable_positions
from vtnp.tokens import Grid, Padding, linear_embedding, patch_tokens

# How much longer than a displacement its embedding is at first, so that motion outweighs queries.
_GAIN = 4.0


@dataclass(frozen=True)
class DeformableConfig:
    """Sizes and choices of one Deformable Video Transformer.

    Attributes
    ----------
    frames, channels : int
        Of the video.
    image : tuple of int
        Height and width of the video in pixels.
    patch : int
        Height and width of a patch in pixels.
    d, heads, d_f, layers : int
        Of the layers: width of a token, number of heads, hidden width, and how many layers.
    points : int
        Samples N of each frame for each query and head.
    clips : int
        Sub-clips B, within which frames attend to each other.
    padding : {"zeros", "border"}
        What is sampled outside the grid.
    classes : int
        Number of logits.
    eps : float
        Added to the variance in all norms.
    activation : {"relu", "gelu", "gelu_tanh"}
        Of the feed-forward networks.
    """

    frames: int = 16
    image: tuple[int, int] = (224, 224)
    patch: int = 16
    channels: int = 3
    d: int = 768
    heads: int = 12
    d_f: int = 3072
    layers: int = 12
    points: int = 8
    clips: int = 4
    padding: Padding = "zeros"
    classes: int = 400
    eps: float = 1e-6
    activation: Activation = "gelu"

    def __post_init__(self) -> None:
        if not parts.divides(self.patch, *self.image):
            raise ValueError(f"image {self.image} is not a multiple of the patch {self.patch}")
        if not parts.divides(self.clips, self.frames):
            raise ValueError(f"{self.frames} frames are not a multiple of {self.clips} sub-clips")
        if not parts.divides(self.heads, self.d):
            raise ValueError(f"width {self.d} is not a multiple of {self.heads} heads")

    @property
    def grid(self) -> Grid:
        """Frames, rows and columns of tokens."""
        height, width = self.image
        return Grid(self.frames, height // self.patch, width // self.patch)


CONFIGS: Mapping[str, DeformableConfig] = MappingProxyType({
    "deformable": DeformableConfig(),
    "deformable-tiny": DeformableConfig(
        frames=8, image=(16, 16), patch=4, channels=1, d=24, heads=3, d_f=48, layers=2,
        points=4, clips=2, classes=4,
    ),
})  # fmt: skip


def init(
    rng: np.random.Generator, config: DeformableConfig, *, dtype: DTypeLike = np.float64
) -> Params:
    """Draw the params of a model that is to be trained from scratch.

    Parameters
    ----------
    rng : numpy.random.Generator
        The same state gives the same params.
    config : DeformableConfig
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
    Samples start where motion leads and on a circle of one token around it, with equal weights.
    """
    return make_params(RandomInitialiser(rng, dtype), config)


def make_params(new: Initialiser, config: DeformableConfig) -> Params:
    """Return the params of a model, whose arrays `new` makes."""
    d, (t, h, w) = config.d, config.grid
    flat = config.patch * config.patch * config.channels
    return {
        "embedding": parts.embedding(new, flat, d),
        "e_space": parts.table(new, h * w, d),
        "e_time": parts.table(new, t, d),
        "layers": [_layer(new, config) for _ in range(config.layers)],
        **parts.head(new, d, config.classes),
    }


def _layer(new: Initialiser, config: DeformableConfig) -> Params:
    d, heads, points, d_h = config.d, config.heads, config.points, config.d // config.heads
    # Two orthogonal directions among those of the queries, from which the offsets take the motion.
    directions = new.computed((d, 2), lambda rng: np.linalg.qr(rng.standard_normal((d, 2)))[0])
    attention = {
        "W_q": parts.linear(new, (d, d), d, d),
        "W_v": parts.linear(new, (heads, d, d_h), d, d),
        "W_alpha": parts.zeros(new, heads, d, points),
        "W_delta": new.computed((heads, d, points, 2), lambda _: directions[:, None, :] / _GAIN),
        "W_c": parts.linear(new, (heads, d_h, d), d, d),
        "b_q": parts.zeros(new, d),
        "b_v": parts.zeros(new, heads, d_h),
        "b_alpha": parts.zeros(new, heads, points),
        "b_delta": new.computed((heads, points, 2), lambda _: _circle(points)),
        "b_c": parts.zeros(new, d),
    }
    motion = {
        "E": new.computed((2, d), lambda _: _GAIN * directions.T),
        "bias": parts.zeros(new, d),
    }
    return {
        "norm_1": parts.norm(new, d),
        "motion": motion,
        "attention": attention,
        **parts.feed_forward_sublayer(new, d, config.d_f),
    }


def _circle(points: int) -> NDArray[np.float64]:
    """Return the centre, then points spread evenly over the circle of radius 1 around it."""
    angle = 2.0 * np.pi * np.arange(points - 1) / max(1, points - 1)
    return np.concatenate([np.zeros((1, 2)), np.stack([np.cos(angle), np.sin(angle)], axis=-1)])


@on_its_device
def apply(
    params: Mapping[str, Any], video: Array, config: DeformableConfig, motion: Array | None = None
) -> Array:
    """Return the logits of videos.

    Parameters
    ----------
    params : mapping
        As `init` returns them.
    video : array
        Normalised videos, `*b T H W C`: frames, rows, columns, channels.
    config : DeformableConfig
        The configuration of the params.
    motion : array, optional
        Motion from every position of each frame to the u = t / clips frames of its sub-clip in
        token cells, `*b t s u 2`, as `vtnp.video.token_motion` returns it; left out, nothing moves.

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
    parts.require_keys("deformable", params, "embedding e_space e_time layers norm head")
    parts.require_video("deformable", video, config)
    x = patch_tokens(video, size=(1, config.patch, config.patch))
    x = linear_embedding(x, **params["embedding"])
    z = separable_positions(x, params["e_space"], params["e_time"])
    *batch, t, s, d = z.shape
    if motion is None:
        shape = (*batch, t, s, t // config.clips, 2)
        motion = namespace(video).zeros(shape, dtype=video.dtype, device=device(video))
    for layer in params["layers"]:
        z = deformable_layer(
            z,
            motion,
            layer,
            grid=config.grid,
            clips=config.clips,
            padding=config.padding,
            eps=config.eps,
            activation=config.activation,
        )
    feature = namespace(z).mean(namespace(z).reshape(z, (*batch, t * s, d)), axis=-2)
    return parts.logits(feature, params, config.eps)
