"""Deformable Video Transformer: attention to a few samples of each frame, eq. (5)-(9)."""

from collections.abc import Callable
from functools import reduce
from operator import add
from typing import NotRequired, TypedDict

from vtnp._array.typing import Array, Float
from vtnp._array.xp import device, namespace, plus_bias
from vtnp._registry.spec import spec
from vtnp.encoder import (
    Activation,
    FeedForwardSublayerParams,
    NormParams,
    feed_forward_sublayer,
    layer_norm,
    merge_heads,
    project_heads,
    softmax,
)
from vtnp.tokens import Grid, Padding, bilinear_sample, linear_embedding

_ON_GRID = ("min(grid.h, grid.w) >= 1", "grid.t == t", "grid.h * grid.w == s")
_IN_SUB_CLIPS = ("clips >= 1", "clips * u == t")


class DeformableAttentionParams(TypedDict):
    """The projections of deformable attention in several heads, and their biases."""

    W_q: Float[Array, "d d"]
    W_v: Float[Array, "heads d d_v"]
    W_alpha: Float[Array, "heads d points"]
    W_delta: Float[Array, "heads d points 2"]
    W_c: Float[Array, "heads d_v d"]
    b_q: NotRequired[Float[Array, " d"]]
    b_v: NotRequired[Float[Array, "heads d_v"]]
    b_alpha: NotRequired[Float[Array, "heads points"]]
    b_delta: NotRequired[Float[Array, "heads points 2"]]
    b_c: NotRequired[Float[Array, " d"]]


class MotionParams(TypedDict):
    """The embedding of motion."""

    E: Float[Array, "2 d"]
    bias: NotRequired[Float[Array, " d"]]


class DeformableLayerParams(FeedForwardSublayerParams):
    """One layer of deformable space-time attention."""

    norm_1: NormParams
    motion: MotionParams
    attention: DeformableAttentionParams


@spec("motion-embedding")
def motion_embedding(
    motion: Float[Array, "*b t s u 2"],
    E: Float[Array, "2 d"],
    *,
    bias: Float[Array, " d"] | None = None,
) -> Float[Array, "*b t s u d"]:
    """Map the displacement of each position between two frames to the space of the queries.

    m[t,s,u] = E^T motion[t,s,u] + bias

    Parameters
    ----------
    motion : array
        Displacement (x, y), in token cells: where the content of position s of frame t is in frame
        u, minus position s.
    E : array
        The linear map.
    bias : array, optional
        Left out, none is added.

    Returns
    -------
    array
        The displacement in the space of the queries.

    Raises
    ------
    ShapeError
        If axes do not fit.

    Notes
    -----
    The survey takes m as given; that it is a learned linear map is known second-hand only.

    References
    ----------
    spec/deformable/motion-embedding.md; survey, section 3-5.
    """
    return linear_embedding(motion, E, bias=bias)


@spec("deformable-logits")
def deformable_logits(
    q: Float[Array, "*b t s d"],
    m: Float[Array, "*b t s u d"],
    W_alpha: Float[Array, "d points"],
    *,
    bias: Float[Array, " points"] | None = None,
) -> Float[Array, "*b t s u points"]:
    """Score every sample of every frame by the query and the motion alone.

    alpha^[t,s,u] = W_alpha^T (q[t,s] + m[t,s,u]) + bias

    Parameters
    ----------
    q : array
        Queries.
    m : array
        Motion from frame t to frame u, in the space of the queries.
    W_alpha : array
        One column for each sample.
    bias : array, optional
        Left out, none is added, as in the survey.

    Returns
    -------
    array
        One score for each sample of each frame.

    Raises
    ------
    ShapeError
        If axes do not fit.

    Notes
    -----
    There are no keys, no dot products of tokens, and no scale.

    References
    ----------
    spec/deformable/deformable-logits.md; survey, eq. (6).
    """
    return linear_embedding(q[..., None, :] + m, W_alpha, bias=bias)


@spec("deformable-weights", requires=("u * points >= 1",))
def deformable_weights(
    logits: Float[Array, "*b t s u points"],
) -> Float[Array, "*b t s u points"]:
    """Turn the scores of all samples of all frames into one set of weights for each query.

    alpha[t,s,u,n] = exp(alpha^[t,s,u,n]) / sum_{u',n'} exp(alpha^[t,s,u',n'])

    Parameters
    ----------
    logits : array
        Scores; -inf means weight 0.

    Returns
    -------
    array
        Weights, those of each query summing to one.

    Raises
    ------
    FormulaError
        If there are no samples.

    Notes
    -----
    The sum runs over frames and samples together, not over the samples of one frame.

    References
    ----------
    spec/deformable/deformable-weights.md; survey, eq. (7).
    """
    *front, u, points = logits.shape
    xp = namespace(logits)
    weights = softmax(xp.reshape(logits, (*front, u * points)))
    return xp.reshape(weights, (*front, u, points))


