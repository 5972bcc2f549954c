"""Pixels followed along motion vectors from frame to frame."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

BLOCK = 8  # pixels; FFmpeg exports no motion vector of a smaller block

Field = tuple[NDArray[np.float32], NDArray[np.bool_]]  # vectors, and whether each is known


class Track(NamedTuple):
    """Where the pixels of one frame are in another.

    Attributes
    ----------
    start, end : int
        The two frames.
    motion : array
        `N H W 2`, in pixels.
    known : array
        `N H W`, whether every vector on the way was known.
    """

    start: int
    end: int
    motion: NDArray[np.float64]
    known: NDArray[np.bool_]


def cell_means(x: NDArray[Any], h: int, w: int) -> NDArray[Any]:
    """Average `N H W c` over h x w cells, `N s c`; a pixel is in the cell that its centre is in."""
    N, H, W, c = x.shape
    rows, columns = (-(-(2 * np.arange(k) * n - k) // (2 * k)) for k, n in ((h, H), (w, W)))
    sums = np.add.reduceat(np.add.reduceat(x, rows, axis=1), columns, axis=2)
    counts = np.diff(rows, append=H)[:, None] * np.diff(columns, append=W)
    return np.asarray(sums / counts[..., None]).reshape(N, h * w, c)


def tracks(
    vectors: NDArray[np.float32],
    known: NDArray[np.bool_],
    size: tuple[int, int],
    frames: Sequence[int],
) -> Iterator[Track]:
    """Yield the tracks between all pairs of different frames.

    vectors, known: `N T rows columns 2` and `N T rows columns`, of the blocks of each frame, to the
    frame before. size: (H, W).
    """
    first, last = min(frames), max(frames)

    def backward(time: int) -> Field:
        return _of_pixels(vectors[:, time], size), _of_pixels(known[:, time], size)

    def forward(time: int) -> Field:
        return _reversed(*backward(time + 1))

    yield from _tracks_in_one_direction(range(last, first, -1), -1, backward, frames)
    yield from _tracks_in_one_direction(range(first, last), 1, forward, frames)


def _tracks_in_one_direction(
    times: range, step: int, field_at: Callable[[int], Field], frames: Sequence[int]
) -> Iterator[Track]:
    """Start a track at each of the frames, and extend all of them by one frame at a time."""
    open_tracks: dict[int, tuple[NDArray[np.float64], NDArray[np.bool_]]] = {}
    for time in times:
        field, known_vectors = field_at(time)
        if time in frames:
            open_tracks[time] = np.zeros(field.shape), np.ones_like(known_vectors)
        for start, (motion, known) in open_tracks.items():
            pixel = _nearest_pixel(motion)
            open_tracks[start] = motion + field[pixel], known & known_vectors[pixel]
            if time + step in frames:
                yield Track(start, time + step, *open_tracks[start])


def _of_pixels(field: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    H, W = size
    return field.repeat(BLOCK, axis=1).repeat(BLOCK, axis=2)[:, :H, :W]


def _nearest_pixel(motion: NDArray[np.float64]) -> tuple[NDArray[np.intp], ...]:
    """Return the index of the pixel that each pixel has moved to, within the border."""
    N, H, W, _ = motion.shape
    row, column = np.arange(H)[:, None], np.arange(W)
    y = np.clip(np.rint(row + motion[..., 1]), 0, H - 1).astype(np.intp)
    x = np.clip(np.rint(column + motion[..., 0]), 0, W - 1).astype(np.intp)
    return np.arange(N)[:, None, None], y, x


def _reversed(field: NDArray[np.float32], known: NDArray[np.bool_]) -> Field:
    """Turn vectors from a frame to the one before into vectors from that one forward."""
    N, H, W = known.shape
    y = np.rint(np.arange(H)[:, None] + field[..., 1])
    x = np.rint(np.arange(W) + field[..., 0])
    inside = known & (y >= 0) & (y < H) & (x >= 0) & (x < W)
    n = np.broadcast_to(np.arange(N)[:, None, None], inside.shape)[inside]
    pixel = n, y[inside].astype(np.intp), x[inside].astype(np.intp)
    forward, forward_known = -field, np.zeros_like(known)
    # Of several vectors that point to one pixel the last one stays.
    forward[pixel] = -field[inside]
    forward_known[pixel] = True
    return forward, forward_known
