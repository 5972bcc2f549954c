"""Motion vectors of video files, and the motion traced along them from frame to frame."""

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vtnp.video import h264
from vtnp.video.errors import VideoError, flag, integer, integers
from vtnp.video.files import Source, held, opened
from vtnp.video.tracing import BLOCK, Field, Track, cell_means, tracks

# The codecs of which FFmpeg exports motion vectors, in streams whose frames are in display order.
_CODECS = ("h264", "mpeg4", "mpeg1video", "mpeg2video")
_REMEDY = "transcode it with vtnp.video.transcode first"
_B_FRAMES = "has B-frames, whose motion vectors point both ways in time"
_B_FRAME = 3


class UntraceableError(VideoError):
    """A video whose motion cannot be traced: it has no motion vectors, or ambiguous ones."""


class Coded(NamedTuple):
    """A decoded video with the motion vectors of its codec.

    Attributes
    ----------
    frames : array
        Frames, `*b T H W C`, with values from 0 to 255.
    vectors : array
        Motion vectors, `*b T rows columns 2`: for each block of 8 x 8 pixels the motion to the
        frame before, in pixels; 0 where there is none.
    known : array
        `*b T rows columns`, whether a block has a motion vector. Intra-coded macroblocks have
        none, and so have all blocks of a key frame.
    """

    frames: NDArray[np.uint8]
    vectors: NDArray[np.float32]
    known: NDArray[np.bool_]


class Motion(NamedTuple):
    """Motion between frames.

    Attributes
    ----------
    motion : array
        (x, y), `... 2`.
    known : array
        For a pixel, whether every vector on its way was known; for a token, the share of its pixels
        for which that is so. An unknown vector counts as 0.
    """

    motion: NDArray[np.float64]
    known: NDArray[Any]


def read_coded(
    path: str | os.PathLike[str], *, gray: bool = False, stop: int | None = None
) -> Coded:
    """Read the frames of a video file and the motion vectors that its codec has stored.

    Parameters
    ----------
    path : str or path
        The file.
    gray : bool, optional
        One channel of luma in place of red, green and blue.
    stop : int, optional
        How many frames to read; left out, all of them.

    Returns
    -------
    Coded
        Frames and motion vectors.

    Raises
    ------
    VideoError
        If an option is out of its range, or the file cannot be read, as `read_frames` says.
    UntraceableError
        If FFmpeg exports no motion vectors of the codec (HEVC, VP9, AV1, ...), or the stream has
        B-frames, several reference frames or interlaced frames. `transcode` writes a copy of such
        a file that can be read.
    ImportError
        If PyAV is not installed.
    """
    gray, stop = flag("gray", gray), None if stop is None else integer("stop", stop, 0)
    with opened(path) as video:
        return coded_of(video, gray=gray, stop=stop)


def traced(coded: Coded, t: int, u: int) -> Motion:
    """Trace every pixel of frame t to frame u, through all frames between them.

    Parameters
    ----------
    coded : Coded
        A video with its motion vectors.
    t, u : int
        The two frames, in any order.

    Returns
    -------
    Motion
        `*b H W 2`, in pixels.

    Raises
    ------
    VideoError
        If there are no such frames, or the motion vectors do not fit them or are not finite.

    Notes
    -----
    From frame to frame a pixel follows the vector of the block that it has come to; beyond the
    border, that of the nearest block. Motion vectors point back in time. For motion forward in time
    they are reversed: each pixel that a vector points to takes the reversed vector. A pixel that
    none points to takes the reversed vector of its own position, and is not known.
    """
    _require_coded(coded)
    t, u = integer("t", t), integer("u", u)
    batch, H, W = coded.frames.shape[:-4], *coded.frames.shape[-3:-1]
    result = Motion(np.zeros((*batch, H, W, 2)), np.ones((*batch, H, W), np.bool_))
    for track in _tracks(coded, (t, u)):
        if (track.start, track.end) == (t, u):
            result = Motion(
                track.motion.reshape(result.motion.shape), track.known.reshape(result.known.shape)
            )
    return result