@spec("sampling-offsets")
def sampling_offsets(
    q: Float[Array, "*b t s d"],
    m: Float[Array, "*b t s u d"],
    W_delta: Float[Array, "d points 2"],
    *,
    bias: Float[Array, "points 2"] | None = None,
) -> Float[Array, "*b t s u points 2"]:
    """Choose how far from its own position each query samples each frame.

    Delta[t,s,u,n] = W_delta[n]^T (q[t,s] + m[t,s,u]) + bias[n]

    Parameters
    ----------
    q : array
        Queries.
    m : array
        Motion from frame t to frame u, in the space of the queries.
    W_delta : array
        For each sample one column for x and one for y.
    bias : array, optional
        Left out, none is added, as in the survey.

    Returns
    -------
    array
        Offsets (x, y), in token cells, x to the right, y down.

    Raises
    ------
    ShapeError
        If axes do not fit.

    References
    ----------
    spec/deformable/sampling-offsets.md; survey, eq. (9).
    """
    xp, (d, points, _) = namespace(q, m, W_delta), W_delta.shape
    offsets = linear_embedding(q[..., None, :] + m, xp.reshape(W_delta, (d, points * 2)))
    return plus_bias(xp.reshape(offsets, (*offsets.shape[:-1], points, 2)), bias)


@spec("reference-points", requires=("h >= 1", "w >= 1"))
def reference_points(h: int, w: int, *, like: Array) -> Float[Array, "s 2"]:
    """Return the coordinates of every position of a grid, row by row.

    p[s] = (s mod w, floor(s / w))

    Parameters
    ----------
    h, w : int
        Rows and columns.
    like : array
        An array of floats whose library, dtype and device are taken.

    Returns
    -------
    array
        Points (x, y), in token cells; (0, 0) is the centre of the first token.

    Raises
    ------
    FormulaError
        If there are no rows or columns.

    References
    ----------
    spec/deformable/reference-points.md; survey, eq. (8).
    """
    xp = namespace(like)
    x, y = (xp.arange(n, dtype=like.dtype, device=device(like)) for n in (w, h))
    x, y = xp.broadcast_arrays(x[None, :], y[:, None])
    return xp.stack([xp.reshape(x, (h * w,)), xp.reshape(y, (h * w,))], axis=-1)


@spec("sampling-locations")
def sampling_locations(
    p: Float[Array, "s 2"], offsets: Float[Array, "*b t s u points 2"]
) -> Float[Array, "*b t s u points 2"]:
    """Add the offsets of the samples to the reference point of each query.

    p[t,s,u,n] = p[s] + Delta[t,s,u,n]

    Parameters
    ----------
    p : array
        Reference points (x, y) of the tokens.
    offsets : array
        Offsets (x, y) of the samples, in the same unit.

    Returns
    -------
    array
        Where each query samples each frame.

    Raises
    ------
    ShapeError
        If axes do not fit.

    Notes
    -----
    Locations are not clamped to the grid.

    References
    ----------
    spec/deformable/sampling-locations.md; survey, eq. (8).
    """
    return offsets + p[:, None, None, :]


@spec("weighted-sum-of-samples", requires=(*_ON_GRID, "u >= 1"))
def weighted_sum_of_samples(
    v: Float[Array, "*b u s d"],
    locations: Float[Array, "*b t s u points 2"],
    alpha: Float[Array, "*b t s u points"],
    *,
    grid: Grid,
    padding: Padding = "zeros",
) -> Float[Array, "*b t s d"]:
    """Sample every frame at the locations, and sum the samples by their weights.

    y[t,s] = sum_{u,n} alpha[t,s,u,n] v[u](locations[t,s,u,n])

    Parameters
    ----------
    v : array
        Values at the positions of each frame.
    locations : array
        Where each query samples each frame: (x, y), in token cells.
    alpha : array
        Weights of the samples.
    grid : Grid
        Frames, rows and columns (t, h, w) of the queries; the frames of v have the same rows and
        columns. Position s is in row s // w and column s % w.
    padding : {"zeros", "border"}
        Outside the grid is 0, or the value of the nearest position.

    Returns
    -------
    array
        One sum for each query.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If the grid does not fit, padding is another string, or v has no frames.

    Notes
    -----
    Frames are sampled one after the other, so that the samples of one frame only are in memory.

    References
    ----------
    spec/deformable/weighted-sum-of-samples.md; survey, eq. (5).
    """
    frames = (
        alpha[..., u, None, :] @ _samples(v[..., u, :, :], locations[..., u, :, :], grid, padding)
        for u in range(v.shape[-3])
    )
    return namespace(v, locations, alpha).squeeze(reduce(add, frames), axis=-2)


