"""The machine beside the count: memory and time that a formula really takes on NumPy's arrays."""

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
from vtnp.cost import Cost, counted

_RUNS = 3


class TooLargeError(UsageError):
    """A run that this machine's memory cannot hold."""


@dataclass(frozen=True)
class Measured:
    """One run, counted and measured.

    peak_bytes: the most that NumPy's arrays, arguments included, have held at once. seconds: the
    shortest of three runs.
    """

    counted: Cost
    peak_bytes: int
    seconds: float

    @property
    def memory_ratio(self) -> float:
        """Measured over counted peak bytes."""
        return self.peak_bytes / self.counted.peak_bytes

    @property
    def seconds_per_multiply_add(self) -> float | None:
        """The time of a run over its multiply-adds; None where there are none."""
        each = self.counted.multiply_adds
        return self.seconds / each if each else None


def measured(function: Callable[..., Any], arguments: Mapping[str, Any]) -> Measured:
    """Run function(**arguments) on random numbers of the arguments' shapes and dtypes.

    Raises TooLargeError, before anything is allocated, where the machine has less memory free than
    the count says.
    """
    cost = counted(function, **arguments)
    free = free_bytes()
    if cost.peak_bytes > free:
        raise TooLargeError(
            f"this run would need {cost.peak_bytes:,} bytes at once; {free:,} bytes are free"
        )
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
    return Measured(cost, peak, min(_seconds(function, numbers) for _ in range(_RUNS)))


def free_bytes() -> int:
    """Return how much memory the machine can still give; all that it has, where it does not say."""
    told = Path("/proc/meminfo")
    if told.exists():
        line = next(x for x in told.read_text().splitlines() if x.startswith("MemAvailable:"))
        return int(line.split()[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _random(rng: np.random.Generator, x: Any) -> Any:
    """Return numbers for an array that has none; masks allow all, indices are 0."""
    if x.dtype.kind == "f":
        # Drawn in its own dtype: float64 numbers beside it would be part of the peak.
        single = x.dtype if x.dtype.itemsize >= 4 else np.dtype("f4")
        return rng.standard_normal(x.shape, dtype=single).astype(x.dtype, copy=False)
    return np.ones(x.shape, x.dtype) if x.dtype.kind == "b" else np.zeros(x.shape, x.dtype)


def _seconds(function: Callable[..., Any], arguments: Mapping[str, Any]) -> float:
    start = time.perf_counter()
    function(**arguments)
    return time.perf_counter() - start
