"""The price of whole models: parameters, and the cost of one view, without a single weight."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType, ModuleType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from vtnp import models
from vtnp.cost.arrays import CostArray
from vtnp.cost.counting import Cost, array, counted, counted_gradient
from vtnp.models import parts
from vtnp.models.parts import Params


@dataclass(frozen=True)
class ModelCost:
    """A configuration, how many parameters it has, and what one view costs it."""

    name: str
    config: Any
    parameters: int
    cost: Cost


def names() -> Mapping[str, ModuleType]:
    """Return every configuration by name, with the module of its model."""
    modules = (getattr(models, name) for name in models.__all__)
    return MappingProxyType(
        {name: module for module in modules for name in getattr(module, "CONFIGS", ())}
    )


def config(name: str, **changes: Any) -> Any:
    """Return a configuration by name, with some of its fields changed.

    Raises ValueError for a name or a field that there is not, and what the configuration itself
    refuses.
    """
    if name not in names():
        raise ValueError(f"no configuration {name!r}; there are {', '.join(names())}")
    named = names()[name].CONFIGS[name]
    known = [field.name for field in fields(named)]
    for field in changes:
        if field not in known:
            raise ValueError(f"{name} has no field {field!r}; it has {', '.join(known)}")
    return replace(named, **changes)


def params(name: str, *, dtype: DTypeLike = "float32", **changes: Any) -> Params:
    """Return the params of a configuration as arrays without numbers.

    Only what a model's init computes itself, with NumPy, is there: zeros and ones, mostly.
    """
    tree = names()[name].init(_Unseen(), config(name, **changes), dtype=dtype)
    assert isinstance(tree, dict)
    return tree


def model_cost(
    name: str, *, gradient: bool = False, dtype: DTypeLike = "float32", **changes: Any
) -> ModelCost:
    """Return the price of one view.

    gradient: of the logits and of their gradients, with respect to all params and to the video.
    dtype: of params and video. changes: fields of the configuration, for instance frames=16.
    Raises ValueError as config does.
    """
    sizes = config(name, **changes)
    weights = params(name, dtype=dtype, **changes)
    video = array((sizes.frames, *sizes.image, sizes.channels), dtype)
    count = counted_gradient if gradient else counted
    priced = count(names()[name].apply, weights, video, sizes)
    return ModelCost(name, sizes, parts.size(weights), priced)


class _Unseen:
    """In the place of a generator: its numbers have a shape, and are drawn when somebody looks."""

    def standard_normal(self, shape: tuple[int, ...]) -> "_Numbers":
        return _Numbers(shape)

    def uniform(self, _low: float, _high: float, shape: tuple[int, ...]) -> "_Numbers":
        return _Numbers(shape)


class _Numbers:
    """Numbers that nobody has looked at."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def __rmul__(self, _factor: float) -> "_Numbers":
        return self

    def astype(self, dtype: DTypeLike) -> CostArray:
        return array(self.shape, dtype)

    def __array__(
        self, dtype: DTypeLike | None = None, *, copy: bool | None = None
    ) -> NDArray[Any]:
        # For an init that computes with some of its numbers, as the deformable model's does.
        numbers = np.random.default_rng(0).standard_normal(self.shape)
        return numbers if dtype is None else numbers.astype(dtype)
