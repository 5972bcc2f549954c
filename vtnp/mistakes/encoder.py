"""Usual mistakes of spec/encoder/, as wrong implementations."""

import math
from typing import Any

from vtnp._array.xp import constant, namespace, plus_bias, transposed
from vtnp.encoder import (
    Activation,
    add_and_norm,
    attention,
    attention_weights,
    causal_mask,
    cross_attention,
    encoder_layer,
    feed_forward,
    feed_forward_sublayer,
    gelu,
    layer_norm,
    multi_head_self_attention,
    output_projection,
    pre_norm_layer,
    qkv_projection,
    relu,
    softmax,
)
from vtnp.mistakes._registry import mistake

# --- softmax --------------------------------------------------------------------------------------


@mistake("softmax", "over-first-axis")
def over_first_axis(x):
    xp = namespace(x)
    exponentials = xp.exp(x - xp.max(x, axis=0, keepdims=True))
    return exponentials / xp.sum(exponentials, axis=0, keepdims=True)


@mistake("softmax", "no-shift")
def no_shift(x):
    xp = namespace(x)
    return xp.exp(x) / xp.sum(xp.exp(x), axis=-1, keepdims=True)


@mistake("softmax", "shift-by-global-maximum")
def shift_by_global_maximum(x):
    return no_shift(x - namespace(x).max(x))


@mistake("softmax", "sigmoid")
def sigmoid(x):
    return 1.0 / (namespace(x).exp(-x) + 1.0)


@mistake("softmax", "diagonal-gradient")
def diagonal_gradient(x):
    xp = namespace(x)
    y = constant(softmax(x))
    # The same value; and slope y (1 - y), of each score alone.
    finite = xp.where(y > 0.0, x, 0.0)
    return y + y * (1.0 - y) * (finite - constant(finite))


# --- Heads ----------------------------------------------------------------------------------------


def _interleaved(W, axis):
    """Reorder a fused projection from the layout (heads, width) to (width, heads) along an axis."""
    xp = namespace(W)
    heads, width = W.shape[0], W.shape[axis]
    fused = xp.concat(xp.unstack(W, axis=0), axis=axis)
    each_head = [xp.take(fused, h + heads * xp.arange(width), axis=axis) for h in range(heads)]
    return xp.stack(each_head, axis=0)


@mistake("qkv-projection", "heads-interleaved")
def projection_interleaved(x, W, *, bias=None):
    interleaved_bias = None if bias is None else _interleaved(bias, -1)
    return qkv_projection(x, _interleaved(W, -1), bias=interleaved_bias)


@mistake("qkv-projection", "split-without-transpose")
def split_without_transpose(x, W, *, bias=None):
    xp = namespace(x, W, bias)
    y = qkv_projection(x, W, bias=bias)
    return xp.reshape(xp.moveaxis(y, -3, -2), y.shape)


@mistake("qkv-projection", "bias-forgotten")
def projection_without_bias(x, W, *, bias=None):
    return qkv_projection(x, W)


def _merged_without_transpose(y):
    """Mix up heads and tokens, as a reshape to the model's width without a transpose does."""
    xp = namespace(y)
    *batch, heads, n, d_h = y.shape
    return xp.moveaxis(xp.reshape(y, (*batch, n, heads, d_h)), -2, -3)


@mistake("output-projection", "merged-without-transpose")
def merged_without_transpose(y, W_c, *, bias=None):
    return output_projection(_merged_without_transpose(y), W_c, bias=bias)


@mistake("output-projection", "heads-interleaved")
def merge_interleaved(y, W_c, *, bias=None):
    return output_projection(y, _interleaved(W_c, -2), bias=bias)


@mistake("output-projection", "heads-averaged")
def heads_averaged(y, W_c, *, bias=None):
    return plus_bias(output_projection(y, W_c) / y.shape[-3], bias)


@mistake("output-projection", "bias-per-head")
def bias_per_head(y, W_c, *, bias=None):
    return output_projection(y, W_c, bias=None if bias is None else bias * y.shape[-3])


# --- Attention ------------------------------------------------------------------------------------


def _scale(K, scale):
    return 1.0 / math.sqrt(K.shape[-1]) if scale is None else scale