def _samples(v: Array, locations: Array, grid: Grid, padding: Padding) -> Array:
    """Sample one frame, `*b s d`, at locations, `*b t s points 2`: `*b t s points d`."""
    xp, (*batch, s, d) = namespace(v, locations), v.shape
    *_, t, _, points, _ = locations.shape
    frame = xp.reshape(v, (*batch, grid.h, grid.w, d))
    flat = xp.reshape(locations, (*batch, t * s * points, 2))
    samples = bilinear_sample(frame, flat, padding=padding)
    return xp.reshape(samples, (*batch, t, s, points, d))


@spec("deformable-attention", requires=(*_ON_GRID, "u * points >= 1"))
def deformable_attention(
    z: Float[Array, "*b t s d"],
    q: Float[Array, "*b t s d"],
    m: Float[Array, "*b t s u d"],
    v: Float[Array, "*b u s d"],
    W_alpha: Float[Array, "d points"],
    W_delta: Float[Array, "d points 2"],
    *,
    b_alpha: Float[Array, " points"] | None = None,
    b_delta: Float[Array, "points 2"] | None = None,
    grid: Grid,
    padding: Padding = "zeros",
) -> Float[Array, "*b t s d"]:
    """Let every token attend to a few samples of every frame, chosen by its query and the motion.

    z^[t,s] = z[t,s] + sum_{u,n} alpha[t,s,u,n] v[u](p[s] + Delta[t,s,u,n])

    Parameters
    ----------
    z : array
        Tokens.
    q : array
        Their queries.
    m : array
        Motion from frame t to frame u, in the space of the queries.
    v : array
        Values at the positions of each frame.
    W_alpha : array
        For the scores, one column for each sample.
    W_delta : array
        For the offsets, one column for x and one for y of each sample.
    b_alpha, b_delta : array, optional
        Biases of scores and offsets; left out, none is added, as in the survey.
    grid : Grid
        Frames, rows and columns (t, h, w) of z; the frames of v have the same rows and columns.
        Position s is in row s // w and column s % w.
    padding : {"zeros", "border"}
        Outside the grid is 0, or the value of the nearest position.

    Returns
    -------
    array
        Updated tokens.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If the grid does not fit, padding is another string, or there are no samples.

    Notes
    -----
    The survey has z_s^t' on the left; it should be the updated token of the query. The residual is
    part of the formula. NaN in the motion of a query makes the result of that query NaN.

    References
    ----------
    spec/deformable/deformable-attention.md; survey, eq. (5).
    """
    alpha = deformable_weights(deformable_logits(q, m, W_alpha, bias=b_alpha))
    offsets = sampling_offsets(q, m, W_delta, bias=b_delta)
    locations = sampling_locations(reference_points(grid.h, grid.w, like=z), offsets)
    return z + weighted_sum_of_samples(v, locations, alpha, grid=grid, padding=padding)


