"""A classification task: training clips, drawn at random, and held-out clips."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Video = NDArray[np.float64]
Clips = tuple[Video, NDArray[np.int64]]  # `b T H W C` and the label of each


@dataclass(frozen=True)
class Task:
    """Clips to classify."""

    name: str
    classes: tuple[str, ...]
    draw: Callable[[np.random.Generator, int], Clips]
    held_out: Clips

    @property
    def chance(self) -> float:
        """The accuracy of always predicting the most frequent label."""
        counts = np.bincount(self.held_out[1], minlength=len(self.classes))
        return float(counts.max() / counts.sum())

    @property
    def digest(self) -> str:
        """A hash of the held-out clips, by which a checkpoint recognises its task."""
        return hashlib.sha256(b"".join(x.tobytes() for x in self.held_out)).hexdigest()[:16]

    @property
    def clip_shape(self) -> tuple[int, ...]:
        """Frames, height, width and channels of a clip."""
        return self.held_out[0].shape[1:]


def standardised(
    name: str,
    classes: tuple[str, ...],
    draw: Callable[[np.random.Generator, int], Clips],
    held_out: Clips,
) -> Task:
    """Return a task whose clips are standardised by mean and deviation of the training clips."""
    sample = draw(np.random.default_rng(0), 256)[0]
    mean, deviation = sample.mean(), sample.std()

    def scaled(clips: Clips) -> Clips:
        return (clips[0] - mean) / deviation, clips[1]

    return Task(name, classes, lambda rng, n: scaled(draw(rng, n)), scaled(held_out))
