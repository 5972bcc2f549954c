"""Motion out of real video files: the vectors that a codec has found, traced from frame to frame.

Everywhere a motion is (x, y), x to the right, y down, and points from a place in one frame to
where the same content is in another: what moves right by 4 pixels a frame has the motion (-4, 0)
to the frame before, as the codec writes it. Vectors of single frames and traced fields are in
pixels, the motion of tokens in token cells, as eq. (8) of the survey adds it to a place.
"""

import io
import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vtnp.video.h264 import reference_frames
from vtnp.video.reading import VideoError, pyav, reported
from vtnp.video.tracing import BLOCK, Field, Found, averaged, followed

# The codecs of which FFmpeg hands out vectors, in streams that have their frames in one order.
_CODECS = ("h264", "mpeg4", "mpeg1video", "mpeg2video")
_REMEDY = "write a copy to read them from with vtnp.video.motion.transcode"
_ANY_FRAME, _I_FRAME, _B_FRAME = 0, 1, 3


class UntraceableError(VideoError):
    """A video whose vectors do not say how far they reach, or which has none to be had."""


class Coded(NamedTuple):
    """A decoded video and the vectors that came with it.

    frames: `*b T H W C`, 0 ... 255. vectors: `*b T rows columns 2`, for each block of 8 x 8 pixels
    the motion from its frame to the frame before, in pixels; 0 where there is none. known:
    `*b T rows columns`, whether there is one; a block may have been coded without, and so are all
    blocks of a key frame.
    """

    frames: NDArray[np.uint8]
    vectors: NDArray[np.float32]
    known: NDArray[np.bool_]


class Motion(NamedTuple):
    """Motion between frames, and which of it the codec knew.

    motion: `... 2`, (x, y). known: for a traced pixel whether every step had a vector, for a token
    the share of its pixels for which that is so; where not, a step has counted as 0.
    """

    motion: NDArray[np.float64]
    known: NDArray[Any]


def read_coded(
    path: str | os.PathLike[str], *, gray: bool = False, stop: int | None = None
) -> Coded:
    """Read the frames of a video file and the motion vectors that its codec has stored.

    gray: one channel of brightness in place of red, green and blue. stop: read so many frames.
    Raises VideoError for a file that vtnp.video.reading cannot read either; UntraceableError, which is one,
    for a codec of which FFmpeg exports no vectors (HEVC, VP9, AV1, ...), B-frames, several
    reference frames or interlaced frames. `transcode` then writes a copy that can be read.
    Raises ImportError without PyAV.
    """
    return _read(os.fspath(path), str(path), gray=gray, stop=stop)


def transcode(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    qp: int = 20,
    stop: int | None = None,
) -> None:
    """Write a copy of a video as H.264 whose every frame refers to the frame before, and only it.

    out: its name ends in .mp4 or .mkv. qp: quantiser, 0 (no loss) to 51. stop: copy so many frames.
    Raises VideoError for a file that cannot be read, or a copy that cannot be written; ImportError
    without PyAV.
    Notes: no B-frames, one reference, one key frame. It is the encoder's search that finds the
    motion then, not the file's own: the vectors are no longer free.
    """
    av = pyav()
    with reported(path) as count, av.open(os.fspath(path)) as source:
        if not source.streams.video:
            raise VideoError(f"{path}: no video in this file")
        stream = source.streams.video[0]
        with reported(out), av.open(os.fspath(out), "w") as target:
            encoder = None
            for frame in source.decode(stream):
                if stop is not None and count.frames >= stop:
                    break
                if encoder is None:
                    size = frame.width, frame.height
                    encoder = _encoder(target, size, qp, stream.average_rate or 25)
                picture = frame.reformat(*size, format=encoder.pix_fmt)
                picture.pict_type, picture.pts = _ANY_FRAME, None
                target.mux(encoder.encode(picture))
                count.frames += 1
            if encoder is None:
                raise VideoError(f"{path}: no frames in this video")
            target.mux(encoder.encode())


