"""The array libraries of candidates: there, back, and their own gradients.

Arrays are exchanged by DLPack, without a copy, wherever both sides can.
"""

import dis
import inspect
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
from autograd import make_vjp
from autograd.builtins import tuple as boxed_tuple
from numpy.typing import NDArray

from vtnp._array.xp import is_boxed
from vtnp._registry.errors import UsageError
from vtnp.verify.errors import CandidateError

Results = list[Any]
_HALF = 2  # bytes


class Library(ABC):
    """One array library.

    device: of the arrays that candidates are given; "" for the library's own choice.
    """

    name: str
    dtypes: tuple[str, ...] = ("float64", "float32", "float16")

    def __init__(self, device: str = "") -> None:
        self.device = device

    @abstractmethod
    def there(self, x: NDArray[Any], dtype: str) -> Any:
        """Bring numbers to the library; what is no real number keeps its dtype."""

    @abstractmethod
    def back(self, y: Any) -> NDArray[Any]:
        """Bring an array back, bfloat16 as float32. Raises CandidateError where y is none."""

    @abstractmethod
    def dtype_of(self, y: Any) -> str:
        """Return the name of an array's dtype."""

    @abstractmethod
    def device_of(self, y: Any) -> str:
        """Return the name of where an array is."""

    def strided(self, x: Any) -> Any:
        """Return the same numbers with gaps between them in memory, where that can be."""
        return x


class Differentiating(Library):
    """A library with gradients of its own."""

    @abstractmethod
    def gradients(
        self, function: Callable[..., Sequence[Any]], at: Sequence[Any], weights: Sequence[Any]
    ) -> list[Any]:
        """Return the gradients of the weighed sum of results; None where there is none."""


class NumPy(Library):
    """NumPy, which has no gradients: central differences take their place."""

    name = "numpy"

    def there(self, x: NDArray[Any], dtype: str) -> Any:
        return np.array(x, dtype=dtype if x.dtype.kind == "f" else x.dtype)

    def back(self, y: Any) -> NDArray[Any]:
        plain = not isinstance(y, np.matrix | np.ma.MaskedArray)
        if not (plain and isinstance(y, np.ndarray | np.generic)):
            raise CandidateError(f"returned {_type(y)}, where an array of NumPy is meant")
        return np.asarray(y)

    def dtype_of(self, y: Any) -> str:
        return str(y.dtype.newbyteorder("="))

    def device_of(self, y: Any) -> str:  # noqa: ARG002  (there is but one)
        return "cpu"

    def strided(self, x: Any) -> Any:
        gaps = np.repeat(x[..., None], 2, axis=-1)[..., 0]
        gaps.setflags(write=False)
        return gaps


class Autograd(NumPy, Differentiating):
    """autograd, whose arrays are NumPy's."""

    name = "autograd"

    def gradients(
        self, function: Callable[..., Sequence[Any]], at: Sequence[Any], weights: Sequence[Any]
    ) -> list[Any]:
        which: list[int] = []

        def of_variables(variables: Sequence[Any]) -> Any:
            results = function(*variables)
            which[:] = [i for i, y in enumerate(results) if is_boxed(y)]
            return boxed_tuple([results[i] for i in which])

        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Output seems independent of input")
            pull, _ = make_vjp(of_variables)(list(at))
            return list(pull(tuple(weights[i] for i in which)))


class Torch(Differentiating):
    """PyTorch, on any of its devices."""

    name = "torch"
    dtypes = (*Library.dtypes, "bfloat16")

    def __init__(self, device: str = "") -> None:
        super().__init__(device or "cpu")
        self._torch = import_module("torch")

    def there(self, x: NDArray[Any], dtype: str) -> Any:
        tensor = self._torch.from_dlpack(np.array(x)) if x.ndim else self._torch.tensor(x)
        tensor = tensor.to(self.device)
        return tensor.to(getattr(self._torch, dtype)) if tensor.is_floating_point() else tensor

    def back(self, y: Any) -> NDArray[Any]:
        if not isinstance(y, self._torch.Tensor):
            raise CandidateError(f"returned {_type(y)}, where a tensor is meant")
        if y.is_meta:
            raise CandidateError("returned a tensor on the device meta, which has no numbers")
        y = y.detach().cpu().resolve_conj().resolve_neg()
        narrow = y.is_floating_point() and y.dtype.itemsize <= _HALF and y.dtype != self._torch.half
        numbers: NDArray[Any] = (y.float() if narrow else y).numpy()
        return numbers

    def dtype_of(self, y: Any) -> str:
        return str(y.dtype).removeprefix("torch.")

    def device_of(self, y: Any) -> str:
        return str(y.device)

    def strided(self, x: Any) -> Any:
        return self._torch.stack([x, x], dim=-1)[..., 0]

    def gradients(
        self, function: Callable[..., Sequence[Any]], at: Sequence[Any], weights: Sequence[Any]
    ) -> list[Any]:
        leaves = [x.detach().clone().requires_grad_() for x in at]
        results = function(*leaves)
        pairs = [(y, w) for y, w in zip(results, weights, strict=True) if y.requires_grad]
        if not pairs:
            return [None] * len(leaves)
        outputs, cotangents = zip(*pairs, strict=True)
        return list(self._torch.autograd.grad(outputs, leaves, cotangents, allow_unused=True))


