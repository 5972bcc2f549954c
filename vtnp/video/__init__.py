"""Frames and motion of real video files, read by PyAV (FFmpeg): `pip install 'vtnp[video]'`.

    >>> from vtnp import video
    >>> coded = video.read_coded("clip.mp4")  # doctest: +SKIP
    >>> motion = video.token_motion(coded, frames=[0, 4, 8, 12], grid=(14, 14))  # doctest: +SKIP

read_frames     frames of any video, scaled, as an array
read_coded      frames with the motion vectors that the codec stored
transcode       a copy of a video that read_coded can read
encoded         clips from memory, encoded and decoded again, with their motion vectors
traced          motion of every pixel between two frames
token_motion    motion of every token between frames, as the deformable formulas take it

A motion is (x, y), x to the right and y down. It points from a position in one frame to where the
same content is in another: content that moves to the right by 4 pixels a frame has the motion
(-4, 0) to the frame before, as codecs store it. Motion vectors and traced motion are in pixels, the
motion of tokens is in token cells.

Every fault of a file, a stream or an option is a VideoError, whose message is one line that names
it. Files are opened as files: neither URLs nor the files that a playlist names are.
"""

from vtnp.video.encoding import encoded, transcode
from vtnp.video.errors import VideoError
from vtnp.video.motion import Coded, Motion, UntraceableError, read_coded, token_motion, traced
from vtnp.video.reading import read_frames

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
