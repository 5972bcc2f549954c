"""Memory and time that a function really takes on NumPy's arrays, beside what is counted."""

import gc
import os
import time
import tracemalloc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vtnp._array.trees import tree_map
from vtnp._registry.errors import UsageError
from vtnp.cost.counting import Cost, counted

_RUNS = 3


class TooLargeError(UsageError):
    """A run that does not fit in this machine's memory."""


@dataclass(frozen=True)
class Measurement:
    """One run, counted and measured.

    Attributes
    ----------
    counted : Cost
        What is counted.
    peak_bytes : int
        Peak memory of NumPy's arrays, arguments included.
    seconds : float
        The shortest of three runs.
    """

    counted: Cost
    peak_bytes: int
    seconds: float

    @property
    def memory_ratio(self) -> float:
        """Measured over counted peak memory."""
        return self.peak_bytes / self.counted.peak_bytes

    @property
    def seconds_per_multiply_add(self) -> float | None:
        """The time of a run over its multiply-adds; None where there are none."""
        multiply_adds = self.counted.multiply_adds
        return self.seconds / multiply_adds if multiply_adds else None


def measured(function: Callable[..., Any], arguments: Mapping[str, Any]) -> Measurement:
    """Measure function(**arguments) on random numbers of the arguments' shapes and dtypes.

    Parameters
    ----------
    function : Callable
        A formula, or any function in array-API operations.
    arguments : Mapping[str, Any]
        Its arguments, with arrays of `vtnp.cost.array`.

    Returns
    -------
    Measurement
        Peak memory and time, beside the count.

    Raises
    ------
    TooLargeError
        If less memory is free than the run would need; nothing is allocated then.
    """
    cost = counted(function, **arguments)
    free = free_bytes()
    if cost.peak_bytes > free:
        needed, available = (f"{n / 1e9:,.1f} GB" for n in (cost.peak_bytes, free))
        raise TooLargeError(f"this run needs {needed} of memory, and {available} are free")
    rng = np.random.default_rng(0)

    def drawn() -> Any:
        return tree_map(lambda x: _random(rng, x), dict(arguments))

    function(**drawn())  # what is made once, such as checks of shapes, is not measured
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        function(**drawn())
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    numbers = drawn()
    return Measurement(cost, peak, min(_seconds(function, numbers) for _ in range(_RUNS)))


def free_bytes() -> int:
    """Return the free memory of the machine; all its memory, where the system does not say."""
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        line = next(x for x in meminfo.read_text().splitlines() if x.startswith("MemAvailable:"))
        return int(line.split()[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _random(rng: np.random.Generator, x: Any) -> Any:
    """Return random numbers for an array that has none; masks are True, indices 0."""
    if x.dtype.kind == "f":
        # Drawn in its own dtype: a float64 array beside it would be part of the peak.
        single = x.dtype if x.dtype.itemsize >= 4 else np.dtype("f4")
        return rng.standard_normal(x.shape, dtype=single).astype(x.dtype, copy=False)
    return np.ones(x.shape, x.dtype) if x.dtype.kind == "b" else np.zeros(x.shape, x.dtype)


def _seconds(function: Callable[..., Any], arguments: Mapping[str, Any]) -> float:
    start = time.perf_counter()
    function(**arguments)
    return time.perf_counter() - start
