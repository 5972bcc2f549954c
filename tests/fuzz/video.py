"""Targets: video files, options and names of them, read frame by frame, with motion, or copied."""

import random
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tests.fuzz import Case, WrongError, target
from tests.fuzz.mutations import INTEGERS, changed_bytes, hostile_name, special_file, string
from tests.video.clips import CLIPS, KINDS, OTHER_KINDS, tiny
from vtnp.video import (
    Coded,
    VideoError,
    encoded,
    files,
    read_coded,
    read_frames,
    token_motion,
    traced,
    transcode,
)
from vtnp.video.errors import shown

_REAL = ("bikes.mp4", "carphone_pristine.mp4", "carphone_distorted.mp4")
_MAX_PIXELS = 2**20  # in place of the real limit, to save time and memory
_MAX_TRACED = 2**16


# --- The structure of a file ----------------------------------------------------------------------


class Node(NamedTuple):
    """A part of a file that begins with its length: a box, an element, a chunk, a unit of H.264.

    start, content, end: where it begins, where what follows its header begins, and where it ends.
    size: where its length stands, of how many bytes, and in which order. Empty where it has none.
    """

    start: int
    content: int
    end: int
    size: tuple[int, int, str] | None


_BOXES_OF_BOXES = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"mvex", b"moof", b"traf"}


def boxes(data: bytes, start: int, end: int) -> list[Node]:
    """Return the boxes of MP4, those in boxes, and the units in the media data."""
    found: list[Node] = []
    while start + 8 <= end:
        length = int.from_bytes(data[start : start + 4])
        kind, stop = data[start + 4 : start + 8], start + length
        if length < 8 or stop > end:
            break
        found.append(Node(start, start + 8, stop, (start, 4, "big")))
        if kind in _BOXES_OF_BOXES:
            found += boxes(data, start + 8, stop)
        elif kind == b"stsd":
            found += boxes(data, start + 16, stop)
        elif kind == b"avc1":
            found += boxes(data, start + 86, stop)
        elif kind == b"mdat":
            found += units_with_lengths(data, start + 8, stop)
        start = stop
    return found


def units_with_lengths(data: bytes, start: int, end: int) -> list[Node]:
    """Return the units of H.264, each after its length in four bytes."""
    found: list[Node] = []
    while start + 4 <= end:
        stop = start + 4 + int.from_bytes(data[start : start + 4])
        if stop > end:
            break
        found.append(Node(start, start + 4, stop, (start, 4, "big")))
        start = stop
    return found


def units_with_codes(data: bytes, start: int, end: int) -> list[Node]:
    """Return the units of H.264, each after a start code."""
    code, found = b"\x00\x00\x01", []
    at = data.find(code, start, end)
    while at >= 0:
        after = data.find(code, at + 3, end)
        found.append(Node(at, at + 3, end if after < 0 else after, None))
        at = after
    return found


_ELEMENTS_OF_ELEMENTS = {
    bytes.fromhex(id)
    for id in ("18538067", "1f43b675", "1654ae6b", "ae", "e0", "114d9b74", "4dbb", "1c53bb6b", "bb",
               "b7", "1254c367", "7373")
}  # fmt: skip


def elements(data: bytes, start: int, end: int) -> list[Node]:
    """Return the elements of Matroska, and those in elements."""
    found: list[Node] = []
    while start + 2 <= end:
        id = data[start : start + 9 - data[start].bit_length()]
        at = start + len(id)
        width = 9 - data[at].bit_length() if at < end else 9
        content, unknown = at + width, 2 ** (7 * width) - 1
        length = int.from_bytes(data[at:content]) & unknown
        stop = end if length == unknown else content + length
        if width > 8 or stop > end:
            break
        found.append(Node(start, content, stop, (at, width, "big")))
        if id in _ELEMENTS_OF_ELEMENTS:
            found += elements(data, content, stop)
        start = stop
    return found


def chunks(data: bytes, start: int, end: int) -> list[Node]:
    """Return the chunks of AVI, and those in chunks."""
    found: list[Node] = []
    while start + 8 <= end:
        stop = start + 8 + int.from_bytes(data[start + 4 : start + 8], "little")
        if stop > end:
            break
        found.append(Node(start, start + 8, stop, (start + 4, 4, "little")))
        if data[start : start + 4] in {b"RIFF", b"LIST"}:
            found += chunks(data, start + 12, stop)
        start = stop + stop % 2
    return found