@mistake("attention-weights", "softmax-over-queries")
def softmax_over_queries(Q, K, *, mask=None, scale=None):
    scores = Q @ transposed(K) * _scale(K, scale)
    if mask is not None:
        scores = namespace(Q, K).where(mask, scores, -math.inf)
    return transposed(softmax(transposed(scores)))


@mistake("attention-weights", "no-scale")
def no_scale(Q, K, *, mask=None, scale=None):
    return attention_weights(Q, K, mask=mask, scale=1.0)


@mistake("attention-weights", "scale-twice")
def scale_twice(Q, K, *, mask=None, scale=None):
    return attention_weights(Q, K, mask=mask, scale=_scale(K, scale) ** 2)


@mistake("attention-weights", "scale-after-softmax")
def scale_after_softmax(Q, K, *, mask=None, scale=None):
    return attention_weights(Q, K, mask=mask, scale=1.0) * _scale(K, scale)


@mistake("attention-weights", "mask-zero-before-softmax")
def mask_zero_before_softmax(Q, K, *, mask=None, scale=None):
    scores = Q @ transposed(K) * _scale(K, scale)
    return softmax(scores if mask is None else namespace(Q, K).where(mask, scores, 0.0))


@mistake("attention-weights", "mask-after-softmax")
def mask_after_softmax(Q, K, *, mask=None, scale=None):
    alpha = attention_weights(Q, K, scale=scale)
    return alpha if mask is None else namespace(Q, K).where(mask, alpha, 0.0)


@mistake("attention-weights", "mask-inverted")
def mask_inverted(Q, K, *, mask=None, scale=None):
    allowed = None if mask is None else namespace(mask).logical_not(mask)
    return attention_weights(Q, K, mask=allowed, scale=scale)


@mistake("attention", "softmax-over-queries")
def attention_over_queries(Q, K, V, *, mask=None, scale=None):
    return softmax_over_queries(Q, K, mask=mask, scale=scale) @ V


@mistake("attention", "mean-over-keys")
def mean_over_keys(Q, K, V, *, mask=None, scale=None):
    return attention(Q, K, V, mask=mask, scale=scale) / K.shape[-2]


@mistake("attention", "sigmoid-weights")
def sigmoid_weights(Q, K, V, *, mask=None, scale=None):
    weights = sigmoid(Q @ transposed(K) * _scale(K, scale))
    return (weights if mask is None else namespace(Q, K).where(mask, weights, 0.0)) @ V


@mistake("attention", "mask-after-softmax")
def attention_masked_late(Q, K, V, *, mask=None, scale=None):
    return mask_after_softmax(Q, K, mask=mask, scale=scale) @ V


def _multi_head(
    x,
    memory,
    W_q,
    W_k,
    W_v,
    W_c,
    *,
    b_q=None,
    b_k=None,
    b_v=None,
    b_c=None,
    mask=None,
    attend=attention,
):
    """Cross-attention with another formula for attention in each head."""
    Q = qkv_projection(x, W_q, bias=b_q)
    K = qkv_projection(memory, W_k, bias=b_k)
    V = qkv_projection(memory, W_v, bias=b_v)
    each_head = None if mask is None else namespace(mask).expand_dims(mask, axis=-3)
    return output_projection(attend(Q, K, V, mask=each_head), W_c, bias=b_c)


def _scaled_by(width):
    def attend(Q, K, V, *, mask):
        return attention(Q, K, V, mask=mask, scale=1.0 / math.sqrt(width))

    return attend


@mistake("multi-head-self-attention", "scale-of-the-model")
def scale_of_the_model(x, *weights, **options):
    return _multi_head(x, x, *weights, **options, attend=_scaled_by(x.shape[-1]))


@mistake("multi-head-self-attention", "no-scale")
def heads_without_scale(x, *weights, **options):
    return _multi_head(x, x, *weights, **options, attend=_scaled_by(1))


@mistake("multi-head-self-attention", "softmax-over-queries")
def heads_over_queries(x, *weights, **options):
    return _multi_head(x, x, *weights, **options, attend=attention_over_queries)


