"""What a model is trained on: clips drawn without end, and clips held out."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Video = NDArray[np.float64]
Clips = tuple[Video, NDArray[np.int64]]  # `b T H W C` and the label of each


@dataclass(frozen=True)
class Task:
    """Clips to tell apart."""

    name: str
    classes: tuple[str, ...]
    draw: Callable[[np.random.Generator, int], Clips]
    held_out: Clips

    @property
    def chance(self) -> float:
        """The accuracy of one who has not looked: that of the commonest label."""
        counts = np.bincount(self.held_out[1], minlength=len(self.classes))
        return float(counts.max() / counts.sum())

    @property
    def digest(self) -> str:
        """A short name for exactly these held-out clips, to know them again."""
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
    """Make a task of clips shifted and scaled to mean 0 and deviation 1 on what is trained on."""
    sample = draw(np.random.default_rng(0), 256)[0]
    mean, deviation = sample.mean(), sample.std()

    def scaled(clips: Clips) -> Clips:
        return (clips[0] - mean) / deviation, clips[1]

    return Task(name, classes, lambda rng, n: scaled(draw(rng, n)), scaled(held_out))
