"""Inputs for the formulas of vtnp.tokens."""

from typing import Any

import numpy as np

from vtnp.claims.cases._draw import Draw, builds


def shuffled(draw: Draw, *sizes: int) -> tuple[Any, ...]:
    """Return the sizes in random order, as Python's integers."""
    return tuple(draw.shuffled(sizes))


def video(draw: Draw, *sizes: int) -> np.ndarray:
    """Draw a video of the given frames, rows, columns and a number of channels."""
    channels = draw.choice([1, 2, 5])
    return draw.numbers((*draw.batch, *sizes, channels))


@builds("patch-tokens")
def patch_tokens(draw: Draw) -> dict[str, Any]:
    size, grid = shuffled(draw, 1, 2, 3), shuffled(draw, 2, 3, 4)
    return {
        "video": video(draw, *(a * b for a, b in zip(size, grid, strict=True))),
        "size": size,
        "order": "cthw" if draw.chance() else "thwc",
    }


@builds("frame-tokens")
def frame_tokens(draw: Draw) -> dict[str, Any]:
    return {"video": video(draw, *shuffled(draw, 2, 3, 5))}


@builds("clip-tokens")
def clip_tokens(draw: Draw) -> dict[str, Any]:
    length, clips, H, W = shuffled(draw, 1, 2, 3, 4)
    return {"video": video(draw, length * clips, H, W), "length": length}


SAFE = 0.02  # cells; further from a cell centre than any finite difference moves


def is_smooth(x: np.ndarray) -> bool:
    """Tell whether interpolation has no kink near any of the coordinates."""
    return bool(np.all(np.abs(x - np.round(x)) > SAFE))


def coordinates(draw: Draw, n: int, shape: tuple[int, ...]) -> np.ndarray:
    """Draw coordinates in and around an axis of n cells, none of them near a kink."""
    x = draw.uniform(-2.5, n + 1.5, shape)
    near = np.abs(x - np.round(x)) <= SAFE
    return np.where(near, x + 4 * SAFE, x)


def interval(draw: Draw, n: int, cells: int) -> tuple[float, float]:
    """Draw the two edges of a box along an axis of n pixels: inside or not, in either order."""
    while True:
        low, high = draw.uniform(-3.0, n + 3.0, 2)
        if is_smooth(low + (np.arange(cells) + 0.5) / cells * (high - low) - 0.5):
            return low, high


@builds("instance-tokens")
def instance_tokens(draw: Draw) -> dict[str, Any]:
    T, k = shuffled(draw, 2, 3)
    H, W = shuffled(draw, 4, 6)
    h, w = shuffled(draw, 1, 2, 3)[:2]
    boxes = np.zeros((*draw.batch, T, k, 4))
    for box in np.ndindex(boxes.shape[:-1]):
        x1, x2 = interval(draw, W, w)
        y1, y2 = interval(draw, H, h)
        boxes[box] = x1, y1, x2, y2
    return {"video": video(draw, T, H, W), "boxes": boxes, "size": (h, w)}


@builds("bilinear-sample")
def bilinear_sample(draw: Draw) -> dict[str, Any]:
    v = draw.array("*b h w d")
    k = (*draw.batch, draw.size("k"))
    locations = [coordinates(draw, draw.size(axis), k) for axis in ("w", "h")]
    return {
        "v": v,
        "locations": np.stack(locations, axis=-1),
        "padding": "border" if draw.chance() else "zeros",
    }


@builds("linear-embedding")
def linear_embedding(draw: Draw) -> dict[str, Any]:
    args = {"x": draw.array("*b p"), "E": draw.array("p d")}
    if draw.chance():
        args["bias"] = draw.array("d")
    return args


@builds("sliding-windows")
def sliding_windows(draw: Draw) -> dict[str, Any]:
    args = {
        "video": video(draw, *shuffled(draw, 4, 5, 6)),
        "size": shuffled(draw, 1, 2, 3),
        "stride": shuffled(draw, 1, 2, 3),
    }
    if draw.chance():
        args["padding"] = shuffled(draw, 0, 1, 2)
    return args


def convolution(draw: Draw, args: dict[str, Any], axes: int) -> dict[str, Any]:
    """Turn arguments of sliding-windows into those of a convolution over the last axes."""
    kernel = (*args.pop("size")[-axes:], args["video"].shape[-1], draw.size("d"))
    args["kernel"] = draw.numbers(kernel)
    if draw.chance():
        args["bias"] = draw.array("d")
    for option in ("stride", "padding"):
        if option in args:
            args[option] = args[option][-axes:]
    return args


@builds("spatial-embedding")
def spatial_embedding(draw: Draw) -> dict[str, Any]:
    return convolution(draw, sliding_windows(draw), 2)


@builds("spatio-temporal-embedding")
def spatio_temporal_embedding(draw: Draw) -> dict[str, Any]:
    return convolution(draw, sliding_windows(draw), 3)
