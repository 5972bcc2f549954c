"""The cost of whole models, counted without values: parameters, and the cost of one view."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType, ModuleType
from typing import Any

from numpy.typing import DTypeLike

from vtnp import models
from vtnp.cost.counting import Cost, array, counted, counted_gradient
from vtnp.models import parts

_MOST_LAYERS = 1000


@dataclass(frozen=True)
class ModelCost:
    """What a model costs.

    Attributes
    ----------
    name : str
        Of its configuration.
    config : dataclass
        The configuration.
    parameters : int
        How many numbers its params have.
    cost : Cost
        What one view takes.
    """

    name: str
    config: Any
    parameters: int
    cost: Cost


def names() -> Mapping[str, ModuleType]:
    """Return every configuration by name, with the module of its model."""
    return MappingProxyType(
        {name: module for module in models.MODELS.values() for name in module.CONFIGS}
    )


def config(name: str, **changes: Any) -> Any:
    """Return a configuration by name, with some of its fields changed.

    Raises ValueError for an unknown name or field, where the fields do not fit each other, and for
    more layers than can be gone through one by one.
    """
    if name not in names():
        raise ValueError(f"no configuration {name!r}; there are {', '.join(names())}")
    named = names()[name].CONFIGS[name]
    known = [field.name for field in fields(named)]
    for field in changes:
        if field not in known:
            raise ValueError(f"{name} has no field {field!r}; it has {', '.join(known)}")
    changed = replace(named, **changes)
    for field in {"layers", "time_layers", "stages"}.intersection(known):
        layers = getattr(changed, field)
        count = sum(layers) if isinstance(layers, tuple) else layers
        if count > _MOST_LAYERS:
            raise ValueError(
                f"{name}: {field}: expected at most {_MOST_LAYERS} layers, got {count}"
            )
    return changed


def model_cost(
    name: str, *, gradient: bool = False, dtype: DTypeLike = "float32", **changes: Any
) -> ModelCost:
    """Count what one view costs a model.

    Parameters
    ----------
    name : str
        Of a configuration of `vtnp.models`.
    gradient : bool
        Whether to count, besides the logits, their gradients with respect to all params and the
        video.
    dtype : dtype
        Of params and video.
    **changes
        Fields of the configuration that have another value, for instance frames=16.

    Returns
    -------
    ModelCost
        The configuration, its number of parameters and the cost.

    Raises
    ------
    ValueError
        If there is no such configuration or field, or the fields do not fit each other.

    Examples
    --------
    >>> from vtnp import cost
    >>> cost.model_cost("vivit-b").parameters
    88954000
    """
    changed = config(name, **changes)
    params = models.abstract_params(changed, dtype=dtype)
    video = array((changed.frames, *changed.image, changed.channels), dtype)
    count = counted_gradient if gradient else counted
    cost = count(names()[name].apply, params, video, changed)
    return ModelCost(name, changed, parts.size(params), cost)
