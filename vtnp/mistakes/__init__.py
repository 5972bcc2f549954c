"""Usual mistakes, one wrong implementation for each: what tests reject and the harness names."""

from vtnp.mistakes import (
    deformable,
    encoder,
    longnet,
    motionformer,
    mvit,
    nystromformer,
    positions,
    timesformer,
    tokens,
    vivit,
)
from vtnp.mistakes._registry import mistake, mistakes

__all__ = [
    "deformable",
    "encoder",
    "longnet",
    "mistake",
    "mistakes",
    "motionformer",
    "mvit",
    "nystromformer",
    "positions",
    "timesformer",
    "tokens",
    "vivit",
]
