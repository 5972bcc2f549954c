"""The usual mistakes of the pages in spec/motionformer/."""

import math

from vtnp._array.xp import namespace, plus_bias, transposed
from vtnp.encoder import (
    attention,
    attention_weights,
    feed_forward_sublayer,
    layer_norm,
    multi_head_self_attention,
    output_projection,
    qkv_projection,
    softmax,
)
from vtnp.mistakes._registry import mistake
from vtnp.motionformer import (
    _attend_along,
    _own_frame,
    orthogonal_prototypes,
    prototype_attention,
    prototype_trajectory_tokens,
    trajectory_attention,
    trajectory_layer,
    trajectory_prototypes,
    trajectory_self_attention,
    trajectory_tokens,
)

# --- Trajectory tokens ----------------------------------------------------------------------------


def _scores(Q, K, scale=None):
    """Return <Q[t,s], K[t',s']> scale, `*b t s t s`."""
    *batch, t, s, d = Q.shape
    xp = namespace(Q, K)
    flat = (*batch, t * s, d)
    scores = xp.reshape(Q, flat) @ transposed(xp.reshape(K, flat))
    return xp.reshape(scores * (d**-0.5 if scale is None else scale), (*batch, t, s, t, s))


def _averaged(alpha, V):
    """Average the values of each frame with weights, `*b t s t s`."""
    *batch, t, s, _, _ = alpha.shape
    xp = namespace(alpha, V)
    alpha = xp.moveaxis(xp.reshape(alpha, (*batch, t * s, t, s)), -2, -3)
    return xp.reshape(xp.moveaxis(alpha @ V, -3, -2), (*batch, t, s, t, V.shape[-1]))


@mistake("trajectory-tokens", "softmax-over-queries")
def softmax_over_queries(Q, K, V):
    xp = namespace(Q, K, V)
    return _averaged(xp.moveaxis(softmax(xp.moveaxis(_scores(Q, K), -4, -1)), -1, -4), V)


@mistake("trajectory-tokens", "joint-softmax")
def joint_softmax(Q, K, V):
    scores = _scores(Q, K)
    *front, t, s = scores.shape
    xp = namespace(Q, K, V)
    return _averaged(xp.reshape(softmax(xp.reshape(scores, (*front, t * s))), scores.shape), V)


@mistake("trajectory-tokens", "no-scale")
def tokens_no_scale(Q, K, V):
    return _averaged(softmax(_scores(Q, K, 1.0)), V)


@mistake("trajectory-tokens", "scale-twice")
def tokens_scale_twice(Q, K, V):
    return _averaged(softmax(_scores(Q, K, 1.0 / Q.shape[-1])), V)


@mistake("trajectory-tokens", "frames-swapped")
def frames_swapped(Q, K, V):
    xp = namespace(Q, K, V)
    return xp.moveaxis(xp.moveaxis(trajectory_tokens(Q, K, V), -2, -4), -3, -2)


@mistake("trajectory-tokens", "own-frame-only")
def own_frame_only(Q, K, V):
    Y_tilde = trajectory_tokens(Q, K, V)
    xp = namespace(Y_tilde)
    return xp.broadcast_to(_own_frame(Y_tilde)[..., None, :], Y_tilde.shape)


# --- Trajectory attention -------------------------------------------------------------------------


def _pooled(Y_tilde, own, W_q, W_k, W_v, b_q, b_k, b_v, value_projection, attend=_attend_along):
    """Trajectory attention with queries of other tokens, or with other weights."""
    Q, K = plus_bias(own @ W_q, b_q), plus_bias(Y_tilde @ W_k, b_k)
    return attend(Q, K, plus_bias(Y_tilde @ W_v, b_v) if value_projection else Y_tilde)


@mistake("trajectory-attention", "query-of-first-frame")
def query_of_first_frame(
    Y_tilde, W_q, W_k, W_v=None, *, b_q=None, b_k=None, b_v=None, value_projection=True
):
    own = Y_tilde[..., 0, :]
    return _pooled(Y_tilde, own, W_q, W_k, W_v, b_q, b_k, b_v, value_projection)


