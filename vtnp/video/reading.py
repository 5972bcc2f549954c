"""Frames of video files."""

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


class VideoError(ValueError):
    """A video that cannot be read or written; the message is one line and names the file."""


def read_frames(
    path: str | os.PathLike[str],
    *,
    size: tuple[int, int] | int | None = None,
    gray: bool = False,
    start: int = 0,
    stop: int | None = None,
    step: int = 1,
) -> NDArray[np.uint8]:
    """Read the frames of a video file in display order.

    Parameters
    ----------
    path : str or path
        The file.
    size : (int, int) or int, optional
        Height and width that every frame is scaled to, by averaging areas, or the length of the
        shorter side alone; left out, frames keep their size.
    gray : bool, optional
        One channel of luma in place of red, green and blue.
    start, stop, step : int, optional
        Which frames to read, as in a slice; left out, all of them.

    Returns
    -------
    array
        Frames, `T H W C`, with values from 0 to 255.

    Raises
    ------
    VideoError
        If the file is missing or broken, or has no such frames.
    ImportError
        If PyAV is not installed.

    Notes
    -----
    A rotation in the file's metadata is not applied.
    """
    images = _decoded(path, size, "gray" if gray else "rgb24")
    frames = list(itertools.islice(images, start, stop, step))
    if not frames:
        raise VideoError(f"{path}: no frames {_slice_as_text(start, stop, step)}in this video")
    return np.stack(frames).reshape(len(frames), *frames[0].shape[:2], 1 if gray else 3)


def _decoded(
    path: Any, size: tuple[int, int] | int | None, pixel_format: str
) -> Iterator[NDArray[np.uint8]]:
    av = pyav()
    with ffmpeg_errors(path) as progress, av.open(os.fspath(path)) as container:
        video_stream(path, container)
        for frame in container.decode(video=0):
            height, width = _scaled((frame.height, frame.width), size)
            image = frame.reformat(
                width=width, height=height, format=pixel_format, interpolation="AREA"
            )
            yield image.to_ndarray()
            progress.frames += 1


@dataclass
class Progress:
    """The number of frames of a file that have been read."""

    frames: int = 0


@contextmanager
def ffmpeg_errors(path: Any) -> Iterator[Progress]:
    """Turn FFmpeg's errors into VideoErrors that name the file, and the frames read before."""
    av, progress = pyav(), Progress()
    try:
        yield progress
    except (av.FFmpegError, OSError) as error:
        reason = (error.strerror or str(error)).rstrip(".")
        after = f" after {progress.frames} frames" if progress.frames else ""
        raise VideoError(f"{path}: {reason}{after}") from None


def video_stream(path: Any, container: Any) -> Any:
    """Return the first video stream of an open file; raise VideoError where there is none."""
    if not container.streams.video:
        raise VideoError(f"{path}: no video stream in this file")
    return container.streams.video[0]


def pyav() -> Any:
    """Import PyAV; raise an ImportError that names the extra where it is missing."""
    try:
        import av
    except ImportError:
        raise ImportError("video files need PyAV: pip install 'vtnp[video]'") from None
    # FFmpeg prints remarks on a broken file, which would hide the one line that counts.
    av.logging.set_level(None)
    return av


def _scaled(original: tuple[int, int], size: tuple[int, int] | int | None) -> tuple[int, int]:
    if isinstance(size, int):
        height, width = (max(1, round(side * size / min(original))) for side in original)
        return height, width
    return original if size is None else size


def _slice_as_text(start: int, stop: int | None, step: int) -> str:
    if (start, stop, step) == (0, None, 1):
        return ""
    return f"{start}:{'' if stop is None else stop}:{step} "
