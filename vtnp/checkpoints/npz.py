"""Arrays in NumPy's archives, whose sizes are checked before anything is unpacked."""

import ast
import math
import os
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from vtnp.checkpoints.files import truth_values
from vtnp.checkpoints.opening import FileError, check_name, one_line, reading

# What the arrays of a packed file may take: MOST_UNPACKED bytes, or that many times its size.
# Weights are hardly smaller when packed; a thousandth is as small as it gets.
MOST_UNPACKED = 32 * 2**20
MOST_TIMES = 20

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # those of np.savez, unpacked piece by piece
_PIECE = 2**20  # bytes
_MAGIC = b"\x93NUMPY"
_LENGTHS: Mapping[bytes, int] = {b"\1\0": 2, b"\2\0": 4}  # of the header's length, by version
_MAX_HEADER = 10_000  # bytes, NumPy's own limit
# Nothing that Python's parser warns of or evaluates: brackets, integers, truth values, strings.
_LITERALS = re.compile(
    r"""(?:[\s{}\[\]():,-]|'[^'"\\\0-\x1f]*'|"[^'"\\\0-\x1f]*"|\b(?:True|False|\d+L?)\b)*"""
)
_NUMERIC = re.compile(r"[<>|=]?(?:\?|[biufc]\d{1,2})")


def from_npz(path: Path, most: int | None = None) -> dict[str, NDArray[Any]]:
    """Read an archive array by array, checking each header first, which np.load trusts.

    most: bytes that all arrays may take, if fewer than there is a limit for anyway.
    Raises FileError.
    """
    tensors: dict[str, NDArray[Any]] = {}
    with (
        reading(path) as opened,
        errors_as_file_errors(path, "bad .npz"),
        zipfile.ZipFile(opened) as archive,
    ):
        members = archive.infolist()
        refuse_large(members, os.fstat(opened.fileno()).st_size, most)
        for member in members:
            name = _name(member)
            if name in tensors:
                raise ValueError(f"{name!r} occurs twice")
            with archive.open(member) as file:
                tensors[name] = _array(file, name, member.file_size)
    return tensors


def refuse_large(members: Iterable[zipfile.ZipInfo], size: int, most: int | None = None) -> None:
    """Raise ValueError for members that are too large when unpacked; size: of the archive."""
    unpacked, limit = sum(each.file_size for each in members), max(MOST_UNPACKED, MOST_TIMES * size)
    if unpacked > limit:
        raise ValueError(
            f"{unpacked} bytes when unpacked, more than {MOST_UNPACKED} and {MOST_TIMES} times "
            "its size: store it without packing"
        )
    if most is not None and unpacked > most:
        raise ValueError(f"{unpacked} bytes when unpacked, more than {most}")


def _name(member: zipfile.ZipInfo) -> str:
    """Return the name of the array that a member holds."""
    name, whole = member.filename.removesuffix(".npy"), member.orig_filename
    check_name(whole)
    if not (whole.isascii() or member.flag_bits & 0x800):
        raise ValueError(f"the name {whole!r} is not said to be UTF-8")
    if name == member.filename:
        raise ValueError(f"{name!r} is not an array")
    if member.compress_type not in _METHODS:
        raise ValueError(f"{name!r} is packed by method {member.compress_type} of zip")
    return name


def _array(file: IO[bytes], name: str, size: int) -> NDArray[Any]:
    shape, columns_first, dtype = _header(file, name)
    data, described = size - file.tell(), math.prod(shape) * dtype.itemsize
    if data != described or any(n < 0 for n in shape):
        raise ValueError(f"{name!r} has {data} bytes for a {dtype} array of shape {shape}")
    x = np.empty(shape[::-1] if columns_first else shape, "u1" if dtype.kind == "b" else dtype)
    content, begin = x.reshape(-1).view(np.uint8), 0
    # The archive's directory may be wrong about the length. In pieces, it is unpacked no further.
    while begin < data:
        piece = file.read(min(_PIECE, data - begin))
        if not piece:
            raise ValueError(f"{name!r} ends after {begin} of its {data} bytes")
        content[begin : begin + len(piece)] = np.frombuffer(piece, np.uint8)
        begin += len(piece)
    if file.read(1):
        raise ValueError(f"{name!r} has more than its {data} bytes")
    x = x.T if columns_first else x
    if dtype.kind == "b":
        return truth_values(name, x)
    return x.astype(dtype.newbyteorder("="), copy=False)


def _header(file: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read the shape, the order and the dtype of an array."""
    if file.read(len(_MAGIC)) != _MAGIC:
        raise ValueError(f"{name!r} does not begin with the magic string of NumPy's arrays")
    version = file.read(2)
    if version not in _LENGTHS:
        raise ValueError(f"{name!r} has version {tuple(version)} of the format")
    length = int.from_bytes(file.read(_LENGTHS[version]), "little")
    if length > _MAX_HEADER:
        raise ValueError(f"{name!r} has a header of {length} bytes, more than {_MAX_HEADER}")
    match _fields(file.read(length).decode("latin1")):
        case {"descr": descr, "fortran_order": bool(order), "shape": tuple(shape), **more} if (
            not more and all(type(n) is int for n in shape)
        ):
            return shape, order, _dtype(name, descr)
    raise ValueError(f"{name!r} has a header that is not a dict of descr, fortran_order and shape")


def _fields(text: str) -> Any:
    """Return the literal that a header is; None for anything else."""
    if not _LITERALS.fullmatch(text):
        return None
    try:
        return ast.literal_eval(re.sub(r"(\d)L\b", r"\1", text).strip())  # 2L: of Python 2
    except (MemoryError, RecursionError, SyntaxError, TypeError, ValueError):
        return None


def _dtype(name: str, descr: Any) -> np.dtype[Any]:
    if not (isinstance(descr, str) and _NUMERIC.fullmatch(descr)):
        told = "object" if descr in ("O", "|O") else descr
        raise ValueError(f"{name!r} has the dtype {told}, which is not numeric")
    return np.dtype(descr.replace("=", ""))


@contextmanager
def errors_as_file_errors(path: Path, what: str) -> Iterator[None]:
    """Turn whatever a reader of untrusted files raises into a FileError."""
    try:
        yield
    except (FileError, OSError):
        raise
    # zipfile, zlib, struct, pickle and torch each have errors of their own.
    except Exception as error:  # noqa: BLE001
        raise FileError(f"{path}: {what}: {one_line(error)}") from None
