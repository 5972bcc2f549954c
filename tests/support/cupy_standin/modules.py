"""The modules of CuPy, made of what its signatures list; `install` puts them in its place."""

import importlib
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import array_api_compat
import numpy as np

from tests.support.cupy_standin import devices
from tests.support.cupy_standin.arrays import ndarray, ufunc
from tests.support.cupy_standin.devices import Device
from tests.support.cupy_standin.functions import COMPUTES, bound
from tests.support.cupy_standin.signatures import DATA


def _module(name: str) -> ModuleType:
    module = ModuleType(name, "A stand-in without a GPU.")
    module.__spec__ = ModuleSpec(name, None)
    module.__path__ = []
    MODULES[name] = module
    home, _, last = name.rpartition(".")
    if home:
        setattr(MODULES[home], last, module)
    return module


MODULES: dict[str, ModuleType] = {}
cupy, cupyx = _module("cupy"), _module("cupyx")
for _name in ("cupy.linalg", "cupy.fft", "cupy.cuda", "cupy.cuda.device", "cupy.cuda.runtime"):
    _module(_name)
for _name in ("cupyx.scipy", "cupyx.scipy.special"):
    _module(_name)


def _put(key: str, value: Any) -> None:
    home, _, name = key.rpartition(".")
    setattr(MODULES[home], name, value)


for _key, _kind in DATA["others"].items():
    _name = _key.rpartition(".")[2]
    if _kind != "module" and hasattr(np, _name):
        _put(_key, getattr(np, _name))
for _key in DATA["ufuncs"]:
    _put(_key, ufunc(_key))
for _key in DATA["functions"]:
    if _key.rpartition(".")[0] in {"cupy", "cupy.linalg", "cupy.fft"}:
        _put(_key, bound(_key, COMPUTES.get(_key)))
for _name in ("cupy.linalg", "cupy.fft"):
    MODULES[_name].__all__ = [n for n in vars(MODULES[_name]) if not n.startswith("_")]  # type: ignore[attr-defined]


class CUDARuntimeError(RuntimeError):
    """What CuPy raises where there is no device."""


class _MemoryPool:
    """Nothing is allocated on a device that is not there."""

    def used_bytes(self) -> int:
        return 0

    def total_bytes(self) -> int:
        return 0

    def free_all_blocks(self) -> None:
        pass


_POOL = _MemoryPool()
vars(cupy).update(
    ndarray=ndarray,
    ufunc=ufunc,
    __version__=DATA["version"],
    get_default_memory_pool=lambda: _POOL,
)
vars(MODULES["cupy.linalg"]).update(LinAlgError=np.linalg.LinAlgError)
vars(MODULES["cupy.cuda.device"]).update(Device=Device)
vars(MODULES["cupy.cuda"]).update(
    Device=Device, is_available=lambda: True, Stream=SimpleNamespace, ExternalStream=SimpleNamespace
)
vars(MODULES["cupy.cuda.runtime"]).update(
    CUDARuntimeError=CUDARuntimeError,
    getDevice=devices.current,
    getDeviceCount=lambda: devices.COUNT,
    getDeviceProperties=lambda i: {"name": b"stand-in without a GPU", "totalGlobalMem": 0},
    runtimeGetVersion=lambda: 12000,
    driverGetVersion=lambda: 12000,
)


def install() -> ModuleType:
    """Put the stand-in in CuPy's place, for this process and from now on; return its `cupy`.

    Raises RuntimeError where a CuPy with a device has been imported.
    """
    real = sys.modules.get("cupy")
    if real is cupy:
        return cupy
    if real is not None and real.cuda.is_available():
        raise RuntimeError("CuPy is here, and has a device: no stand-in for it")
    for name in list(sys.modules):
        if name.split(".")[0] in {"cupy", "cupyx"} or name.startswith("array_api_compat.cupy"):
            del sys.modules[name]
    vars(array_api_compat).pop("cupy", None)
    sys.modules.update(MODULES)
    importlib.import_module("array_api_compat.cupy")
    return cupy
