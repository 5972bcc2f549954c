"""Sizes of vtnp.longnet's formulas: LongNet's published branches over 32768 tokens.

Segments of 2048, 4096, 8192, 16384 and 32768 tokens, dilated by 1, 2, 4, 6 and 12 (Ding et al.
2023, section 4.2), 12 heads of width 64; a single branch is the second of them.
"""

from typing import Any

from vtnp.cost.recipes.recipe import Recipe, Sizes


# Sizes that make no sense come out as something, for the formula to refuse.
def _segments(z: Sizes) -> int:
    return -(-int(z["n"]) // _length(z))


def _kept(z: Sizes) -> int:
    return -(-_length(z) // max(1, int(z["dilation"])))


def _length(z: Sizes) -> int:
    return max(1, min(int(z["segment"]), int(z["n"])))


def _branches(z: Sizes) -> dict[str, Any]:
    each = z["branches"]
    return {"outputs": ["*b n d_v"] * each, "log_denominators": ["*b n"] * each}


SIZES = {
    "n": 32768, "segment": 4096, "dilation": 2, "d": 64,
    "segments": (2048, 4096, 8192, 16384, 32768), "dilations": (1, 2, 4, 6, 12),
}  # fmt: skip
RECIPES = {
    "sparse-to-dense": Recipe({"segments": _segments, "kept": _kept}),
    "mix-branches": Recipe(
        {"branches": 5}, dict.fromkeys(("n", "d_v", "branches"), int), arguments=_branches
    ),
}