def token_motion(
    coded: Coded, frames: Sequence[int], grid: tuple[int, int], *, clips: int = 1
) -> Motion:
    """Average the traced motion over every token, as motion-embedding and deformable-layer take it.

    Parameters
    ----------
    coded : Coded
        A video with its motion vectors.
    frames : sequence of int
        The frames that a model sees, in order. Motion between them is traced through all frames in
        between.
    grid : (int, int)
        Rows and columns of tokens, (h, w), which cover the whole frame.
    clips : int, optional
        The number of sub-clips that the frames are divided into; motion is traced within each.

    Returns
    -------
    Motion
        `*b t s u 2`, in token cells: from each of t frames and s = h w tokens to each of the u
        frames of its sub-clip. A frame has motion 0 to itself.

    Raises
    ------
    VideoError
        If there are no such frames, they are not in order, clips does not divide their number,
        there are more tokens than pixels, or the motion vectors do not fit the frames or are not
        finite.
    """
    _require_coded(coded)
    frames, (h, w) = integers("frames", frames), integers("grid", grid, 2)
    clips = integer("clips", clips, 1)
    batch, (H, W), t = coded.frames.shape[:-4], coded.frames.shape[-3:-1], len(frames)
    if t < 1 or t % clips or frames != sorted(set(frames)):
        raise VideoError(
            f"expected frames in increasing order, a multiple of {clips} clips, got {frames}"
        )
    if not (1 <= h <= H and 1 <= w <= W):
        raise VideoError(f"a frame of {H} x {W} pixels has no {h} x {w} tokens")
    u, N = t // clips, int(np.prod(batch))
    cell = np.array([W / w, H / h])
    motion, known = np.zeros((N, t, h * w, u, 2)), np.ones((N, t, h * w, u))
    for first in range(0, t, u):
        clip = frames[first : first + u]
        for track in _tracks(coded, clip):
            at = (slice(None), first + clip.index(track.start), slice(None), clip.index(track.end))
            motion[at] = cell_means(track.motion, h, w) / cell
            known[at] = cell_means(track.known[..., None].astype(float), h, w)[..., 0]
    return Motion(motion.reshape(*batch, t, h * w, u, 2), known.reshape(*batch, t, h * w, u))