@mistake("trajectory-attention", "query-of-last-frame")
def query_of_last_frame(
    Y_tilde, W_q, W_k, W_v=None, *, b_q=None, b_k=None, b_v=None, value_projection=True
):
    own = Y_tilde[..., -1, :]
    return _pooled(Y_tilde, own, W_q, W_k, W_v, b_q, b_k, b_v, value_projection)


@mistake("trajectory-attention", "query-of-mean")
def query_of_mean(
    Y_tilde, W_q, W_k, W_v=None, *, b_q=None, b_k=None, b_v=None, value_projection=True
):
    own = namespace(Y_tilde).mean(Y_tilde, axis=-2)
    return _pooled(Y_tilde, own, W_q, W_k, W_v, b_q, b_k, b_v, value_projection)


@mistake("trajectory-attention", "position-major-diagonal")
def position_major_diagonal(
    Y_tilde, W_q, W_k, W_v=None, *, b_q=None, b_k=None, b_v=None, value_projection=True
):
    *_, t, s, _, _ = Y_tilde.shape
    xp = namespace(Y_tilde)
    rows = [
        xp.stack([Y_tilde[..., i, j, (i * s + j) % t, :] for j in range(s)], axis=-2)
        for i in range(t)
    ]
    own = xp.stack(rows, axis=-3)
    return _pooled(Y_tilde, own, W_q, W_k, W_v, b_q, b_k, b_v, value_projection)


def _wrong_weights(name, weights_of):
    """Register trajectory attention with other weights than the softmax of the scores."""

    def attend(Q, K, V):
        scores = namespace(Q, K).sum(Q[..., None, :] * K, axis=-1) * K.shape[-1] ** -0.5
        return namespace(scores, V).sum(weights_of(scores)[..., None] * V, axis=-2)

    @mistake("trajectory-attention", name)
    def wrong(Y_tilde, W_q, W_k, W_v=None, *, b_q=None, b_k=None, b_v=None, value_projection=True):
        own = _own_frame(Y_tilde)
        return _pooled(Y_tilde, own, W_q, W_k, W_v, b_q, b_k, b_v, value_projection, attend)


def _over_positions(scores):
    xp = namespace(scores)
    return xp.moveaxis(softmax(xp.moveaxis(scores, -2, -1)), -1, -2)


_wrong_weights("softmax-over-positions", _over_positions)
_wrong_weights("no-softmax", lambda scores: scores)
_wrong_weights("mean-over-frames", lambda scores: softmax(0.0 * scores))
_wrong_weights("sum-over-positions", lambda scores: softmax(scores) * scores.shape[-2])


@mistake("trajectory-attention", "no-scale")
def attention_no_scale(
    Y_tilde, W_q, W_k, W_v=None, *, b_q=None, b_k=None, b_v=None, value_projection=True
):
    grown = math.sqrt(W_k.shape[-1])
    b_q = None if b_q is None else b_q * grown
    options = {"b_q": b_q, "b_k": b_k, "b_v": b_v, "value_projection": value_projection}
    return trajectory_attention(Y_tilde, W_q * grown, W_k, W_v, **options)


@mistake("trajectory-attention", "scale-of-tokens")
def scale_of_tokens(
    Y_tilde, W_q, W_k, W_v=None, *, b_q=None, b_k=None, b_v=None, value_projection=True
):
    grown = math.sqrt(W_k.shape[-1] / Y_tilde.shape[-1])
    b_q = None if b_q is None else b_q * grown
    options = {"b_q": b_q, "b_k": b_k, "b_v": b_v, "value_projection": value_projection}
    return trajectory_attention(Y_tilde, W_q * grown, W_k, W_v, **options)


# --- Prototypes -----------------------------------------------------------------------------------


@mistake("prototype-attention", "no-scale")
def prototypes_no_scale(Q, K, V, P):
    return attention(Q, P, attention(P, K, V, scale=1.0), scale=1.0)


