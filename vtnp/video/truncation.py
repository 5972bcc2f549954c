"""Files that end before the length that they declare: MP4, Matroska and AVI."""

import os
import struct
from typing import BinaryIO

_INDEXES, _MEDIA = {b"moov", b"meta"}, {b"mdat", b"moof"}
_BOXES = _INDEXES | _MEDIA | {
    b"ftyp", b"free", b"skip", b"wide", b"uuid", b"mfra", b"styp", b"sidx", b"pnot", b"udta",
}  # fmt: skip
_EBML, _SEGMENT = bytes.fromhex("1a45dfa3"), bytes.fromhex("18538067")
_ELEMENTS = {
    _EBML, _SEGMENT, b"\xec", b"\xbf",
    *map(bytes.fromhex, (
        "114d9b74", "1549a966", "1654ae6b", "1f43b675", "1c53bb6b", "1254c367", "1941a469",
        "1043a770",
    )),
}  # fmt: skip
_LONGEST = 12  # bytes of an element's name and length


def truncation(file: BinaryIO) -> str | None:
    """Return what is missing at the end of a file; None where nothing is, or it cannot be told."""
    size = file.seek(0, os.SEEK_END)
    head = _read(file, 0, 8)
    if head[4:] in _BOXES:
        return _of_boxes(file, size)
    if head[:4] == _EBML:
        return _of_elements(file, size)
    return _of_chunks(file, size) if head[:4] == b"RIFF" else None


def _of_boxes(file: BinaryIO, size: int) -> str | None:
    """Walk the boxes of an MP4 or QuickTime file."""
    at, kinds = 0, set()
    while size - at >= 8:
        length, kind = struct.unpack(">I4s", _read(file, at, 8))
        if kind not in _BOXES:
            return None
        kinds.add(kind)
        if length == 0:  # the box is the rest of the file
            length = size - at
        elif length == 1:
            length = int.from_bytes(_read(file, at + 8, 8))
        at += max(length, 8)
    if at > size:
        return _bytes(at - size)
    if not kinds & _INDEXES:
        return "its index is missing"
    return None if kinds & _MEDIA else "its media data are missing"


def _of_elements(file: BinaryIO, size: int) -> str | None:
    """Walk the elements of a Matroska or WebM file; its segment may be of unknown length."""
    at, id, known = 0, b"", False
    while at < size and not (id == _SEGMENT and known):
        head = _read(file, at, _LONGEST)
        id = head[: _width(head, 0)]
        number = head[len(id) : len(id) + _width(head, len(id))]
        if len(number) < _width(head, len(id)):
            return "its last element is incomplete" if len(head) < _LONGEST else None
        unknown = 2 ** (7 * len(number)) - 1
        length = int.from_bytes(number) & unknown
        known = length != unknown
        if id not in _ELEMENTS or (id != _SEGMENT and not known):
            return None
        at += len(id) + len(number) + (length if known else 0)
    if at > size:
        return _bytes(at - size)
    return "its segment is missing" if id == _EBML else None


def _width(head: bytes, at: int) -> int:
    """Return how many bytes the number at a position has, as its first byte tells."""
    return 9 - head[at].bit_length() if at < len(head) else 1


def _of_chunks(file: BinaryIO, size: int) -> str | None:
    """Walk the RIFF chunks of an AVI file."""
    at = 0
    while size - at >= 8:
        name, length = struct.unpack("<4sI", _read(file, at, 8))
        if name != b"RIFF":
            return None
        at += 8 + length
    return _bytes(at - size) if at > size else None


def _bytes(count: int) -> str:
    return f"{count} bytes are missing"


def _read(file: BinaryIO, at: int, count: int) -> bytes:
    file.seek(at)
    return file.read(count)
