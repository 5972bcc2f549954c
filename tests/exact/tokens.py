"""The pages of spec/tokens/, with 50 digits."""

import numpy as np

from tests.exact.inputs import hard
from tests.exact.numbers import mp, where, zeros


def patch_tokens(video, *, size, order="thwc"):
    *batch, T, H, W, _ = video.shape
    patches = [
        video[..., t : t + size[0], y : y + size[1], x : x + size[2], :]
        for t in range(0, T, size[0])
        for y in range(0, H, size[1])
        for x in range(0, W, size[2])
    ]
    if order == "cthw":
        patches = [np.moveaxis(patch, -1, -4) for patch in patches]
    flat = [patch.reshape(*batch, -1) for patch in patches]
    return np.stack(flat, axis=-2).reshape(*batch, T // size[0], -1, flat[0].shape[-1])


def frame_tokens(video):
    return video.reshape(*video.shape[:-3], -1)


def clip_tokens(video, *, length):
    *batch, T, _, _, _ = video.shape
    return video.reshape(*batch, T // length, -1)


def bilinear_sample(v, locations, *, padding="zeros"):
    h, w = v.shape[-3:-1]
    across = _hats(locations[..., 0], w, padding)
    down = _hats(locations[..., 1], h, padding)
    weights = down[..., :, None] * across[..., None, :]
    return (weights[..., None] * v[..., None, :, :, :]).sum(axis=(-3, -2))


def _hats(x, n, padding):
    """Return max(0, 1 - |x - i|) for every cell i of an axis of n cells."""
    if padding == "border":
        x = np.minimum(np.maximum(x, 0), n - 1)
    return np.maximum(1 - abs(x[..., None] - np.arange(n)), mp.mpf(0))


def instance_tokens(video, boxes, *, size):
    *front, H, W, C = video.shape
    (h, w), k = size, boxes.shape[-2]
    x1, y1, x2, y2 = (boxes[..., i, None, None] for i in range(4))
    j, i = (np.arange(n).astype(object) + mp.mpf(0.5) for n in (w, h))
    x = x1 + (x2 - x1) * (j / w) - 0.5 + zeros((h, 1))
    y = y1 + (y2 - y1) * (i / h)[:, None] - 0.5 + zeros((1, w))
    locations = np.stack([x, y], axis=-1).reshape(*front, k * h * w, 2)
    pixels = bilinear_sample(video, locations, padding="border").reshape(*front, k, h, w, C)
    inside = (x >= -1) & (x <= W) & (y >= -1) & (y <= H)
    return where(inside[..., None], pixels, mp.mpf(0)).reshape(*front, k, h * w * C)


def linear_embedding(x, E, *, bias=None):
    return x @ E if bias is None else x @ E + bias


def sliding_windows(video, *, size, stride, padding=(0, 0, 0)):
    around = [(0, 0)] * (video.ndim - 4) + [(p, p) for p in padding] + [(0, 0)]
    padded = zeros([n + a + b for n, (a, b) in zip(video.shape, around, strict=True)])
    padded[tuple(slice(a, a + n) for n, (a, _) in zip(video.shape, around, strict=True))] = video
    windows = np.lib.stride_tricks.sliding_window_view(padded, size, axis=(-4, -3, -2))
    s_t, s_h, s_w = stride
    return np.moveaxis(windows[..., ::s_t, ::s_h, ::s_w, :, :, :, :], -4, -1)


def spatio_temporal_embedding(video, kernel, *, bias=None, stride, padding=(0, 0, 0)):
    windows = sliding_windows(video, size=kernel.shape[:3], stride=stride, padding=padding)
    z = np.tensordot(windows, kernel, axes=4)
    return z if bias is None else z + bias


def spatial_embedding(video, kernel, *, bias=None, stride, padding=(0, 0)):
    return spatio_temporal_embedding(
        video, kernel[None], bias=bias, stride=(1, *stride), padding=(0, *padding)
    )


# --- Hard inputs ----------------------------------------------------------------------------------


@hard("bilinear-sample", "beside the centres of cells")
def _beside_centres(rng, dtype):
    near = np.rint(rng.uniform(-1, 3, (6, 2))) + float(np.finfo(dtype).eps) ** 0.6
    return {"v": rng.standard_normal((3, 3, 2)), "locations": near}