@mistake("multi-head-self-attention", "queries-and-keys-swapped")
def queries_and_keys_swapped(
    x, W_q, W_k, W_v, W_c, *, b_q=None, b_k=None, b_v=None, b_c=None, mask=None
):
    return multi_head_self_attention(
        x, W_k, W_q, W_v, W_c, b_q=b_k, b_k=b_q, b_v=b_v, b_c=b_c, mask=mask
    )


@mistake("multi-head-self-attention", "heads-interleaved")
def heads_interleaved(x, W_q, W_k, W_v, W_c, **options):
    W_q, W_k, W_v = (_interleaved(W, -1) for W in (W_q, W_k, W_v))
    return multi_head_self_attention(x, W_q, W_k, W_v, W_c, **options)


@mistake("multi-head-self-attention", "merged-without-transpose")
def heads_merged_without_transpose(x, *weights, **options):
    def attend(Q, K, V, *, mask):
        return _merged_without_transpose(attention(Q, K, V, mask=mask))

    return _multi_head(x, x, *weights, **options, attend=attend)


@mistake("multi-head-self-attention", "softmax-over-heads")
def softmax_over_heads(x, *weights, **options):
    def attend(Q, K, V, *, mask):
        xp = namespace(Q, K, V)
        scores = Q @ transposed(K) / math.sqrt(K.shape[-1])
        if mask is not None:
            scores = xp.where(mask, scores, -math.inf)
        return xp.moveaxis(softmax(xp.moveaxis(scores, -3, -1)), -1, -3) @ V

    return _multi_head(x, x, *weights, **options, attend=attend)


@mistake("cross-attention", "memory-ignored")
def memory_ignored(x, memory, *weights, mask=None, **biases):
    return multi_head_self_attention(x, *weights, **biases)


@mistake("cross-attention", "scale-of-the-model")
def cross_scale_of_the_model(x, memory, *weights, **options):
    return _multi_head(x, memory, *weights, **options, attend=_scaled_by(x.shape[-1]))


@mistake("cross-attention", "queries-and-keys-swapped")
def cross_swapped(
    x, memory, W_q, W_k, W_v, W_c, *, b_q=None, b_k=None, b_v=None, b_c=None, mask=None
):
    return cross_attention(
        x, memory, W_k, W_q, W_v, W_c, b_q=b_k, b_k=b_q, b_v=b_v, b_c=b_c, mask=mask
    )


@mistake("cross-attention", "value-bias-forgotten")
def value_bias_forgotten(x, memory, *weights, b_v=None, **options):
    return cross_attention(x, memory, *weights, **options)


@mistake("cross-attention", "output-bias-per-head")
def output_bias_per_head(x, memory, W_q, W_k, W_v, W_c, *, b_c=None, **options):
    b_c = None if b_c is None else b_c * W_c.shape[0]
    return cross_attention(x, memory, W_q, W_k, W_v, W_c, b_c=b_c, **options)


# --- Masks ----------------------------------------------------------------------------------------


@mistake("causal-mask", "not-itself")
def not_itself(n, *, like):
    return namespace(like).tril(causal_mask(n, like=like), k=-1)


@mistake("causal-mask", "looks-ahead")
def looks_ahead(n, *, like):
    return transposed(causal_mask(n, like=like))


@mistake("causal-mask", "one-too-far")
def one_too_far(n, *, like):
    xp = namespace(like)
    return xp.tril(xp.logical_or(causal_mask(n, like=like), looks_ahead(n, like=like)), k=1)


@mistake("causal-mask", "forbidden-for-allowed")
def forbidden_for_allowed(n, *, like):
    return namespace(like).logical_not(causal_mask(n, like=like))


# --- Norms ----------------------------------------------------------------------------------------


def _moments(x, axis=-1):
    xp = namespace(x)
    centred = x - xp.mean(x, axis=axis, keepdims=True)
    return centred, xp.mean(xp.square(centred), axis=axis, keepdims=True)


@mistake("layer-norm", "unbiased-variance")
def unbiased_variance(x, gamma, beta, *, eps):
    centred, variance = _moments(x)
    d = x.shape[-1]
    return centred / namespace(x).sqrt(variance * (d / (d - 1)) + eps) * gamma + beta


@mistake("layer-norm", "eps-outside-root")
def eps_outside_root(x, gamma, beta, *, eps):
    centred, variance = _moments(x)
    return centred / (namespace(x).sqrt(variance) + eps) * gamma + beta


