"""Which library an array belongs to, read through any autograd boxes around it."""

import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from types import NoneType
from typing import Any, ParamSpec, TypeVar

import array_api_compat
import array_api_compat.numpy
import numpy as np
from autograd.tracer import Box

from vtnp._array.cupy_namespace import on_devices

P = ParamSpec("P")
R = TypeVar("R")

# Array classes without __array_namespace__, by the module that defines them. They are looked up
# in sys.modules: whoever holds such an array has imported its library, and nobody else needs it.
_NAMED = {"cupy": "ndarray", "torch": "Tensor", "dask.array": "Array"}

# One entry for each type seen. None marks what carries no namespace of its own and may stand
# beside any array.
_namespaces: dict[type, Any] = dict.fromkeys((bool, int, float, complex, NoneType))


def unboxed(x: Any) -> Any:
    """Return the value under any nesting of autograd boxes."""
    while type(x) in Box.types:
        x = x._value  # noqa: SLF001
    return x


def is_boxed(x: Any) -> bool:
    """Tell whether x is being differentiated."""
    return type(x) in Box.types


def value_namespace(*arrays: Any) -> Any:
    """Return the array-API namespace of the values under the boxes.

    Python scalars and None go with any array; on their own they are NumPy's.
    Raises TypeError for anything else that is not an array, and for arrays of two libraries.
    """
    found = None
    for array in arrays:
        value = unboxed(array)
        try:
            xp = _namespaces[type(value)]
        except KeyError:
            xp = _namespaces[type(value)] = _namespace_of(value)
        if xp is not found and xp is not None:
            if found is not None:
                raise TypeError(f"arrays of {found.__name__} and of {xp.__name__} in one call")
            found = xp
    return array_api_compat.numpy if found is None else found


def _namespace_of(value: Any) -> Any:
    xp = array_api_compat.array_namespace(value)
    return on_devices(xp) if array_api_compat.is_cupy_namespace(xp) else xp


def on_device_of(*values: Any) -> AbstractContextManager[Any]:
    """Return a context in which CuPy computes on the device of the first of its arrays.

    values: arrays and trees of them, boxed or not. Other libraries need no such context.
    """
    cupy = sys.modules.get("cupy")
    device = None if cupy is None else _device_in(values, cupy.ndarray)
    return nullcontext() if device is None else device


def on_its_device(function: Callable[P, R]) -> Callable[P, R]:
    """Make CuPy compute a function on the device of the arrays that it is given."""

    @wraps(function)
    def computed(*args: P.args, **kwargs: P.kwargs) -> R:
        with on_device_of(args, kwargs):
            return function(*args, **kwargs)

    return computed


def _device_in(tree: Any, array_type: type) -> Any:
    """Return the device of the first array of that type in a tree; None where there is none."""
    for value in tree.values() if isinstance(tree, Mapping) else tree:
        array = unboxed(value)
        if isinstance(array, array_type):
            return array.device  # type: ignore[attr-defined]
        if isinstance(array, Mapping | list | tuple):
            found = _device_in(array, array_type)
            if found is not None:
                return found
    return None


def is_at_hand(x: Any) -> bool:
    """Tell whether numbers of an array can be read without waiting for a device or a computation.

    What is not an array, such as a list of numbers, is at hand.
    """
    value = unboxed(x)
    if not is_array_type(type(value)):
        return True
    xp = value_namespace(value)
    if array_api_compat.is_torch_namespace(xp):
        return bool(value.device.type == "cpu")
    if array_api_compat.is_jax_namespace(xp):
        # What is being traced has no numbers yet.
        return not isinstance(value, sys.modules["jax"].core.Tracer) and all(
            device.platform == "cpu" for device in value.devices()
        )
    return not (array_api_compat.is_cupy_namespace(xp) or array_api_compat.is_dask_namespace(xp))


def is_subclassed(x: Any) -> bool:
    """Tell whether an array, boxed or not, is of a subclass of NumPy's."""
    value = unboxed(x)
    return isinstance(value, np.ndarray) and type(value) is not np.ndarray


def register_namespace(array_type: type, xp: Any) -> None:
    """Declare the namespace of an array class that cannot tell it itself."""
    _namespaces[array_type] = xp


def is_array_type(cls: type) -> bool:
    """Tell, without an instance, whether cls is a class of arrays."""
    if cls in _namespaces:
        return _namespaces[cls] is not None
    return hasattr(cls, "__array_namespace__") or any(
        issubclass(cls, getattr(sys.modules[module], name))
        for module, name in _NAMED.items()
        if module in sys.modules
    )
