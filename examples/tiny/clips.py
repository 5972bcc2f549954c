"""Clips of a real video, for pace prediction: the label is how many frames each clip skips.

No annotation is needed. The frame in the middle of a clip and the crop are drawn independently of
the pace. Training and held-out clips come from disjoint parts of the video: its beginning and its
end.
"""

import math
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tiny.task import Clips, Task, standardised

from vtnp.video import VideoError, read_frames

PACES = (1, 2, 4)  # frames of the video from one frame of a clip to the next
FRAMES, SIDE = 8, 16
_BEFORE, _AFTER = FRAMES // 2, FRAMES - 1 - FRAMES // 2
_SPAN = (_BEFORE + _AFTER) * max(PACES) + 1
_SHORT_SIDE = 2 * SIDE  # pixels that the video's shorter side is scaled to
_HELD_OUT_SHARE = 0.3
_HELD_OUT_CLIPS = 720
_MAX_FRAMES = 4096  # to bound time and memory for a long film


def paces_of(path: str | Path) -> Task:
    """Return the task to classify at which pace a clip of this video is played.

    Raises VideoError for a file that cannot be read or is too short.
    """
    frames = read_frames(path, size=_SHORT_SIDE, gray=True, stop=_MAX_FRAMES) / 255.0
    first_held_out = len(frames) - int(len(frames) * _HELD_OUT_SHARE)
    train, rest = frames[:first_held_out], frames[first_held_out:]
    if len(rest) < _SPAN:
        needed = math.ceil(_SPAN / _HELD_OUT_SHARE)
        raise VideoError(f"{path}: too short: {len(frames)} frames, at least {needed} are needed")
    rng = np.random.default_rng(0)
    labels = np.arange(_HELD_OUT_CLIPS) % len(PACES)
    return standardised(
        f"pace of {Path(path).name}",
        tuple(f"{pace}x" for pace in PACES),
        partial(_draw, train),
        (cut(rng, rest, labels), labels),
    )


def _draw(frames: NDArray[np.float64], rng: np.random.Generator, n: int) -> Clips:
    labels = rng.integers(len(PACES), size=n)
    return cut(rng, frames, labels), labels


def cut(
    rng: np.random.Generator, frames: NDArray[np.float64], labels: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Cut one clip for each label out of the frames; half of them are mirrored left to right."""
    count, height, width, _ = frames.shape
    n = len(labels)
    middle = rng.integers(_BEFORE * max(PACES), count - _AFTER * max(PACES), size=n)
    pace = np.array(PACES)[labels]
    time = middle[:, None] + pace[:, None] * np.arange(-_BEFORE, _AFTER + 1)
    rows = rng.integers(height - SIDE + 1, size=n)[:, None] + np.arange(SIDE)
    columns = rng.integers(width - SIDE + 1, size=n)[:, None] + np.arange(SIDE)
    mirrored = rng.integers(2, size=n) == 1
    columns[mirrored] = columns[mirrored, ::-1]
    return frames[time[:, :, None, None], rows[:, None, :, None], columns[:, None, None, :]]