def packets(data: bytes, start: int, end: int) -> list[Node]:
    """Return the packets of an MPEG transport stream."""
    return [Node(at, at + 4, at + 188, None) for at in range(start, end - 187, 188)]


def tags(data: bytes, start: int, end: int) -> list[Node]:
    """Return the tags of FLV."""
    found: list[Node] = []
    start += 13
    while start + 15 <= end:
        stop = start + 15 + int.from_bytes(data[start + 1 : start + 4])
        if stop > end:
            break
        found.append(Node(start, start + 11, stop, (start + 1, 3, "big")))
        start = stop
    return found


_STRUCTURES: dict[str, Callable[[bytes, int, int], list[Node]]] = {
    ".mp4": boxes, ".mkv": elements, ".avi": chunks, ".ts": packets, ".flv": tags,
    ".h264": units_with_codes,
}  # fmt: skip


@cache
def parsed(name: str) -> tuple[bytes, tuple[Node, ...]]:
    """Return the bytes of a valid clip, and its structure."""
    data = (CLIPS / name).read_bytes() if name in _REAL else tiny(name)
    structure = _STRUCTURES.get(Path(name).suffix)
    return data, tuple(structure(data, 0, len(data))) if structure else ()


# --- Changes of it --------------------------------------------------------------------------------


def changed_video(rng: random.Random, name: str) -> bytes:
    """Change a valid clip where its structure is, mostly once."""
    data, nodes = parsed(name)
    if not nodes or rng.random() < 0.1:
        return changed_bytes(rng, data)
    if name in _REAL and rng.random() < 0.5:  # its structure is mostly that of its media data
        nodes = tuple(node for node in nodes if node.end - node.start < 1000)[:100]
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        data = rng.choice(_CHANGES)(rng, data, nodes)
    return data


def _other_size(rng: random.Random, data: bytes, nodes: Sequence[Node]) -> bytes:
    """Change the length of a part, or leave out its last bytes."""
    node = rng.choice(nodes)
    if node.size is None:
        return data[: max(node.start, node.end - rng.choice((1, 2, 9)))] + data[node.end :]
    at, width, order = node.size
    near = int.from_bytes(data[at : at + width], order)  # type: ignore[arg-type]
    other = near + rng.choice((-1, 1, -8, 8, -near, near, 100, 10**6, 2**31))
    new = rng.choice((other, other, rng.choice(INTEGERS))) % 256**width
    return data[:at] + new.to_bytes(width, order) + data[at + width :]  # type: ignore[arg-type]


def _other_kind(rng: random.Random, data: bytes, nodes: Sequence[Node]) -> bytes:
    """Change the name of a part, or the type of a unit."""
    node = rng.choice(nodes)
    at = node.content if node.size and node.size[0] == node.start else node.start
    at = at - 4 if rng.random() < 0.5 else at
    kinds = b"zzzz", b"\0" * 4, b"\xff" * 4, b"moov", b"mdat", rng.randbytes(1), rng.randbytes(1)
    kind = rng.choice(kinds)
    return data[:at] + kind + data[at + len(kind) :]


def _cut(rng: random.Random, data: bytes, nodes: Sequence[Node]) -> bytes:
    node = rng.choice(nodes)
    return data[: rng.choice((node.start, node.content, node.end)) + rng.choice((0, 0, -1, 1))]


def _drop(rng: random.Random, data: bytes, nodes: Sequence[Node]) -> bytes:
    node = rng.choice(nodes)
    return data[: node.start] + data[node.end :]


def _repeat(rng: random.Random, data: bytes, nodes: Sequence[Node]) -> bytes:
    node = rng.choice(nodes)
    part = data[node.start : node.end]
    return data[: node.end] + part * rng.choice((1, 1, 3, 100)) + data[node.end :]


def _exchange(rng: random.Random, data: bytes, nodes: Sequence[Node]) -> bytes:
    a, b = sorted(rng.choices(nodes, k=2))
    if a.end > b.start:
        return _drop(rng, data, nodes)
    first, second = data[a.start : a.end], data[b.start : b.end]
    return data[: a.start] + second + data[a.end : b.start] + first + data[b.end :]


def _other_integer(rng: random.Random, data: bytes, nodes: Sequence[Node]) -> bytes:
    """Write an integer into the first bytes of a part, where most numbers are."""
    node = rng.choice(nodes)
    at = node.content + rng.randrange(min(40, max(1, node.end - node.content)))
    width = rng.choice((1, 2, 4, 4, 8))
    return data[:at] + (rng.choice(INTEGERS) % 256**width).to_bytes(width) + data[at + width :]


