"""The array libraries of candidates: conversion from and to NumPy, and their own gradients.

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
from vtnp.verify.errors import CandidateError, in_one_line
from vtnp.verify.functions import cupy_installation

Results = list[Any]
_HALF = 2  # bytes


class Library(ABC):
    """One array library.

    device: of the arrays that are passed to candidates; "" for the library's default.
    """

    name: str
    dtypes: tuple[str, ...] = ("float64", "float32", "float16")

    def __init__(self, device: str = "") -> None:
        self.device = device

    @abstractmethod
    def to_library(self, x: NDArray[Any], dtype: str) -> Any:
        """Convert an array; integers and truth values keep their dtype."""

    @abstractmethod
    def to_numpy(self, y: Any) -> NDArray[Any]:
        """Convert an array to NumPy, bfloat16 to float32. Raises CandidateError if it is none."""

    @abstractmethod
    def dtype_of(self, y: Any) -> str:
        """Return the name of an array's dtype."""

    @abstractmethod
    def device_of(self, y: Any) -> str:
        """Return the name of an array's device."""

    def strided(self, x: Any) -> Any:
        """Return the same numbers with gaps in memory between them, where the library has such."""
        return x


class Differentiating(Library):
    """A library with gradients of its own."""

    @abstractmethod
    def gradients(
        self, function: Callable[..., Sequence[Any]], at: Sequence[Any], weights: Sequence[Any]
    ) -> list[Any]:
        """Return the gradients of the weighted sum of results; None where there is none."""


class NumPy(Library):
    """NumPy, which has no gradients; central differences are checked instead."""

    name = "numpy"

    def to_library(self, x: NDArray[Any], dtype: str) -> Any:
        return np.array(x, dtype=dtype if x.dtype.kind == "f" else x.dtype)

    def to_numpy(self, y: Any) -> NDArray[Any]:
        plain = not isinstance(y, np.matrix | np.ma.MaskedArray)
        if not (plain and isinstance(y, np.ndarray | np.generic)):
            raise CandidateError(f"returned {_type(y)}, expected a NumPy array")
        return np.asarray(y)

    def dtype_of(self, y: Any) -> str:
        return str(y.dtype.newbyteorder("="))

    def device_of(self, y: Any) -> str:  # noqa: ARG002  (there is only one)
        return "cpu"

    def strided(self, x: Any) -> Any:
        gaps = np.repeat(x[..., None], 2, axis=-1)[..., 0]
        gaps.setflags(write=False)
        return gaps


class Autograd(NumPy, Differentiating):
    """autograd, whose arrays are those of NumPy."""

    name = "autograd"

    def gradients(
        self, function: Callable[..., Sequence[Any]], at: Sequence[Any], weights: Sequence[Any]
    ) -> list[Any]:
        differentiable: list[int] = []

        def of_variables(variables: Sequence[Any]) -> Any:
            results = function(*variables)
            differentiable[:] = [i for i, y in enumerate(results) if is_boxed(y)]
            return boxed_tuple([results[i] for i in differentiable])

        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Output seems independent of input")
            pull, _ = make_vjp(of_variables)(list(at))
            return list(pull(tuple(weights[i] for i in differentiable)))


