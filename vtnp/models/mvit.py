"""MViT (Fan et al. 2021): a convolution, stages of multiscale blocks, class token, head."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from vtnp import mvit as formulas
from vtnp._array.typing import Array
from vtnp._array.xp import namespace, on_its_device
from vtnp.encoder import Activation
from vtnp.models import parts
from vtnp.models.initialisers import Initialiser, RandomInitialiser
from vtnp.models.parts import Params
from vtnp.mvit import Pooling, Sizes
from vtnp.positions import separable_positions
from vtnp.tokens import Grid, spatio_temporal_embedding


class Block(NamedTuple):
    """One block of an MViT.

    Attributes
    ----------
    d, d_out : int
        Width of its tokens before and after.
    heads : int
        Number of heads.
    pool_q, pool_kv : Pooling
        How its queries, and how its keys and values are pooled, with the size of the window in
        every mode; without a size they are not pooled.
    """

    d: int
    d_out: int
    heads: int
    pool_q: Pooling
    pool_kv: Pooling


@dataclass(frozen=True)
class MViTConfig:
    """Sizes and choices of one MViT.

    Attributes
    ----------
    frames, channels : int
        Of the video.
    image : tuple of int
        Height and width of the video in pixels.
    stem, stem_stride, stem_padding : tuple of int
        Size, stride and padding of the convolution that makes tokens.
    d, heads : int
        Width of a token and number of heads in the first stage; both double from stage to stage.
    stages : tuple of int
        How many blocks each stage has.
    stride_q : tuple of int
        The stride by which each later stage pools its queries, and with them the grid.
    stride_kv : tuple of int
        The stride of keys and values in the first stage, which later stages adapt.
    mode : {"conv", "max", "avg"}
        Of all poolings.
    size : tuple of int, optional
        Of all pooling windows; left out, one more than the stride.
    mlp_ratio : int
        Hidden width of the feed-forward networks over the width of a token.
    classes : int
        Number of logits.
    eps : float
        Added to the variance in all norms.
    activation : {"relu", "gelu", "gelu_tanh"}
        Of the feed-forward networks.
    """

    frames: int = 16
    image: tuple[int, int] = (224, 224)
    channels: int = 3
    stem: Sizes = (3, 7, 7)
    stem_stride: Sizes = (2, 4, 4)
    stem_padding: Sizes = (1, 3, 3)
    d: int = 96
    heads: int = 1
    stages: tuple[int, ...] = (1, 2, 11, 2)
    stride_q: Sizes = (1, 2, 2)
    stride_kv: Sizes = (1, 8, 8)
    mode: Literal["conv", "max", "avg"] = "conv"
    size: Sizes | None = (3, 3, 3)
    mlp_ratio: int = 4
    classes: int = 400
    eps: float = 1e-6
    activation: Activation = "gelu"

    @property
    def grid(self) -> Grid:
        """Frames, rows and columns of tokens before the first block."""
        stem = Pooling(self.stem_stride, self.stem, self.stem_padding)
        return formulas.pooled_grid(Grid(self.frames, *self.image), pooling=stem)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The blocks, in order.

        The first block of every later stage pools the grid, and has the stage's heads; the last
        block of every earlier one widens to the next. The poolings have the sizes of their windows,
        in the mode "conv" those of the kernels.
        """
        if min(self.stages, default=0) < 1:
            raise ValueError(f"stages {self.stages}: expected at least one block in each")
        stage = [j for j, blocks in enumerate(self.stages) for _ in range(blocks)]
        pools = [i > 0 and stage[i] != stage[i - 1] for i in range(len(stage))]
        strides_q = [self.stride_q if each else (1, 1, 1) for each in pools]
        strides_kv = formulas.adaptive_strides(self.stride_kv, strides_q)
        return tuple(
            Block(
                self.d * 2 ** stage[i],
                self.d * 2 ** stage[min(i + 1, len(stage) - 1)],
                self.heads * 2 ** stage[i],
                self._pooling(strides_q[i]) if pools[i] else Pooling(mode=self.mode),
                self._pooling(strides_kv[i]),
            )
            for i in range(len(stage))
        )

    def _pooling(self, stride: Sizes) -> Pooling:
        """Return the pooling with a stride; without a size where its window would be one cell."""
        t, h, w = (s + 1 if s > 1 else 1 for s in stride)
        size = self.size or (None if max(stride) == 1 else (t, h, w))
        return Pooling(stride, size, mode=self.mode)


