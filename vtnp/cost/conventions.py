"""What sources count that the multiply-adds of a model leave out, and parameters nobody uses.

Each convention takes a configuration and its Cost to what is added. What they mean, and how sure
that is, is told in published.toml, under [conventions].
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from vtnp.cost.counting import Cost
from vtnp.models.motionformer import MotionformerConfig
from vtnp.mvit import pooled_grid

_TRANSCENDENTAL = {"exp", "tanh", "sqrt"}
_NO_ARITHMETIC = {"equal", "where"}


def _frame_tokens(config: Any, _cost: Cost) -> float:
    return float((config.frames - 1) * 4 * config.d**2 * config.layers)


def _norms(_config: Any, cost: Cost) -> float:
    # Nothing but a norm squares numbers in these models, and it squares each of its own once.
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
    left_out = _TRANSCENDENTAL | _NO_ARITHMETIC
    counted = sum(n for name, n in cost.operations.items() if name not in left_out)
    # One exponential for each score: theirs are scaled before, in the queries.
    return (counted - cost.operations["exp"]) / 2


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