class Jax(Differentiating):
    """JAX, with 64 bits switched on."""

    name = "jax"
    dtypes = (*Library.dtypes, "bfloat16")

    def __init__(self, device: str = "") -> None:
        super().__init__(device)
        self._jax = import_module("jax")
        self._jax.config.update("jax_enable_x64", True)  # noqa: FBT003

    def there(self, x: NDArray[Any], dtype: str) -> Any:
        array = self._jax.numpy.asarray(x)
        real = x.dtype.kind == "f"
        array = array.astype(dtype) if real else array
        return self._jax.device_put(
            array, self._jax.devices(self.device)[0] if self.device else None
        )

    def back(self, y: Any) -> NDArray[Any]:
        if not isinstance(y, self._jax.Array | np.ndarray):
            raise CandidateError(f"returned {_type(y)}, where an array of JAX is meant")
        return np.asarray(y, dtype="float32") if str(y.dtype) == "bfloat16" else np.asarray(y)

    def dtype_of(self, y: Any) -> str:
        return str(y.dtype)

    def device_of(self, y: Any) -> str:
        return ",".join(sorted(map(str, y.devices()))) if hasattr(y, "devices") else "cpu"

    def gradients(
        self, function: Callable[..., Sequence[Any]], at: Sequence[Any], weights: Sequence[Any]
    ) -> list[Any]:
        _, pull = self._jax.vjp(lambda *xs: tuple(function(*xs)), *at)
        return list(pull(tuple(weights)))


class CuPy(NumPy):
    """CuPy, on the GPU that is current."""

    name = "cupy"

    def __init__(self, device: str = "") -> None:
        super().__init__(device)
        self._cupy = import_module("cupy")

    def there(self, x: NDArray[Any], dtype: str) -> Any:
        return self._cupy.asarray(super().there(x, dtype))

    def back(self, y: Any) -> NDArray[Any]:
        if not isinstance(y, self._cupy.ndarray):
            raise CandidateError(f"returned {_type(y)}, where an array of CuPy is meant")
        return np.asarray(self._cupy.asnumpy(y))

    def device_of(self, y: Any) -> str:
        return str(y.device)

    def strided(self, x: Any) -> Any:
        return self._cupy.stack([x, x], axis=-1)[..., 0]


LIBRARIES: dict[str, type[Library]] = {
    each.name: each for each in (NumPy, Autograd, Torch, Jax, CuPy)
}


def library_of(candidate: Callable[..., Any], name: str = "", device: str = "") -> Library:
    """Return the library named; left out, the one that the candidate's own module imports.

    Raises UsageError for a library that is unknown or not installed.
    """
    name = name or _imported_by(candidate)
    if name not in LIBRARIES:
        raise UsageError(f"unknown library {name!r}: one of {', '.join(LIBRARIES)}")
    if find_spec(name) is None:
        raise UsageError(f"{name} is not installed")
    return LIBRARIES[name](device)


def _imported_by(candidate: Any) -> str:
    """Look for a library among what the candidate itself names, then in its module, and bases."""
    function = inspect.unwrap(candidate) if callable(candidate) else candidate
    named = _named(function, set())
    if "numpy" in named and "autograd" not in named:
        return "numpy"
    module = inspect.getmodule(function) or inspect.getmodule(type(candidate))
    around = {_root(value) for value in vars(module).values()} if module else set()
    bases = {base.__module__.split(".")[0] for base in type(candidate).__mro__}
    others = [name for name in LIBRARIES if name != "numpy"]
    found = (name for roots in (named | bases, around) for name in others if name in roots)
    return next(found, "numpy")


def _named(function: Any, seen: set[Any]) -> set[str]:
    """Return the packages that a function names, itself or in functions of its module."""
    code, known = getattr(function, "__code__", None), getattr(function, "__globals__", {})
    if code is None or code in seen:
        return set()
    seen.add(code)
    cells = zip(code.co_freevars, function.__closure__ or (), strict=True)
    held = {name: cell.cell_contents for name, cell in cells}
    values = [x for name in _names(code) | {*held} if (x := held.get(name, known.get(name)))]
    within = [x for x in values if getattr(x, "__globals__", None) is known]
    return {_root(x) for x in values}.union(*(_named(x, seen) for x in within))


def _names(code: Any) -> set[str]:
    """Return the global names that a function's text uses, functions within it included."""
    own = {step.argval for step in dis.get_instructions(code) if step.opname == "LOAD_GLOBAL"}
    return own.union(*(_names(each) for each in code.co_consts if inspect.iscode(each)))


def _root(value: Any) -> str:
    name = value.__name__ if inspect.ismodule(value) else getattr(value, "__module__", None)
    return name.split(".")[0] if isinstance(name, str) else ""


def _type(y: Any) -> str:
    return type(y).__name__
