"""Devices, and the record of what happens on them."""

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

import vtnp

COUNT = 2
_PACKAGE = Path(vtnp.__file__).parent
_stack = [0]


class Device:
    """One of the two devices; entered, the current one."""

    __hash__ = None  # type: ignore[assignment]  # as CuPy's

    def __init__(self, device: Any = None) -> None:
        self.id = _stack[-1] if device is None else int(device)
        if self.id not in range(COUNT):
            raise ValueError(f"cudaErrorInvalidDevice: invalid device ordinal {self.id}")

    def __int__(self) -> int:
        return self.id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and self.id == other.id

    def __repr__(self) -> str:
        return f"<CUDA Device {self.id}>"

    def __enter__(self) -> Self:
        _stack.append(self.id)
        return self

    def __exit__(self, *exception: object) -> None:
        _stack.pop()

    def use(self) -> None:
        _stack[-1] = self.id

    def synchronize(self) -> None:
        noted("synchronisation", "cupy.cuda.Device.synchronize")


def current() -> int:
    """Return the number of the current device."""
    return _stack[-1]


class Transfer(NamedTuple):
    """A copy between host and device, or a wait of the host.

    kind: "upload", "download" or "synchronisation". what: CuPy's function. where: the function of
    vtnp that asked for it, outside `_array`, as in `tokens.patch_tokens`.
    """

    kind: str
    what: str
    where: str


@dataclass(eq=False)
class Record:
    """What happened within `watched`: calls of CuPy's functions by name, and transfers."""

    calls: Counter[str] = field(default_factory=Counter)
    transfers: list[Transfer] = field(default_factory=list)

    def of(self, *kinds: str) -> list[Transfer]:
        """Return the transfers of these kinds."""
        return [each for each in self.transfers if each.kind in kinds]


_records: list[Record] = []  # of the blocks that are being watched


@contextmanager
def watched() -> Iterator[Record]:
    """Record what happens within the block; blocks around it record it, too."""
    record = Record()
    _records.append(record)
    try:
        yield record
    finally:
        _records.remove(record)


def called(name: str) -> None:
    """Count a call."""
    for record in _records:
        record.calls[name] += 1


def noted(kind: str, what: str) -> None:
    """Note a transfer, where anybody watches."""
    if _records:
        transfer = Transfer(kind, what, asked_for_by())
        for record in _records:
            record.transfers.append(transfer)


def asked_for_by() -> str:
    """Return the innermost function of vtnp that runs, outside `_array` and `_registry`."""
    frame: Any = sys._getframe(1)
    lowest = ""
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(_PACKAGE):
            parts = path.relative_to(_PACKAGE).with_suffix("").parts
            name = ".".join((*parts, frame.f_code.co_qualname.split(".<locals>")[0]))
            if parts[0] not in {"_array", "_registry"}:
                return name
            lowest = lowest or name
        frame = frame.f_back
    return lowest
