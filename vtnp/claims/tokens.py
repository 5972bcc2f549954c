"""Laws and special cases of spec/tokens/."""

import math

import numpy as np

from vtnp import tokens as token_formulas
from vtnp.claims._registry import law, special
from vtnp.claims.compare import assert_at_most, assert_close

# --- patch-tokens, frame-tokens, clip-tokens ------------------------------------------------------


@law("patch-tokens", "every-value-once")
def patches_keep_every_value(case):
    assert np.array_equal(np.sort(case(), axis=None), np.sort(case["video"], axis=None))


@law("patch-tokens", "raster-order")
def patches_are_in_raster_order(case):
    """A change of one patch changes one token, numbered row by row."""
    (p_t, p_h, p_w), shape = case["size"], case["video"].shape
    t, h, w = (n // p for n, p in zip(shape[-4:-1], case["size"], strict=True))
    frame, i, j = (int(case.rng.integers(n)) for n in (t, h, w))
    marked = np.zeros(shape)
    marked[
        ...,
        frame * p_t : (frame + 1) * p_t,
        i * p_h : (i + 1) * p_h,
        j * p_w : (j + 1) * p_w,
        :,
    ] = 1.0
    expected = np.zeros((t, h * w))
    expected[frame, i * w + j] = 1.0
    x = case(video=marked)
    assert np.array_equal(x, np.broadcast_to(expected[..., None], x.shape))


@law("patch-tokens", "shift-by-a-frame")
def patches_shift_with_the_video(case):
    moved = np.roll(case["video"], case["size"][0], axis=-4)
    assert np.array_equal(case(video=moved), np.roll(case(), 1, axis=-3))


@law("patch-tokens", "orders-permute")
def orders_hold_the_same_numbers(case):
    channels_last, channels_first = case(order="thwc"), case(order="cthw")
    C = case["video"].shape[-1]
    split = channels_last.reshape(*channels_last.shape[:-1], -1, C)
    assert np.array_equal(np.swapaxes(split, -1, -2).reshape(channels_first.shape), channels_first)


@special("patch-tokens", "one-patch")
def one_patch(case):
    video = case["video"]
    x = case(size=video.shape[-4:-1], order="thwc")
    assert np.array_equal(x, video.reshape(*video.shape[:-4], 1, 1, -1))


@special("patch-tokens", "single-pixels")
def single_pixels(case):
    *batch, T, H, W, C = case["video"].shape
    x = case(size=(1, 1, 1))
    assert np.array_equal(x, case["video"].reshape(*batch, T, H * W, C))


@law("frame-tokens", "frames-are-independent")
def frames_are_independent(case):
    order = case.rng.permutation(case["video"].shape[-4])
    assert np.array_equal(case(video=case["video"][..., order, :, :, :]), case()[..., order, :])


@law("frame-tokens", "a-patch-of-a-frame")
def a_frame_is_one_patch(case):
    *_, H, W, _ = case["video"].shape
    whole = token_formulas.patch_tokens(case["video"], size=(1, H, W))
    assert np.array_equal(case(), whole[..., 0, :])


@special("frame-tokens", "one-pixel")
def frames_of_one_pixel(case):
    pixel = case["video"][..., :1, :1, :]
    assert np.array_equal(case(video=pixel), pixel[..., 0, 0, :])


@law("clip-tokens", "frames-in-a-row")
def clips_concatenate_their_frames(case):
    frames = token_formulas.frame_tokens(case["video"])
    assert np.array_equal(case(), frames.reshape(case().shape))


@law("clip-tokens", "shift-by-a-clip")
def clips_shift_with_the_video(case):
    moved = np.roll(case["video"], case["length"], axis=-4)
    assert np.array_equal(case(video=moved), np.roll(case(), 1, axis=-2))


@special("clip-tokens", "length-one")
def clips_of_one_frame(case):
    assert np.array_equal(case(length=1), token_formulas.frame_tokens(case["video"]))


@special("clip-tokens", "whole-video")
def one_clip(case):
    video = case["video"]
    x = case(length=video.shape[-4])
    assert np.array_equal(x, video.reshape(*video.shape[:-4], 1, -1))


# --- bilinear-sample ------------------------------------------------------------------------------


def inside(case, *, k=5):
    """Draw locations within the grid."""
    *batch, h, w, _ = case["v"].shape
    return case.rng.uniform(0.0, (w - 1, h - 1), (*batch, k, 2))


@law("bilinear-sample", "affine-exact")
def affine_grids_are_sampled_exactly(case):
    *batch, h, w, d = case["v"].shape
    a, b, c = case.numbers((3, d))
    row, column = np.arange(h)[:, None, None], np.arange(w)[None, :, None]
    v = np.broadcast_to(a + b * column + c * row, (*batch, h, w, d))
    locations = inside(case)
    expected = a + b * locations[..., :1] + c * locations[..., 1:]
    assert_close(case(v=v, locations=locations), expected)


@law("bilinear-sample", "linear-in-values")
def sampling_is_linear(case):
    other = case.numbers(case["v"].shape)
    together = case(v=2.0 * case["v"] - other)
    assert_close(together, 2.0 * case() - case(v=other))


@law("bilinear-sample", "convex-hull")
def samples_lie_between_their_cells(case):
    v, y = case["v"], case(padding="border")
    assert_at_most(v.min(axis=(-3, -2))[..., None, :], y)
    assert_at_most(y, v.max(axis=(-3, -2))[..., None, :])


@law("bilinear-sample", "transpose")
def transposed_grid(case):
    v, locations = np.swapaxes(case["v"], -3, -2), np.flip(case["locations"], axis=-1)
    assert_close(case(v=v, locations=locations), case())


@law("bilinear-sample", "mirror")
def mirrored_grid(case):
    *_, w, _ = case["v"].shape
    locations = case["locations"] * np.array([-1.0, 1.0]) + np.array([w - 1.0, 0.0])
    assert_close(case(v=np.flip(case["v"], axis=-2), locations=locations), case())


@law("bilinear-sample", "zeros-are-a-border-of-zeros")
def zeros_are_a_border_of_zeros(case):
    around = [(0, 0)] * (case["v"].ndim - 3) + [(1, 1), (1, 1), (0, 0)]
    ringed = case(v=np.pad(case["v"], around), locations=case["locations"] + 1, padding="border")
    assert_close(ringed, case(padding="zeros"))


@law("bilinear-sample", "border-is-the-nearest-location")
def border_clamps(case):
    *_, h, w, _ = case["v"].shape
    clamped = np.clip(case["locations"], 0.0, (w - 1.0, h - 1.0))
    assert_close(case(padding="border"), case(locations=clamped, padding="zeros"))


@special("bilinear-sample", "cell-centres")
def cell_centres_are_exact(case):
    *batch, h, w, _ = case["v"].shape
    x, y = case.rng.integers(w, size=5), case.rng.integers(h, size=5)
    locations = np.broadcast_to(np.stack([x, y], axis=-1).astype(float), (*batch, 5, 2))
    assert np.array_equal(case(locations=locations), case["v"][..., y, x, :])


@special("bilinear-sample", "half-outside")
def half_a_cell_outside(case):
    *batch, h, w, _ = case["v"].shape
    edges = np.array([[-0.5, 0.0], [w - 0.5, 0.0], [0.0, -0.5], [0.0, h - 0.5]])
    locations = np.broadcast_to(edges, (*batch, 4, 2))
    cells = case["v"][..., [0, 0, 0, h - 1], [0, w - 1, 0, 0], :]
    assert_close(case(locations=locations, padding="border"), cells)
    assert_close(case(locations=locations, padding="zeros"), 0.5 * cells)


@special("bilinear-sample", "far-outside")
def far_outside_and_at_infinity(case):
    *batch, h, w, _ = case["v"].shape
    left_and_right = [[x, 0.0] for x in (-1.0, -1e300, -np.inf, w, np.inf)]
    above_and_below = [[0.0, y] for y in (-1.0, -1e300, -np.inf, h, np.inf)]
    locations = np.broadcast_to(np.array(left_and_right + above_and_below), (*batch, 10, 2))
    assert not np.any(case(locations=locations, padding="zeros"))
    row, column = [0] * 5 + [0, 0, 0, h - 1, h - 1], [0, 0, 0, w - 1, w - 1] + [0] * 5
    border = case(locations=locations, padding="border")
    assert np.array_equal(border, case["v"][..., row, column, :])


@special("bilinear-sample", "nan-location")
def nan_locations_give_nan(case):
    locations = case["locations"].copy()
    locations[..., 0, 1] = np.nan
    y = case(locations=locations)
    assert np.all(np.isnan(y[..., 0, :]))
    assert_close(y[..., 1:, :], case()[..., 1:, :])


# --- instance-tokens ------------------------------------------------------------------------------


def interior(case):
    """Draw boxes whose samples all lie between the centres of border pixels."""
    *front, k, _ = case["boxes"].shape
    *_, H, W, _ = case["video"].shape
    return case.rng.uniform(0.5, (W - 0.5, H - 0.5, W - 0.5, H - 0.5), (*front, k, 4))


def centres(boxes, size):
    """Return x and y of every sample of every box, each *b T k h w."""
    h, w = size
    x1, y1, x2, y2 = (boxes[..., i, None, None] for i in range(4))
    across, down = (np.arange(w) + 0.5) / w, (np.arange(h)[:, None] + 0.5) / h
    x, y = x1 + (x2 - x1) * across - 0.5, y1 + (y2 - y1) * down - 0.5
    return np.broadcast_arrays(x, y)


@law("instance-tokens", "affine-exact")
def boxes_of_an_affine_frame(case):
    """Interpolation is exact on an affine frame, which fixes where every sample lies."""
    *_, H, W, C = case["video"].shape
    a, b, c = case.numbers((3, C))
    row, column = np.arange(H)[:, None, None], np.arange(W)[None, :, None]
    video = np.broadcast_to(a + b * column + c * row, case["video"].shape)
    boxes = interior(case)
    x, y = centres(boxes, case["size"])
    expected = a + b * x[..., None] + c * y[..., None]
    assert_close(case(video=video, boxes=boxes), expected.reshape(case().shape))


@law("instance-tokens", "moves-with-the-frame")
def boxes_move_with_the_frame(case):
    boxes, video = interior(case), case["video"]
    around = [(0, 0)] * (video.ndim - 3) + [(2, 1), (3, 0), (0, 0)]
    moved = case(video=np.pad(video, around), boxes=boxes + np.array([3.0, 2.0, 3.0, 2.0]))
    assert_close(moved, case(boxes=boxes))


@law("instance-tokens", "boxes-are-independent")
def boxes_are_independent(case):
    order = case.rng.permutation(case["boxes"].shape[-2])
    assert_close(case(boxes=case["boxes"][..., order, :]), case()[..., order, :])


@law("instance-tokens", "mirrored-box")
def a_box_from_right_to_left_is_mirrored(case):
    h, w = case["size"]
    x = case()
    cells = x.reshape(*x.shape[:-1], h, w, -1)
    swapped = case(boxes=case["boxes"][..., [2, 1, 0, 3]])
    assert_close(swapped, np.flip(cells, axis=-2).reshape(x.shape))


@law("instance-tokens", "linear-in-pixels")
def instances_are_linear(case):
    other = case.numbers(case["video"].shape)
    assert_close(case(video=case["video"] - 3.0 * other), case() - 3.0 * case(video=other))


@special("instance-tokens", "whole-frame")
def the_whole_frame_at_its_own_size(case):
    *front, H, W, _ = case["video"].shape
    boxes = np.broadcast_to(np.array([0.0, 0.0, W, H]), (*front, 1, 4))
    x = case(boxes=boxes, size=(H, W))
    assert_close(x[..., 0, :], token_formulas.frame_tokens(case["video"]))


@special("instance-tokens", "pixel-crop")
def boxes_on_pixel_borders_are_crops(case):
    *front, _, _, _ = case["video"].shape
    boxes = np.broadcast_to(np.array([1.0, 1.0, 4.0, 3.0]), (*front, 1, 4))
    crop = case["video"][..., 1:3, 1:4, :]
    assert_close(case(boxes=boxes, size=(2, 3))[..., 0, :], token_formulas.frame_tokens(crop))


@special("instance-tokens", "point")
def a_box_without_area_is_one_point(case):
    boxes = interior(case)
    boxes[..., 2:] = boxes[..., :2]
    point = token_formulas.bilinear_sample(case["video"], boxes[..., :2] - 0.5)
    h, w = case["size"]
    assert_close(case(boxes=boxes), np.tile(point, h * w))


@special("instance-tokens", "outside")
def the_border_reaches_one_pixel_out(case):
    """In coordinates of pixel centres: the border value up to -1, and 0 beyond."""
    video = case["video"]
    *front, _, W, C = video.shape
    x = np.array([-0.5, -0.6, W + 0.5, W + 0.6])
    boxes = np.broadcast_to(np.stack([x, x * 0 + 0.5, x, x * 0 + 0.5], axis=-1), (*front, 4, 4))
    zero = np.zeros((*front, C))
    left, right = video[..., 0, 0, :], video[..., 0, W - 1, :]
    assert_close(case(boxes=boxes, size=(1, 1)), np.stack([left, zero, right, zero], axis=-2))


@special("instance-tokens", "nan-box")
def a_nan_box_gives_nan(case):
    boxes = np.full_like(case["boxes"], np.nan)
    assert np.all(np.isnan(case(boxes=boxes)))


# --- linear-embedding -----------------------------------------------------------------------------


@law("linear-embedding", "linear")
def embedding_is_linear(case):
    """The bias cancels in differences."""
    x, y = case["x"], case.numbers(case["x"].shape)
    assert_close(case(x=x + 2.0 * y) - case(), 2.0 * (case(x=y) - case(x=np.zeros_like(y))))


@law("linear-embedding", "permute-pixels")
def pixels_may_come_in_any_order(case):
    order = case.rng.permutation(case["x"].shape[-1])
    assert_close(case(x=case["x"][..., order], E=case["E"][order]), case())


@law("linear-embedding", "tokens-are-independent")
def tokens_are_independent(case):
    x = np.stack([case["x"], 2.0 * case["x"]])
    assert_close(case(x=x)[0], case())
    assert_close(case(x=x)[1], case(x=2.0 * case["x"]))


@special("linear-embedding", "identity")
def the_identity_returns_the_token(case):
    assert_close(case(E=np.eye(case["x"].shape[-1]), bias=None), case["x"], within=0.0)


@special("linear-embedding", "zero-token")
def a_zero_token_becomes_the_bias(case):
    bias = case.numbers(case["E"].shape[-1])
    z = case(x=np.zeros_like(case["x"]), bias=bias)
    assert np.array_equal(z, np.broadcast_to(bias, z.shape))


# --- sliding-windows and the two convolutions -----------------------------------------------------


def cut(video, size):
    """Drop what is left over after the last patch of that size."""
    t, h, w = (n // p * p for n, p in zip(video.shape[-4:-1], size, strict=True))
    return video[..., :t, :h, :w, :]


def padded(video, padding):
    around = [(0, 0)] * (video.ndim - 4) + [(p, p) for p in padding] + [(0, 0)]
    return np.pad(video, around)


@law("sliding-windows", "patches")
def windows_side_by_side_are_patches(case):
    size = case["size"]
    y = case(stride=size, padding=(0, 0, 0))
    patches = token_formulas.patch_tokens(cut(case["video"], size), size=size)
    assert np.array_equal(y.reshape(patches.shape), patches)


@law("sliding-windows", "padding-is-zeros")
def padding_is_a_frame_of_zeros(case):
    padding = case.args.get("padding", (2, 0, 1))
    zeros = case(video=padded(case["video"], padding), padding=(0, 0, 0))
    assert np.array_equal(case(padding=padding), zeros)


@law("sliding-windows", "shift-by-a-stride")
def windows_shift_with_the_video(case):
    """Away from the ends, where a shift meets the padding."""
    s_t = case["stride"][0]
    later = case(video=case["video"][..., s_t:, :, :, :], padding=(0, 0, 0), size=(1, 1, 1))
    all_of_it = case(padding=(0, 0, 0), size=(1, 1, 1))
    assert np.array_equal(later, all_of_it[..., 1:, :, :, :, :, :, :])


@law("sliding-windows", "remainder-ignored")
def windows_ignore_the_remainder(case):
    video, size = case["video"].copy(), case["size"]
    y = case(stride=size, padding=(0, 0, 0))
    t, h, w = cut(video, size).shape[-4:-1]
    for rest in (video[..., t:, :, :, :], video[..., h:, :, :], video[..., w:, :]):
        rest[...] = np.nan
    assert np.array_equal(case(video=video, stride=size, padding=(0, 0, 0)), y)


@special("sliding-windows", "single-pixels")
def windows_of_one_pixel(case):
    y = case(size=(1, 1, 1), stride=(1, 1, 1), padding=(0, 0, 0))
    assert np.array_equal(y[..., 0, 0, 0, :], case["video"])


@special("sliding-windows", "whole-video")
def one_window(case):
    video = case["video"]
    y = case(size=video.shape[-4:-1], padding=(0, 0, 0))
    assert np.array_equal(y, video[..., None, None, None, :, :, :, :])


@law("spatial-embedding", "frames-are-independent")
def frames_are_embedded_independently(case):
    order = case.rng.permutation(case["video"].shape[-4])
    moved = case(video=case["video"][..., order, :, :, :])
    assert_close(moved, case()[..., order, :, :, :])


@law("spatial-embedding", "patches")
def spatial_embedding_of_patches_is_linear(case):
    k_h, k_w, C, d = case["kernel"].shape
    z = case(stride=(k_h, k_w), padding=(0, 0))
    patches = token_formulas.patch_tokens(cut(case["video"], (1, k_h, k_w)), size=(1, k_h, k_w))
    E = case["kernel"].reshape(k_h * k_w * C, d)
    expected = token_formulas.linear_embedding(patches, E, bias=case.args.get("bias"))
    assert_close(z, expected.reshape(z.shape))


@law("spatial-embedding", "padding-is-zeros")
def spatial_padding_is_zeros(case):
    zeros = case(video=padded(case["video"], (0, 2, 1)), padding=(0, 0))
    assert_close(case(padding=(2, 1)), zeros)


@law("spatial-embedding", "linear")
def spatial_embedding_is_linear(case):
    video, other = case["video"], case.numbers(case["video"].shape)
    blank = case(video=np.zeros_like(video))
    expected = case() - 2.0 * case(video=other) + 2.0 * blank
    assert_close(case(video=video - 2.0 * other), expected)


@special("spatial-embedding", "one-by-one")
def a_kernel_of_one_pixel_is_linear(case):
    kernel = case["kernel"][:1, :1]
    z = case(kernel=kernel, stride=(1, 1), padding=(0, 0))
    expected = token_formulas.linear_embedding(
        case["video"], kernel[0, 0], bias=case.args.get("bias")
    )
    assert_close(z, expected)


@special("spatial-embedding", "one-hot-kernel")
def a_one_hot_kernel_shifts(case):
    k_h, k_w, C, _ = case["kernel"].shape
    i, j = int(case.rng.integers(k_h)), int(case.rng.integers(k_w))
    kernel = np.zeros((k_h, k_w, C, C))
    kernel[i, j] = np.eye(C)
    z = case(kernel=kernel, bias=None, stride=(1, 1), padding=(0, 0))
    *_, h, w, _ = z.shape
    assert np.array_equal(z, case["video"][..., i : i + h, j : j + w, :])


@law("spatio-temporal-embedding", "patches")
def embedding_of_tubelets_is_linear(case):
    *size, C, d = case["kernel"].shape
    z = case(stride=tuple(size), padding=(0, 0, 0))
    patches = token_formulas.patch_tokens(cut(case["video"], size), size=tuple(size))
    E = case["kernel"].reshape(math.prod(size) * C, d)
    expected = token_formulas.linear_embedding(patches, E, bias=case.args.get("bias"))
    assert_close(z, expected.reshape(z.shape))


@law("spatio-temporal-embedding", "one-frame-is-spatial")
def a_kernel_of_one_frame_is_spatial(case):
    kernel, stride = case["kernel"][:1], case["stride"]
    padding = (0, *case.args.get("padding", (0, 0, 0))[1:])
    z = case(kernel=kernel, stride=(1, *stride[1:]), padding=padding)
    expected = token_formulas.spatial_embedding(
        case["video"],
        kernel[0],
        bias=case.args.get("bias"),
        stride=stride[1:],
        padding=padding[1:],
    )
    assert_close(z, expected)


@law("spatio-temporal-embedding", "still-video-sums-the-kernel")
def a_still_video_sums_the_kernel(case):
    still = np.broadcast_to(case["video"][..., :1, :, :, :], case["video"].shape)
    padding = (0, *case.args.get("padding", (0, 0, 0))[1:])
    z = case(video=still, padding=padding)
    summed = case(video=still, kernel=case["kernel"].sum(axis=0, keepdims=True), padding=padding)
    assert_close(z, summed[..., : z.shape[-4], :, :, :])


@law("spatio-temporal-embedding", "remainder-ignored")
def embedding_ignores_the_remainder(case):
    size, video = case["kernel"].shape[:3], case["video"].copy()
    z = case(stride=size, padding=(0, 0, 0))
    t, h, w = cut(video, size).shape[-4:-1]
    for rest in (video[..., t:, :, :, :], video[..., h:, :, :], video[..., w:, :]):
        rest[...] = np.nan
    assert_close(case(video=video, stride=size, padding=(0, 0, 0)), z)


@law("spatio-temporal-embedding", "shift-by-a-stride")
def embedding_shifts_with_the_video(case):
    s_t, padding = case["stride"][0], (0, *case.args.get("padding", (0, 0, 0))[1:])
    z = case(padding=padding, kernel=case["kernel"][:1])
    later = case(
        video=case["video"][..., s_t:, :, :, :], padding=padding, kernel=case["kernel"][:1]
    )
    assert_close(later, z[..., 1:, :, :, :])


@special("spatio-temporal-embedding", "one-hot-kernel")
def a_one_hot_tubelet_kernel_shifts(case):
    *size, C, _ = case["kernel"].shape
    a, i, j = (int(case.rng.integers(k)) for k in size)
    kernel = np.zeros((*size, C, C))
    kernel[a, i, j] = np.eye(C)
    z = case(kernel=kernel, bias=None, stride=(1, 1, 1), padding=(0, 0, 0))
    t, h, w, _ = z.shape[-4:]
    assert np.array_equal(z, case["video"][..., a : a + t, i : i + h, j : j + w, :])