@mistake("prototype-attention", "scale-twice")
def prototypes_scale_twice(Q, K, V, P):
    scale = 1.0 / Q.shape[-1]
    return attention(Q, P, attention(P, K, V, scale=scale), scale=scale)


def _unit(P):
    xp = namespace(P)
    return P / xp.sqrt(xp.sum(xp.square(P), axis=-1, keepdims=True))


@mistake("prototype-attention", "prototypes-normalised")
def prototypes_normalised(Q, K, V, P):
    return prototype_attention(Q, K, V, _unit(P))


@mistake("prototype-attention", "softmax-over-prototypes")
def softmax_over_prototypes(Q, K, V, P):
    return attention(Q, P, transposed(attention_weights(K, P)) @ V)


@mistake("prototype-attention", "one-softmax")
def one_softmax(Q, K, V, P):
    return attention(Q, P, P @ transposed(K) @ V * Q.shape[-1] ** -0.5)


def _chosen(candidates, r, start, rng, similarity, merge):
    """Choose by another similarity, or combine similarities with earlier ones in another way."""
    first = orthogonal_prototypes(candidates, 1, start=start, rng=rng)
    xp = namespace(candidates)
    number = xp.arange(candidates.shape[-2])
    chosen, scores = [first], None
    for _ in range(1, r):
        is_last = number == chosen[-1]
        row = xp.sum(xp.where(is_last[..., None], candidates, 0.0), axis=-2, keepdims=True)
        new = similarity(candidates, row)
        scores = new if scores is None else merge(scores, new)
        is_chosen = xp.any(number == xp.stack(chosen, axis=0), axis=0)
        others = xp.where(is_chosen, math.inf, scores)
        chosen.append(xp.expand_dims(xp.argmin(others, axis=-1), axis=-1))
    return xp.concat(chosen, axis=-1)


def _cosine(x, row):
    xp = namespace(x)
    lengths = xp.sum(xp.square(x), axis=-1) * xp.sum(xp.square(row), axis=-1)
    return xp.sum(x * row, axis=-1) / xp.where(lengths == 0.0, 1.0, xp.sqrt(lengths))


def _absolute(x, row):
    return namespace(x).abs(_cosine(x, row))


def _largest(old, new):
    return namespace(old).maximum(old, new)


@mistake("orthogonal-prototypes", "signed-cosine")
def signed_cosine(candidates, r, *, start=None, rng=None):
    return _chosen(candidates, r, start, rng, _cosine, _largest)


@mistake("orthogonal-prototypes", "last-only")
def last_only(candidates, r, *, start=None, rng=None):
    return _chosen(candidates, r, start, rng, _absolute, lambda _, new: new)


@mistake("orthogonal-prototypes", "mean-for-maximum")
def mean_for_maximum(candidates, r, *, start=None, rng=None):
    return _chosen(candidates, r, start, rng, _absolute, lambda old, new: old + new)


@mistake("orthogonal-prototypes", "most-similar")
def most_similar(candidates, r, *, start=None, rng=None):
    return _chosen(candidates, r, start, rng, lambda x, row: -_absolute(x, row), _largest)


@mistake("orthogonal-prototypes", "not-normalised")
def not_normalised(candidates, r, *, start=None, rng=None):
    xp = namespace(candidates)
    return _chosen(
        candidates, r, start, rng, lambda x, row: xp.abs(xp.sum(x * row, axis=-1)), _largest
    )


@mistake("orthogonal-prototypes", "order-lost")
def order_lost(candidates, r, *, start=None, rng=None):
    order = orthogonal_prototypes(candidates, r, start=start, rng=rng)
    xp = namespace(order)
    return xp.take_along_axis(order, xp.argsort(order, axis=-1), axis=-1)


