"""Deformable Video Transformer (Wang and Torresani 2022): attention where motion leads to.

No code of the paper is public, and its text was not available. What stands here beyond eq. (5)-(9)
is our choice: tokens of single frames with learned positions, no class token, pre-norm layers, the
mean of all tokens classified. The sizes are those of ViT-B, and of notes on the paper.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from vtnp._array.typing import Array
from vtnp._array.xp import device, namespace
from vtnp.deformable import deformable_layer
from vtnp.models import parts
from vtnp.models.parts import Params
from vtnp.positions import separable_positions
from vtnp.tokens import Grid, linear_embedding, patch_tokens

# How much longer than a displacement its embedding is at first, so that motion outweighs queries.
_GAIN = 4.0


@dataclass(frozen=True)
class DeformableConfig:
    """Sizes and choices of one Deformable Video Transformer.

    frames, image, patch, channels: of the video, image = (height, width) and patch in pixels.
    d, heads, d_f, layers: of the layers. points, clips, padding: N, B and what is outside, as in
    deformable-self-attention.
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
    padding: str = "zeros"
    classes: int = 400
    eps: float = 1e-6
    activation: str = "gelu"

    def __post_init__(self) -> None:
        if not parts.divides(self.patch, *self.image):
            raise ValueError(f"image {self.image} is no multiple of the patch {self.patch}")
        if not parts.divides(self.clips, self.frames):
            raise ValueError(f"{self.frames} frames are no multiple of {self.clips} sub-clips")
        if not parts.divides(self.heads, self.d):
            raise ValueError(f"width {self.d} is no multiple of {self.heads} heads")

    @property
    def grid(self) -> Grid:
        """Frames, rows and columns of patches."""
        return Grid(self.frames, self.image[0] // self.patch, self.image[1] // self.patch)


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

    Samples begin where motion leads to and on a circle of one token around it, all of equal weight.
    """
    d, (_, h, w) = config.d, config.grid
    flat = config.patch * config.patch * config.channels
    return {
        "embedding": parts.embedding(rng, flat, d, dtype),
        "e_space": parts.table(rng, (h * w, d), dtype),
        "e_time": parts.table(rng, (config.frames, d), dtype),
        "layers": [_layer(rng, config, dtype) for _ in range(config.layers)],
        **parts.head(rng, d, config.classes, dtype),
    }


def _layer(rng: np.random.Generator, config: DeformableConfig, dtype: DTypeLike) -> Params:
    d, heads, points, d_h = config.d, config.heads, config.points, config.d // config.heads
    # Two directions at right angles among all queries', which the offsets read motion from.
    directions = np.linalg.qr(rng.standard_normal((d, 2)))[0]
    each = np.broadcast_to(directions[:, None, :] / _GAIN, (heads, d, points, 2))
    attention = {
        "W_q": parts.linear(rng, (d, d), d, d, dtype),
        "W_v": parts.linear(rng, (heads, d, d_h), d, d, dtype),
        "W_alpha": np.zeros((heads, d, points), dtype),
        "W_delta": each.astype(dtype),
        "W_c": parts.linear(rng, (heads, d_h, d), d, d, dtype),
        "b_q": np.zeros(d, dtype),
        "b_v": np.zeros((heads, d_h), dtype),
        "b_alpha": np.zeros((heads, points), dtype),
        "b_delta": np.stack([_circle(points)] * heads).astype(dtype),
        "b_c": np.zeros(d, dtype),
    }
    return {
        "norm_1": parts.norm(d, dtype),
        "motion": {"E": (_GAIN * directions.T).astype(dtype), "bias": np.zeros(d, dtype)},
        "attention": attention,
        **parts.feed_forward_half(rng, d, config.d_f, dtype),
    }


def _circle(points: int) -> NDArray[np.float64]:
    """Return the centre, then places evenly on the circle of radius 1 around it."""
    angle = 2.0 * np.pi * np.arange(points - 1) / max(1, points - 1)
    return np.concatenate([np.zeros((1, 2)), np.stack([np.cos(angle), np.sin(angle)], axis=-1)])


def apply(
    params: Mapping[str, Any], video: Array, config: DeformableConfig, motion: Array | None = None
) -> Array:
    """Return the logits, `*b classes`, of videos `*b T H W C` that are already normalised.

    motion: `*b t s u 2`, from every position of every frame to the u = t / clips frames of its
    sub-clip, in token cells, as in motion-embedding; vtnp.video.token_motion gives it. Left
    out, nothing moves.
    Raises ShapeError where video or motion have other sizes than the config.
    """
    x = patch_tokens(video, size=(1, config.patch, config.patch))
    x = linear_embedding(x, **params["embedding"])
    z = separable_positions(x, params["e_space"], params["e_time"])
    *batch, t, s, d = z.shape
    if motion is None:
        still = (*batch, t, s, t // config.clips, 2)
        motion = namespace(video).zeros(still, dtype=video.dtype, device=device(video))
    for layer in params["layers"]:
        z = deformable_layer(
            z, motion, layer, grid=config.grid[1:], clips=config.clips, padding=config.padding,
            eps=config.eps, activation=config.activation,
        )  # fmt: skip
    feature = namespace(z).mean(namespace(z).reshape(z, (*batch, t * s, d)), axis=-2)
    return parts.logits(feature, params, config.eps)
