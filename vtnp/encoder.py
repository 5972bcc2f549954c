"""The encoder and decoder layers of the survey's Fig. 1-2, one function for each formula."""

import math
from collections.abc import Callable, Mapping
from typing import Literal, NotRequired, TypedDict

from vtnp._array.typing import Array, Bool, Float
from vtnp._array.xp import constant, device, erfc, namespace, plus_bias, transposed
from vtnp._registry.params import AtLeast
from vtnp._registry.spec import spec

Activation = Literal["relu", "gelu", "gelu_tanh"]


class NormParams(TypedDict):
    """Gain and offset of a layer norm."""

    gamma: Float[Array, " d"]
    beta: Float[Array, " d"]


class AttentionParams(TypedDict):
    """The projections of multi-head attention, and their biases."""

    W_q: Float[Array, "heads d d_h"]
    W_k: Float[Array, "heads d d_h"]
    W_v: Float[Array, "heads d d_v"]
    W_c: Float[Array, "heads d_v d"]
    b_q: NotRequired[Float[Array, "heads d_h"]]
    b_k: NotRequired[Float[Array, "heads d_h"]]
    b_v: NotRequired[Float[Array, "heads d_v"]]
    b_c: NotRequired[Float[Array, " d"]]


class FeedForwardParams(TypedDict):
    """The two linear maps of a feed-forward network, and their biases."""

    W_1: Float[Array, "d d_f"]
    W_2: Float[Array, "d_f d"]
    b_1: NotRequired[Float[Array, " d_f"]]
    b_2: NotRequired[Float[Array, " d"]]


class SelfAttentionSublayerParams(TypedDict):
    """The first half of a pre-norm layer: a norm, and attention."""

    norm_1: NormParams
    attention: AttentionParams


class FeedForwardSublayerParams(TypedDict):
    """The second half of a pre-norm layer: a norm, and the feed-forward network."""

    norm_2: NormParams
    feed_forward: FeedForwardParams


class LayerParams(SelfAttentionSublayerParams, FeedForwardSublayerParams):
    """One layer: attention, feed-forward network, and a norm for each."""


class DecoderLayerParams(TypedDict):
    """One layer that attends to itself and to a memory."""

    self_attention: AttentionParams
    norm_1: NormParams
    cross_attention: AttentionParams
    norm_2: NormParams
    feed_forward: FeedForwardParams
    norm_3: NormParams


@spec("softmax", requires=("n >= 1",))
def softmax(x: Float[Array, "*b n"]) -> Float[Array, "*b n"]:
    """Turn each row of scores into weights that are positive and sum to one.

    y[i] = exp(x[i]) / sum_j exp(x[j])

    Parameters
    ----------
    x : array
        Scores. A score of -inf gets weight 0.

    Returns
    -------
    array
        Weights.

    Raises
    ------
    FormulaError
        If a row is empty.

    Notes
    -----
    A row in which every score is -inf becomes 0 throughout. NaN or +inf makes its row NaN. The
    maximum of each row is subtracted first, so that no exponential overflows.

    References
    ----------
    spec/encoder/softmax.md; survey, Fig. 2.

    Examples
    --------
    >>> import numpy as np, vtnp
    >>> vtnp.encoder.softmax(np.log([1.0, 1.0, 2.0]))
    array([0.25, 0.25, 0.5 ])
    """
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

    Parameters
    ----------
    x : array
        Tokens.
    W : array
        One matrix for each head.
    bias : array, optional
        One vector for each head; left out, none is added.

    Returns
    -------
    array
        Queries, keys or values of each head.

    Notes
    -----
    The survey prints no bias; all published video models have one.

    References
    ----------
    spec/encoder/qkv-projection.md; survey, Fig. 2.
    """
    xp = namespace(x, W, bias)
    y = plus_bias(xp.tensordot(x, W, axes=((x.ndim - 1,), (1,))), bias)
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

    Parameters
    ----------
    y : array
        The output of attention in each head.
    W_c : array
        One matrix for each head.
    bias : array, optional
        Left out, none is added.

    Returns
    -------
    array
        One update for each token.

    Notes
    -----
    Equal to concatenating the heads and multiplying by the stacked ``W_c``.

    References
    ----------
    spec/encoder/output-projection.md; survey, Fig. 2.
    """
    xp = namespace(y, W_c)
    return plus_bias(xp.tensordot(y, W_c, axes=((y.ndim - 3, y.ndim - 1), (0, 1))), bias)


