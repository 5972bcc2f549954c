"""The pages of spec/motionformer, with 50 digits."""

from fractions import Fraction

import numpy as np

from tests.exact.encoder import (
    attention,
    attention_weights,
    feed_forward_sublayer,
    layer_norm,
)
from tests.exact.inputs import never
from tests.exact.numbers import mp

# Where two candidates nearly tie, rounding decides; see the page. With prototypes of nearly equal
# directions the layers are measured: it hardly matters to them which of two equals they choose.
for _id in ("orthogonal-prototypes", "trajectory-prototypes"):
    never(_id, "nearly tied", "offset")


def trajectory_tokens(Q, K, V):
    *batch, t, s, d = Q.shape
    queries = Q.reshape(*batch, t * s, d)
    of_frames = [attention(queries, K[..., u, :, :], V[..., u, :, :]) for u in range(t)]
    return np.stack(of_frames, axis=-2).reshape(*batch, t, s, t, V.shape[-1])


def trajectory_attention(
    Y_tilde, W_q, W_k, W_v=None, *, b_q=None, b_k=None, b_v=None, value_projection=True
):
    *batch, t, s, _, _ = Y_tilde.shape
    K = _linear(Y_tilde, W_k, b_k)
    V = _linear(Y_tilde, W_v, b_v) if value_projection else Y_tilde
    y = np.empty((*batch, t, s, V.shape[-1]), dtype=object)
    for i in range(t):
        own = Y_tilde[..., i, :, i, :][..., None, :]
        Q = _linear(own, W_q, b_q)
        y[..., i, :, :] = attention(Q, K[..., i, :, :, :], V[..., i, :, :, :])[..., 0, :]
    return y


def _linear(x, W, bias):
    return x @ W if bias is None else x @ W + bias


def prototype_attention(Q, K, V, P):
    return attention_weights(Q, P) @ (attention_weights(P, K) @ V)


def orthogonal_prototypes(candidates, r, *, start=None, rng=None):
    *batch, n, _ = candidates.shape
    if rng is not None:
        start = rng.integers(n, size=tuple(batch))
    start = np.broadcast_to(np.asarray(start), tuple(batch))
    index = np.empty((*batch, r), dtype=object)
    for b in np.ndindex(*batch):
        index[b] = _most_orthogonal(candidates[b], r, int(start[b]))
    return index


def _most_orthogonal(candidates, r, start):
    """Compare squared cosines, which are rational: nothing is rounded, and ties are ties."""
    finite = [all(mp.isfinite(x) for x in c) for c in candidates]
    rows = [
        [_rational(x) for x in c] if ok else None for c, ok in zip(candidates, finite, strict=True)
    ]
    chosen = [start]
    while len(chosen) < r:
        others = [i for i in range(len(rows)) if i not in chosen]
        # Candidates with a NaN or an infinity come after all others.
        scores = [
            max(_squared_cosine(rows[i], rows[j]) for j in chosen) if finite[i] else 2
            for i in others
        ]
        chosen.append(others[scores.index(min(scores))])
    return chosen


def _rational(x):
    sign, mantissa, exponent, _ = mp.mpf(x)._mpf_
    return Fraction((-1) ** sign * int(mantissa)) * Fraction(2) ** exponent


def _squared_cosine(a, b):
    if a is None or b is None:
        return Fraction(0)  # no direction
    lengths = sum(x * x for x in a) * sum(x * x for x in b)
    product = sum(x * y for x, y in zip(a, b, strict=True))
    return product**2 / lengths if lengths else Fraction(0)


def trajectory_prototypes(candidates, r, *, shared=True, start=None, rng=None, gradient=False):
    *batch, t, s, d = candidates.shape
    sets = candidates.reshape(*batch, 1, t * s, d) if shared else candidates
    index = orthogonal_prototypes(sets, r, start=start, rng=rng)
    return np.take_along_axis(sets, index[..., None].astype(int), axis=-2)


def prototype_trajectory_tokens(Q, K, V, P):
    *batch, t, s, _ = Q.shape
    Y = np.empty((*batch, t, s, t, V.shape[-1]), dtype=object)
    for g in range(P.shape[-3]):
        own = P[..., g, :, :]
        of_prototypes = [attention(own, K[..., u, :, :], V[..., u, :, :]) for u in range(t)]
        for i in range(t) if P.shape[-3] == 1 else [g]:
            alpha = attention_weights(Q[..., i, :, :], own)
            for u in range(t):
                Y[..., i, :, u, :] = alpha @ of_prototypes[u]
    return Y


def trajectory_self_attention(z, cls, params, *, value_projection=False, prototypes=None, rng=None):
    first, second = params["attention"], params["trajectory"]
    everything = np.concatenate([cls[..., None, :], _in_order(z)], axis=-2)
    Q, K, V = (_in_heads(z, first, letter) for letter in "qkv")
    Q_cls = _in_heads(cls[..., None, None, :], first, "q")
    K_all, V_all = (_in_heads(everything[..., None, :, :], first, letter) for letter in "kv")
    y_cls = attention(Q_cls, K_all, V_all)
    tokens = _all_trajectories(Q, K, V, prototypes, rng)
    heads, d_v = tokens.shape[-5], tokens.shape[-1]
    side_by_side = np.concatenate([tokens[..., h, :, :, :, :] for h in range(heads)], axis=-1)
    update, update_cls = 0, 0
    for h, W_c in enumerate(first["W_c"]):
        weights = {name: W[h] for name, W in second.items() if W is not None}
        y = trajectory_attention(side_by_side, **weights, value_projection=value_projection)
        if not value_projection:  # the values are the tokens of this head alone
            y = y[..., h * d_v : (h + 1) * d_v]
        update = update + y @ W_c
        update_cls = update_cls + y_cls[..., h, 0, 0, :] @ W_c
    bias = first.get("b_c")
    return (update, update_cls) if bias is None else (update + bias, update_cls + bias)


def _in_order(z):
    return np.concatenate([z[..., t, :, :] for t in range(z.shape[-3])], axis=-2)


def _in_heads(x, params, letter):
    """Project `*b t s d` into each head: `*b heads t s d_h`."""
    biases = params.get(f"b_{letter}")
    each = [
        _linear(x, W, None if biases is None else biases[h])
        for h, W in enumerate(params[f"W_{letter}"])
    ]
    return np.stack(each, axis=-4)


def _all_trajectories(Q, K, V, prototypes, rng):
    if prototypes is None:
        return trajectory_tokens(Q, K, V)
    r, candidates, shared, start, gradient = prototypes
    each = {"queries": [Q], "keys": [K], "both": [Q, K]}[candidates]
    options = {"shared": shared, "start": start, "rng": rng, "gradient": gradient}
    P = trajectory_prototypes(np.concatenate(each, axis=-2), r, **options)
    return prototype_trajectory_tokens(Q, K, V, P)


def trajectory_layer(
    z,
    cls,
    params,
    *,
    value_projection=False,
    prototypes=None,
    rng=None,
    eps=1e-6,
    activation="gelu",
):
    x, x_cls = (layer_norm(y, **params["norm_1"], eps=eps) for y in (z, cls))
    options = {"value_projection": value_projection, "prototypes": prototypes, "rng": rng}
    update, update_cls = trajectory_self_attention(x, x_cls, params, **options)
    of_patches, of_cls = (
        feed_forward_sublayer(y, params, eps=eps, activation=activation)
        for y in (_in_order(z + update), (cls + update_cls)[..., None, :])
    )
    return of_patches.reshape(z.shape), of_cls[..., 0, :]
