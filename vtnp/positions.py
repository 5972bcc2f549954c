"""The positional embeddings of the survey's §3-1: what tells a token where it is."""

import math
from decimal import Decimal, localcontext
from functools import cache
from typing import Any, Literal

from vtnp._array.typing import Array, Bool, Float
from vtnp._array.xp import device, namespace, transposed
from vtnp._registry.spec import spec
from vtnp.encoder import softmax

Layout = Literal["interleaved", "halves"]
Split = Literal["thirds", "quarter"]


@spec("sinusoidal-positions", requires=("n >= 0", "d >= 1", "d % 2 == 0"))
def sinusoidal_positions(
    n: int, d: int, *, layout: Layout = "interleaved", like: Array | None = None
) -> Float[Array, "n d"]:
    """Encode each position by sines and cosines of geometrically decreasing frequencies.

    e[p, 2i] = sin(p omega_i), e[p, 2i+1] = cos(p omega_i), omega_i = 10000^(-2i/d)

    Parameters
    ----------
    n : int
        Number of positions, which are counted from 0.
    d : int
        Width, even.
    layout : {"interleaved", "halves"}
        Sine and cosine of each frequency side by side, or all sines before all cosines.
    like : array, optional
        An array of floats whose library, dtype and device the table is made for; left out, NumPy
        and float64.

    Returns
    -------
    array
        One row for each position.

    Raises
    ------
    FormulaError
        If n is negative, d is odd or below 1, or layout is another string.

    Notes
    -----
    Computed by NumPy in float64, with frequencies of two words, and rounded once: entries are
    accurate at any position, and the same for every library.

    References
    ----------
    spec/positions/sinusoidal-positions.md; survey, section 3-1.
    """
    sin, cos = _sines_and_cosines(n, d)
    if layout == "halves":
        table = namespace().concat([sin, cos], axis=-1)
    else:
        table = namespace().stack([sin, cos], axis=-1).reshape(n, d)
    return namespace(like).asarray(table, **_kind(like))


def _sines_and_cosines(n: int, d: int) -> tuple[Array, Array]:
    """Return sin(p omega_i) and cos(p omega_i) for positions p and frequencies i.

    A frequency rounded to float64 would make the angle wrong by p times that rounding. It is split
    into a part of 24 bits, whose products with positions are exact, and the rest.
    """
    xp = namespace()
    coarse, rest = _frequencies(d)
    p = xp.arange(n, dtype=xp.float64)[:, None]
    large, small = p * xp.asarray(coarse), p * xp.asarray(rest)
    sin, cos, sin_small, cos_small = xp.sin(large), xp.cos(large), xp.sin(small), xp.cos(small)
    return sin * cos_small + cos * sin_small, cos * cos_small - sin * sin_small