@mistake("layer-norm", "unbiased-and-eps-outside")
def unbiased_and_eps_outside(x, gamma, beta, *, eps):
    centred, variance = _moments(x)
    d = x.shape[-1]
    return centred / (namespace(x).sqrt(variance * (d / (d - 1))) + eps) * gamma + beta


@mistake("layer-norm", "eps-forgotten")
def eps_forgotten(x, gamma, beta, *, eps):
    return layer_norm(x, gamma, beta, eps=0.0)


@mistake("layer-norm", "eps-of-torch")
def eps_of_torch(x, gamma, beta, *, eps):
    return layer_norm(x, gamma, beta, eps=1e-5)


@mistake("layer-norm", "over-tokens")
def over_tokens(x, gamma, beta, *, eps):
    centred, variance = _moments(x, axis=0)
    return centred / namespace(x).sqrt(variance + eps) * gamma + beta


@mistake("layer-norm", "not-centred")
def not_centred(x, gamma, beta, *, eps):
    xp = namespace(x)
    power = xp.mean(xp.square(x), axis=-1, keepdims=True)
    return x / xp.sqrt(power + eps) * gamma + beta


@mistake("layer-norm", "one-pass-variance")
def one_pass_variance(x, gamma, beta, *, eps):
    xp = namespace(x)
    mean = xp.mean(x, axis=-1, keepdims=True)
    variance = xp.mean(xp.square(x), axis=-1, keepdims=True) - xp.square(mean)
    return (x - mean) / xp.sqrt(variance + eps) * gamma + beta


@mistake("layer-norm", "detached-statistics")
def detached_statistics(x, gamma, beta, *, eps):
    mean = constant(namespace(x).mean(x, axis=-1, keepdims=True))
    _, variance = _moments(constant(x))
    return (x - mean) / namespace(x).sqrt(variance + eps) * gamma + beta


@mistake("layer-norm", "offset-before-gain")
def offset_before_gain(x, gamma, beta, *, eps):
    return layer_norm(x, gamma, beta * gamma, eps=eps)


@mistake("add-and-norm", "update-normalised")
def update_normalised(x, update, gamma, beta, *, eps):
    return x + layer_norm(update, gamma, beta, eps=eps)


@mistake("add-and-norm", "input-normalised")
def input_normalised(x, update, gamma, beta, *, eps):
    return layer_norm(x, gamma, beta, eps=eps) + update


@mistake("add-and-norm", "residual-forgotten")
def residual_forgotten(x, update, gamma, beta, *, eps):
    return layer_norm(update, gamma, beta, eps=eps)


@mistake("add-and-norm", "unbiased-variance")
def sum_with_unbiased_variance(x, update, gamma, beta, *, eps):
    return unbiased_variance(x + update, gamma, beta, eps=eps)


# --- Activations ----------------------------------------------------------------------------------


@mistake("relu", "absolute-value")
def absolute_value(x):
    return namespace(x).abs(x)


@mistake("relu", "leaky")
def leaky(x):
    return namespace(x).where(x <= 0.0, 0.01 * x, x)


@mistake("relu", "softplus")
def softplus(x):
    xp = namespace(x)
    return relu(x) + xp.log1p(xp.exp(-xp.abs(x)))


@mistake("relu", "capped-at-six")
def capped_at_six(x):
    return namespace(x).clip(x, 0.0, 6.0)


@mistake("gelu", "other-form")
def other_form(x, *, approximate="none"):
    return gelu(x, approximate="none" if approximate == "tanh" else "tanh")


@mistake("gelu", "sigmoid-form")
def sigmoid_form(x, *, approximate="none"):
    return x * sigmoid(1.702 * x)


@mistake("gelu", "silu")
def silu(x, *, approximate="none"):
    return x * sigmoid(x)


@mistake("gelu", "relu")
def relu_for_gelu(x, *, approximate="none"):
    return relu(x)


@mistake("gelu", "no-square-root")
def no_square_root(x, *, approximate="none"):
    return gelu(x * math.sqrt(2.0), approximate=approximate) / math.sqrt(2.0)


