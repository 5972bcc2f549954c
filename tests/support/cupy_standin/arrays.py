"""The array class, and ufuncs on it."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import special

from tests.support.cupy_standin import devices
from tests.support.cupy_standin.devices import Device, called, noted
from tests.support.cupy_standin.signatures import DATA, Loop, loops, signature

_PYTHON = bool | int | float | complex


class UndefinedError(AssertionError):
    """CuPy would go on in silence, with a result that means nothing."""


class ndarray:  # noqa: N801  (its name in CuPy)
    """Numbers on a device."""

    __array_priority__ = 100
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, shape: Any, dtype: Any = float, *, order: str = "C") -> None:
        self._values = np.empty(shape, dtype, order=order)
        self._device = devices.current()

    @classmethod
    def _of(cls, values: Any) -> "ndarray":
        """Make an array on the current device."""
        array = cls.__new__(cls)
        array._values = np.asarray(values)
        array._device = devices.current()
        return array

    def _viewed(self, values: Any) -> "ndarray":
        """Make an array of the same memory, which needs no device."""
        array = type(self)._of(values)
        array._device = self._device
        return array

    shape = property(lambda self: self._values.shape)
    strides = property(lambda self: self._values.strides)
    ndim = property(lambda self: self._values.ndim)
    size = property(lambda self: self._values.size)
    nbytes = property(lambda self: self._values.nbytes)
    itemsize = property(lambda self: self._values.itemsize)
    dtype = property(lambda self: self._values.dtype)
    device = property(lambda self: Device(self._device))
    T = property(lambda self: self._viewed(self._values.T))
    mT = property(lambda self: self._viewed(self._values.mT))  # noqa: N815
    real = property(lambda self: self._viewed(self._values.real))

    # --- To the host ------------------------------------------------------------------------------

    def get(self, *args: Any, **kwargs: Any) -> Any:
        signature("cupy.ndarray.get").bind(self, *args, **kwargs)
        noted("download", "cupy.ndarray.get")
        return self._values.copy()

    def _waits(self, name: str) -> Any:
        if self.size != 1:
            raise ValueError("only size-1 arrays can be converted to Python scalars")
        noted("synchronisation", f"cupy.ndarray.{name}")
        return self._values.item()

    def __bool__(self) -> bool:
        return bool(self._waits("__bool__"))

    def __int__(self) -> int:
        return int(self._waits("__int__"))

    def __float__(self) -> float:
        return float(self._waits("__float__"))

    def __complex__(self) -> complex:
        return complex(self._waits("__complex__"))

    def __index__(self) -> int:
        if self.dtype.kind not in "iu":
            raise TypeError("only integer scalar arrays can be converted to a scalar index")
        return int(self._waits("__index__"))

    def item(self) -> Any:
        return self._waits("item")

    def tolist(self) -> Any:
        noted("download", "cupy.ndarray.tolist")
        return self._values.tolist()

    def __repr__(self) -> str:
        noted("download", "cupy.ndarray.__repr__")
        return repr(self._values)

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. "
            "Please use `.get()` to construct a NumPy array explicitly."
        )

    # --- NumPy's protocols ------------------------------------------------------------------------

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        from tests.support.cupy_standin.modules import cupy

        function = getattr(cupy, ufunc.__name__, None)
        if method != "__call__" or function is None:
            return NotImplemented
        if "out" in kwargs:
            (kwargs["out"],) = kwargs["out"]
        return function(*inputs, **kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        from tests.support.cupy_standin.modules import cupy

        home = cupy
        for part in (*function.__module__.split(".")[1:], function.__name__):
            home = getattr(home, part, None)
        if home is None or not all(issubclass(each, ndarray | np.ndarray) for each in types):
            return NotImplemented
        return home(*args, **kwargs)

    # --- Indexing ---------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Any:
        if self.ndim == 0:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: Any) -> "ndarray":
        called("cupy.ndarray.__getitem__")
        plain, arrays = _index(index, self.shape, "cupy.ndarray.__getitem__")
        if not arrays:
            return self._viewed(self._values[plain])
        on_current(self, *arrays)
        return self._of(self._values[plain])

    def __setitem__(self, index: Any, value: Any) -> None:
        called("cupy.ndarray.__setitem__")
        plain, arrays = _index(index, self.shape, "cupy.ndarray.__setitem__")
        if not isinstance(value, ndarray) and isinstance(value, np.ndarray | list | tuple):
            raise TypeError(f"the stand-in assigns no {type(value)} to a part of an array")
        on_current(self, value, *arrays)
        self._values[plain] = _plain(value)

    # --- Methods ----------------------------------------------------------------------------------

    def astype(self, *args: Any, **kwargs: Any) -> "ndarray":
        bound = signature("cupy.ndarray.astype").bind(self, *args, **kwargs).arguments
        called("cupy.ndarray.astype")
        dtype = np.dtype(bound["dtype"])
        if not bound.get("copy", True) and dtype == self.dtype:
            return self
        on_current(self)
        return self._of(cast(self._values, dtype))

    def copy(self, order: str = "C") -> "ndarray":
        on_current(self)
        return self._of(self._values.copy(order))

    def view(self) -> "ndarray":
        return self._viewed(self._values.view())

    def fill(self, value: Any) -> None:
        on_current(self)
        self._values.fill(_plain(value))

    def __getattr__(self, name: str) -> Any:
        """A method that CuPy has as a function, too."""
        key = f"cupy.ndarray.{name}"
        if key not in DATA["functions"]:
            raise AttributeError(f"'ndarray' object has no attribute {name!r}")
        from tests.support.cupy_standin.modules import cupy

        function = getattr(cupy, name, None)
        if function is None:
            raise NotImplementedError(f"the stand-in does not compute {key}")

        def method(*args: Any, **kwargs: Any) -> Any:
            signature(key).bind(self, *args, **kwargs)
            return function(self, *args, **kwargs)

        return method


# --- Values and devices ---------------------------------------------------------------------------


def _plain(x: Any) -> Any:
    return x._values if isinstance(x, ndarray) else x


def on_current(*arrays: Any) -> None:
    """Refuse arrays of another device than the current one, as GPUs without peer access do."""
    for x in arrays:
        if isinstance(x, ndarray) and x._device != devices.current():
            raise ValueError(
                f"The device where the array resides ({x._device}) is different from the current "
                f"device ({devices.current()}). Peer access is unavailable between these devices."
            )


def cast(values: Any, dtype: Any) -> Any:
    """Convert to another dtype; a float that no integer can hold is undefined."""
    if values.dtype.kind == "f" and np.dtype(dtype).kind in "iu" and values.size:
        info = np.iinfo(dtype)
        wide = np.trunc(values.astype(np.float64))
        fits = (wide >= float(info.min)) & (wide < float(info.max) + 1.0)
        if not np.all(fits):
            raise UndefinedError(f"{values[~fits].ravel()[0]} is cast to {np.dtype(dtype)}")
    if values.dtype.kind == "c" and np.dtype(dtype).kind != "c":
        values = values.real
    with np.errstate(all="ignore"):
        return values.astype(dtype)


def check_range(indices: Any, n: int, what: str) -> None:
    """Refuse indices that CuPy would wrap around."""
    values = np.asarray(indices)
    if values.size and n and not (values.min() >= -n and values.max() < n):
        raise UndefinedError(f"{what}: {values.min()} to {values.max()} among {n} wraps around")


def _index(index: Any, shape: tuple[int, ...], what: str) -> tuple[Any, list[ndarray]]:
    """Return the index as NumPy takes it, and the arrays in it."""
    entries = index if isinstance(index, tuple) else (index,)
    arrays, plain = [], []
    for entry in entries:
        if isinstance(entry, list | np.ndarray):
            noted("upload", what)
        if isinstance(entry, ndarray):
            arrays.append(entry)
        plain.append(_plain(entry))
    if arrays:
        if any(x.dtype.kind not in "biu" for x in arrays):
            raise IndexError("arrays used as indices must be of integer or boolean type.")
        if any(x.dtype.kind == "b" for x in arrays):  # how many are true, the host must know
            noted("synchronisation", what)
        _check_ranges(plain, shape, what)
    return (tuple(plain) if isinstance(index, tuple) else plain[0]), arrays


def _check_ranges(entries: Sequence[Any], shape: tuple[int, ...], what: str) -> None:
    """Refuse what is out of range among the arrays of an index."""

    def width(entry: Any) -> int:
        if entry is None:
            return 0
        return entry.ndim if isinstance(entry, np.ndarray) and entry.dtype.kind == "b" else 1

    used = sum(width(entry) for entry in entries if entry is not ...)
    axis = 0
    for entry in entries:
        if entry is ...:
            axis += len(shape) - used
            continue
        if isinstance(entry, np.ndarray) and entry.dtype.kind in "iu":
            check_range(entry, shape[axis], what)
        axis += width(entry)


# --- Ufuncs ---------------------------------------------------------------------------------------

_OWN: dict[str, Callable[..., Any]] = {
    "where": np.where,
    "erf": special.erf,
    "erfc": special.erfc,
    "erfcx": special.erfcx,
    "erfinv": special.erfinv,
    "erfcinv": special.erfcinv,
}


class ufunc:  # noqa: N801  (its name in CuPy)
    """A function of elements, with the loops that CuPy has."""

    def __init__(self, name: str) -> None:
        self.key, self.name = name, name.rpartition(".")[2]
        self.__name__ = self.name
        self._loops = loops(DATA["ufuncs"][name])
        self._scatter = DATA["scatters"].get(name)
        self.nin, self.nout = len(self._loops[0].takes), len(self._loops[0].makes)
        self._found: dict[Any, Loop | None] = {}
        self._compute = _OWN.get(self.name) or getattr(np, self.name, None)

    def __repr__(self) -> str:
        return f"<ufunc '{self.name}'>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        called(self.key)
        out, where = kwargs.pop("out", None), kwargs.pop("_where", None)
        dtype, casting = kwargs.pop("dtype", None), kwargs.pop("casting", "same_kind")
        if kwargs:
            raise TypeError(f"Wrong arguments {kwargs}")
        if not self.nin <= len(args) <= self.nin + self.nout:
            raise TypeError(f"Wrong number of arguments for {self.name!r}: {len(args)}")
        if self._compute is None or where is not None or self.nout != 1:
            raise NotImplementedError(f"the stand-in does not compute {self.key}")
        args, outs = args[: self.nin], args[self.nin :]
        out = outs[0] if outs else out
        for x in args:
            if not isinstance(x, ndarray | np.generic | _PYTHON):
                raise TypeError(f"Unsupported type {type(x)}")
        on_current(*args, out)
        loop = self._loop(args, dtype)
        with np.errstate(all="ignore"):
            values = [
                _plain(x).astype(t, copy=False) if isinstance(x, ndarray) else t.type(x)
                for x, t in zip(args, loop.takes, strict=True)
            ]
            result = np.asarray(self._compute(*values)).astype(loop.makes[0], copy=False)
        if out is None:
            return ndarray._of(result)
        if not np.can_cast(result.dtype, out.dtype, casting):
            raise TypeError(f"output (typecode '{out.dtype.char}') could not be coerced")
        out._values[...] = result
        return out

    def _loop(self, args: Sequence[Any], dtype: Any) -> Loop:
        """Choose a loop as CuPy does: the first that all inputs can be cast to."""
        kinds = tuple(_type_and_weakness(x) for x in args)
        key = (kinds, dtype)
        if key not in self._found:
            self._found[key] = self._choose(kinds, dtype)
        loop = self._found[key]
        if loop is None or loop.is_error:
            types = tuple(str(each) for each, _ in kinds)
            raise TypeError(f"Wrong type ({types}) of arguments for cupy_{self.name}")
        return loop

    def _choose(self, kinds: tuple[tuple[Any, Any], ...], dtype: Any) -> Loop | None:
        if dtype is not None:
            made = np.dtype(dtype)
            return next((each for each in self._loops if set(each.makes) == {made}), None)
        scores = [(_score(each, weak), weak) for each, weak in kinds]
        strong = [score for score, weak in scores if weak is None]
        weaker = [score for score, weak in scores if weak is not None]
        use = bool(strong and weaker) and max(strong) >= max(weaker)
        for loop in self._loops:
            if all(
                np.can_cast(each, taken)
                or (use and weak is not None and np.result_type(weak(0), taken) == taken)
                for (each, weak), taken in zip(kinds, loop.takes, strict=True)
            ):
                return loop
        return None

    def at(self, *args: Any, **kwargs: Any) -> None:
        bound = signature("cupy.ufunc.at").bind(self, *args, **kwargs).arguments
        called(f"{self.key}.at")
        if self._scatter is None:
            raise NotImplementedError(f"`cupy_{self.name}.at` is not supported yet")
        a, value = bound["a"], bound.get("b")
        plain, arrays = _index(bound["indices"], a.shape, f"{self.key}.at")
        on_current(a, value, *arrays)
        if a.dtype.char not in "iefdIQL":
            raise TypeError(
                "scatter_add only supports int32, float16, float32, float64, "
                "uint32, uint64, as data type"
            )
        getattr(np, self.name).at(a._values, plain, cast(np.asarray(_plain(value)), a.dtype))


def _type_and_weakness(x: Any) -> tuple[Any, Any]:
    """Return the dtype of an input, and its Python type where that does not bind others."""
    if isinstance(x, ndarray | np.generic):
        return x.dtype, None
    if type(x) is bool:
        return np.dtype(bool), None
    if type(x) is int:
        return np.dtype(np.uint64 if x >= 1 << 63 else np.int64), int
    return np.dtype(type(x)), type(x)


def _score(dtype: Any, weak: Any) -> int:
    kind = np.dtype(weak or dtype).kind
    return {"b": 0, "i": 1, "u": 1}.get(kind, 2)


# --- Operators ------------------------------------------------------------------------------------


def _defers(self: Any, other: Any) -> bool:
    """Tell whether the other operand's own method is to be called, as CuPy decides it."""
    try:
        return other.__array_ufunc__ is None
    except AttributeError:
        return bool(getattr(other, "__array_priority__", 0) > self.__array_priority__)


