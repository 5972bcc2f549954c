"""Loops written from spec/tokens/."""

import numpy as np


def patch_tokens(video, *, size, order="thwc"):
    *batch, T, H, W, C = video.shape
    p_t, p_h, p_w = size
    t, h, w = T // p_t, H // p_h, W // p_w
    x = np.zeros((*batch, t, h * w, p_t * p_h * p_w * C), video.dtype)
    for *b, frame, i, j in np.ndindex(*batch, t, h, w):
        for a, r, c, channel in np.ndindex(p_t, p_h, p_w, C):
            if order == "thwc":
                place = ((a * p_h + r) * p_w + c) * C + channel
            else:
                place = ((channel * p_t + a) * p_h + r) * p_w + c
            pixel = (*b, frame * p_t + a, i * p_h + r, j * p_w + c, channel)
            x[(*b, frame, i * w + j, place)] = video[pixel]
    return x


def frame_tokens(video):
    *batch, T, H, W, C = video.shape
    x = np.zeros((*batch, T, H * W * C), video.dtype)
    for *b, frame, i, j, channel in np.ndindex(*video.shape):
        x[(*b, frame, (i * W + j) * C + channel)] = video[(*b, frame, i, j, channel)]
    return x


def clip_tokens(video, *, length):
    *batch, T, H, W, C = video.shape
    x = np.zeros((*batch, T // length, length * H * W * C), video.dtype)
    for *b, frame, i, j, channel in np.ndindex(*video.shape):
        place = ((frame % length * H + i) * W + j) * C + channel
        x[(*b, frame // length, place)] = video[(*b, frame, i, j, channel)]
    return x


def hat(u):
    return max(0, 1 - abs(u))


def bilinear_sample(v, positions, *, padding="zeros"):
    *batch, h, w, d = v.shape
    k = positions.shape[-2]
    y = np.zeros((*batch, k, d), v.dtype)
    for *b, point in np.ndindex(*batch, k):
        across, down = positions[(*b, point)]
        if padding == "border":
            across, down = min(max(across, 0), w - 1), min(max(down, 0), h - 1)
        for i, j in np.ndindex(h, w):
            y[(*b, point)] += hat(down - i) * hat(across - j) * v[(*b, i, j)]
    return y


def instance_tokens(video, boxes, *, size):
    *batch, T, H, W, C = video.shape
    h, w = size
    k = boxes.shape[-2]
    half = boxes.dtype.type(0.5)
    x = np.zeros((*batch, T, k, h * w * C), video.dtype)
    for *b, frame, box, i, j in np.ndindex(*batch, T, k, h, w):
        x1, y1, x2, y2 = boxes[(*b, frame, box)]
        across = x1 + (x2 - x1) * ((j + half) / w) - half
        down = y1 + (y2 - y1) * ((i + half) / h) - half
        if not (-1 <= across <= W and -1 <= down <= H):
            continue
        position = np.array([[across, down]])
        pixel = bilinear_sample(video[(*b, frame)], position, padding="border")
        x[(*b, frame, box, slice((i * w + j) * C, (i * w + j + 1) * C))] = pixel[0]
    return x


def linear_embedding(x, E, *, bias=None):
    p, d = E.shape
    z = np.zeros((*x.shape[:-1], d), x.dtype)
    for token in np.ndindex(x.shape[:-1]):
        for channel in range(d):
            for i in range(p):
                z[(*token, channel)] += E[i, channel] * x[(*token, i)]
            if bias is not None:
                z[(*token, channel)] += bias[channel]
    return z


def steps(n, k, step, edge):
    """Return how many windows fit, found by trying."""
    count = 0
    while count * step + k <= n + 2 * edge:
        count += 1
    return count


def sliding_windows(video, *, size, stride, padding=(0, 0, 0)):
    *batch, T, H, W, C = video.shape
    grid = [steps(*axis) for axis in zip((T, H, W), size, stride, padding, strict=True)]
    y = np.zeros((*batch, *grid, *size, C), video.dtype)
    for *b, t, h, w, i, j, k, channel in np.ndindex(y.shape):
        seen = [
            place * step + inside - edge
            for place, step, inside, edge in zip((t, h, w), stride, (i, j, k), padding, strict=True)
        ]
        if all(0 <= at < n for at, n in zip(seen, (T, H, W), strict=True)):
            y[(*b, t, h, w, i, j, k, channel)] = video[(*b, *seen, channel)]
    return y


def spatio_temporal_embedding(video, kernel, *, bias=None, stride, padding=(0, 0, 0)):
    *size, C, d = kernel.shape
    seen = sliding_windows(video, size=size, stride=stride, padding=padding)
    z = np.zeros((*seen.shape[:-4], d), video.dtype)
    for place in np.ndindex(z.shape[:-1]):
        for i, j, k, channel in np.ndindex(*size, C):
            z[place] += kernel[i, j, k, channel] * seen[(*place, i, j, k, channel)]
        if bias is not None:
            z[place] += bias
    return z


def spatial_embedding(video, kernel, *, bias=None, stride, padding=(0, 0)):
    *batch, T, H, W, C = video.shape
    k_h, k_w, _, d = kernel.shape
    h = steps(H, k_h, stride[0], padding[0])
    w = steps(W, k_w, stride[1], padding[1])
    z = np.zeros((*batch, T, h, w, d), video.dtype)
    for *b, frame, row, column in np.ndindex(*batch, T, h, w):
        for i, j, channel in np.ndindex(k_h, k_w, C):
            y, x = row * stride[0] + i - padding[0], column * stride[1] + j - padding[1]
            if 0 <= y < H and 0 <= x < W:
                pixel = video[(*b, frame, y, x, channel)]
                z[(*b, frame, row, column)] += kernel[i, j, channel] * pixel
        if bias is not None:
            z[(*b, frame, row, column)] += bias
    return z