@cache
def _frequencies(d: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return 10000^(-2i/d) as sums of two numbers, the first of which has 24 bits."""
    with localcontext(prec=40):
        omega = [Decimal(10000) ** (Decimal(-2 * i) / d) for i in range(d // 2)]
        exponents = [math.frexp(w)[1] - 24 for w in omega]
        coarse = [
            math.ldexp(round(math.ldexp(w, -e)), e) for w, e in zip(omega, exponents, strict=True)
        ]
        return tuple(coarse), tuple(
            float(w - Decimal(c)) for w, c in zip(omega, coarse, strict=True)
        )


def _kind(like: Array | None) -> dict[str, Any]:
    """Return the dtype and the device of a table made for `like`; left out, float64."""
    if like is None:
        return {"dtype": namespace().float64}
    return {"dtype": like.dtype, "device": device(like)}


@spec("sinusoidal-positions-2d", requires=("h >= 0", "w >= 0", "d >= 1", "d % 4 == 0"))
def sinusoidal_positions_2d(
    h: int, w: int, d: int, *, like: Array | None = None
) -> Float[Array, "h w d"]:
    """Encode each position of a grid: its column in the first half of the channels, then its row.

    e[y,x] = [PE(x; d/2), PE(y; d/2)], PE = sinusoidal-positions in halves

    Parameters
    ----------
    h, w : int
        Rows and columns.
    d : int
        Width, divisible by 4.
    like : array, optional
        An array of floats whose library, dtype and device the table is made for; left out, NumPy
        and float64.

    Returns
    -------
    array
        One vector for each position.

    Raises
    ------
    FormulaError
        If h or w is negative, or d is below 1 or not divisible by 4.

    Notes
    -----
    The column comes first, as in all published code, even where its comments say otherwise.

    References
    ----------
    spec/positions/sinusoidal-positions-2d.md; survey, section 3-1.
    """
    xp = namespace(like)
    column = sinusoidal_positions(w, d // 2, layout="halves", like=like)
    row = sinusoidal_positions(h, d // 2, layout="halves", like=like)
    return xp.concat(xp.broadcast_arrays(column[None, :, :], row[:, None, :]), axis=-1)


@spec(
    "sinusoidal-positions-3d",
    requires=(
        "t >= 0",
        "h >= 0",
        "w >= 0",
        "d >= 1",
        "d % (6 if split == 'thirds' else 16) == 0",
    ),
)
def sinusoidal_positions_3d(
    t: int, h: int, w: int, d: int, *, split: Split = "thirds", like: Array | None = None
) -> Float[Array, "t h w d"]:
    """Encode each position of a video: its frame first, then its column, then its row.

    e[t,y,x] = [PE(t; d_t), PE(x; (d - d_t)/2), PE(y; (d - d_t)/2)], d_t = d/3

    Parameters
    ----------
    t, h, w : int
        Frames, rows and columns.
    d : int
        Width, divisible by 6 in thirds and by 16 for a quarter.
    split : {"thirds", "quarter"}
        Channels that encode the frame: d_t = d/3, as in ViViT's code, or d_t = d/4, as in
        SlowFast's.
    like : array, optional
        An array of floats whose library, dtype and device the table is made for; left out, NumPy
        and float64.

    Returns
    -------
    array
        One vector for each position.

    Raises
    ------
    FormulaError
        If t, h or w is negative, d is below 1 or not divisible, or split is another string.

    Notes
    -----
    ViViT-L's width, 1024, is not divisible by 6: it has no table in thirds.

    References
    ----------
    spec/positions/sinusoidal-positions-3d.md; survey, section 3-1.
    """
    xp = namespace(like)
    d_t = d // 3 if split == "thirds" else d // 4
    frame = sinusoidal_positions(t, d_t, layout="halves", like=like)
    space = sinusoidal_positions_2d(h, w, d - d_t, like=like)
    frame = xp.broadcast_to(frame[:, None, None, :], (t, h, w, d_t))
    space = xp.broadcast_to(space, (t, h, w, d - d_t))
    return xp.concat([frame, space], axis=-1)


@spec("learned-positions")
def learned_positions(
    z: Float[Array, "*b t s d"], e: Float[Array, "t s d"]
) -> Float[Array, "*b t s d"]:
    """Add to every token the learned vector of its frame and spatial position.

    y[t,s] = z[t,s] + e[t,s]

    Parameters
    ----------
    z : array
        Tokens.
    e : array
        One vector for each spatial position of each frame.

    Returns
    -------
    array
        Tokens with positions.

    Raises
    ------
    ShapeError
        If axes do not fit.

    Notes
    -----
    A class token has a vector of its own, which belongs to the model.

    References
    ----------
    spec/positions/learned-positions.md; survey, section 3-1.
    """
    return z + e


@spec("separable-positions")
def separable_positions(
    z: Float[Array, "*b t s d"], e_space: Float[Array, "s d"], e_time: Float[Array, "t d"]
) -> Float[Array, "*b t s d"]:
    """Add to every token the learned vector of its spatial position and that of its frame.

    y[t,s] = z[t,s] + e_space[s] + e_time[t]

    Parameters
    ----------
    z : array
        Tokens.
    e_space : array
        One vector for each spatial position.
    e_time : array
        One vector for each frame.

    Returns
    -------
    array
        Tokens with positions.

    Raises
    ------
    ShapeError
        If axes do not fit.

    Notes
    -----
    (s + t) d parameters instead of s t d; the released code of TimeSformer and Motionformer has
    this form. There a class token has a vector for space and none for time; it belongs to the
    model.

    References
    ----------
    spec/positions/separable-positions.md; survey, section 3-1.
    """
    return learned_positions(z, e_space + e_time[:, None, :])


@spec("relative-attention", requires=("r % 2 == 1", "d_h >= 1"))
def relative_attention(
    Q: Float[Array, "*b n d_h"],
    K: Float[Array, "*b n d_h"],
    V: Float[Array, "*b n d_v"],
    w_K: Float[Array, "r d_h"],
    w_V: Float[Array, "r d_v"],
    *,
    mask: Bool[Array, "*#b n n"] | None = None,
) -> Float[Array, "*b n d_v"]:
    """Attend with a learned vector for each relative position, added to keys and values.

    y[i] = sum_j softmax_j(<Q[i], K[j] + w_K[c]> / sqrt(d_h)) (V[j] + w_V[c]), c = k+clip(j-i,-k,k)

    Parameters
    ----------
    Q, K, V : array
        Queries, keys and values of the same tokens.
    w_K, w_V : array
        One row for each relative position from -k to k, r = 2k + 1 in all.
    mask : array, optional
        True where query i may attend to key j.

    Returns
    -------
    array
        One average for each query.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If the number of rows is even, there are no tokens, or keys have width 0.

    Notes
    -----
    A relative position is that of the key minus that of the query. A query that may attend to
    nothing gets 0.

    References
    ----------
    spec/positions/relative-attention.md; survey, section 3-1.
    """
    r, d_h = w_K.shape
    xp = namespace(Q, K, V, w_K, w_V, mask)
    position = xp.arange(Q.shape[-2], device=device(Q))
    c = r // 2 + xp.clip(position[None, :] - position[:, None], -(r // 2), r // 2)
    a_K, a_V = _rows(w_K, c), _rows(w_V, c)
    scores = (Q @ transposed(K) + _times_own_matrix(Q, transposed(a_K))) / math.sqrt(d_h)
    alpha = softmax(scores if mask is None else xp.where(mask, scores, -math.inf))
    return alpha @ V + _times_own_matrix(alpha, a_V)


def _rows(table: Array, index: Array) -> Array:
    """Look up a row for every index: `r d` and `n n` to `n n d`."""
    xp, (n, m) = namespace(table), index.shape
    return xp.reshape(xp.take(table, xp.reshape(index, (n * m,)), axis=0), (n, m, table.shape[-1]))


def _times_own_matrix(x: Array, matrices: Array) -> Array:
    """Multiply each row by a matrix of its own: `*b n m` and `n m d` to `*b n d`."""
    return namespace(x, matrices).squeeze(x[..., None, :] @ matrices, axis=-2)
