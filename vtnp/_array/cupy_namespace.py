"""CuPy's functions, where array-api-compat's wrapper of them is not enough.

CuPy computes on the current device, whichever device its arrays are on, and the wrapper ignores
`device=`. Here every function computes on the device of its first array, or on the one that
`device=` names. `clip` and `sign` of the wrapper assign through masks, for which the host waits for
the device; those here do not.
"""

from collections.abc import Callable, Iterable
from functools import cache, wraps
from types import ModuleType
from typing import Any

Array = Any
Function = Callable[..., Any]


@cache
def on_devices(xp: Any) -> ModuleType:
    """Return array-api-compat's namespace of CuPy with functions that find their device."""
    namespace = ModuleType(xp.__name__, xp.__doc__)
    for name in dir(xp):
        value = getattr(xp, name)
        is_function = callable(value) and not isinstance(value, type)
        setattr(namespace, name, _on_device(xp, value) if is_function else value)
    linalg = ModuleType(f"{xp.__name__}.linalg")
    for name in dir(xp.linalg):
        value = getattr(xp.linalg, name)
        is_function = callable(value) and not isinstance(value, type)
        setattr(linalg, name, _on_device(xp, value) if is_function else value)
    vars(namespace).update(
        linalg=linalg,
        clip=_on_device(xp, _clip(xp)),
        sign=_on_device(xp, _sign(xp)),
        erfc=_on_device(xp, _erfc(xp)),
    )
    return namespace


def device_of(xp: Any, values: Iterable[Any]) -> Any:
    """Return the device of the first array of CuPy among values and in lists of them, or None."""
    for value in values:
        if isinstance(value, xp.ndarray):
            return value.device
        if isinstance(value, list | tuple):
            found = device_of(xp, value)
            if found is not None:
                return found
    return None


def _on_device(xp: Any, function: Function) -> Function:
    @wraps(function)
    def computed(*args: Any, **kwargs: Any) -> Any:
        device = kwargs.get("device") or device_of(xp, args)
        if device is None:
            return function(*args, **kwargs)
        with device:
            return function(*args, **kwargs)

    if hasattr(function, "at"):
        computed.at = _on_device(xp, function.at)  # type: ignore[attr-defined]
    return computed


def _clip(xp: Any) -> Function:
    def clip(x: Array, /, min: Any = None, max: Any = None) -> Array:
        bounds = xp.iinfo(x.dtype) if xp.isdtype(x.dtype, "integral") else None
        y = x
        if min is not None and not (bounds and isinstance(min, int) and min <= bounds.min):
            y = xp.maximum(y, min)
        if max is not None and not (bounds and isinstance(max, int) and max >= bounds.max):
            y = xp.minimum(y, max)
        return xp.astype(y, x.dtype, copy=y is x)

    return clip


def _sign(xp: Any) -> Function:
    bare = xp.sign

    def sign(x: Array, /) -> Array:
        if not xp.isdtype(x.dtype, "real floating"):
            return bare(x)
        # CuPy's own has 0 for NaN.
        signs = xp.subtract(xp.astype(xp.greater(x, 0), x.dtype), xp.astype(xp.less(x, 0), x.dtype))
        return xp.where(xp.isnan(x), x, signs)

    return sign


def _erfc(xp: Any) -> Function:
    def erfc(x: Array, /) -> Array:
        from cupyx.scipy import special

        return xp.astype(special.erfc(x), x.dtype, copy=False)

    return erfc