@spec("deformable-self-attention", requires=(*_ON_GRID, *_IN_SUB_CLIPS, "u * points >= 1"))
def deformable_self_attention(
    z: Float[Array, "*b t s d"],
    m: Float[Array, "*b t s u d"],
    params: DeformableAttentionParams,
    *,
    grid: Grid,
    clips: int = 1,
    padding: Padding = "zeros",
) -> Float[Array, "*b t s d"]:
    """Let every token attend to a few samples of every frame of its sub-clip, in several heads.

    u'[t,s] = sum_h W_c[h]^T sum_{u,n} alpha[h,t,s,u,n] v[h,u](p[s] + Delta[h,t,s,u,n])

    Parameters
    ----------
    z : array
        Tokens.
    m : array
        Motion from frame t to frame u of its sub-clip, in the space of the queries, the same for
        all heads.
    params : DeformableAttentionParams
        ``W_q``, ``W_v``, ``W_alpha``, ``W_delta`` and ``W_c``, and optionally ``b_q``, ``b_v``,
        ``b_alpha``, ``b_delta`` and ``b_c``.
    grid : Grid
        Frames, rows and columns (t, h, w) of z; position s is in row s // w and column s % w.
    clips : int
        Number of sub-clips that the frames are divided into, each of u = t / clips frames.
    padding : {"zeros", "border"}
        Outside the grid is 0, or the value of the nearest position.

    Returns
    -------
    array
        One update for each token, without the residual.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If the grid does not fit, clips times u is not t, there are no samples, padding is another
        string, or params lack a key or have an unknown one.

    Notes
    -----
    Heads are a choice of this package; the survey has one.

    References
    ----------
    spec/deformable/deformable-self-attention.md; survey, eq. (5)-(9).
    """
    shape, u = z.shape, m.shape[-2]
    z, m = _sub_clips(z, clips, axis=-3), _sub_clips(m, clips, axis=-4)
    q = linear_embedding(z, params["W_q"], bias=params.get("b_q"))
    v = project_heads(z, params["W_v"], params.get("b_v"), token_axes=2)
    alpha = deformable_weights(
        _each_head(deformable_logits, q, m, params["W_alpha"], params.get("b_alpha"))
    )
    offsets = _each_head(sampling_offsets, q, m, params["W_delta"], params.get("b_delta"))
    locations = sampling_locations(reference_points(grid.h, grid.w, like=z), offsets)
    y = weighted_sum_of_samples(v, locations, alpha, grid=grid._replace(t=u), padding=padding)
    update = merge_heads(y, params["W_c"], params.get("b_c"), token_axes=2)
    return namespace(update).reshape(update, shape)


def _sub_clips(x: Array, clips: int, *, axis: int) -> Array:
    """Split an axis of t frames into two: sub-clips, and the frames of each."""
    before, (t, *after) = x.shape[:axis], x.shape[axis:]
    return namespace(x).reshape(x, (*before, clips, t // clips, *after))


def _each_head(
    formula: Callable[..., Array], q: Array, m: Array, W: Array, bias: Array | None
) -> Array:
    """Apply a formula with the weights of every head: `*b heads t s u points ...`.

    The samples of all heads are those of one head with as many samples as all have.
    """
    xp, (heads, d, points, *xy) = namespace(W), W.shape
    W = xp.reshape(xp.moveaxis(W, 0, 1), (d, heads * points, *xy))
    bias = None if bias is None else namespace(bias).reshape(bias, (heads * points, *xy))
    y = formula(q, m, W, bias=bias)
    y = namespace(y).reshape(y, (*m.shape[:-1], heads, points, *xy))
    return namespace(y).moveaxis(y, q.ndim, q.ndim - 3)


@spec("deformable-layer", requires=(*_ON_GRID, *_IN_SUB_CLIPS))
def deformable_layer(
    z: Float[Array, "*b t s d"],
    motion: Float[Array, "*b t s u 2"],
    params: DeformableLayerParams,
    *,
    grid: Grid,
    clips: int = 1,
    padding: Padding = "zeros",
    eps: float = 1e-6,
    activation: Activation = "gelu",
) -> Float[Array, "*b t s d"]:
    """Pass tokens through one layer of deformable space-time attention.

    z' = y + FFN(LN_2(y)), y = z + u'(LN_1(z), m), m = E^T motion + bias

    Parameters
    ----------
    z : array
        Tokens.
    motion : array
        Displacement (x, y), in token cells, of the content of each position of frame t to frame u
        of its sub-clip.
    params : DeformableLayerParams
        ``norm_1``, ``motion`` with ``E`` and optionally ``bias``, ``attention``, ``norm_2`` and
        ``feed_forward``.
    grid : Grid
        Frames, rows and columns (t, h, w) of z; position s is in row s // w and column s % w.
    clips : int
        Number of sub-clips that the frames are divided into, each of u = t / clips frames.
    padding : {"zeros", "border"}
        Outside the grid is 0, or the value of the nearest position.
    eps : float
        Added to the variance in both norms, finite and >= 0.
    activation : {"relu", "gelu", "gelu_tanh"}
        Of the feed-forward network.

    Returns
    -------
    array
        Tokens.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If the grid does not fit, clips times u is not t, an option is another string, or params
        lack a key or have an unknown one.

    Notes
    -----
    That norms come before attention and network is a choice of this package, as in all video models
    of the survey.

    References
    ----------
    spec/deformable/deformable-layer.md; survey, Fig. 12.
    """
    x = layer_norm(z, **params["norm_1"], eps=eps)
    m = motion_embedding(motion, **params["motion"])
    y = z + deformable_self_attention(
        x, m, params["attention"], grid=grid, clips=clips, padding=padding
    )
    return feed_forward_sublayer(y, params, eps=eps, activation=activation)
