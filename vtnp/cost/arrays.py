"""Arrays that have a shape and a dtype but no values, and the ledger that counts operations."""

from collections import Counter
from typing import Any, ClassVar

import numpy as np

from vtnp.cost.memory_layout import MemoryLayout, Shape, contiguous, indexed


class Ledger:
    """Counts of what has been done so far, and the memory that arrays take now and took at most.

    It is the `device` of its arrays: arrays that a formula creates there are counted as well.

    Attributes
    ----------
    multiply_adds : int
        Products that entered sums.
    operations : Counter of str
        Elementwise operations by name, one for each element.
    bytes_read, bytes_written : int
        Memory traffic, summed over all operations.
    allocated_bytes, peak_bytes : int
        Memory of all arrays now, and the most there has been.
    """

    def __init__(self) -> None:
        self.multiply_adds = 0
        self.operations: Counter[str] = Counter()
        self.bytes_read = self.bytes_written = self.allocated_bytes = self.peak_bytes = 0

    def __repr__(self) -> str:
        return "cost"

    def array(self, shape: Shape, dtype: Any) -> "CostArray":
        """Return a new contiguous array."""
        return self.laid_out(contiguous(shape), dtype)

    def laid_out(self, layout: MemoryLayout, dtype: Any) -> "CostArray":
        """Return a new array of that memory layout."""
        dtype = np.dtype(dtype)
        return CostArray(_Buffer(self, layout.size * dtype.itemsize), layout, dtype)


class _Buffer:
    """Memory that is allocated until no array refers to it any more."""

    def __init__(self, ledger: Ledger, size: int) -> None:
        self.ledger, self.size = ledger, size
        ledger.allocated_bytes += size
        ledger.peak_bytes = max(ledger.peak_bytes, ledger.allocated_bytes)

    def __del__(self) -> None:
        self.ledger.allocated_bytes -= self.size


class CostArray:
    """An array of the array-API standard without values: operations are counted, not computed.

    Views share memory exactly where NumPy's do.
    """

    __slots__ = ("_buffer", "dtype", "layout")
    __array_ufunc__ = None  # NumPy's arrays then leave operators to us, who refuse them
    __hash__ = None  # type: ignore[assignment]

    # vtnp.cost.namespace, which is written in terms of this class, sets it and the operators.
    namespace: ClassVar[Any]

    def __init__(self, buffer: _Buffer, layout: MemoryLayout, dtype: np.dtype[Any]) -> None:
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
        return self.namespace

    def view(self, layout: MemoryLayout) -> "CostArray":
        """Return an array of the same memory in another layout."""
        return CostArray(self._buffer, layout, self.dtype)

    def astype(self, dtype: Any) -> "CostArray":
        return self.namespace.astype(self, dtype)  # type: ignore[no-any-return]

    def __getitem__(self, index: Any) -> "CostArray":
        return self.view(indexed(self.layout, index))

    def __setitem__(self, index: Any, value: Any) -> None:
        self.namespace.assign(self[index], value)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("an array without axes has no length")
        return self.shape[0]

    def _no_numbers(self) -> Any:
        raise TypeError("an array of vtnp.cost has no values to convert or compare")

    __bool__ = __int__ = __float__ = __index__ = __complex__ = _no_numbers
