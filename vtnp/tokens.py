"""From video to tokens: the tokenisations and embeddings of the survey's §3-1."""

import math
from typing import NamedTuple

from vtnp._array.typing import Array, Float
from vtnp._array.xp import device, namespace, plus_bias
from vtnp._registry.errors import require
from vtnp._registry.spec import spec

Sizes = tuple[int, int, int]


class Grid(NamedTuple):
    """How tokens lie in a video: t frames of h rows and w columns.

    In a sequence frame follows frame and row follows row: the token of frame i, row y and column x
    is number (i h + y) w + x.
    """

    t: int
    h: int
    w: int


@spec("patch-tokens")
def patch_tokens(
    video: Float[Array, "*b T H W C"], *, size: Sizes, order: str = "thwc"
) -> Float[Array, "*b t s p"]:
    """Cut a video into patches of equal size that do not overlap, and flatten each.

    x[t, i w + j] = flat(video[t p_t : (t+1) p_t, i p_h : (i+1) p_h, j p_w : (j+1) p_w])

    video: frames, rows, columns, channels. size: (p_t, p_h, p_w), each dividing its axis; p_t = 1
    gives 2-D patches. order: in which a patch is flattened, the last letter fastest: "thwc"
    (channels last) or "cthw" (as torch's convolution weights are).
    Raises ShapeError; FormulaError for sizes that do not divide, or another order.
    Notes: published code drops the rows and columns left over; here they are an error.
    """
    *batch, T, H, W, C = video.shape
    p_t, p_h, p_w = size
    divides = min(size) >= 1 and T % p_t == H % p_h == W % p_w == 0
    require(divides, "patch-tokens", "size", f"sizes that divide {(T, H, W)}", size)
    require(order in _FLAT, "patch-tokens", "order", f"one of {sorted(_FLAT)}", order)
    xp = namespace(video)
    t, h, w = T // p_t, H // p_h, W // p_w
    split = xp.reshape(video, (*batch, t, p_t, h, p_h, w, p_w, C))
    front = tuple(range(len(batch)))
    patches = xp.permute_dims(split, front + tuple(len(batch) + i for i in _FLAT[order]))
    tokens = xp.reshape(patches, (*batch, t, h * w, p_t * p_h * p_w * C))
    # Where no axis has moved, the reshaped array is a view of the video, which results never are.
    return xp.concat([tokens], axis=-1)


# Where the axes t p_t h p_h w p_w C go: first the three of the grid, then those of the patch.
_FLAT = {"thwc": (0, 2, 4, 1, 3, 5, 6), "cthw": (0, 2, 4, 6, 1, 3, 5)}


@spec("frame-tokens")
def frame_tokens(video: Float[Array, "*b T H W C"]) -> Float[Array, "*b T p"]:
    """Make every frame one token.

    x[t] = flat(video[t])

    video: frames, rows, columns, channels.
    Raises ShapeError; FormulaError for frames without pixels.
    """
    return clip_tokens(video, length=1)


@spec("clip-tokens")
def clip_tokens(video: Float[Array, "*b T H W C"], *, length: int) -> Float[Array, "*b t p"]:
    """Make every run of consecutive frames one token.

    x[t] = flat(video[t length : (t+1) length])

    video: frames, rows, columns, channels. length: frames in a clip; it divides their number.
    Raises ShapeError; FormulaError for a length that does not divide.
    """
    *_, H, W, _ = video.shape
    tokens = patch_tokens(video, size=(length, H, W))
    return namespace(video).squeeze(tokens, axis=-2)