def encoded(frames: NDArray[np.uint8], *, qp: int = 20) -> Coded:
    """Encode clips, `*b T H W C`, to H.264 in memory; return them decoded, with their vectors.

    frames: 0 ... 255, C = 1 (brightness) or 3. qp: quantiser, 0 (no loss) to 51.
    Raises VideoError for other frames, or where PyAV has no encoder; ImportError without PyAV.
    Notes: each clip begins with a key frame and is coded on its own. The frames are not those that
    came: H.264 loses some of the picture.
    """
    if (
        frames.dtype != np.uint8
        or frames.ndim < 4
        or frames.shape[-1] not in (1, 3)
        or not frames.size
    ):
        what = f"{frames.dtype} {frames.shape}"
        raise VideoError(f"clips are bytes with axes *b T H W C, C = 1 or 3, not {what}")
    *batch, T, H, W, C = frames.shape
    form, file, av = "gray" if C == 1 else "rgb24", io.BytesIO(), pyav()
    with reported("clips in memory"), av.open(file, "w", format="matroska") as target:
        encoder = _encoder(target, (W, H), qp, 25)
        for i, image in enumerate(frames.reshape(-1, H, W, C)):
            picture = av.VideoFrame.from_ndarray(np.squeeze(image, -1) if C == 1 else image, form)
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


def _encoder(target: Any, size: tuple[int, int], qp: int, rate: Any) -> Any:
    try:
        encoder = target.add_stream("libx264", rate=rate)
    except ValueError:
        raise VideoError("this PyAV has no encoder for H.264 (libx264)") from None
    encoder.width, encoder.height = size
    # With halved colour both sides must be even.
    encoder.pix_fmt = "yuv444p" if any(side % 2 for side in size) else "yuv420p"
    encoder.codec_context.thread_count = 1
    # A fixed quantiser: with a rate control that looks at several frames, x264's result depends on
    # what happens to be in memory, and a clip's on the clips before it.
    encoder.options = {
        "qp": str(qp), "bf": "0", "refs": "1", "g": "1000000", "keyint_min": "1000000",
        "sc_threshold": "0", "forced-idr": "1", "x264-params": "weightp=0:log-level=none",
    }  # fmt: skip
    return encoder


def _read(source: Any, name: str, *, gray: bool, stop: int | None) -> Coded:
    av = pyav()
    frames, fields = [], []
    with reported(name) as count, av.open(source) as container:
        if not container.streams.video:
            raise VideoError(f"{name}: no video in this file")
        stream = container.streams.video[0]
        _refuse_unless_traceable(name, stream.codec_context)
        # With threads that decode several frames at once, FFmpeg mixes up whose vectors are whose.
        stream.thread_type = "NONE"
        stream.codec_context.options = {"flags2": "+export_mvs"}
        for frame in container.decode(stream):
            if stop is not None and count.frames >= stop:
                break
            if int(frame.pict_type) == _B_FRAME:
                raise UntraceableError(
                    f"{name}: has B-frames, whose vectors go both ways; {_REMEDY}"
                )
            if frame.interlaced_frame:
                raise UntraceableError(f"{name}: has interlaced frames; {_REMEDY}")
            # Threads that are started for each frame cost more than they save in small ones.
            image = frame.reformat(format="gray" if gray else "rgb24", threads=1)
            frames.append(image.to_ndarray())
            fields.append(
                _painted(frame.side_data.get("MOTION_VECTORS"), frame.height, frame.width)
            )
            count.frames += 1
    if not frames:
        raise VideoError(f"{name}: no frames in this video")
    images, vectors, known = np.stack(frames), *map(np.stack, zip(*fields, strict=True))
    return Coded(images[..., None] if gray else images, vectors, known)


def _refuse_unless_traceable(name: str, codec: Any) -> None:
    if codec.name not in _CODECS:
        raise UntraceableError(
            f"{name}: FFmpeg exports no motion vectors of {codec.name}; {_REMEDY}"
        )
    # Other codecs say so whenever they could have some.
    if codec.name == "h264" and codec.has_b_frames:
        raise UntraceableError(f"{name}: has B-frames, whose vectors go both ways; {_REMEDY}")
    many = reference_frames(codec.extradata) if codec.name == "h264" and codec.extradata else 1
    if many is not None and many > 1:
        raise UntraceableError(
            f"{name}: its vectors may refer to any of {many} frames, and do not say to which; "
            f"{_REMEDY}"
        )


