"""The formulas of spec/encoder/ in numbers of 50 digits."""

import numpy as np

from tests.exact.inputs import hard
from tests.exact.numbers import erfc, exp, mp, sqrt, where, zeros


def softmax(x):
    # No exponential overflows, so that nothing is subtracted first.
    exponentials = exp(x)
    total = exponentials.sum(axis=-1, keepdims=True)
    return exponentials / where(total == 0, mp.mpf(1), total)


def qkv_projection(x, W, *, bias=None):
    y = x[..., None, :, :] @ W
    return y if bias is None else y + bias[:, None, :]


def output_projection(y, W_c, *, bias=None):
    merged = (y @ W_c).sum(axis=-3)
    return merged if bias is None else merged + bias


def attention_weights(Q, K, *, mask=None, scale=None):
    scale = 1 / mp.sqrt(K.shape[-1]) if scale is None else scale
    scores = Q @ np.swapaxes(K, -1, -2) * scale
    return softmax(scores if mask is None else where(mask, scores, mp.mpf("-inf")))


def attention(Q, K, V, *, mask=None, scale=None):
    return attention_weights(Q, K, mask=mask, scale=scale) @ V


def multi_head_self_attention(
    x, W_q, W_k, W_v, W_c, *, b_q=None, b_k=None, b_v=None, b_c=None, mask=None
):
    biases = {"b_q": b_q, "b_k": b_k, "b_v": b_v, "b_c": b_c}
    return cross_attention(x, x, W_q, W_k, W_v, W_c, **biases, mask=mask)


def cross_attention(
    x, memory, W_q, W_k, W_v, W_c, *, b_q=None, b_k=None, b_v=None, b_c=None, mask=None
):
    Q = qkv_projection(x, W_q, bias=b_q)
    K = qkv_projection(memory, W_k, bias=b_k)
    V = qkv_projection(memory, W_v, bias=b_v)
    mask = None if mask is None else mask[..., None, :, :]
    return output_projection(attention(Q, K, V, mask=mask), W_c, bias=b_c)


def causal_mask(n, *, like):
    return np.arange(n)[None, :] <= np.arange(n)[:, None]


def layer_norm(x, gamma, beta, *, eps):
    d = x.shape[-1]
    mu = x.sum(axis=-1, keepdims=True) / d
    variance = ((x - mu) ** 2).sum(axis=-1, keepdims=True) / d
    return gamma * (x - mu) / sqrt(variance + eps) + beta


def add_and_norm(x, update, gamma, beta, *, eps):
    return layer_norm(x + update, gamma, beta, eps=eps)


def relu(x):
    return where(x > 0, x, zeros(x.shape))


def gelu(x, *, approximate="none"):
    if approximate == "tanh":
        inner = mp.sqrt(2 / mp.pi) * (x + mp.mpf("0.044715") * x**3)
        # 1 + tanh(u) = 2 / (1 + exp(-2 u)): below 0 the left side loses digits, even 50.
        return x / (1 + exp(-2 * inner))
    # 1 + erf(u) = erfc(-u), for the same reason.
    return x * erfc(-x / mp.sqrt(2)) / 2


def feed_forward(u, W_1, W_2, *, b_1=None, b_2=None, activation="relu"):
    hidden = u @ W_1 if b_1 is None else u @ W_1 + b_1
    if activation == "relu":
        hidden = relu(hidden)
    else:
        hidden = gelu(hidden, approximate="tanh" if activation == "gelu_tanh" else "none")
    return hidden @ W_2 if b_2 is None else hidden @ W_2 + b_2


def encoder_layer(x, params, *, mask=None, eps):
    update = multi_head_self_attention(x, **params["attention"], mask=mask)
    u = add_and_norm(x, update, **params["norm_1"], eps=eps)
    return add_and_norm(u, feed_forward(u, **params["feed_forward"]), **params["norm_2"], eps=eps)


def pre_norm_layer(x, params, *, mask=None, eps, activation="gelu"):
    y = self_attention_sublayer(x, params, mask=mask, eps=eps)
    return feed_forward_sublayer(y, params, eps=eps, activation=activation)


def self_attention_sublayer(x, params, *, mask=None, eps):
    normalised = layer_norm(x, **params["norm_1"], eps=eps)
    return x + multi_head_self_attention(normalised, **params["attention"], mask=mask)


def feed_forward_sublayer(y, params, *, eps, activation="gelu"):
    normalised = layer_norm(y, **params["norm_2"], eps=eps)
    return y + feed_forward(normalised, **params["feed_forward"], activation=activation)


def decoder_layer(x, memory, params, *, eps):
    mask = causal_mask(x.shape[-2], like=x)
    update = multi_head_self_attention(x, **params["self_attention"], mask=mask)
    u = add_and_norm(x, update, **params["norm_1"], eps=eps)
    update = cross_attention(u, memory, **params["cross_attention"])
    w = add_and_norm(u, update, **params["norm_2"], eps=eps)
    return add_and_norm(w, feed_forward(w, **params["feed_forward"]), **params["norm_3"], eps=eps)


# --- Hard inputs ----------------------------------------------------------------------------------


@hard("softmax", "huge scores and minus infinity")
def _scores(rng, dtype):
    x = 1e4 * rng.standard_normal((4, 3))
    x[1, 0], x[2] = -np.inf, -np.inf
    x[3] = [0.0, -50.0, -80.0]
    return {"x": x}


@hard("attention-weights", "scores of thousands")
def _long_queries(rng, dtype):
    return {"Q": 50 * rng.standard_normal((3, 4)), "K": 50 * rng.standard_normal((2, 4))}


@hard("layer-norm", "squares out of range, no eps")
def _no_eps(rng, dtype):
    tiny, largest = float(np.finfo(dtype).tiny), float(np.finfo(dtype).max)
    x = rng.standard_normal((3, 4)) * np.array([[tiny**0.6], [1.0], [largest**0.6]])
    return {**_norm(rng), "x": x, "eps": 0.0}


@hard("layer-norm", "small deviations from a large mean")
def _offset(rng, dtype):
    x = float(np.finfo(dtype).eps) ** -0.8 + rng.standard_normal((3, 4))
    return {**_norm(rng), "x": x, "eps": 1e-6}


@hard("layer-norm", "deviations of the size of eps")
def _as_small_as_eps(rng, dtype):
    return {**_norm(rng), "x": 1e-3 * rng.standard_normal((3, 4)), "eps": 1e-6}


def _norm(rng):
    return {"gamma": rng.standard_normal(4), "beta": rng.standard_normal(4)}


@hard("gelu", "tails")
def _tail(rng, dtype):
    # To where the value is the smallest normal number: below, digits are fewer by definition.
    end = -37.5 if dtype == "float64" else -12.9
    return {"x": np.concatenate([rng.uniform(end, -3, 12), rng.uniform(-3, 9, 24)])}


@hard("gelu", "tails of the tanh form")
def _tail_of_tanh(rng, dtype):
    end = -21.1 if dtype == "float64" else -10.0
    x = np.concatenate([rng.uniform(end, -3, 12), rng.uniform(-3, 9, 24)])
    return {"x": x, "approximate": "tanh"}


@hard("gelu", "near the minimum")
def _minimum(rng, dtype):
    return {"x": rng.uniform(-1.4, -0.4, 36)}
