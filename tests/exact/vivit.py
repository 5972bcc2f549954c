"""The pages of spec/vivit, with 50 digits."""

from fractions import Fraction
from math import floor

import numpy as np

from tests.exact.encoder import (
    attention,
    feed_forward_sublayer,
    layer_norm,
    pre_norm_layer,
    self_attention_sublayer,
)
from tests.exact.inputs import sizes
from tests.exact.numbers import zeros

for _id in ("inflated-kernel", "central-frame-kernel"):
    sizes(_id, p_h=2, p_w=1, C=2, d=2)
for _id in ("sequence-encoder", "spatio-temporal-encoder", "factorised-encoder"):
    sizes(_id, t=2, s=2, n=2, d_f=2)  # their cases have two layers or four


def uniform_frame_sampling(T, k, *, like=None):
    index = range(T) if k == T else [_nearest(i * T, k + 1) for i in range(1, k + 1)]
    return np.array(list(index), dtype=object)


def _nearest(p: int, q: int) -> int:
    """Return the integer nearest to p / q, of two the even one."""
    below = p // q
    rest = Fraction(p, q) - below
    return below + (rest > Fraction(1, 2) or (rest == Fraction(1, 2) and below % 2 == 1))


def tubelet_embedding(video, E, *, bias=None):
    p_t, p_h, p_w, _, d = E.shape
    *batch, T, H, W, _ = video.shape
    corners = [
        (t * p_t, y * p_h, x * p_w)
        for t in range(T // p_t)
        for y in range(H // p_h)
        for x in range(W // p_w)
    ]
    tokens = []
    for t, y, x in corners:
        block = video[..., t : t + p_t, y : y + p_h, x : x + p_w, :]
        tokens.append(block.reshape(*batch, -1) @ E.reshape(-1, d))
    z = np.stack(tokens, axis=-2).reshape(*batch, T // p_t, -1, d)
    return z if bias is None else z + bias


def inflated_kernel(E_image, p_t):
    return np.stack([E_image / p_t for _ in range(p_t)])


def central_frame_kernel(E_image, p_t):
    E = zeros((p_t, *E_image.shape))
    E[floor(Fraction(p_t, 2))] = E_image
    return E


def sequence_encoder(x, params, *, eps=1e-6, activation="gelu_tanh"):
    *batch, _, d = x.shape
    cls, positions = params.get("cls"), params["positions"]
    z = x + positions[len(positions) - x.shape[-2] :]
    if cls is not None:
        first = np.broadcast_to(cls + positions[0], (*batch, 1, d))
        z = np.concatenate([first, z], axis=-2)
    for layer in params["layers"]:
        z = pre_norm_layer(z, layer, eps=eps, activation=activation)
    z = layer_norm(z, **params["norm"], eps=eps)
    return z.sum(axis=-2) / z.shape[-2] if cls is None else z[..., 0, :]


def spatio_temporal_encoder(z, params, *, eps=1e-6, activation="gelu_tanh"):
    x = np.concatenate([z[..., t, :, :] for t in range(z.shape[-3])], axis=-2)
    return sequence_encoder(x, params, eps=eps, activation=activation)


def factorised_encoder(z, params, *, eps=1e-6, activation="gelu_tanh"):
    options = {"eps": eps, "activation": activation}
    frames = [
        sequence_encoder(z[..., t, :, :], params["space"], **options) for t in range(z.shape[-3])
    ]
    if params.get("time") is None:
        return sum(frames) / len(frames)
    return sequence_encoder(np.stack(frames, axis=-2), params["time"], **options)


def factorised_self_attention_layer(
    z, params, *, order="time-space", eps=1e-6, activation="gelu_tanh"
):
    *_, t, s, _ = z.shape
    for axis in order.split("-"):
        if axis == "time":
            each = [
                self_attention_sublayer(z[..., i, :], params["time"], eps=eps) for i in range(s)
            ]
            z = np.stack(each, axis=-2)
        else:
            each = [
                self_attention_sublayer(z[..., i, :, :], params["space"], eps=eps) for i in range(t)
            ]
            z = np.stack(each, axis=-3)
    return _network(z, params, eps, activation)


def _network(z, params, eps, activation):
    """Apply the feed-forward sublayer frame by frame."""
    each = [
        feed_forward_sublayer(z[..., t, :, :], params, eps=eps, activation=activation)
        for t in range(z.shape[-3])
    ]
    return np.stack(each, axis=-3)


def factorised_dot_product_attention(Q, K, V, *, first="time"):
    heads, t, s, _ = Q.shape[-4:]
    Y = np.empty((*Q.shape[:-1], V.shape[-1]), dtype=object)
    for h in range(heads):
        q, k, v = (x[..., h, :, :, :] for x in (Q, K, V))
        if (2 * h < heads) == (first == "time"):
            for i in range(s):
                Y[..., h, :, i, :] = attention(q[..., i, :], k[..., i, :], v[..., i, :])
        else:
            for i in range(t):
                Y[..., h, i, :, :] = attention(q[..., i, :, :], k[..., i, :, :], v[..., i, :, :])
    return Y


def factorised_dot_product_layer(z, params, *, first="time", eps=1e-6, activation="gelu_tanh"):
    x, weights = layer_norm(z, **params["norm_1"], eps=eps), params["attention"]
    Q, K, V = (_heads(x, weights[f"W_{i}"], weights.get(f"b_{i}")) for i in "qkv")
    Y = factorised_dot_product_attention(Q, K, V, first=first)
    update = sum(Y[..., h, :, :, :] @ W for h, W in enumerate(weights["W_c"]))
    y = z + (update if weights.get("b_c") is None else update + weights["b_c"])
    return _network(y, params, eps, activation)


def _heads(x, W, bias):
    """Project `*b t s d` into each head: `*b heads t s d_h`."""
    each = [x @ W[h] + (0 if bias is None else bias[h]) for h in range(len(W))]
    return np.stack(each, axis=-4)