_OTHER_GELU: dict[str, Activation] = {"gelu": "gelu_tanh", "gelu_tanh": "gelu", "relu": "relu"}
_OTHER_ACTIVATION: dict[str, Activation] = {"gelu": "relu", "gelu_tanh": "relu", "relu": "gelu"}


@mistake("feed-forward", "no-activation")
def no_activation(u, W_1, W_2, *, b_1=None, b_2=None, activation="relu"):
    return plus_bias(plus_bias(u @ W_1, b_1) @ W_2, b_2)


@mistake("feed-forward", "activation-at-the-end")
def activation_at_the_end(u, W_1, W_2, *, activation="relu", **biases):
    z = feed_forward(u, W_1, W_2, activation=activation, **biases)
    if activation == "relu":
        return relu(z)
    return gelu(z, approximate="tanh" if activation == "gelu_tanh" else "none")


@mistake("feed-forward", "other-activation")
def other_activation(u, W_1, W_2, *, activation="relu", **biases):
    return feed_forward(u, W_1, W_2, activation=_OTHER_ACTIVATION[activation], **biases)


@mistake("feed-forward", "other-gelu")
def other_gelu(u, W_1, W_2, *, activation="relu", **biases):
    return feed_forward(u, W_1, W_2, activation=_OTHER_GELU[activation], **biases)


@mistake("feed-forward", "inner-bias-forgotten")
def inner_bias_forgotten(u, W_1, W_2, *, b_1=None, **options):
    return feed_forward(u, W_1, W_2, **options)


@mistake("feed-forward", "outer-bias-forgotten")
def outer_bias_forgotten(u, W_1, W_2, *, b_2=None, **options):
    return feed_forward(u, W_1, W_2, **options)


# --- Layers ---------------------------------------------------------------------------------------


@mistake("encoder-layer", "pre-norm")
def pre_norm(x, params, *, mask=None, eps):
    return pre_norm_layer(x, params, mask=mask, eps=eps, activation="relu")


@mistake("encoder-layer", "gelu-for-relu")
def gelu_for_relu(x, params, *, mask=None, eps):
    update = multi_head_self_attention(x, **params["attention"], mask=mask)
    u = add_and_norm(x, update, **params["norm_1"], eps=eps)
    update = feed_forward(u, **params["feed_forward"], activation="gelu")
    return add_and_norm(u, update, **params["norm_2"], eps=eps)


@mistake("encoder-layer", "second-norm-forgotten")
def second_norm_forgotten(x, params, *, mask=None, eps):
    update = multi_head_self_attention(x, **params["attention"], mask=mask)
    u = add_and_norm(x, update, **params["norm_1"], eps=eps)
    return u + feed_forward(u, **params["feed_forward"])


@mistake("encoder-layer", "first-residual-forgotten")
def first_residual_forgotten(x, params, *, mask=None, eps):
    update = multi_head_self_attention(x, **params["attention"], mask=mask)
    u = layer_norm(update, **params["norm_1"], eps=eps)
    return add_and_norm(u, feed_forward(u, **params["feed_forward"]), **params["norm_2"], eps=eps)


@mistake("encoder-layer", "norm-shared")
def norm_shared(x, params, *, mask=None, eps):
    wrong: Any = {**params, "norm_2": params["norm_1"]}
    return encoder_layer(x, wrong, mask=mask, eps=eps)


@mistake("encoder-layer", "eps-forgotten")
def layer_without_eps(x, params, *, mask=None, eps):
    return encoder_layer(x, params, mask=mask, eps=0.0)


def _scaled_by_model_width(attention_params, d):
    """Scale the queries so that scores are divided by sqrt(d) instead of sqrt(d_h)."""
    factor = math.sqrt(attention_params["W_q"].shape[-1] / d)
    queries = {key: x * factor for key, x in attention_params.items() if key in {"W_q", "b_q"}}
    return {**attention_params, **queries}


@mistake("encoder-layer", "scale-of-the-model")
def layer_scale_of_the_model(x, params, *, mask=None, eps):
    wrong: Any = {**params, "attention": _scaled_by_model_width(params["attention"], x.shape[-1])}
    return encoder_layer(x, wrong, mask=mask, eps=eps)


