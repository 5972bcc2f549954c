"""What the encoders of long sequences share: tokens of space and time as one sequence.

Frame follows frame, positions are learned, layers are normalised before, and the mean of all
tokens is what is classified. How a layer reads is the model's own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from vtnp._array.typing import Array
from vtnp._array.xp import namespace
from vtnp.encoder import feed_forward_sublayer, layer_norm
from vtnp.models import parts
from vtnp.models.parts import Params
from vtnp.positions import separable_positions
from vtnp.tokens import linear_embedding, patch_tokens


@dataclass(frozen=True)
class SequenceConfig:
    """Sizes of one encoder.

    frames, image, patch, channels: of the video, image = (height, width), patch = (frames, height,
    width). d, heads, d_f, layers: of the layers.
    """

    frames: int = 32
    image: tuple[int, int] = (224, 224)
    patch: tuple[int, int, int] = (1, 16, 16)
    channels: int = 3
    d: int = 768
    heads: int = 12
    d_f: int = 3072
    layers: int = 12
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


def init(rng: np.random.Generator, config: SequenceConfig, dtype: DTypeLike) -> Params:
    """Draw the params of an encoder that is to be trained from scratch."""
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


Read = Callable[[Array, Mapping[str, Any]], Array]


def through_layers(
    params: Mapping[str, Any], z: Array, config: SequenceConfig, read: Read
) -> Array:
    """Pass tokens `*b n d` through all layers.

    read: takes normalised tokens and a layer's attention params to what the tokens read.
    """
    for layer in params["layers"]:
        update = read(layer_norm(z, **layer["norm_1"], eps=config.eps), layer["attention"])
        z = feed_forward_sublayer(z + update, layer, eps=config.eps, activation=config.activation)
    return z


def apply(params: Mapping[str, Any], video: Array, config: SequenceConfig, read: Read) -> Array:
    """Return the logits, `*b classes`, of videos `*b T H W C` that are already normalised.

    read: as in through_layers.
    Raises ShapeError where the video has other sizes than the config.
    """
    x = linear_embedding(patch_tokens(video, size=config.patch), **params["embedding"])
    z = separable_positions(x, params["e_space"], params["e_time"])
    *batch, t, s, d = z.shape
    z = namespace(z).reshape(z, (*batch, t * s, d))
    z = through_layers(params, z, config, read)
    return parts.logits(namespace(z).mean(z, axis=-2), params, config.eps)
