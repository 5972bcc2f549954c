"""Copies of videos, and clips, encoded to H.264 whose motion can be traced."""

import io
import itertools
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from threading import get_ident
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtnp.video.errors import VideoError, integer, path_of, shown
from vtnp.video.files import named, opened, pyav, source
from vtnp.video.motion import Coded, coded_of

_FORMATS = {".mp4": "mp4", ".mkv": "matroska"}
_ANY_FRAME, _I_FRAME = 0, 1
_MAX_SIDE = 16384  # pixels, of the encoder
_MAX_QP = 51
_RATE = Fraction(25)  # frames a second, where nothing tells


def transcode(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    qp: int = 20,
    stop: int | None = None,
) -> None:
    """Write a copy of a video as H.264 in which every frame refers to the frame before alone.

    Parameters
    ----------
    path : str or path
        The file.
    out : str or path
        The copy; its name ends in .mp4 or .mkv. What has that name is replaced.
    qp : int, optional
        Quantiser, from 0 (lossless) to 51.
    stop : int, optional
        How many frames to copy; left out, all of them.

    Raises
    ------
    VideoError
        If an option is out of its range, the file cannot be read, as `read_frames` says, or the
        copy cannot be written.
    ImportError
        If PyAV is not installed.

    Notes
    -----
    The copy has no B-frames, one reference frame and one key frame. Its motion vectors are those
    of the encoder's motion search, not of the original file. It has the mean frame rate of the
    file, and neither its sound nor its metadata. It is written completely or not at all.
    """
    qp, stop = integer("qp", qp, 0, _MAX_QP), None if stop is None else integer("stop", stop, 0)
    with opened(path) as video:
        pictures = _pictures(itertools.islice(video.frames(), stop))
        first = next(pictures, None)
        if first is None:
            raise VideoError(f"{video.name}: no frames in this video")
        with _written(out) as target:
            rate = video.stream.average_rate or _RATE
            _encode(target, itertools.chain([first], pictures), qp, rate)


def encoded(frames: NDArray[np.uint8], *, qp: int = 20) -> Coded:
    """Encode clips to H.264 in memory, and decode them again with their motion vectors.

    Parameters
    ----------
    frames : array
        Clips, `*b T H W C`, of uint8; C is 1 (luma) or 3 (red, green, blue).
    qp : int, optional
        Quantiser, from 0 (lossless) to 51.

    Returns
    -------
    Coded
        Decoded frames and motion vectors.

    Raises
    ------
    VideoError
        If the frames have another dtype or shape, qp is out of its range, or PyAV has no encoder
        for H.264.
    ImportError
        If PyAV is not installed.

    Notes
    -----
    Each clip begins with a key frame and is encoded on its own. H.264 is lossy: the decoded frames
    differ from the given ones.
    """
    qp = integer("qp", qp, 0, _MAX_QP)
    _require_clips(frames)
    *batch, T, H, W, C = frames.shape
    pixel_format, file, av = "gray" if C == 1 else "rgb24", io.BytesIO(), pyav()

    def pictures() -> Iterator[Any]:
        for i, image in enumerate(frames.reshape(-1, H, W, C)):
            pixels = np.squeeze(image, -1) if C == 1 else image
            picture = av.VideoFrame.from_ndarray(pixels, pixel_format)
            # With forced-idr a forced I-frame is a key frame: nothing after it refers past it.
            picture.pict_type = _I_FRAME if i % T == 0 else _ANY_FRAME
            yield picture

    name = "clips in memory"
    with named(name), av.open(file, "w", format="matroska") as target:
        _encode(target, pictures(), qp, _RATE)
    with named(name), source(file, name) as video:
        coded = coded_of(video, gray=C == 1, stop=None)
    return Coded(
        coded.frames.reshape(frames.shape),
        coded.vectors.reshape(*batch, T, *coded.vectors.shape[1:]),
        coded.known.reshape(*batch, T, *coded.known.shape[1:]),
    )


def _require_clips(frames: Any) -> None:
    got = type(frames).__name__
    if isinstance(frames, np.ndarray) and not isinstance(frames, np.ma.MaskedArray):
        got = f"{frames.dtype} of shape {frames.shape}"
        is_clip = frames.ndim >= 4 and frames.shape[-1] in (1, 3) and frames.size
        if frames.dtype == np.uint8 and is_clip:
            return
    raise VideoError(f"expected clips *b T H W C of uint8, C = 1 or 3, got {got}")


def _pictures(frames: Iterable[Any]) -> Iterator[Any]:
    """Yield decoded frames as the encoder takes them, free of their types."""
    for frame in frames:
        picture = frame.reformat(format=_pixel_format(frame.width, frame.height))
        picture.pict_type = _ANY_FRAME
        yield picture


def _pixel_format(*size: int) -> str:
    # Chroma subsampling needs even sides.
    return "yuv444p" if any(side % 2 for side in size) else "yuv420p"


def _encode(target: Any, pictures: Iterable[Any], qp: int, rate: Fraction) -> None:
    encoder = None
    for i, picture in enumerate(pictures):
        if encoder is None:
            encoder = _encoder(target, (picture.width, picture.height), qp, rate)
        picture.pts, picture.time_base = i, 1 / rate
        target.mux(encoder.encode(picture))
    if encoder is not None:
        target.mux(encoder.encode())  # what the encoder has held back


def _encoder(target: Any, size: tuple[int, int], qp: int, rate: Fraction) -> Any:
    if max(size) > _MAX_SIDE:
        raise VideoError(
            f"frames of {size[1]} x {size[0]} pixels; the encoder takes sides up to {_MAX_SIDE}"
        )
    try:
        encoder = target.add_stream("libx264", rate=rate)
    except ValueError:
        raise VideoError("this PyAV has no encoder for H.264 (libx264)") from None
    encoder.width, encoder.height = size
    encoder.pix_fmt = _pixel_format(*size)
    encoder.codec_context.thread_count = 1
    # A fixed quantiser: with a rate control that looks at several frames, x264's result depends on
    # uninitialised memory, and a clip's result on the clips before it.
    encoder.options = {
        "qp": str(qp), "bf": "0", "refs": "1", "g": "1000000", "keyint_min": "1000000",
        "sc_threshold": "0", "forced-idr": "1", "x264-params": "weightp=0:log-level=none",
    }  # fmt: skip
    return encoder


@contextmanager
def _written(out: Any) -> Iterator[Any]:
    """Open a file to be written; it replaces what has its name when all is there, or not at all."""
    path = path_of("out", out)
    name, target = (
        shown(path),
        Path(path).resolve(),
    )  # a link remains, and its target is replaced
    format = _FORMATS.get(Path(path).suffix.lower())
    if format is None:
        raise VideoError(f"{name}: expected a name that ends in {' or '.join(_FORMATS)}")
    with named(name):
        if target.exists() and not target.is_file():
            raise VideoError(f"{name}: not a regular file")
        part = target.with_name(f".vtnp.{os.getpid()}.{get_ident()}.part")
        try:
            with part.open("wb") as file, pyav().open(file, "w", format=format) as container:
                yield container
            if target.exists():
                shutil.copymode(target, part)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
