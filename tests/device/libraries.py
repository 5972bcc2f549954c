"""The array libraries of a device: conversions, transfers, peak memory."""

import importlib
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from typing import Any
from unittest import mock

import numpy as np
from autograd import make_vjp
from autograd.builtins import tuple as boxed_tuple

from tests.support.cupy_standin.devices import asked_for_by
from vtnp._array.xp import is_boxed
from vtnp._registry.errors import UsageError
from vtnp.verify.functions.libraries import CuPy, Differentiating, Torch

Transfer = tuple[str, str, str]  # its kind, what CuPy or torch did, the function that asked for it


class Unavailable(Exception):  # noqa: N818
    """There is nothing to run on, said in one line."""


class Device(Differentiating):
    """A library on one device, whose gradients are vtnp's own."""

    version: str
    description: str
    is_accelerator: bool = True

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

    @abstractmethod
    def synchronize(self) -> None:
        """Wait until the device has computed everything."""

    @abstractmethod
    def watched(self) -> Any:
        """Return a context whose value is a list of transfers within it; None if not counted."""

    @abstractmethod
    def measured(self) -> Any:
        """Return a context whose value's `bytes` is the peak of memory; None if not counted."""

    def is_lost(self) -> str:
        """Return why the device computes nothing any more; "" while it does."""
        try:
            found = float(self.to_numpy(self.to_library(np.ones(2), "float64") * 2.0)[1])
        except Exception as error:  # noqa: BLE001
            return one_line(error)
        return "" if found == 2.0 else f"1 * 2 is {found}"


class Peak:
    """The most memory that was in use. bytes: None where nobody counts."""

    bytes: int | None = None


def one_line(error: BaseException) -> str:
    """Return an error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]


# --- CuPy -----------------------------------------------------------------------------------------


class _CuPy(CuPy, Device):
    """CuPy on its current GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.version = self._cupy.__version__
        runtime = self._cupy.cuda.runtime
        properties = runtime.getDeviceProperties(runtime.getDevice())
        self.description = properties["name"].decode()

    def synchronize(self) -> None:
        self._cupy.cuda.Device().synchronize()

    @contextmanager
    def watched(self) -> Iterator[list[Transfer] | None]:
        """Count what makes the host wait, and copies to the host and from it."""
        found: list[Transfer] = []
        own, cupy = self._cupy.ndarray, self._cupy

        def noting(kind: str, name: str, function: Any, is_noted: Callable[..., bool]) -> Any:
            def noted(*args: Any, **kwargs: Any) -> Any:
                if is_noted(*args):
                    found.append((kind, name, asked_for_by()))
                return function(*args, **kwargs)

            return noted

        def is_of_host(x: Any, *_: Any) -> bool:
            return not isinstance(x, own)

        waits = ("__bool__", "__int__", "__float__", "__complex__", "item")
        copies = ("get", "tolist", "__repr__", "__str__")
        with ExitStack() as patches:
            for kind, names in (("synchronisation", waits), ("download", copies)):
                for name in names:
                    noted = noting(kind, f"ndarray.{name}", getattr(own, name), lambda *_: True)
                    patches.enter_context(mock.patch.object(own, name, noted))
            for name in ("array", "asarray"):
                noted = noting("upload", name, getattr(cupy, name), is_of_host)
                patches.enter_context(mock.patch.object(cupy, name, noted))
            yield found

    @contextmanager
    def measured(self) -> Iterator[Peak]:
        pool, peak = self._cupy.get_default_memory_pool(), Peak()
        pool.free_all_blocks()
        before = peak.bytes = pool.used_bytes()

        class Hook(self._cupy.cuda.MemoryHook):  # type: ignore[misc, name-defined]
            name = "peak"

            def malloc_postprocess(self, **_: Any) -> None:
                peak.bytes = max(peak.bytes, pool.used_bytes())

        with Hook():
            yield peak
        peak.bytes -= before


class _Standin(_CuPy):
    """The stand-in for CuPy, which computes on the CPU."""

    is_accelerator = False

    def __init__(self) -> None:
        from tests.support import cupy_standin

        cupy_standin.install()
        super().__init__()

    @contextmanager
    def watched(self) -> Iterator[list[Transfer] | None]:
        from tests.support import cupy_standin

        found: list[Transfer] = []
        with cupy_standin.watched() as record:
            yield found
        found += map(tuple, record.transfers)  # type: ignore[arg-type]

    @contextmanager
    def measured(self) -> Iterator[Peak]:
        yield Peak()


# --- torch ----------------------------------------------------------------------------------------


class _Torch(Torch, Device):
    """PyTorch, on the CPU or a GPU."""

    def __init__(self, device: str) -> None:
        super().__init__(device)
        self.version = self._torch.__version__
        self.description, self.is_accelerator = "CPU", device == "cuda"
        if device == "cuda":
            self.description = self._torch.cuda.get_device_name()

    gradients = Device.gradients

    def synchronize(self) -> None:
        if self.device == "cuda":
            self._torch.cuda.synchronize()

    @contextmanager
    def watched(self) -> Iterator[list[Transfer] | None]:
        if self.device != "cuda":
            yield None
            return
        found: list[Transfer] = []

        def noted(message: Any, *_: Any, **__: Any) -> None:
            if "synchroniz" in str(message):
                found.append(("synchronisation", "torch", asked_for_by()))

        self._torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("always")
                warnings.showwarning = noted
                yield found
        finally:
            self._torch.cuda.set_sync_debug_mode("default")

    @contextmanager
    def measured(self) -> Iterator[Peak]:
        peak = Peak()
        if self.device != "cuda":
            yield peak
            return
        cuda = self._torch.cuda
        cuda.empty_cache()
        cuda.reset_peak_memory_stats()
        before = cuda.memory_allocated()
        yield peak
        peak.bytes = cuda.max_memory_allocated() - before


# --- Which there are ------------------------------------------------------------------------------


def _real_cupy() -> Device:
    try:
        return _CuPy()
    except UsageError as error:
        raise Unavailable(str(error)) from None


def _torch_on(device: str) -> Callable[[], Device]:
    def make() -> Device:
        if find_spec("torch") is None:
            raise Unavailable("torch is not installed: pip install torch")
        torch = importlib.import_module("torch")
        if device == "cuda" and not torch.cuda.is_available():
            raise Unavailable(f"no CUDA device: torch {torch.__version__} finds none")
        return _Torch(device)

    return make


LIBRARIES: dict[str, Callable[[], Device]] = {
    "cupy": _real_cupy,
    "torch": _torch_on("cuda"),
    "torch-cpu": _torch_on("cpu"),
    "cupy-standin": _Standin,
}
