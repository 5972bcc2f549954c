"""The cost of a formula over a range of sizes: how fast it grows."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from vtnp._registry.spec import registry
from vtnp.cost.counting import Cost, counted, counted_gradient
from vtnp.cost.sizes import sized_call


@dataclass(frozen=True)
class SweepPoint:
    """The cost at one size of a sweep.

    Attributes
    ----------
    size : int
        The value of the letter that is swept.
    cost : Cost
        What the formula takes there.
    exponent : float or None
        The power of the size with which the multiply-adds have grown since the point before; None
        for the first point, and where there are no multiply-adds.
    """

    size: int
    cost: Cost
    exponent: float | None


def sweep(
    id: str, letter: str, values: Sequence[int], *, gradient: bool = False, **sizes: Any
) -> Iterator[SweepPoint]:
    """Count a formula at each value of one of its sizes.

    Parameters
    ----------
    id : str
        The formula.
    letter : str
        The name of the size.
    values : sequence of int
        Its values, in order.
    gradient : bool, optional
        Whether value and gradients are counted together; left out, the value alone.
    **sizes
        All other sizes, as `sized_call` takes them.

    Yields
    ------
    SweepPoint
        The cost at each value.

    Raises
    ------
    FormulaError
        If the formula has no such size, or does not accept a size.
    """
    count = counted_gradient if gradient else counted
    before: SweepPoint | None = None
    for value in values:
        call = sized_call(id, **{**sizes, letter: value})
        cost = count(registry[call.id].function, **call.arguments)
        exponent = None
        if before is not None:
            low, high = before.cost.multiply_adds, cost.multiply_adds
            exponent = growth(before.size, low, value, high)
        before = SweepPoint(value, cost, exponent)
        yield before


def growth(first: int, low: int, second: int, high: int) -> float | None:
    """Return the power of the size with which a number grows between two sizes.

    low, high: the number at the first size and at the second. None where one of them is 0, or the
    sizes are the same.
    """
    if not (low and high) or first == second:
        return None
    # Of the ratios, not the numbers: the integers may be too large for a float.
    return math.log(high / low) / math.log(second / first)


def geometric(first: int, last: int, factor: int) -> list[int]:
    """Return first, first * factor, ... up to last."""
    values = [first]
    while values[-1] * factor <= last:
        values.append(values[-1] * factor)
    return values
