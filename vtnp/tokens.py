"""From video to tokens: the tokenisations and embeddings of the survey's §3-1."""

import math
from typing import Literal, NamedTuple

from vtnp._array.typing import Array, Float
from vtnp._array.xp import device, namespace, plus_bias
from vtnp._registry.spec import spec

Sizes = tuple[int, int, int]
PatchOrder = Literal["thwc", "cthw"]
Padding = Literal["zeros", "border"]


class Grid(NamedTuple):
    """How tokens lie in a video: t frames of h rows and w columns.

    In a sequence frame follows frame and row follows row: the token of frame i, row y and column x
    is number (i h + y) w + x.
    """

    t: int
    h: int
    w: int


@spec(
    "patch-tokens",
    requires=("min(size) >= 1", "T % size[0] == H % size[1] == W % size[2] == 0"),
)
def patch_tokens(
    video: Float[Array, "*b T H W C"], *, size: Sizes, order: PatchOrder = "thwc"
) -> Float[Array, "*b t s p"]:
    """Cut a video into non-overlapping patches of equal size and flatten each.

    x[t, i w + j] = flat(video[t p_t : (t+1) p_t, i p_h : (i+1) p_h, j p_w : (j+1) p_w])

    Parameters
    ----------
    video : array
        Frames, rows, columns, channels.
    size : tuple of int
        (p_t, p_h, p_w), each dividing its axis; p_t = 1 gives 2-D patches.
    order : {"thwc", "cthw"}
        Order in which a patch is flattened, the last letter varying fastest: channels last, or
        channels first, as in the weights of torch's convolutions.

    Returns
    -------
    array
        Flattened patches, the patches of each frame in raster order.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If a size is below 1 or does not divide its axis, or order is another string.

    Notes
    -----
    Published code drops the rows and columns left over; here they are an error.

    References
    ----------
    spec/tokens/patch-tokens.md; survey, section 3-1.
    """
    *batch, T, H, W, C = video.shape
    p_t, p_h, p_w = size
    t, h, w = T // p_t, H // p_h, W // p_w
    xp = namespace(video)
    patches = xp.reshape(video, (*batch, t, p_t, h, p_h, w, p_w, C))
    patches = xp.moveaxis(patches, (-5, -3), (-6, -5))
    if order == "cthw":
        patches = xp.moveaxis(patches, -1, -4)
    tokens = xp.reshape(patches, (*batch, t, h * w, p_t * p_h * p_w * C))
    # If no axis has moved, the reshaped array is a view of the video; results never are.
    return xp.concat([tokens], axis=-1)


@spec("frame-tokens", requires=("H >= 1", "W >= 1"))
def frame_tokens(video: Float[Array, "*b T H W C"]) -> Float[Array, "*b T p"]:
    """Flatten every frame into one token.

    x[t] = flat(video[t])

    Parameters
    ----------
    video : array
        Frames, rows, columns, channels.

    Returns
    -------
    array
        One token for each frame.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If frames have no pixels.

    References
    ----------
    spec/tokens/frame-tokens.md; survey, section 3-1.
    """
    return clip_tokens(video, length=1)


@spec("clip-tokens", requires=("H >= 1", "W >= 1", "length >= 1", "T % length == 0"))
def clip_tokens(video: Float[Array, "*b T H W C"], *, length: int) -> Float[Array, "*b t p"]:
    """Flatten every clip of consecutive frames into one token.

    x[t] = flat(video[t length : (t+1) length])

    Parameters
    ----------
    video : array
        Frames, rows, columns, channels.
    length : int
        Frames in a clip; it divides the number of frames.

    Returns
    -------
    array
        One token for each clip.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If the length is below 1 or does not divide the number of frames, or frames have no pixels.

    References
    ----------
    spec/tokens/clip-tokens.md; survey, section 3-1.
    """
    *_, H, W, _ = video.shape
    tokens = patch_tokens(video, size=(length, H, W))
    return namespace(video).squeeze(tokens, axis=-2)


