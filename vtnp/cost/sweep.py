"""The price of a formula at many lengths: how fast it grows."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vtnp._registry.spec import registry
from vtnp.cost import Cost, counted, counted_gradient
from vtnp.cost.sizes import call


@dataclass(frozen=True)
class Step:
    """One length and what it takes.

    slope: how the multiply-adds have grown since the step before, as a power of the length; None
    at the first, and where there are none.
    """

    size: int
    cost: Cost
    slope: float | None


def sweep(
    id: str, letter: str, sizes: list[int], given: Mapping[str, Any], *, gradient: bool = False
) -> Iterator[Step]:
    """Count a formula at each size of one letter, all else as given."""
    count = counted_gradient if gradient else counted
    before: Step | None = None
    for size in sizes:
        arguments = call(id, **{**given, letter: size}).arguments
        cost = count(registry[id].function, **arguments)
        slope = None
        if before is not None:
            low, high = before.cost.multiply_adds, cost.multiply_adds
            slope = growth(before.size, low, size, high)
        before = Step(size, cost, slope)
        yield before


def growth(first: int, low: int, second: int, high: int) -> float | None:
    """Return the power of the size with which a number grows between two sizes.

    low, high: the number at the first size and at the second. None where one of them is 0, or the
    sizes are the same.
    """
    if not (low and high) or first == second:
        return None
    # Of the ratios, not the numbers: the whole numbers may be too large for a float.
    return math.log(high / low) / math.log(second / first)


def steps(first: int, last: int, factor: int) -> list[int]:
    """Return first, first * factor, ... up to last."""
    sizes = [first]
    while sizes[-1] * factor <= last:
        sizes.append(sizes[-1] * factor)
    return sizes
