"""A CuPy that cannot compute is told in one line."""

import sys
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest

from tests.support import cupy_standin, readings
from vtnp._registry.errors import UsageError
from vtnp.verify.functions import cupy_installation
from vtnp.verify.functions.libraries import CuPy


def runtime(driver, built, count=1):
    return SimpleNamespace(
        driverGetVersion=lambda: driver,
        runtimeGetVersion=lambda: built,
        getDeviceCount=lambda: count,
    )


def fake_cupy(runtime, arange=np.arange):
    class Array:
        def __init__(self, x):
            self.x = x

        def __add__(self, y):
            return Array(self.x + y)

        def __getitem__(self, i):
            return SimpleNamespace(get=lambda: self.x[i])

    return SimpleNamespace(
        cuda=SimpleNamespace(runtime=runtime), arange=lambda n: Array(arange(n)), ndarray=Array
    )


def broken(*args):
    raise RuntimeError("====\nCuPy failed to load libnvrtc.so.12:\n  OSError: cannot open\n====")


PROBLEMS = {
    "works": (fake_cupy(runtime(13000, 12090)), ""),
    "no driver": (fake_cupy(runtime(0, 12090)), "no CUDA device: there is no NVIDIA driver"),
    "too new": (
        fake_cupy(runtime(12040, 13000)),
        "this CuPy is for CUDA 13, and the driver for CUDA 12: pip install 'vtnp[cuda12]'",
    ),
    "too old": (
        fake_cupy(runtime(11080, 12000)),
        "this CuPy is for CUDA 12, and the driver for CUDA 11: a newer driver",
    ),
    "no device": (fake_cupy(runtime(12040, 12000, 0)), "no CUDA device: the driver finds none"),
    "no compiler": (
        fake_cupy(runtime(12040, 12000), broken),
        (
            "CuPy computes nothing (RuntimeError: CuPy failed to load libnvrtc.so.12: OSError: "
            f"cannot open): {cupy_installation.INSTALL}"
        ),
    ),
    "wrong": (fake_cupy(runtime(12040, 12000), lambda n: np.zeros(3)), "CuPy computes 2 + 1 = 1.0"),
}


@pytest.mark.parametrize(("cupy", "problem"), PROBLEMS.values(), ids=PROBLEMS)
def test_why_cupy_computes_nothing(monkeypatch, cupy, problem):
    monkeypatch.setattr(cupy_installation, "find_spec", lambda name: name)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    assert cupy_installation.problem() == problem


def test_a_cupy_that_is_not_installed_or_does_not_import(monkeypatch):
    monkeypatch.setattr(cupy_installation, "find_spec", lambda name: None)
    assert cupy_installation.problem().startswith(
        "CuPy is not installed: pip install 'vtnp[cuda12]'"
    )
    monkeypatch.setattr(cupy_installation, "find_spec", lambda name: name)
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert cupy_installation.problem().startswith("CuPy does not import (ModuleNotFoundError: ")


def test_a_candidate_on_it_is_refused(monkeypatch):
    monkeypatch.setattr(
        cupy_installation, "problem", lambda: "no CUDA device: the driver finds none"
    )
    with pytest.raises(UsageError, match=r"^cupy: no CUDA device: the driver finds none$"):
        CuPy()


def test_the_device_of_a_candidate():
    standin = "cupy-standin" in readings.NAMES
    cupy = cupy_standin.install() if standin else import_module("cupy")
    x, last = np.ones(1), cupy.cuda.runtime.getDeviceCount() - 1
    with cupy.cuda.Device(0):
        library = CuPy(f"cuda:{last}")
        assert library.device_of(library.to_library(x, "float64")) == f"<CUDA Device {last}>"
        for device in (f"cuda:{last + 1}", "cuda:x", "1.5"):
            with pytest.raises(
                UsageError, match=f"device {device}: expected cuda:0 to cuda:{last}"
            ):
                CuPy(device)
    library = CuPy()
    assert library.device_of(library.to_library(x, "float64")) == "<CUDA Device 0>"
