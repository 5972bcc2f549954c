"""Conventions of published figures: what a source counts in addition to multiply-adds.

Each convention returns what it adds, from a configuration and its Cost. published.toml explains
them under [conventions].
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from vtnp.cost.counting import Cost
from vtnp.models.motionformer import MotionformerConfig
from vtnp.mvit import pooled_grid

_TRANSCENDENTAL = {"exp", "tanh", "sqrt"}
_NO_ARITHMETIC = {"equal", "less", "negative", "where"}


def _frame_tokens(config: Any, _cost: Cost) -> float:
    return float((config.frames - 1) * 4 * config.d**2 * config.layers)


def _norms(_config: Any, cost: Cost) -> float:
    # In these models only norms square, each of their elements once.
    return 5.0 * cost.operations["square"]


def _last_norm(config: Any, _cost: Cost) -> float:
    if isinstance(config, MotionformerConfig):
        grid, d = config.grid, config.d
    else:
        grid, d = config.grid, config.blocks[-1].d_out
        for block in config.blocks:
            grid = pooled_grid(grid, pooling=block.pool_q)
    return 5.0 * math.prod(grid) * int(d)


def _half_of_arithmetic(_config: Any, cost: Cost) -> float:
    not_counted = _TRANSCENDENTAL | _NO_ARITHMETIC
    counted = sum(n for name, n in cost.operations.items() if name not in not_counted)
    # There is one exponential for each score, and the source scales queries instead of scores. The
    # tanh form of GELU has the others, each with a comparison.
    scores = cost.operations["exp"] - cost.operations["less"]
    # Nor does the source correct the means of norms, two operations for each number they square.
    return (counted - scores - 2 * cost.operations["square"]) / 2


MULTIPLY_ADDS: Mapping[str, Callable[[Any, Cost], float]] = MappingProxyType({
    "class-token-of-every-frame": _frame_tokens,
    "norms": _norms,
    "last-norm-of-all-tokens": _last_norm,
    "half-of-arithmetic": _half_of_arithmetic,
})  # fmt: skip


def _image_embedding(config: Any) -> int:
    return int((config.patch**2 * config.channels + 1) * config.d)


PARAMETERS: Mapping[str, Callable[[Any], int]] = MappingProxyType({
    "embedding-of-images": _image_embedding,
})  # fmt: skip
