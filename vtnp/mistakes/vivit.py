"""The usual mistakes of the pages in spec/vivit/."""

import math
from typing import Any

from vtnp import vivit as right
from vtnp._array.xp import namespace
from vtnp.encoder import (
    attention,
    feed_forward_sublayer,
    layer_norm,
    pre_norm_layer,
    self_attention_sublayer,
)
from vtnp.mistakes._registry import mistake

# --- Frames and tubelets --------------------------------------------------------------------------


def _indices(chosen, like):
    xp = namespace(like)
    return xp.asarray(chosen, dtype=xp.int64)


@mistake("uniform-frame-sampling", "ends-included")
def ends_included(T, k, *, like=None):
    last = max(k - 1, 1)
    return _indices([round(i * (T - 1) / last) for i in range(k)], like)


@mistake("uniform-frame-sampling", "rounded-down")
def rounded_down(T, k, *, like=None):
    if k == T:
        return right.uniform_frame_sampling(T, k, like=like)
    return _indices([i * T // (k + 1) for i in range(1, k + 1)], like)


@mistake("uniform-frame-sampling", "halves-up")
def halves_up(T, k, *, like=None):
    if k == T:
        return right.uniform_frame_sampling(T, k, like=like)
    return _indices([math.floor(i * T / (k + 1) + 0.5) for i in range(1, k + 1)], like)


@mistake("uniform-frame-sampling", "range-of-floats")
def range_of_floats(T, k, *, like=None):
    if k == T:
        return right.uniform_frame_sampling(T, k, like=like)
    step = T / (k + 1)
    # The length of arange(step, T, step) in NumPy and JAX: a quotient rounded up.
    count = math.ceil((T - step) / step)
    return _indices([min(round(step + i * step), T - 1) for i in range(count)], like)


@mistake("tubelet-embedding", "positions-column-by-column")
def positions_column_by_column(video, E, *, bias=None):
    z = right.tubelet_embedding(video, E, bias=bias)
    h = video.shape[-3] // E.shape[1]
    xp, (*batch, t, s, d) = namespace(z), z.shape
    grid = xp.moveaxis(xp.reshape(z, (*batch, t, h, s // h, d)), -3, -2)
    return xp.reshape(grid, (*batch, t, s, d))


@mistake("tubelet-embedding", "kernel-in-height-width-time")
def kernel_in_height_width_time(video, E, *, bias=None):
    xp = namespace(E)
    scrambled = xp.reshape(xp.moveaxis(E, 0, 2), E.shape)
    return right.tubelet_embedding(video, scrambled, bias=bias)


@mistake("tubelet-embedding", "no-bias")
def tubelets_without_bias(video, E, *, bias=None):
    return right.tubelet_embedding(video, E)


@mistake("tubelet-embedding", "remainder-first")
def remainder_first(video, E, *, bias=None):
    t = video.shape[-4] % E.shape[0]
    return right.tubelet_embedding(video[..., t:, :, :, :], E, bias=bias)


@mistake("tubelet-embedding", "remainder-padded")
def remainder_padded(video, E, *, bias=None):
    xp = namespace(video)
    for axis, size in zip((-4, -3, -2), E.shape[:3], strict=True):
        shape = list(video.shape)
        shape[axis] = -shape[axis] % size
        video = xp.concat([video, xp.zeros(tuple(shape), dtype=video.dtype)], axis=axis)
    return right.tubelet_embedding(video, E, bias=bias)


@mistake("inflated-kernel", "not-divided")
def not_divided(E_image, p_t):
    return right.inflated_kernel(E_image * p_t, p_t)


@mistake("central-frame-kernel", "first-of-two")
def first_of_two(E_image, p_t):
    kernel = right.inflated_kernel(E_image * p_t, p_t)
    xp = namespace(kernel)
    kept = [kernel[i] if i == (p_t - 1) // 2 else 0.0 * kernel[i] for i in range(p_t)]
    return xp.stack(kept, axis=0)


@mistake("central-frame-kernel", "column-for-frame")
def column_for_frame(E_image, p_t):
    kernel = right.inflated_kernel(E_image * p_t, p_t)
    xp = namespace(kernel)
    width = kernel.shape[2]
    kept = [
        kernel[:, :, i, :, :] * (1.0 if i == min(p_t // 2, width - 1) else 0.0)
        for i in range(width)
    ]
    return xp.stack(kept, axis=2)


# --- Encoders -------------------------------------------------------------------------------------


@mistake("sequence-encoder", "last-norm-missing")
def last_norm_missing(x, params, *, eps=1e-6, activation="gelu_tanh"):
    xp = namespace(x)
    z = _with_class_token(x, params) + params["positions"]
    for layer in params["layers"]:
        z = pre_norm_layer(z, layer, eps=eps, activation=activation)
    return z[..., 0, :] if "cls" in params else xp.mean(z, axis=-2)


@mistake("sequence-encoder", "mean-before-the-norm")
def mean_before_the_norm(x, params, *, eps=1e-6, activation="gelu_tanh"):
    h = last_norm_missing(x, params, eps=eps, activation=activation)
    return layer_norm(h, **params["norm"], eps=eps)


@mistake("sequence-encoder", "mean-with-the-class-token")
def mean_with_the_class_token(x, params, *, eps=1e-6, activation="gelu_tanh"):
    averaged: Any = {key: value for key, value in params.items() if key != "cls"}
    z = _with_class_token(x, params)
    return right.sequence_encoder(z, averaged, eps=eps, activation=activation)


@mistake("sequence-encoder", "class-token-without-position")
def class_token_without_position(x, params, *, eps=1e-6, activation="gelu_tanh"):
    if "cls" not in params:
        return right.sequence_encoder(x, params, eps=eps, activation=activation)
    bare: Any = {**params, "cls": params["cls"] - params["positions"][0, :]}
    return right.sequence_encoder(x, bare, eps=eps, activation=activation)


@mistake("sequence-encoder", "class-token-takes-the-last-position")
def class_token_takes_the_last_position(x, params, *, eps=1e-6, activation="gelu_tanh"):
    if "cls" not in params:
        return right.sequence_encoder(x, params, eps=eps, activation=activation)
    rows = params["positions"]
    rows = namespace(rows).concat([rows[-1:, :], rows[:-1, :]], axis=0)
    shifted: Any = {**params, "positions": rows}
    return right.sequence_encoder(x, shifted, eps=eps, activation=activation)


@mistake("sequence-encoder", "erf-for-tanh")
def erf_for_tanh(x, params, *, eps=1e-6, activation="gelu_tanh"):
    return right.sequence_encoder(x, params, eps=eps, activation="gelu")


@mistake("spatio-temporal-encoder", "position-by-position")
def position_by_position(z, params, *, eps=1e-6, activation="gelu_tanh"):
    swapped = namespace(z).moveaxis(z, -3, -2)
    return right.spatio_temporal_encoder(swapped, params, eps=eps, activation=activation)


@mistake("factorised-encoder", "no-positions-in-time")
def no_positions_in_time(z, params, *, eps=1e-6, activation="gelu_tanh"):
    if "time" in params:
        bare = {**params["time"], "positions": 0.0 * params["time"]["positions"]}
        params = {**params, "time": bare}
    return right.factorised_encoder(z, params, eps=eps, activation=activation)


@mistake("factorised-encoder", "norm-missing-after-space")
def norm_missing_after_space(z, params, *, eps=1e-6, activation="gelu_tanh"):
    h = last_norm_missing(z, params["space"], eps=eps, activation=activation)
    if "time" not in params:
        return namespace(h).mean(h, axis=-2)
    return right.sequence_encoder(h, params["time"], eps=eps, activation=activation)


@mistake("factorised-encoder", "mean-over-positions")
def mean_over_positions(z, params, *, eps=1e-6, activation="gelu_tanh"):
    h = mean_with_the_class_token(z, params["space"], eps=eps, activation=activation)
    if "time" not in params:
        return namespace(h).mean(h, axis=-2)
    return right.sequence_encoder(h, params["time"], eps=eps, activation=activation)


# --- Layers ---------------------------------------------------------------------------------------


@mistake("factorised-self-attention-layer", "other-order")
def other_order(z, params, *, order="time-space", eps=1e-6, activation="gelu_tanh"):
    other: right.AxisOrder = "space-time" if order == "time-space" else "time-space"
    return right.factorised_self_attention_layer(
        z, params, order=other, eps=eps, activation=activation
    )


def _along_time(z, params, eps):
    xp = namespace(z)
    return xp.moveaxis(self_attention_sublayer(xp.moveaxis(z, -3, -2), params, eps=eps), -3, -2)


@mistake("factorised-self-attention-layer", "side-by-side")
def side_by_side(z, params, *, order="time-space", eps=1e-6, activation="gelu_tanh"):
    in_time = _along_time(z, params["time"], eps)
    in_space = self_attention_sublayer(z, params["space"], eps=eps)
    return feed_forward_sublayer(in_time + in_space - z, params, eps=eps, activation=activation)


@mistake("factorised-self-attention-layer", "norm-shared")
def norm_shared(z, params, *, order="time-space", eps=1e-6, activation="gelu_tanh"):
    time = {**params["time"], "norm_1": params["space"]["norm_1"]}
    shared: Any = {**params, "time": time}
    return right.factorised_self_attention_layer(
        z, shared, order=order, eps=eps, activation=activation
    )


@mistake("factorised-self-attention-layer", "time-without-transpose")
def time_without_transpose(z, params, *, order="time-space", eps=1e-6, activation="gelu_tanh"):
    xp, (*batch, t, s, d) = namespace(z), z.shape

    def in_time(z):
        reshaped = xp.reshape(z, (*batch, s, t, d))
        return xp.reshape(self_attention_sublayer(reshaped, params["time"], eps=eps), z.shape)

    def in_space(z):
        return self_attention_sublayer(z, params["space"], eps=eps)

    y = in_space(in_time(z)) if order == "time-space" else in_time(in_space(z))
    return feed_forward_sublayer(y, params, eps=eps, activation=activation)


def _halves(Q, K, V, first, scale=None):
    """Attend along time and over space in all heads; return first what the first half needs."""
    xp = namespace(Q, K, V)
    swapped = [xp.moveaxis(x, -3, -2) for x in (Q, K, V)]
    in_time = xp.moveaxis(attention(*swapped, scale=scale), -3, -2)
    in_space = attention(Q, K, V, scale=scale)
    return (in_time, in_space) if first == "time" else (in_space, in_time)


@mistake("factorised-dot-product-attention", "other-half-first")
def other_half_first(Q, K, V, *, first="time"):
    other: right.Axis = "space" if first == "time" else "time"
    return right.factorised_dot_product_attention(Q, K, V, first=other)


@mistake("factorised-dot-product-attention", "split-within-heads")
def split_within_heads(Q, K, V, *, first="time"):
    half = V.shape[-1] // 2
    early, late = _halves(Q, K, V, first)
    return namespace(Q).concat([early[..., :half], late[..., half:]], axis=-1)


@mistake("factorised-dot-product-attention", "every-other-head")
def every_other_head(Q, K, V, *, first="time"):
    early, late = _halves(Q, K, V, first)
    heads = range(Q.shape[-4])
    return namespace(Q).stack([(late if h % 2 else early)[..., h, :, :, :] for h in heads], axis=-4)


@mistake("factorised-dot-product-attention", "half-the-width-in-the-scale")
def half_the_width_in_the_scale(Q, K, V, *, first="time"):
    half = Q.shape[-4] // 2
    early, late = _halves(Q, K, V, first, scale=math.sqrt(2 / Q.shape[-1]))
    return namespace(Q).concat([early[..., :half, :, :, :], late[..., half:, :, :, :]], axis=-4)


@mistake("factorised-dot-product-layer", "joint-attention")
def joint_attention_instead(z, params, *, first="time", eps=1e-6, activation="gelu_tanh"):
    xp, (*batch, t, s, d) = namespace(z), z.shape
    x = xp.reshape(z, (*batch, t * s, d))
    return xp.reshape(pre_norm_layer(x, params, eps=eps, activation=activation), z.shape)


@mistake("factorised-dot-product-layer", "other-half-first")
def layer_other_half_first(z, params, *, first="time", eps=1e-6, activation="gelu_tanh"):
    other: right.Axis = "space" if first == "time" else "time"
    return right.factorised_dot_product_layer(
        z, params, first=other, eps=eps, activation=activation
    )


@mistake("factorised-dot-product-layer", "erf-for-tanh")
def layer_erf_for_tanh(z, params, *, first="time", eps=1e-6, activation="gelu_tanh"):
    return right.factorised_dot_product_layer(z, params, first=first, eps=eps, activation="gelu")


def _with_class_token(x, params):
    if "cls" not in params:
        return x
    xp = namespace(x)
    first = xp.broadcast_to(params["cls"], (*x.shape[:-2], 1, x.shape[-1]))
    return xp.concat([first, x], axis=-2)