def _painted(side_data: Any, height: int, width: int) -> Field:
    """Paint a frame's vectors over the blocks that they are for."""
    rows, columns = -(-height // BLOCK), -(-width // BLOCK)
    field = np.zeros((rows, columns, 2), np.float32)
    known = np.zeros((rows, columns), np.bool_)
    if side_data is None:
        return field, known
    record = side_data.to_ndarray()
    # Some fields are bytes and shorts, in which sums would wrap around.
    w, h, x, y = (record[key].astype(np.int64) for key in ("w", "h", "dst_x", "dst_y"))
    # src - dst would be the vector rounded to whole pixels.
    vector = np.stack([record["motion_x"], record["motion_y"]], axis=-1)
    vector = (vector / record["motion_scale"][:, None]).astype(np.float32)
    for down in (0, BLOCK):
        for right in (0, BLOCK):
            row, column = (y - h // 2 + down) // BLOCK, (x - w // 2 + right) // BLOCK
            here = (down < h) & (right < w)
            # The last blocks reach beyond the frame where its sides are no multiples of 16.
            here &= (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
            field[row[here], column[here]] = vector[here]
            known[row[here], column[here]] = True
    return field, known


def traced(coded: Coded, t: int, u: int) -> Motion:
    """Trace every pixel of frame t to frame u through all frames between: `*b H W 2`, in pixels.

    Raises VideoError for frames that are not there, or vectors that are not finite.
    Notes: a pixel follows the vector of the block that it is in, frame after frame; vectors at one
    place are not summed up. Beyond the border, the nearest block counts. Vectors go back in time;
    forward, they are turned round: each source is sent to where it is used, and a place that is
    used nowhere takes the reversed vector of the same place and is not known.
    """
    batch, H, W = coded.frames.shape[:-4], *coded.frames.shape[-3:-1]
    found = Motion(np.zeros((*batch, H, W, 2)), np.ones((*batch, H, W), np.bool_))
    for query, frame, motion, known in _found(coded, (t, u)):
        if (query, frame) == (t, u):
            found = Motion(motion.reshape(found.motion.shape), known.reshape(found.known.shape))
    return found


def token_motion(
    coded: Coded, frames: Sequence[int], grid: tuple[int, int], *, clips: int = 1
) -> Motion:
    """Average the traced motion over every token: `*b t s u 2`, in token cells.

    frames: those that the model sees, in order; the motion between them is traced through all that
    lie between. grid: rows and columns of tokens (h, w), laid over the whole frame. clips: the
    frames are cut into so many sub-clips, and u runs over those of the own one.
    Raises VideoError for frames that are not there or in no order, a number of clips that does not
    divide, more tokens than pixels, or vectors that are not finite.
    Notes: what motion-embedding and deformable-layer take. A frame has no motion to itself.
    """
    batch, (H, W), (h, w), t = coded.frames.shape[:-4], coded.frames.shape[-3:-1], grid, len(frames)
    if clips < 1 or t < 1 or t % clips or list(frames) != sorted(set(frames)):
        raise VideoError(f"expected rising frames, a multiple of {clips} clips, not {list(frames)}")
    if not (1 <= h <= H and 1 <= w <= W):
        raise VideoError(f"a frame of {H} x {W} pixels has no {h} x {w} tokens")
    u, N = t // clips, int(np.prod(batch))
    cell = np.array([W / w, H / h])
    motion, known = np.zeros((N, t, h * w, u, 2)), np.ones((N, t, h * w, u))
    for first in range(0, t, u):
        clip = list(frames[first : first + u])
        for query, frame, pixels, sure in _found(coded, clip):
            at = (slice(None), first + clip.index(query), slice(None), clip.index(frame))
            motion[at] = averaged(pixels, h, w) / cell
            known[at] = averaged(sure[..., None].astype(float), h, w)[..., 0]
    return Motion(motion.reshape(*batch, t, h * w, u, 2), known.reshape(*batch, t, h * w, u))


def _found(coded: Coded, frames: Sequence[int]) -> Iterator[Found]:
    T, H, W, _ = coded.frames.shape[-4:]
    if not all(0 <= frame < T for frame in frames):
        raise VideoError(f"expected frames 0 to {T - 1}, not {list(frames)}")
    if not np.isfinite(coded.vectors).all():
        raise VideoError("the motion vectors are not all finite")
    vectors = coded.vectors.reshape(-1, *coded.vectors.shape[-4:])
    return followed(vectors, coded.known.reshape(vectors.shape[:-1]), (H, W), frames)
