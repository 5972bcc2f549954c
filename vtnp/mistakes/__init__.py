"""Usual mistakes, one wrong implementation for each: what tests reject and the harness names."""

from vtnp.mistakes import encoder, longnet, nystromformer, positions, tokens
from vtnp.mistakes._registry import mistake, mistakes

__all__ = ["encoder", "longnet", "mistake", "mistakes", "nystromformer", "positions", "tokens"]
