"""Random inputs for every formula, from an explicit generator.

A builder `@builds("attention-weights")` takes a Draw and returns the formula's arguments. A
formula without one gets arrays of the shapes in its signature.
"""

from vtnp.claims.cases import (
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
from vtnp.claims.cases._case import Case, axes, build, make
from vtnp.claims.cases._draw import Draw, Sizing, builds

__all__ = [
    "Case",
    "Draw",
    "Sizing",
    "axes",
    "build",
    "builds",
    "deformable",
    "encoder",
    "longnet",
    "make",
    "motionformer",
    "mvit",
    "nystromformer",
    "positions",
    "timesformer",
    "tokens",
    "vivit",
]