def _flip(rng: random.Random, data: bytes, nodes: Sequence[Node]) -> bytes:
    node = rng.choice(nodes)
    content = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        at = rng.randrange(node.start, node.end) if node.end > node.start else 0
        if at < len(content):
            content[at] ^= 1 << rng.randrange(8)
    return bytes(content)


def _spoilt_text(rng: random.Random, data: bytes, _: Sequence[Node]) -> bytes:
    """Make text in the file something else than UTF-8."""
    for text in (b"Lavf", b"Lavc", b"und\0", b"VideoHandler", b"avc1", b"V_MPEG4"):
        if text in data and rng.random() < 0.7:
            spoilt = rng.choice((b"\xff\xfe\xc0\x80", b"\0\x1b[1", b"\xed\xa0\x80a"))
            data = data.replace(text, spoilt + text[4:])
    return data


_CHANGES = (
    _other_size, _other_size, _other_kind, _cut, _drop, _repeat, _exchange, _other_integer,
    _other_integer, _flip, _flip, _spoilt_text,
)  # fmt: skip


# --- Readers --------------------------------------------------------------------------------------


def _require(holds: object, what: str) -> None:
    if not holds:
        raise WrongError(what)


def read_by_any(rng: random.Random, path: Any, folder: Path) -> Callable[[], str]:
    """Return what reads a video in one of the three ways, and checks what it gets."""
    kind, gray = rng.choice(("frames", "coded", "copy")), rng.random() < 0.5
    stop, size = rng.choice((4, 9)), rng.choice((None, None, 8, (6, 10)))
    out = folder / rng.choice(("out.mp4", "out.mkv"))

    def read() -> str:
        most, files.MAX_PIXELS = files.MAX_PIXELS, _MAX_PIXELS
        try:
            if kind == "frames":
                _check_frames(read_frames(path, size=size, gray=gray, stop=stop), gray, stop)
            elif kind == "coded":
                _check_coded(read_coded(path, gray=gray, stop=stop), gray, stop)
            else:
                _check_copy(path, out, stop)
        finally:
            files.MAX_PIXELS = most
        return kind

    return read


def _check_frames(frames: Any, gray: bool, stop: int) -> None:
    T, H, W, C = frames.shape
    _require(frames.dtype == np.uint8, "frames of another dtype")
    _require(1 <= T <= stop and min(H, W) >= 1, f"frames of shape {frames.shape}")
    _require(gray == (C == 1) and C in {1, 3}, f"frames of shape {frames.shape}")


def _check_coded(coded: Coded, gray: bool, stop: int) -> None:
    _check_frames(coded.frames, gray, stop)
    last = len(coded.frames) - 1
    if coded.frames[0].size < _MAX_TRACED:
        for motion in (traced(coded, last, 0), traced(coded, 0, last)):
            _require(np.isfinite(motion.motion).all(), "motion that is not finite")
        token_motion(coded, sorted({0, last}), (1, 1))


def _check_copy(path: Any, out: Path, stop: int) -> None:
    try:
        transcode(path, out, stop=stop)
    except VideoError:
        _require(not out.exists(), "half a copy")
        raise
    finally:
        _require(not list(out.parent.glob(".*.part")), "a temporary file")
    copy = read_coded(out)
    _check_coded(copy, False, stop)
    _require(not copy.known[0].any(), "a copy that begins with no key frame")


# --- Targets --------------------------------------------------------------------------------------


@target("video", errors=(VideoError,), share=1.0)
def _video(rng: random.Random, folder: Path) -> Case:
    name = rng.choice(rng.choice((KINDS, KINDS, KINDS, KINDS, OTHER_KINDS, _REAL)))
    suffix = Path(name).suffix if rng.random() < 0.9 else rng.choice((".mp4", ".png", ".txt", ""))
    path = folder / hostile_name(rng, suffix)
    if rng.random() < 0.05:
        special_file(rng, path)
    else:
        path.write_bytes(changed_video(rng, name))
    return Case(read_by_any(rng, path, folder), (path, folder / "out.mp4", folder / "out.mkv"))


