"""Loops written from spec/timesformer/: for each patch, the list of patches that it attends to."""

import numpy as np

from tests.oracles.encoder import (
    attention,
    feed_forward_sublayer,
    layer_norm,
    output_projection,
    qkv_projection,
)


def space_time_embedding(x, E, e_pos, *, bias=None):
    *batch, t, s, p = x.shape
    d = E.shape[1]
    z = np.zeros((*batch, t, s, d), x.dtype)
    for b in np.ndindex(*batch):
        for i, j, k in np.ndindex(t, s, d):
            total = sum(E[m, k] * x[(*b, i, j, m)] for m in range(p)) + e_pos[i, j, k]
            z[(*b, i, j, k)] = total if bias is None else total + bias[k]
    return z


def attends(attend, grid, query, key):
    """Whether the patch (frame, position) `query` attends to the patch `key`."""
    (t, s), (u, r) = query, key
    if attend == "space":
        return u == t
    if attend == "time":
        return r == s
    if attend == "joint":
        return True
    _, h, w = grid
    (y, x), (y_key, x_key) = divmod(s, w), divmod(r, w)
    if attend == "width":
        return (u, y_key) == (t, y)
    if attend == "height":
        return (u, x_key) == (t, x)
    if attend == "local":
        return (y_key < h / 2, x_key < w / 2) == (y < h / 2, x < w / 2)
    assert attend == "global"
    return all(a % 2 == b % 2 for a, b in ((u, t), (y_key, y), (x_key, x)))


def keys_of(attend, grid, query, patches):
    """Return the patches that one patch attends to, in order."""
    return [key for key in patches if attends(attend, grid, query, key)]


def attention_to(b, q, chosen, K, V, K_cls, V_cls):
    """Attention of one query to the chosen patches and, if there is one, the class token."""
    keys = [K[(*b, *patch)] for patch in chosen]
    values = [V[(*b, *patch)] for patch in chosen]
    if K_cls is not None:
        keys.append(K_cls[(*b, 0)])
        values.append(V_cls[(*b, 0)])
    return attention(q[None], np.stack(keys), np.stack(values))[0]


def attention_in(attend, Q, K, V, K_cls=None, V_cls=None, grid=None):
    *batch, t, s, _ = Q.shape
    patches = list(np.ndindex(t, s))
    Y = np.zeros((*batch, t, s, V.shape[-1]), V.dtype)
    for b in np.ndindex(*batch):
        for patch in patches:
            chosen = keys_of(attend, grid, patch, patches)
            Y[(*b, *patch)] = attention_to(b, Q[(*b, *patch)], chosen, K, V, K_cls, V_cls)
    return Y


def space_attention(Q, K, V, *, K_cls=None, V_cls=None):
    return attention_in("space", Q, K, V, K_cls, V_cls)


def time_attention(Q, K, V, *, K_cls=None, V_cls=None):
    return attention_in("time", Q, K, V, K_cls, V_cls)


def joint_attention(Q, K, V, *, K_cls=None, V_cls=None):
    return attention_in("joint", Q, K, V, K_cls, V_cls)


def local_attention(Q, K, V, *, grid, K_cls=None, V_cls=None):
    return attention_in("local", Q, K, V, K_cls, V_cls, grid)


def global_attention(Q, K, V, *, grid, K_cls=None, V_cls=None):
    return attention_in("global", Q, K, V, K_cls, V_cls, grid)


def width_attention(Q, K, V, *, grid, K_cls=None, V_cls=None):
    return attention_in("width", Q, K, V, K_cls, V_cls, grid)


def height_attention(Q, K, V, *, grid, K_cls=None, V_cls=None):
    return attention_in("height", Q, K, V, K_cls, V_cls, grid)


