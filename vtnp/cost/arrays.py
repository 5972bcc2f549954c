"""Arrays that have a shape and a dtype but no numbers, and the ledger that they write to."""

from collections import Counter
from importlib import import_module
from typing import Any

import numpy as np

from vtnp.cost.layout import Layout, Shape, contiguous, indexed


class Ledger:
    """What has been done so far, and how many bytes are alive.

    It is the device of its arrays: what is created for their device is written to it, too.
    """

    def __init__(self) -> None:
        self.multiply_adds = 0
        self.operations: Counter[str] = Counter()
        self.bytes_read = self.bytes_written = self.alive = self.peak = 0

    def __repr__(self) -> str:
        return "cost"

    def array(self, shape: Shape, dtype: Any) -> "CostArray":
        """Return a new array."""
        return self.laid_out(contiguous(shape), dtype)

    def laid_out(self, layout: Layout, dtype: Any) -> "CostArray":
        """Return a new array with its axes in memory as told."""
        dtype = np.dtype(dtype)
        return CostArray(_Buffer(self, layout.size * dtype.itemsize), layout, dtype)


class _Buffer:
    """Memory, alive until no array looks at it any more."""

    def __init__(self, ledger: Ledger, size: int) -> None:
        self.ledger, self.size = ledger, size
        ledger.alive += size
        ledger.peak = max(ledger.peak, ledger.alive)

    def __del__(self) -> None:
        self.ledger.alive -= self.size


class CostArray:
    """An array of the standard without numbers: operations on it are counted, not computed.

    Views share memory exactly where NumPy's do.
    """

    __slots__ = ("_buffer", "dtype", "layout")
    __array_ufunc__ = None  # NumPy's arrays then leave operators to us, who refuse them
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, buffer: _Buffer, layout: Layout, dtype: np.dtype[Any]) -> None:
        self._buffer, self.layout, self.dtype = buffer, layout, dtype

    @property
    def shape(self) -> Shape:
        return self.layout.shape

    @property
    def ndim(self) -> int:
        return len(self.layout.shape)

    @property
    def size(self) -> int:
        return self.layout.size

    @property
    def device(self) -> Ledger:
        return self._buffer.ledger

    def __repr__(self) -> str:
        return f"CostArray({self.shape}, {self.dtype})"

    def __array_namespace__(self, *, api_version: str | None = None) -> Any:
        return import_module("vtnp.cost.namespace")

    def view(self, layout: Layout) -> "CostArray":
        """Look at the same memory in another way."""
        return CostArray(self._buffer, layout, self.dtype)

    def astype(self, dtype: Any) -> "CostArray":
        return self.__array_namespace__().astype(self, dtype)  # type: ignore[no-any-return]

    def __getitem__(self, index: Any) -> "CostArray":
        return self.view(indexed(self.layout, index))

    def __setitem__(self, index: Any, value: Any) -> None:
        there = self[index]
        self.__array_namespace__().written(there, value)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("an array without axes has no length")
        return self.shape[0]

    def _no_numbers(self) -> Any:
        raise TypeError("an array of the cost reading has no numbers to decide by")

    __bool__ = __int__ = __float__ = __index__ = __complex__ = _no_numbers
