"""Sizes and arrays drawn from a generator, and the register of what draws a formula's arguments."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Literal, Self, TypeVar, assert_never

import numpy as np

from vtnp._registry.shapes import parse

PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23)
Sizing = Literal["distinct", "equal", "one", "odd", "empty", "any"]
T = TypeVar("T")


class _Sizes(dict[str, int]):
    """Sizes by letter; those that it is made with stay what they are."""

    def __init__(self, fixed: Mapping[str, int]) -> None:
        super().__init__(fixed)
        self._fixed = dict(fixed)

    def __setitem__(self, axis: str, size: int) -> None:
        super().__setitem__(axis, self._fixed.get(axis, size))

    def __ior__(self, sizes: Mapping[str, int]) -> Self:  # type: ignore[override, misc]
        for axis, size in sizes.items():
            self[axis] = size
        return self


@dataclass
class Draw:
    """Sizes for axis letters, arrays of them, and whatever else a builder chooses.

    sizes: those given are not drawn, whatever a builder sets; it may find that it cannot make a
    case of them. With equal sizes a transposed result passes, so that they are distinct unless
    asked otherwise: "equal" or "one" for all axes, distinct and "odd", "empty" for some of 0, or
    "any" from 1 to 4.
    smooth: whether numbers keep away from kinks, for finite differences.
    """

    smooth: ClassVar[bool] = True

    rng: np.random.Generator
    batch: tuple[int, ...] = ()
    sizes: dict[str, int] = field(default_factory=dict)
    sizing: Sizing = "distinct"

    def __post_init__(self) -> None:
        if not isinstance(self.sizes, _Sizes):  # shared with another draw
            self.sizes = _Sizes(self.sizes)

    def size(self, axis: str) -> int:
        """Return the size of an axis, drawn at first use."""
        if axis.isdigit():
            return int(axis)
        if axis not in self.sizes:
            self.sizes[axis] = self._size()
        return self.sizes[axis]

    def _size(self) -> int:
        taken = [*self.sizes.values(), *self.batch]
        match self.sizing:
            case "distinct":
                return self.choice([p for p in PRIMES if p not in taken][:3])
            case "odd":
                return self.choice([p for p in PRIMES if p % 2 and p not in taken][:3])
            case "equal":
                return self._common
            case "one":
                return 1
            case "any":
                return self.integer(1, 4)
            case "empty":
                return 0 if self.chance(1 / 3) else self.choice(PRIMES[:3])
        assert_never(self.sizing)

    @cached_property
    def _common(self) -> int:
        return self.choice(PRIMES[:3])

    def shape(self, text: str) -> tuple[int, ...]:
        """Return the sizes of a shape string."""
        shape = parse(text)
        row = self.batch if shape.row else ()
        return (
            *(self.size(axis) for axis in shape.before),
            *row,
            *(self.size(axis) for axis in shape.after),
        )

    def array(self, text: str) -> np.ndarray:
        """Return float64 numbers of a shape string."""
        return self.numbers(self.shape(text))

    # --- What everything is drawn by ---

    def numbers(self, shape: int | tuple[int, ...]) -> np.ndarray:
        """Return float64 numbers, as a rule standard-normal."""
        return self.rng.standard_normal(shape)

    def uniform(self, low: Any, high: Any, shape: int | tuple[int, ...]) -> np.ndarray:
        """Return numbers between two bounds, which may be arrays."""
        return self.rng.uniform(low, high, shape)

    def mask(self, text: str) -> np.ndarray:
        """Return a boolean mask, as a rule one of which every row allows something."""
        mask = self.rng.random(self.shape(text)) < 0.6
        mask[..., :1] |= ~mask.any(axis=-1, keepdims=True)
        return mask

    def integer(self, low: int, high: int) -> int:
        """Return an integer between two bounds, both included."""
        return int(self.rng.integers(low, high + 1))

    def chance(self, probability: float = 0.5) -> bool:
        """Return True with a probability."""
        return bool(self.rng.random() < probability)

    def choice(self, options: Sequence[T]) -> T:
        """Return one of some options."""
        return options[int(self.rng.choice(len(options)))]

    def shuffled(self, values: Sequence[T]) -> list[T]:
        """Return values in another order."""
        return [values[i] for i in self.rng.permutation(len(values))]

    # --- Others like it ---

    def generic(self) -> "Draw":
        """Return one of the same sizes that draws numbers from the generator alone.

        For what a builder draws again until it is well conditioned.
        """
        return self

    def with_sizes(self, sizes: Mapping[str, int]) -> Self:
        """Return one that draws other sizes, for params with axes of their own."""
        return replace(self, sizes=_Sizes(sizes))


Builder = Callable[[Draw], dict[str, Any]]
builders: dict[str, Builder] = {}


def builds(id: str) -> Callable[[Builder], Builder]:
    """Register the builder of a formula's arguments."""

    def register(builder: Builder) -> Builder:
        builders[id] = builder
        return builder

    return register