_BASE = MViTConfig()
CONFIGS: Mapping[str, MViTConfig] = MappingProxyType({
    "mvit-b": _BASE,
    "mvit-b-32x3": replace(_BASE, frames=32),
    "mvit-b-64x3": replace(_BASE, frames=64),
    "mvit-b-24": replace(_BASE, frames=32, stages=(2, 3, 16, 3)),
    # The paper says nothing of its heads and strides: heads of one width, and as many keys as B has
    # for a frame.
    "mvit-s": replace(
        _BASE, stem=(3, 8, 8), stem_stride=(2, 8, 8), stem_padding=(1, 0, 0), d=128,
        stages=(3, 7, 6), stride_kv=(1, 4, 4),
    ),
    "mvit-tiny": MViTConfig(
        frames=8, image=(16, 16), channels=1, stem=(3, 3, 3), stem_stride=(2, 2, 2),
        stem_padding=(1, 1, 1), d=12, stages=(1, 2, 2), stride_kv=(1, 4, 4), mlp_ratio=2, classes=4,
    ),
})  # fmt: skip


def init(rng: np.random.Generator, config: MViTConfig, *, dtype: DTypeLike = np.float64) -> Params:
    """Draw the params of a model that is to be trained from scratch.

    Parameters
    ----------
    rng : numpy.random.Generator
        The same state gives the same params.
    config : MViTConfig
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


def make_params(new: Initialiser, config: MViTConfig) -> Params:
    """Return the params of a model, whose arrays `new` makes."""
    d, (t, h, w), blocks = config.d, config.grid, config.blocks
    kernel, inputs = (*config.stem, config.channels, d), math.prod(config.stem) * config.channels
    return {
        "embedding": {
            "kernel": parts.linear(new, kernel, inputs, d),
            "bias": parts.zeros(new, d),
        },
        "cls": parts.table(new, d),
        "e_cls": parts.table(new, d),
        "e_space": parts.table(new, h * w, d),
        "e_time": parts.table(new, t, d),
        "layers": [layer_params(new, block, config) for block in blocks],
        **parts.head(new, blocks[-1].d_out, config.classes),
    }


def layer_params(new: Initialiser, block: Block, config: MViTConfig) -> Params:
    """Return the params of one block."""
    d, d_out, d_f = block.d, block.d_out, config.mlp_ratio * block.d
    params = parts.self_attention_sublayer(new, d, block.heads)
    if config.mode == "conv":
        params["attention"] |= _kernels_and_norms(new, block)
    params |= parts.feed_forward_sublayer(new, d, d_f)
    if d_out != d:
        wider = {"W_2": parts.linear(new, (d_f, d_out), d_f, d_out), "b_2": parts.zeros(new, d_out)}
        params["feed_forward"] |= wider
        weights = parts.linear(new, (d, d_out), d, d_out)
        params["shortcut"] = {"W": weights, "b": parts.zeros(new, d_out)}
    return params


def _kernels_and_norms(new: Initialiser, block: Block) -> Params:
    """Return the kernels and norms of a block's poolings, which its heads share."""
    params: Params = {}
    d_h = block.d // block.heads
    for letter, pooling in (("q", block.pool_q), ("k", block.pool_kv), ("v", block.pool_kv)):
        size = pooling.size
        if size is not None:
            taps = math.prod(size)
            params[f"kernel_{letter}"] = parts.linear(new, (*size, d_h), taps, taps)
            params[f"norm_{letter}"] = parts.norm(new, d_h)
    return params


@on_its_device
def apply(params: Mapping[str, Any], video: Array, config: MViTConfig) -> Array:
    """Return the logits of videos.

    Parameters
    ----------
    params : mapping
        As `init` returns them.
    video : array
        Normalised videos, `*b T H W C`: frames, rows, columns, channels.
    config : MViTConfig
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
    parts.require_keys("mvit", params, "embedding cls e_cls e_space e_time layers norm head")
    parts.require_video("mvit", video, config)
    z = spatio_temporal_embedding(
        video, **params["embedding"], stride=config.stem_stride, padding=config.stem_padding
    )
    xp = namespace(z)
    *batch, t, h, w, d = z.shape
    z = xp.reshape(z, (*batch, t, h * w, d))
    z = separable_positions(z, params["e_space"], params["e_time"])
    cls = parts.repeated(params["cls"] + params["e_cls"], tuple(batch))
    x = xp.concat([cls[..., None, :], xp.reshape(z, (*batch, t * h * w, d))], axis=-2)
    grid = Grid(t, h, w)
    for block, layer in zip(config.blocks, params["layers"], strict=True):
        pool_q, pool_kv = block.pool_q, block.pool_kv
        if config.mode == "conv":  # the kernels have the sizes
            pool_q, pool_kv = pool_q._replace(size=None), pool_kv._replace(size=None)
        x, grid = formulas.multiscale_block(
            x,
            layer,
            grid=grid,
            pool_q=pool_q,
            pool_kv=pool_kv,
            eps=config.eps,
            activation=config.activation,
            has_cls=True,
        )
    return parts.logits(x[..., 0, :], params, config.eps)
