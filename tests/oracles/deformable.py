"""Loops written from spec/deformable/."""

import math

import numpy as np


def motion_embedding(motion, E, *, bias=None):
    m = np.zeros((*motion.shape[:-1], E.shape[1]), motion.dtype)
    for *pair, j in np.ndindex(m.shape):
        x, y = motion[tuple(pair)]
        m[(*pair, j)] = E[0, j] * x + E[1, j] * y + (0 if bias is None else bias[j])
    return m


def deformable_logits(q, m, W_alpha, *, bias=None):
    *batch, t, s, u, d = m.shape
    points = W_alpha.shape[1]
    logits = np.zeros((*batch, t, s, u, points), m.dtype)
    for *query, f, n in np.ndindex(*logits.shape):
        total = logits.dtype.type(0) if bias is None else bias[n]
        for i in range(d):
            total += W_alpha[i, n] * (q[(*query, i)] + m[(*query, f, i)])
        logits[(*query, f, n)] = total
    return logits


def deformable_weights(logits):
    *front, u, points = logits.shape
    alpha = np.zeros_like(logits)
    for query in np.ndindex(*front):
        pairs = list(np.ndindex(u, points))
        largest = max(logits[query + pair] for pair in pairs)
        total = sum(np.exp(logits[query + pair] - largest) for pair in pairs)
        for pair in pairs:
            alpha[query + pair] = np.exp(logits[query + pair] - largest) / total
    return alpha


def sampling_offsets(q, m, W_delta, *, bias=None):
    *batch, t, s, u, d = m.shape
    points = W_delta.shape[1]
    offsets = np.zeros((*batch, t, s, u, points, 2), m.dtype)
    for *query, f, n, c in np.ndindex(*offsets.shape):
        total = offsets.dtype.type(0) if bias is None else bias[n, c]
        for i in range(d):
            total += W_delta[i, n, c] * (q[(*query, i)] + m[(*query, f, i)])
        offsets[(*query, f, n, c)] = total
    return offsets


def reference_points(h, w, *, like):
    p = np.zeros((h * w, 2), like.dtype)
    for row in range(h):
        for column in range(w):
            p[row * w + column] = [column, row]
    return p


def sampling_locations(p, offsets):
    locations = np.zeros_like(offsets)
    for *batch, t, s, u, n, c in np.ndindex(*offsets.shape):
        locations[(*batch, t, s, u, n, c)] = p[s, c] + offsets[(*batch, t, s, u, n, c)]
    return locations


def _interpolated(frame, x, y, h, w, padding):
    """Return a frame, `s d`, at (x, y); position s is in row s // w and column s % w."""
    if padding == "border":
        x, y = min(max(x, 0), w - 1), min(max(y, 0), h - 1)
    value = np.zeros(frame.shape[-1], frame.dtype)
    for i in (math.floor(y), math.floor(y) + 1):
        for j in (math.floor(x), math.floor(x) + 1):
            if 0 <= i < h and 0 <= j < w:
                value += (1 - abs(x - j)) * (1 - abs(y - i)) * frame[i * w + j]
    return value


def weighted_sum_of_samples(v, locations, alpha, *, grid, padding="zeros"):
    *batch, t, s, u, points = alpha.shape
    _, h, w = grid
    sums = np.zeros((*batch, t, s, v.shape[-1]), v.dtype)
    for b in np.ndindex(*batch):
        for query in np.ndindex(t, s):
            for f, n in np.ndindex(u, points):
                x, y = locations[(*b, *query, f, n)]
                sample = _interpolated(v[(*b, f)], x, y, h, w, padding)
                sums[b + query] += alpha[(*b, *query, f, n)] * sample
    return sums


def deformable_attention(
    z, q, m, v, W_alpha, W_delta, *, b_alpha=None, b_delta=None, grid, padding="zeros"
):
    alpha = deformable_weights(deformable_logits(q, m, W_alpha, bias=b_alpha))
    offsets = sampling_offsets(q, m, W_delta, bias=b_delta)
    locations = sampling_locations(reference_points(*grid[1:], like=z), offsets)
    return z + weighted_sum_of_samples(v, locations, alpha, grid=grid, padding=padding)


def _product(x, W, b):
    """Return W^T x + b for every row of x."""
    y = np.zeros((*x.shape[:-1], W.shape[-1]), x.dtype)
    for *row, j in np.ndindex(y.shape):
        total = y.dtype.type(0) if b is None else b[j]
        for i in range(W.shape[0]):
            total += x[(*row, i)] * W[i, j]
        y[(*row, j)] = total
    return y


def deformable_self_attention(z, m, params, *, grid, clips=1, padding="zeros"):
    """One sub-clip and one head after the other."""
    (t, h, w), u = grid, m.shape[-2]
    out = np.zeros_like(z)
    biases = {name: params.get(name) for name in ("b_q", "b_v", "b_alpha", "b_delta", "b_c")}
    for first in range(0, t, u):
        clip = slice(first, first + u)
        x = z[..., clip, :, :]
        motion = m[..., clip, :, :, :]
        q = _product(x, params["W_q"], biases["b_q"])
        for head in range(len(params["W_v"])):
            b_v, b_alpha, b_delta = (
                None if biases[name] is None else biases[name][head]
                for name in ("b_v", "b_alpha", "b_delta")
            )
            v = _product(x, params["W_v"][head], b_v)
            W_alpha, W_delta = params["W_alpha"][head], params["W_delta"][head]
            alpha = deformable_weights(deformable_logits(q, motion, W_alpha, bias=b_alpha))
            offsets = sampling_offsets(q, motion, W_delta, bias=b_delta)
            locations = sampling_locations(reference_points(h, w, like=z), offsets)
            y = weighted_sum_of_samples(v, locations, alpha, grid=(u, h, w), padding=padding)
            out[..., clip, :, :] += _product(y, params["W_c"][head], None)
    return out if biases["b_c"] is None else out + biases["b_c"]


def _norm(x, gamma, beta, eps):
    y = np.zeros_like(x)
    for row in np.ndindex(x.shape[:-1]):
        mean = sum(x[row]) / x.shape[-1]
        variance = sum((value - mean) ** 2 for value in x[row]) / x.shape[-1]
        y[row] = gamma * (x[row] - mean) / np.sqrt(variance + eps) + beta
    return y


def _activated(x, activation):
    if activation == "relu":
        return np.maximum(x, 0)
    if activation == "gelu_tanh":
        return x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2
    halves = [(1 + math.erf(value / math.sqrt(2))) / 2 for value in x.ravel()]
    return x * np.array(halves, x.dtype).reshape(x.shape)


def deformable_layer(
    z, motion, params, *, grid, clips=1, padding="zeros", eps=1e-6, activation="gelu"
):
    x = _norm(z, **params["norm_1"], eps=eps)
    m = motion_embedding(motion, **params["motion"])
    attention = params["attention"]
    y = z + deformable_self_attention(x, m, attention, grid=grid, clips=clips, padding=padding)
    network = params["feed_forward"]
    hidden = _product(_norm(y, **params["norm_2"], eps=eps), network["W_1"], network.get("b_1"))
    return y + _product(_activated(hidden, activation), network["W_2"], network.get("b_2"))
