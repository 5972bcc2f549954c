"""The layouts of published weights, one table for each model and publisher."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, cast

import numpy as np

from vtnp import models
from vtnp.checkpoints import mapping
from vtnp.checkpoints.layouts import (
    longnet,
    motionformer,
    mvit,
    nystromformer,
    timesformer,
    vivit,
)
from vtnp.checkpoints.mapping import Layout
from vtnp.checkpoints.rows import Shape


class _Model(NamedTuple):
    init: Callable[..., Any]
    config: type
    layouts: Mapping[str, Callable[[Any], Layout]]


def _model(model: Any, config: type, of: Any) -> _Model:
    return _Model(model.init, config, MappingProxyType(of.LAYOUTS))


_MODELS: Mapping[str, _Model] = {
    "timesformer": _model(models.timesformer, models.timesformer.TimeSformerConfig, timesformer),
    "vivit": _model(models.vivit, models.vivit.ViViTConfig, vivit),
    "motionformer": _model(
        models.motionformer, models.motionformer.MotionformerConfig, motionformer
    ),
    "mvit": _model(models.mvit, models.mvit.MViTConfig, mvit),
    "nystromformer": _model(
        models.nystromformer, models.nystromformer.NystromformerConfig, nystromformer
    ),
    "longnet": _model(models.longnet, models.longnet.LongNetConfig, longnet),
}


def layouts() -> Mapping[str, tuple[str, ...]]:
    """Return the names of the layouts of every model.

    "official" is the released code of the paper's authors. Which one a file has is never guessed.
    """
    return MappingProxyType({name: tuple(model.layouts) for name, model in _MODELS.items()})


def layout_of(model: str, config: Any, layout: str) -> Layout:
    """Return the table of a layout for a config.

    Raises ValueError for a model or layout that there is not, TypeError for another model's config.
    """
    if model not in _MODELS:
        raise ValueError(f"model {model!r} is none of {list(_MODELS)}")
    known = _MODELS[model]
    if layout not in known.layouts:
        raise ValueError(f"{model} has no layout {layout!r}, only {list(known.layouts)}")
    if not isinstance(config, known.config):
        raise TypeError(f"{model} has a {known.config.__name__}, got {type(config).__name__}")
    return known.layouts[layout](config)


def shapes_of(model: str, config: Any, layout: str) -> dict[str, Shape]:
    """Return the name and shape of every tensor that a file of the layout has for a config.

    Raises as layout_of does.
    """
    return mapping.names_there(layout_of(model, config, layout), _skeleton(model, config))


def from_theirs(
    model: str, config: Any, layout: str, tensors: Mapping[str, Any], *, beside: Any = None
) -> Any:
    """Return the params of a model out of the tensors of a published one.

    model: a key of layouts(). config: of vtnp.models. layout: one of layouts()[model]. tensors:
    arrays of any library by their names, autograd's boxes included. beside: params that come from
    the caller, a tree with any part of the model's; what tensors there are for them is left aside.
    A head of other classes, and whatever a video encoder has and a language model has not, comes in
    that way.
    Raises LayoutError, which lists all keys that are unknown, missing or mis-shaped; ValueError for
    a model or layout that there is not.
    Notes: what a checkpoint may hold beyond the params is named in the layout's table, each with
    the reason why it is not needed; everything else is an error. Arrays keep their dtype and may be
    views of the tensors.
    """
    return mapping.to_params(
        layout_of(model, config, layout),
        _skeleton(model, config),
        tensors,
        beside=beside,
        what=f"{model}, layout {layout}",
    )


def to_theirs(model: str, config: Any, layout: str, params: Any) -> dict[str, Any]:
    """Return the tensors that the published model of a config would have, by their names.

    The way back from from_theirs, exactly. What the layout has no counterpart for, of the encoders
    of long sequences, is left out.
    Raises LayoutError, which lists all params that are unknown, missing, mis-shaped or without
    counterpart; ValueError for a model or layout that there is not.
    Notes: weights that the published model has and never reads are written as zeros where they are
    part of a tensor, and left out where they are tensors of their own. Arrays may be views.
    """
    return mapping.to_tensors(
        layout_of(model, config, layout),
        _skeleton(model, config),
        params,
        what=f"{model}, layout {layout}",
    )


# --- Shapes without numbers -----------------------------------------------------------------------


@dataclass(frozen=True)
class _Undrawn:
    """An array that nobody has drawn: a large model's shapes are wanted, not its gigabytes."""

    shape: Shape
    dtype: str = "undrawn"

    def astype(self, _: Any) -> "_Undrawn":
        return self

    def __rmul__(self, _: object) -> "_Undrawn":
        return self


class _Undrawing:
    """What the models ask of a generator."""

    def uniform(self, _low: float, _high: float, shape: Shape) -> _Undrawn:
        return _Undrawn(shape)

    def standard_normal(self, shape: Shape) -> _Undrawn:
        return _Undrawn(shape)


def _skeleton(model: str, config: Any) -> Any:
    """Return the params of a config without their numbers."""
    return _MODELS[model].init(cast(np.random.Generator, _Undrawing()), config, dtype=np.float16)
