"""Whether the CuPy that is installed can compute, and if not, why: in one line."""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

INSTALL = "pip install 'vtnp[cuda12]' or 'vtnp[cuda13]', as nvidia-smi's CUDA version says"
_OLDEST = 12  # version of CUDA that CuPy is built for
_LENGTH = 200


def problem() -> str:
    """Return in one line why CuPy computes nothing here; "" if it does."""
    if find_spec("cupy") is None:
        return f"CuPy is not installed: {INSTALL}"
    try:
        cupy = import_module("cupy")
    except ImportError as error:
        return f"CuPy does not import ({_said(error)}): {INSTALL}"
    try:
        return _driver_problem(cupy.cuda.runtime) or _wrong_sum(cupy)
    except Exception as error:  # noqa: BLE001  (whatever its libraries raise)
        return f"CuPy computes nothing ({_said(error)}): {INSTALL}"


def _driver_problem(runtime: Any) -> str:
    driver, built = runtime.driverGetVersion() // 1000, runtime.runtimeGetVersion() // 1000
    if driver == 0:
        return "no CUDA device: there is no NVIDIA driver"
    if driver < built:
        fitting = f"pip install 'vtnp[cuda{driver}]'" if driver >= _OLDEST else "a newer driver"
        return f"this CuPy is for CUDA {built}, and the driver for CUDA {driver}: {fitting}"
    return "" if runtime.getDeviceCount() else "no CUDA device: the driver finds none"


def _wrong_sum(cupy: Any) -> str:
    """Compile a kernel and run it."""
    found = float((cupy.arange(3.0) + 1.0)[2].get())
    return "" if found == 3.0 else f"CuPy computes 2 + 1 = {found}"


def _said(error: BaseException) -> str:
    """Return an error in one line; CuPy's have several, between rows of equals signs."""
    words = [word for word in str(error).split() if word.strip("=")]
    return f"{type(error).__name__}: {' '.join(words)[:_LENGTH]}"
