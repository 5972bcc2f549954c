"""Arrays in safetensors files: written completely or not at all, checked before they are used."""

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
_MAX_HEADER = 100_000_000  # bytes, the limit of the format
_MAX_AXES = 64  # NumPy's limit


class FileError(ValueError):
    """A file that cannot be read or written, or is not valid; the message, one line, names it."""


def save(
    path: str | os.PathLike[str],
    arrays: Mapping[str, NDArray[Any]],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write named arrays into a safetensors file.

    Parameters
    ----------
    path : str or PathLike
        The file, which may exist.
    arrays : Mapping[str, array]
        Of NumPy, of any strides.
    metadata : Mapping[str, str], optional
        Strings that are stored with the arrays.

    Raises
    ------
    FileError
        If the file cannot be written, or the format has no such name, string or dtype.

    Notes
    -----
    Whatever happens, the file is the old one or the complete new one. The new one is read back and
    compared, bit for bit, before it replaces the old one.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save as encoded

    if "__metadata__" in arrays:
        raise FileError(f"{path}: no array can have the name __metadata__")
    # safetensors 0.8.0 writes the memory of a strided view as if it were contiguous.
    contiguous = {name: _native(array) for name, array in arrays.items()}
    try:
        # With no arrays and empty metadata it would write a broken header.
        data = encoded(contiguous, metadata=dict(metadata) if metadata else None)
    except (SafetensorError, TypeError, UnicodeError) as error:
        raise FileError(f"{path}: {one_line(error)}") from None
    with replacing(path) as temporary:
        temporary.write_bytes(data)
        _compare(path, load(temporary)[0], contiguous)


def load(path: str | os.PathLike[str]) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Read the arrays and the metadata of a safetensors file.

    Parameters
    ----------
    path : str or PathLike
        The file.

    Returns
    -------
    dict of str to array
        The arrays by name.
    dict of str to str
        The metadata.

    Raises
    ------
    FileError
        If the file is missing, truncated or inconsistent, or NumPy cannot hold an array.

    Warns
    -----
    UserWarning
        If arrays are bfloat16, which NumPy does not have: they become float32, exactly.
    """
    from safetensors import SafetensorError, safe_open

    header = read_header(path)
    metadata = header.pop("__metadata__", {})
    bfloat16 = {name: entry for name, entry in header.items() if entry["dtype"] == "BF16"}
    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in header if name not in bfloat16}
        # The header has been checked: the data are the end of the file.
        ends = (entry["data_offsets"][1] for entry in header.values())
        begin = Path(path).stat().st_size - max(ends, default=0)
        arrays |= {name: _from_bfloat16(path, begin, entry) for name, entry in bfloat16.items()}
    # A shape that contains 0 may contain any other numbers, even too large ones.
    except (OSError, OverflowError, SafetensorError, ValueError) as error:
        raise FileError(f"{path}: {one_line(error)}") from None
    if bfloat16:
        warn_of_bfloat16(path)
    return arrays, metadata


def warn_of_bfloat16(path: str | os.PathLike[str]) -> None:
    """Warn that numbers of a file are read with another dtype."""
    message = f"{path}: bfloat16, which NumPy does not have, is read as float32"
    warnings.warn(message, stacklevel=3)


def read_header(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the header of a safetensors file and check it against the format.

    Parameters
    ----------
    path : str or PathLike
        The file.

    Returns
    -------
    dict
        For every name its ``dtype``, ``shape`` and ``data_offsets``; and ``__metadata__`` if the
        file has any.

    Raises
    ------
    FileError
        If the header is not valid: among others if a name occurs twice, of which readers would
        silently take one, or if the data overlap, leave holes or do not fill the file exactly.
    """
    try:
        with Path(path).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, _MAX_HEADER):
                raise FileError(f"{path}: not a safetensors file, or truncated")
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
    """Replace a file completely or not at all, as a context manager.

    Parameters
    ----------
    path : str or PathLike
        The file, which may exist.

    Yields
    ------
    Path
        A temporary path in the same folder. At the end of the block, what was written there
        replaces the file.

    Raises
    ------
    FileError
        If the file system refuses.

    Notes
    -----
    If the block raises, the process is killed or the machine loses power, the old file remains.
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
        if _content(read.get(name)) != _content(written.get(name)):
            raise FileError(f"{path}: {name} does not read back as it was written")


def _content(array: NDArray[Any] | None) -> Any:
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
    strings = header.get("__metadata__", {}) if isinstance(header, dict) else None
    if not isinstance(strings, dict) or not all(isinstance(x, str) for x in strings.values()):
        raise ValueError("not an object, or its __metadata__ is not an object of strings")
    spans = sorted(_span(name, entry) for name, entry in header.items() if name != "__metadata__")
    expected = 0
    for begin, end, name in spans:
        if begin != expected:
            raise ValueError(f"{name!r} begins at byte {begin} of the data, expected {expected}")
        expected = end
    if expected != data:
        raise ValueError(f"it describes {expected} bytes of data, the file holds {data}")


def _span(name: str, entry: Any) -> tuple[int, int, str]:
    """Return where an array begins and ends, and its name."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{name!r} does not describe an array")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _SIZES:
        raise ValueError(f"{name!r} has the unknown dtype {dtype!r}")
    if not (_are_sizes(shape) and _are_sizes(offsets) and len(offsets) == 2):
        raise ValueError(f"{name!r} has a shape or offsets that are not lists of integers >= 0")
    if len(shape) > _MAX_AXES:
        raise ValueError(f"{name!r} has {len(shape)} axes, more than NumPy's {_MAX_AXES}")
    begin, end = offsets
    if end - begin != math.prod(shape) * _SIZES[dtype]:
        raise ValueError(f"{name!r} has {end - begin} bytes for a {dtype} array of shape {shape}")
    return begin, end, name


def _are_sizes(x: Any) -> bool:
    return isinstance(x, list) and all(type(n) is int and n >= 0 for n in x)


def one_line(error: BaseException) -> str:
    """Return the message of an error as a single line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split())
