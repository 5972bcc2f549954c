"""ViViT: tubelets and their kernels, and its four models of attention (survey §3-3, Fig. 6-8)."""

from fractions import Fraction
from typing import Annotated, Literal, NotRequired, TypedDict

from vtnp._array.typing import Array, Float, Int
from vtnp._array.xp import device, namespace
from vtnp._registry.params import renamed
from vtnp._registry.spec import spec
from vtnp.encoder import (
    Activation,
    FeedForwardSublayerParams,
    LayerParams,
    NormParams,
    SelfAttentionSublayerParams,
    attention,
    feed_forward_sublayer,
    layer_norm,
    merge_heads,
    pre_norm_layer,
    project_heads,
    self_attention_sublayer,
)
from vtnp.tokens import spatio_temporal_embedding

Axis = Literal["time", "space"]
AxisOrder = Literal["time-space", "space-time"]


class EncoderParams(TypedDict):
    """An encoder of sequences: class token, positions, layers and a final norm."""

    cls: NotRequired[Float[Array, " d"]]
    positions: Float[Array, "_n d"]
    layers: list[LayerParams]
    norm: NormParams


class FactorisedEncoderParams(TypedDict):
    """A spatial encoder, and a temporal one that may have other heads and hidden widths."""

    space: EncoderParams
    time: NotRequired[
        Annotated[
            EncoderParams,
            renamed(heads="heads_time", d_h="d_h_time", d_v="d_v_time", d_f="d_f_time"),
        ]
    ]


class FactorisedSelfAttentionLayerParams(FeedForwardSublayerParams):
    """One layer with attention along time, attention over space, and a feed-forward network."""

    time: SelfAttentionSublayerParams
    space: SelfAttentionSublayerParams


@spec("uniform-frame-sampling", requires=("1 <= k <= T",))
def uniform_frame_sampling(T: int, k: int, *, like: Array | None = None) -> Int[Array, " k"]:
    """Choose k frames of a video at equal distances, away from both ends.

    index[i] = round(i T / (k + 1)), i = 1 ... k, halves to even

    Parameters
    ----------
    T : int
        Number of frames of the video.
    k : int
        Number of frames to choose, at most T; if k = T, all of them.
    like : array, optional
        An array whose library and device the indices are made for; left out, NumPy.

    Returns
    -------
    array
        Indices of the chosen frames.

    Raises
    ------
    FormulaError
        If k is outside 1 ... T.

    Notes
    -----
    Computed in integers. The official code computes in floats, and for some sizes returns one frame
    too many.

    References
    ----------
    spec/vivit/uniform-frame-sampling.md; survey, Fig. 6.
    """
    # Python rounds fractions exactly, halves to even.
    index = [round(Fraction(i * T, k + 1)) for i in range(1, k + 1)] if k < T else list(range(T))
    xp = namespace(like)
    on_device = {} if like is None else {"device": device(like)}
    return xp.asarray(index, dtype=xp.int64, **on_device)


@spec("tubelet-embedding", requires=("1 <= p_t <= T", "1 <= p_h <= H", "1 <= p_w <= W"))
def tubelet_embedding(
    video: Float[Array, "*b T H W C"],
    E: Float[Array, "p_t p_h p_w C d"],
    *,
    bias: Float[Array, " d"] | None = None,
) -> Float[Array, "*b t s d"]:
    """Cut a video into tubelets, blocks of space and time, and map each to one token.

    z[t,s] = sum_i,j,l,c E[i,j,l,c] video[t p_t + i, y p_h + j, x p_w + l, c] + bias, s = (y, x)

    Parameters
    ----------
    video : array
        Frames, rows, columns, channels.
    E : array
        The kernel, whose first three axes are the size of a tubelet.
    bias : array, optional
        Left out, none is added.

    Returns
    -------
    array
        One token for each tubelet, those of a frame in raster order.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If a tubelet is empty or larger than the video.

    Notes
    -----
    Frames, rows and columns left over at the end are ignored.

    References
    ----------
    spec/vivit/tubelet-embedding.md; survey, Fig. 6.
    """
    p_t, p_h, p_w, _, _ = E.shape
    z = spatio_temporal_embedding(video, E, bias=bias, stride=(p_t, p_h, p_w))
    *batch, t, h, w, d = z.shape
    return namespace(z).reshape(z, (*batch, t, h * w, d))


