"""Frames of video files."""

import itertools
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtnp.video.errors import flag, integer, integers
from vtnp.video.files import held, opened, require_size


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
        Which frames to read, as in a slice, but counted from the beginning; left out, all of them.

    Returns
    -------
    array
        Frames, `T H W C`, with values from 0 to 255.

    Raises
    ------
    VideoError
        If an option is out of its range; if the file is missing, not a regular file, broken or
        truncated, or has no such frames; if frames have more than 2^26 pixels, do not fit into
        memory, or change their size, unless `size` is a height and a width.
    ImportError
        If PyAV is not installed.

    Notes
    -----
    A rotation in the file's metadata is not applied. The two fields of an interlaced frame are its
    odd and even rows. Samples of more than 8 bits are reduced to 8, without tone mapping. What
    a playlist refers to is not opened. The lengths in MP4, Matroska and AVI tell whether a file is
    truncated; in other formats, and where FFmpeg's decoder conceals damage without a mark, nothing
    does.
    """
    scaled_to, gray = _checked_size(size), flag("gray", gray)
    start, step = integer("start", start, 0), integer("step", step, 1)
    stop = None if stop is None else integer("stop", stop, 0)
    with opened(path) as video:
        frames = video.frames(one_size=not isinstance(scaled_to, tuple))
        chosen = itertools.islice(frames, start, stop, step)
        (images,) = held(
            video.name,
            ((_image(video.name, frame, scaled_to, gray=gray),) for frame in chosen),
            none=f"no frames {_slice_as_text(start, stop, step)}in this video",
        )
    return images.reshape(*images.shape[:3], 1 if gray else 3)


def _image(
    name: str, frame: Any, size: tuple[int, int] | int | None, *, gray: bool
) -> NDArray[np.uint8]:
    height, width = _scaled((frame.height, frame.width), size)
    require_size(name, height, width)
    pixel_format = "gray" if gray else "rgb24"
    image = frame.reformat(width=width, height=height, format=pixel_format, interpolation="AREA")
    return np.asarray(image.to_ndarray())


def _checked_size(size: Any) -> tuple[int, int] | int | None:
    if size is None:
        return None
    if not hasattr(size, "__iter__"):
        return integer("size", size, 1)
    height, width = (integer("size", side, 1) for side in integers("size", size, 2))
    return height, width


def _scaled(original: tuple[int, int], size: tuple[int, int] | int | None) -> tuple[int, int]:
    if isinstance(size, int):
        height, width = (max(1, round(side * size / min(original))) for side in original)
        return height, width
    return original if size is None else size


def _slice_as_text(start: int, stop: int | None, step: int) -> str:
    if (start, stop, step) == (0, None, 1):
        return ""
    return f"{start}:{'' if stop is None else stop}:{step} "