def class_attention(Q_cls, K, V, *, K_cls=None, V_cls=None, over="space", grid=None):
    *batch, t, s, d_v = V.shape
    patches = list(np.ndindex(t, s))
    groups = {tuple(keys_of(over, grid, patch, patches)) for patch in patches}
    y = np.zeros((*batch, 1, d_v), V.dtype)
    for b in np.ndindex(*batch):
        for group in sorted(groups):
            y[(*b, 0)] += attention_to(b, Q_cls[(*b, 0)], group, K, V, K_cls, V_cls)
    return y / np.asarray(len(groups), V.dtype)


def attention_sublayer(z, cls, params, *, attend, class_token, grid=None, eps=1e-6):
    *batch, t, s, d = z.shape
    weights = params["attention"]
    tokens = np.concatenate([cls[..., None, :], z.reshape(*batch, t * s, d)], axis=-2)
    normalised = layer_norm(tokens, **params["norm_1"], eps=eps)
    Q, K, V = (
        qkv_projection(normalised, weights[f"W_{i}"], bias=weights.get(f"b_{i}")) for i in "qkv"
    )
    Q_p, K_p, V_p = (y[..., 1:, :].reshape(*y.shape[:-2], t, s, y.shape[-1]) for y in (Q, K, V))
    class_key = (None, None) if class_token == "out" else (K[..., :1, :], V[..., :1, :])
    Y = attention_in(attend, Q_p, K_p, V_p, *class_key, grid)
    new_z = z + update(Y, params).reshape(z.shape)
    if class_token in {"out", "key"}:
        return new_z, cls.copy()
    y = class_attention(
        Q[..., :1, :], K_p, V_p, K_cls=class_key[0], V_cls=class_key[1],
        over=attend if class_token == "mean" else "joint", grid=grid,
    )  # fmt: skip
    return new_z, cls + update(y[..., None, :], params)[..., 0, :]


def update(Y, params):
    """Project the heads, `*b heads t s d_v`, to the model's width, and apply fc to the result."""
    *front, t, s, d_v = Y.shape
    weights = params["attention"]
    u = output_projection(Y.reshape(*front, t * s, d_v), weights["W_c"], bias=weights.get("b_c"))
    if "fc" not in params:
        return u
    W, b = params["fc"]["W"], params["fc"].get("b")
    y = np.zeros_like(u)
    for *token, k in np.ndindex(u.shape):
        y[(*token, k)] = sum(u[(*token, m)] * W[m, k] for m in range(W.shape[0]))
        if b is not None:
            y[(*token, k)] += b[k]
    return y


def layer(z, cls, params, sublayers, grid=None, eps=1e-6, activation="gelu"):
    for attend, class_token, weights in sublayers:
        z, cls = attention_sublayer(
            z, cls, weights, attend=attend, class_token=class_token, grid=grid, eps=eps
        )
    cls = feed_forward_sublayer(cls[..., None, :], params, eps=eps, activation=activation)[
        ..., 0, :
    ]
    return feed_forward_sublayer(z, params, eps=eps, activation=activation), cls


def space_layer(z, cls, params, *, cls_in_space="mean", **options):
    return layer(z, cls, params, [("space", cls_in_space, params)], **options)


def joint_layer(z, cls, params, **options):
    return layer(z, cls, params, [("joint", "mean", params)], **options)


def divided_layer(
    z, cls, params, *, order="time-space", cls_in_time="out", cls_in_space="mean", **options
):
    sublayers = [("time", cls_in_time, params["time"]), ("space", cls_in_space, params["space"])]
    return layer(z, cls, params, sublayers if order == "time-space" else sublayers[::-1], **options)


def local_global_layer(z, cls, params, *, cls_in_local="out", cls_in_global="mean", **options):
    sublayers = [
        ("local", cls_in_local, params["local"]),
        ("global", cls_in_global, params["global"]),
    ]
    return layer(z, cls, params, sublayers, **options)


def axial_layer(
    z, cls, params, *, cls_in_time="out", cls_in_width="out", cls_in_height="mean", **options
):
    rules = {"time": cls_in_time, "width": cls_in_width, "height": cls_in_height}
    sublayers = [(attend, rule, params[attend]) for attend, rule in rules.items()]
    return layer(z, cls, params, sublayers, **options)