def _operator(name: str, *, reflected: bool = False) -> Callable[[Any, Any], Any]:
    def method(self: Any, other: Any) -> Any:
        from tests.support.cupy_standin.modules import cupy

        if _defers(self, other):
            return NotImplemented
        return getattr(cupy, name)(*((other, self) if reflected else (self, other)))

    return method


def _in_place(name: str) -> Callable[[Any, Any], Any]:
    def method(self: Any, other: Any) -> Any:
        from tests.support.cupy_standin.modules import cupy

        return getattr(cupy, name)(self, other, self)

    return method


def _unary(name: str) -> Callable[[Any], Any]:
    def method(self: Any) -> Any:
        from tests.support.cupy_standin.modules import cupy

        return getattr(cupy, name)(self)

    return method


_BINARY = {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "truediv": "true_divide",
    "floordiv": "floor_divide",
    "mod": "remainder",
    "pow": "power",
    "matmul": "matmul",
    "and": "bitwise_and",
    "or": "bitwise_or",
    "xor": "bitwise_xor",
}
for _name, _function in _BINARY.items():
    setattr(ndarray, f"__{_name}__", _operator(_function))
    setattr(ndarray, f"__r{_name}__", _operator(_function, reflected=True))
    if _name != "matmul":
        setattr(ndarray, f"__i{_name}__", _in_place(_function))
for _name, _function in {
    "eq": "equal",
    "ne": "not_equal",
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
}.items():
    setattr(ndarray, f"__{_name}__", _operator(_function))
for _name, _function in {"neg": "negative", "abs": "absolute", "invert": "invert"}.items():
    setattr(ndarray, f"__{_name}__", _unary(_function))