@mistake("pre-norm-layer", "post-norm")
def post_norm(x, params, *, mask=None, eps, activation="gelu"):
    update = multi_head_self_attention(x, **params["attention"], mask=mask)
    u = add_and_norm(x, update, **params["norm_1"], eps=eps)
    update = feed_forward(u, **params["feed_forward"], activation=activation)
    return add_and_norm(u, update, **params["norm_2"], eps=eps)


@mistake("pre-norm-layer", "relu-for-gelu")
def pre_norm_relu(x, params, *, mask=None, eps, activation="gelu"):
    other = _OTHER_ACTIVATION[activation]
    return pre_norm_layer(x, params, mask=mask, eps=eps, activation=other)


@mistake("pre-norm-layer", "tanh-for-erf")
def pre_norm_tanh(x, params, *, mask=None, eps, activation="gelu"):
    return pre_norm_layer(x, params, mask=mask, eps=eps, activation=_OTHER_GELU[activation])


@mistake("pre-norm-layer", "residual-of-the-norm")
def residual_of_the_norm(x, params, *, mask=None, eps, activation="gelu"):
    normalised = layer_norm(x, **params["norm_1"], eps=eps)
    y = normalised + multi_head_self_attention(normalised, **params["attention"], mask=mask)
    return feed_forward_sublayer(y, params, eps=eps, activation=activation)


@mistake("pre-norm-layer", "norm-missing")
def norm_missing(x, params, *, mask=None, eps, activation="gelu"):
    normalised = layer_norm(x, **params["norm_1"], eps=eps)
    y = x + multi_head_self_attention(normalised, **params["attention"], mask=mask)
    return y + feed_forward(y, **params["feed_forward"], activation=activation)


@mistake("pre-norm-layer", "norm-shared")
def pre_norm_shared(x, params, **options):
    wrong: Any = {**params, "norm_2": params["norm_1"]}
    return pre_norm_layer(x, wrong, **options)


@mistake("pre-norm-layer", "eps-forgotten")
def pre_norm_without_eps(x, params, *, mask=None, eps, activation="gelu"):
    return pre_norm_layer(x, params, mask=mask, eps=0.0, activation=activation)


@mistake("pre-norm-layer", "scale-of-the-model")
def pre_norm_scale_of_the_model(x, params, **options):
    wrong: Any = {**params, "attention": _scaled_by_model_width(params["attention"], x.shape[-1])}
    return pre_norm_layer(x, wrong, **options)


@mistake("feed-forward-sublayer", "post-norm")
def feed_forward_sublayer_post_norm(y, params, *, eps, activation="gelu"):
    update = feed_forward(y, **params["feed_forward"], activation=activation)
    return add_and_norm(y, update, **params["norm_2"], eps=eps)


@mistake("feed-forward-sublayer", "norm-missing")
def feed_forward_sublayer_without_norm(y, params, *, eps, activation="gelu"):
    return y + feed_forward(y, **params["feed_forward"], activation=activation)


@mistake("feed-forward-sublayer", "residual-of-the-norm")
def feed_forward_sublayer_residual_of_the_norm(y, params, *, eps, activation="gelu"):
    normalised = layer_norm(y, **params["norm_2"], eps=eps)
    return normalised + feed_forward(normalised, **params["feed_forward"], activation=activation)


@mistake("feed-forward-sublayer", "residual-forgotten")
def feed_forward_sublayer_residual_forgotten(y, params, *, eps, activation="gelu"):
    return feed_forward_sublayer(y, params, eps=eps, activation=activation) - y


@mistake("feed-forward-sublayer", "tanh-for-erf")
def feed_forward_sublayer_tanh(y, params, *, eps, activation="gelu"):
    return feed_forward_sublayer(y, params, eps=eps, activation=_OTHER_GELU[activation])


@mistake("feed-forward-sublayer", "eps-of-torch")
def feed_forward_sublayer_eps_of_torch(y, params, *, eps, activation="gelu"):
    return feed_forward_sublayer(y, params, eps=1e-5, activation=activation)


