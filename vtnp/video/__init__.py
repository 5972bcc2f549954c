"""Frames and motion out of real video files."""

from vtnp.video.motion import (
    Coded,
    Motion,
    UntraceableError,
    encoded,
    read_coded,
    token_motion,
    traced,
    transcode,
)
from vtnp.video.reading import VideoError, read_frames

__all__ = [
    "Coded",
    "Motion",
    "UntraceableError",
    "VideoError",
    "encoded",
    "read_coded",
    "read_frames",
    "token_motion",
    "traced",
    "transcode",
]
