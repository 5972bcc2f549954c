"""The layouts of published weights: for each model one of each publisher."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

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
from vtnp.checkpoints.mapping import CheckpointLayout
from vtnp.checkpoints.tensors import Shape

_LAYOUTS: Mapping[str, Mapping[str, Callable[[Any], CheckpointLayout]]] = {
    "timesformer": timesformer.LAYOUTS,
    "vivit": vivit.LAYOUTS,
    "motionformer": motionformer.LAYOUTS,
    "mvit": mvit.LAYOUTS,
    "nystromformer": nystromformer.LAYOUTS,
    "longnet": longnet.LAYOUTS,
}


def layouts() -> Mapping[str, tuple[str, ...]]:
    """List the layouts of every model.

    Returns
    -------
    Mapping[str, tuple of str]
        For each model the names of its layouts. "official" is that of the released code of the
        paper's authors.

    Notes
    -----
    The layout of a file is never guessed.
    """
    return MappingProxyType({model: tuple(each) for model, each in _LAYOUTS.items()})


def layout_of(model: str, config: Any, layout: str) -> CheckpointLayout:
    """Return the layout of a config by its name.

    Raises ValueError for an unknown model or layout, TypeError for a config of another model.
    """
    if model not in _LAYOUTS:
        raise ValueError(f"unknown model {model!r}: expected one of {list(_LAYOUTS)}")
    if layout not in _LAYOUTS[model]:
        raise ValueError(f"{model} has no layout {layout!r}, only {list(_LAYOUTS[model])}")
    module = models.MODELS[model]
    if models.model_of(config) is not module:
        expected = type(next(iter(module.CONFIGS.values()))).__name__
        raise TypeError(f"{model} has a {expected}, got {type(config).__name__}")
    return _LAYOUTS[model][layout](config)


def tensor_shapes(model: str, config: Any, layout: str) -> dict[str, Shape]:
    """Return the tensors that a file of published weights has.

    Parameters
    ----------
    model : str
        One of `layouts`.
    config : dataclass
        A configuration of that model.
    layout : str
        One of the model's layouts.

    Returns
    -------
    dict of str to tuple of int
        The shape of each tensor by its name.

    Raises
    ------
    ValueError
        If there is no such model or layout.
    TypeError
        If the configuration is another model's.
    """
    return mapping.shapes_by_name(layout_of(model, config, layout), models.abstract_params(config))


def from_published(
    model: str, config: Any, layout: str, tensors: Mapping[str, Any], *, extra_params: Any = None
) -> Any:
    """Return the params of a model, from the tensors of a published one.

    Parameters
    ----------
    model : str
        One of `layouts`.
    config : dataclass
        A configuration of that model.
    layout : str
        One of the model's layouts.
    tensors : Mapping[str, array]
        Arrays of any library, or boxes of autograd, by their published names.
    extra_params : tree of arrays, optional
        Params that do not come from the tensors: any part of the model's tree, such as a head for
        other classes, or what a video encoder has and a language model has not. Tensors that hold
        them are ignored.

    Returns
    -------
    dict
        Params as the model's `init` returns them. Arrays keep their dtype and may be views of the
        tensors.

    Raises
    ------
    LayoutError
        If keys are unknown, missing, of another shape or dtype, or not supported; it lists all of
        them.
    ValueError
        If there is no such model or layout.
    TypeError
        If the configuration is another model's.

    Notes
    -----
    The layout names what else a checkpoint may hold, and why it is not needed. Everything beyond
    that is an error.
    """
    return mapping.to_params(
        layout_of(model, config, layout),
        models.abstract_params(config),
        tensors,
        extra_params=extra_params,
        what=f"{model}, layout {layout}",
    )


def to_published(model: str, config: Any, layout: str, params: Any) -> dict[str, Any]:
    """Return the tensors of a published model, from the params of a model.

    Parameters
    ----------
    model : str
        One of `layouts`.
    config : dataclass
        A configuration of that model.
    layout : str
        One of the model's layouts.
    params : dict
        As the model's `init` returns them.

    Returns
    -------
    dict of str to array
        Tensors by their published names, which may be views of the params. `from_published` returns
        exactly these params again.

    Raises
    ------
    LayoutError
        If params are unknown, missing, of another shape, or have no counterpart in the layout; it
        lists all of them.
    ValueError
        If there is no such model or layout.
    TypeError
        If the configuration is another model's.

    Notes
    -----
    What the video encoders of long sequences have beyond the published layers is left out. Weights
    that the published model has and does not use are written as zeros where they are part of a
    tensor, and left out where they are tensors of their own.
    """
    return mapping.to_tensors(
        layout_of(model, config, layout),
        models.abstract_params(config),
        params,
        what=f"{model}, layout {layout}",
    )
