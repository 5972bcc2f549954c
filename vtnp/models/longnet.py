"""A video encoder of dilated attention (LongNet, Ding et al. 2023): long videos at linear cost.

The paper has language models only. Here tokens of space and time are one sequence, frame after
frame, so that short segments are neighbouring frames and long ones the whole video.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from vtnp._array.typing import Array
from vtnp._array.xp import on_its_device
from vtnp.encoder import output_projection, qkv_projection
from vtnp.longnet import Branch, Offsets, dilated_attention
from vtnp.models import sequence
from vtnp.models.initialisers import Initialiser, RandomInitialiser
from vtnp.models.parts import Params
from vtnp.models.sequence import Attend, SequenceConfig


@dataclass(frozen=True)
class LongNetConfig(SequenceConfig):
    """Sizes and choices of one encoder.

    Attributes
    ----------
    branches : tuple of Branch
        Segment length and dilation of each branch of dilated attention.
    offsets : {"paper", "torchscale"}
        Which tokens of a segment each head selects first.

    Notes
    -----
    All other attributes are those of `SequenceConfig`.
    """

    branches: tuple[Branch, ...] = (
        Branch(2048, 1),
        Branch(4096, 2),
        Branch(8192, 4),
        Branch(16384, 6),
        Branch(32768, 12),
    )
    offsets: Offsets = "paper"


_BASE = LongNetConfig()
CONFIGS: Mapping[str, LongNetConfig] = MappingProxyType({
    "longnet": _BASE,
    "longnet-long": replace(_BASE, frames=1024),
    "longnet-tiny": LongNetConfig(
        frames=8, image=(16, 16), patch=(1, 4, 4), channels=1, d=24, heads=4, d_f=48, layers=2,
        branches=(Branch(16, 1), Branch(64, 2), Branch(128, 4)), classes=4,
    ),
})  # fmt: skip


def init(
    rng: np.random.Generator, config: LongNetConfig, *, dtype: DTypeLike = np.float64
) -> Params:
    """Draw the params of a model that is to be trained from scratch.

    Parameters
    ----------
    rng : numpy.random.Generator
        The same state gives the same params.
    config : LongNetConfig
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


def make_params(new: Initialiser, config: LongNetConfig) -> Params:
    """Return the params of a model, whose arrays `new` makes."""
    return sequence.make_params(new, config)


@on_its_device
def apply(params: Mapping[str, Any], video: Array, config: LongNetConfig) -> Array:
    """Return the logits of videos.

    Parameters
    ----------
    params : mapping
        As `init` returns them.
    video : array
        Normalised videos, `*b T H W C`: frames, rows, columns, channels.
    config : LongNetConfig
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
    return sequence.apply("longnet", params, video, config, _attention(config))


def through_layers(params: Mapping[str, Any], z: Array, config: LongNetConfig) -> Array:
    """Pass tokens through all layers, which are what is published of a LongNet.

    Parameters
    ----------
    params : mapping
        With ``layers`` as `init` returns them; further keys are ignored.
    z : array
        Tokens, `*b n d`.
    config : LongNetConfig
        The configuration of the params.

    Returns
    -------
    array
        Tokens of the same shape.
    """
    return sequence.through_layers(params, z, config, _attention(config))


def _attention(config: LongNetConfig) -> Attend:
    def attend(x: Array, attention: Mapping[str, Any]) -> Array:
        Q, K, V = (qkv_projection(x, attention[f"W_{c}"], bias=attention[f"b_{c}"]) for c in "qkv")
        y = dilated_attention(Q, K, V, branches=config.branches, offsets=config.offsets)
        return output_projection(y, attention["W_c"], bias=attention["b_c"])

    return attend
