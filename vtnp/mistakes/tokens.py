"""The usual mistakes of the pages in spec/tokens/."""

import math

from vtnp._array.xp import device, namespace, plus_bias
from vtnp.mistakes._registry import mistake
from vtnp.tokens import (
    bilinear_sample,
    clip_tokens,
    frame_tokens,
    instance_tokens,
    patch_tokens,
    sliding_windows,
    spatial_embedding,
    spatio_temporal_embedding,
)


def _split(video, size):
    """Return the axes t p_t h p_h w p_w C behind the batch, and the counts of the grid."""
    *batch, T, H, W, C = video.shape
    p_t, p_h, p_w = size
    grid = t, h, w = T // p_t, H // p_h, W // p_w
    shape = (*batch, t, p_t, h, p_h, w, p_w, C)
    return namespace(video).reshape(video, shape), grid


def _tokens(video, size, order):
    """Return patches with the axes of the split in another order, flattened all the same."""
    split, (t, h, w) = _split(video, size)
    batch = split.ndim - 7
    xp = namespace(video)
    moved = xp.permute_dims(split, tuple(range(batch)) + tuple(batch + i for i in order))
    return xp.reshape(moved, (*video.shape[:-4], t, h * w, math.prod(size) * video.shape[-1]))


@mistake("patch-tokens", "columns-first")
def patches_columns_first(video, *, size, order="thwc"):
    return _tokens(video, size, (0, 4, 2, 1, 3, 5, 6) if order == "thwc" else (0, 4, 2, 6, 1, 3, 5))


@mistake("patch-tokens", "time-after-space")
def patches_with_time_after_space(video, *, size, order="thwc"):
    return _tokens(video, size, (0, 2, 4, 3, 5, 1, 6) if order == "thwc" else (0, 2, 4, 6, 3, 5, 1))


@mistake("patch-tokens", "other-order")
def patches_in_the_other_order(video, *, size, order="thwc"):
    return patch_tokens(video, size=size, order="cthw" if order == "thwc" else "thwc")


@mistake("patch-tokens", "reshape-only")
def patches_by_reshape_only(video, *, size, order="thwc"):
    return _tokens(video, size, tuple(range(7)))


@mistake("frame-tokens", "columns-first")
def frames_columns_first(video):
    return frame_tokens(namespace(video).moveaxis(video, -2, -3))


@mistake("frame-tokens", "channels-first")
def frames_channels_first(video):
    xp = namespace(video)
    return xp.reshape(frame_tokens(xp.moveaxis(video, -1, -3)), frame_tokens(video).shape)


