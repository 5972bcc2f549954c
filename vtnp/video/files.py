"""Video files: opened, decoded frame by frame, and every fault of theirs raised as a VideoError."""

import ctypes
import errno
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from vtnp._registry.printable import printable
from vtnp.video.errors import VideoError, path_of, shown
from vtnp.video.truncation import truncation

MAX_PIXELS = 2**26  # of a frame: 8192 x 8192
_OTHER_MEMORY = 2**24  # bytes, for all that is not a frame
_PROTOCOL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+[:,]")


class Reader:
    """A file as PyAV reads it.

    Of exceptions that come from here PyAV would print all but the last. error: the first one.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.tell = file.tell
        self.error: OSError | None = None
        file.seek(0)

    def read(self, count: int) -> bytes:
        try:
            return self.file.read(count)
        except OSError as error:
            self.error = self.error or error
            return b""

    def seek(self, offset: int, whence: int) -> int:
        try:
            return self.file.seek(offset, whence)
        except (OSError, ValueError):  # a broken file refers to what is before its beginning
            return -errno.EINVAL


@dataclass
class Source:
    """An open video.

    name: as errors name it. decoded: how many frames have been decoded. size: height and width of
    the first one.
    """

    name: str
    reader: Reader
    container: Any
    stream: Any
    decoded: int = 0
    size: tuple[int, int] | None = None

    def frames(
        self, *, one_size: bool = True, inspect: Callable[[Any], object] = lambda _: None
    ) -> Iterator[Any]:
        """Yield the frames in display order.

        one_size: whether all frames must have the size of the first. inspect: sees each packet
        before it is decoded.
        """
        try:
            for packet in self.container.demux(self.stream):
                if packet.is_corrupt:
                    raise _fault(self.name, self.reader, "a damaged packet", self.decoded)
                inspect(packet)
                for frame in packet.decode():
                    self._check(frame, one_size=one_size)
                    yield frame
                    self.decoded += 1
        except _errors() as error:
            raise _fault(self.name, self.reader, _reason(error), self.decoded) from None
        if self.reader.error or truncation(self.reader.file):
            raise _fault(self.name, self.reader, "", self.decoded)

    def _check(self, frame: Any, *, one_size: bool) -> None:
        if frame.is_corrupt:
            raise _fault(self.name, self.reader, "a damaged frame", self.decoded)
        size = frame.height, frame.width
        if self.size is None:
            self.size = size
        if one_size and size != self.size:
            before, after = (f"{height} x {width}" for height, width in (self.size, size))
            raise VideoError(
                f"{self.name}: the size changes from {before} to {after} pixels after "
                f"{self.decoded} frames"
            )


@contextmanager
def opened(path: Any) -> Iterator[Source]:
    """Open the video in a file; errors of FFmpeg and the file system become VideoErrors.

    A path is a file's, never one of FFmpeg's protocols such as http: or concat:.
    """
    path = path_of("path", path)
    name = shown(path)
    with named(name):
        try:
            regular = stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116 - as a string, for PyAV
        except FileNotFoundError:
            if _PROTOCOL.match(path):
                raise VideoError(
                    f"{name}: no file, and FFmpeg's protocols are not opened"
                ) from None
            raise
        if not regular:
            raise VideoError(f"{name}: not a regular file")
        with open(path, "rb") as file, source(file, name) as video:  # noqa: PTH123
            yield video


@contextmanager
def source(file: BinaryIO, name: str) -> Iterator[Source]:
    """Open the video in a file or buffer; name: as errors name it."""
    av = pyav()
    reader = Reader(file)
    # What a playlist refers to is not opened, be it on this machine or another.
    options = {"protocol_whitelist": "none"}
    with _allocations_up_to(4 * MAX_PIXELS + _OTHER_MEMORY):
        try:
            # Text in a file need not be UTF-8.
            container = av.open(reader, options=options, metadata_errors="replace")
        except _errors() as error:
            raise _fault(name, reader, _reason(error)) from None
        with container:
            yield Source(name, reader, container, _first_video(name, reader, container))


@contextmanager
def _allocations_up_to(most: int) -> Iterator[None]:
    """Let FFmpeg take no more memory at once, whatever the numbers in a file.

    Its own limit is 2 GiB. PyAV does not pass it on, but is linked to the library that has it.
    """
    library = ctypes.CDLL(pyav()._core.__file__)  # noqa: SLF001 - one of its libraries
    limit = getattr(library, "av_max_alloc", lambda _: None)
    limit(ctypes.c_size_t(most))
    try:
        yield
    finally:
        limit(ctypes.c_size_t(2**31 - 1))


def _first_video(name: str, reader: Reader, container: Any) -> Any:
    cover = pyav().stream.Disposition.attached_pic
    streams = container.streams.video
    videos = [each for each in streams if not each.disposition & cover]
    if not videos:
        what = "only a cover picture" if streams else "no video stream"
        raise _fault(name, reader, f"{what} in this file")
    video = videos[0]
    decoder = video.codec_context
    if decoder is None:
        raise _fault(name, reader, "FFmpeg has no decoder of this video")
    require_size(name, decoder.height, decoder.width)
    decoder.options = {"max_pixels": str(MAX_PIXELS)}
    return video


def require_size(name: str, height: int, width: int) -> None:
    """Raise VideoError for frames that are too large."""
    if height * width > MAX_PIXELS:
        raise VideoError(
            f"{name}: {height} x {width} pixels in a frame; at most {MAX_PIXELS} are read"
        )


def held(
    name: str, rows: Iterable[tuple[NDArray[Any], ...]], *, none: str
) -> tuple[NDArray[Any], ...]:
    """Stack what belongs to each frame; raise VideoError before it takes all memory.

    none: what is wrong where there are no frames.
    """
    most, taken = _memory() / 2, 0  # the stacked arrays are a second copy
    found: list[tuple[NDArray[Any], ...]] = []
    for row in rows:
        taken += sum(each.nbytes for each in row)
        if taken > most:
            raise VideoError(f"{name}: {len(found) + 1} frames do not fit into memory")
        found.append(row)
    if not found:
        raise VideoError(f"{name}: {none}")
    return tuple(map(np.stack, zip(*found, strict=True)))


def _memory() -> float:
    """Return the memory of this machine in bytes; infinity where it is not known."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError):
        return float("inf")


@contextmanager
def named(name: str) -> Iterator[None]:
    """Turn errors of FFmpeg and the file system into VideoErrors that begin with a name."""
    try:
        yield
    except _errors() as error:
        raise VideoError(f"{name}: {_reason(error)}") from None


def _errors() -> tuple[type[Exception], ...]:
    return pyav().FFmpegError, OSError, MemoryError


def _reason(error: Any) -> str:
    reason = getattr(error, "strerror", None) or str(error) or "not enough memory"
    return printable(reason.rstrip("."))


def _fault(name: str, reader: Reader, reason: str, decoded: int = 0) -> VideoError:
    """Return the error of a file, which says how much could be read."""
    if reader.error:
        reason = _reason(reader.error)
    elif missing := truncation(reader.file):
        return VideoError(f"{name}: truncated after {decoded} frames: {missing}")
    elif not reader.file.seek(0, os.SEEK_END):
        return VideoError(f"{name}: the file is empty")
    return VideoError(f"{name}: {reason}{f' after {decoded} frames' if decoded else ''}")


def pyav() -> Any:
    """Import PyAV; raise an ImportError that names the extra where it is missing."""
    try:
        import av
    except ImportError:
        raise ImportError("video files need PyAV: pip install 'vtnp[video]'") from None
    return av
