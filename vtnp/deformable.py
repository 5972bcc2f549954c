"""Deformable Video Transformer: attention at a few places that motion points to, eq. (5)-(9)."""

from typing import NotRequired, TypedDict

from vtnp._array.typing import Array, Float
from vtnp._array.xp import device, namespace, plus_bias
from vtnp._registry.errors import require
from vtnp._registry.spec import spec
from vtnp.encoder import (
    FeedForwardSublayerParams,
    NormParams,
    feed_forward_sublayer,
    layer_norm,
    output_projection,
    qkv_projection,
    softmax,
)
from vtnp.tokens import bilinear_sample, linear_embedding


@spec("motion-embedding")
def motion_embedding(
    motion: Float[Array, "*b t s u 2"],
    E: Float[Array, "2 d"],
    *,
    bias: Float[Array, " d"] | None = None,
) -> Float[Array, "*b t s u d"]:
    """Bring the displacement of every place between two frames into the space of the queries.

    m[t,s,u] = E^T motion[t,s,u] + bias

    motion: (x, y), in token cells: where in frame u that is what stands at place s of frame t,
    less place s. E: the map. bias: left out, none is added.
    Raises ShapeError.
    Notes: the survey takes m as given; that it is a learned linear map is second-hand (page).
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

    q: queries. m: motion between frames t and u, in the space of the queries. W_alpha: one column
    for each sample. bias: left out, as in the survey, none is added.
    Raises ShapeError.
    Notes: there are no keys and no scale: no dot product of tokens is taken.
    """
    return plus_bias((q[..., None, :] + m) @ W_alpha, bias)


@spec("deformable-weights")
def deformable_weights(
    logits: Float[Array, "*b t s u points"],
) -> Float[Array, "*b t s u points"]:
    """Turn the scores of all samples of all frames into one set of weights for each query.

    alpha[t,s,u,n] = exp(alpha^[t,s,u,n]) / sum_{u',n'} exp(alpha^[t,s,u',n'])

    logits: scores; -inf means weight 0; at least one sample of one frame.
    Raises ShapeError; FormulaError where there are no samples.
    Notes: the sum runs over frames and samples together, not over one frame's samples.
    """
    *front, u, points = logits.shape
    some, shape = u * points >= 1, tuple(logits.shape)
    require(some, "deformable-weights", "logits", "at least one sample", shape)
    xp = namespace(logits)
    return xp.reshape(softmax(xp.reshape(logits, (*front, u * points))), tuple(logits.shape))


@spec("sampling-offsets")
def sampling_offsets(
    q: Float[Array, "*b t s d"],
    m: Float[Array, "*b t s u d"],
    W_delta: Float[Array, "d points 2"],
    *,
    bias: Float[Array, "points 2"] | None = None,
) -> Float[Array, "*b t s u points 2"]:
    """Choose how far from its own place each query samples each frame.

    Delta[t,s,u,n] = W_delta[n]^T (q[t,s] + m[t,s,u]) + bias[n]

    q, m: as in deformable-logits. W_delta: for each sample one column for x and one for y. bias:
    left out, as in the survey, none is added.
    Raises ShapeError.
    Notes: in token cells, x to the right, y down.
    """
    d, points, _ = W_delta.shape
    xp = namespace(q, m, W_delta)
    flat = (q[..., None, :] + m) @ xp.reshape(W_delta, (d, points * 2))
    return plus_bias(xp.reshape(flat, (*m.shape[:-1], points, 2)), bias)


@spec("reference-points")
def reference_points(h: int, w: int, *, like: Array) -> Float[Array, "s 2"]:
    """Number the places of a grid row by row and tell where each is.

    p[s] = (s mod w, floor(s / w))

    h, w: rows and columns, >= 1. like: an array whose library, dtype and device are taken.
    Raises FormulaError.
    Notes: (x, y), the column first, in token cells; (0, 0) is the centre of the first token.
    """
    require(min(h, w) >= 1, "reference-points", "h, w", "at least one row and column", (h, w))
    xp, there = namespace(like), device(like)
    x = xp.arange(w, dtype=like.dtype, device=there)
    y = xp.arange(h, dtype=like.dtype, device=there)
    x, y = xp.broadcast_arrays(x[None, :], y[:, None])
    return xp.stack([xp.reshape(x, (h * w,)), xp.reshape(y, (h * w,))], axis=-1)


