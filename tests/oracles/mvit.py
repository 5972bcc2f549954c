"""Loops written from spec/mvit/."""

import math

import numpy as np

from tests.oracles.encoder import (
    attention,
    feed_forward_sublayer,
    gelu,
    layer_norm,
    output_projection,
    relu,
)
from tests.oracles.tokens import linear_embedding

ONE = (1, 1, 1)


def pooled_grid(grid, *, size, stride, padding=None):
    """Count windows by moving one along each axis until it no longer fits."""
    counts = []
    for axis in range(3):
        edge = size[axis] // 2 if padding is None else padding[axis]
        start, count = -edge, 0
        while start + size[axis] <= grid[axis] + edge:
            start, count = start + stride[axis], count + 1
        counts.append(count)
    return tuple(counts)


def pool(x, kernel=None, *, size=None, stride=ONE, padding=None, mode="conv"):
    *batch, T, H, W, d = x.shape
    size = kernel.shape[:3] if mode == "conv" else size
    edge = [k // 2 for k in size] if padding is None else padding
    grid = pooled_grid((T, H, W), size=size, stride=stride, padding=padding)
    y = np.zeros((*batch, *grid, d), x.dtype)
    for *b, t, h, w, channel in np.ndindex(y.shape):
        total, largest = x.dtype.type(0), -math.inf
        for i, j, k in np.ndindex(*size):
            frame = t * stride[0] + i - edge[0]
            row = h * stride[1] + j - edge[1]
            column = w * stride[2] + k - edge[2]
            if not (0 <= frame < T and 0 <= row < H and 0 <= column < W):
                continue
            token = x[(*b, frame, row, column, channel)]
            largest = max(largest, token)
            total += kernel[i, j, k, channel] * token if mode == "conv" else token
        means = {"conv": total, "max": largest, "avg": total / math.prod(size)}
        y[(*b, t, h, w, channel)] = means[mode]
    return y


def pooled_tokens(
    x,
    kernel=None,
    *,
    grid,
    size=None,
    stride=ONE,
    mode="conv",
    gamma=None,
    beta=None,
    eps=1e-6,
    cls=False,
):
    *batch, _, d = x.shape
    T, H, W = grid
    if kernel is None and size is None:
        y = x.copy()
    else:
        cells = np.zeros((*batch, T, H, W, d), x.dtype)
        for *b, t, h, w in np.ndindex(*batch, T, H, W):
            cells[(*b, t, h, w)] = x[(*b, cls + (t * H + h) * W + w)]
        pooled = pool(cells, kernel, size=size, stride=stride, mode=mode)
        t_out, h_out, w_out = pooled.shape[-4:-1]
        y = np.zeros((*batch, cls + t_out * h_out * w_out, d), x.dtype)
        for *b, t, h, w in np.ndindex(*batch, t_out, h_out, w_out):
            y[(*b, cls + (t * h_out + h) * w_out + w)] = pooled[(*b, t, h, w)]
        if cls:
            y[..., 0, :] = x[..., 0, :]
    return y if gamma is None else layer_norm(y, gamma, beta, eps=eps)


def pooled_projection(X, W, kernel=None, *, bias=None, **options):
    return pooled_tokens(linear_embedding(X, W, bias=bias), kernel, **options)


def pooling_attention(Q, K, V):
    return attention(Q, K, V)


def multi_head_pooling_attention(
    x,
    params,
    *,
    grid,
    stride_q=ONE,
    stride_kv=ONE,
    size_q=None,
    size_kv=None,
    mode="conv",
    cls=False,
    eps=1e-6,
):
    total = 0
    for head in range(params["W_c"].shape[0]):
        pooled = []
        for letter, size, stride in (
            ("q", size_q, stride_q),
            ("k", size_kv, stride_kv),
            ("v", size_kv, stride_kv),
        ):
            bias = params.get(f"b_{letter}")
            pooled.append(
                pooled_projection(
                    x,
                    params[f"W_{letter}"][head],
                    params.get(f"kernel_{letter}"),
                    bias=None if bias is None else bias[head],
                    grid=grid,
                    size=size,
                    stride=stride,
                    mode=mode,
                    **params.get(f"norm_{letter}", {}),
                    eps=eps,
                    cls=cls,
                )
            )
        read = pooling_attention(*pooled)[..., None, :, :]
        total = total + output_projection(read, params["W_c"][head][None])
    if "b_c" in params:
        total = total + params["b_c"]
    kernel = params.get("kernel_q")
    size_q = size_q if kernel is None else kernel.shape[:3]
    return total, grid if size_q is None else pooled_grid(grid, size=size_q, stride=stride_q)


def pooled_residual(x, *, grid, stride, cls=False):
    size = tuple(s + 1 if s > 1 else 1 for s in stride)
    return pooled_tokens(x, grid=grid, size=size, stride=stride, mode="max", cls=cls)


def widening_mlp(y, params, *, eps, activation="gelu"):
    v = layer_norm(y, **params["norm_2"], eps=eps)
    network, widening = params["feed_forward"], params["shortcut"]
    hidden = linear_embedding(v, network["W_1"], bias=network.get("b_1"))
    if activation == "relu":
        hidden = relu(hidden)
    else:
        hidden = gelu(hidden, approximate="tanh" if activation == "gelu_tanh" else "none")
    z = linear_embedding(hidden, network["W_2"], bias=network.get("b_2"))
    return z + linear_embedding(v, widening["W"], bias=widening.get("b"))


def multiscale_block(
    x, params, *, grid, stride_q=ONE, cls=False, eps=1e-6, activation="gelu", **options
):
    normalised = layer_norm(x, **params["norm_1"], eps=eps)
    update, shrunk = multi_head_pooling_attention(
        normalised, params["attention"], grid=grid, stride_q=stride_q, cls=cls, eps=eps, **options
    )
    y = pooled_residual(x, grid=grid, stride=stride_q, cls=cls) + update
    if "shortcut" in params:
        return widening_mlp(y, params, eps=eps, activation=activation), shrunk
    return feed_forward_sublayer(y, params, eps=eps, activation=activation), shrunk


def adaptive_strides(stride_kv, strides_q):
    chosen = []
    for i in range(len(strides_q)):
        before = chosen[i - 1] if i else tuple(stride_kv)
        chosen.append(
            tuple(max(1, math.floor(before[axis] / strides_q[i][axis])) for axis in range(3))
        )
    return tuple(chosen)
