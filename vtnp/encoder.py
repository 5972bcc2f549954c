"""The encoder and decoder layers of the survey's Fig. 1-2, one function for each formula."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from vtnp._array.typing import Array, Bool, Float
from vtnp._array.xp import biased, constant, device, erf, namespace, transposed
from vtnp._registry.errors import require
from vtnp._registry.params import ATTENTION, FEED_FORWARD, LAYER, NORM, keys
from vtnp._registry.spec import spec


@spec("softmax")
def softmax(x: Float[Array, "*b n"]) -> Float[Array, "*b n"]:
    """Turn each row of scores into weights that are positive and sum to one.

    y[i] = exp(x[i]) / sum_j exp(x[j])

    x: scores; -inf means weight 0; n >= 1.
    Raises ShapeError; FormulaError for an empty row.
    Notes: a row of nothing but -inf has no weights to give and becomes all 0. NaN or +inf in a
    row makes that row NaN. Shifted by the row's maximum, so that no finite score overflows.
    """
    # Not >= 1: Dask says NaN for an axis that nobody has counted.
    require(x.shape[-1] != 0, "softmax", "x", "at least one score per row", tuple(x.shape))
    xp = namespace(x)
    # softmax(x - c) = softmax(x) for any c, so the shift needs no gradient of its own.
    largest = xp.max(constant(x), axis=-1, keepdims=True)
    exponentials = xp.exp(x - xp.where(largest == -math.inf, 0.0, largest))
    total = xp.sum(exponentials, axis=-1, keepdims=True)
    return exponentials / xp.where(total == 0.0, 1.0, total)


@spec("qkv-projection")
def qkv_projection(
    x: Float[Array, "*b n d"],
    W: Float[Array, "heads d d_h"],
    *,
    bias: Float[Array, "heads d_h"] | None = None,
) -> Float[Array, "*b heads n d_h"]:
    """Project every token into every head: the queries, the keys or the values.

    y[h,i] = W[h]^T x[i] + bias[h]

    x: tokens. W: one matrix for each head. bias: one row for each head; left out, none is added.
    Raises ShapeError.
    Notes: the survey prints no bias; all published video models have one.
    """
    xp = namespace(x, W, bias)
    y = biased(xp.tensordot(x, W, axes=((x.ndim - 1,), (1,))), bias)
    return xp.moveaxis(y, -2, -3)


@spec("output-projection")
def output_projection(
    y: Float[Array, "*b heads n d_h"],
    W_c: Float[Array, "heads d_h d"],
    *,
    bias: Float[Array, " d"] | None = None,
) -> Float[Array, "*b n d"]:
    """Map every head back to the model's width and add the heads up.

    u'[i] = sum_h W_c[h]^T y[h,i] + bias

    y: what each head has read. W_c: one matrix for each head. bias: left out, none is added.
    Raises ShapeError.
    Notes: equal to concatenating the heads and multiplying by the stacked W_c.
    """
    xp = namespace(y, W_c)
    return biased(xp.tensordot(y, W_c, axes=((y.ndim - 3, y.ndim - 1), (0, 1))), bias)


@spec("attention-weights")
def attention_weights(
    Q: Float[Array, "*b n d_k"],
    K: Float[Array, "*b m d_k"],
    *,
    mask: Bool[Array, "*#b n m"] | None = None,
    scale: float | None = None,
) -> Float[Array, "*b n m"]:
    """Weigh every key by its similarity to each query.

    alpha[i,j] = softmax_j(<Q[i], K[j]> scale), scale = 1 / sqrt(d_k)

    Q, K: queries and keys. mask: True where query i may attend to key j. scale: 1/sqrt(d_k)
    unless given.
    Raises ShapeError; FormulaError for no keys at all, for keys of width 0, or for a scale that is
    not finite.
    Notes: a query that may attend to nothing gets weight 0 for every key (page, Special cases).
    """
    require(K.shape[-1] >= 1, "attention-weights", "K", "a width of at least 1", tuple(K.shape))
    finite = scale is None or abs(scale) < math.inf
    require(finite, "attention-weights", "scale", "a finite number", scale)
    xp = namespace(Q, K, mask)
    scores = Q @ transposed(K) * (1.0 / math.sqrt(K.shape[-1]) if scale is None else scale)
    return softmax(scores if mask is None else xp.where(mask, scores, -math.inf))


@spec("attention")
def attention(
    Q: Float[Array, "*b n d_k"],
    K: Float[Array, "*b m d_k"],
    V: Float[Array, "*b m d_v"],
    *,
    mask: Bool[Array, "*#b n m"] | None = None,
    scale: float | None = None,
) -> Float[Array, "*b n d_v"]:
    """Average the rows of V, each query weighing them by its similarity to their keys.

    y[i] = sum_j alpha[i,j] V[j]

    Q, K: queries and keys. V: values. mask, scale: as in attention-weights.
    Raises ShapeError; FormulaError as attention-weights does.
    Notes: a query that may attend to nothing reads 0.
    """
    return attention_weights(Q, K, mask=mask, scale=scale) @ V


@spec("multi-head-self-attention")
def multi_head_self_attention(
    x: Float[Array, "*b n d"],
    W_q: Float[Array, "heads d d_h"],
    W_k: Float[Array, "heads d d_h"],
    W_v: Float[Array, "heads d d_v"],
    W_c: Float[Array, "heads d_v d"],
    *,
    b_q: Float[Array, "heads d_h"] | None = None,
    b_k: Float[Array, "heads d_h"] | None = None,
    b_v: Float[Array, "heads d_v"] | None = None,
    b_c: Float[Array, " d"] | None = None,
    mask: Bool[Array, "*#b n n"] | None = None,
) -> Float[Array, "*b n d"]:
    """Let every token read all tokens, in several heads with projections of their own.

    u'[i] = sum_h W_c[h]^T sum_j alpha[h,i,j] V[h,j]

    x: tokens. W_q, W_k, W_v, W_c: projections of each head. b_q, b_k, b_v, b_c: their biases.
    mask: True where token i may attend to token j, the same in every head.
    Raises ShapeError; FormulaError for no tokens at all.
    Notes: b_k changes nothing (page, Laws); scale is 1/sqrt(d_h), of a head, not of the model.
    """
    return cross_attention(x, x, W_q, W_k, W_v, W_c, b_q=b_q, b_k=b_k, b_v=b_v, b_c=b_c, mask=mask)


@spec("cross-attention")
def cross_attention(
    x: Float[Array, "*b n d"],
    memory: Float[Array, "*b m d"],
    W_q: Float[Array, "heads d d_h"],
    W_k: Float[Array, "heads d d_h"],
    W_v: Float[Array, "heads d d_v"],
    W_c: Float[Array, "heads d_v d"],
    *,
    b_q: Float[Array, "heads d_h"] | None = None,
    b_k: Float[Array, "heads d_h"] | None = None,
    b_v: Float[Array, "heads d_v"] | None = None,
    b_c: Float[Array, " d"] | None = None,
    mask: Bool[Array, "*#b n m"] | None = None,
) -> Float[Array, "*b n d"]:
    """Let every token of x read all tokens of memory.

    u'[i] = sum_h W_c[h]^T sum_j softmax_j(<Q[h,i](x), K[h,j](memory)> / sqrt(d_h)) V[h,j](memory)

    x: tokens that ask. memory: tokens that answer. Weights and biases as in
    multi-head-self-attention. mask: True where token i of x may attend to token j of memory.
    Raises ShapeError; FormulaError for an empty memory.
    """
    Q = qkv_projection(x, W_q, bias=b_q)
    K = qkv_projection(memory, W_k, bias=b_k)
    V = qkv_projection(memory, W_v, bias=b_v)
    each_head = None if mask is None else namespace(mask).expand_dims(mask, axis=-3)
    return output_projection(attention(Q, K, V, mask=each_head), W_c, bias=b_c)


@spec("causal-mask")
def causal_mask(n: int, *, like: Array) -> Bool[Array, "n n"]:
    """Let each token attend to itself and to the tokens before it.

    mask[i,j] = j <= i

    n: number of tokens. like: an array whose library and device the mask is made for.
    Raises FormulaError for a negative n.
    """
    require(n >= 0, "causal-mask", "n", "a number of tokens", n)
    xp = namespace(like)
    place = xp.arange(n, device=device(like))
    return xp.expand_dims(place, axis=0) <= xp.expand_dims(place, axis=1)


@spec("layer-norm")
def layer_norm(
    x: Float[Array, "*b d"], gamma: Float[Array, " d"], beta: Float[Array, " d"], *, eps: float
) -> Float[Array, "*b d"]:
    """Shift and scale every token to mean 0 and variance 1, then by the learned gain and offset.

    y = gamma (x - mu) / sqrt(sigma^2 + eps) + beta

    x: tokens. gamma, beta: gain and offset of each channel. eps: added to the variance, >= 0;
    1e-6 in all video models here, 1e-5 in torch by default.
    Raises ShapeError; FormulaError for an eps that is negative or infinite.
    Notes: sigma^2 is the population's variance, divided by d.
    """
    require(0.0 <= eps < math.inf, "layer-norm", "eps", "a finite number >= 0", eps)
    xp = namespace(x, gamma, beta)
    centred = x - xp.mean(x, axis=-1, keepdims=True)
    variance = xp.mean(xp.square(centred), axis=-1, keepdims=True)
    return centred / xp.sqrt(variance + eps) * gamma + beta


@spec("add-and-norm")
def add_and_norm(
    x: Float[Array, "*b n d"],
    update: Float[Array, "*b n d"],
    gamma: Float[Array, " d"],
    beta: Float[Array, " d"],
    *,
    eps: float,
) -> Float[Array, "*b n d"]:
    """Add an update to the tokens and normalise the sum.

    u[i] = LayerNorm(x[i] + update[i]; gamma, beta)

    x: tokens. update: what a sub-layer made of them. gamma, beta, eps: as in layer-norm.
    Raises ShapeError; FormulaError for a negative eps.
    """
    return layer_norm(x + update, gamma, beta, eps=eps)


@spec("relu")
def relu(x: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """Keep what is positive.

    y = max(x, 0)

    x: any numbers.
    Notes: the gradient at 0 is 0, as in torch. NaN stays NaN.
    """
    # Not maximum(x, 0): at the tie torch and JAX would hand half of the gradient to x.
    return namespace(x).where(x <= 0.0, 0.0, x)


@spec("gelu")
def gelu(x: Float[Array, "*b"], *, approximate: str = "none") -> Float[Array, "*b"]:
    """Keep a number in proportion to the share of a normal distribution that lies below it.

    y = x (1 + erf(x / sqrt(2))) / 2

    x: any numbers. approximate: "none", or "tanh" for
    x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2.
    Raises FormulaError for another word.
    Notes: the two differ by up to 4.8e-4; TimeSformer was trained with "none", ViViT with "tanh".
    """
    require(approximate in _INNER, "gelu", "approximate", f"one of {sorted(_INNER)}", approximate)
    return x * (_INNER[approximate](x) + 1.0) * 0.5


_INNER: dict[str, Callable[[Array], Array]] = {
    "none": lambda x: erf(x * math.sqrt(0.5)),
    "tanh": lambda x: namespace(x).tanh((x + 0.044715 * x * x * x) * math.sqrt(2 / math.pi)),
}


@spec("feed-forward")
def feed_forward(
    u: Float[Array, "*b n d"],
    W_1: Float[Array, "d d_f"],
    W_2: Float[Array, "d_f d"],
    *,
    b_1: Float[Array, " d_f"] | None = None,
    b_2: Float[Array, " d"] | None = None,
    activation: str = "relu",
) -> Float[Array, "*b n d"]:
    """Widen every token on its own, pass it through the activation, and narrow it again.

    z'[i] = W_2^T f(W_1^T u[i] + b_1) + b_2

    u: tokens. W_1, b_1, W_2, b_2: the two layers. activation: f, one of "relu", "gelu" and
    "gelu_tanh".
    Raises ShapeError; FormulaError for another activation.
    Notes: the survey's f is ReLU and has no biases; the video models have GELU and both biases.
    """
    known = activation in ACTIVATIONS
    require(known, "feed-forward", "activation", f"one of {sorted(ACTIVATIONS)}", activation)
    return biased(ACTIVATIONS[activation](biased(u @ W_1, b_1)) @ W_2, b_2)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": relu,
    "gelu": gelu,
    "gelu_tanh": lambda x: gelu(x, approximate="tanh"),
}


@spec("encoder-layer", params=LAYER)
def encoder_layer(
    x: Float[Array, "*b n d"],
    params: Mapping[str, Any],
    *,
    mask: Bool[Array, "*#b n n"] | None = None,
    eps: float,
) -> Float[Array, "*b n d"]:
    """Pass tokens through one layer of the original transformer: post-norm, ReLU.

    z = LN_2(u + FFN(u)), u = LN_1(x + MHSA(x))

    x: tokens. params: attention {W_q, W_k, W_v, W_c, b_q?, b_k?, b_v?, b_c?}, norm_1 {gamma, beta},
    feed_forward {W_1, W_2, b_1?, b_2?}, norm_2 {gamma, beta}. mask: as in
    multi-head-self-attention. eps: of both norms.
    Raises ShapeError; FormulaError.
    Notes: no video model of the survey is built from it; they take pre-norm-layer.
    """
    update = multi_head_self_attention(x, **params["attention"], mask=mask)
    u = add_and_norm(x, update, **params["norm_1"], eps=eps)
    return add_and_norm(u, feed_forward(u, **params["feed_forward"]), **params["norm_2"], eps=eps)


@spec("pre-norm-layer", params=LAYER)
def pre_norm_layer(
    x: Float[Array, "*b n d"],
    params: Mapping[str, Any],
    *,
    mask: Bool[Array, "*#b n n"] | None = None,
    eps: float,
    activation: str = "gelu",
) -> Float[Array, "*b n d"]:
    """Pass tokens through one layer as the video models have it: normalised before, not after.

    z = y + FFN(LN_2(y)), y = x + MHSA(LN_1(x))

    x: tokens. params: as in encoder-layer. mask: as in multi-head-self-attention. eps: of both
    norms. activation: as in feed-forward.
    Raises ShapeError; FormulaError.
    Notes: a stack of these ends with one more layer norm, which belongs to the model.
    """
    y = self_attention_sublayer(x, params, mask=mask, eps=eps)
    return feed_forward_sublayer(y, params, eps=eps, activation=activation)


@spec("self-attention-sublayer", params=keys("...", norm_1=NORM, attention=ATTENTION))
def self_attention_sublayer(
    x: Float[Array, "*b n d"],
    params: Mapping[str, Any],
    *,
    mask: Bool[Array, "*#b n n"] | None = None,
    eps: float,
) -> Float[Array, "*b n d"]:
    """Add to every token what it reads from all tokens, normalised.

    y = x + MHSA(LN_1(x))

    x: tokens. params: norm_1 {gamma, beta}, attention {W_q, W_k, W_v, W_c, b_q?, b_k?, b_v?,
    b_c?}; others are not looked at. mask: as in multi-head-self-attention. eps: of the norm.
    Raises ShapeError; FormulaError.
    Notes: the first half of pre-norm-layer; models that attend twice in a layer take two of them.
    """
    normalised = layer_norm(x, **params["norm_1"], eps=eps)
    return x + multi_head_self_attention(normalised, **params["attention"], mask=mask)


@spec("feed-forward-sublayer", params=keys("...", norm_2=NORM, feed_forward=FEED_FORWARD))
def feed_forward_sublayer(
    y: Float[Array, "*b n d"], params: Mapping[str, Any], *, eps: float, activation: str = "gelu"
) -> Float[Array, "*b n d"]:
    """Add to every token what the feed-forward network makes of it, normalised.

    z = y + FFN(LN_2(y))

    y: tokens. params: norm_2 {gamma, beta}, feed_forward {W_1, W_2, b_1?, b_2?}; others are not
    looked at. eps: of the norm. activation: as in feed-forward.
    Raises ShapeError; FormulaError.
    Notes: the second half of pre-norm-layer, which the layers of all video models share.
    """
    normalised = layer_norm(y, **params["norm_2"], eps=eps)
    return y + feed_forward(normalised, **params["feed_forward"], activation=activation)


_DECODER = keys(
    self_attention=ATTENTION,
    norm_1=NORM,
    cross_attention=ATTENTION,
    norm_2=NORM,
    feed_forward=FEED_FORWARD,
    norm_3=NORM,
)


@spec("decoder-layer", params=_DECODER)
def decoder_layer(
    x: Float[Array, "*b n d"],
    memory: Float[Array, "*b m d"],
    params: Mapping[str, Any],
    *,
    eps: float,
) -> Float[Array, "*b n d"]:
    """Pass tokens through one layer of the original decoder: look back, look at memory, think.

    z = LN_3(w + FFN(w)), w = LN_2(u + Cross(u, memory)), u = LN_1(x + MHSA_causal(x))

    x: tokens written so far. memory: the encoder's output. params: self_attention, norm_1,
    cross_attention, norm_2, feed_forward, norm_3, each as in encoder-layer. eps: of all norms.
    Raises ShapeError; FormulaError for an empty memory.
    """
    mask = causal_mask(x.shape[-2], like=x)
    update = multi_head_self_attention(x, **params["self_attention"], mask=mask)
    u = add_and_norm(x, update, **params["norm_1"], eps=eps)
    update = cross_attention(u, memory, **params["cross_attention"])
    w = add_and_norm(u, update, **params["norm_2"], eps=eps)
    return add_and_norm(w, feed_forward(w, **params["feed_forward"]), **params["norm_3"], eps=eps)
