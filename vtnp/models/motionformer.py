"""Motionformer (Patrick et al. 2021): tubelets, separate positions, trajectory layers, head."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from vtnp._array.typing import Array
from vtnp._array.xp import device, namespace, plus_bias
from vtnp.encoder import layer_norm
from vtnp.models import parts
from vtnp.models.parts import Params
from vtnp.motionformer import trajectory_layer
from vtnp.positions import separable_positions
from vtnp.tokens import linear_embedding, patch_tokens


@dataclass(frozen=True)
class MotionformerConfig:
    """Sizes and choices of one Motionformer.

    frames, image, tubelet, patch, channels: of the video; a token is tubelet frames of
    patch x patch pixels. table: rows and columns of the table of places, where it is not as large
    as the grid; it is then interpolated. d, heads, d_f, layers: of the layers. value_projection: of
    the second stage; False is the released code, True the paper. prototypes: options of
    trajectory-self-attention, None for exact attention.
    """

    frames: int = 16
    image: tuple[int, int] = (224, 224)
    tubelet: int = 2
    patch: int = 16
    channels: int = 3
    table: tuple[int, int] | None = None
    d: int = 768
    heads: int = 12
    d_f: int = 3072
    layers: int = 12
    classes: int = 400
    value_projection: bool = False
    prototypes: Mapping[str, Any] | None = field(default=None, hash=False)
    eps: float = 1e-6
    activation: str = "gelu"

    def __post_init__(self) -> None:
        if not parts.divides(self.patch, *self.image):
            raise ValueError(f"image {self.image} is no multiple of the patch {self.patch}")
        if not parts.divides(self.tubelet, self.frames):
            raise ValueError(f"{self.frames} frames are no multiple of the tubelet {self.tubelet}")

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tokens."""
        return self.image[0] // self.patch, self.image[1] // self.patch


_BASE = MotionformerConfig()
CONFIGS: Mapping[str, MotionformerConfig] = MappingProxyType({
    "motionformer": _BASE,
    "motionformer-hr": replace(_BASE, image=(336, 336), table=(14, 14)),
    "motionformer-l": replace(_BASE, frames=32),
    "motionformer-orthoformer": replace(_BASE, prototypes={"r": 128, "start": 0}),
    "motionformer-tiny": MotionformerConfig(
        frames=8, image=(16, 16), patch=4, channels=1, d=24, heads=3, d_f=48, layers=2, classes=4
    ),
})  # fmt: skip


def init(
    rng: np.random.Generator, config: MotionformerConfig, *, dtype: DTypeLike = np.float64
) -> Params:
    """Draw the params of a model that is to be trained from scratch.

    As in the published code, e_time starts at 0. Without a value projection there are no params for
    one; published checkpoints have them nevertheless, untrained.
    """
    d, (h, w) = config.d, config.table or config.grid
    flat = config.tubelet * config.patch * config.patch * config.channels
    hidden = {"W": parts.linear(rng, (d, d), d, d, dtype), "b": np.zeros(d, dtype)}
    return {
        "embedding": parts.embedding(rng, flat, d, dtype),
        "cls": parts.table(rng, (d,), dtype),
        "e_cls": parts.table(rng, (d,), dtype),
        "e_space": parts.table(rng, (h * w, d), dtype),
        "e_time": np.zeros((config.frames // config.tubelet, d), dtype),
        "layers": [_layer(rng, config, dtype) for _ in range(config.layers)],
        "pre_logits": hidden,
        **parts.head(rng, d, config.classes, dtype),
    }


def _layer(rng: np.random.Generator, config: MotionformerConfig, dtype: DTypeLike) -> Params:
    d, heads = config.d, config.heads
    letters = "qkv" if config.value_projection else "qk"
    # The second projections look like the first, but read all heads side by side.
    second = parts.attention(rng, d, heads, dtype)
    trajectory = {f"{x}_{letter}": second[f"{x}_{letter}"] for x in "Wb" for letter in letters}
    return {
        **parts.layer(rng, d, heads, config.d_f, dtype),
        "trajectory": trajectory,
    }


def apply(params: Mapping[str, Any], video: Array, config: MotionformerConfig) -> Array:
    """Return the logits, `*b classes`, of videos `*b T H W C` that are already normalised.

    Raises ShapeError where the video has other sizes than the config.
    Notes: the released code returns probabilities, the softmax of these, where it evaluates.
    """
    x = patch_tokens(video, size=(config.tubelet, config.patch, config.patch))
    z = linear_embedding(x, **params["embedding"])
    z = separable_positions(z, _places(params["e_space"], config), params["e_time"])
    cls = parts.repeated(params["cls"] + params["e_cls"], tuple(z.shape[:-3]))
    for layer in params["layers"]:
        z, cls = trajectory_layer(
            z,
            cls,
            layer,
            value_projection=config.value_projection,
            prototypes=config.prototypes,
            eps=config.eps,
            activation=config.activation,
        )
    feature = layer_norm(cls, **params["norm"], eps=config.eps)
    hidden = plus_bias(feature @ params["pre_logits"]["W"], params["pre_logits"]["b"])
    return plus_bias(namespace(hidden).tanh(hidden) @ params["head"]["W"], params["head"]["b"])


def _places(e_space: Array, config: MotionformerConfig) -> Array:
    """Return the table of places, interpolated where the grid is another."""
    table, grid = config.table or config.grid, config.grid
    if table == grid:
        return e_space
    xp, d = namespace(e_space), e_space.shape[-1]
    down, across = (
        xp.asarray(bicubic(*sizes), dtype=e_space.dtype, device=device(e_space))
        for sizes in zip(table, grid, strict=True)
    )
    rows = xp.reshape(down @ xp.reshape(e_space, (table[0], table[1] * d)), (grid[0], table[1], d))
    return xp.reshape(across @ rows, (grid[0] * grid[1], d))


def bicubic(n: int, m: int) -> NDArray[np.float64]:
    """Return the m x n matrix that interpolates n samples at m places, as torch does.

    Keys' cubic kernel with a = -0.75, samples at the centres of their cells, the ends repeated.
    """
    a, matrix = -0.75, np.zeros((m, n))
    for i in range(m):
        place = (i + 0.5) * n / m - 0.5
        low = int(np.floor(place))
        for j in range(low - 1, low + 3):
            x = abs(place - j)
            near = (a + 2) * x**3 - (a + 3) * x**2 + 1
            weight = near if x <= 1 else a * (x**3 - 5 * x**2 + 8 * x - 4)
            matrix[i, min(max(j, 0), n - 1)] += weight
    return matrix
