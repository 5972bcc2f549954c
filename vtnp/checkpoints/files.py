"""Arrays in safetensors files: written completely or not at all, checked before they are used."""

import json
import math
import os
import warnings
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from vtnp._registry.printable import printable
from vtnp.checkpoints.opening import FileError, check_name, one_line, reading
from vtnp.checkpoints.replacement import replacing

_DTYPES = {
    "BOOL": "u1", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "F16": "<f2", "BF16": "<u2",
    "U32": "<u4", "I32": "<i4", "F32": "<f4", "U64": "<u8", "I64": "<i8", "F64": "<f8",
}  # fmt: skip
_SIZES = {name: np.dtype(dtype).itemsize for name, dtype in _DTYPES.items()}
_MAX_HEADER = 100_000_000  # bytes, the limit of the format
_MAX_AXES = 64  # NumPy's limit


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
        for name in contiguous:
            check_name(name)
    except (SafetensorError, TypeError, ValueError) as error:
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

    Notes
    -----
    The arrays take as much memory as the file, or twice as much of bfloat16, and the header about
    twenty times its length, which is at most 100 MB.
    """
    with reading(path) as file:
        header, begin = _header(path, file)
        metadata = header.pop("__metadata__", {})
        try:
            arrays = {name: _array(file, begin, name, entry) for name, entry in header.items()}
        # A shape that contains 0 may contain any other numbers, even too large ones.
        except (MemoryError, OverflowError, ValueError) as error:
            raise FileError(f"{path}: {one_line(error)}") from None
    if any(entry["dtype"] == "BF16" for entry in header.values()):
        warn_of_bfloat16(path)
    return arrays, metadata


def warn_of_bfloat16(path: str | os.PathLike[str]) -> None:
    """Warn that numbers of a file are read with another dtype."""
    message = f"{path}: bfloat16, which NumPy does not have, is read as float32"
    warnings.warn(printable(message), stacklevel=3)


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
    with reading(path) as file:
        return _header(path, file)[0]


def _header(path: Any, file: BinaryIO) -> tuple[dict[str, Any], int]:
    """Return the header of an open file, and where its data begin."""
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > min(size - 8, _MAX_HEADER):
        raise FileError(f"{path}: not a safetensors file, or truncated")
    try:
        text = file.read(length).decode("utf-8")
        header = json.loads(text, object_pairs_hook=_without_duplicates)
        _check(header, size - 8 - length)
    except (MemoryError, RecursionError, ValueError) as error:
        raise FileError(f"{path}: bad safetensors header: {one_line(error)}") from None
    return dict(header), 8 + length


def _array(file: BinaryIO, begin: int, name: str, entry: Mapping[str, Any]) -> NDArray[Any]:
    """Read an array of a header that has been checked."""
    first, end = entry["data_offsets"]
    kind, dtype = entry["dtype"], np.dtype(_DTYPES[entry["dtype"]])
    file.seek(begin + first)
    numbers = np.fromfile(file, dtype, (end - first) // dtype.itemsize)
    if numbers.nbytes != end - first:
        raise ValueError(f"{name!r} has lost some of its data while it was read")
    return _typed(name, numbers.reshape(entry["shape"]), kind)


def _typed(name: str, x: NDArray[Any], kind: str) -> NDArray[Any]:
    """Return what was read in a dtype of its size in its own dtype."""
    if kind == "BOOL":
        return truth_values(name, x)
    if kind == "BF16":  # the upper halves of float32
        return (x.astype(np.uint32) << 16).view(np.float32)
    return x.astype(x.dtype.newbyteorder("="), copy=False)


def truth_values(name: str, x: NDArray[np.uint8]) -> NDArray[np.bool]:
    """Return bytes as truth values, of which only 0 and 1 mean what they say."""
    if np.any(x > 1):
        raise ValueError(f"{name!r} has truth values other than 0 and 1")
    return x.view(np.bool)


def _native(array: NDArray[Any]) -> NDArray[Any]:
    array = np.asarray(array)
    return np.array(array, dtype=array.dtype.newbyteorder("="), order="C")


def _compare(path: Any, read: Mapping[str, Any], written: Mapping[str, Any]) -> None:
    for name in sorted({*read, *written}):
        if _content(read.get(name)) != _content(written.get(name)):
            raise FileError(f"{path}: {name} does not read back as it was written")


def _content(array: NDArray[Any] | None) -> Any:
    return None if array is None else (array.dtype, array.shape, array.tobytes())


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
    "".join([*strings, *strings.values()]).encode()  # raises ValueError unless it is Unicode
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
    check_name(name)
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
