"""A video encoder of Nyström attention (Xiong et al. 2021): linear cost through landmarks.

The paper has language models only. Here the tokens of space and time are one sequence, frame after
frame, so that a landmark is the mean of neighbouring tokens. Unlike in the released models, each
matrix has its own start value of the iterative pseudo-inverse, so that no video of a batch changes
the logits of another. The exact pseudo-inverse does not suit training from scratch: while all
scores are near 0 its matrix is nearly singular, and gradients grow with the square of the inverse.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from vtnp._array.typing import Array
from vtnp.models import parts, sequence
from vtnp.models.parts import Params
from vtnp.models.sequence import SequenceConfig
from vtnp.nystromformer import Pinv, PinvStart, nystrom_self_attention


@dataclass(frozen=True)
class NystromformerConfig(SequenceConfig):
    """Sizes and options of one encoder, in addition to those of SequenceConfig.

    landmarks: number of segment means. kernel: length of the convolution along the sequence, odd,
    or 0 for none; with more than twice the tokens of a frame it reaches the same position in the
    frames before and after. pinv: invert the landmarks' matrix exactly or iteratively. iterations,
    start: number of steps and start value of the iteration.
    """

    landmarks: int = 64
    kernel: int = 33
    pinv: Pinv = "iterative"
    iterations: int = 6
    start: PinvStart = "paper"


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
    params = sequence.init(rng, config, dtype)
    shape = (config.heads, config.kernel)
    for layer in params["layers"] if config.kernel else []:
        layer["attention"]["kernel"] = parts.linear(rng, shape, config.kernel, config.kernel, dtype)
    return params


def apply(params: Mapping[str, Any], video: Array, config: NystromformerConfig) -> Array:
    """Return the logits, `*b classes`, of videos `*b T H W C` that are already normalised.

    Raises ShapeError where the video has other sizes than the config.
    """

    def attend(x: Array, attention: Mapping[str, Any]) -> Array:
        return nystrom_self_attention(
            x,
            **attention,
            landmarks=config.landmarks,
            pinv=config.pinv,
            iterations=config.iterations,
            start=config.start,
        )

    return sequence.apply(params, video, config, attend)
