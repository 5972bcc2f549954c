"""Usual mistakes, one wrong implementation for each: what tests reject and the harness names."""

from vtnp.mistakes import encoder, longnet, nystromformer, positions, timesformer, tokens
from vtnp.mistakes._registry import mistake, mistakes

__all__ = ["encoder", "longnet", "mistake", "mistakes", "nystromformer", "positions", "timesformer", "tokens"]
