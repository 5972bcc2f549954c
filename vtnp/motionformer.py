"""Motionformer: trajectory attention, eq. (2)-(3), and its approximation by prototypes, eq. (4)."""

import math
from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict

from vtnp._array.typing import Array, Float, Int
from vtnp._array.xp import constant, device, namespace, plus_bias
from vtnp._registry.errors import require
from vtnp._registry.params import AtLeast
from vtnp._registry.spec import spec
from vtnp.encoder import (
    AttentionParams,
    FeedForwardSublayerParams,
    NormParams,
    attention,
    attention_weights,
    feed_forward_sublayer,
    layer_norm,
    output_projection,
    qkv_projection,
)


@spec("trajectory-tokens")
def trajectory_tokens(
    Q: Float[Array, "*b t s d"], K: Float[Array, "*b t s d"], V: Float[Array, "*b t s d_v"]
) -> Float[Array, "*b t s t d_v"]:
    """Pool every frame t' into one token per query, weighing its places by their similarity to it.

    Y~[t,s,t'] = sum_s' softmax_s'(<Q[t,s], K[t',s']> / sqrt(d)) V[t',s']

    Q, K, V: queries, keys and values of the patches; heads ride in the batch axes.
    Raises ShapeError; FormulaError for frames without places.
    Notes: the survey prints the denominator's sum over s, the query's place; the keys' place is
    meant. It also omits the scale (page, Deviations).
    """
    xp = namespace(Q, K, V)
    *batch, t, s, d = Q.shape
    queries = xp.expand_dims(xp.reshape(Q, (*batch, t * s, d)), axis=-3)
    queries = xp.broadcast_to(queries, (*batch, t, t * s, d))
    tokens = xp.moveaxis(attention(queries, K, V), -3, -2)
    return xp.reshape(tokens, (*batch, t, s, t, V.shape[-1]))


@spec("trajectory-attention")
def trajectory_attention(
    Y_tilde: Float[Array, "*b t s t d"],
    W_q: Float[Array, "d d_k"],
    W_k: Float[Array, "d d_k"],
    W_v: Float[Array, "d d_v"] | None = None,
    *,
    b_q: Float[Array, " d_k"] | None = None,
    b_k: Float[Array, " d_k"] | None = None,
    b_v: Float[Array, " d_v"] | None = None,
    value_projection: bool = True,
) -> Float[Array, "*b t s d_v"]:
    """Pool the tokens along each trajectory, weighing frames by their similarity to the own one.

    Y[t,s] = sum_t' softmax_t'(<W_q^T Y~[t,s,t], W_k^T Y~[t,s,t']> / sqrt(d_k)) W_v^T Y~[t,s,t']

    Y_tilde: trajectory tokens. W_q, W_k, W_v: the second projections. b_q, b_k, b_v: their biases;
    left out, none is added. value_projection: False takes the tokens themselves for values, as
    published checkpoints need it; W_v and b_v are then not looked at, and may be left out.
    Raises ShapeError; FormulaError for no frames, or where W_v is missing or has no meaning.
    Notes: the survey prints the sum over s' and the denominator's over t; both run over t'.
    """
    d_v = Y_tilde.shape[-1] if W_v is None else W_v.shape[-1]
    fits = W_v is not None if value_projection else d_v == Y_tilde.shape[-1]
    expected = "a matrix; with value_projection=False none, or a square one"
    require(fits, "trajectory-attention", "W_v", expected, W_v if W_v is None else W_v.shape)
    Q = plus_bias(_own_frame(Y_tilde) @ W_q, b_q)
    K = plus_bias(Y_tilde @ W_k, b_k)
    return _along(Q, K, plus_bias(Y_tilde @ W_v, b_v) if value_projection else Y_tilde)