@target("video names", errors=(VideoError,), share=0.1)
def _video_names(rng: random.Random, folder: Path) -> Case:
    """Names of FFmpeg's protocols, and files that refer to other files."""
    (folder / "x.mp4").write_bytes(tiny("x.mp4"))
    inner = str(folder / "x.mp4")
    name = rng.choice((
        f"concat:{inner}|{inner}", f"file:{inner}", f"crypto:{inner}", f"cache:{inner}",
        f"async:{inner}", f"subfile,,start,0,end,100,,:{inner}", f"http://127.0.0.1:9/{inner}",
        "tcp://127.0.0.1:9", "udp://127.0.0.1:9", "rtsp://127.0.0.1:9/x", "pipe:0", "fd:0",
        "data:video/mp4;base64,AAAA", "unix:/tmp/x", "md5:x", f"tee:{inner}", "",
        string(rng, inner), string(rng),
    ))  # fmt: skip
    if rng.random() < 0.5:
        read = _refused(read_by_any(rng, name, folder), inner, name)
        return Case(read, (shown(name), folder / "out"))  # type: ignore[arg-type]
    path = folder / f"list{rng.choice(('.m3u8', '.ffconcat', '.sdp', '.mpd', '.mp4', ''))}"
    path.write_text(rng.choice(_PLAYLISTS).replace("INNER", rng.choice((inner, "x.mp4"))))
    return Case(_refused(read_by_any(rng, path, folder), inner, path), (path,))


_MANIFEST = """<?xml version="1.0"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period>
<AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1"><BaseURL>INNER</BaseURL>
</Representation></AdaptationSet></Period></MPD>"""
_SESSION = """v=0
o=- 0 0 IN IP4 127.0.0.1
s=x
c=IN IP4 127.0.0.1
t=0 0
m=video 9 RTP/AVP 96
a=rtpmap:96 H264/90000
"""
_PLAYLISTS = (
    "ffconcat version 1.0\nfile INNER\n",
    "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nINNER\n#EXT-X-ENDLIST\n",
    "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:9/INNER\n#EXT-X-ENDLIST\n",
    _SESSION,
    _MANIFEST,
)


def _refused(read: Callable[[], str], inner: str, name: Any) -> Callable[[], str]:
    """Return a reader that must not come to the file to which a name or a file refers."""

    def refused() -> str:
        kind = read()
        _require(str(name) == inner, f"{name} was followed")
        return kind

    return refused


_VALUES = (
    0, 1, 2, -1, 3, 99, 2**31, 2**63, 2**64, -(2**63), 10**30, 1.5, -0.0, float("nan"), 1j, True,
    False, None, "1", "", b"1", "a\nb", "x" * 10_000, (), (1,), (1, 2), (1, 2, 3), (0, 1), (-1, 2),
    (2**31, 2**31), (1.5, 2), [1, 2], [2, 1], [0, 0], {1: 2}, {1, 2}, range(2), iter((1, 2)), ...,
    object, np.int64(2), np.float32(2), np.array([1, 2]), np.array(2), np.zeros((2, 4, 4, 1)),
    np.zeros((2, 4, 4, 1), np.uint8), np.ma.zeros((2, 4, 4, 1), np.uint8),
    np.zeros((1, 0, 4, 4, 3), np.uint8),
)  # fmt: skip


@cache
def _clip() -> Coded:
    return encoded(np.zeros((3, 16, 24, 1), np.uint8))


@target("video options", errors=(VideoError,), share=0.1)
def _video_options(rng: random.Random, folder: Path) -> Case:
    """Options of wrong types and out of range, alone and together."""
    path, out = folder / "x.mp4", folder / "out.mkv"
    path.write_bytes(tiny("x.mp4"))
    coded = _clip()
    spoilt = coded._replace(**{rng.choice(coded._fields): rng.choice((*_VALUES, coded.known[:2]))})
    video = rng.choice((coded, spoilt))
    calls: dict[Callable[..., Any], dict[str, Any]] = {
        read_frames: {"path": path, "size": 8, "gray": True, "start": 1, "stop": 5, "step": 2},
        read_coded: {"path": path, "gray": True, "stop": 5},
        transcode: {"path": path, "out": out, "qp": 20, "stop": 5},
        encoded: {"frames": coded.frames, "qp": 20},
        traced: {"coded": video, "t": 2, "u": 0},
        token_motion: {"coded": video, "frames": [0, 2], "grid": (2, 3), "clips": 1},
    }  # fmt: skip
    function = rng.choice(tuple(calls))
    arguments = calls[function]
    for name in rng.sample(tuple(arguments), rng.choice((1, 1, 2))):
        arguments[name] = rng.choice(_VALUES)

    def read() -> str:
        function(**arguments)
        return function.__name__

    return Case(read)
