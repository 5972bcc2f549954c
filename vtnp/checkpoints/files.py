"""Arrays in safetensors files: written whole or not at all, checked before they are believed."""

import json
import math
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import get_ident
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SIZES = {
    "BOOL": 1, "U8": 1, "I8": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2, "U32": 4, "I32": 4,
    "F32": 4, "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip
_HEADER_AT_MOST = 100_000_000  # bytes, the format's own limit
_AXES_AT_MOST = 64  # NumPy's limit


class FileError(ValueError):
    """A file that cannot be read, written or believed; the message is one line and names it."""


def save(
    path: str | os.PathLike[str],
    arrays: Mapping[str, NDArray[Any]],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write named arrays, and texts beside them, into a safetensors file.

    Whatever happens, the file at `path` is the old one or the whole new one. It is read back and
    compared, bit for bit, before it takes that place.
    Raises FileError, also for names, texts and dtypes that the format does not have.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save as encoded

    if "__metadata__" in arrays:
        raise FileError(f"{path}: no array can have the name __metadata__")
    # safetensors 0.8.0 writes the memory of a strided view as if it were contiguous.
    whole = {name: _native(array) for name, array in arrays.items()}
    try:
        # Of no arrays and an empty table of texts it makes a broken header.
        data = encoded(whole, metadata=dict(metadata) if metadata else None)
    except (SafetensorError, TypeError, UnicodeError) as error:
        raise FileError(f"{path}: {one_line(error)}") from None
    with replacing(path) as temporary:
        temporary.write_bytes(data)
        _compare(path, load(temporary)[0], whole)


def load(path: str | os.PathLike[str]) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Read the arrays and the metadata of a safetensors file.

    Raises FileError for a missing, truncated or inconsistent file, and for arrays that NumPy cannot
    hold.
    Notes: bfloat16, which NumPy does not have, becomes float32, exactly, with a warning.
    """
    from safetensors import SafetensorError, safe_open

    header = read_header(path)
    metadata = header.pop("__metadata__", {})
    wide = {name: entry for name, entry in header.items() if entry["dtype"] == "BF16"}
    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in header if name not in wide}
        # As the header was checked, the data are the end of the file.
        ends = (entry["data_offsets"][1] for entry in header.values())
        begin = Path(path).stat().st_size - max(ends, default=0)
        arrays |= {name: _from_bfloat16(path, begin, entry) for name, entry in wide.items()}
    # A shape with a 0 in it may have any other numbers, and too many.
    except (OSError, OverflowError, SafetensorError, ValueError) as error:
        raise FileError(f"{path}: {one_line(error)}") from None
    if wide:
        warn_of_bfloat16(path)
    return arrays, metadata


def warn_of_bfloat16(path: str | os.PathLike[str]) -> None:
    """Tell that numbers of a file are not of the dtype that the file has."""
    told = "bfloat16, which NumPy does not have, is read as float32"
    warnings.warn(f"{path}: {told}", stacklevel=3)


def read_header(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the header of a safetensors file and hold it to the format.

    Gives for every name its dtype, shape and data_offsets, and __metadata__ where there is one.
    Raises FileError for a name that occurs twice (of which readers would silently take one), and
    for data that overlap, leave holes, or do not fill the file exactly.
    """
    try:
        with Path(path).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, _HEADER_AT_MOST):
                raise FileError(f"{path}: no safetensors file, or one cut short")
            text = file.read(length)
    except OSError as error:
        raise FileError(f"{path}: {one_line(error)}") from None
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_without_duplicates)
        _check(header, size - 8 - length)
    except (ValueError, RecursionError) as error:
        raise FileError(f"{path}: bad safetensors header: {one_line(error)}") from None
    return dict(header)


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside `path`; what was written there takes its place at the end.

    A process killed on the way, or a machine that loses power, leaves the old file as it was.
    Raises FileError where the system refuses.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{get_ident()}.part")
    try:
        try:
            yield temporary
            _flush(temporary)
            temporary.replace(path)
            _flush(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise FileError(f"{path}: {one_line(error)}") from None


def _native(array: NDArray[Any]) -> NDArray[Any]:
    array = np.asarray(array)
    return np.array(array, dtype=array.dtype.newbyteorder("="), order="C")


def _compare(path: Any, read: Mapping[str, Any], written: Mapping[str, Any]) -> None:
    for name in sorted({*read, *written}):
        if _told(read.get(name)) != _told(written.get(name)):
            raise FileError(f"{path}: {name} does not read back as it was written")


def _told(array: NDArray[Any] | None) -> Any:
    return None if array is None else (array.dtype, array.shape, array.tobytes())


def _flush(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _from_bfloat16(path: Any, begin: int, entry: Mapping[str, Any]) -> NDArray[Any]:
    """Read an array whose numbers are the upper halves of float32."""
    first, end = entry["data_offsets"]
    upper = np.fromfile(path, "<u2", (end - first) // 2, offset=begin + first)
    return (upper.astype(np.uint32) << 16).view(np.float32).reshape(entry["shape"])


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for name, value in pairs:
        if name in table:
            raise ValueError(f"{name!r} occurs twice")
        table[name] = value
    return table


def _check(header: Any, data: int) -> None:
    """Raise ValueError unless the header describes exactly `data` bytes."""
    texts = header.get("__metadata__", {}) if isinstance(header, dict) else None
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
        raise ValueError("no table, or its __metadata__ no table of texts")
    spans = sorted(_span(name, entry) for name, entry in header.items() if name != "__metadata__")
    place = 0
    for begin, end, name in spans:
        if begin != place:
            raise ValueError(f"{name!r} begins at byte {begin} of the data, expected {place}")
        place = end
    if place != data:
        raise ValueError(f"it describes {place} bytes of data, the file holds {data}")


def _span(name: str, entry: Any) -> tuple[int, int, str]:
    """Return where an array begins and ends, and its name."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{name!r} is no description of an array")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _SIZES:
        raise ValueError(f"{name!r} has the unknown dtype {dtype!r}")
    if not (_counts(shape) and _counts(offsets) and len(offsets) == 2):
        raise ValueError(f"{name!r} has a shape or offsets that are no lists of counts")
    if len(shape) > _AXES_AT_MOST:
        raise ValueError(f"{name!r} has {len(shape)} axes, more than NumPy's {_AXES_AT_MOST}")
    begin, end = offsets
    if end - begin != math.prod(shape) * _SIZES[dtype]:
        raise ValueError(f"{name!r} has {end - begin} bytes for a {dtype} array of shape {shape}")
    return begin, end, name


def _counts(x: Any) -> bool:
    return isinstance(x, list) and all(type(n) is int and n >= 0 for n in x)


def one_line(error: BaseException) -> str:
    """Return what an error tells, in a single line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split())
