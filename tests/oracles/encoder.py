"""Loops written from spec/encoder/."""

import math

import numpy as np


def softmax(x):
    y = np.zeros_like(x)
    for row in np.ndindex(x.shape[:-1]):
        scores = list(x[row])
        largest = max(scores)
        if largest == -math.inf:
            continue
        total = sum(np.exp(score - largest) for score in scores)
        for i, score in enumerate(scores):
            y[(*row, i)] = np.exp(score - largest) / total
    return y


def qkv_projection(x, W, *, bias=None):
    *batch, n, d = x.shape
    heads, _, d_h = W.shape
    y = np.zeros((*batch, heads, n, d_h), x.dtype)
    for b in np.ndindex(*batch):
        for h, i, c in np.ndindex(heads, n, d_h):
            entry = sum(W[h, k, c] * x[(*b, i, k)] for k in range(d))
            y[(*b, h, i, c)] = entry if bias is None else entry + bias[h, c]
    return y


def output_projection(y, W_c, *, bias=None):
    *batch, heads, n, d_h = y.shape
    d = W_c.shape[-1]
    merged = np.zeros((*batch, n, d), y.dtype)
    for b in np.ndindex(*batch):
        for i, k in np.ndindex(n, d):
            entry = sum(W_c[h, c, k] * y[(*b, h, i, c)] for h in range(heads) for c in range(d_h))
            merged[(*b, i, k)] = entry if bias is None else entry + bias[k]
    return merged


def attention_weights(Q, K, *, mask=None, scale=None):
    *batch, n, d_k = Q.shape
    m = K.shape[-2]
    allowed = np.broadcast_to(True if mask is None else mask, (*batch, n, m))
    alpha = np.zeros((*batch, n, m), Q.dtype)
    for b in np.ndindex(*batch):
        for i in range(n):
            scores = np.full(m, -math.inf, Q.dtype)
            for j in range(m):
                if allowed[(*b, i, j)]:
                    product = sum(Q[(*b, i, k)] * K[(*b, j, k)] for k in range(d_k))
                    scores[j] = product / math.sqrt(d_k) if scale is None else product * scale
            alpha[(*b, i)] = softmax(scores)
    return alpha


def attention(Q, K, V, *, mask=None, scale=None):
    alpha = attention_weights(Q, K, mask=mask, scale=scale)
    *batch, n, m = alpha.shape
    d_v = V.shape[-1]
    y = np.zeros((*batch, n, d_v), V.dtype)
    for b in np.ndindex(*batch):
        for i, k in np.ndindex(n, d_v):
            y[(*b, i, k)] = sum(alpha[(*b, i, j)] * V[(*b, j, k)] for j in range(m))
    return y


def multi_head_self_attention(
    x, W_q, W_k, W_v, W_c, *, b_q=None, b_k=None, b_v=None, b_c=None, mask=None
):
    biases = {"b_q": b_q, "b_k": b_k, "b_v": b_v, "b_c": b_c}
    return cross_attention(x, x, W_q, W_k, W_v, W_c, **biases, mask=mask)


def cross_attention(
    x, memory, W_q, W_k, W_v, W_c, *, b_q=None, b_k=None, b_v=None, b_c=None, mask=None
):
    y = np.zeros((*x.shape[:-2], len(W_q), x.shape[-2], W_v.shape[-1]), x.dtype)
    for h in range(W_q.shape[0]):
        one = slice(h, h + 1)
        Q, K, V = (
            qkv_projection(tokens, W[one], bias=None if b is None else b[one])[..., 0, :, :]
            for tokens, W, b in ((x, W_q, b_q), (memory, W_k, b_k), (memory, W_v, b_v))
        )
        y[..., h, :, :] = attention(Q, K, V, mask=mask)
    return output_projection(y, W_c, bias=b_c)


def causal_mask(n, *, like):
    mask = np.zeros((n, n), bool)
    for i in range(n):
        for j in range(i + 1):
            mask[i, j] = True
    return mask


def layer_norm(x, gamma, beta, *, eps):
    y = np.zeros_like(x)
    d = x.shape[-1]
    for token in np.ndindex(x.shape[:-1]):
        mean = sum(x[token]) / d
        variance = sum((x[(*token, k)] - mean) ** 2 for k in range(d)) / d
        for k in range(d):
            y[(*token, k)] = gamma[k] * (x[(*token, k)] - mean) / np.sqrt(variance + eps) + beta[k]
    return y


def add_and_norm(x, update, gamma, beta, *, eps):
    added = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        added[index] = x[index] + update[index]
    return layer_norm(added, gamma, beta, eps=eps)


def relu(x):
    y = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        if not x[index] <= 0:
            y[index] = x[index]
    return y


def gelu(x, *, approximate="none"):
    y = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        number = x[index]
        if approximate == "tanh":
            inner = np.tanh(math.sqrt(2 / math.pi) * (number + 0.044715 * number**3))
        else:
            inner = math.erf(number / math.sqrt(2))
        y[index] = number * (1 + inner) / 2
    return y


def feed_forward(u, W_1, W_2, *, b_1=None, b_2=None, activation="relu"):
    *batch, n, d = u.shape
    d_f = W_1.shape[1]
    z = np.zeros_like(u)
    for token in np.ndindex(*batch, n):
        hidden = np.zeros(d_f, u.dtype)
        for f in range(d_f):
            hidden[f] = sum(W_1[k, f] * u[(*token, k)] for k in range(d))
            if b_1 is not None:
                hidden[f] += b_1[f]
        if activation == "relu":
            hidden = relu(hidden)
        else:
            hidden = gelu(hidden, approximate="tanh" if activation == "gelu_tanh" else "none")
        for k in range(d):
            z[(*token, k)] = sum(W_2[f, k] * hidden[f] for f in range(d_f))
            if b_2 is not None:
                z[(*token, k)] += b_2[k]
    return z


def encoder_layer(x, params, *, mask=None, eps):
    update = multi_head_self_attention(x, **params["attention"], mask=mask)
    u = add_and_norm(x, update, **params["norm_1"], eps=eps)
    update = feed_forward(u, **params["feed_forward"], activation="relu")
    return add_and_norm(u, update, **params["norm_2"], eps=eps)


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
    update = feed_forward(w, **params["feed_forward"], activation="relu")
    return add_and_norm(w, update, **params["norm_3"], eps=eps)