@spec("attention-weights", requires=("d_k >= 1", "scale is None or abs(scale) < inf"))
def attention_weights(
    Q: Float[Array, "*b n d_k"],
    K: Float[Array, "*b m d_k"],
    *,
    mask: Bool[Array, "*#b n m"] | None = None,
    scale: float | None = None,
) -> Float[Array, "*b n m"]:
    """Weight every key by its similarity to each query.

    alpha[i,j] = softmax_j(<Q[i], K[j]> scale), scale = 1 / sqrt(d_k)

    Parameters
    ----------
    Q, K : array
        Queries and keys.
    mask : array, optional
        True where query i may attend to key j.
    scale : float, optional
        A finite number; left out, 1 / sqrt(d_k).

    Returns
    -------
    array
        Weights, those of each query summing to one.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If there are no keys, keys have width 0, or the scale is not finite.

    Notes
    -----
    A query that may attend to nothing gets weight 0 for every key.

    References
    ----------
    spec/encoder/attention-weights.md; survey, Fig. 2.
    """
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
    """Average the rows of V, each query weighting them by its similarity to their keys.

    y[i] = sum_j alpha[i,j] V[j]

    Parameters
    ----------
    Q, K : array
        Queries and keys.
    V : array
        Values, one for each key.
    mask : array, optional
        True where query i may attend to key j.
    scale : float, optional
        Factor of the scores, a finite number; left out, 1 / sqrt(d_k).

    Returns
    -------
    array
        One average for each query.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If there are no keys, keys have width 0, or the scale is not finite.

    Notes
    -----
    A query that may attend to nothing gets 0.

    References
    ----------
    spec/encoder/attention.md; survey, Fig. 2.
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
    """Let every token attend to all tokens, in several heads with projections of their own.

    u'[i] = sum_h W_c[h]^T sum_j alpha[h,i,j] V[h,j]

    Parameters
    ----------
    x : array
        Tokens.
    W_q, W_k, W_v, W_c : array
        Projections of each head to queries, keys and values, and the output projection.
    b_q, b_k, b_v, b_c : array, optional
        Biases of the projections; left out, none is added.
    mask : array, optional
        True where token i may attend to token j, the same in every head.

    Returns
    -------
    array
        One update for each token.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If there are no tokens.

    Notes
    -----
    Scores are divided by sqrt(d_h), where d_h is the width of a head, not of the model. The result
    does not depend on ``b_k``.

    References
    ----------
    spec/encoder/multi-head-self-attention.md; survey, Fig. 2.
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
    """Let every token of x attend to all tokens of memory.

    u'[i] = sum_h W_c[h]^T sum_j softmax_j(<Q[h,i](x), K[h,j](memory)> / sqrt(d_h)) V[h,j](memory)

    Parameters
    ----------
    x : array
        Tokens that the queries are made of.
    memory : array
        Tokens that the keys and values are made of.
    W_q, W_k, W_v, W_c : array
        Projections of each head to queries, keys and values, and the output projection.
    b_q, b_k, b_v, b_c : array, optional
        Biases of the projections; left out, none is added.
    mask : array, optional
        True where token i of x may attend to token j of memory, the same in every head.

    Returns
    -------
    array
        One update for each token of x.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If memory has no tokens.

    References
    ----------
    spec/encoder/cross-attention.md; survey, Fig. 1.
    """
    Q = qkv_projection(x, W_q, bias=b_q)
    K = qkv_projection(memory, W_k, bias=b_k)
    V = qkv_projection(memory, W_v, bias=b_v)
    each_head = None if mask is None else namespace(mask).expand_dims(mask, axis=-3)
    return output_projection(attention(Q, K, V, mask=each_head), W_c, bias=b_c)


@spec("causal-mask", requires=("n >= 0",))
def causal_mask(n: int, *, like: Array) -> Bool[Array, "n n"]:
    """Let each token attend to itself and to the tokens before it.

    mask[i,j] = j <= i

    Parameters
    ----------
    n : int
        Number of tokens.
    like : array
        An array whose library and device the mask is made for.

    Returns
    -------
    array
        True where token i may attend to token j.

    Raises
    ------
    FormulaError
        If n is negative.

    References
    ----------
    spec/encoder/causal-mask.md; survey, Fig. 1.
    """
    xp = namespace(like)
    position = xp.arange(n, device=device(like))
    return xp.expand_dims(position, axis=0) <= xp.expand_dims(position, axis=1)


