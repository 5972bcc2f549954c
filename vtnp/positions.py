"""Where a token stands: the positional embeddings of the survey's §3-1."""

import math
from typing import Any

from vtnp._array.typing import Array, Bool, Float
from vtnp._array.xp import device, namespace, transposed
from vtnp._registry.errors import require
from vtnp._registry.spec import spec
from vtnp.encoder import softmax


@spec("sinusoidal-positions")
def sinusoidal_positions(
    n: int, d: int, *, layout: str = "interleaved", like: Array | None = None
) -> Float[Array, "n d"]:
    """Write each position as sines and cosines of slower and slower frequency.

    e[p, 2i] = sin(p omega_i), e[p, 2i+1] = cos(p omega_i), omega_i = 10000^(-2i/d)

    n: positions, counted from 0. d: width, even. layout: "interleaved" as above, or "halves": all
    sines, then all cosines. like: an array whose library, dtype and device the table is made for;
    left out, NumPy and float64.
    Raises FormulaError for a width that is not even and positive, a negative n, another layout, or
    a `like` that holds no floats.
    Notes: an angle p omega_i is rounded in the table's own dtype, off by (p + 1) eps at most: where
    float32 is wanted for thousands of positions, make the table in float64 and cast it.
    """
    require(n >= 0, "sinusoidal-positions", "n", "a number of positions", n)
    require(d >= 2 and d % 2 == 0, "sinusoidal-positions", "d", "an even number >= 2", d)
    known = layout in _LAYOUTS
    require(known, "sinusoidal-positions", "layout", f"one of {_LAYOUTS}", layout)
    xp, kind = namespace(like), _kind(like)
    omega = xp.asarray([10000.0 ** (-2 * i / d) for i in range(d // 2)], **kind)
    angle = xp.expand_dims(xp.arange(n, **kind), axis=-1) * omega
    sin, cos = xp.sin(angle), xp.cos(angle)
    if layout == "halves":
        return xp.concat([sin, cos], axis=-1)
    return xp.reshape(xp.stack([sin, cos], axis=-1), (n, d))


_LAYOUTS = ("halves", "interleaved")


def _kind(like: Array | None) -> dict[str, Any]:
    """Return the dtype and the device of a table made for `like`; without it, float64."""
    if like is None:
        return {"dtype": namespace().float64}
    floats = namespace(like).isdtype(like.dtype, "real floating")
    require(floats, "sinusoidal-positions", "like", "an array of floats", like.dtype)
    return {"dtype": like.dtype, "device": device(like)}


@spec("sinusoidal-positions-2d")
def sinusoidal_positions_2d(
    h: int, w: int, d: int, *, like: Array | None = None
) -> Float[Array, "h w d"]:
    """Write each place of a grid as its column's position, then its row's.

    e[y,x] = [PE(x; d/2), PE(y; d/2)], PE = sinusoidal-positions in halves

    h, w: rows and columns. d: width, divisible by 4. like: as in sinusoidal-positions.
    Raises FormulaError for another width, or as sinusoidal-positions does.
    Notes: the column comes first, as in all published code, also where its comments say otherwise.
    """
    require(d >= 4 and d % 4 == 0, "sinusoidal-positions-2d", "d", "a multiple of 4", d)
    xp = namespace(like)
    column = sinusoidal_positions(w, d // 2, layout="halves", like=like)
    row = sinusoidal_positions(h, d // 2, layout="halves", like=like)
    both = (h, w, d // 2)
    column = xp.broadcast_to(xp.expand_dims(column, axis=0), both)
    row = xp.broadcast_to(xp.expand_dims(row, axis=1), both)
    return xp.concat([column, row], axis=-1)


@spec("sinusoidal-positions-3d")
def sinusoidal_positions_3d(
    t: int, h: int, w: int, d: int, *, split: str = "thirds", like: Array | None = None
) -> Float[Array, "t h w d"]:
    """Write each place of a video as its frame's position, then its place's in the frame.

    e[t,y,x] = [PE(t; d_t), PE(x; (d - d_t)/2), PE(y; (d - d_t)/2)], d_t = d/3

    t, h, w: frames, rows, columns. d: width. split: "thirds", d divisible by 6, as in ViViT's
    code; or "quarter", d_t = d/4, d divisible by 16, as in SlowFast. like: as in
    sinusoidal-positions.
    Raises FormulaError for another width or split, or as sinusoidal-positions does.
    Notes: ViViT-L's width 1024 is not divisible by 6, so that "thirds" does not exist for it.
    """
    known = split in _SHARES
    require(known, "sinusoidal-positions-3d", "split", f"one of {sorted(_SHARES)}", split)
    share, unit = _SHARES[split]
    divisible = d >= unit and d % unit == 0
    require(divisible, "sinusoidal-positions-3d", "d", f"a multiple of {unit}", d)
    xp = namespace(like)
    d_t = d // share
    frame = sinusoidal_positions(t, d_t, layout="halves", like=like)
    place = sinusoidal_positions_2d(h, w, d - d_t, like=like)
    frame = xp.broadcast_to(xp.reshape(frame, (t, 1, 1, d_t)), (t, h, w, d_t))
    place = xp.broadcast_to(xp.expand_dims(place, axis=0), (t, h, w, d - d_t))
    return xp.concat([frame, place], axis=-1)


# For each split: the part of the width that time gets, one in so many, and what must divide it.
_SHARES = {"thirds": (3, 6), "quarter": (4, 16)}


@spec("learned-positions")
def learned_positions(
    z: Float[Array, "*b t s d"], e: Float[Array, "t s d"]
) -> Float[Array, "*b t s d"]:
    """Add to every token the learned vector of its frame and place.

    y[t,s] = z[t,s] + e[t,s]

    z: tokens. e: one row for each frame and place.
    Raises ShapeError.
    Notes: a class token has a row of its own, which belongs to the model.
    """
    return z + e


@spec("separable-positions")
def separable_positions(
    z: Float[Array, "*b t s d"], e_space: Float[Array, "s d"], e_time: Float[Array, "t d"]
) -> Float[Array, "*b t s d"]:
    """Add to every token the learned vector of its place and that of its frame.

    y[t,s] = z[t,s] + e_space[s] + e_time[t]

    z: tokens. e_space: one row for each place. e_time: one row for each frame.
    Raises ShapeError.
    Notes: (s + t) d parameters instead of s t d; what TimeSformer's and Motionformer's released
    code has. A class token has a row in space and none in time, which belongs to the model.
    """
    xp = namespace(z, e_space, e_time)
    return learned_positions(z, e_space + xp.expand_dims(e_time, axis=-2))


@spec("relative-attention")
def relative_attention(
    Q: Float[Array, "*b n d_h"],
    K: Float[Array, "*b n d_h"],
    V: Float[Array, "*b n d_v"],
    w_K: Float[Array, "r d_h"],
    w_V: Float[Array, "r d_v"],
    *,
    mask: Bool[Array, "*#b n n"] | None = None,
) -> Float[Array, "*b n d_v"]:
    """Attend with a learned vector for each distance, added to the keys and to the values.

    y[i] = sum_j softmax_j(<Q[i], K[j] + w_K[c]> / sqrt(d_h)) (V[j] + w_V[c]), c = k+clip(j-i,-k,k)

    Q, K, V: queries, keys and values of the same tokens. w_K, w_V: one row for each distance from
    -k to k, r = 2k + 1. mask: True where query i may attend to key j.
    Raises ShapeError; FormulaError for an even number of rows, no tokens, or keys of width 0.
    Notes: the distance is key minus query. A query that may attend to nothing reads 0.
    """
    n, (r, d_h) = Q.shape[-2], w_K.shape
    require(r % 2 == 1, "relative-attention", "w_K", "an odd number of rows, 2k + 1", r)
    require(d_h >= 1, "relative-attention", "K", "a width of at least 1", tuple(K.shape))
    xp = namespace(Q, K, V, w_K, w_V, mask)
    place = xp.arange(n, device=device(Q))
    distance = xp.expand_dims(place, axis=0) - xp.expand_dims(place, axis=1)
    row = xp.reshape(xp.clip(distance, -(r // 2), r // 2) + r // 2, (n * n,))
    a_K = xp.reshape(xp.take(w_K, row, axis=0), (n, n, d_h))
    a_V = xp.reshape(xp.take(w_V, row, axis=0), (n, n, w_V.shape[-1]))
    scores = (Q @ transposed(K) + _each(Q, transposed(a_K))) / math.sqrt(d_h)
    alpha = softmax(scores if mask is None else xp.where(mask, scores, -math.inf))
    return alpha @ V + _each(alpha, a_V)


def _each(x: Array, matrices: Array) -> Array:
    """Multiply each row of x by a matrix of its own."""
    xp = namespace(x, matrices)
    return xp.squeeze(xp.expand_dims(x, axis=-2) @ matrices, axis=-2)