def _own_frame(Y_tilde: Array) -> Array:
    """Return the tokens of each query's own frame, Y~[t,s,t]."""
    xp = namespace(Y_tilde)
    frame = xp.arange(Y_tilde.shape[-2], device=device(Y_tilde))
    own = frame[:, None, None, None] == frame[:, None]
    return xp.sum(xp.where(own, Y_tilde, 0.0), axis=-2)


def _along(Q: Array, K: Array, V: Array) -> Array:
    """Let each query, `*b t s d_k`, read its own trajectory's frames, `*b t s t d_k`."""
    return namespace(Q, K, V).squeeze(attention(Q[..., None, :], K, V), axis=-2)


@spec("prototype-attention")
def prototype_attention(
    Q: Float[Array, "*b n d"],
    K: Float[Array, "*b m d"],
    V: Float[Array, "*b m d_v"],
    P: Float[Array, "*b r d"],
) -> Float[Array, "*b n d_v"]:
    """Let a few prototypes read the values, and the queries read the prototypes.

    Y = softmax(Q P^T / sqrt(d)) (softmax(P K^T / sqrt(d)) V)

    Q, K, V: queries, keys and values. P: prototypes, usually some of the queries.
    Raises ShapeError; FormulaError for no prototypes or no keys.
    Notes: the right bracket first, so that no n x m matrix is ever made: n r + r m weights.
    """
    return attention(Q, P, attention(P, K, V))


@spec("orthogonal-prototypes")
def orthogonal_prototypes(
    candidates: Float[Array, "*b n d"],
    r: int,
    *,
    start: int | Array | None = None,
    rng: Any = None,
) -> Int[Array, "*b r"]:
    """Choose candidates one after the other, each the most orthogonal to those chosen before it.

    i_0 = start, i_k = argmin_n max_{j<k} |cos(candidates[n], candidates[i_j])|

    candidates: queries, keys or both. r: how many to choose, 1 <= r <= n. start: the first one's
    index, one for all or one for each element of the batch; or rng, a numpy Generator to draw it.
    Raises ShapeError; FormulaError for an r or start outside its range, or unless exactly one of
    start and rng is given.
    Notes: returns indices in the order of choice, which have no gradient; ties go to the first
    index, and no index is chosen twice. A candidate of zeros counts as orthogonal to all; one that
    is not finite is chosen after all others.
    """
    x = constant(candidates)
    *batch, n, _ = x.shape
    require(1 <= r <= n, "orthogonal-prototypes", "r", f"1 to {n}, the number of candidates", r)
    xp = namespace(x)
    place = xp.arange(n, device=device(x))
    first = place == _first(place, tuple(batch), start, rng)
    finite = xp.all(xp.isfinite(x), axis=-1)
    directions = _directions(xp.where(xp.expand_dims(finite, axis=-1), x, 0.0))
    # |cos| <= 1, up to rounding: 2 is worse than any, 3 worse still.
    score = xp.where(finite, xp.zeros((*batch, n), dtype=x.dtype, device=device(x)), 2.0)
    score = xp.where(first, -1.0, score)
    chosen = []
    for _ in range(r):
        index = xp.expand_dims(xp.argmin(score, axis=-1), axis=-1)
        chosen.append(index)
        cosine = xp.abs(xp.vecdot(directions, _row(directions, place == index)))
        score = xp.where(place == index, 3.0, xp.maximum(score, cosine))
    return xp.concat(chosen, axis=-1)


def _first(place: Array, batch: tuple[int, ...], start: int | Array | None, rng: Any) -> Array:
    """Return the first index of each element of the batch, `*b 1`, or `1` where all share it."""
    one_way = (start is None) != (rng is None)
    require(one_way, "orthogonal-prototypes", "start", "either start or rng", (start, rng))
    n = place.shape[0]
    if rng is not None:
        start = rng.integers(n, size=batch).tolist()
    elif isinstance(start, int):
        require(0 <= start < n, "orthogonal-prototypes", "start", f"0 to {n - 1}", start)
    xp = namespace(place)
    index = xp.asarray(start, dtype=place.dtype, device=device(place))
    shapes = ((), batch)
    require(index.shape in shapes, "orthogonal-prototypes", "start", f"a shape of {shapes}", start)
    if rng is None and not isinstance(start, int):
        inside = bool(xp.all(xp.logical_and(index >= 0, index < n)))
        require(inside, "orthogonal-prototypes", "start", f"0 to {n - 1}", start)
    return xp.expand_dims(index, axis=-1)


