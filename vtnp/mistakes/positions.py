"""The usual mistakes of the pages in spec/positions/."""

import math

from vtnp._array.xp import device, namespace, transposed
from vtnp.encoder import attention, softmax
from vtnp.mistakes._registry import mistake
from vtnp.positions import (
    Layout,
    learned_positions,
    relative_attention,
    separable_positions,
    sinusoidal_positions,
    sinusoidal_positions_2d,
    sinusoidal_positions_3d,
)


def _table(n, d, layout, like, frequency, start=0):
    """Return a sinusoidal table whose sine i and cosine i have frequency(2i), frequency(2i + 1)."""
    xp = namespace(like)
    e = [
        [math.sin(p * frequency(c)) if c % 2 == 0 else math.cos(p * frequency(c)) for c in range(d)]
        for p in range(start, start + n)
    ]
    right = sinusoidal_positions(n, d, like=like)
    e = xp.asarray(e, dtype=right.dtype, device=device(right))
    return xp.concat([e[:, 0::2], e[:, 1::2]], axis=-1) if layout == "halves" else e


@mistake("sinusoidal-positions", "exponent-i-over-d")
def frequencies_of_i_over_d(n, d, *, layout="interleaved", like=None):
    return _table(n, d, layout, like, lambda c: 10000.0 ** (-(c // 2) / d))


@mistake("sinusoidal-positions", "exponent-of-the-channel")
def frequencies_of_the_channel(n, d, *, layout="interleaved", like=None):
    """The exponent counts channels, not pairs: 4i/d for sines, and cosines of another frequency."""
    return _table(n, d, layout, like, lambda c: 10000.0 ** (-2 * c / d))


@mistake("sinusoidal-positions", "other-layout")
def the_other_layout(n, d, *, layout="interleaved", like=None):
    other: Layout = "halves" if layout == "interleaved" else "interleaved"
    return sinusoidal_positions(n, d, layout=other, like=like)


@mistake("sinusoidal-positions", "counted-from-one")
def positions_counted_from_one(n, d, *, layout="interleaved", like=None):
    return sinusoidal_positions(n + 1, d, layout=layout, like=like)[1:, ...]


@mistake("sinusoidal-positions", "cosine-first")
def cosine_before_sine(n, d, *, layout="interleaved", like=None):
    xp = namespace(like)
    e = sinusoidal_positions(n, d, layout="halves", like=like)
    parts = [e[:, d // 2 :], e[:, : d // 2]]
    if layout == "halves":
        return xp.concat(parts, axis=-1)
    return xp.reshape(xp.stack(parts, axis=-1), (n, d))


@mistake("sinusoidal-positions-2d", "row-first")
def row_before_column(h, w, d, *, like=None):
    e = sinusoidal_positions_2d(h, w, d, like=like)
    return namespace(like).concat([e[..., d // 2 :], e[..., : d // 2]], axis=-1)


@mistake("sinusoidal-positions-2d", "interleaved")
def interleaved_2d(h, w, d, *, like=None):
    xp = namespace(like)
    e = xp.reshape(sinusoidal_positions_2d(h, w, d, like=like), (h, w, 2, 2, d // 4))
    return xp.reshape(xp.moveaxis(e, -1, -2), (h, w, d))


@mistake("sinusoidal-positions-2d", "raster-index")
def positions_of_the_raster(h, w, d, *, like=None):
    """One-dimensional positions of the flattened grid."""
    flat = sinusoidal_positions(h * w, d, layout="halves", like=like)
    return namespace(like).reshape(flat, (h, w, d))


@mistake("sinusoidal-positions-2d", "first-frequencies")
def first_half_of_the_frequencies(h, w, d, *, like=None):
    """Each axis has the higher half of the full width's frequencies instead of its own."""
    xp = namespace(like)
    x = sinusoidal_positions(w, d, layout="halves", like=like)
    y = sinusoidal_positions(h, d, layout="halves", like=like)
    q = d // 4
    kept = [xp.concat([e[:, :q], e[:, 2 * q : 3 * q]], axis=-1) for e in (x, y)]
    column = xp.broadcast_to(xp.expand_dims(kept[0], axis=0), (h, w, 2 * q))
    row = xp.broadcast_to(xp.expand_dims(kept[1], axis=1), (h, w, 2 * q))
    return xp.concat([column, row], axis=-1)


def _parts(d, split):
    """Return where the channels of the columns and those of the rows begin."""
    d_t = d // 3 if split == "thirds" else d // 4
    return d_t, d_t + (d - d_t) // 2


@mistake("sinusoidal-positions-3d", "row-before-column")
def rows_before_columns(t, h, w, d, *, split="thirds", like=None):
    e = sinusoidal_positions_3d(t, h, w, d, split=split, like=like)
    x, y = _parts(d, split)
    return namespace(like).concat([e[..., :x], e[..., y:], e[..., x:y]], axis=-1)


@mistake("sinusoidal-positions-3d", "time-last")
def time_last(t, h, w, d, *, split="thirds", like=None):
    e = sinusoidal_positions_3d(t, h, w, d, split=split, like=like)
    x, _ = _parts(d, split)
    return namespace(like).concat([e[..., x:], e[..., :x]], axis=-1)


@mistake("sinusoidal-positions-3d", "token-index")
def positions_of_the_token(t, h, w, d, *, split="thirds", like=None):
    """One-dimensional positions of the flattened video, as the VideoMAE family has."""
    flat = sinusoidal_positions(t * h * w, d, layout="halves", like=like)
    return namespace(like).reshape(flat, (t, h, w, d))


@mistake("sinusoidal-positions-3d", "axes-added")
def axes_added(t, h, w, d, *, split="thirds", like=None):
    """Full-width positions of the three axes are added up instead of concatenated."""
    xp = namespace(like)
    total = 0.0
    for n, shape in ((t, (t, 1, 1, d)), (h, (1, h, 1, d)), (w, (1, 1, w, d))):
        total = total + xp.reshape(sinusoidal_positions(n, d, layout="halves", like=like), shape)
    return total


@mistake("learned-positions", "multiplied")
def positions_multiplied(z, e):
    return z * e


@mistake("learned-positions", "first-frame-only")
def positions_of_the_first_frame(z, e):
    """A table of one image, used for all frames: the order of frames is lost."""
    return z + e[:1, ...]


@mistake("learned-positions", "position-major")
def positions_position_major(z, e):
    """A table stored frame by frame is taken for one stored position by position."""
    xp = namespace(e)
    t, s, d = e.shape
    return learned_positions(z, xp.moveaxis(xp.reshape(e, (s, t, d)), 0, 1))


@mistake("separable-positions", "position-major")
def separable_position_major(z, e_space, e_time):
    """The tables are repeated as if tokens were position-major; they are frame-major."""
    xp = namespace(e_space, e_time)
    t, s, d = z.shape[-3:]
    e = xp.expand_dims(e_space, axis=1) + e_time
    return z + xp.reshape(e, (t, s, d))


@mistake("separable-positions", "space-only")
def separable_space_only(z, e_space, e_time):
    return z + e_space


@mistake("separable-positions", "multiplied")
def separable_multiplied(z, e_space, e_time):
    return z + e_space * namespace(e_time).expand_dims(e_time, axis=-2)


def _relative(Q, K, V, w_K, w_V, mask, row, factor=1.0):
    """Return relative attention with other rows, or with relative scores times a factor."""
    n, d_h = Q.shape[-2], Q.shape[-1]
    xp = namespace(Q, K, V, w_K, w_V, mask)
    position = xp.arange(n, device=device(Q))
    distance = xp.expand_dims(position, axis=0) - xp.expand_dims(position, axis=1)
    rows = xp.reshape(row(xp, distance), (n * n,))
    a_K = xp.reshape(xp.take(w_K, rows, axis=0), (n, n, d_h))
    a_V = xp.reshape(xp.take(w_V, rows, axis=0), (n, n, w_V.shape[-1]))
    relative = xp.sum(xp.expand_dims(Q, axis=-2) * a_K, axis=-1)
    scores = (Q @ transposed(K) + factor * relative) / math.sqrt(d_h)
    alpha = softmax(scores if mask is None else xp.where(mask, scores, -math.inf))
    return alpha @ V + xp.sum(xp.expand_dims(alpha, axis=-1) * a_V, axis=-2)


@mistake("relative-attention", "sign-flipped")
def query_minus_key(Q, K, V, w_K, w_V, *, mask=None):
    xp = namespace(w_K, w_V)
    return relative_attention(Q, K, V, xp.flip(w_K, axis=0), xp.flip(w_V, axis=0), mask=mask)


@mistake("relative-attention", "no-clip")
def distances_not_clipped(Q, K, V, w_K, w_V, *, mask=None):
    """A distance beyond the table wraps around to its other end, as negative indices do."""
    r = w_K.shape[0]
    return _relative(
        Q, K, V, w_K, w_V, mask, lambda xp, distance: xp.remainder(distance + r // 2, r)
    )


@mistake("relative-attention", "absolute-distance")
def distances_without_sign(Q, K, V, w_K, w_V, *, mask=None):
    k = w_K.shape[0] // 2
    return _relative(
        Q, K, V, w_K, w_V, mask, lambda xp, distance: xp.clip(xp.abs(distance), 0, k) + k
    )


@mistake("relative-attention", "table-of-2k")
def the_last_row_never_used(Q, K, V, w_K, w_V, *, mask=None):
    """The table is taken to have 2k rows: relative position k gets the row of k - 1."""
    k = w_K.shape[0] // 2
    return _relative(
        Q, K, V, w_K, w_V, mask, lambda xp, distance: xp.clip(distance, -k, max(k - 1, -k)) + k
    )


@mistake("relative-attention", "no-values")
def without_relative_values(Q, K, V, w_K, w_V, *, mask=None):
    return relative_attention(Q, K, V, w_K, w_V * 0.0, mask=mask)


@mistake("relative-attention", "no-keys")
def without_relative_keys(Q, K, V, w_K, w_V, *, mask=None):
    return relative_attention(Q, K, V, w_K * 0.0, w_V, mask=mask)


@mistake("relative-attention", "relative-term-unscaled")
def relative_term_unscaled(Q, K, V, w_K, w_V, *, mask=None):
    """The relative scores are added after the division by sqrt(d_h)."""
    k = w_K.shape[0] // 2
    return _relative(
        Q,
        K,
        V,
        w_K,
        w_V,
        mask,
        lambda xp, distance: xp.clip(distance, -k, k) + k,
        factor=math.sqrt(Q.shape[-1]),
    )


@mistake("relative-attention", "absolute-positions")
def absolute_positions(Q, K, V, w_K, w_V, *, mask=None):
    """Rows are chosen by the position of the key in the sequence."""
    xp = namespace(w_K, w_V)
    n, r = K.shape[-2], w_K.shape[0]
    row = xp.clip(xp.arange(n, device=device(K)), 0, r - 1)
    keys, values = K + xp.take(w_K, row, axis=0), V + xp.take(w_V, row, axis=0)
    return attention(Q, keys, values, mask=mask)


@mistake("separable-positions", "time-only")
def separable_time_only(z, e_space, e_time):
    return separable_positions(z, e_space * 0.0, e_time)
