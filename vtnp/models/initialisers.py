"""What makes the arrays of a model's params: numbers from a generator, or shapes alone.

A model says once which arrays it has and how each is initialised. `RandomInitialiser` draws them;
`AbstractInitialiser` only notes their shapes, so that the params of a model of any size take no
memory.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

Shape = tuple[int, ...]
Compute = Callable[[np.random.Generator], NDArray[Any]]


class Initialiser(Protocol):
    """Makes one array at a time, in the order in which it is asked."""

    def constant(self, shape: Shape, value: float) -> Any:
        """Fill an array with one number."""

    def uniform(self, shape: Shape, limit: float) -> Any:
        """Draw numbers between -limit and limit."""

    def normal(self, shape: Shape, deviation: float) -> Any:
        """Draw normal numbers of mean 0."""

    def computed(self, shape: Shape, compute: Compute) -> Any:
        """Make an array in another way, of a generator."""


class RandomInitialiser:
    """Makes NumPy arrays, random ones from a generator."""

    def __init__(self, rng: np.random.Generator, dtype: DTypeLike) -> None:
        self.rng, self.dtype = rng, dtype

    def constant(self, shape: Shape, value: float) -> NDArray[Any]:
        return np.full(shape, value, self.dtype)

    def uniform(self, shape: Shape, limit: float) -> NDArray[Any]:
        return self.rng.uniform(-limit, limit, shape).astype(self.dtype)

    def normal(self, shape: Shape, deviation: float) -> NDArray[Any]:
        return (deviation * self.rng.standard_normal(shape)).astype(self.dtype)

    def computed(self, shape: Shape, compute: Compute) -> NDArray[Any]:
        return np.broadcast_to(compute(self.rng), shape).astype(self.dtype)


@dataclass(frozen=True)
class AbstractArray:
    """The shape and the dtype of an array, without its numbers."""

    shape: Shape
    dtype: np.dtype[Any]


class AbstractInitialiser:
    """Makes arrays without numbers."""

    def __init__(self, dtype: DTypeLike) -> None:
        self.dtype = np.dtype(dtype)

    def constant(self, shape: Shape, value: float) -> AbstractArray:  # noqa: ARG002
        return AbstractArray(shape, self.dtype)

    def uniform(self, shape: Shape, limit: float) -> AbstractArray:  # noqa: ARG002
        return AbstractArray(shape, self.dtype)

    def normal(self, shape: Shape, deviation: float) -> AbstractArray:  # noqa: ARG002
        return AbstractArray(shape, self.dtype)

    def computed(self, shape: Shape, compute: Compute) -> AbstractArray:  # noqa: ARG002
        return AbstractArray(shape, self.dtype)