@mistake("clip-tokens", "strided-frames")
def clips_of_strided_frames(video, *, length):
    """A clip takes frames a fixed distance apart instead of consecutive ones."""
    xp = namespace(video)
    *batch, T, H, W, C = video.shape
    strided = xp.reshape(video, (*batch, length, T // length, H, W, C))
    reordered = xp.reshape(xp.moveaxis(strided, -4, -5), video.shape)
    return clip_tokens(reordered, length=length)


@mistake("clip-tokens", "mean-frame")
def clips_of_the_mean_frame(video, *, length):
    """All frames of a clip are replaced by their mean, as pooling would."""
    xp = namespace(video)
    x = clip_tokens(video, length=length)
    frames = xp.reshape(x, (*x.shape[:-1], length, x.shape[-1] // length))
    mean = xp.mean(frames, axis=-2, keepdims=True)
    return xp.reshape(xp.broadcast_to(mean, frames.shape), x.shape)


@mistake("bilinear-sample", "xy-swapped")
def sample_with_x_and_y_swapped(v, locations, *, padding="zeros"):
    return bilinear_sample(v, namespace(locations).flip(locations, axis=-1), padding=padding)


def _mapped(v, locations, function):
    """Return the locations with function(x, n) in place of each coordinate."""
    xp = namespace(v, locations)
    *_, h, w, _ = v.shape
    moved = [function(locations[..., i], n) for i, n in enumerate((w, h))]
    return xp.stack(moved, axis=-1)


@mistake("bilinear-sample", "align-corners")
def sample_with_corners_aligned(v, locations, *, padding="zeros"):
    """Coordinates normalised by one convention and interpreted by the other."""
    locations = _mapped(v, locations, lambda x, n: (x + 0.5) * ((n - 1) / n))
    return bilinear_sample(v, locations, padding=padding)


@mistake("bilinear-sample", "half-pixel")
def sample_half_a_pixel_off(v, locations, *, padding="zeros"):
    return bilinear_sample(v, locations - 0.5, padding=padding)


@mistake("bilinear-sample", "nearest")
def sample_the_nearest_cell(v, locations, *, padding="zeros"):
    locations = namespace(locations).round(locations)
    return bilinear_sample(v, locations, padding=padding)


@mistake("bilinear-sample", "weights-swapped")
def sample_with_weights_swapped(v, locations, *, padding="zeros"):
    """The far cell gets the weight of the near one."""
    xp = namespace(locations)
    low = xp.floor(locations)
    return bilinear_sample(v, low + 1.0 - (locations - low), padding=padding)


@mistake("bilinear-sample", "truncation")
def sample_by_truncation(v, locations, *, padding="zeros"):
    """Casting to int rounds towards 0, so that between -1 and 0 the sum extrapolates."""
    xp = namespace(v, locations)
    low = xp.trunc(locations)
    past = locations - low
    corners = [(low + step, past if step else 1.0 - past) for step in (0.0, 1.0)]
    total = 0.0
    for x, across in ((c[..., 0], weight[..., 0]) for c, weight in corners):
        for y, down in ((c[..., 1], weight[..., 1]) for c, weight in corners):
            cell = bilinear_sample(v, xp.stack([x, y], axis=-1), padding=padding)
            total = total + xp.expand_dims(across * down, axis=-1) * cell
    return total


@mistake("bilinear-sample", "other-padding")
def sample_with_the_other_padding(v, locations, *, padding="zeros"):
    return bilinear_sample(v, locations, padding="border" if padding == "zeros" else "zeros")


@mistake("instance-tokens", "xy-swapped")
def boxes_with_x_and_y_swapped(video, boxes, *, size):
    xp = namespace(boxes)
    swapped = xp.stack([boxes[..., i] for i in (1, 0, 3, 2)], axis=-1)
    return instance_tokens(video, swapped, size=size)


@mistake("instance-tokens", "half-pixel")
def boxes_half_a_pixel_off(video, boxes, *, size):
    """The rule before aligned=True: a pixel's centre taken for its corner."""
    return instance_tokens(video, boxes + 0.5, size=size)


@mistake("instance-tokens", "rounded-boxes")
def boxes_rounded(video, boxes, *, size):
    """Boxes are rounded to whole pixels first, as RoIPool does."""
    return instance_tokens(video, namespace(boxes).round(boxes), size=size)


@mistake("instance-tokens", "width-and-height")
def boxes_as_width_and_height(video, boxes, *, size):
    """x2 and y2 are taken for the width and the height of the box."""
    xp = namespace(boxes)
    corner, extent = boxes[..., :2], boxes[..., 2:]
    return instance_tokens(video, xp.concat([corner, corner + extent], axis=-1), size=size)


@mistake("instance-tokens", "corners-sampled")
def boxes_sampled_at_their_corners(video, boxes, *, size):
    """Samples run from edge to edge of the box, not from the first cell centre to the last."""
    xp = namespace(boxes)
    widened = []
    for low, high, n in ((0, 2, size[1]), (1, 3, size[0])):
        middle, half = (boxes[..., low] + boxes[..., high]) / 2, boxes[..., high] - boxes[..., low]
        half = half / 2 * (n / (n - 1) if n > 1 else 1.0)
        widened.append((middle - half, middle + half))
    (x1, x2), (y1, y2) = widened
    return instance_tokens(video, xp.stack([x1, y1, x2, y2], axis=-1), size=size)


@mistake("instance-tokens", "zeros-outside")
def boxes_with_zeros_outside(video, boxes, *, size):
    """All is 0 outside, where RoIAlign keeps the border value for one more pixel."""
    xp = namespace(video, boxes)
    for axis in (-3, -2):
        shape = list(video.shape)
        shape[axis] = 3
        blank = xp.zeros(tuple(shape), dtype=video.dtype, device=device(video))
        video = xp.concat([blank, video, blank], axis=axis)
    return instance_tokens(video, boxes + 3.0, size=size)


@mistake("linear-embedding", "no-bias")
def embedding_without_bias(x, E, *, bias=None):
    return x @ E


@mistake("linear-embedding", "times-root-d")
def embedding_times_root_d(x, E, *, bias=None):
    """As word embeddings are scaled, and patches are not."""
    return plus_bias(x @ E * math.sqrt(E.shape[-1]), bias)


@mistake("linear-embedding", "bias-of-every-pixel")
def embedding_with_the_bias_of_every_pixel(x, E, *, bias=None):
    return plus_bias(x @ E, None if bias is None else bias * x.shape[-1])


@mistake("sliding-windows", "border-padding")
def windows_with_the_border_repeated(video, *, size, stride, padding=(0, 0, 0)):
    xp = namespace(video)
    for axis, edge in zip((-4, -3, -2), padding, strict=True):
        moved = xp.moveaxis(video, axis, 0)
        parts = [moved[:1, ...]] * edge + [moved] + [moved[-1:, ...]] * edge
        video = xp.moveaxis(xp.concat(parts, axis=0), 0, axis)
    return sliding_windows(video, size=size, stride=stride)


@mistake("sliding-windows", "padded-after")
def windows_padded_after(video, *, size, stride, padding=(0, 0, 0)):
    """All zeros are added after the video instead of half of them before it."""
    xp = namespace(video)
    for axis, edge in zip((-4, -3, -2), padding, strict=True):
        shape = list(video.shape)
        shape[axis] = 2 * edge
        blank = xp.zeros(tuple(shape), dtype=video.dtype, device=device(video))
        video = xp.concat([video, blank], axis=axis)
    return sliding_windows(video, size=size, stride=stride)


@mistake("sliding-windows", "flipped")
def windows_flipped(video, *, size, stride, padding=(0, 0, 0)):
    y = sliding_windows(video, size=size, stride=stride, padding=padding)
    return namespace(y).flip(y, axis=(-4, -3, -2))


@mistake("sliding-windows", "height-and-width-swapped")
def windows_transposed(video, *, size, stride, padding=(0, 0, 0)):
    """Rows and columns of the window are swapped, in shape and in content."""
    y = sliding_windows(video, size=size, stride=stride, padding=padding)
    return namespace(y).moveaxis(y, -3, -2)


def _flipped(kernel):
    return namespace(kernel).flip(kernel, axis=tuple(range(kernel.ndim - 2)))


@mistake("spatial-embedding", "kernel-flipped")
def spatial_kernel_flipped(video, kernel, **options):
    return spatial_embedding(video, _flipped(kernel), **options)


@mistake("spatial-embedding", "kernel-transposed")
def spatial_kernel_transposed(video, kernel, **options):
    """The kernel is taken for one stored column by column."""
    xp = namespace(kernel)
    transposed = xp.reshape(xp.moveaxis(kernel, 0, 1), kernel.shape)
    return spatial_embedding(video, transposed, **options)


@mistake("spatial-embedding", "channels-outside")
def spatial_kernel_channels_outside(video, kernel, **options):
    """A kernel stored as (C, k_h, k_w) is taken for (k_h, k_w, C)."""
    xp = namespace(kernel)
    moved = xp.reshape(xp.moveaxis(kernel, -2, 0), kernel.shape)
    return spatial_embedding(video, moved, **options)


@mistake("spatial-embedding", "mean-over-the-kernel")
def spatial_mean(video, kernel, **options):
    """The sum is divided by the size of the kernel, as in average pooling."""
    size = kernel.shape[0] * kernel.shape[1]
    return spatial_embedding(video, kernel / size, **options)


@mistake("spatio-temporal-embedding", "kernel-flipped")
def spatio_temporal_kernel_flipped(video, kernel, **options):
    return spatio_temporal_embedding(video, _flipped(kernel), **options)


@mistake("spatio-temporal-embedding", "channels-outside")
def spatio_temporal_kernel_channels_outside(video, kernel, **options):
    """A kernel stored as (C, k_t, k_h, k_w) is taken for (k_t, k_h, k_w, C)."""
    xp = namespace(kernel)
    moved = xp.reshape(xp.moveaxis(kernel, -2, 0), kernel.shape)
    return spatio_temporal_embedding(video, moved, **options)


@mistake("spatio-temporal-embedding", "time-after-space")
def spatio_temporal_time_after_space(video, kernel, **options):
    """A kernel stored as (k_h, k_w, k_t, C) is taken for (k_t, k_h, k_w, C)."""
    xp = namespace(kernel)
    moved = xp.reshape(xp.moveaxis(kernel, 0, 2), kernel.shape)
    return spatio_temporal_embedding(video, moved, **options)


@mistake("spatio-temporal-embedding", "no-bias")
def spatio_temporal_without_bias(video, kernel, *, bias=None, **options):
    return spatio_temporal_embedding(video, kernel, **options)


@mistake("spatio-temporal-embedding", "frame-by-frame")
def embedding_frame_by_frame(video, kernel, **options):
    """The kernel is averaged over time, so that the order of the frames is lost."""
    xp = namespace(kernel)
    mean = xp.mean(kernel, axis=0, keepdims=True)
    return spatio_temporal_embedding(video, xp.broadcast_to(mean, kernel.shape), **options)
