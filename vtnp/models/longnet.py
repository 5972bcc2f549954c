"""A video encoder of dilated attention (LongNet, Ding et al. 2023): long videos at linear cost.

The paper has language models only. Here tokens of space and time are one sequence, frame after
frame, so that short segments are neighbouring frames and long ones the whole video; positions are
learned, and the mean of all tokens is what is classified.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from vtnp._xp import namespace
from vtnp.encoder import feed_forward_step, head_merge, head_projection, layer_norm
from vtnp.longnet import dilated_attention
from vtnp.models import parts
from vtnp.models.parts import Params
from vtnp.positions import separable_positions
from vtnp.tokens import linear_embedding, patch_tokens
from vtnp.typing import Array


@dataclass(frozen=True)
class LongNetConfig:
    """Sizes and choices of one encoder.

    frames, image, patch, channels: of the video, image = (height, width), patch = (frames, height,
    width). d, heads, d_f, layers: of the layers. segments, dilations, offsets: as in
    dilated-attention.
    """

    frames: int = 32
    image: tuple[int, int] = (224, 224)
    patch: tuple[int, int, int] = (1, 16, 16)
    channels: int = 3
    d: int = 768
    heads: int = 12
    d_f: int = 3072
    layers: int = 12
    segments: tuple[int, ...] = (2048, 4096, 8192, 16384, 32768)
    dilations: tuple[int, ...] = (1, 2, 4, 6, 12)
    offsets: str = "paper"
    classes: int = 400
    eps: float = 1e-6
    activation: str = "gelu"

    def __post_init__(self) -> None:
        if any(pixels % p for pixels, p in zip(self.video, self.patch, strict=True)):
            raise ValueError(f"video {self.video} is no multiple of the patch {self.patch}")

    @property
    def video(self) -> tuple[int, int, int]:
        """Frames, height and width."""
        return self.frames, *self.image

    @property
    def grid(self) -> tuple[int, int]:
        """Frames of tokens, and tokens of each."""
        t, h, w = (pixels // p for pixels, p in zip(self.video, self.patch, strict=True))
        return t, h * w


_BASE = LongNetConfig()
CONFIGS: Mapping[str, LongNetConfig] = MappingProxyType({
    "longnet": _BASE,
    "longnet-long": replace(_BASE, frames=1024),
    "longnet-tiny": LongNetConfig(
        frames=8, image=(16, 16), patch=(1, 4, 4), channels=1, d=24, heads=4, d_f=48, layers=2,
        segments=(16, 64, 128), dilations=(1, 2, 4), classes=4,
    ),
})  # fmt: skip


def init(
    rng: np.random.Generator, config: LongNetConfig, *, dtype: DTypeLike = np.float64
) -> Params:
    """Draw the params of a model that is to be trained from scratch."""
    d, (t, s) = config.d, config.grid
    flat = int(np.prod(config.patch)) * config.channels
    return {
        "embedding": parts.embedding(rng, flat, d, dtype),
        "e_space": parts.table(rng, (s, d), dtype),
        "e_time": parts.table(rng, (t, d), dtype),
        "layers": [
            parts.layer(rng, d, config.heads, config.d_f, dtype) for _ in range(config.layers)
        ],
        **parts.head(rng, d, config.classes, dtype),
    }


def apply(params: Mapping[str, Any], video: Array, config: LongNetConfig) -> Array:
    """Return the logits, `*b classes`, of videos `*b T H W C` that are already normalised.

    Raises ShapeError where the video has other sizes than the config.
    """
    x = linear_embedding(patch_tokens(video, size=config.patch), **params["embedding"])
    z = separable_positions(x, params["e_space"], params["e_time"])
    *batch, t, s, d = z.shape
    z = namespace(z).reshape(z, (*batch, t * s, d))
    for layer in params["layers"]:
        y = z + _read(layer_norm(z, **layer["norm_1"], eps=config.eps), layer["attention"], config)
        z = feed_forward_step(y, layer, eps=config.eps, activation=config.activation)
    return parts.logits(namespace(z).mean(z, axis=-2), params, config.eps)


def _read(x: Array, params: Mapping[str, Any], config: LongNetConfig) -> Array:
    """Return what multi-head self-attention would, the attention of each head being dilated."""
    Q, K, V = (head_projection(x, params[f"W_{c}"], bias=params[f"b_{c}"]) for c in "qkv")
    read = dilated_attention(
        Q, K, V, segments=config.segments, dilations=config.dilations, offsets=config.offsets
    )
    return head_merge(read, params["W_c"], bias=params["b_c"])
