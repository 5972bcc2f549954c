"""What sources count that the multiply-adds of a model leave out, and parameters nobody uses.

Each convention takes a configuration and its Cost to what is added. What they mean, and how sure
that is, is told in published.toml, under [conventions].
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from vtnp.cost import Cost
from vtnp.mvit import pooled_grid

_TRANSCENDENTAL = {"exp", "tanh", "sqrt"}
_NO_ARITHMETIC = {"equal", "where"}


def _frame_tokens(config: Any, _cost: Cost) -> float:
    return float((config.frames - 1) * 4 * config.d**2 * config.layers)


def _normalised(cost: Cost) -> int:
    # Nothing but a norm squares numbers in these models, and it squares each of its own once.
    return cost.operations["square"]


def _four_for_norms(_config: Any, cost: Cost) -> float:
    return 4.0 * _normalised(cost)


def _five_for_norms(config: Any, cost: Cost) -> float:
    grid = config.grid
    for block in config.blocks:
        if block.size_q is not None:
            grid = pooled_grid(grid, size=block.size_q, stride=block.stride_q)
    at_the_end: int = math.prod(grid) * config.blocks[-1].d_out
    return 5.0 * (_normalised(cost) + at_the_end)


def _half_of_arithmetic(_config: Any, cost: Cost) -> float:
    left_out = _TRANSCENDENTAL | _NO_ARITHMETIC
    counted = sum(n for name, n in cost.operations.items() if name not in left_out)
    # One exponential for each score: theirs are scaled before, in the queries.
    return (counted - cost.operations["exp"]) / 2


MULTIPLY_ADDS: Mapping[str, Callable[[Any, Cost], float]] = MappingProxyType(
    {
        "class-token-of-every-frame": _frame_tokens,
        "four-for-a-normalised-number": _four_for_norms,
        "five-for-a-normalised-number": _five_for_norms,
        "half-of-arithmetic": _half_of_arithmetic,
    }
)


def _image_embedding(config: Any) -> int:
    return int((config.patch**2 * config.channels + 1) * config.d)


PARAMETERS: Mapping[str, Callable[[Any], int]] = MappingProxyType(
    {
        "embedding-of-images": _image_embedding,
    }
)
