"""A video encoder of Nyström attention (Xiong et al. 2021): linear cost through landmarks.

The paper has language models only. Here tokens of space and time are one sequence, frame after
frame, so that a landmark is the mean of neighbouring places. Unlike in the released models the
start value of the pseudo-inverse is each matrix's own, so that no video of a batch changes the
logits of another. The exact pseudo-inverse is no choice for training from scratch: while all scores
are near 0 its matrix is nearly singular, and gradients grow with the square of the inverse.
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
from vtnp.nystromformer import nystrom_self_attention


@dataclass(frozen=True)
class NystromformerConfig(SequenceConfig):
    """Sizes and choices of one encoder.

    Beside those of SequenceConfig, landmarks, pinv, iterations, start: as in nystrom-attention.
    kernel: weights of the convolution along the sequence, 0 for none; more than twice the tokens of
    a frame reach the same place in the frames before and after.
    """

    landmarks: int = 64
    kernel: int = 33
    pinv: str = "iterative"
    iterations: int = 6
    start: str = "paper"


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

    def read(x: Array, attention: Mapping[str, Any]) -> Array:
        return nystrom_self_attention(
            x,
            **attention,
            landmarks=config.landmarks,
            pinv=config.pinv,
            iterations=config.iterations,
            start=config.start,
        )

    return sequence.apply(params, video, config, read)
