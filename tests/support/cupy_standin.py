"""An array class that behaves as CuPy's does where that matters, with no GPU.

As CuPy's: no __array_namespace__; NumPy's dispatch protocols (NEP 13 and 18), without `at` for
slices; no conversion to NumPy and no operand from NumPy; every result an array, 0-d ones included.
"""

import operator
from types import ModuleType, SimpleNamespace

import array_api_compat.numpy as xnp
import numpy as np

DEVICE = "stand-in 0"
_SCALARS = (bool, int, float, type(None), type(...), slice, str, type, np.dtype)


class Array:
    """Numbers kept apart from NumPy's."""

    def __init__(self, values):
        self._values = np.asarray(values)

    shape = property(lambda self: self._values.shape)
    ndim = property(lambda self: self._values.ndim)
    size = property(lambda self: self._values.size)
    dtype = property(lambda self: self._values.dtype)
    device = property(lambda self: DEVICE)
    T = property(lambda self: Array(self._values.T))

    def get(self):
        return self._values.copy()

    def __array__(self, *args, **kwargs):
        raise TypeError("implicit conversion to a NumPy array is not allowed")

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        if method != "__call__" or any(isinstance(x, tuple | slice) for x in inputs):
            return NotImplemented
        return _on_values(ufunc)(*inputs, **kwargs)

    def __array_function__(self, function, types, args, kwargs):
        if not all(issubclass(cls, Array) for cls in types):
            return NotImplemented
        return _on_values(function)(*args, **kwargs)

    def __getitem__(self, index):
        return Array(self._values[_values(index)])

    def __setitem__(self, index, value):
        self._values[_values(index)] = _values(value)

    def __len__(self):
        return len(self._values)

    def __bool__(self):
        return bool(self._values)

    def __float__(self):
        return float(self._values)


def _values(x):
    """What NumPy computes with; arrays of NumPy itself are refused, as on a GPU."""
    if isinstance(x, Array):
        return x._values
    if isinstance(x, tuple | list):
        return type(x)(map(_values, x))
    if isinstance(x, _SCALARS):
        return x
    raise TypeError(f"unsupported type {type(x)}")


def _arrays(x):
    if isinstance(x, tuple | list):
        return type(x)(map(_arrays, x))
    return Array(x) if isinstance(x, np.ndarray | np.generic) else x


def _on_values(function):
    def on_arrays(*args, **kwargs):
        values = {key: _values(x) for key, x in kwargs.items()}
        return _arrays(function(*map(_values, args), **values))

    return on_arrays


def _on_device(function):
    def creation(*args, device=None, **kwargs):
        if device not in (None, DEVICE):
            raise ValueError(f"no such device: {device}")
        return _on_values(function)(*args, **kwargs)

    return creation


def _asarray(x, *, dtype=None, device=None, copy=None):
    """The one way in: an explicit copy from the host, as cupy.asarray is."""
    return Array(np.array(x.get() if isinstance(x, Array) else x, dtype=dtype))


def _operator(function, reflected=False):
    def method(self, other):
        if getattr(other, "__array_ufunc__", Array) is None:
            return NotImplemented
        operands = (other, self) if reflected else (self, other)
        return _on_values(function)(*operands)

    return method


for _name in ("add", "sub", "mul", "truediv", "pow", "matmul"):
    _function = getattr(operator, _name)
    setattr(Array, f"__{_name}__", _operator(_function))
    setattr(Array, f"__r{_name}__", _operator(_function, reflected=True))
for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(Array, f"__{_name}__", _operator(getattr(operator, _name)))
for _name in ("neg", "abs"):
    setattr(Array, f"__{_name}__", _on_values(getattr(operator, _name)))

_CREATE = ("zeros", "ones", "full", "eye", "arange", "linspace", "zeros_like", "ones_like")
_PLAIN = ("isdtype", "finfo", "iinfo", "inf", "nan", "pi", "newaxis", "bool")


def _wrapped(name):
    found = getattr(xnp, name)
    if name in _PLAIN or isinstance(found, type) or not callable(found):
        return found
    return _on_device(found) if name in _CREATE else _on_values(found)


namespace = ModuleType("cupy_standin")
vars(namespace).update(
    {name: _wrapped(name) for name in dir(xnp) if not name.startswith("_") and name != "linalg"},
    asarray=_asarray,
    linalg=SimpleNamespace(inv=_on_values(xnp.linalg.inv), pinv=_on_values(xnp.linalg.pinv)),
)