class Torch(Differentiating):
    """PyTorch, on any of its devices.

    Raises UsageError where it has no such device.
    """

    name = "torch"
    dtypes = (*Library.dtypes, "bfloat16")

    def __init__(self, device: str = "") -> None:
        super().__init__(device or "cpu")
        self._torch = import_module("torch")
        try:
            self._torch.zeros(1, device=self.device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            raise UsageError(f"device {device}: {in_one_line(error)}") from None

    def to_library(self, x: NDArray[Any], dtype: str) -> Any:
        tensor = self._torch.from_dlpack(np.array(x)) if x.ndim else self._torch.tensor(x)
        tensor = tensor.to(self.device)
        return tensor.to(getattr(self._torch, dtype)) if tensor.is_floating_point() else tensor

    def to_numpy(self, y: Any) -> NDArray[Any]:
        if not isinstance(y, self._torch.Tensor):
            raise CandidateError(f"returned {_type(y)}, expected a tensor")
        if y.is_meta:
            raise CandidateError("returned a tensor on the meta device, which has no numbers")
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
    """JAX, with 64-bit numbers enabled.

    Raises UsageError where it has no such device.
    """

    name = "jax"
    dtypes = (*Library.dtypes, "bfloat16")

    def __init__(self, device: str = "") -> None:
        super().__init__(device)
        self._jax = import_module("jax")
        self._jax.config.update("jax_enable_x64", True)  # noqa: FBT003
        try:
            self._on = self._jax.devices(device)[0] if device else None
        except RuntimeError as error:
            raise UsageError(f"device {device}: {in_one_line(error)}") from None

    def to_library(self, x: NDArray[Any], dtype: str) -> Any:
        array = self._jax.numpy.asarray(x)
        real = x.dtype.kind == "f"
        array = array.astype(dtype) if real else array
        return self._jax.device_put(array, self._on)

    def to_numpy(self, y: Any) -> NDArray[Any]:
        if not isinstance(y, self._jax.Array | np.ndarray):
            raise CandidateError(f"returned {_type(y)}, expected a JAX array")
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
    """CuPy, on one GPU: "cuda:1", or the current one.

    Raises UsageError where it cannot compute.
    """

    name = "cupy"

    def __init__(self, device: str = "") -> None:
        super().__init__(device)
        why = cupy_installation.problem()
        if why:
            raise UsageError(f"cupy: {why}")
        self._cupy = import_module("cupy")
        number = device.removeprefix("cuda").removeprefix(":")
        if number:
            self._use(number)

    def _use(self, number: str) -> None:
        count = self._cupy.cuda.runtime.getDeviceCount()
        if not number.isdecimal() or int(number) >= count:
            raise UsageError(f"device {self.device}: expected cuda:0 to cuda:{count - 1}")
        self._cupy.cuda.Device(int(number)).use()

    def to_library(self, x: NDArray[Any], dtype: str) -> Any:
        return self._cupy.asarray(super().to_library(x, dtype))

    def to_numpy(self, y: Any) -> NDArray[Any]:
        if not isinstance(y, self._cupy.ndarray):
            raise CandidateError(f"returned {_type(y)}, expected a CuPy array")
        return np.asarray(self._cupy.asnumpy(y))

    def device_of(self, y: Any) -> str:
        return str(y.device)

    def strided(self, x: Any) -> Any:
        return self._cupy.stack([x, x], axis=-1)[..., 0]


LIBRARIES: dict[str, type[Library]] = {
    each.name: each for each in (NumPy, Autograd, Torch, Jax, CuPy)
}


def library_of(candidate: Callable[..., Any], name: str = "", device: str = "") -> Library:
    """Return the library of that name; with "", the one that the candidate's module imports.

    Raises UsageError for a library that is unknown or not installed.
    """
    name = name or _imported_by(candidate)
    if name not in LIBRARIES:
        raise UsageError(f"unknown library {name!r}: one of {', '.join(LIBRARIES)}")
    if find_spec(name) is None:
        raise UsageError(f"{name} is not installed")
    return LIBRARIES[name](device)


def _imported_by(candidate: Any) -> str:
    """Look for a library among what the candidate uses and its base classes, then in its module."""
    function = inspect.unwrap(candidate) if callable(candidate) else candidate
    used = _packages_used(function, set())
    if "numpy" in used and "autograd" not in used:
        return "numpy"
    module = inspect.getmodule(function) or inspect.getmodule(type(candidate))
    imported = {_package(value) for value in vars(module).values()} if module else set()
    bases = {base.__module__.split(".")[0] for base in type(candidate).__mro__}
    others = [name for name in LIBRARIES if name != "numpy"]
    found = (name for packages in (used | bases, imported) for name in others if name in packages)
    return next(found, "numpy")


def _packages_used(function: Any, seen: set[Any]) -> set[str]:
    """Return the packages that a function uses, itself or in functions of its module."""
    code, known = getattr(function, "__code__", None), getattr(function, "__globals__", {})
    if code is None or code in seen:
        return set()
    seen.add(code)
    cells = zip(code.co_freevars, function.__closure__ or (), strict=True)
    enclosed = {name: cell.cell_contents for name, cell in cells}
    names = _global_names(code) | {*enclosed}
    values = [enclosed.get(name, known.get(name)) for name in names]
    of_module = [x for x in values if getattr(x, "__globals__", None) is known]
    return {_package(x) for x in values}.union(*(_packages_used(x, seen) for x in of_module))


def _global_names(code: Any) -> set[str]:
    """Return the global names that a function's code uses, nested functions included."""
    own = {step.argval for step in dis.get_instructions(code) if step.opname == "LOAD_GLOBAL"}
    return own.union(*(_global_names(each) for each in code.co_consts if inspect.iscode(each)))


def _package(value: Any) -> str:
    name = value.__name__ if inspect.ismodule(value) else getattr(value, "__module__", None)
    return name.split(".")[0] if isinstance(name, str) else ""


def _type(y: Any) -> str:
    return type(y).__name__
