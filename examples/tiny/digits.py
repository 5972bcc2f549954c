"""Moving handwritten digits: the label of a clip is the direction in which its digit moves.

The canvas is a torus: what leaves it on one side enters it on the other. Each clip begins at a
position drawn uniformly, so that in every frame all positions are equally likely whatever the
direction: single frames say nothing about the label, only motion does.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tiny.task import Task, standardised

DIRECTIONS = {
    "right": (0, 1), "down right": (1, 1), "down": (1, 0), "down left": (1, -1),
    "left": (0, -1), "up left": (-1, -1), "up": (-1, 0), "up right": (-1, 1),
}  # fmt: skip
FRAMES, SIDE = 8, 16
_HELD_OUT_IMAGES, _CLIPS_OF_EACH = 360, 2
_SPLIT_SEED = 0  # The same digits are held out whatever seed a run has.


class Split(NamedTuple):
    """Images of digits, `n 8 8` in [0, 1]."""

    train: NDArray[np.float64]
    held_out: NDArray[np.float64]


def split_digits() -> Split:
    """Split scikit-learn's 1797 handwritten digits into a training and a held-out set."""
    from sklearn.datasets import load_digits

    images = load_digits().images / 16.0
    images = images[np.random.default_rng(_SPLIT_SEED).permutation(len(images))]
    return Split(images[_HELD_OUT_IMAGES:], images[:_HELD_OUT_IMAGES])


def moved(
    images: NDArray[np.float64], starts: NDArray[np.int64], labels: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Move each image from its start (row, column) in its direction, by one pixel per frame."""
    time = np.arange(FRAMES)[:, None]
    velocity = np.array(list(DIRECTIONS.values()))[labels]
    corner = starts[:, None, :] + time * velocity[:, None, :]
    rows = (corner[..., 0, None] + np.arange(images.shape[1])) % SIDE
    columns = (corner[..., 1, None] + np.arange(images.shape[2])) % SIDE
    video = np.zeros((len(images), FRAMES, SIDE, SIDE, 1))
    clip = np.arange(len(images))[:, None, None, None]
    frame = time[..., None]
    video[clip, frame, rows[..., :, None], columns[..., None, :], 0] = images[:, None]
    return video


def moving_digits() -> Task:
    """Return the task to classify in which of eight directions a digit moves."""
    digits = split_digits()

    def clips(rng: np.random.Generator, n: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        images = digits.train[rng.integers(len(digits.train), size=n)]
        labels = rng.integers(len(DIRECTIONS), size=n)
        return moved(images, rng.integers(SIDE, size=(n, 2)), labels), labels

    rng = np.random.default_rng(_SPLIT_SEED)
    images = np.repeat(digits.held_out, _CLIPS_OF_EACH, axis=0)
    labels = np.arange(len(images)) % len(DIRECTIONS)
    held_out = moved(images, rng.integers(SIDE, size=(len(images), 2)), labels)
    return standardised("digits moving on a torus", tuple(DIRECTIONS), clips, (held_out, labels))