def _directions(x: Array) -> Array:
    """Scale each row to length 1; a row of zeros stays one."""
    xp = namespace(x)
    # By the largest entry first, so that no square overflows or vanishes.
    largest = xp.max(xp.abs(x), axis=-1, keepdims=True)
    x = x / xp.where(largest == 0.0, 1.0, largest)
    length = xp.sqrt(xp.sum(xp.square(x), axis=-1, keepdims=True))
    return x / xp.where(length == 0.0, 1.0, length)


def _row(x: Array, here: Array) -> Array:
    """Return the one row of x, `*b n d`, that is marked, as `*b 1 d`."""
    xp = namespace(x)
    # Not take: on Dask an index that is computed breaks x into as many chunks as it has numbers.
    return xp.sum(xp.where(here[..., None], x, 0.0), axis=-2, keepdims=True)


@spec("trajectory-prototypes")
def trajectory_prototypes(
    candidates: Float[Array, "*b t s d"],
    r: int,
    *,
    shared: bool = True,
    start: int | Array | None = None,
    rng: Any = None,
    gradient: bool = False,
) -> Float[Array, "*b g r d"]:
    """Choose prototypes among a video's patches: one set for all frames, or one for each.

    P[g,l] = candidates[i_l], i = orthogonal-prototypes(candidates of all frames, or of frame g)

    candidates: queries, keys, or both side by side, frame by frame. r: prototypes in a set.
    shared: one set, g = 1, or one for each frame, g = t. start, rng: as in orthogonal-prototypes,
    counted frame by frame; an array start is `*b g`. gradient: whether gradients run through the
    rows that are chosen.
    Raises ShapeError; FormulaError as orthogonal-prototypes does.
    Notes: a shared set and no gradient are what the released code has.
    """
    *batch, t, s, d = candidates.shape
    shape = (*batch, 1, t * s, d) if shared else (*batch, t, s, d)
    source = candidates if gradient else constant(candidates)
    rows = namespace(source).reshape(source, shape)
    index = orthogonal_prototypes(rows, r, start=start, rng=rng)
    xp = namespace(rows)
    place = xp.arange(rows.shape[-2], device=device(rows))
    return xp.concat([_row(rows, place == index[..., k, None]) for k in range(r)], axis=-2)


