"""Loops written from spec/motionformer/, over patches, frames and prototypes."""

import math

import numpy as np

from tests.oracles.encoder import (
    attention,
    feed_forward_sublayer,
    layer_norm,
    output_projection,
    qkv_projection,
    softmax,
)


def trajectory_tokens(Q, K, V):
    *batch, t, s, _ = Q.shape
    Y = np.zeros((*batch, t, s, t, V.shape[-1]), V.dtype)
    for b in np.ndindex(*batch):
        for i, j, u in np.ndindex(t, s, t):
            q = Q[(*b, i, j)]
            Y[(*b, i, j, u)] = attention(q[None], K[(*b, u)], V[(*b, u)])[0]
    return Y


def mapped(x, W, b):
    """Return W^T x + b for one vector."""
    y = np.zeros(W.shape[1], W.dtype)
    for k in range(W.shape[1]):
        y[k] = sum(W[m, k] * x[m] for m in range(W.shape[0]))
        if b is not None:
            y[k] += b[k]
    return y


def along(trajectory, own, q_map, k_map, v_map):
    """Return the output for one patch along its trajectory; each map is a matrix and a bias."""
    q = mapped(trajectory[own], *q_map)
    keys = np.stack([mapped(token, *k_map) for token in trajectory])
    values = np.stack([token if v_map is None else mapped(token, *v_map) for token in trajectory])
    return attention(q[None], keys, values)[0]


def trajectory_attention(
    Y_tilde, W_q, W_k, W_v=None, *, b_q=None, b_k=None, b_v=None, value_projection=True
):
    *batch, t, s, _, d = Y_tilde.shape
    v_map = (W_v, b_v) if value_projection else None
    y = np.zeros((*batch, t, s, W_v.shape[1] if value_projection else d), Y_tilde.dtype)
    for b in np.ndindex(*batch):
        for i, j in np.ndindex(t, s):
            y[(*b, i, j)] = along(Y_tilde[(*b, i, j)], i, (W_q, b_q), (W_k, b_k), v_map)
    return y


def prototype_attention(Q, K, V, P):
    *batch, n, _ = Q.shape
    m, r, d_v = K.shape[-2], P.shape[-2], V.shape[-1]
    y = np.zeros((*batch, n, d_v), V.dtype)
    for b in np.ndindex(*batch):
        to_prototypes = [weights(Q[(*b, i)], P[b]) for i in range(n)]
        to_keys = [weights(P[(*b, l)], K[b]) for l in range(r)]
        for i, c in np.ndindex(n, d_v):
            for j in range(m):
                weight = sum(to_prototypes[i][l] * to_keys[l][j] for l in range(r))
                y[(*b, i, c)] += weight * V[(*b, j, c)]
    return y


def weights(q, keys):
    """Return the softmax weights of some keys for one query."""
    scores = [sum(a * b for a, b in zip(q, k, strict=True)) / math.sqrt(len(q)) for k in keys]
    return softmax(np.asarray(scores, q.dtype))


def absolute_cosine(x, y):
    lengths = math.hypot(*x) * math.hypot(*y)
    return abs(sum(a * b for a, b in zip(x, y, strict=True))) / lengths if lengths else 0.0


def orthogonal_prototypes(candidates, r, *, start):
    *batch, n, _ = candidates.shape
    chosen = np.zeros((*batch, r), np.int64)
    for b in np.ndindex(*batch):
        rows, order = candidates[b], [start]
        while len(order) < r:
            others = [i for i in range(n) if i not in order]
            scores = [max(absolute_cosine(rows[i], rows[j]) for j in order) for i in others]
            order.append(others[scores.index(min(scores))])
        chosen[b] = order
    return chosen


def trajectory_prototypes(candidates, r, *, shared=True, start=None, gradient=False):
    *batch, t, s, d = candidates.shape
    sets = [range(t)] if shared else [[i] for i in range(t)]
    P = np.zeros((*batch, len(sets), r, d), candidates.dtype)
    for b in np.ndindex(*batch):
        for g, frames in enumerate(sets):
            rows = np.stack([candidates[(*b, i, j)] for i in frames for j in range(s)])
            for l, row in enumerate(orthogonal_prototypes(rows, r, start=start)):
                P[(*b, g, l)] = rows[row]
    return P


def prototype_trajectory_tokens(Q, K, V, P):
    *batch, t, s, _ = Q.shape
    Y = np.zeros((*batch, t, s, t, V.shape[-1]), V.dtype)
    for b in np.ndindex(*batch):
        for i, j, u in np.ndindex(t, s, t):
            of_query = P[(*b, i if P.shape[-3] > 1 else 0)]
            Y[(*b, i, j, u)] = prototype_attention(
                Q[(*b, i, j)][None], K[(*b, u)], V[(*b, u)], of_query
            )[0]
    return Y


def trajectory_self_attention(z, cls, params, *, value_projection=False, prototypes=None):
    *batch, t, s, d = z.shape
    first, second = params["attention"], params["trajectory"]
    tokens = np.concatenate([cls[..., None, :], z.reshape(*batch, t * s, d)], axis=-2)
    Q, K, V = (qkv_projection(tokens, first[f"W_{i}"], bias=first.get(f"b_{i}")) for i in "qkv")
    y = np.zeros(V.shape, V.dtype)
    y[..., :1, :] = attention(Q[..., :1, :], K, V)
    heads, d_v = V.shape[-3], V.shape[-1]
    Q, K, V = (x[..., 1:, :].reshape(*x.shape[:-2], t, s, x.shape[-1]) for x in (Q, K, V))
    if prototypes is None:
        Y = trajectory_tokens(Q, K, V)
    else:
        r, candidates, shared, start, _ = prototypes
        sources = {"queries": [Q], "keys": [K], "both": [Q, K]}[candidates]
        P = trajectory_prototypes(np.concatenate(sources, axis=-2), r, shared=shared, start=start)
        Y = prototype_trajectory_tokens(Q, K, V, P)

    def map_of(letter, h):
        biases = second.get(f"b_{letter}")
        return second[f"W_{letter}"][h], None if biases is None else biases[h]

    for b in np.ndindex(*batch):
        for i, j, h in np.ndindex(t, s, heads):
            mixed = np.stack([
                np.concatenate([Y[(*b, g, i, j, u)] for g in range(heads)]) for u in range(t)
            ])  # fmt: skip
            values = [mapped(token, *map_of("v", h)) for token in mixed] if value_projection else [
                Y[(*b, h, i, j, u)] for u in range(t)
            ]  # fmt: skip
            keys = np.stack([mapped(token, *map_of("k", h)) for token in mixed])
            q = mapped(mixed[i], *map_of("q", h))
            y[(*b, h, 1 + i * s + j)] = attention(q[None], keys, np.stack(values))[0]
    assert y.shape[-1] == d_v
    u = output_projection(y, first["W_c"], bias=first.get("b_c"))
    return u[..., 1:, :].reshape(z.shape), u[..., 0, :]


def trajectory_layer(z, cls, params, *, eps=1e-6, activation="gelu", **options):
    x, x_cls = (layer_norm(x, **params["norm_1"], eps=eps) for x in (z, cls))
    update, update_cls = trajectory_self_attention(x, x_cls, params, **options)
    y, y_cls = z + update, (cls + update_cls)[..., None, :]
    z = feed_forward_sublayer(y, params, eps=eps, activation=activation)
    return z, feed_forward_sublayer(y_cls, params, eps=eps, activation=activation)[..., 0, :]
