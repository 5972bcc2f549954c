"""Sizes and arrays drawn from a generator, and the register of what draws a formula's arguments."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Self, assert_never

import numpy as np

from vtnp._registry.shapes import parse

PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23)
Sizing = Literal["distinct", "equal", "one", "odd"]


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
    """Sizes for axis letters, and arrays of them.

    sizes: those given are not drawn, whatever a builder sets; it may find that it cannot make a
    case of them. With equal sizes a transposed result passes, so that they are distinct unless
    asked otherwise: "equal" or "one" for all axes, or distinct and "odd".
    """

    rng: np.random.Generator
    batch: tuple[int, ...] = ()
    sizes: dict[str, int] = field(default_factory=dict)
    sizing: Sizing = "distinct"

    def __post_init__(self) -> None:
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
                return self._one_of([p for p in PRIMES if p not in taken])
            case "odd":
                return self._one_of([p for p in PRIMES if p % 2 and p not in taken])
            case "equal":
                return self._common
            case "one":
                return 1
        assert_never(self.sizing)

    def _one_of(self, sizes: Sequence[int]) -> int:
        return int(self.rng.choice(sizes[:3]))

    @cached_property
    def _common(self) -> int:
        return self._one_of(PRIMES)

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
        """Return standard-normal float64 numbers of a shape string."""
        return self.rng.standard_normal(self.shape(text))

    def mask(self, text: str) -> np.ndarray:
        """Return a boolean mask of which every row allows something."""
        mask = self.rng.random(self.shape(text)) < 0.6
        mask[..., 0] |= ~mask.any(axis=-1)
        return mask

    def chance(self) -> bool:
        """Return True half of the time."""
        return bool(self.rng.random() < 0.5)


Builder = Callable[[Draw], dict[str, Any]]
builders: dict[str, Builder] = {}


def builds(id: str) -> Callable[[Builder], Builder]:
    """Register the builder of a formula's arguments."""

    def register(builder: Builder) -> Builder:
        builders[id] = builder
        return builder

    return register
