"""The pages of spec/positions/, with 50 digits."""

import numpy as np

from tests.exact.encoder import softmax
from tests.exact.inputs import hard
from tests.exact.numbers import cos, mp, sin, where, zeros


def sinusoidal_positions(n, d, *, layout="interleaved", like=None):
    rows = sinusoidal_positions_at(np.arange(n), d)
    if layout == "halves":
        return rows
    return rows.reshape(n, 2, d // 2).swapaxes(-1, -2).reshape(n, d)


def sinusoidal_positions_at(p, d):
    """Return the rows of some positions, all sines before all cosines."""
    omega = np.array([mp.mpf(10000) ** (mp.mpf(-2 * i) / d) for i in range(d // 2)], dtype=object)
    angle = np.asarray(p).astype(object)[..., None] * omega
    return np.concatenate([sin(angle), cos(angle)], axis=-1)


def sinusoidal_positions_2d(h, w, d, *, like=None):
    e = zeros((h, w, d))
    e[..., : d // 2] = sinusoidal_positions(w, d // 2, layout="halves")
    e[..., d // 2 :] = sinusoidal_positions(h, d // 2, layout="halves")[:, None]
    return e


def sinusoidal_positions_3d(t, h, w, d, *, split="thirds", like=None):
    d_t = d // 3 if split == "thirds" else d // 4
    e = zeros((t, h, w, d))
    e[..., :d_t] = sinusoidal_positions(t, d_t, layout="halves")[:, None, None]
    e[..., d_t:] = sinusoidal_positions_2d(h, w, d - d_t)
    return e


def learned_positions(z, e):
    return z + e


def separable_positions(z, e_space, e_time):
    return z + e_space + e_time[:, None, :]


def relative_attention(Q, K, V, w_K, w_V, *, mask=None):
    n, d_h = Q.shape[-2:]
    k = len(w_K) // 2
    c = k + np.clip(np.arange(n)[None, :] - np.arange(n)[:, None], -k, k)
    keys = K[..., None, :, :] + w_K[c]
    scores = (Q[..., :, None, :] * keys).sum(axis=-1) / mp.sqrt(d_h)
    alpha = softmax(scores if mask is None else where(mask, scores, mp.mpf("-inf")))
    return (alpha[..., None] * (V[..., None, :, :] + w_V[c])).sum(axis=-2)


# --- Hard inputs ----------------------------------------------------------------------------------


@hard("sinusoidal-positions", "many positions")
def _many_positions(rng, dtype):
    return {"n": 200, "d": 6, "like": np.zeros(1)}
