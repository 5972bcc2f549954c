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
from vtnp.encoder import output_projection, qkv_projection
from vtnp.longnet import dilated_attention
from vtnp.models import sequence
from vtnp.models.parts import Params
from vtnp.models.sequence import Read, SequenceConfig


@dataclass(frozen=True)
class LongNetConfig(SequenceConfig):
    """Sizes and choices of one encoder.

    Beside those of SequenceConfig, segments, dilations, offsets: as in dilated-attention.
    """

    segments: tuple[int, ...] = (2048, 4096, 8192, 16384, 32768)
    dilations: tuple[int, ...] = (1, 2, 4, 6, 12)
    offsets: str = "paper"


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
    return sequence.init(rng, config, dtype)


def apply(params: Mapping[str, Any], video: Array, config: LongNetConfig) -> Array:
    """Return the logits, `*b classes`, of videos `*b T H W C` that are already normalised.

    Raises ShapeError where the video has other sizes than the config.
    """
    return sequence.apply(params, video, config, _reading(config))


def through_layers(params: Mapping[str, Any], z: Array, config: LongNetConfig) -> Array:
    """Pass tokens `*b n d` through all layers, which are what is published of a LongNet."""
    return sequence.through_layers(params, z, config, _reading(config))


def _reading(config: LongNetConfig) -> Read:
    def read(x: Array, attention: Mapping[str, Any]) -> Array:
        Q, K, V = (qkv_projection(x, attention[f"W_{c}"], bias=attention[f"b_{c}"]) for c in "qkv")
        y = dilated_attention(
            Q, K, V, segments=config.segments, dilations=config.dilations, offsets=config.offsets
        )
        return output_projection(y, attention["W_c"], bias=attention["b_c"])

    return read
