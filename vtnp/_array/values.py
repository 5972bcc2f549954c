"""Which library an array belongs to, read through any autograd boxes around it."""

import sys
from types import NoneType
from typing import Any

import array_api_compat
import array_api_compat.numpy
from autograd.tracer import Box

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
    Raises TypeError for anything else that is no array, and for arrays of two libraries.
    """
    found = None
    for array in arrays:
        value = unboxed(array)
        try:
            xp = _namespaces[type(value)]
        except KeyError:
            xp = _namespaces[type(value)] = array_api_compat.array_namespace(value)
        if xp is not found and xp is not None:
            if found is not None:
                raise TypeError(f"arrays of {found.__name__} and of {xp.__name__} in one call")
            found = xp
    return array_api_compat.numpy if found is None else found


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
