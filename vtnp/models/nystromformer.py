"""A video encoder of Nyström attention (Xiong et al. 2021): linear cost through landmarks.

The paper has language models only. Here tokens of space and time are one sequence, frame after
frame, so that a landmark is the mean of neighbouring tokens. Unlike in the released models the
pseudo-inverse of each matrix has its own initial value, so that no video of a batch changes the
logits of another. The exact pseudo-inverse does not suit training from scratch: while all scores
are near 0 its matrix is nearly singular, and gradients grow with the square of the inverse.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from vtnp._array.typing import Array
from vtnp._array.xp import on_its_device
from vtnp.models import parts, sequence
from vtnp.models.initialisers import Initialiser, RandomInitialiser
from vtnp.models.parts import Params
from vtnp.models.sequence import SequenceConfig
from vtnp.nystromformer import Pinv, PinvStart, nystrom_self_attention


@dataclass(frozen=True)
class NystromformerConfig(SequenceConfig):
    """Sizes and choices of one encoder.

    Attributes
    ----------
    landmarks : int
        Of each head.
    kernel : int
        Weights of the convolution along the sequence, 0 for no convolution. With more than twice
        the tokens of a frame it reaches the same position in the frames before and after.
    pinv : {"exact", "iterative"}
        How the pseudo-inverse is computed.
    iterations : int
        Of the iterative pseudo-inverse.
    start : {"paper", "exact", "original"}
        The initial value of the iterative pseudo-inverse.

    Notes
    -----
    All other attributes are those of `SequenceConfig`.
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
        landmarks=16, classes=4,
    ),
})  # fmt: skip


def init(
    rng: np.random.Generator, config: NystromformerConfig, *, dtype: DTypeLike = np.float64
) -> Params:
    """Draw the params of a model that is to be trained from scratch.

    Parameters
    ----------
    rng : numpy.random.Generator
        The same state gives the same params.
    config : NystromformerConfig
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


def make_params(new: Initialiser, config: NystromformerConfig) -> Params:
    """Return the params of a model, whose arrays `new` makes."""
    params = sequence.make_params(new, config)
    shape = (config.heads, config.kernel)
    for layer in params["layers"] if config.kernel else []:
        layer["attention"]["kernel"] = parts.linear(new, shape, config.kernel, config.kernel)
    return params


@on_its_device
def apply(params: Mapping[str, Any], video: Array, config: NystromformerConfig) -> Array:
    """Return the logits of videos.

    Parameters
    ----------
    params : mapping
        As `init` returns them.
    video : array
        Normalised videos, `*b T H W C`: frames, rows, columns, channels.
    config : NystromformerConfig
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

    def attend(x: Array, attention: Mapping[str, Any]) -> Array:
        return nystrom_self_attention(
            x,
            **attention,
            landmarks=config.landmarks,
            pinv=config.pinv,
            iterations=config.iterations,
            start=config.start,
        )

    return sequence.apply("nystromformer", params, video, config, attend)