@spec("instance-tokens", requires=("min(size) >= 1", "H >= 1", "W >= 1"))
def instance_tokens(
    video: Float[Array, "*b T H W C"], boxes: Float[Array, "*b T k 4"], *, size: tuple[int, int]
) -> Float[Array, "*b T k p"]:
    """Resample every box of every frame to a grid of fixed size and flatten it into one token.

    x[t,k,i,j] = video[t] at (x1, y1) + (x2 - x1, y2 - y1) ((j + 1/2)/w, (i + 1/2)/h) - 1/2

    Parameters
    ----------
    video : array
        Frames, rows, columns, channels.
    boxes : array
        (x1, y1, x2, y2) in pixels from the frame's upper left corner, so that (0, 0, W, H) is the
        whole frame.
    size : tuple of int
        (h, w) of the grid.

    Returns
    -------
    array
        One token for each box.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If a size is below 1, or frames have no pixels.

    Notes
    -----
    Each cell takes one bilinear sample, at its centre, and nothing is rounded. Samples up to a
    pixel outside the frame take the value at the border, those further out 0: RoIAlign with
    aligned=True and sampling_ratio=1. Boxes have gradients.

    References
    ----------
    spec/tokens/instance-tokens.md; survey, section 3-1.
    """
    *front, H, W, C = video.shape
    k, (h, w) = boxes.shape[-2], size
    xp = namespace(video, boxes)
    corner, opposite = boxes[..., None, :2], boxes[..., None, 2:]
    locations = corner + (opposite - corner) * _cell_centres(h, w, like=boxes) - 0.5
    locations = xp.reshape(locations, (*front, k * h * w, 2))
    pixels = bilinear_sample(video, locations, padding="border")
    pixels = xp.where(_is_off_frame(locations, H, W)[..., None], 0.0, pixels)
    # Dask neither splits nor merges an axis while its neighbour changes: one after the other.
    pixels = xp.reshape(pixels, (*front, k, h * w, C))
    return xp.reshape(pixels, (*front, k, h * w * C))


def _cell_centres(h: int, w: int, *, like: Array) -> Array:
    """Return the centres (x, y) of h by w equal cells of the unit square, in raster order."""
    xp, kind = namespace(like), {"dtype": like.dtype, "device": device(like)}
    x, y = (xp.arange(w, **kind) + 0.5) / w, (xp.arange(h, **kind) + 0.5) / h
    x, y = xp.broadcast_arrays(x[None, :], y[:, None])
    return xp.reshape(xp.stack([x, y], axis=-1), (h * w, 2))


def _is_off_frame(locations: Array, H: int, W: int) -> Array:
    """Tell which locations are more than a pixel outside the frame."""
    xp, x, y = namespace(locations), locations[..., 0], locations[..., 1]
    return xp.logical_or(xp.logical_or(x < -1, x > W), xp.logical_or(y < -1, y > H))


@spec("bilinear-sample", requires=("h >= 1", "w >= 1"))
def bilinear_sample(
    v: Float[Array, "*b h w d"], locations: Float[Array, "*b k 2"], *, padding: Padding = "zeros"
) -> Float[Array, "*b k d"]:
    """Sample a grid between its cells by bilinear interpolation.

    y[k] = sum_{i,j} max(0, 1 - |y_k - i|) max(0, 1 - |x_k - j|) v[i,j]

    Parameters
    ----------
    v : array
        Values on a grid of h rows and w columns.
    locations : array
        Where to sample: (x, y) in cells, (j, i) being the centre of column j in row i.
    padding : {"zeros", "border"}
        What lies outside the grid: zeros, or the value of the nearest cell.

    Returns
    -------
    array
        One sample for each location.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If the grid has no cells, or padding is another string.

    Notes
    -----
    A location that is NaN gives NaN. At the centre of a cell, where the derivative jumps, the
    gradient is the one to the right and below. A cell of weight 0 still makes the sample NaN if it
    is infinite or NaN.

    References
    ----------
    spec/tokens/bilinear-sample.md; survey, section 3-5.
    """
    *_, h, w, _ = v.shape
    xp = namespace(v, locations)
    column, across = _neighbours(locations[..., 0], w, padding)
    row, down = _neighbours(locations[..., 1], h, padding)
    weights = down[..., :, None] * across[..., None, :]
    index = row[..., :, None] * w + column[..., None, :]
    four = (*index.shape[:-2], 4)
    cells = _gathered(v, xp.reshape(index, four))
    y = xp.expand_dims(xp.reshape(weights, four), axis=-2) @ cells
    return xp.squeeze(y, axis=-2)


def _neighbours(x: Array, n: int, padding: Padding) -> tuple[Array, Array]:
    """Return the two cells around each coordinate along an axis of n cells, and their weights."""
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


def _gathered(v: Array, index: Array) -> Array:
    """Gather cells by their number in their grid: `*b h w d` and `*b k m` to `*b k m d`."""
    *batch, h, w, d = v.shape
    grids, each = math.prod(batch), math.prod(index.shape[len(batch) :])
    xp = namespace(v)
    # One take from all grids at once: an index for each element of v would be d times as large.
    first = xp.arange(grids, device=device(v)) * (h * w)
    flat = xp.reshape(index, (grids, each)) + first[:, None]
    cells = xp.take(xp.reshape(v, (grids * h * w, d)), xp.reshape(flat, (grids * each,)), axis=0)
    return xp.reshape(cells, (*index.shape, d))


@spec("linear-embedding")
def linear_embedding(
    x: Float[Array, "*b p"], E: Float[Array, "p d"], *, bias: Float[Array, " d"] | None = None
) -> Float[Array, "*b d"]:
    """Map every flattened token to the model's width.

    z = E^T x + bias

    Parameters
    ----------
    x : array
        Flattened tokens.
    E : array
        The linear map.
    bias : array, optional
        Left out, none is added.

    Returns
    -------
    array
        Embedded tokens.

    Raises
    ------
    ShapeError
        If axes do not fit.

    Notes
    -----
    The minimal embedding of the survey, E x in its eq. (1).

    References
    ----------
    spec/tokens/linear-embedding.md; survey, section 3-1.
    """
    return plus_bias(x @ E, bias)