@spec("inflated-kernel", requires=("p_t >= 1",))
def inflated_kernel(
    E_image: Float[Array, "p_h p_w C d"], p_t: int
) -> Float[Array, "p_t p_h p_w C d"]:
    """Inflate the kernel of an image model to a tubelet kernel that averages over its frames.

    E[i] = E_image / p_t

    Parameters
    ----------
    E_image : array
        The kernel of the image model.
    p_t : int
        Number of frames in a tubelet.

    Returns
    -------
    array
        A kernel for `tubelet_embedding`.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If p_t is below 1.

    References
    ----------
    spec/vivit/inflated-kernel.md; survey, section 3-3.
    """
    return namespace(E_image).stack([E_image / p_t] * p_t, axis=0)


@spec("central-frame-kernel", requires=("p_t >= 1",))
def central_frame_kernel(
    E_image: Float[Array, "p_h p_w C d"], p_t: int
) -> Float[Array, "p_t p_h p_w C d"]:
    """Turn the kernel of an image model into a tubelet kernel that embeds the central frame only.

    E[i] = E_image if i = floor(p_t / 2) else 0

    Parameters
    ----------
    E_image : array
        The kernel of the image model.
    p_t : int
        Number of frames in a tubelet.

    Returns
    -------
    array
        A kernel for `tubelet_embedding`.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If p_t is below 1.

    Notes
    -----
    Of two frames the second is the central one.

    References
    ----------
    spec/vivit/central-frame-kernel.md; survey, section 3-3.
    """
    xp = namespace(E_image)
    zeros = xp.zeros_like(E_image)
    return xp.stack([E_image if i == p_t // 2 else zeros for i in range(p_t)], axis=0)


@spec(
    "sequence-encoder",
    requires=(
        "len(params['positions']) >= 1",
        "len(params['positions']) == n + ('cls' in params and params['cls'] is not None)",
    ),
)
def sequence_encoder(
    x: Float[Array, "*b n d"],
    params: EncoderParams,
    *,
    eps: float = 1e-6,
    activation: Activation = "gelu_tanh",
) -> Float[Array, "*b d"]:
    """Encode a sequence into one vector: that of its class token, or the mean over its tokens.

    h = LN(layers([cls, x] + positions))[0], without cls: mean_i LN(layers(x + positions))[i]

    Parameters
    ----------
    x : array
        Tokens.
    params : EncoderParams
        ``positions``, one row for each token, that of the class token first; ``layers``, a list of
        params of `pre_norm_layer`; ``norm``; and, optionally, ``cls``, the class token.
    eps : float
        Added to the variance in all norms.
    activation : {"relu", "gelu", "gelu_tanh"}
        Of all feed-forward networks.

    Returns
    -------
    array
        One vector for each sequence.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If params lack a key or have an unknown one, positions have another number of rows, there
        are no tokens, or activation is another string.

    References
    ----------
    spec/vivit/sequence-encoder.md; survey, section 3-3.
    """
    cls = params.get("cls")
    z = _with_class_token(x, cls) + params["positions"]
    for layer in params["layers"]:
        z = pre_norm_layer(z, layer, eps=eps, activation=activation)
    z = layer_norm(z, **params["norm"], eps=eps)
    return namespace(z).mean(z, axis=-2) if cls is None else z[..., 0, :]


def _with_class_token(x: Array, cls: Array | None) -> Array:
    """Put the class token, if there is one, before the tokens of every sequence."""
    if cls is None:
        return x
    xp = namespace(x, cls)
    return xp.concat([xp.broadcast_to(cls, (*x.shape[:-2], 1, x.shape[-1])), x], axis=-2)


@spec("spatio-temporal-encoder")
def spatio_temporal_encoder(
    z: Float[Array, "*b t s d"],
    params: EncoderParams,
    *,
    eps: float = 1e-6,
    activation: Activation = "gelu_tanh",
) -> Float[Array, "*b d"]:
    """Encode the tokens of all frames as one sequence (model 1).

    h = encode([z[0,0], z[0,1], ..., z[t-1,s-1]])

    Parameters
    ----------
    z : array
        Tokens.
    params : EncoderParams
        ``positions``, one row for each of the t s tokens, that of the class token first;
        ``layers``, a list of params of `pre_norm_layer`; ``norm``; and, optionally, ``cls``, the
        class token.
    eps : float
        Added to the variance in all norms.
    activation : {"relu", "gelu", "gelu_tanh"}
        Of all feed-forward networks.

    Returns
    -------
    array
        One vector for each video.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If params lack a key or have an unknown one, positions have another number of rows, there
        are no tokens, or activation is another string.

    References
    ----------
    spec/vivit/spatio-temporal-encoder.md; survey, section 3-3.
    """
    *batch, t, s, d = z.shape
    x = namespace(z).reshape(z, (*batch, t * s, d))
    return sequence_encoder(x, params, eps=eps, activation=activation)


@spec(
    "factorised-encoder", requires=("t >= 1 or ('time' in params and params['time'] is not None)",)
)
def factorised_encoder(
    z: Float[Array, "*b t s d"],
    params: FactorisedEncoderParams,
    *,
    eps: float = 1e-6,
    activation: Activation = "gelu_tanh",
) -> Float[Array, "*b d"]:
    """Encode each frame into one vector, then the vectors of all frames into one (model 2).

    h = encode_time([encode_space(z[0]), ..., encode_space(z[t-1])])

    Parameters
    ----------
    z : array
        Tokens.
    params : FactorisedEncoderParams
        ``space`` and, optionally, ``time``, each the params of a `sequence_encoder`, for s and for
        t tokens. Without ``time`` the vectors of the frames are averaged.
    eps : float
        Added to the variance in all norms.
    activation : {"relu", "gelu", "gelu_tanh"}
        Of all feed-forward networks.

    Returns
    -------
    array
        One vector for each video.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If params lack a key or have an unknown one, positions have another number of rows, there
        are no tokens, or activation is another string.

    Notes
    -----
    All frames share the spatial encoder, its class token and its positions.

    References
    ----------
    spec/vivit/factorised-encoder.md; survey, Fig. 8.
    """
    h = sequence_encoder(z, params["space"], eps=eps, activation=activation)
    time = params.get("time")
    if time is None:
        return namespace(h).mean(h, axis=-2)
    return sequence_encoder(h, time, eps=eps, activation=activation)


@spec("factorised-self-attention-layer")
def factorised_self_attention_layer(
    z: Float[Array, "*b t s d"],
    params: FactorisedSelfAttentionLayerParams,
    *,
    order: AxisOrder = "time-space",
    eps: float = 1e-6,
    activation: Activation = "gelu_tanh",
) -> Float[Array, "*b t s d"]:
    """Pass tokens through one layer that attends along time and over space in turn (model 3).

    z' = y + FFN(LN_2(y)), y = x + MHSA_space(LN(x)), x = z + MHSA_time(LN(z))

    Parameters
    ----------
    z : array
        Tokens.
    params : FactorisedSelfAttentionLayerParams
        ``time`` and ``space``, each with ``norm_1`` and ``attention``; ``norm_2`` and
        ``feed_forward``.
    order : {"time-space", "space-time"}
        Which attention comes first.
    eps : float
        Added to the variance in all norms.
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
        If params lack a key or have an unknown one, there are no tokens, or order or activation
        is another string.

    Notes
    -----
    The paper prints space first, its code runs time first; see the page, Deviations.

    References
    ----------
    spec/vivit/factorised-self-attention-layer.md; survey, Fig. 7.
    """
    if order == "time-space":
        x = _time_sublayer(z, params["time"], eps)
        y = self_attention_sublayer(x, params["space"], eps=eps)
    else:
        x = self_attention_sublayer(z, params["space"], eps=eps)
        y = _time_sublayer(x, params["time"], eps)
    return feed_forward_sublayer(y, params, eps=eps, activation=activation)


def _time_sublayer(z: Array, params: SelfAttentionSublayerParams, eps: float) -> Array:
    """Let the frames of each spatial position attend to each other."""
    x = self_attention_sublayer(_swap_time_and_space(z), params, eps=eps)
    return _swap_time_and_space(x)


def _swap_time_and_space(z: Array) -> Array:
    """Swap frames and spatial positions: `*b t s d` to `*b s t d`."""
    return namespace(z).moveaxis(z, -3, -2)


@spec("factorised-dot-product-attention", requires=("heads % 2 == 0",))
def factorised_dot_product_attention(
    Q: Float[Array, "*b heads t s d_h"],
    K: Float[Array, "*b heads t s d_h"],
    V: Float[Array, "*b heads t s d_v"],
    *,
    first: Axis = "time",
) -> Float[Array, "*b heads t s d_v"]:
    """Attend along time in one half of the heads and over space in the other (model 4).

    Y[h] = attention along t where h < heads / 2, attention over s otherwise

    Parameters
    ----------
    Q, K, V : array
        Queries, keys and values.
    first : {"time", "space"}
        Axis along which the first half of the heads attends.

    Returns
    -------
    array
        One average for each query of each head.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If the number of heads is odd, there are no tokens, keys have width 0, or first is another
        string.

    References
    ----------
    spec/vivit/factorised-dot-product-attention.md; survey, Fig. 7.
    """
    half = Q.shape[-4] // 2
    first_heads = [x[..., :half, :, :, :] for x in (Q, K, V)]
    other_heads = [x[..., half:, :, :, :] for x in (Q, K, V)]
    if first == "time":
        Y = [_time_attention(*first_heads), attention(*other_heads)]
    else:
        Y = [attention(*first_heads), _time_attention(*other_heads)]
    return namespace(Q, K, V).concat(Y, axis=-4)


def _time_attention(Q: Array, K: Array, V: Array) -> Array:
    """Attend along the frames of each spatial position."""
    return _swap_time_and_space(attention(*map(_swap_time_and_space, (Q, K, V))))


@spec("factorised-dot-product-layer", requires=("heads % 2 == 0",))
def factorised_dot_product_layer(
    z: Float[Array, "*b t s d"],
    params: LayerParams,
    *,
    first: Axis = "time",
    eps: float = 1e-6,
    activation: Activation = "gelu_tanh",
) -> Float[Array, "*b t s d"]:
    """Pass tokens through one layer whose heads are split between time and space (model 4).

    z' = y + FFN(LN_2(y)), y = z + sum_h W_c[h]^T Y[h], Y = factorised attention of LN_1(z)

    Parameters
    ----------
    z : array
        Tokens.
    params : LayerParams
        ``norm_1``, ``attention``, ``norm_2`` and ``feed_forward``, with an even number of heads.
    first : {"time", "space"}
        Axis along which the first half of the heads attends.
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
        If params lack a key or have an unknown one, the number of heads is odd, there are no
        tokens, or first or activation is another string.

    Notes
    -----
    The params are those of a layer of model 1: a checkpoint does not tell the two models apart.

    References
    ----------
    spec/vivit/factorised-dot-product-layer.md; survey, Fig. 7.
    """
    x = layer_norm(z, **params["norm_1"], eps=eps)
    weights = params["attention"]
    Q = project_heads(x, weights["W_q"], weights.get("b_q"), token_axes=2)
    K = project_heads(x, weights["W_k"], weights.get("b_k"), token_axes=2)
    V = project_heads(x, weights["W_v"], weights.get("b_v"), token_axes=2)
    Y = factorised_dot_product_attention(Q, K, V, first=first)
    y = z + merge_heads(Y, weights["W_c"], weights.get("b_c"), token_axes=2)
    return feed_forward_sublayer(y, params, eps=eps, activation=activation)
