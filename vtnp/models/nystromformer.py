"""A video encoder of Nyström attention (Xiong et al. 2021): linear cost through landmarks.

The paper has language models only. Here tokens of space and time are one sequence, frame after
frame, so that a landmark is the mean of neighbouring places; positions are learned, layers are
normalised before, and the mean of all tokens is what is classified. Unlike in the released models
the start value of the pseudo-inverse is each matrix's own, so that no video of a batch changes the
logits of another. The exact pseudo-inverse is no choice for training from scratch: while all scores
are near 0 its matrix is nearly singular, and gradients grow with the square of the inverse.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from vtnp._xp import namespace
from vtnp.encoder import feed_forward_step, layer_norm
from vtnp.models import parts
from vtnp.models.parts import Params
from vtnp.nystromformer import nystrom_self_attention
from vtnp.positions import separable_positions
from vtnp.tokens import linear_embedding, patch_tokens
from vtnp.typing import Array


@dataclass(frozen=True)
class NystromformerConfig:
    """Sizes and choices of one encoder.

    frames, image, patch, channels: of the video, image = (height, width), patch = (frames, height,
    width). d, heads, d_f, layers: of the layers. landmarks, pinv, iterations, start: as in
    nystrom-attention. kernel: weights of the convolution along the sequence, 0 for none; more than
    twice the tokens of a frame reach the same place in the frames before and after.
    """

    frames: int = 32
    image: tuple[int, int] = (224, 224)
    patch: tuple[int, int, int] = (1, 16, 16)
    channels: int = 3
    d: int = 768
    heads: int = 12
    d_f: int = 3072
    layers: int = 12
    landmarks: int = 64
    kernel: int = 33
    pinv: str = "iterative"
    iterations: int = 6
    start: str = "paper"
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


_BASE = NystromformerConfig()
CONFIGS: Mapping[str, NystromformerConfig] = MappingProxyType({
    "nystromformer": _BASE,
    "nystromformer-long": replace(_BASE, frames=1024, landmarks=256),
    "nystromformer-tiny": NystromformerConfig(
        frames=8, image=(16, 16), patch=(1, 4, 4), channels=1, d=24, heads=4, d_f=48, layers=2,
        landmarks=16, kernel=33, classes=4,
    ),
})  # fmt: skip


def init(
    rng: np.random.Generator, config: NystromformerConfig, *, dtype: DTypeLike = np.float64
) -> Params:
    """Draw the params of a model that is to be trained from scratch."""
    d, (t, s) = config.d, config.grid
    flat = int(np.prod(config.patch)) * config.channels
    return {
        "embedding": parts.embedding(rng, flat, d, dtype),
        "e_space": parts.table(rng, (s, d), dtype),
        "e_time": parts.table(rng, (t, d), dtype),
        "layers": [_layer(rng, config, dtype) for _ in range(config.layers)],
        **parts.head(rng, d, config.classes, dtype),
    }


def _layer(rng: np.random.Generator, config: NystromformerConfig, dtype: DTypeLike) -> Params:
    layer = parts.layer(rng, config.d, config.heads, config.d_f, dtype)
    if config.kernel:
        shape = (config.heads, config.kernel)
        layer["attention"]["kernel"] = parts.linear(rng, shape, config.kernel, config.kernel, dtype)
    return layer


def apply(params: Mapping[str, Any], video: Array, config: NystromformerConfig) -> Array:
    """Return the logits, `*b classes`, of videos `*b T H W C` that are already normalised.

    Raises ShapeError where the video has other sizes than the config.
    """
    x = linear_embedding(patch_tokens(video, size=config.patch), **params["embedding"])
    z = separable_positions(x, params["e_space"], params["e_time"])
    *batch, t, s, d = z.shape
    z = namespace(z).reshape(z, (*batch, t * s, d))
    for layer in params["layers"]:
        update = nystrom_self_attention(
            layer_norm(z, **layer["norm_1"], eps=config.eps),
            **layer["attention"],
            landmarks=config.landmarks,
            pinv=config.pinv,
            iterations=config.iterations,
            start=config.start,
        )
        z = feed_forward_step(z + update, layer, eps=config.eps, activation=config.activation)
    return parts.logits(namespace(z).mean(z, axis=-2), params, config.eps)