@spec(
    "sliding-windows",
    requires=(
        "min(stride) >= 1",
        "min(padding) >= 0",
        "all(1 <= k <= n + 2 * p for k, n, p in zip(size, (T, H, W), padding))",
    ),
)
def sliding_windows(
    video: Float[Array, "*b T H W C"], *, size: Sizes, stride: Sizes, padding: Sizes = (0, 0, 0)
) -> Float[Array, "*b t h w k_t k_h k_w C"]:
    """Collect the window of a kernel at each of its positions.

    y[t,h,w,a,b,c] = video[t s_t + a - p_t, h s_h + b - p_h, w s_w + c - p_w], 0 outside

    Parameters
    ----------
    video : array
        Frames, rows, columns, channels.
    size : tuple of int
        (k_t, k_h, k_w) of the kernel.
    stride : tuple of int
        (s_t, s_h, s_w), the distance from one window to the next.
    padding : tuple of int
        (p_t, p_h, p_w), the number of zeros before and after each axis.

    Returns
    -------
    array
        Positions of the window, then positions within it.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If a size or stride is below 1, a padding is negative, or the window is larger than the
        padded video.

    Notes
    -----
    Whatever is left over after the last window that fits is ignored.

    References
    ----------
    spec/tokens/sliding-windows.md; survey, section 3-1.
    """
    windows = video
    for k, s, p in zip(size, stride, padding, strict=True):
        windows = _unfolded(windows, k, s, p)
    return windows


def _unfolded(x: Array, k: int, stride: int, padding: int) -> Array:
    """Unfold axis -4 into windows along it, and put their own axis before the last one.

    The next axis then becomes axis -4: three calls unfold all three.
    """
    xp = namespace(x)
    *front, n, a, b, c = x.shape
    if padding:
        blank = xp.zeros((*front, padding, a, b, c), dtype=x.dtype, device=device(x))
        x = xp.concat([blank, x, blank], axis=-4)
    last = (n + 2 * padding - k) // stride * stride
    return xp.stack([x[..., i : i + last + 1 : stride, :, :, :] for i in range(k)], axis=-2)


@spec(
    "spatial-embedding",
    requires=(
        "min(stride) >= 1",
        "min(padding) >= 0",
        "1 <= k_h <= H + 2 * padding[0]",
        "1 <= k_w <= W + 2 * padding[1]",
    ),
)
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

    Parameters
    ----------
    video : array
        Frames, rows, columns, channels.
    kernel : array
        One linear map for each position within the window.
    bias : array, optional
        Left out, none is added.
    stride : tuple of int
        (s_h, s_w), the distance from one window to the next.
    padding : tuple of int
        (p_h, p_w), the number of zeros before and after each axis.

    Returns
    -------
    array
        One token for each position of the kernel in each frame.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If a stride is below 1, a padding is negative, or the kernel has no elements or is larger
        than the padded frame.

    Notes
    -----
    As in every deep learning library, the kernel is not flipped.

    References
    ----------
    spec/tokens/spatial-embedding.md; survey, section 3-1.
    """
    kernel = namespace(kernel).expand_dims(kernel, axis=0)
    return spatio_temporal_embedding(
        video, kernel, bias=bias, stride=(1, *stride), padding=(0, *padding)
    )


@spec(
    "spatio-temporal-embedding",
    requires=(
        "min(stride) >= 1",
        "min(padding) >= 0",
        "1 <= k_t <= T + 2 * padding[0]",
        "1 <= k_h <= H + 2 * padding[1]",
        "1 <= k_w <= W + 2 * padding[2]",
    ),
)
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

    Parameters
    ----------
    video : array
        Frames, rows, columns, channels.
    kernel : array
        One linear map for each position within the window.
    bias : array, optional
        Left out, none is added.
    stride : tuple of int
        (s_t, s_h, s_w), the distance from one window to the next.
    padding : tuple of int
        (p_t, p_h, p_w), the number of zeros before and after each axis.

    Returns
    -------
    array
        One token for each position of the kernel.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If a stride is below 1, a padding is negative, or the kernel has no elements or is larger
        than the padded video.

    Notes
    -----
    As in every deep learning library, the kernel is not flipped. With its size as stride and no
    padding this is the linear embedding of patches.

    References
    ----------
    spec/tokens/spatio-temporal-embedding.md; survey, section 3-1.
    """
    xp = namespace(video, kernel)
    k_t, k_h, k_w, C, d = kernel.shape
    windows = sliding_windows(video, size=(k_t, k_h, k_w), stride=stride, padding=padding)
    p = k_t * k_h * k_w * C
    windows = xp.reshape(windows, (*windows.shape[:-4], p))
    return linear_embedding(windows, xp.reshape(kernel, (p, d)), bias=bias)