@spec("sampling-locations")
def sampling_locations(
    p: Float[Array, "s 2"], offsets: Float[Array, "*b t s u points 2"]
) -> Float[Array, "*b t s u points 2"]:
    """Move from each query's own place to where it samples each frame.

    p[t,s,u,n] = p[s] + Delta[t,s,u,n]

    p: places of the tokens. offsets: Delta; both (x, y), in the same unit.
    Raises ShapeError.
    Notes: nothing is cut off: what lies outside the grid, weighted-sum-of-samples decides.
    """
    return offsets + p[:, None, None, :]


@spec("weighted-sum-of-samples")
def weighted_sum_of_samples(
    v: Float[Array, "*b u s d"],
    positions: Float[Array, "*b t s u points 2"],
    alpha: Float[Array, "*b t s u points"],
    *,
    grid: tuple[int, int],
    padding: str = "zeros",
) -> Float[Array, "*b t s d"]:
    """Sample every frame between its tokens and add the samples up, each by its weight.

    y[t,s] = sum_{u,n} alpha[t,s,u,n] v[u](positions[t,s,u,n])

    v: values, on the grid of each frame. positions: (x, y) in token cells. alpha: weights. grid:
    rows and columns of tokens (h, w), h w = s; place s is in row s // w and column s % w. padding:
    as in bilinear-sample.
    Raises ShapeError; FormulaError for another grid or padding, or no frames.
    Notes: frame by frame, so that the samples of one frame alone are held in memory.
    """
    h, w = grid
    *batch, t, s, u, points = alpha.shape
    fits = min(h, w) >= 1 and h * w == s
    require(fits, "weighted-sum-of-samples", "grid", f"(h, w) with h w = {s}", grid)
    require(u >= 1, "weighted-sum-of-samples", "v", "at least one frame", tuple(v.shape))
    xp = namespace(v, positions, alpha)
    read = []
    for i in range(u):
        frame = xp.reshape(v[..., i, :, :], (*batch, h, w, v.shape[-1]))
        places = xp.reshape(positions[..., i, :, :], (*batch, t * s * points, 2))
        samples = bilinear_sample(frame, places, padding=padding)
        samples = xp.reshape(samples, (*batch, t, s, points, v.shape[-1]))
        read.append(xp.squeeze(alpha[..., i, None, :] @ samples, axis=-2))
    return sum(read[1:], read[0])


@spec("deformable-attention")
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
    grid: tuple[int, int],
    padding: str = "zeros",
) -> Float[Array, "*b t s d"]:
    """Let every token read a few places of every frame, chosen by its query and the motion there.

    z^[t,s] = z[t,s] + sum_{u,n} alpha[t,s,u,n] v[u](p[s] + Delta[t,s,u,n])

    z: tokens. q: their queries. m: motion between frames t and u, in the space of the queries. v:
    values. W_alpha, W_delta, b_alpha, b_delta: as W and bias in deformable-logits and
    sampling-offsets. grid, padding: as in weighted-sum-of-samples.
    Raises ShapeError; FormulaError as weighted-sum-of-samples and deformable-weights do.
    Notes: the survey prints z_s^t' on the left; the updated token of the query is meant. The
    residual is part of the formula. A motion that is NaN makes its query's result NaN, no other.
    """
    alpha = deformable_weights(deformable_logits(q, m, W_alpha, bias=b_alpha))
    offsets = sampling_offsets(q, m, W_delta, bias=b_delta)
    positions = sampling_locations(reference_points(*grid, like=z), offsets)
    return z + weighted_sum_of_samples(v, positions, alpha, grid=grid, padding=padding)


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


