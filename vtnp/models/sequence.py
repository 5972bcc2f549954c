"""What the encoders of long sequences share: tokens of space and time as one sequence.

Frame follows frame, positions are learned, layers are pre-norm, and the mean of all tokens is what
is classified. How a layer attends is the model's own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vtnp._array.typing import Array
from vtnp._array.xp import namespace
from vtnp.encoder import Activation, feed_forward_sublayer, layer_norm
from vtnp.models import parts
from vtnp.models.initialisers import Initialiser
from vtnp.models.parts import Params
from vtnp.positions import separable_positions
from vtnp.tokens import Grid, linear_embedding, patch_tokens


@dataclass(frozen=True)
class SequenceConfig:
    """Sizes of one encoder.

    Attributes
    ----------
    frames, channels : int
        Of the video.
    image : tuple of int
        Height and width of the video in pixels.
    patch : tuple of int
        Frames, height and width of a patch.
    d, heads, d_f, layers : int
        Of the layers: width of a token, number of heads, hidden width, and how many layers.
    classes : int
        Number of logits.
    eps : float
        Added to the variance in all norms.
    activation : {"relu", "gelu", "gelu_tanh"}
        Of the feed-forward networks.
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
    activation: Activation = "gelu"

    def __post_init__(self) -> None:
        if any(pixels % p for pixels, p in zip(self.video, self.patch, strict=True)):
            raise ValueError(f"video {self.video} is not a multiple of the patch {self.patch}")

    @property
    def video(self) -> tuple[int, int, int]:
        """Frames, height and width."""
        return self.frames, *self.image

    @property
    def grid(self) -> Grid:
        """Frames, rows and columns of tokens."""
        return Grid(*(pixels // p for pixels, p in zip(self.video, self.patch, strict=True)))


def make_params(new: Initialiser, config: SequenceConfig) -> Params:
    """Return the params of an encoder, whose arrays `new` makes."""
    d, (t, h, w) = config.d, config.grid
    flat = int(np.prod(config.patch)) * config.channels
    return {
        "embedding": parts.embedding(new, flat, d),
        "e_space": parts.table(new, h * w, d),
        "e_time": parts.table(new, t, d),
        "layers": [parts.layer(new, d, config.heads, config.d_f) for _ in range(config.layers)],
        **parts.head(new, d, config.classes),
    }


Attend = Callable[[Array, Mapping[str, Any]], Array]


def through_layers(
    params: Mapping[str, Any], z: Array, config: SequenceConfig, attend: Attend
) -> Array:
    """Pass tokens `*b n d` through all layers.

    attend: takes normalised tokens and a layer's attention params, and returns an update of each
    token.
    """
    for layer in params["layers"]:
        update = attend(layer_norm(z, **layer["norm_1"], eps=config.eps), layer["attention"])
        z = feed_forward_sublayer(z + update, layer, eps=config.eps, activation=config.activation)
    return z


def apply(
    model: str, params: Mapping[str, Any], video: Array, config: SequenceConfig, attend: Attend
) -> Array:
    """Return the logits, `*b classes`, of normalised videos `*b T H W C`.

    model: its name, for errors. attend: as in through_layers.
    """
    parts.require_keys(model, params, "embedding e_space e_time layers norm head")
    parts.require_video(model, video, config)
    x = linear_embedding(patch_tokens(video, size=config.patch), **params["embedding"])
    z = separable_positions(x, params["e_space"], params["e_time"])
    *batch, t, s, d = z.shape
    z = namespace(z).reshape(z, (*batch, t * s, d))
    z = through_layers(params, z, config, attend)
    return parts.logits(namespace(z).mean(z, axis=-2), params, config.eps)