@spec("layer-norm", requires=("d >= 1", "0 <= eps < inf"))
def layer_norm(
    x: Float[Array, "*b d"], gamma: Float[Array, " d"], beta: Float[Array, " d"], *, eps: float
) -> Float[Array, "*b d"]:
    """Shift and scale every token to mean 0 and variance 1, then by the learned gain and offset.

    y = gamma (x - mu) / sqrt(sigma^2 + eps) + beta

    Parameters
    ----------
    x : array
        Tokens.
    gamma, beta : array
        Gain and offset of each channel.
    eps : float
        Added to the variance, finite and >= 0; 1e-6 in all video models here, 1e-5 by default in
        torch.

    Returns
    -------
    array
        Normalised tokens.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If tokens have no channels, or eps is negative or infinite.

    Notes
    -----
    sigma^2 is the variance of the population, divided by d.

    References
    ----------
    spec/encoder/layer-norm.md; survey, Fig. 2.
    """
    xp = namespace(x, gamma, beta)
    centred = x - xp.mean(x, axis=-1, keepdims=True)
    # The mean was rounded; what it missed is the mean of what it left.
    centred = centred - xp.mean(constant(centred), axis=-1, keepdims=True)
    if eps == 0.0:
        # Then their scale has no effect, so that it needs no gradient; but squares may underflow.
        centred = centred / xp.max(xp.abs(constant(centred)), axis=-1, keepdims=True)
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

    Parameters
    ----------
    x : array
        Tokens.
    update : array
        The output of a sublayer for each token.
    gamma, beta : array
        Gain and offset of the norm.
    eps : float
        Added to the variance, finite and >= 0.

    Returns
    -------
    array
        Normalised sums.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If eps is negative or infinite.

    References
    ----------
    spec/encoder/add-and-norm.md; survey, Fig. 2.
    """
    return layer_norm(x + update, gamma, beta, eps=eps)


@spec("relu")
def relu(x: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """Replace negative numbers by 0.

    y = max(x, 0)

    Parameters
    ----------
    x : array
        Numbers.

    Returns
    -------
    array
        The numbers, 0 in place of negative ones.

    Notes
    -----
    The gradient at 0 is 0, as in torch. NaN stays NaN.

    References
    ----------
    spec/encoder/relu.md; survey, Fig. 2.
    """
    # Not maximum(x, 0): at the tie torch and JAX give x half of the gradient.
    return namespace(x).where(x <= 0.0, 0.0, x)


@spec("gelu")
def gelu(
    x: Float[Array, "*b"], *, approximate: Literal["none", "tanh"] = "none"
) -> Float[Array, "*b"]:
    """Multiply each number by the probability that a standard normal variable lies below it.

    y = x (1 + erf(x / sqrt(2))) / 2

    Parameters
    ----------
    x : array
        Numbers.
    approximate : {"none", "tanh"}
        "none" for the formula above, "tanh" for x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2.

    Returns
    -------
    array
        Results, of the shape of x.

    Raises
    ------
    FormulaError
        If approximate is another string.

    Notes
    -----
    The two forms differ by up to 4.8e-4. TimeSformer was trained with "none", ViViT with "tanh".

    References
    ----------
    spec/encoder/gelu.md; survey, section 3-2.
    """
    # Neither 1 + erf nor 1 + tanh: they cancel for x < 0, where these forms keep all digits.
    if approximate == "tanh":
        return x * _logistic((x + 0.044715 * x * x * x) * math.sqrt(8 / math.pi))
    return x * (erfc(x * -math.sqrt(0.5)) * 0.5)


def _logistic(x: Array) -> Array:
    """Return (1 + tanh(x/2)) / 2 = 1 / (1 + exp(-x)), by an exponential that cannot overflow."""
    xp, is_negative = namespace(x), x < 0.0
    exponential = xp.exp(xp.where(is_negative, x, -x))
    return xp.where(is_negative, exponential, 1.0) / (exponential + 1.0)


ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {
    "relu": relu,
    "gelu": gelu,
    "gelu_tanh": lambda x: gelu(x, approximate="tanh"),
}


@spec("feed-forward")
def feed_forward(
    u: Float[Array, "*b n d"],
    W_1: Float[Array, "d d_f"],
    W_2: Float[Array, "d_f d"],
    *,
    b_1: Float[Array, " d_f"] | None = None,
    b_2: Float[Array, " d"] | None = None,
    activation: Activation = "relu",
) -> Float[Array, "*b n d"]:
    """Widen every token on its own, pass it through the activation, and narrow it again.

    z'[i] = W_2^T f(W_1^T u[i] + b_1) + b_2

    Parameters
    ----------
    u : array
        Tokens.
    W_1, W_2 : array
        The two linear maps.
    b_1, b_2 : array, optional
        Their biases; left out, none is added.
    activation : {"relu", "gelu", "gelu_tanh"}
        The function f.

    Returns
    -------
    array
        One update for each token.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If activation is another string.

    Notes
    -----
    In the survey f is ReLU and there are no biases; the video models have GELU and both biases.

    References
    ----------
    spec/encoder/feed-forward.md; survey, Fig. 2.
    """
    return plus_bias(ACTIVATIONS[activation](plus_bias(u @ W_1, b_1)) @ W_2, b_2)


@spec("encoder-layer")
def encoder_layer(
    x: Float[Array, "*b n d"],
    params: LayerParams,
    *,
    mask: Bool[Array, "*#b n n"] | None = None,
    eps: float,
) -> Float[Array, "*b n d"]:
    """Pass tokens through one layer of the original transformer: post-norm, ReLU.

    z = LN_2(u + FFN(u)), u = LN_1(x + MHSA(x))

    Parameters
    ----------
    x : array
        Tokens.
    params : LayerParams
        ``attention``, ``norm_1``, ``feed_forward`` and ``norm_2``.
    mask : array, optional
        True where token i may attend to token j, the same in every head.
    eps : float
        Added to the variance in both norms.

    Returns
    -------
    array
        Tokens.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If there are no tokens, eps is negative or infinite, or params lack a key or have an unknown
        one.

    Notes
    -----
    No video model of the survey is built from it; they use `pre_norm_layer`.

    References
    ----------
    spec/encoder/encoder-layer.md; survey, Fig. 2.
    """
    update = multi_head_self_attention(x, **params["attention"], mask=mask)
    u = add_and_norm(x, update, **params["norm_1"], eps=eps)
    return add_and_norm(u, feed_forward(u, **params["feed_forward"]), **params["norm_2"], eps=eps)


@spec("pre-norm-layer")
def pre_norm_layer(
    x: Float[Array, "*b n d"],
    params: LayerParams,
    *,
    mask: Bool[Array, "*#b n n"] | None = None,
    eps: float,
    activation: Activation = "gelu",
) -> Float[Array, "*b n d"]:
    """Pass tokens through one layer as the video models have it: normalised before, not after.

    z = y + FFN(LN_2(y)), y = x + MHSA(LN_1(x))

    Parameters
    ----------
    x : array
        Tokens.
    params : LayerParams
        ``norm_1``, ``attention``, ``norm_2`` and ``feed_forward``.
    mask : array, optional
        True where token i may attend to token j, the same in every head.
    eps : float
        Added to the variance in both norms.
    activation : {"relu", "gelu", "gelu_tanh"}
        Of the feed-forward network.

    Returns
    -------
    array
        Tokens.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If there are no tokens, eps is negative or infinite, params lack a key or have an unknown
        one, or activation is another string.

    Notes
    -----
    A stack of these ends with one more layer norm, which belongs to the model.

    References
    ----------
    spec/encoder/pre-norm-layer.md; survey, section 3-2.
    """
    y = self_attention_sublayer(x, params, mask=mask, eps=eps)
    return feed_forward_sublayer(y, params, eps=eps, activation=activation)


@spec("self-attention-sublayer")
def self_attention_sublayer(
    x: Float[Array, "*b n d"],
    params: AtLeast[SelfAttentionSublayerParams],
    *,
    mask: Bool[Array, "*#b n n"] | None = None,
    eps: float,
) -> Float[Array, "*b n d"]:
    """Normalise the tokens, let them attend to each other, and add the result to them.

    y = x + MHSA(LN_1(x))

    Parameters
    ----------
    x : array
        Tokens.
    params : SelfAttentionSublayerParams
        ``norm_1`` and ``attention``; further keys are ignored.
    mask : array, optional
        True where token i may attend to token j, the same in every head.
    eps : float
        Added to the variance in the norm.

    Returns
    -------
    array
        Tokens.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If there are no tokens, eps is negative or infinite, or params lack a key.

    Notes
    -----
    The first half of `pre_norm_layer`; a model that attends twice in a layer has two of them.

    References
    ----------
    spec/encoder/self-attention-sublayer.md; survey, section 3-2.
    """
    normalised = layer_norm(x, **params["norm_1"], eps=eps)
    return x + multi_head_self_attention(normalised, **params["attention"], mask=mask)


@spec("feed-forward-sublayer")
def feed_forward_sublayer(
    y: Float[Array, "*b n d"],
    params: AtLeast[FeedForwardSublayerParams],
    *,
    eps: float,
    activation: Activation = "gelu",
) -> Float[Array, "*b n d"]:
    """Normalise the tokens, pass them through the feed-forward network, and add the result to them.

    z = y + FFN(LN_2(y))

    Parameters
    ----------
    y : array
        Tokens.
    params : FeedForwardSublayerParams
        ``norm_2`` and ``feed_forward``; further keys are ignored.
    eps : float
        Added to the variance in the norm.
    activation : {"relu", "gelu", "gelu_tanh"}
        Of the feed-forward network.

    Returns
    -------
    array
        Tokens.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If eps is negative or infinite, params lack a key, or activation is another string.

    Notes
    -----
    The second half of `pre_norm_layer`, which the layers of all video models share.

    References
    ----------
    spec/encoder/feed-forward-sublayer.md; survey, section 3-2.
    """
    normalised = layer_norm(y, **params["norm_2"], eps=eps)
    return y + feed_forward(normalised, **params["feed_forward"], activation=activation)


@spec("decoder-layer")
def decoder_layer(
    x: Float[Array, "*b n d"],
    memory: Float[Array, "*b m d"],
    params: DecoderLayerParams,
    *,
    eps: float,
) -> Float[Array, "*b n d"]:
    """Pass tokens through one layer of the original decoder.

    z = LN_3(w + FFN(w)), w = LN_2(u + Cross(u, memory)), u = LN_1(x + MHSA_causal(x))

    Parameters
    ----------
    x : array
        Tokens decoded so far.
    memory : array
        The encoder's output.
    params : DecoderLayerParams
        ``self_attention``, ``norm_1``, ``cross_attention``, ``norm_2``, ``feed_forward`` and
        ``norm_3``.
    eps : float
        Added to the variance in all norms.

    Returns
    -------
    array
        Tokens.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If x or memory has no tokens, eps is negative or infinite, or params lack a key or have an
        unknown one.

    References
    ----------
    spec/encoder/decoder-layer.md; survey, Fig. 1.
    """
    mask = causal_mask(x.shape[-2], like=x)
    update = multi_head_self_attention(x, **params["self_attention"], mask=mask)
    u = add_and_norm(x, update, **params["norm_1"], eps=eps)
    update = cross_attention(u, memory, **params["cross_attention"])
    w = add_and_norm(u, update, **params["norm_2"], eps=eps)
    return add_and_norm(w, feed_forward(w, **params["feed_forward"]), **params["norm_3"], eps=eps)


def project_heads(x: Array, W: Array, bias: Array | None, *, token_axes: int) -> Array:
    """Project tokens that lie on several axes into every head.

    Parameters
    ----------
    x : array
        Tokens, ``*b <tokens> d``.
    W : array
        One matrix for each head, ``heads d d_h``.
    bias : array or None
        One vector for each head, ``heads d_h``.
    token_axes : int
        How many axes the tokens lie on.

    Returns
    -------
    array
        `qkv_projection` of all tokens, ``*b heads <tokens> d_h``.
    """
    front, tokens = x.shape[: -1 - token_axes], x.shape[-1 - token_axes : -1]
    flat = namespace(x).reshape(x, (*front, math.prod(tokens), x.shape[-1]))
    y = qkv_projection(flat, W, bias=bias)
    return namespace(y).reshape(y, (*y.shape[:-2], *tokens, y.shape[-1]))


def merge_heads(y: Array, W_c: Array, bias: Array | None, *, token_axes: int) -> Array:
    """Map the heads of tokens that lie on several axes back to the model's width.

    Parameters
    ----------
    y : array
        The output of attention in each head, ``*b heads <tokens> d_v``.
    W_c : array
        One matrix for each head, ``heads d_v d``.
    bias : array or None
        One vector, ``d``.
    token_axes : int
        How many axes the tokens lie on.

    Returns
    -------
    array
        `output_projection` of all tokens, ``*b <tokens> d``.
    """
    front, tokens = y.shape[: -1 - token_axes], y.shape[-1 - token_axes : -1]
    flat = namespace(y).reshape(y, (*front, math.prod(tokens), y.shape[-1]))
    u = output_projection(flat, W_c, bias=bias)
    return namespace(u).reshape(u, (*u.shape[:-2], *tokens, u.shape[-1]))
