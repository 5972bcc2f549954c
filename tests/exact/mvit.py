"""The formulas of spec/mvit/ in numbers of 50 digits."""

from itertools import product

import numpy as np

from tests.exact.encoder import (
    attention,
    feed_forward_sublayer,
    gelu,
    layer_norm,
    output_projection,
    qkv_projection,
    relu,
)
from tests.exact.inputs import hard, sizes
from tests.exact.numbers import mp, zeros
from vtnp.mvit import Pooling
from vtnp.tokens import Grid

# The cases set these sizes themselves: the number of tokens is that of the grid.
for _id in ("pooled-tokens", "pooled-projection", "pooled-residual"):
    sizes(_id, n=None, m=None, d=None, d_h=None)
for _id in ("multi-head-pooling-attention", "multiscale-block"):
    # A norm over fewer channels is blind to its input, and large scores then show its rounding.
    sizes(_id, n=None, d=4, d_h=4, d_v=3)


def window(pooling, kernel):
    """Return the size, the stride and the padding of a window."""
    size = kernel.shape[:3] if kernel is not None else pooling.size or (1, 1, 1)
    return size, pooling.stride, pooling.padding or tuple(k // 2 for k in size)


def pooled_grid(grid, *, pooling):
    axes = zip(grid, *window(pooling, None), strict=True)
    return Grid(*((n + 2 * p - k) // s + 1 for n, k, s, p in axes))


def pool(x, kernel=None, *, pooling=Pooling()):
    size, stride, padding = window(pooling, kernel)
    grid = x.shape[-4:-1]
    pooled = pooled_grid(grid, pooling=Pooling(stride, size, padding))
    y = zeros((*x.shape[:-4], *pooled, x.shape[-1]))
    for cell in np.ndindex(*pooled):
        inside = []
        for offset in product(*map(range, size)):
            at = tuple(
                i * s + a - p for i, s, a, p in zip(cell, stride, offset, padding, strict=True)
            )
            if all(0 <= i < n for i, n in zip(at, grid, strict=True)):
                inside.append((offset, x[(..., *at, slice(None))]))
        if pooling.mode == "max":
            value = np.maximum.reduce([token for _, token in inside])
        elif pooling.mode == "avg":
            value = sum(token for _, token in inside) / mp.mpf(size[0] * size[1] * size[2])
        else:
            value = sum(kernel[offset] * token for offset, token in inside)
        y[(..., *cell, slice(None))] = value
    return y


def pooled_tokens(
    x, kernel=None, *, grid, pooling=Pooling(), gamma=None, beta=None, eps=1e-6, has_cls=False
):
    cls, tokens = x[..., : int(has_cls), :], x[..., int(has_cls) :, :]
    if kernel is not None or pooling.size is not None:
        *batch, _, d = x.shape
        tokens = pool(tokens.reshape(*batch, *grid, d), kernel, pooling=pooling)
        tokens = tokens.reshape(*batch, -1, d)
    y = np.concatenate([cls, tokens], axis=-2)
    return y if gamma is None else layer_norm(y, gamma, beta, eps=eps)


def pooled_projection(X, W, kernel=None, *, bias=None, **options):
    return pooled_tokens(X @ W if bias is None else X @ W + bias, kernel, **options)


def pooling_attention(Q, K, V):
    return attention(Q, K, V)


def multi_head_pooling_attention(
    x, params, *, grid, pool_q=Pooling(), pool_kv=Pooling(), eps=1e-6, has_cls=False
):
    heads = []
    for letter, pooling in (("q", pool_q), ("k", pool_kv), ("v", pool_kv)):
        projected = qkv_projection(x, params[f"W_{letter}"], bias=params.get(f"b_{letter}"))
        kernel, norm = params.get(f"kernel_{letter}"), params.get(f"norm_{letter}", {})
        options = {"grid": grid, "eps": eps, "has_cls": has_cls}
        heads.append(pooled_tokens(projected, kernel, pooling=pooling, **norm, **options))
    u = output_projection(pooling_attention(*heads), params["W_c"], bias=params.get("b_c"))
    size, stride, padding = window(pool_q, params.get("kernel_q"))
    return u, pooled_grid(grid, pooling=Pooling(stride, size, padding))


def pooled_residual(x, *, grid, stride, has_cls=False):
    size = tuple(s + 1 if s > 1 else 1 for s in stride)
    pooling = Pooling(stride, size, mode="max")
    return pooled_tokens(x, grid=grid, pooling=pooling, has_cls=has_cls)


def widening_mlp(y, params, *, eps, activation="gelu"):
    network, shortcut = params["feed_forward"], params["shortcut"]
    v = layer_norm(y, **params["norm_2"], eps=eps)
    hidden = v @ network["W_1"] + network.get("b_1", 0)
    if activation == "relu":
        hidden = relu(hidden)
    else:
        hidden = gelu(hidden, approximate="tanh" if activation == "gelu_tanh" else "none")
    z = hidden @ network["W_2"] + network.get("b_2", 0)
    return z + v @ shortcut["W"] + shortcut.get("b", 0)


def multiscale_block(
    x,
    params,
    *,
    grid,
    pool_q=Pooling(),
    pool_kv=Pooling(),
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
    y = update + pooled_residual(x, grid=grid, stride=pool_q.stride, has_cls=has_cls)
    widens = params.get("shortcut") is not None
    return (widening_mlp if widens else feed_forward_sublayer)(
        y, params, eps=eps, activation=activation
    ), pooled


def adaptive_strides(stride_kv, strides_q):
    found = []
    for stride_q in strides_q:
        stride_kv = tuple(max(1, a // b) for a, b in zip(stride_kv, stride_q, strict=True))
        found.append(stride_kv)
    return tuple(found)


# --- Hard inputs ----------------------------------------------------------------------------------


@hard("pool", "weights cancel")
def weights_cancel(rng, dtype):
    """Neighbours that nearly agree, and weights that sum to nearly 0."""
    x = 1.0 + 1e-3 * rng.standard_normal((2, 3, 4, 2))
    kernel = rng.standard_normal((2, 3, 3, 2))
    kernel -= kernel.mean(axis=(0, 1, 2)) * (1.0 - 1e-6)
    return {"x": x, "kernel": kernel, "pooling": Pooling((1, 2, 2))}


@hard("pool", "mean of opposites")
def mean_of_opposites(rng, dtype):
    x = rng.standard_normal((1, 4, 4, 2))
    x[:, :, 1::2] = -x[:, :, ::2] * (1.0 + 1e-6)
    return {"x": x, "pooling": Pooling((1, 1, 2), size=(1, 1, 2), padding=(0, 0, 0), mode="avg")}


@hard("widening-mlp", "one channel far above the others")
def one_channel_far_above(rng, dtype):
    y = rng.standard_normal((3, 4))
    y[:, 2] *= 1e5
    norm = {"gamma": rng.standard_normal(4), "beta": rng.standard_normal(4)}
    network = {"W_1": rng.standard_normal((4, 3)), "W_2": rng.standard_normal((3, 5))}
    params = {"norm_2": norm, "feed_forward": network}
    return {
        "y": y,
        "params": {**params, "shortcut": {"W": rng.standard_normal((4, 5))}},
        "eps": 0.0,
    }