@spec("instance-tokens")
def instance_tokens(
    video: Float[Array, "*b T H W C"], boxes: Float[Array, "*b T k 4"], *, size: tuple[int, int]
) -> Float[Array, "*b T k p"]:
    """Make every box of every frame one token: its pixels, resampled to a grid of fixed size.

    x[t,k,i,j] = video[t] at (x1, y1) + (x2 - x1, y2 - y1) ((j + 1/2)/w, (i + 1/2)/h) - 1/2

    video: frames, rows, columns, channels. boxes: (x1, y1, x2, y2) in pixels from the frame's
    upper left corner, so that (0, 0, W, H) is the whole frame. size: (h, w) of the grid.
    Raises ShapeError; FormulaError for a grid or a frame without cells.
    Notes: one bilinear sample at the centre of each cell, nothing rounded. Samples at most a
    pixel outside read the border, those further out 0: RoIAlign with aligned=True and
    sampling_ratio=1. Gradients run through the boxes.
    """
    h, w = size
    require(min(size) >= 1, "instance-tokens", "size", "at least one cell", size)
    xp = namespace(video, boxes)
    *front, H, W, C = video.shape
    k = boxes.shape[-2]
    across, down = _centres(w, boxes), _centres(h, boxes)
    x, y = xp.broadcast_arrays(xp.expand_dims(across, axis=0), xp.expand_dims(down, axis=1))
    cells = xp.reshape(xp.stack([x, y], axis=-1), (h * w, 2))
    corner = xp.expand_dims(boxes[..., :2], axis=-2)
    opposite = xp.expand_dims(boxes[..., 2:], axis=-2)
    places = corner + (opposite - corner) * cells - 0.5
    places = xp.reshape(places, (*front, k * h * w, 2))
    x, y = places[..., 0], places[..., 1]
    outside = xp.logical_or(xp.logical_or(x < -1, x > W), xp.logical_or(y < -1, y > H))
    pixels = bilinear_sample(video, places, padding="border")
    pixels = xp.where(xp.expand_dims(outside, axis=-1), 0.0, pixels)
    # Dask neither splits nor merges an axis while its neighbour changes: one after the other.
    pixels = xp.reshape(pixels, (*front, k, h * w, C))
    return xp.reshape(pixels, (*front, k, h * w * C))


def _centres(n: int, like: Array) -> Array:
    """Return the centres of n equal parts of the unit interval."""
    return (namespace(like).arange(n, dtype=like.dtype, device=device(like)) + 0.5) / n


@spec("bilinear-sample")
def bilinear_sample(
    v: Float[Array, "*b h w d"], positions: Float[Array, "*b k 2"], *, padding: str = "zeros"
) -> Float[Array, "*b k d"]:
    """Read a grid between its cells, weighing the four cells around each position.

    y[k] = sum_{i,j} max(0, 1 - |y_k - i|) max(0, 1 - |x_k - j|) v[i,j]

    v: a grid of h rows and w columns. positions: (x, y) in cells: (j, i) is the centre of
    column j in row i. padding: what lies outside the grid: "zeros", or "border" for its nearest
    cell.
    Raises ShapeError; FormulaError for an empty grid or another word.
    Notes: a position that is NaN reads NaN. The gradient of a position that hits a cell's centre
    is the one to its right and below. A cell of weight 0 still spoils the sum if it is infinite.
    """
    *batch, h, w, d = v.shape
    k = positions.shape[-2]
    require(h * w >= 1, "bilinear-sample", "v", "at least one cell", (h, w))
    require(padding in _PADDINGS, "bilinear-sample", "padding", f"one of {_PADDINGS}", padding)
    xp = namespace(v, positions)
    column, across = _neighbours(positions[..., 0], w, padding)
    row, down = _neighbours(positions[..., 1], h, padding)
    weights = xp.expand_dims(down, axis=-1) * xp.expand_dims(across, axis=-2)
    cell = xp.expand_dims(row, axis=-1) * w + xp.expand_dims(column, axis=-2)
    grids = math.prod(batch)
    first = xp.arange(grids, device=device(v)) * (h * w)
    # One take from all grids at once: an index for each element of v would be d times as large.
    cell = xp.reshape(cell, (grids, k * 4)) + xp.expand_dims(first, axis=-1)
    cells = xp.take(xp.reshape(v, (grids * h * w, d)), xp.reshape(cell, (grids * k * 4,)), axis=0)
    mixed = xp.reshape(weights, (*batch, k, 1, 4)) @ xp.reshape(cells, (*batch, k, 4, d))
    return xp.squeeze(mixed, axis=-2)


_PADDINGS = ("border", "zeros")


def _neighbours(x: Array, n: int, padding: str) -> tuple[Array, Array]:
    """Return the two cells around each coordinate along an axis of n, and their weights."""
    xp = namespace(x)
    # From one cell outside onwards nothing changes any more, and any index can be cast. No dtype
    # rounds a power of two; cells are counted in integers, as half precision would skip some.
    near = xp.where(x < -1, -1.0, xp.where(x > n, float(1 << (n - 1).bit_length()), x))
    low = xp.floor(xp.where(xp.isnan(near), 0.0, near))
    first = xp.astype(low, xp.int32)
    cells = xp.stack([first, first + 1], axis=-1)
    past = near - low
    weights = xp.stack([1.0 - past, past], axis=-1)
    if padding == "zeros":
        weights = xp.where(xp.logical_and(cells >= 0, cells <= n - 1), weights, 0.0)
    return xp.clip(cells, 0, n - 1), weights


@spec("linear-embedding")
def linear_embedding(
    x: Float[Array, "*b p"], E: Float[Array, "p d"], *, bias: Float[Array, " d"] | None = None
) -> Float[Array, "*b d"]:
    """Map every flattened token to the model's width.

    z = E^T x + bias

    x: tokens. E: the map. bias: left out, none is added.
    Raises ShapeError.
    Notes: the minimal embedding of the survey, E x in its eq. (1).
    """
    return plus_bias(x @ E, bias)


