"""Sizes of vtnp.mvit's formulas: the first block of MViT-B, 16 frames of 224 x 224 pixels.

8 x 56 x 56 tokens of width 96 and a class token, one head; keys and values pooled by (1, 8, 8) with
kernels of 3 x 3 x 3, and the width doubled (Fan et al. 2021).
"""

import math
from typing import Any

from vtnp.cost.recipes.recipe import Recipe, Rule, Sizes, multiple
from vtnp.mvit import Pooling, pooled_grid
from vtnp.mvit import Sizes as Extent
from vtnp.tokens import Grid


def _tokens(z: Sizes) -> int:
    return int(z["has_cls"]) + math.prod(z["grid"])


def _kernel(of: str, width: str) -> Rule:
    """Return the rule of a kernel: left out, or of the size that is given."""
    name = f"kernel_{of}"
    return lambda z: None if z[name] is None else (*z[name], z[width])


def _norm(of: str) -> Rule:
    """Return the rule of a norm: it comes with its kernel."""
    return lambda z: z[f"kernel_{of}"] is not None


def _is_pooled(of: str) -> Rule:
    return lambda z: z[f"kernel_{of}"] is not None


def _attention(path: str = "") -> dict[str, Rule]:
    """Return the rules of the kernels and norms that pool queries, keys and values."""
    rules: dict[str, Rule] = {}
    for letter, of, width in (("q", "q", "d_h"), ("k", "kv", "d_h"), ("v", "kv", "d_v")):
        rules |= {f"{path}kernel_{letter}": _kernel(of, width), f"{path}norm_{letter}": _norm(of)}
    return rules


def _letters(z: Sizes) -> dict[str, int]:
    """Count queries, keys, and the weights that the kernels have for each channel."""
    letters = {}
    for of, n in (("q", "n_q"), ("kv", "n_k")):
        kernel, pooling = z[f"kernel_{of}"], z[f"pool_{of}"]
        pooling = pooling._replace(size=kernel or pooling.size)
        letters[n] = z["has_cls"] + math.prod(pooled_grid(z["grid"], pooling=pooling))
        letters[f"taps_{of}"] = math.prod(kernel) if kernel else 0
    return letters


def _size_of_kernel(of: str) -> Rule:
    """Return the rule of a kernel's size: in the mode "conv", for queries where they are pooled."""

    def rule(z: Sizes) -> Extent | None:
        pooling = z[f"pool_{of}"]
        keeps_grid = of == "q" and max(pooling.stride) == 1
        return None if keeps_grid or pooling.mode != "conv" else (3, 3, 3)

    return rule


_POOLINGS: dict[str, Any] = {
    "pool_kv": Pooling((1, 8, 8)),
    "kernel_q": _size_of_kernel("q"),
    "kernel_kv": _size_of_kernel("kv"),
}
_KERNELS = {"kernel_q": Extent | None, "kernel_kv": Extent | None}
_POOLING: dict[str, Any] = {
    "pooling": Pooling((1, 8, 8)),
    "kernel": lambda z: z["pooling"].mode == "conv",
}
SIZES = {
    "grid": Grid(8, 56, 56), "T": 8, "H": 56, "W": 56, "d": 96, "heads": 1,
    "d_out": multiple("d", 2),
    "has_cls": True, "n": _tokens, "k_t": 3, "k_h": 3, "k_w": 3,
}  # fmt: skip
RECIPES = {
    "pooled-grid": Recipe({"pooling": Pooling((1, 8, 8), (3, 3, 3))}),
    "pool": Recipe(_POOLING),
    "pooled-tokens": Recipe(_POOLING),
    "pooled-projection": Recipe({**_POOLING, "d_h": 96}),
    "pooling-attention": Recipe({"n": 1 + 8 * 56 * 56, "m": 1 + 8 * 7 * 7, "d_h": 96}),
    "pooled-residual": Recipe({"stride": (1, 2, 2)}),
    "widening-mlp": Recipe({"n": 1 + 8 * 56 * 56}),
    "multi-head-pooling-attention": Recipe(_POOLINGS, _KERNELS, _attention(), letters=_letters),
    "multiscale-block": Recipe(
        _POOLINGS,
        _KERNELS,
        {**_attention("attention."), "shortcut": lambda z: z["d_out"] != z["d"]},
        letters=_letters,
    ),
    "adaptive-strides": Recipe({"stride_kv": (1, 8, 8), "strides_q": ((1, 1, 1), (1, 2, 2))}),
}
