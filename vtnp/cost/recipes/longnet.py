"""Sizes of vtnp.longnet's formulas: LongNet's published branches over 32768 tokens.

Segments of 2048, 4096, 8192, 16384 and 32768 tokens, dilated by 1, 2, 4, 6 and 12 (Ding et al.
2023, section 4.2), 12 heads of width 64; a single branch is the second of them.
"""

from typing import Any

from vtnp.cost.recipes.recipe import Recipe, Sizes
from vtnp.longnet import Branch


# Branches without meaning get some number of rows, so that the formula itself refuses them.
def _length(z: Sizes) -> int:
    return max(1, min(int(z["branch"][0]), int(z["n"])))


def _segments(z: Sizes) -> int:
    return -(-int(z["n"]) // _length(z))


def _rows(z: Sizes) -> int:
    return -(-_length(z) // max(1, int(z["branch"][1])))


def _outputs(z: Sizes) -> dict[str, Any]:
    count = z["branches"]
    return {"outputs": ["*b n d_v"] * count, "log_denominators": ["*b n"] * count}


PUBLISHED = (
    Branch(2048, 1), Branch(4096, 2), Branch(8192, 4), Branch(16384, 6), Branch(32768, 12),
)  # fmt: skip
SIZES = {"n": 32768, "dilation": 2, "d": 64, "branch": PUBLISHED[1], "branches": PUBLISHED}
RECIPES = {
    "sparse-to-dense": Recipe({"segments": _segments, "rows": _rows}),
    "mix-branches": Recipe(
        {"branches": len(PUBLISHED)},
        dict.fromkeys(("n", "d_v", "branches"), int),
        arguments=_outputs,
    ),
}
