"""Frames out of real video files, by PyAV (FFmpeg)."""

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


class VideoError(ValueError):
    """A file that no frames can be read from; the message is one line and names it."""


def read_frames(
    path: str | os.PathLike[str],
    *,
    size: tuple[int, int] | int | None = None,
    gray: bool = False,
    start: int = 0,
    stop: int | None = None,
    step: int = 1,
) -> NDArray[np.uint8]:
    """Read the frames of a video file, `T H W C`, in the order in which they are shown.

    size: (height, width) to scale every frame to by averaging areas, or the shorter side alone,
    in pixels. gray: one channel of brightness in place of red, green and blue. start, stop, step:
    which frames, as in a slice.
    Raises VideoError for a file that is missing, broken, or has no such frames; ImportError
    without PyAV.
    Notes: values are 0 ... 255. A rotation that the file asks players for is not carried out.
    """
    images = _decoded(path, size, "gray" if gray else "rgb24")
    frames = list(itertools.islice(images, start, stop, step))
    if not frames:
        raise VideoError(f"{path}: no frames {_slice(start, stop, step)}in this video")
    return np.stack(frames).reshape(len(frames), *frames[0].shape[:2], 1 if gray else 3)


def _decoded(
    path: Any, size: tuple[int, int] | int | None, form: str
) -> Iterator[NDArray[np.uint8]]:
    av = pyav()
    with reported(path) as count, av.open(os.fspath(path)) as container:
        if not container.streams.video:
            raise VideoError(f"{path}: no video in this file")
        for frame in container.decode(video=0):
            height, width = _scaled((frame.height, frame.width), size)
            small = frame.reformat(width=width, height=height, format=form, interpolation="AREA")
            yield small.to_ndarray()
            count.frames += 1


@dataclass
class Count:
    """How far the reading of a file has come."""

    frames: int = 0


@contextmanager
def reported(path: Any) -> Iterator[Count]:
    """Turn FFmpeg's errors into VideoErrors that name the file and where in it they came."""
    av, count = pyav(), Count()
    try:
        yield count
    except (av.FFmpegError, OSError) as error:
        reason = (error.strerror or str(error)).rstrip(".")
        where = f" after {count.frames} frames" if count.frames else ""
        raise VideoError(f"{path}: {reason}{where}") from None


def _scaled(own: tuple[int, int], size: tuple[int, int] | int | None) -> tuple[int, int]:
    if isinstance(size, int):
        height, width = (max(1, round(side * size / min(own))) for side in own)
        return height, width
    return own if size is None else size


def pyav() -> Any:
    """Import PyAV; raise an ImportError that names the extra where it is missing."""
    try:
        import av
    except ImportError:
        raise ImportError(
            "reading video files needs PyAV, which is not installed: pip install 'vtnp[video]'"
        ) from None
    # FFmpeg's own remarks on a broken file would come before, and hide, the one line that counts.
    av.logging.set_level(None)
    return av


def _slice(start: int, stop: int | None, step: int) -> str:
    if (start, stop, step) == (0, None, 1):
        return ""
    return f"{start}:{'' if stop is None else stop}:{step} "
