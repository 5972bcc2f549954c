"""Following motion vectors from frame to frame."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 8  # pixels; no vector that FFmpeg hands out is for a smaller block

Field = tuple[NDArray[np.float32], NDArray[np.bool_]]
Found = tuple[int, int, NDArray[np.float64], NDArray[np.bool_]]


def averaged(x: NDArray[Any], h: int, w: int) -> NDArray[Any]:
    """Average `N H W c` over h x w cells, `N s c`; a pixel counts where its centre is."""
    N, H, W, c = x.shape
    rows, columns = (-(-(2 * np.arange(k) * n - k) // (2 * k)) for k, n in ((h, H), (w, W)))
    sums = np.add.reduceat(np.add.reduceat(x, rows, axis=1), columns, axis=2)
    counts = np.diff(rows, append=H)[:, None] * np.diff(columns, append=W)
    return np.asarray(sums / counts[..., None]).reshape(N, h * w, c)


def followed(
    back: NDArray[np.float32],
    known: NDArray[np.bool_],
    size: tuple[int, int],
    frames: Sequence[int],
) -> Iterator[Found]:
    """Yield (t, u, motion `N H W 2`, known `N H W`) for all pairs of different frames.

    back, known: `N T rows columns 2`, `N T rows columns`, the vectors of blocks from each frame to
    the frame before. size: (H, W).
    """
    first, last = min(frames), max(frames)

    def backward(tau: int) -> Field:
        return _of_pixels(back[:, tau], size), _of_pixels(known[:, tau], size)

    def forward(tau: int) -> Field:
        return _reversed(*backward(tau + 1))

    yield from _tracks(range(last, first, -1), -1, backward, frames)
    yield from _tracks(range(first, last), 1, forward, frames)


def _tracks(
    times: range, step: int, field_at: Callable[[int], Field], frames: Sequence[int]
) -> Iterator[Found]:
    """Start at every one of the frames and go on in one direction of time."""
    tracks: dict[int, tuple[NDArray[np.float64], NDArray[np.bool_]]] = {}
    for tau in times:
        field, sure = field_at(tau)
        if tau in frames:
            tracks[tau] = np.zeros(field.shape), np.ones_like(sure)
        for t, (motion, known) in tracks.items():
            place = _nearest(motion)
            tracks[t] = motion + field[place], known & sure[place]
            if tau + step in frames:
                yield t, tau + step, *tracks[t]


def _of_pixels(field: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    H, W = size
    return field.repeat(BLOCK, axis=1).repeat(BLOCK, axis=2)[:, :H, :W]


def _nearest(motion: NDArray[np.float64]) -> tuple[NDArray[np.intp], ...]:
    """Return the index of the pixel that each pixel has come to, or that of the border there."""
    N, H, W, _ = motion.shape
    row, column = np.arange(H)[:, None], np.arange(W)
    y = np.clip(np.rint(row + motion[..., 1]), 0, H - 1).astype(np.intp)
    x = np.clip(np.rint(column + motion[..., 0]), 0, W - 1).astype(np.intp)
    return np.arange(N)[:, None, None], y, x


def _reversed(field: NDArray[np.float32], sure: NDArray[np.bool_]) -> Field:
    """Turn vectors back from a frame to the one before into vectors from that one forward."""
    N, H, W = sure.shape
    y = np.rint(np.arange(H)[:, None] + field[..., 1]).astype(np.intp)
    x = np.rint(np.arange(W) + field[..., 0]).astype(np.intp)
    inside = sure & (y >= 0) & (y < H) & (x >= 0) & (x < W)
    n = np.broadcast_to(np.arange(N)[:, None, None], inside.shape)[inside]
    forward, found = -field, np.zeros_like(sure)
    # Where several are sent to one place, the last one stays.
    forward[n, y[inside], x[inside]] = -field[inside]
    found[n, y[inside], x[inside]] = True
    return forward, found
