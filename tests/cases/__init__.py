"""Random inputs for every formula: sizes pairwise distinct, values from an explicit generator.

A builder `@builds("attention-weights")` takes a Draw and returns the formula's arguments. A
formula without one gets arrays of the shapes in its signature. Law tests are written with
`@law(formula, name)`: they take one `case`, call `case()` for the formula's value and
`case(K=other)` for its value with an argument changed, so that the very same test can be put to
an implementation that is wrong.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import readings
from vtnp._shapes import parse
from vtnp._spec import registry

PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23)
builders: dict[str, Callable[["Draw"], dict[str, Any]]] = {}


@dataclass
class Draw:
    """Sizes for axis letters, and arrays of them."""

    rng: np.random.Generator
    batch: tuple[int, ...] = ()
    sizes: dict[str, int] = field(default_factory=dict)

    def size(self, axis: str) -> int:
        """Return the size of an axis, drawn at first use, different from all others."""
        if axis.isdigit():
            return int(axis)
        if axis not in self.sizes:
            free = [p for p in PRIMES if p not in self.sizes.values() and p not in self.batch]
            self.sizes[axis] = int(self.rng.choice(free[:3]))
        return self.sizes[axis]

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


@dataclass(frozen=True)
class Case:
    """One formula (or a wrong implementation of it) with arguments drawn for it."""

    id: str
    args: dict[str, Any]
    rng: np.random.Generator
    function: Callable[..., Any]

    def __call__(self, **changed: Any) -> Any:
        """Evaluate, with some arguments changed, on the reading that `pytest --xp` chose."""
        return readings.chosen.call(self.function, {**self.args, **changed})

    def __getitem__(self, name: str) -> Any:
        return self.args[name]

    def with_args(self, **changed: Any) -> "Case":
        return replace(self, args={**self.args, **changed})


def builds(id: str) -> Callable[[Callable[[Draw], dict[str, Any]]], Any]:
    """Register the builder of a formula's arguments."""

    def register(builder: Callable[[Draw], dict[str, Any]]) -> Any:
        builders[id] = builder
        return builder

    return register


def _from_signature(id: str) -> Callable[[Draw], dict[str, Any]]:
    arguments = registry[id].signature.arguments

    def build(draw: Draw) -> dict[str, Any]:
        return {
            argument.name: draw.mask(argument.shape.text)
            if argument.kind == "bool"
            else draw.array(argument.shape.text)
            for argument in arguments
        }

    return build


def make(id: str, seed: int, batch: tuple[int, ...] = ()) -> Case:
    """Build one case of a formula."""
    draw = Draw(np.random.default_rng(seed), batch)
    args = builders.get(id, _from_signature(id))(draw)
    return Case(id, args, draw.rng, registry[id].function)


def cases(id: str, batches: tuple[tuple[int, ...], ...] = ((), (2,), (3, 1))) -> Any:
    """Return the strategy of a formula's cases."""
    return st.builds(make, st.just(id), st.integers(0, 2**32 - 1), st.sampled_from(batches))


def law(id: str, name: str, **options: Any) -> Callable[[Callable[[Case], None]], Any]:
    """Mark a test as the proof of a law of a page, and give it hypothesis cases."""
    return _claim(pytest.mark.law, id, name, options)


def special(id: str, name: str, **options: Any) -> Callable[[Callable[[Case], None]], Any]:
    """Mark a test as the proof of a special case of a page, and give it hypothesis cases."""
    return _claim(pytest.mark.special, id, name, options)


def _claim(mark: Any, id: str, name: str, options: dict[str, Any]) -> Any:
    def decorate(test: Callable[[Case], None]) -> Any:
        return mark(id, name)(given(case=cases(id, **options))(test))

    return decorate


for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
