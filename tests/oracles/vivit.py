"""Loops written from spec/vivit/."""

import numpy as np

from tests.oracles.encoder import (
    attention,
    feed_forward_sublayer,
    layer_norm,
    multi_head_self_attention,
    pre_norm_layer,
)


def uniform_frame_sampling(T, k, *, like=None):
    if k == T:
        return np.arange(T)
    return np.array([nearest_integer(i * T, k + 1) for i in range(1, k + 1)])


def nearest_integer(numerator, denominator):
    """Find the integer nearest to a fraction between 0 and the numerator; of two, the even one."""
    distance = [abs(numerator - j * denominator) for j in range(numerator + 1)]
    nearest = [j for j, d in enumerate(distance) if d == min(distance)]
    return next(j for j in nearest if len(nearest) == 1 or j % 2 == 0)


def tubelet_embedding(video, E, *, bias=None):
    *batch, T, H, W, C = video.shape
    p_t, p_h, p_w, _, d = E.shape
    t, h, w = T // p_t, H // p_h, W // p_w
    z = np.zeros((*batch, t, h * w, d), video.dtype)
    for b in np.ndindex(*batch):
        for tau, y, x in np.ndindex(t, h, w):
            for k in range(d):
                total = video.dtype.type(0) if bias is None else bias[k]
                for i, j, m, c in np.ndindex(p_t, p_h, p_w, C):
                    pixel = video[(*b, tau * p_t + i, y * p_h + j, x * p_w + m, c)]
                    total = total + pixel * E[i, j, m, c, k]
                z[(*b, tau, y * w + x, k)] = total
    return z


def inflated_kernel(E_image, p_t):
    E = np.zeros((p_t, *E_image.shape), E_image.dtype)
    for frame, *entry in np.ndindex(E.shape):
        E[(frame, *entry)] = E_image[tuple(entry)] / p_t
    return E


def central_frame_kernel(E_image, p_t):
    E = np.zeros((p_t, *E_image.shape), E_image.dtype)
    for entry in np.ndindex(E_image.shape):
        E[(p_t // 2, *entry)] = E_image[entry]
    return E


def sequence_encoder(x, params, *, eps=1e-6, activation="gelu_tanh"):
    *batch, n, d = x.shape
    h = np.zeros((*batch, d), x.dtype)
    for b in np.ndindex(*batch):
        rows = [x[(*b, i)] for i in range(n)]
        if "cls" in params:
            rows.insert(0, params["cls"])
        z = np.stack([row + e for row, e in zip(rows, params["positions"], strict=True)])
        for layer in params["layers"]:
            z = pre_norm_layer(z, layer, eps=eps, activation=activation)
        z = layer_norm(z, **params["norm"], eps=eps)
        h[b] = z[0] if "cls" in params else sum(z[i] for i in range(n)) / n
    return h


def spatio_temporal_encoder(z, params, *, eps=1e-6, activation="gelu_tanh"):
    *batch, t, s, d = z.shape
    h = np.zeros((*batch, d), z.dtype)
    for b in np.ndindex(*batch):
        tokens = np.zeros((t * s, d), z.dtype)
        for tau, i in np.ndindex(t, s):
            tokens[tau * s + i] = z[(*b, tau, i)]
        h[b] = sequence_encoder(tokens, params, eps=eps, activation=activation)
    return h


def factorised_encoder(z, params, *, eps=1e-6, activation="gelu_tanh"):
    *batch, t, _, d = z.shape
    h = np.zeros((*batch, d), z.dtype)
    for b in np.ndindex(*batch):
        frames = np.zeros((t, d), z.dtype)
        for tau in range(t):
            frames[tau] = sequence_encoder(
                z[(*b, tau)], params["space"], eps=eps, activation=activation
            )
        if "time" in params:
            h[b] = sequence_encoder(frames, params["time"], eps=eps, activation=activation)
        else:
            h[b] = sum(frames) / t
    return h


def _attended(z, params, axis, eps):
    """Let each token attend to its own position (time) or to its own frame (space)."""
    out = np.zeros_like(z)
    *batch, t, s, _ = z.shape
    for b in np.ndindex(*batch):
        for i in range(s if axis == "time" else t):
            group = (slice(None), i) if axis == "time" else (i, slice(None))
            x = z[(*b, *group)]
            update = multi_head_self_attention(
                layer_norm(x, **params["norm_1"], eps=eps), **params["attention"]
            )
            out[(*b, *group)] = x + update
    return out


def factorised_self_attention_layer(
    z, params, *, order="time-space", eps=1e-6, activation="gelu_tanh"
):
    first, second = order.split("-")
    y = _attended(_attended(z, params[first], first, eps), params[second], second, eps)
    return feed_forward_sublayer(y, params, eps=eps, activation=activation)


def factorised_dot_product_attention(Q, K, V, *, first="time"):
    *batch, heads, t, s, _ = Q.shape
    Y = np.zeros((*Q.shape[:-1], V.shape[-1]), Q.dtype)
    for b in np.ndindex(*batch):
        for h in range(heads):
            in_time = (h < heads // 2) == (first == "time")
            for i in range(s if in_time else t):
                group = (*b, h, slice(None), i) if in_time else (*b, h, i, slice(None))
                Y[group] = attention(Q[group], K[group], V[group])
    return Y


def factorised_dot_product_layer(z, params, *, first="time", eps=1e-6, activation="gelu_tanh"):
    *batch, t, s, _ = z.shape
    weights = params["attention"]
    heads = len(weights["W_q"])
    y = np.zeros_like(z)
    for b in np.ndindex(*batch):
        x = layer_norm(z[b], **params["norm_1"], eps=eps)
        update = np.zeros_like(x)
        rows = {c: [] for c in "qkv"}
        for c in "qkv":
            for h in range(heads):
                bias = weights[f"b_{c}"][h] if f"b_{c}" in weights else 0
                rows[c].append(
                    [[x[i, j] @ weights[f"W_{c}"][h] + bias for j in range(s)] for i in range(t)]
                )
        Q, K, V = (
            np.array(rows[c], z.dtype).reshape(heads, t, s, weights[f"W_{c}"].shape[-1])
            for c in "qkv"
        )
        Y = factorised_dot_product_attention(Q, K, V, first=first)
        for i, j in np.ndindex(t, s):
            update[i, j] = sum(Y[h, i, j] @ weights["W_c"][h] for h in range(heads))
            if "b_c" in weights:
                update[i, j] += weights["b_c"]
        y[b] = z[b] + update
    return feed_forward_sublayer(y, params, eps=eps, activation=activation)