@spec("deformable-self-attention")
def deformable_self_attention(
    z: Float[Array, "*b t s d"],
    m: Float[Array, "*b t s u d"],
    params: DeformableAttentionParams,
    *,
    grid: tuple[int, int],
    clips: int = 1,
    padding: str = "zeros",
) -> Float[Array, "*b t s d"]:
    """Let every token read a few places of every frame of its own sub-clip, in several heads.

    u'[t,s] = sum_h W_c[h]^T sum_{u,n} alpha[h,t,s,u,n] v[h,u](p[s] + Delta[h,t,s,u,n])

    z: tokens. m: motion from frame t to frame u of its sub-clip, in the space of the queries, for
    all heads. params: W_q `d d`, W_v `heads d d_v`, W_alpha `heads d points`,
    W_delta `heads d points 2`, W_c `heads d_v d`, and b_q?, b_v?, b_alpha?, b_delta?, b_c?. grid,
    padding: as in weighted-sum-of-samples. clips: B, how many sub-clips of u = t / B frames there are.
    Raises ShapeError; FormulaError for clips with B u != t, and as weighted-sum-of-samples does.
    Notes: without the residual, which a layer adds. Heads are our choice (page, Deviations).
    """
    *batch, t, s, d = z.shape
    u, fits = m.shape[-2], m.shape[-2] * clips == t >= 1 <= clips
    expected = f"B >= 1 with B {u} = {t}, the frames of z"
    require(fits, "deformable-self-attention", "clips", expected, clips)
    xp = namespace(z, m)
    z = xp.reshape(z, (*batch, clips, u, s, d))
    m = xp.reshape(m, (*batch, clips, u, s, u, d))
    q = plus_bias(z @ params["W_q"], params.get("b_q"))
    v = qkv_projection(
        xp.reshape(z, (*batch, clips, u * s, d)), params["W_v"], bias=params.get("b_v")
    )
    v = xp.reshape(v, (*v.shape[:-2], u, s, v.shape[-1]))
    alpha, positions = _samples(q, m, params, grid)
    read = weighted_sum_of_samples(v, positions, alpha, grid=grid, padding=padding)
    read = xp.reshape(read, (*read.shape[:-3], u * s, read.shape[-1]))
    merged = output_projection(read, params["W_c"], bias=params.get("b_c"))
    return xp.reshape(xp.reshape(merged, (*batch, clips, u, s, d)), (*batch, t, s, d))


def _samples(
    q: Array, m: Array, params: DeformableAttentionParams, grid: tuple[int, int]
) -> tuple[Array, Array]:
    """Return the weights and positions of the samples of every head, heads before frames."""
    heads = params["W_alpha"].shape[0]
    W_alpha, W_delta = (_side_by_side(params[f"W_{name}"], 1) for name in ("alpha", "delta"))
    b_alpha, b_delta = (_side_by_side(params.get(f"b_{name}"), 0) for name in ("alpha", "delta"))
    logits = deformable_logits(q, m, W_alpha, bias=b_alpha)
    offsets = sampling_offsets(q, m, W_delta, bias=b_delta)
    xp = namespace(logits, offsets)
    *front, together = logits.shape
    points = together // heads
    logits = xp.reshape(logits, (*front, heads, points))
    offsets = xp.reshape(offsets, (*front, heads, points, 2))
    alpha = deformable_weights(xp.moveaxis(logits, -2, -5))
    return alpha, sampling_locations(reference_points(*grid, like=q), xp.moveaxis(offsets, -3, -6))


def _side_by_side(W: Array | None, axis: int) -> Array | None:
    """Put the samples of all heads on one axis: (heads, ..., points, ...) without its first."""
    if W is None:
        return None
    xp = namespace(W)
    W = xp.moveaxis(W, 0, axis)
    return xp.reshape(W, (*W.shape[:axis], W.shape[axis] * W.shape[axis + 1], *W.shape[axis + 2 :]))


@spec("deformable-layer")
def deformable_layer(
    z: Float[Array, "*b t s d"],
    motion: Float[Array, "*b t s u 2"],
    params: DeformableLayerParams,
    *,
    grid: tuple[int, int],
    clips: int = 1,
    padding: str = "zeros",
    eps: float = 1e-6,
    activation: str = "gelu",
) -> Float[Array, "*b t s d"]:
    """Pass tokens through one layer of deformable space-time attention.

    z' = y + FFN(LN_2(y)), y = z + u'(LN_1(z), m), m = E^T motion + bias

    z: tokens. motion: as in motion-embedding, to the u frames of each frame's sub-clip. params:
    norm_1, motion {E, bias?}, attention as in deformable-self-attention, norm_2, feed_forward.
    grid, clips, padding: as in deformable-self-attention. eps: of both norms. activation: as in
    feed-forward.
    Raises ShapeError; FormulaError.
    Notes: the place of the norms is our choice, that of all video models of the survey.
    """
    x = layer_norm(z, **params["norm_1"], eps=eps)
    m = motion_embedding(motion, **params["motion"])
    y = z + deformable_self_attention(
        x, m, params["attention"], grid=grid, clips=clips, padding=padding
    )
    return feed_forward_sublayer(y, params, eps=eps, activation=activation)
