"""Sizes of vtnp.mvit's formulas: the first block of MViT-B, 16 frames of 224 x 224 pixels.

8 x 56 x 56 tokens of width 96 and a class token, one head; keys and values pooled by (1, 8, 8) with
kernels of 3 x 3 x 3, and the width doubled (Fan et al. 2021).
"""

import math
from collections.abc import Callable
from typing import Any

from vtnp.cost.recipes.tables import (
    HEADS,
    LAYER,
    Grid,
    Recipe,
    Sizes,
    Table,
    attention,
    feed_forward,
    letters,
    norm,
    plus_bias,
    times,
)
from vtnp.mvit import pooled_grid


def _tokens(z: Sizes) -> int:
    return int(z["cls"]) + math.prod(z["grid"])


def _attention(z: Sizes) -> Table:
    table = attention(z)
    for letter, width, kernel in (
        ("q", "d_h", z["kernel_q"]),
        ("k", "d_h", z["kernel_kv"]),
        ("v", "d_v", z["kernel_kv"]),
    ):
        if kernel is not None:
            table[f"kernel_{letter}"] = (*kernel, z[width])
            table[f"norm_{letter}"] = {"gamma": width, "beta": width}
    return table


def _block(z: Sizes) -> Table:
    rest = {"norm_1": norm(z), "attention": _attention(z)}
    if z["d_out"] == z["d"]:
        return {**rest, "norm_2": norm(z), "feed_forward": feed_forward(z)}
    return {**rest, **_widening(z)}


def _widening(z: Sizes) -> Table:
    network = {**feed_forward(z), "W_2": "d_f d_out", "b_2": plus_bias(z, "d_out")}
    widening = {"W": "d d_out", "b": plus_bias(z, "d_out")}
    return {"norm_2": norm(z), "feed_forward": network, "shortcut": widening}


def _letters(z: Sizes) -> Table:
    """Count queries, keys, and the weights that the kernels have for each channel."""
    found = {}
    for of, n in (("q", "n_q"), ("kv", "n_k")):
        kernel, size, grid = z[f"kernel_{of}"], z[f"size_{of}"], z["grid"]
        if window := kernel or size:
            grid = pooled_grid(grid, size=window, stride=z[f"stride_{of}"])
        found[n] = z["cls"] + math.prod(grid)
        found[f"taps_{of}"] = math.prod(kernel) if kernel else 0
    return found


def _window(of: str, name: str) -> Callable[[Sizes], Grid | None]:
    """Return the rule of a window: a kernel in the mode "conv", a size in others."""

    def rule(z: Sizes) -> Grid | None:
        still = of == "q" and z["stride_q"] == (1, 1, 1)
        meant = "kernel" if z["mode"] == "conv" else "size"
        return None if still or name != meant else (3, 3, 3)

    return rule


_POOLING: dict[str, Any] = {
    "stride_kv": (1, 8, 8),
    **{f"{name}_{of}": _window(of, name) for name in ("kernel", "size") for of in ("q", "kv")},
}
_KERNELS = {"kernel_q": Grid | None, "kernel_kv": Grid | None}
_KERNEL: dict[str, Any] = {
    "kernel": lambda z: z["mode"] == "conv",
    "size": lambda z: None if z["kernel"] else (3, 3, 3),
    "stride": (1, 8, 8),
}
SIZES = {
    "grid": (8, 56, 56), "T": 8, "H": 56, "W": 56, "d": 96, "heads": 1,
    "d_out": times("d", 2),
    "cls": True, "n": _tokens, "k_t": 3, "k_h": 3, "k_w": 3,
}  # fmt: skip
RECIPES = {
    "pooled-grid": Recipe({"size": (3, 3, 3), "stride": (1, 8, 8)}),
    "pool": Recipe(_KERNEL),
    "pooled-tokens": Recipe(_KERNEL),
    "pooled-projection": Recipe({**_KERNEL, "d_h": 96}),
    "pooling-attention": Recipe({"n": 1 + 8 * 56 * 56, "m": 1 + 8 * 7 * 7, "d_h": 96}),
    "pooled-residual": Recipe({"stride": (1, 2, 2)}),
    "widening-mlp": Recipe({"n": 1 + 8 * 56 * 56}, letters("d_f d_out", biases=bool), _widening),
    "multi-head-pooling-attention": Recipe(
        _POOLING, {**HEADS, **_KERNELS}, _attention, letters=_letters
    ),
    "multiscale-block": Recipe(
        _POOLING, {**LAYER, **letters("d_out"), **_KERNELS}, _block, letters=_letters
    ),
    "adaptive-strides": Recipe({"stride_kv": (1, 8, 8), "strides_q": ((1, 1, 1), (1, 2, 2))}),
}
