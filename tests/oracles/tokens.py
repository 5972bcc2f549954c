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
                entry = ((a * p_h + r) * p_w + c) * C + channel
            else:
                entry = ((channel * p_t + a) * p_h + r) * p_w + c
            pixel = (*b, frame * p_t + a, i * p_h + r, j * p_w + c, channel)
            x[(*b, frame, i * w + j, entry)] = video[pixel]
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
        entry = ((frame % length * H + i) * W + j) * C + channel
        x[(*b, frame // length, entry)] = video[(*b, frame, i, j, channel)]
    return x


def hat(u):
    return max(0, 1 - abs(u))


def bilinear_sample(v, locations, *, padding="zeros"):
    *batch, h, w, d = v.shape
    k = locations.shape[-2]
    out = np.zeros((*batch, k, d), v.dtype)
    for *b, sample in np.ndindex(*batch, k):
        x, y = locations[(*b, sample)]
        if padding == "border":
            x, y = min(max(x, 0), w - 1), min(max(y, 0), h - 1)
        for i, j in np.ndindex(h, w):
            out[(*b, sample)] += hat(y - i) * hat(x - j) * v[(*b, i, j)]
    return out


def instance_tokens(video, boxes, *, size):
    *batch, T, H, W, C = video.shape
    h, w = size
    k = boxes.shape[-2]
    half = boxes.dtype.type(0.5)
    x = np.zeros((*batch, T, k, h * w * C), video.dtype)
    for *b, frame, box, i, j in np.ndindex(*batch, T, k, h, w):
        x1, y1, x2, y2 = boxes[(*b, frame, box)]
        column = x1 + (x2 - x1) * ((j + half) / w) - half
        row = y1 + (y2 - y1) * ((i + half) / h) - half
        if not (-1 <= column <= W and -1 <= row <= H):
            continue
        location = np.array([[column, row]])
        pixel = bilinear_sample(video[(*b, frame)], location, padding="border")
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


def window_count(n, k, stride, padding):
    """Count the windows that fit one by one."""
    count = 0
    while count * stride + k <= n + 2 * padding:
        count += 1
    return count


def sliding_windows(video, *, size, stride, padding=(0, 0, 0)):
    *batch, T, H, W, C = video.shape
    grid = [window_count(*axis) for axis in zip((T, H, W), size, stride, padding, strict=True)]
    y = np.zeros((*batch, *grid, *size, C), video.dtype)
    for *b, t, h, w, i, j, k, channel in np.ndindex(y.shape):
        pixel = [
            window * s + within - p
            for window, s, within, p in zip((t, h, w), stride, (i, j, k), padding, strict=True)
        ]
        if all(0 <= at < n for at, n in zip(pixel, (T, H, W), strict=True)):
            y[(*b, t, h, w, i, j, k, channel)] = video[(*b, *pixel, channel)]
    return y


def spatio_temporal_embedding(video, kernel, *, bias=None, stride, padding=(0, 0, 0)):
    *size, C, d = kernel.shape
    windows = sliding_windows(video, size=size, stride=stride, padding=padding)
    z = np.zeros((*windows.shape[:-4], d), video.dtype)
    for position in np.ndindex(z.shape[:-1]):
        for i, j, k, channel in np.ndindex(*size, C):
            z[position] += kernel[i, j, k, channel] * windows[(*position, i, j, k, channel)]
        if bias is not None:
            z[position] += bias
    return z


def spatial_embedding(video, kernel, *, bias=None, stride, padding=(0, 0)):
    *batch, T, H, W, C = video.shape
    k_h, k_w, _, d = kernel.shape
    h = window_count(H, k_h, stride[0], padding[0])
    w = window_count(W, k_w, stride[1], padding[1])
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
