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

# Stride, size, padding and mode of a pooling.
UNPOOLED = (1, 1, 1), None, None, "conv"


def pooled_grid(grid, *, pooling):
    """Count windows by moving one along each axis until it no longer fits."""
    stride, size, padding, _ = pooling
    if size is None:
        return tuple(grid)
    counts = []
    for axis in range(3):
        edge = size[axis] // 2 if padding is None else padding[axis]
        start, count = -edge, 0
        while start + size[axis] <= grid[axis] + edge:
            start, count = start + stride[axis], count + 1
        counts.append(count)
    return tuple(counts)


def pool(x, kernel=None, *, pooling=UNPOOLED):
    *batch, T, H, W, d = x.shape
    stride, size, padding, mode = pooling
    size = kernel.shape[:3] if mode == "conv" else size
    edge = [k // 2 for k in size] if padding is None else padding
    grid = pooled_grid((T, H, W), pooling=(stride, size, padding, mode))
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
    pooling=UNPOOLED,
    gamma=None,
    beta=None,
    eps=1e-6,
    has_cls=False,
):
    *batch, _, d = x.shape
    T, H, W = grid
    if kernel is None and pooling[1] is None:
        y = x.copy()
    else:
        cells = np.zeros((*batch, T, H, W, d), x.dtype)
        for *b, t, h, w in np.ndindex(*batch, T, H, W):
            cells[(*b, t, h, w)] = x[(*b, has_cls + (t * H + h) * W + w)]
        pooled = pool(cells, kernel, pooling=pooling)
        t_out, h_out, w_out = pooled.shape[-4:-1]
        y = np.zeros((*batch, has_cls + t_out * h_out * w_out, d), x.dtype)
        for *b, t, h, w in np.ndindex(*batch, t_out, h_out, w_out):
            y[(*b, has_cls + (t * h_out + h) * w_out + w)] = pooled[(*b, t, h, w)]
        if has_cls:
            y[..., 0, :] = x[..., 0, :]
    return y if gamma is None else layer_norm(y, gamma, beta, eps=eps)


def pooled_projection(X, W, kernel=None, *, bias=None, **options):
    return pooled_tokens(linear_embedding(X, W, bias=bias), kernel, **options)


def pooling_attention(Q, K, V):
    return attention(Q, K, V)


def multi_head_pooling_attention(
    x, params, *, grid, pool_q=UNPOOLED, pool_kv=UNPOOLED, eps=1e-6, has_cls=False
):
    stride, size, padding, mode = pool_q
    if "kernel_q" in params:
        size = params["kernel_q"].shape[:3]
    after = pooled_grid(grid, pooling=(stride, size, padding, mode))
    total = np.zeros((*x.shape[:-2], has_cls + math.prod(after), x.shape[-1]), x.dtype)
    for head in range(params["W_c"].shape[0]):
        pooled = []
        for letter, pooling in (("q", pool_q), ("k", pool_kv), ("v", pool_kv)):
            bias = params.get(f"b_{letter}")
            pooled.append(
                pooled_projection(
                    x,
                    params[f"W_{letter}"][head],
                    params.get(f"kernel_{letter}"),
                    bias=None if bias is None else bias[head],
                    grid=grid,
                    pooling=pooling,
                    **params.get(f"norm_{letter}", {}),
                    eps=eps,
                    has_cls=has_cls,
                )
            )
        y = pooling_attention(*pooled)[..., None, :, :]
        total = total + output_projection(y, params["W_c"][head][None])
    if "b_c" in params:
        total = total + params["b_c"]
    return total, after


def pooled_residual(x, *, grid, stride, has_cls=False):
    size = tuple(s + 1 if s > 1 else 1 for s in stride)
    return pooled_tokens(x, grid=grid, pooling=(stride, size, None, "max"), has_cls=has_cls)


def widening_mlp(y, params, *, eps, activation="gelu"):
    v = layer_norm(y, **params["norm_2"], eps=eps)
    network, shortcut = params["feed_forward"], params["shortcut"]
    hidden = linear_embedding(v, network["W_1"], bias=network.get("b_1"))
    if activation == "relu":
        hidden = relu(hidden)
    else:
        hidden = gelu(hidden, approximate="tanh" if activation == "gelu_tanh" else "none")
    z = linear_embedding(hidden, network["W_2"], bias=network.get("b_2"))
    return z + linear_embedding(v, shortcut["W"], bias=shortcut.get("b"))


def multiscale_block(
    x,
    params,
    *,
    grid,
    pool_q=UNPOOLED,
    pool_kv=UNPOOLED,
    eps=1e-6,
    activation="gelu",
    has_cls=False,
):
    update, pooled = multi_head_pooling_attention(
        layer_norm(x, **params["norm_1"], eps=eps),
        params["attention"],
        grid=grid,
        pool_q=pool_q,
        pool_kv=pool_kv,
        eps=eps,
        has_cls=has_cls,
    )
    y = pooled_residual(x, grid=grid, stride=pool_q[0], has_cls=has_cls) + update
    if "shortcut" in params:
        return widening_mlp(y, params, eps=eps, activation=activation), pooled
    return feed_forward_sublayer(y, params, eps=eps, activation=activation), pooled


def adaptive_strides(stride_kv, strides_q):
    chosen = []
    for i in range(len(strides_q)):
        before = chosen[i - 1] if i else tuple(stride_kv)
        chosen.append(
            tuple(max(1, math.floor(before[axis] / strides_q[i][axis])) for axis in range(3))
        )
    return tuple(chosen)
