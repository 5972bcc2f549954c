"""Motion vectors of video files, and the motion traced along them from frame to frame."""

import io
import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vtnp.video.h264 import max_reference_frames
from vtnp.video.reading import VideoError, ffmpeg_errors, pyav, video_stream
from vtnp.video.tracing import BLOCK, Field, Track, cell_means, tracks

# The codecs of which FFmpeg exports motion vectors, in streams whose frames are in display order.
_CODECS = ("h264", "mpeg4", "mpeg1video", "mpeg2video")
_REMEDY = "transcode it with vtnp.video.transcode first"
_B_FRAMES = "has B-frames, whose motion vectors point both ways in time"
_ANY_FRAME, _I_FRAME, _B_FRAME = 0, 1, 3


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
        If the file is missing or broken, or has no frames.
    UntraceableError
        If FFmpeg exports no motion vectors of the codec (HEVC, VP9, AV1, ...), or the stream has
        B-frames, several reference frames or interlaced frames. `transcode` writes a copy of such
        a file that can be read.
    ImportError
        If PyAV is not installed.
    """
    return _read(os.fspath(path), str(path), gray=gray, stop=stop)


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
        The copy; its name ends in .mp4 or .mkv.
    qp : int, optional
        Quantiser, from 0 (lossless) to 51.
    stop : int, optional
        How many frames to copy; left out, all of them.

    Raises
    ------
    VideoError
        If the file cannot be read, or the copy cannot be written.
    ImportError
        If PyAV is not installed.

    Notes
    -----
    The copy has no B-frames, one reference frame and one key frame. Its motion vectors are those
    of the encoder's motion search, not of the original file.
    """
    av = pyav()
    with ffmpeg_errors(path) as progress, av.open(os.fspath(path)) as source:
        stream = video_stream(path, source)
        with ffmpeg_errors(out), av.open(os.fspath(out), "w") as target:
            encoder = None
            for frame in source.decode(stream):
                if stop is not None and progress.frames >= stop:
                    break
                if encoder is None:
                    size = frame.width, frame.height
                    encoder = _encoder(target, size, qp, stream.average_rate or 25)
                picture = frame.reformat(*size, format=encoder.pix_fmt)
                picture.pict_type, picture.pts = _ANY_FRAME, None
                target.mux(encoder.encode(picture))
                progress.frames += 1
            if encoder is None:
                raise VideoError(f"{path}: no frames in this video")
            target.mux(encoder.encode())


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
        If the frames have another dtype or shape, or PyAV has no encoder for H.264.
    ImportError
        If PyAV is not installed.

    Notes
    -----
    Each clip begins with a key frame and is encoded on its own. H.264 is lossy: the decoded frames
    differ from the given ones.
    """
    is_clip = frames.ndim >= 4 and frames.shape[-1] in (1, 3) and frames.size
    if frames.dtype != np.uint8 or not is_clip:
        got = f"{frames.dtype} of shape {frames.shape}"
        raise VideoError(f"expected clips *b T H W C of uint8, C = 1 or 3, got {got}")
    *batch, T, H, W, C = frames.shape
    pixel_format, file, av = "gray" if C == 1 else "rgb24", io.BytesIO(), pyav()
    with ffmpeg_errors("clips in memory"), av.open(file, "w", format="matroska") as target:
        encoder = _encoder(target, (W, H), qp, 25)
        for i, image in enumerate(frames.reshape(-1, H, W, C)):
            pixels = np.squeeze(image, -1) if C == 1 else image
            picture = av.VideoFrame.from_ndarray(pixels, pixel_format)
            # With forced-idr a forced I-frame is a key frame: nothing after it refers past it.
            picture.pict_type = _I_FRAME if i % T == 0 else _ANY_FRAME
            target.mux(encoder.encode(picture))
        target.mux(encoder.encode())
    file.seek(0)
    coded = _read(file, "clips in memory", gray=C == 1, stop=None)
    return Coded(
        coded.frames.reshape(frames.shape),
        coded.vectors.reshape(*batch, T, *coded.vectors.shape[1:]),
        coded.known.reshape(*batch, T, *coded.known.shape[1:]),
    )


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
        If there are no such frames, or a motion vector is not finite.

    Notes
    -----
    From frame to frame a pixel follows the vector of the block that it has come to; beyond the
    border, that of the nearest block. Motion vectors point back in time. For motion forward in time
    they are reversed: each pixel that a vector points to takes the reversed vector. A pixel that
    none points to takes the reversed vector of its own position, and is not known.
    """
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
        there are more tokens than pixels, or a motion vector is not finite.
    """
    batch, (H, W), (h, w), t = coded.frames.shape[:-4], coded.frames.shape[-3:-1], grid, len(frames)
    if clips < 1 or t < 1 or t % clips or list(frames) != sorted(set(frames)):
        raise VideoError(
            f"expected frames in increasing order, a multiple of {clips} clips, got {list(frames)}"
        )
    if not (1 <= h <= H and 1 <= w <= W):
        raise VideoError(f"a frame of {H} x {W} pixels has no {h} x {w} tokens")
    u, N = t // clips, int(np.prod(batch))
    cell = np.array([W / w, H / h])
    motion, known = np.zeros((N, t, h * w, u, 2)), np.ones((N, t, h * w, u))
    for first in range(0, t, u):
        clip = list(frames[first : first + u])
        for track in _tracks(coded, clip):
            at = (slice(None), first + clip.index(track.start), slice(None), clip.index(track.end))
            motion[at] = cell_means(track.motion, h, w) / cell
            known[at] = cell_means(track.known[..., None].astype(float), h, w)[..., 0]
    return Motion(motion.reshape(*batch, t, h * w, u, 2), known.reshape(*batch, t, h * w, u))


def _tracks(coded: Coded, frames: Sequence[int]) -> Iterator[Track]:
    T, H, W, _ = coded.frames.shape[-4:]
    if not all(0 <= frame < T for frame in frames):
        raise VideoError(f"expected frames from 0 to {T - 1}, got {list(frames)}")
    if not np.isfinite(coded.vectors).all():
        raise VideoError("expected finite motion vectors")
    vectors = coded.vectors.reshape(-1, *coded.vectors.shape[-4:])
    return tracks(vectors, coded.known.reshape(vectors.shape[:-1]), (H, W), frames)


def _encoder(target: Any, size: tuple[int, int], qp: int, rate: Any) -> Any:
    try:
        encoder = target.add_stream("libx264", rate=rate)
    except ValueError:
        raise VideoError("this PyAV has no encoder for H.264 (libx264)") from None
    encoder.width, encoder.height = size
    # Chroma subsampling needs even sides.
    encoder.pix_fmt = "yuv444p" if any(side % 2 for side in size) else "yuv420p"
    encoder.codec_context.thread_count = 1
    # A fixed quantiser: with a rate control that looks at several frames, x264's result depends on
    # uninitialised memory, and a clip's result on the clips before it.
    encoder.options = {
        "qp": str(qp), "bf": "0", "refs": "1", "g": "1000000", "keyint_min": "1000000",
        "sc_threshold": "0", "forced-idr": "1", "x264-params": "weightp=0:log-level=none",
    }  # fmt: skip
    return encoder


def _read(source: Any, name: str, *, gray: bool, stop: int | None) -> Coded:
    """Read a file or a buffer; name: as errors name it."""
    av = pyav()
    frames, fields = [], []
    with ffmpeg_errors(name) as progress, av.open(source) as container:
        stream = video_stream(name, container)
        _require_traceable(name, stream.codec_context)
        # With frame threading, FFmpeg attaches motion vectors to the wrong frames.
        stream.thread_type = "NONE"
        stream.codec_context.options = {"flags2": "+export_mvs"}
        for frame in container.decode(stream):
            if stop is not None and progress.frames >= stop:
                break
            if int(frame.pict_type) == _B_FRAME:
                raise UntraceableError(f"{name}: {_B_FRAMES}; {_REMEDY}")
            if frame.interlaced_frame:
                raise UntraceableError(f"{name}: has interlaced frames; {_REMEDY}")
            # Threads that are started for each frame cost more than they save on small frames.
            image = frame.reformat(format="gray" if gray else "rgb24", threads=1)
            frames.append(image.to_ndarray())
            vectors = frame.side_data.get("MOTION_VECTORS")
            fields.append(_vector_field(vectors, frame.height, frame.width))
            progress.frames += 1
    if not frames:
        raise VideoError(f"{name}: no frames in this video")
    images, vectors, known = np.stack(frames), *map(np.stack, zip(*fields, strict=True))
    return Coded(images[..., None] if gray else images, vectors, known)


def _require_traceable(name: str, codec: Any) -> None:
    """Raise UntraceableError for a stream whose header shows that it cannot be traced."""
    if codec.name not in _CODECS:
        raise UntraceableError(
            f"{name}: FFmpeg exports no motion vectors of {codec.name}; {_REMEDY}"
        )
    # The other codecs announce B-frames whether they have any or not.
    if codec.name == "h264" and codec.has_b_frames:
        raise UntraceableError(f"{name}: {_B_FRAMES}; {_REMEDY}")
    count = max_reference_frames(codec.extradata) if codec.name == "h264" and codec.extradata else 1
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
            # The last macroblocks reach beyond a frame whose sides are no multiples of 16.
            inside &= (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
            field[row[inside], column[inside]] = vector[inside]
            known[row[inside], column[inside]] = True
    return field, known
