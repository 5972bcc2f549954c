"""Motionformer: trajectory attention, eq. (2)-(3), and its approximation by prototypes, eq. (4)."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, NotRequired, TypedDict

from vtnp._array.typing import Array, Float, Int
from vtnp._array.xp import constant, device, is_at_hand, namespace, plus_bias
from vtnp._registry.errors import require
from vtnp._registry.params import AtLeast
from vtnp._registry.spec import spec
from vtnp.encoder import (
    Activation,
    AttentionParams,
    FeedForwardSublayerParams,
    NormParams,
    attention,
    attention_weights,
    feed_forward_sublayer,
    layer_norm,
    merge_heads,
    output_projection,
    project_heads,
)


class Prototypes(NamedTuple):
    """How trajectory attention chooses its prototypes.

    Attributes
    ----------
    r : int
        Number of prototypes in a set.
    candidates : {"queries", "keys", "both"}
        The patches' queries, their keys, or both side by side in each frame.
    shared : bool
        Choose one set for all frames, or one for the queries of each frame.
    start : int, array or None
        The index of the first prototype: one for all sets, or an integer array ``*b heads g``; None
        if a generator draws it.
    gradient : bool
        Whether gradients flow through the prototypes.
    """

    r: int
    candidates: Literal["queries", "keys", "both"] = "queries"
    shared: bool = True
    start: int | Array | None = 0
    gradient: bool = False


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


@spec("trajectory-tokens")
def trajectory_tokens(
    Q: Float[Array, "*b t s d"], K: Float[Array, "*b t s d"], V: Float[Array, "*b t s d_v"]
) -> Float[Array, "*b t s t d_v"]:
    """Pool every frame t' into one token for each query, weighted by similarity to its keys.

    Y~[t,s,t'] = sum_s' softmax_s'(<Q[t,s], K[t',s']> / sqrt(d)) V[t',s']

    Parameters
    ----------
    Q, K, V : array
        Queries, keys and values of the patches. Heads are batch axes.

    Returns
    -------
    array
        For each patch one token for each frame.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If frames have no patches, or keys have width 0.

    Notes
    -----
    The survey prints the sum of the denominator over s, the position of the query; it runs over s',
    that of the key. The survey also omits the scale.

    References
    ----------
    spec/motionformer/trajectory-tokens.md; survey, eq. (2).
    """
    xp = namespace(Q, K, V)
    *batch, t, s, d = Q.shape
    queries = xp.expand_dims(xp.reshape(Q, (*batch, t * s, d)), axis=-3)
    queries = xp.broadcast_to(queries, (*batch, t, t * s, d))
    tokens = xp.moveaxis(attention(queries, K, V), -3, -2)
    return xp.reshape(tokens, (*batch, t, s, t, V.shape[-1]))


@spec(
    "trajectory-attention",
    requires=(
        "W_v is not None or not value_projection",
        "value_projection or W_v is None or d_v == d",
    ),
)
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
    """Pool each trajectory, with frames weighted by their similarity to the patch's own frame.

    Y[t,s] = sum_t' softmax_t'(<W_q^T Y~[t,s,t], W_k^T Y~[t,s,t']> / sqrt(d_k)) W_v^T Y~[t,s,t']

    Parameters
    ----------
    Y_tilde : array
        Trajectory tokens.
    W_q, W_k, W_v : array
        The second projections.
    b_q, b_k, b_v : array, optional
        Their biases; left out, none is added.
    value_projection : bool
        False takes the tokens themselves as values, as published checkpoints require. W_v and b_v
        are then ignored, and may be left out.

    Returns
    -------
    array
        One output for each patch.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If there are no frames, or queries have width 0; if W_v is missing, or is not square though
        value_projection is False.

    Notes
    -----
    The survey prints the outer sum over s' and that of the denominator over t; both run over t'.

    References
    ----------
    spec/motionformer/trajectory-attention.md; survey, eq. (3).
    """
    Q = plus_bias(_own_frame(Y_tilde) @ W_q, b_q)
    K = plus_bias(Y_tilde @ W_k, b_k)
    return _attend_along(Q, K, plus_bias(Y_tilde @ W_v, b_v) if value_projection else Y_tilde)


def _own_frame(Y_tilde: Array) -> Array:
    """Return the token of each patch in its own frame, Y~[t,s,t]."""
    xp = namespace(Y_tilde)
    *batch, t, s, _, d = Y_tilde.shape
    pairs_of_frames = xp.reshape(xp.moveaxis(Y_tilde, -2, -3), (*batch, t * t, s, d))
    # Of the pairs in rows of t, every (t + 1)-th is one frame twice.
    return pairs_of_frames[..., :: t + 1, :, :]


def _attend_along(Q: Array, K: Array, V: Array) -> Array:
    """Let each query, `*b t s d_k`, attend to its own trajectory, `*b t s t d_k`."""
    return namespace(Q, K, V).squeeze(attention(Q[..., None, :], K, V), axis=-2)


@spec("prototype-attention")
def prototype_attention(
    Q: Float[Array, "*b n d"],
    K: Float[Array, "*b m d"],
    V: Float[Array, "*b m d_v"],
    P: Float[Array, "*b r d"],
) -> Float[Array, "*b n d_v"]:
    """Let a few prototypes attend to all keys, and the queries to the prototypes.

    Y = softmax(Q P^T / sqrt(d)) (softmax(P K^T / sqrt(d)) V)

    Parameters
    ----------
    Q, K, V : array
        Queries, keys and values.
    P : array
        Prototypes, usually some of the queries.

    Returns
    -------
    array
        One output for each query.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If there are no prototypes or no keys, or keys have width 0.

    Notes
    -----
    The right bracket is computed first, so that no n x m matrix is needed: n r + r m weights.

    References
    ----------
    spec/motionformer/prototype-attention.md; survey, eq. (4).
    """
    return attention(Q, P, attention(P, K, V))


@spec(
    "orthogonal-prototypes",
    requires=("1 <= r <= n", "d >= 1", "(start is None) != (rng is None)"),
)
def orthogonal_prototypes(
    candidates: Float[Array, "*b n d"],
    r: int,
    *,
    start: int | Array | None = None,
    rng: Any = None,
) -> Int[Array, "*b r"]:
    """Choose candidates one after the other, each the most orthogonal to those chosen before it.

    i_0 = start, i_k = argmin_n max_{j<k} |cos(candidates[n], candidates[i_j])|

    Parameters
    ----------
    candidates : array
        Queries, keys or both.
    r : int
        Number of candidates to choose, 1 <= r <= n.
    start : int or array, optional
        The index of the first one: an integer, or an integer array with one for each element of the
        batch.
    rng : numpy.random.Generator, optional
        Draws the index of the first one, for each element of the batch, in place of start.

    Returns
    -------
    array
        Indices in the order of choice.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If r is less than 1 or greater than n, candidates have width 0, both or neither of start and
        rng are given, or start is out of range or has another shape than the batch.

    Notes
    -----
    Indices have no gradient. Ties go to the first index, and no index is chosen twice. A candidate
    of zeros counts as orthogonal to all others; one with NaN or an infinity is chosen after all
    others. An array of starts on a GPU, or in a program that is being compiled, is not read to
    check it: there it counts modulo n.

    References
    ----------
    spec/motionformer/orthogonal-prototypes.md; survey, section 3-4.
    """
    x = constant(candidates)
    xp, directions = namespace(x), _directions(x)
    score, chosen = _initial_score(x, start, rng), []
    for _ in range(r):
        chosen.append(xp.expand_dims(xp.argmin(score, axis=-1), axis=-1))
        is_chosen = _is_row(chosen[-1], x.shape[-2])
        cosine = xp.abs(xp.vecdot(directions, _row(directions, is_chosen)))
        score = xp.where(is_chosen, 3.0, xp.maximum(score, cosine))
    return xp.concat(chosen, axis=-1)


def _directions(x: Array) -> Array:
    """Scale each row to length 1; a row of zeros, or one that is not finite, becomes 0."""
    xp = namespace(x)
    x = xp.where(xp.all(xp.isfinite(x), axis=-1, keepdims=True), x, 0.0)
    # Divided by the largest entry first, so that no square overflows or vanishes.
    largest = xp.max(xp.abs(x), axis=-1, keepdims=True)
    x = x / xp.where(largest == 0.0, 1.0, largest)
    length = xp.sqrt(xp.sum(xp.square(x), axis=-1, keepdims=True))
    return x / xp.where(length == 0.0, 1.0, length)


def _initial_score(x: Array, start: int | Array | None, rng: Any) -> Array:
    """Return the score of each candidate before any is chosen: the start has the smallest."""
    xp, (*batch, n, _) = namespace(x), x.shape
    zeros = xp.zeros((*batch, n), dtype=x.dtype, device=device(x))
    # |cos| <= 1, up to rounding, so 2 comes after all candidates that are finite.
    score = xp.where(xp.all(xp.isfinite(x), axis=-1), zeros, 2.0)
    return xp.where(_is_row(_first_index(x, start, rng), n), -1.0, score)


def _first_index(x: Array, start: int | Array | None, rng: Any) -> Array:
    """Return the first index of each element of the batch, `*b 1`, or `1` where all share it."""
    xp, (*batch, n, _) = namespace(x), x.shape
    if rng is not None:
        start = rng.integers(n, size=tuple(batch)).tolist()
    kind = {"dtype": xp.arange(n, device=device(x)).dtype, "device": device(x)}
    index = xp.full((), start, **kind) if isinstance(start, int) else xp.asarray(start, **kind)
    shapes = ((), tuple(batch))
    require(index.shape in shapes, "start", f"a shape of {shapes}", start)
    if isinstance(start, int):
        require(0 <= start < n, "start", f"0 to {n - 1}", start)
    elif is_at_hand(given := start if hasattr(start, "shape") else index):
        require(_all_below(given, n), "start", f"0 to {n - 1}", start)
    else:
        index = xp.remainder(index, n)
    return xp.expand_dims(index, axis=-1)


def _all_below(index: Array, n: int) -> bool:
    xp = namespace(index)
    return bool(xp.all(xp.logical_and(index >= 0, index < n)))


def _is_row(index: Array, n: int) -> Array:
    """Mark the row of an index, `*b 1`, among n."""
    return namespace(index).arange(n, device=device(index)) == index


def _row(x: Array, is_row: Array) -> Array:
    """Return the one row of x, `*b n d`, that is marked, as `*b 1 d`."""
    xp = namespace(x)
    # Not take: with a computed index, Dask would split x into as many chunks as there are indices.
    return xp.sum(xp.where(is_row[..., None], x, 0.0), axis=-2, keepdims=True)


@spec("trajectory-prototypes", requires=("1 <= r <= (t * s if shared else s)",))
def trajectory_prototypes(
    candidates: Float[Array, "*b t s d"],
    r: int,
    *,
    shared: bool = True,
    start: int | Array | None = None,
    rng: Any = None,
    gradient: bool = False,
) -> Float[Array, "*b g r d"]:
    """Choose prototypes among the patches of a video: one set for all frames, or one for each.

    P[g,l] = candidates[i_l], i = orthogonal-prototypes(candidates of all frames, or of frame g)

    Parameters
    ----------
    candidates : array
        Queries, keys, or both side by side in each frame.
    r : int
        Number of prototypes in a set.
    shared : bool
        Choose one set, g = 1, or one for each frame, g = t.
    start : int or array, optional
        The index of the first prototype, counted frame by frame: an integer, or an integer array
        ``*b g``.
    rng : numpy.random.Generator, optional
        Draws the index of the first prototype of each set, in place of start.
    gradient : bool
        Whether gradients flow through the prototypes.

    Returns
    -------
    array
        Sets of prototypes, in the order of choice.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If r is less than 1 or greater than the number of candidates of a set, both or neither of
        start and rng are given, or start is out of range or has another shape.

    Notes
    -----
    The released code has a shared set, and no gradient.

    References
    ----------
    spec/motionformer/trajectory-prototypes.md; survey, section 3-4.
    """
    *batch, t, s, d = candidates.shape
    source = candidates if gradient else constant(candidates)
    xp = namespace(source)
    rows = xp.reshape(source, (*batch, 1, t * s, d) if shared else source.shape)
    index = orthogonal_prototypes(rows, r, start=start, rng=rng)
    each = [_row(rows, _is_row(index[..., k, None], rows.shape[-2])) for k in range(r)]
    return xp.concat(each, axis=-2)


@spec("prototype-trajectory-tokens", requires=("g >= 1", "g in (1, t)"))
def prototype_trajectory_tokens(
    Q: Float[Array, "*b t s d"],
    K: Float[Array, "*b t s d"],
    V: Float[Array, "*b t s d_v"],
    P: Float[Array, "*b g r d"],
) -> Float[Array, "*b t s t d_v"]:
    """Pool every frame t' into one token for each query, through prototypes.

    Y~[t,s,t'] = sum_l softmax_l(<Q[t,s], P[g,l]>) sum_s' softmax_s'(<P[g,l], K[t',s']>) V[t',s']

    Parameters
    ----------
    Q, K, V : array
        Queries, keys and values of the patches. Heads are batch axes.
    P : array
        One set of prototypes for all frames, g = 1, or one for the queries of each frame, g = t.

    Returns
    -------
    array
        For each patch one token for each frame.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If there is another number of sets, there are no prototypes or no patches, or keys have
        width 0.

    Notes
    -----
    Both softmaxes scale by 1 / sqrt(d). The first one does not depend on t' and is computed once.

    References
    ----------
    spec/motionformer/prototype-trajectory-tokens.md; survey, section 3-4.
    """
    *batch, t, s, d = Q.shape
    g, r = P.shape[-3:-1]
    xp = namespace(Q, K, V, P)
    alpha = attention_weights(xp.reshape(Q, (*batch, g, t * s // g, d)), P)
    front = (*batch, g, t)
    K, V = (xp.broadcast_to(x[..., None, :, :, :], (*front, *x.shape[-2:])) for x in (K, V))
    pooled = attention(xp.broadcast_to(P[..., None, :, :], (*front, r, d)), K, V)
    pooled = xp.reshape(xp.moveaxis(pooled, -3, -2), (*batch, g, r, t * V.shape[-1]))
    return xp.reshape(alpha @ pooled, (*batch, t, s, t, V.shape[-1]))


@spec(
    "trajectory-self-attention",
    requires=("e == heads * d_v", "'W_v' in params['trajectory'] or not value_projection"),
)
def trajectory_self_attention(
    z: Float[Array, "*b t s d"],
    cls: Float[Array, "*b d"],
    params: AtLeast[TrajectoryAttentionParams],
    *,
    value_projection: bool = False,
    prototypes: Prototypes | None = None,
    rng: Any = None,
) -> tuple[Float[Array, "*b t s d"], Float[Array, "*b d"]]:
    """Let every patch attend along its trajectory, and the class token to all tokens at once.

    u'[t,s] = sum_h W_c[h]^T Y[h,t,s], u'_cls = sum_h W_c[h]^T attention(Q_cls, K, V)[h]

    Parameters
    ----------
    z, cls : array
        Patches and class token.
    params : TrajectoryAttentionParams
        ``attention`` and ``trajectory``, whose matrices take the tokens of all heads side by side;
        further keys are ignored.
    value_projection : bool
        True projects the values of the second stage too. False takes the trajectory tokens of each
        head as values, and ``W_v`` and ``b_v`` of ``trajectory`` are ignored.
    prototypes : Prototypes, optional
        How prototypes are chosen; left out, trajectory tokens are exact.
    rng : numpy.random.Generator, optional
        Draws the first prototype of each set, if prototypes have no start.

    Returns
    -------
    u', u'_cls : array
        One update for each patch, and one for the class token.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If params lack a key, or the second projections do not take the tokens of all heads; if
        there are no patches; if there are more prototypes than candidates, or their start is out of
        range, or is missing without rng.

    Notes
    -----
    Patches never attend to the class token. Published checkpoints require value_projection=False
    and were trained with queries as candidates; the paper has True and "both".

    References
    ----------
    spec/motionformer/trajectory-self-attention.md; survey, eq. (2)-(3).
    """
    first, second = params["attention"], params["trajectory"]
    Q, K, V = (_projected(z, first, letter, token_axes=2) for letter in "qkv")
    Q_cls, K_cls, V_cls = (_projected(cls, first, letter, token_axes=0) for letter in "qkv")
    y_cls = attention(Q_cls[..., None, :], _side_by_side(K_cls, K), _side_by_side(V_cls, V))
    u_cls = output_projection(y_cls, first["W_c"], bias=first.get("b_c"))[..., 0, :]
    if prototypes is None:
        Y_tilde = trajectory_tokens(Q, K, V)
    else:
        Y_tilde = _approximate_tokens(Q, K, V, prototypes, rng)
    y = _second_stage(Y_tilde, second, value_projection=value_projection)
    return merge_heads(y, first["W_c"], first.get("b_c"), token_axes=2), u_cls


def _projected(x: Array, params: Mapping[str, Any], letter: str, *, token_axes: int) -> Array:
    """Project tokens that lie on several axes to the queries, keys or values of every head."""
    W, bias = params[f"W_{letter}"], params.get(f"b_{letter}")
    return project_heads(x, W, bias, token_axes=token_axes)


def _side_by_side(x_cls: Array, x: Array) -> Array:
    """Put the class token, `*b d`, before all patches, `*b t s d`, on one axis."""
    *front, t, s, d = x.shape
    xp = namespace(x_cls, x)
    return xp.concat([x_cls[..., None, :], xp.reshape(x, (*front, t * s, d))], axis=-2)


def _approximate_tokens(Q: Array, K: Array, V: Array, prototypes: Prototypes, rng: Any) -> Array:
    """Choose prototypes, and pool frames through them."""
    r, candidates, shared, start, gradient = prototypes
    sources = {"queries": [Q], "keys": [K], "both": [Q, K]}[candidates]
    x = namespace(Q, K).concat(sources, axis=-2)
    P = trajectory_prototypes(x, r, shared=shared, start=start, rng=rng, gradient=gradient)
    return prototype_trajectory_tokens(Q, K, V, P)


def _second_stage(Y_tilde: Array, params: Mapping[str, Any], *, value_projection: bool) -> Array:
    """Project the trajectory tokens of all heads to those of each, and pool each trajectory."""
    xp = namespace(Y_tilde)
    *batch, heads, t, s, _, d_v = Y_tilde.shape
    tokens = xp.reshape(xp.moveaxis(Y_tilde, -5, -2), (*batch, t, s, t, heads * d_v))
    Q = _projected(_own_frame(tokens), params, "q", token_axes=2)
    K = _projected(tokens, params, "k", token_axes=3)
    V = _projected(tokens, params, "v", token_axes=3) if value_projection else Y_tilde
    return _attend_along(Q, K, V)


@spec("trajectory-layer")
def trajectory_layer(
    z: Float[Array, "*b t s d"],
    cls: Float[Array, "*b d"],
    params: TrajectoryLayerParams,
    *,
    value_projection: bool = False,
    prototypes: Prototypes | None = None,
    rng: Any = None,
    eps: float = 1e-6,
    activation: Activation = "gelu",
) -> tuple[Float[Array, "*b t s d"], Float[Array, "*b d"]]:
    """Pass patches and class token through one pre-norm layer of trajectory attention.

    z' = y + FFN(LN_2(y)), y = z + TrajectoryAttention(LN_1(z)), cls alike

    Parameters
    ----------
    z, cls : array
        Patches and class token.
    params : TrajectoryLayerParams
        ``norm_1``, ``attention``, ``trajectory``, ``norm_2`` and ``feed_forward``. The matrices of
        ``trajectory`` take the tokens of all heads side by side.
    value_projection : bool
        True projects the values of the second stage too. False takes the trajectory tokens of each
        head as values, and ``W_v`` and ``b_v`` of ``trajectory`` are ignored.
    prototypes : Prototypes, optional
        How prototypes are chosen; left out, trajectory tokens are exact.
    rng : numpy.random.Generator, optional
        Draws the first prototype of each set, if prototypes have no start.
    eps : float
        Added to the variance in both norms, finite and >= 0.
    activation : {"relu", "gelu", "gelu_tanh"}
        Of the feed-forward network.

    Returns
    -------
    z', cls' : array
        Patches and class token.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If params lack a key or have an unknown one, or the second projections do not take the
        tokens of all heads; if there are no patches; if there are more prototypes than candidates,
        or their start is out of range, or is missing without rng; if eps is negative or infinite,
        or activation is another string.

    Notes
    -----
    The result of the patches does not depend on the class token, in any stack of these layers.

    References
    ----------
    spec/motionformer/trajectory-layer.md; survey, section 3-4.
    """
    x, x_cls = (layer_norm(x, **params["norm_1"], eps=eps) for x in (z, cls))
    update, update_cls = trajectory_self_attention(
        x, x_cls, params, value_projection=value_projection, prototypes=prototypes, rng=rng
    )
    y, y_cls = z + update, (cls + update_cls)[..., None, :]
    cls = feed_forward_sublayer(y_cls, params, eps=eps, activation=activation)[..., 0, :]
    return feed_forward_sublayer(y, params, eps=eps, activation=activation), cls
