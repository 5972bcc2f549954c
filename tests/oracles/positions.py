"""Loops written from spec/positions/."""

import math

import numpy as np

from tests.oracles.encoder import softmax


def dtype_of(like):
    return np.float64 if like is None else like.dtype


def sinusoidal_positions(n, d, *, layout="interleaved", like=None):
    e = np.zeros((n, d), dtype_of(like))
    for p in range(n):
        for i in range(d // 2):
            angle = p * 10000 ** (-2 * i / d)
            of_sin, of_cos = (i, d // 2 + i) if layout == "halves" else (2 * i, 2 * i + 1)
            e[p, of_sin], e[p, of_cos] = math.sin(angle), math.cos(angle)
    return e


def sinusoidal_positions_2d(h, w, d, *, like=None):
    e = np.zeros((h, w, d), dtype_of(like))
    q = d // 4
    for y, x, m in np.ndindex(h, w, q):
        omega = 10000 ** (-m / q)
        e[y, x, m], e[y, x, q + m] = math.sin(x * omega), math.cos(x * omega)
        e[y, x, 2 * q + m], e[y, x, 3 * q + m] = math.sin(y * omega), math.cos(y * omega)
    return e


def sinusoidal_positions_3d(t, h, w, d, *, split="thirds", like=None):
    e = np.zeros((t, h, w, d), dtype_of(like))
    widths = [d // 3] * 3 if split == "thirds" else [d // 4, 3 * d // 8, 3 * d // 8]
    for frame, y, x in np.ndindex(t, h, w):
        channels = []
        for p, width in zip((frame, x, y), widths, strict=True):
            angles = [p * 10000 ** (-m / (width // 2)) for m in range(width // 2)]
            channels += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
        e[frame, y, x] = channels
    return e


def learned_positions(z, e):
    y = np.zeros_like(z)
    for *b, t, s, d in np.ndindex(z.shape):
        y[(*b, t, s, d)] = z[(*b, t, s, d)] + e[t, s, d]
    return y


def separable_positions(z, e_space, e_time):
    y = np.zeros_like(z)
    for *b, t, s, d in np.ndindex(z.shape):
        y[(*b, t, s, d)] = z[(*b, t, s, d)] + e_space[s, d] + e_time[t, d]
    return y


def relative_attention(Q, K, V, w_K, w_V, *, mask=None):
    *batch, n, d_h = Q.shape
    k = (len(w_K) - 1) // 2
    allowed = np.broadcast_to(True if mask is None else mask, (*batch, n, n))
    y = np.zeros((*batch, n, V.shape[-1]), V.dtype)
    for *b, i in np.ndindex(*batch, n):
        row = [k + max(-k, min(k, j - i)) for j in range(n)]
        scores = np.full(n, -math.inf, Q.dtype)
        for j in range(n):
            if allowed[(*b, i, j)]:
                key = K[(*b, j)] + w_K[row[j]]
                product = sum(Q[(*b, i, c)] * key[c] for c in range(d_h))
                scores[j] = product / math.sqrt(d_h)
        alpha = softmax(scores)
        for j in range(n):
            y[(*b, i)] += alpha[j] * (V[(*b, j)] + w_V[row[j]])
    return y