@spec("prototype-trajectory-tokens")
def prototype_trajectory_tokens(
    Q: Float[Array, "*b t s d"],
    K: Float[Array, "*b t s d"],
    V: Float[Array, "*b t s d_v"],
    P: Float[Array, "*b g r d"],
) -> Float[Array, "*b t s t d_v"]:
    """Pool every frame t' into one token per query through prototypes.

    Y~[t,s,t'] = sum_l softmax_l(<Q[t,s], P[g,l]>) sum_s' softmax_s'(<P[g,l], K[t',s']>) V[t',s']

    Q, K, V: as in trajectory-tokens. P: one set of prototypes for all frames, g = 1, or one for
    the queries of each frame, g = t. Both softmaxes scale by 1 / sqrt(d).
    Raises ShapeError; FormulaError for another number of sets, or as prototype-attention does.
    Notes: each frame is prototype-attention with the same prototypes; the first softmax does not
    depend on t' and is made once.
    """
    *batch, t, s, d = Q.shape
    g, r = P.shape[-3:-1]
    require(g in (1, t), "prototype-trajectory-tokens", "P", f"1 or {t} sets", g)
    xp = namespace(Q, K, V, P)
    alpha = attention_weights(xp.reshape(Q, (*batch, g, t * s // g, d)), P)
    every = (*batch, g, t)
    K, V = (xp.broadcast_to(x[..., None, :, :, :], (*every, *x.shape[-2:])) for x in (K, V))
    read = attention(xp.broadcast_to(P[..., None, :, :], (*every, r, d)), K, V)
    read = xp.reshape(xp.moveaxis(read, -3, -2), (*batch, g, r, t * V.shape[-1]))
    return xp.reshape(alpha @ read, (*batch, t, s, t, V.shape[-1]))


class TrajectoryParams(TypedDict):
    """The second projections, of all heads' tokens side by side, and their biases."""

    W_q: Float[Array, "heads e d_k"]
    W_k: Float[Array, "heads e d_k"]
    W_v: NotRequired[Float[Array, "heads e d_v"]]
    b_q: NotRequired[Float[Array, "heads d_k"]]
    b_k: NotRequired[Float[Array, "heads d_k"]]
    b_v: NotRequired[Float[Array, "heads d_v"]]


class TrajectoryAttentionParams(TypedDict):
    """Trajectory attention in several heads: the projections of both stages."""

    attention: AttentionParams
    trajectory: TrajectoryParams


class TrajectoryLayerParams(TrajectoryAttentionParams, FeedForwardSublayerParams):
    """One layer of trajectory attention."""

    norm_1: NormParams


@spec("trajectory-self-attention")
def trajectory_self_attention(
    z: Float[Array, "*b t s d"],
    cls: Float[Array, "*b d"],
    params: AtLeast[TrajectoryAttentionParams],
    *,
    value_projection: bool = False,
    prototypes: Mapping[str, Any] | None = None,
) -> tuple[Float[Array, "*b t s d"], Float[Array, "*b d"]]:
    """Let every patch read along its trajectory, and the class token read all tokens at once.

    u'[t,s] = sum_h W_c[h]^T Y[h,t,s], u'_cls = sum_h W_c[h]^T attention(Q_cls, K, V)[h]

    z, cls: patches and class token. params: attention {W_q, W_k, W_v, W_c, b_q?, b_k?, b_v?, b_c?}
    and trajectory {W_q, W_k, W_v?, b_q?, b_k?, b_v?}, whose matrices take all heads' tokens side by
    side; others are not looked at. value_projection: as in trajectory-attention; False does not
    look at trajectory's W_v. prototypes: None for exact tokens, else the options of
    trajectory-prototypes, for instance {"r": 128, "start": 0}, and candidates: "queries" unless
    given, "keys" or "both".
    Raises ShapeError; FormulaError.
    Notes: patches never read the class token. Published checkpoints need value_projection=False
    and were trained with queries as candidates; the paper has True and "both" (page, Deviations).
    """
    first, second = params["attention"], params["trajectory"]
    projects = "W_v" in second or not value_projection
    told = "a key 'W_v' in 'trajectory', which value_projection needs"
    require(projects, "trajectory-self-attention", "params", told, list(second))
    Q, K, V = (_projected(z, first, letter, 2) for letter in ("q", "k", "v"))
    lone = cls[..., None, :]
    Q_cls, *of_cls = (_projected(lone, first, letter, 1) for letter in ("q", "k", "v"))
    # Tokens of one axis: the class token, then the patches frame by frame.
    all_keys, all_values = (
        namespace(x_cls, x).concat([x_cls, _flat(x)], axis=-2)
        for x_cls, x in zip(of_cls, (K, V), strict=True)
    )
    u_cls = output_projection(
        attention(Q_cls, all_keys, all_values), first["W_c"], bias=first.get("b_c")
    )
    if prototypes is None:
        Y_tilde = trajectory_tokens(Q, K, V)
    else:
        Y_tilde = _through_prototypes(Q, K, V, **prototypes)
    y = _flat(_second_stage(Y_tilde, second, value_projection=value_projection))
    u = output_projection(y, first["W_c"], bias=first.get("b_c"))
    return _unflat(u, z.shape[-3:-1]), u_cls[..., 0, :]


def _flat(x: Array) -> Array:
    """Put the patches of x, `*b t s d`, on one axis."""
    *front, t, s, d = x.shape
    return namespace(x).reshape(x, (*front, t * s, d))


def _unflat(x: Array, axes: tuple[int, ...]) -> Array:
    """Split the tokens of x, `*b n d`, into several axes."""
    return namespace(x).reshape(x, (*x.shape[:-2], *axes, x.shape[-1]))


_CANDIDATES = {"queries": (0,), "keys": (1,), "both": (0, 1)}


def _through_prototypes(
    Q: Array, K: Array, V: Array, *, candidates: str = "queries", **options: Any
) -> Array:
    known = candidates in _CANDIDATES
    expected = f"candidates among {[*_CANDIDATES]}"
    require(known, "trajectory-self-attention", "prototypes", expected, candidates)
    chosen = namespace(Q, K).concat([(Q, K)[i] for i in _CANDIDATES[candidates]], axis=-2)
    return prototype_trajectory_tokens(Q, K, V, trajectory_prototypes(chosen, **options))


def _second_stage(Y_tilde: Array, params: Mapping[str, Any], *, value_projection: bool) -> Array:
    """Mix the heads of trajectory tokens, `*b heads t s t d_v`, and pool each along time."""
    xp = namespace(Y_tilde)
    *batch, heads, t, s, _, d_v = Y_tilde.shape
    side_by_side = xp.reshape(xp.moveaxis(Y_tilde, -5, -2), (*batch, t, s, t, heads * d_v))
    Q = _projected(_own_frame(side_by_side), params, "q", 2)
    K = _projected(side_by_side, params, "k", 3)
    return _along(Q, K, _projected(side_by_side, params, "v", 3) if value_projection else Y_tilde)


def _projected(x: Array, params: Mapping[str, Any], letter: str, axes: int) -> Array:
    """Project tokens that lie on so many axes into every head."""
    front, on = x.shape[: -1 - axes], x.shape[-1 - axes : -1]
    x = namespace(x).reshape(x, (*front, math.prod(on), x.shape[-1]))
    y = qkv_projection(x, params[f"W_{letter}"], bias=params.get(f"b_{letter}"))
    return _unflat(y, tuple(on))


@spec("trajectory-layer")
def trajectory_layer(
    z: Float[Array, "*b t s d"],
    cls: Float[Array, "*b d"],
    params: TrajectoryLayerParams,
    *,
    value_projection: bool = False,
    prototypes: Mapping[str, Any] | None = None,
    eps: float = 1e-6,
    activation: str = "gelu",
) -> tuple[Float[Array, "*b t s d"], Float[Array, "*b d"]]:
    """Pass patches and class token through one layer of trajectory attention.

    z' = y + FFN(LN_2(y)), y = z + TrajectoryAttention(LN_1(z)), cls alike

    z, cls: patches and class token. params: norm_1, attention, trajectory, norm_2, feed_forward.
    value_projection, prototypes: as in trajectory-self-attention. eps: of both norms. activation:
    as in feed-forward.
    Raises ShapeError; FormulaError.
    Notes: the patches' result does not depend on the class token, in any layer.
    """
    x, x_cls = (layer_norm(x, **params["norm_1"], eps=eps) for x in (z, cls))
    update, update_cls = trajectory_self_attention(
        x, x_cls, params, value_projection=value_projection, prototypes=prototypes
    )
    y, y_cls = z + update, (cls + update_cls)[..., None, :]
    cls = feed_forward_sublayer(y_cls, params, eps=eps, activation=activation)[..., 0, :]
    return feed_forward_sublayer(y, params, eps=eps, activation=activation), cls