def _require_coded(coded: Any) -> None:
    """Raise VideoError for what is not a video with its motion vectors."""
    if not isinstance(coded, Coded) or not all(isinstance(each, np.ndarray) for each in coded):
        raise VideoError(f"argument coded: expected Coded of arrays, got {type(coded).__name__}")
    frames, vectors, known = coded
    if frames.ndim < 4 or (vectors.dtype.kind, known.dtype.kind) != ("f", "b"):
        raise VideoError(
            "expected frames *b T H W C, vectors of floats and known of bools, got frames of shape "
            f"{frames.shape}, vectors of {vectors.dtype} and known of {known.dtype}"
        )
    *times, H, W, _ = frames.shape
    blocks = (*times, -(-H // BLOCK), -(-W // BLOCK))
    if (vectors.shape, known.shape) != ((*blocks, 2), blocks):
        raise VideoError(
            f"frames of shape {frames.shape} have vectors of shape {(*blocks, 2)} and known of "
            f"shape {blocks}, got {vectors.shape} and {known.shape}"
        )


def _tracks(coded: Coded, frames: Sequence[int]) -> Iterator[Track]:
    T, H, W, _ = coded.frames.shape[-4:]
    if not all(0 <= frame < T for frame in frames):
        raise VideoError(f"expected frames from 0 to {T - 1}, got {list(frames)}")
    if not np.isfinite(coded.vectors).all():
        raise VideoError("expected finite motion vectors")
    vectors = coded.vectors.reshape(-1, *coded.vectors.shape[-4:])
    return tracks(vectors, coded.known.reshape(vectors.shape[:-1]), (H, W), frames)


def coded_of(video: Source, *, gray: bool, stop: int | None) -> Coded:
    """Read the frames and motion vectors of an open video; stop: how many."""
    name = video.name
    decoder = video.stream.codec_context
    inspect = _require_traceable(name, decoder)
    # With frame threading, FFmpeg attaches motion vectors to the wrong frames.
    video.stream.thread_type = "NONE"
    decoder.options |= {"flags2": "+export_mvs"}
    frames = itertools.islice(video.frames(inspect=inspect), stop)
    rows = (_with_vectors(name, frame, "gray" if gray else "rgb24") for frame in frames)
    images, vectors, known = held(name, rows, none="no frames in this video")
    return Coded(images[..., None] if gray else images, vectors, known)


def _with_vectors(name: str, frame: Any, pixel_format: str) -> tuple[NDArray[Any], ...]:
    if int(frame.pict_type) == _B_FRAME:
        raise UntraceableError(f"{name}: {_B_FRAMES}; {_REMEDY}")
    if frame.interlaced_frame:
        raise UntraceableError(f"{name}: has interlaced frames; {_REMEDY}")
    # Threads that are started for each frame cost more than they save on small frames.
    image = frame.reformat(format=pixel_format, threads=1)
    field = _vector_field(frame.side_data.get("MOTION_VECTORS"), frame.height, frame.width)
    return image.to_ndarray(), *field


def _require_traceable(name: str, decoder: Any) -> Callable[[Any], None]:
    """Raise UntraceableError for a stream whose header shows that it cannot be traced.

    Returns what does the same for each packet, which may bring another header.
    """
    if decoder.name not in _CODECS:
        raise UntraceableError(
            f"{name}: FFmpeg exports no motion vectors of {decoder.name}; {_REMEDY}"
        )
    if decoder.name != "h264":
        # These have one reference frame, and announce B-frames whether they have any or not.
        return lambda _: None
    if decoder.has_b_frames:
        raise UntraceableError(f"{name}: {_B_FRAMES}; {_REMEDY}")
    header = decoder.extradata or b""
    _require_one_reference(name, h264.units_of_header(header))

    def inspect(packet: Any) -> None:
        nonlocal header
        if packet.has_sidedata("new_extradata"):
            header = bytes(packet.get_sidedata("new_extradata"))
            _require_one_reference(name, h264.units_of_header(header))
        _require_one_reference(name, h264.units(bytes(packet), h264.length_size(header)))

    return inspect


def _require_one_reference(name: str, units: Iterable[bytes]) -> None:
    try:
        count = h264.max_reference_frames(units)
    except h264.HeaderError as error:
        raise VideoError(f"{name}: a broken header of H.264: {error}") from None
    if count is not None and count > 1:
        raise UntraceableError(
            f"{name}: has {count} reference frames, and its vectors do not say which one they "
            f"refer to; {_REMEDY}"
        )


def _vector_field(side_data: Any, height: int, width: int) -> Field:
    """Write a frame's motion vectors to the blocks of 8 x 8 pixels that they cover."""
    rows, columns = -(-height // BLOCK), -(-width // BLOCK)
    field = np.zeros((rows, columns, 2), np.float32)
    known = np.zeros((rows, columns), np.bool_)
    if side_data is None:
        return field, known
    record = side_data.to_ndarray()
    # Some fields are int8 and int16, in which sums would overflow.
    w, h, x, y = (record[key].astype(np.int64) for key in ("w", "h", "dst_x", "dst_y"))
    # src - dst would be the vector rounded to full pixels.
    vector = np.stack([record["motion_x"], record["motion_y"]], axis=-1)
    vector = (vector / record["motion_scale"][:, None]).astype(np.float32)
    for down in (0, BLOCK):
        for right in (0, BLOCK):
            row, column = (y - h // 2 + down) // BLOCK, (x - w // 2 + right) // BLOCK
            inside = (down < h) & (right < w)
            # The last macroblocks reach beyond a frame whose sides are not multiples of 16.
            inside &= (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
            field[row[inside], column[inside]] = vector[inside]
            known[row[inside], column[inside]] = True
    return field, known