@mistake("orthogonal-prototypes", "chosen-again")
def chosen_again(candidates, r, *, start=None, rng=None):
    first = orthogonal_prototypes(candidates, 1, start=start, rng=rng)
    xp = namespace(candidates)
    number = xp.arange(candidates.shape[-2])
    chosen, scores = [first], xp.zeros(candidates.shape[:-1], dtype=candidates.dtype)
    for _ in range(1, r):
        is_last = number == chosen[-1]
        row = xp.sum(xp.where(is_last[..., None], candidates, 0.0), axis=-2, keepdims=True)
        scores = xp.maximum(scores, _absolute(candidates, row))
        chosen.append(xp.expand_dims(xp.argmin(scores, axis=-1), axis=-1))
    return xp.concat(chosen, axis=-1)


@mistake("orthogonal-prototypes", "start-ignored")
def start_ignored(candidates, r, *, start=None, rng=None):
    return orthogonal_prototypes(candidates, r, start=0)


@mistake("trajectory-prototypes", "rows-normalised")
def rows_normalised(candidates, r, **options):
    return _unit(trajectory_prototypes(candidates, r, **options))


@mistake("trajectory-prototypes", "position-major")
def position_major(candidates, r, *, shared=True, **options):
    if not shared:
        return trajectory_prototypes(candidates, r, shared=False, **options)
    return trajectory_prototypes(namespace(candidates).moveaxis(candidates, -2, -3), r, **options)


@mistake("trajectory-prototypes", "first-ones")
def first_ones(candidates, r, *, shared=True, **options):
    *batch, t, s, d = candidates.shape
    shape = (*batch, 1, t * s, d) if shared else candidates.shape
    return namespace(candidates).reshape(candidates, shape)[..., :r, :]


