"""Whole systems, made of the formulas.

Each module has the configurations of one system, `CONFIGS`; `init`, which draws the params of a
configuration; and `apply`, which maps params and videos to logits.
"""

from collections.abc import Mapping
from types import MappingProxyType, ModuleType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from vtnp._array.trees import tree_leaves, tree_map
from vtnp.models import (
    deformable,
    longnet,
    motionformer,
    mvit,
    nystromformer,
    parts,
    timesformer,
    vivit,
)
from vtnp.models.initialisers import AbstractArray, AbstractInitialiser
from vtnp.models.parts import Params

__all__ = [
    "MODELS",
    "AbstractArray",
    "abstract_params",
    "deformable",
    "longnet",
    "model_of",
    "motionformer",
    "mvit",
    "nystromformer",
    "parts",
    "timesformer",
    "tree_leaves",
    "tree_map",
    "vivit",
]

# The modules, in the survey's order.
MODELS: Mapping[str, ModuleType] = MappingProxyType({
    "timesformer": timesformer,
    "vivit": vivit,
    "motionformer": motionformer,
    "deformable": deformable,
    "mvit": mvit,
    "nystromformer": nystromformer,
    "longnet": longnet,
})  # fmt: skip
_BY_CONFIG = {
    type(config): module for module in MODELS.values() for config in module.CONFIGS.values()
}


def model_of(config: Any) -> ModuleType:
    """Return the module of a configuration's model.

    Parameters
    ----------
    config : dataclass
        A configuration of one of the models.

    Returns
    -------
    module
        The one whose `init` and `apply` take it.

    Raises
    ------
    TypeError
        If it is not a configuration of a model.
    """
    if type(config) not in _BY_CONFIG:
        known = ", ".join(each.__name__ for each in _BY_CONFIG)
        raise TypeError(f"expected one of {known}, got {type(config).__name__}")
    return _BY_CONFIG[type(config)]


def abstract_params(config: Any, *, dtype: DTypeLike = np.float64) -> Params:
    """Return the params of a model as shapes and dtypes, without any numbers.

    Parameters
    ----------
    config : dataclass
        A configuration of one of the models.
    dtype : dtype
        Of all params.

    Returns
    -------
    dict
        What `init` returns for this configuration, with an `AbstractArray` for each array. It takes
        no memory, whatever the size of the model.

    Raises
    ------
    TypeError
        If it is not a configuration of a model.
    ValueError
        If the sizes of the configuration do not fit each other.

    Examples
    --------
    >>> from vtnp import models
    >>> params = models.abstract_params(models.vivit.CONFIGS["vivit-l"], dtype="float32")
    >>> params["embedding"]["E"].shape
    (2, 16, 16, 3, 1024)
    """
    params: Params = model_of(config).make_params(AbstractInitialiser(dtype), config)
    return params