@spec("sliding-windows")
def sliding_windows(
    video: Float[Array, "*b T H W C"], *, size: Sizes, stride: Sizes, padding: Sizes = (0, 0, 0)
) -> Float[Array, "*b t h w k_t k_h k_w C"]:
    """Collect what a kernel sees at each of its places.

    y[t,h,w,a,b,c] = video[t s_t + a - p_t, h s_h + b - p_h, w s_w + c - p_w], 0 outside

    video: frames, rows, columns, channels. size: (k_t, k_h, k_w) of the kernel. stride: s, the
    steps from one place to the next. padding: p, how many zeros stand before and after each axis.
    Raises ShapeError; FormulaError for sizes or strides below 1, a negative padding, or a window
    larger than the padded video.
    Notes: what is left over behind the last window that fits is not looked at.
    """
    whole = min(*size, *stride) >= 1 and min(padding) >= 0
    expected = "three numbers each, size and stride >= 1, padding >= 0"
    require(whole, "sliding-windows", "size, stride, padding", expected, (size, stride, padding))
    fits = all(n + 2 * p >= k for n, p, k in zip(video.shape[-4:], padding, size, strict=False))
    require(
        fits, "sliding-windows", "size", f"at most that of the video {tuple(video.shape)}", size
    )
    unfolded = video
    for k, step, edge in zip(size, stride, padding, strict=True):
        unfolded = _unfolded(unfolded, k, step, edge)
    return unfolded


def _unfolded(x: Array, k: int, step: int, edge: int) -> Array:
    """Unfold axis -4 of x into places and, before the last axis, what is seen at each.

    The axis behind it then becomes axis -4: three times this unfolds all three.
    """
    xp = namespace(x)
    *front, n, a, b, c = x.shape
    if edge:
        blank = xp.zeros((*front, edge, a, b, c), dtype=x.dtype, device=device(x))
        x = xp.concat([blank, x, blank], axis=-4)
    last = (n + 2 * edge - k) // step * step
    return xp.stack([x[..., i : i + last + 1 : step, :, :, :] for i in range(k)], axis=-2)


@spec("spatial-embedding")
def spatial_embedding(
    video: Float[Array, "*b T H W C"],
    kernel: Float[Array, "k_h k_w C d"],
    *,
    bias: Float[Array, " d"] | None = None,
    stride: tuple[int, int],
    padding: tuple[int, int] = (0, 0),
) -> Float[Array, "*b T h w d"]:
    """Embed every frame by a two-dimensional convolution.

    z[t,h,w] = bias + sum_{a,b} kernel[a,b]^T video[t, h s_h + a - p_h, w s_w + b - p_w], 0 outside

    video: frames, rows, columns, channels. kernel: one map for each place under it. bias: left
    out, none is added. stride: (s_h, s_w). padding: (p_h, p_w) zeros before and after.
    Raises ShapeError; FormulaError as windows does.
    Notes: as in every network library the kernel is not flipped.
    """
    kernel = namespace(kernel).expand_dims(kernel, axis=0)
    return spatio_temporal_embedding(
        video, kernel, bias=bias, stride=(1, *stride), padding=(0, *padding)
    )


@spec("spatio-temporal-embedding")
def spatio_temporal_embedding(
    video: Float[Array, "*b T H W C"],
    kernel: Float[Array, "k_t k_h k_w C d"],
    *,
    bias: Float[Array, " d"] | None = None,
    stride: Sizes,
    padding: Sizes = (0, 0, 0),
) -> Float[Array, "*b t h w d"]:
    """Embed a video by a three-dimensional convolution.

    z[t,h,w] = bias + sum_{a,b,c} kernel[a,b,c]^T sliding_windows(video)[t,h,w,a,b,c]

    video: frames, rows, columns, channels. kernel: one map for each place under it. bias: left
    out, none is added. stride: (s_t, s_h, s_w). padding: zeros before and after each axis.
    Raises ShapeError; FormulaError as windows does.
    Notes: as in every network library the kernel is not flipped. With stride = size of the
    kernel it is the linear embedding of patches.
    """
    xp = namespace(video, kernel)
    *size, C, d = kernel.shape
    seen = sliding_windows(video, size=tuple(size), stride=stride, padding=padding)
    flat = math.prod(size) * C
    return linear_embedding(
        xp.reshape(seen, (*seen.shape[:-4], flat)), xp.reshape(kernel, (flat, d)), bias=bias
    )
