"""Motionformer (Patrick et al. 2021): tubelets, separate positions, trajectory layers, head."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from vtnp._array.typing import Array
from vtnp._array.xp import device, namespace, on_its_device
from vtnp.encoder import Activation, layer_norm
from vtnp.models import parts
from vtnp.models.initialisers import Initialiser, RandomInitialiser
from vtnp.models.parts import Params
from vtnp.motionformer import Prototypes, trajectory_layer
from vtnp.positions import separable_positions
from vtnp.tokens import Grid, linear_embedding, patch_tokens


@dataclass(frozen=True)
class MotionformerConfig:
    """Sizes and choices of one Motionformer.

    Attributes
    ----------
    frames, channels : int
        Of the video.
    image : tuple of int
        Height and width of the video in pixels.
    tubelet, patch : int
        A token is a tubelet of so many frames of patch x patch pixels.
    table : tuple of int, optional
        Rows and columns of the table of spatial positions, which is interpolated where the grid has
        others; left out, those of the grid.
    d, heads, d_f, layers : int
        Of the layers: width of a token, number of heads, hidden width, and how many layers.
    classes : int
        Number of logits.
    value_projection : bool
        Whether the second stage of attention projects its values: False in the released code, True
        in the paper.
    prototypes : Prototypes, optional
        How prototypes are chosen; left out, attention is exact.
    eps : float
        Added to the variance in all norms.
    activation : {"relu", "gelu", "gelu_tanh"}
        Of the feed-forward networks.
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
    prototypes: Prototypes | None = None
    eps: float = 1e-6
    activation: Activation = "gelu"

    def __post_init__(self) -> None:
        if not parts.divides(self.patch, *self.image):
            raise ValueError(f"image {self.image} is not a multiple of the patch {self.patch}")
        if not parts.divides(self.tubelet, self.frames):
            raise ValueError(
                f"{self.frames} frames are not a multiple of the tubelet {self.tubelet}"
            )

    @property
    def grid(self) -> Grid:
        """Frames, rows and columns of tokens."""
        height, width = self.image
        return Grid(self.frames // self.tubelet, height // self.patch, width // self.patch)


_BASE = MotionformerConfig()
CONFIGS: Mapping[str, MotionformerConfig] = MappingProxyType({
    "motionformer": _BASE,
    "motionformer-hr": replace(_BASE, image=(336, 336), table=(14, 14)),
    "motionformer-l": replace(_BASE, frames=32),
    "motionformer-orthoformer": replace(_BASE, prototypes=Prototypes(128)),
    "motionformer-tiny": MotionformerConfig(
        frames=8, image=(16, 16), patch=4, channels=1, d=24, heads=3, d_f=48, layers=2, classes=4
    ),
})  # fmt: skip


def init(
    rng: np.random.Generator, config: MotionformerConfig, *, dtype: DTypeLike = np.float64
) -> Params:
    """Draw the params of a model that is to be trained from scratch.

    Parameters
    ----------
    rng : numpy.random.Generator
        The same state gives the same params.
    config : MotionformerConfig
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
    As in the published code, ``e_time`` starts at 0. Without a value projection there are no params
    for one; published checkpoints have them nevertheless, untrained.
    """
    return make_params(RandomInitialiser(rng, dtype), config)


def make_params(new: Initialiser, config: MotionformerConfig) -> Params:
    """Return the params of a model, whose arrays `new` makes."""
    d, (t, *rows_and_columns) = config.d, config.grid
    h, w = config.table or rows_and_columns
    flat = config.tubelet * config.patch * config.patch * config.channels
    pre_logits = {"W": parts.linear(new, (d, d), d, d), "b": parts.zeros(new, d)}
    return {
        "embedding": parts.embedding(new, flat, d),
        "cls": parts.table(new, d),
        "e_cls": parts.table(new, d),
        "e_space": parts.table(new, h * w, d),
        "e_time": parts.zeros(new, t, d),
        "layers": [_layer(new, config) for _ in range(config.layers)],
        "pre_logits": pre_logits,
        **parts.head(new, d, config.classes),
    }


def _layer(new: Initialiser, config: MotionformerConfig) -> Params:
    d, heads = config.d, config.heads
    letters = "qkv" if config.value_projection else "qk"
    # The projections of the second stage have the shapes of the first.
    second = parts.attention(new, d, heads)
    trajectory = {f"{x}_{letter}": second[f"{x}_{letter}"] for x in "Wb" for letter in letters}
    return {**parts.layer(new, d, heads, config.d_f), "trajectory": trajectory}


@on_its_device
def apply(params: Mapping[str, Any], video: Array, config: MotionformerConfig) -> Array:
    """Return the logits of videos.

    Parameters
    ----------
    params : mapping
        As `init` returns them.
    video : array
        Normalised videos, `*b T H W C`: frames, rows, columns, channels.
    config : MotionformerConfig
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
    In evaluation the released code returns probabilities, the softmax of these logits.
    """
    keys = "embedding cls e_cls e_space e_time layers norm pre_logits head"
    parts.require_keys("motionformer", params, keys)
    parts.require_video("motionformer", video, config)
    x = patch_tokens(video, size=(config.tubelet, config.patch, config.patch))
    z = linear_embedding(x, **params["embedding"])
    z = separable_positions(z, _spatial_positions(params["e_space"], config), params["e_time"])
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
    pre_logits = params["pre_logits"]
    hidden = linear_embedding(feature, pre_logits["W"], bias=pre_logits["b"])
    return parts.head_logits(namespace(hidden).tanh(hidden), params)


def _spatial_positions(e_space: Array, config: MotionformerConfig) -> Array:
    """Return the table of spatial positions, interpolated where the grid has other sizes."""
    _, h, w = config.grid
    rows, columns = config.table or (h, w)
    if (rows, columns) == (h, w):
        return e_space
    xp, d = namespace(e_space), e_space.shape[-1]
    down, across = (
        xp.asarray(bicubic(*sizes), dtype=e_space.dtype, device=device(e_space))
        for sizes in ((rows, h), (columns, w))
    )
    by_rows = down @ xp.reshape(e_space, (rows, columns * d))
    return xp.reshape(across @ xp.reshape(by_rows, (h, columns, d)), (h * w, d))


def bicubic(n: int, m: int) -> NDArray[np.float64]:
    """Return the m x n matrix that interpolates n samples at m positions, as torch does.

    Keys' cubic kernel with a = -0.75, samples at the centres of their cells, the ends repeated.
    """
    a, matrix = -0.75, np.zeros((m, n))
    for i in range(m):
        position = (i + 0.5) * n / m - 0.5
        low = int(np.floor(position))
        for j in range(low - 1, low + 3):
            x = abs(position - j)
            near = (a + 2) * x**3 - (a + 3) * x**2 + 1
            weight = near if x <= 1 else a * (x**3 - 5 * x**2 + 8 * x - 4)
            matrix[i, min(max(j, 0), n - 1)] += weight
    return matrix