@mistake("prototype-trajectory-tokens", "joint-softmax")
def prototypes_joint_softmax(Q, K, V, P):
    *batch, t, s, d = Q.shape
    g, r = P.shape[-3:-1]
    xp = namespace(Q, K, V, P)
    keys = xp.broadcast_to(xp.reshape(K, (*batch, 1, t * s, d)), (*batch, g, t * s, d))
    beta = xp.reshape(attention_weights(P, keys), (*batch, g, r, t, s))
    pooled = xp.moveaxis(beta, -2, -3) @ V[..., None, :, :, :]
    pooled = xp.reshape(xp.moveaxis(pooled, -3, -2), (*batch, g, r, t * V.shape[-1]))
    alpha = attention_weights(xp.reshape(Q, (*batch, g, t * s // g, d)), P)
    return xp.reshape(alpha @ pooled, (*batch, t, s, t, V.shape[-1]))


@mistake("prototype-trajectory-tokens", "sets-of-attended-frames")
def sets_of_attended_frames(Q, K, V, P):
    t, xp = Q.shape[-3], namespace(Q, K, V, P)
    P = xp.broadcast_to(P, (*P.shape[:-3], t, *P.shape[-2:]))
    sets = [
        prototype_trajectory_tokens(Q, K, V, P[..., i : i + 1, :, :])[..., i, :] for i in range(t)
    ]
    return xp.stack(sets, axis=-2)


@mistake("prototype-trajectory-tokens", "first-set-for-all")
def first_set_for_all(Q, K, V, P):
    return prototype_trajectory_tokens(Q, K, V, P[..., :1, :, :])


# --- Self-attention and the layer -----------------------------------------------------------------


def _with_stage(z, cls, params, second_stage, class_in_patches=False):  # noqa: FBT002
    """Trajectory self-attention with another second stage, or with the class token as a key."""
    weights, xp = params["attention"], namespace(z, cls)
    *batch, t, s, d = z.shape
    tokens = xp.concat([cls[..., None, :], xp.reshape(z, (*batch, t * s, d))], axis=-2)
    Q, K, V = (qkv_projection(tokens, weights[f"W_{x}"], bias=weights.get(f"b_{x}")) for x in "qkv")
    patches = [xp.reshape(x[..., 1:, :], (*x.shape[:-2], t, s, x.shape[-1])) for x in (Q, K, V)]
    if class_in_patches:
        front = (*patches[0].shape[:-3], t, 1)
        cls_rows = [xp.broadcast_to(x[..., None, :1, :], (*front, x.shape[-1])) for x in (Q, K, V)]
        rows = [xp.concat([a, b], axis=-2) for a, b in zip(cls_rows, patches, strict=True)]
        Y_tilde = trajectory_tokens(*rows)[..., 1:, :, :]
    else:
        Y_tilde = trajectory_tokens(*patches)
    y = second_stage(Y_tilde)
    y = xp.reshape(y, (*y.shape[:-3], t * s, y.shape[-1]))
    u = output_projection(y, weights["W_c"], bias=weights.get("b_c"))
    return xp.reshape(u, z.shape)


def _each_head(Y_tilde, params, value_projection, tokens_of, own_of=_own_frame):
    """Apply eq. (3) in each head.

    tokens_of: returns the tokens that a head projects, and the rows of its matrices that take them.
    """
    heads, xp = Y_tilde.shape[-5], namespace(Y_tilde)
    outputs = []
    for h in range(heads):
        W = {f"W_{x}": params[f"W_{x}"][h, :, :] for x in "qk"}
        tokens, rows = tokens_of(h)
        Q = plus_bias(own_of(tokens) @ W["W_q"][rows, :], _row_of(params, "b_q", h))
        K = plus_bias(tokens @ W["W_k"][rows, :], _row_of(params, "b_k", h))
        V = Y_tilde[..., h, :, :, :, :]
        if value_projection:
            V = plus_bias(tokens @ params["W_v"][h, :, :][rows, :], _row_of(params, "b_v", h))
        outputs.append(_attend_along(Q, K, V))
    return xp.stack(outputs, axis=-4)


def _row_of(params, name, h):
    return params[name][h, :] if name in params else None


def _side_by_side(Y_tilde):
    xp = namespace(Y_tilde)
    *batch, heads, t, s, _, d_v = Y_tilde.shape
    return xp.reshape(xp.moveaxis(Y_tilde, -5, -2), (*batch, t, s, t, heads * d_v))


def _update_cls(z, cls, params, **options):
    return trajectory_self_attention(z, cls, params, **options)[1]


@mistake("trajectory-self-attention", "heads-not-mixed")
def heads_not_mixed(z, cls, params, *, value_projection=False, **options):
    d_v = params["attention"]["W_v"].shape[-1]

    def stage(Y_tilde):
        def tokens_of(h):
            return Y_tilde[..., h, :, :, :, :], slice(h * d_v, (h + 1) * d_v)

        return _each_head(Y_tilde, params["trajectory"], value_projection, tokens_of)

    return _with_stage(z, cls, params, stage), _update_cls(z, cls, params, **options)


def _mixed_stage(params, value_projection, own_of=_own_frame):
    def stage(Y_tilde):
        def tokens_of(_):
            return _side_by_side(Y_tilde), slice(None)

        return _each_head(Y_tilde, params["trajectory"], value_projection, tokens_of, own_of)

    return stage


@mistake("trajectory-self-attention", "query-of-first-frame")
def self_attention_query_of_first_frame(z, cls, params, *, value_projection=False, **options):
    stage = _mixed_stage(params, value_projection, lambda tokens: tokens[..., 0, :])
    return _with_stage(z, cls, params, stage), _update_cls(z, cls, params, **options)


@mistake("trajectory-self-attention", "class-token-as-key")
def class_token_as_key(z, cls, params, *, value_projection=False, **options):
    stage = _mixed_stage(params, value_projection)
    update = _with_stage(z, cls, params, stage, class_in_patches=True)
    return update, _update_cls(z, cls, params, **options)


@mistake("trajectory-self-attention", "class-token-without-itself")
def class_token_without_itself(z, cls, params, **options):
    update, _ = trajectory_self_attention(z, cls, params, **options)
    weights, xp = params["attention"], namespace(z, cls)
    *batch, t, s, d = z.shape
    patches = xp.reshape(z, (*batch, t * s, d))
    Q = qkv_projection(cls[..., None, :], weights["W_q"], bias=weights.get("b_q"))
    K, V = (qkv_projection(patches, weights[f"W_{x}"], bias=weights.get(f"b_{x}")) for x in "kv")
    u = output_projection(attention(Q, K, V), weights["W_c"], bias=weights.get("b_c"))
    return update, u[..., 0, :]


@mistake("trajectory-self-attention", "values-of-the-other-kind")
def values_of_the_other_kind(z, cls, params, *, value_projection=False, **options):
    second = params["trajectory"]
    if not value_projection:
        # In checkpoints these weights are random, as they are not trained; here those of the keys.
        heads, D, _ = second["W_k"].shape
        d_v = D // heads
        xp = namespace(second["W_k"])
        wide = xp.concat([second["W_k"]] * d_v, axis=-1)[..., :d_v]
        params = {**params, "trajectory": {**second, "W_v": wide}}
    return trajectory_self_attention(
        z, cls, params, value_projection=not value_projection, **options
    )


@mistake("trajectory-self-attention", "position-major")
def self_attention_position_major(z, cls, params, *, value_projection=False, **options):
    xp = namespace(z)
    *batch, t, s, d = z.shape
    other, update_cls = trajectory_self_attention(
        xp.reshape(z, (*batch, s, t, d)), cls, params, value_projection=value_projection
    )
    return xp.reshape(other, z.shape), update_cls


@mistake("trajectory-self-attention", "joint-attention")
def joint_for_trajectory(z, cls, params, **options):
    *batch, t, s, d = z.shape
    xp = namespace(z, cls)
    tokens = xp.concat([cls[..., None, :], xp.reshape(z, (*batch, t * s, d))], axis=-2)
    u = multi_head_self_attention(tokens, **params["attention"])
    return xp.reshape(u[..., 1:, :], z.shape), u[..., 0, :]


def _feed_forward(x, update, params, eps, activation):
    """Add an update, and apply the feed-forward sublayer."""
    return feed_forward_sublayer(x + update, params, eps=eps, activation=activation)


@mistake("trajectory-layer", "post-norm")
def post_norm(z, cls, params, *, eps=1e-6, activation="gelu", **options):
    update, update_cls = trajectory_self_attention(z, cls, params, **options)
    y = layer_norm(z + update, **params["norm_1"], eps=eps)
    y_cls = layer_norm(cls + update_cls, **params["norm_1"], eps=eps)
    out = _feed_forward(y, 0.0, params, eps, activation)
    return out, _feed_forward(y_cls[..., None, :], 0.0, params, eps, activation)[..., 0, :]


def _layer(z, cls, x, x_cls, params, eps, activation, **options):
    """Add the updates of x and x_cls to z and cls, and apply the feed-forward sublayer."""
    update, update_cls = trajectory_self_attention(x, x_cls, params, **options)
    out = _feed_forward(z, update, params, eps, activation)
    out_cls = _feed_forward(cls[..., None, :], update_cls[..., None, :], params, eps, activation)
    return out, out_cls[..., 0, :]


@mistake("trajectory-layer", "norm-missing")
def norm_missing(z, cls, params, *, eps=1e-6, activation="gelu", **options):
    return _layer(z, cls, z, cls, params, eps, activation, **options)


@mistake("trajectory-layer", "class-token-not-normalised")
def class_token_not_normalised(z, cls, params, *, eps=1e-6, activation="gelu", **options):
    x = layer_norm(z, **params["norm_1"], eps=eps)
    return _layer(z, cls, x, cls, params, eps, activation, **options)


@mistake("trajectory-layer", "residual-of-the-norm")
def residual_of_the_norm(z, cls, params, *, eps=1e-6, activation="gelu", **options):
    x, x_cls = (layer_norm(x, **params["norm_1"], eps=eps) for x in (z, cls))
    return _layer(x, x_cls, x, x_cls, params, eps, activation, **options)


@mistake("trajectory-layer", "norm-shared")
def norm_shared(z, cls, params, **options):
    params = {**params, "norm_2": params["norm_1"]}
    return trajectory_layer(z, cls, params, **options)


@mistake("trajectory-layer", "relu-for-gelu")
def relu_for_gelu(z, cls, params, *, activation="gelu", **options):
    return trajectory_layer(z, cls, params, activation="relu", **options)
