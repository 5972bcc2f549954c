"""Laws and special cases of all pages, as checks that can be run on any implementation.

A claim takes one case, a formula's function with arguments drawn for it. It evaluates `case()` and,
with an argument changed, `case(K=other)`, and asserts what has to hold between the results. With
`replace(case, function=other)` the same claim checks another implementation.
"""

from vtnp.claims import (
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
from vtnp.claims._registry import Claim, claims, law, special
from vtnp.claims.check import check, check_claim, statement

if not __debug__:
    raise ImportError("the claims are assert statements, which python -O leaves out")

__all__ = [
    "Claim",
    "check",
    "check_claim",
    "claims",
    "deformable",
    "encoder",
    "law",
    "longnet",
    "motionformer",
    "mvit",
    "nystromformer",
    "positions",
    "special",
    "statement",
    "timesformer",
    "tokens",
    "vivit",
]
