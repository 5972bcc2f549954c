"""Whole systems, made of the formulas: a config, `init` for its params, `apply` for its logits."""

from vtnp.models import (
    deformable,
    longnet,
    motionformer,
    mvit,
    nystromformer,
    parts,
    timesformer,
    vivit,
)

__all__ = [
    "deformable",
    "longnet",
    "motionformer",
    "mvit",
    "nystromformer",
    "parts",
    "timesformer",
    "vivit",
]