def _decoded(x, memory, params, *, eps, mask, activation="relu"):
    """Return a decoder layer's result with another mask or activation."""
    update = multi_head_self_attention(x, **params["self_attention"], mask=mask)
    u = add_and_norm(x, update, **params["norm_1"], eps=eps)
    w = add_and_norm(
        u, cross_attention(u, memory, **params["cross_attention"]), **params["norm_2"], eps=eps
    )
    update = feed_forward(w, **params["feed_forward"], activation=activation)
    return add_and_norm(w, update, **params["norm_3"], eps=eps)


@mistake("decoder-layer", "not-causal")
def not_causal(x, memory, params, *, eps):
    return _decoded(x, memory, params, eps=eps, mask=None)


@mistake("decoder-layer", "looks-ahead")
def decoder_looks_ahead(x, memory, params, *, eps):
    return _decoded(x, memory, params, eps=eps, mask=looks_ahead(x.shape[-2], like=x))


@mistake("decoder-layer", "memory-first")
def memory_first(x, memory, params, *, eps):
    update = cross_attention(x, memory, **params["cross_attention"])
    u = add_and_norm(x, update, **params["norm_2"], eps=eps)
    mask = causal_mask(x.shape[-2], like=x)
    update = multi_head_self_attention(u, **params["self_attention"], mask=mask)
    w = add_and_norm(u, update, **params["norm_1"], eps=eps)
    return add_and_norm(w, feed_forward(w, **params["feed_forward"]), **params["norm_3"], eps=eps)


@mistake("decoder-layer", "memory-ignored")
def decoder_memory_ignored(x, memory, params, *, eps):
    mask = causal_mask(x.shape[-2], like=x)
    update = multi_head_self_attention(x, **params["self_attention"], mask=mask)
    u = add_and_norm(x, update, **params["norm_1"], eps=eps)
    update = multi_head_self_attention(u, **params["cross_attention"])
    w = add_and_norm(u, update, **params["norm_2"], eps=eps)
    return add_and_norm(w, feed_forward(w, **params["feed_forward"]), **params["norm_3"], eps=eps)


@mistake("decoder-layer", "pre-norm")
def decoder_pre_norm(x, memory, params, *, eps):
    mask = causal_mask(x.shape[-2], like=x)
    normalised = layer_norm(x, **params["norm_1"], eps=eps)
    u = x + multi_head_self_attention(normalised, **params["self_attention"], mask=mask)
    normalised = layer_norm(u, **params["norm_2"], eps=eps)
    w = u + cross_attention(normalised, memory, **params["cross_attention"])
    normalised = layer_norm(w, **params["norm_3"], eps=eps)
    return w + feed_forward(normalised, **params["feed_forward"])


@mistake("decoder-layer", "gelu-for-relu")
def decoder_gelu(x, memory, params, *, eps):
    mask = causal_mask(x.shape[-2], like=x)
    return _decoded(x, memory, params, eps=eps, mask=mask, activation="gelu")


@mistake("decoder-layer", "norms-in-another-order")
def norms_in_another_order(x, memory, params, *, eps):
    wrong: Any = {**params, "norm_1": params["norm_2"], "norm_2": params["norm_1"]}
    mask = causal_mask(x.shape[-2], like=x)
    return _decoded(x, memory, wrong, eps=eps, mask=mask)


@mistake("self-attention-sublayer", "post-norm")
def self_attention_sublayer_post_norm(x, params, *, mask=None, eps):
    update = multi_head_self_attention(x, **params["attention"], mask=mask)
    return add_and_norm(x, update, **params["norm_1"], eps=eps)


@mistake("self-attention-sublayer", "residual-of-the-norm")
def self_attention_sublayer_residual_of_the_norm(x, params, *, mask=None, eps):
    normalised = layer_norm(x, **params["norm_1"], eps=eps)
    return normalised + multi_head_self_attention(normalised, **params["attention"], mask=mask)


@mistake("self-attention-sublayer", "norm-missing")
def self_attention_sublayer_norm_missing(x, params, *, mask=None, eps):
    return x + multi_head_self_attention(x, **params["attention"], mask=mask)


@mistake("self-attention-sublayer", "mask-forgotten")
def self_attention_sublayer_mask_forgotten(x, params, *, mask=None, eps):
    normalised = layer_norm(x, **params["norm_1"], eps=eps)
    return x + multi_head_self_attention(normalised, **params["attention"])
