"""ViViT: tubelets and their kernels, and its four models of attention (survey §3-3, Fig. 6-8)."""

from typing import NotRequired, TypedDict

from vtnp._array.typing import Array, Float, Int
from vtnp._array.xp import device, namespace
from vtnp._registry.errors import require
from vtnp._registry.spec import spec
from vtnp.encoder import (
    FeedForwardSublayerParams,
    LayerParams,
    NormParams,
    SelfAttentionSublayerParams,
    attention,
    feed_forward_sublayer,
    layer_norm,
    output_projection,
    pre_norm_layer,
    qkv_projection,
    self_attention_sublayer,
)
from vtnp.tokens import spatio_temporal_embedding


@spec("uniform-frame-sampling")
def uniform_frame_sampling(T: int, k: int, *, like: Array | None = None) -> Int[Array, " k"]:
    """Choose k frames of a video at equal distances, away from both ends.

    index[i] = round(i T / (k + 1)), i = 1 ... k, halves to even

    T: frames there are. k: frames wanted, at most T; all of them, where k = T. like: an array whose
    library and device the indices are made for; left out, NumPy.
    Raises FormulaError for k outside 1 ... T.
    Notes: in whole numbers, for official code in floats returns one frame too many for some sizes.
    """
    require(1 <= k <= T, "uniform-frame-sampling", "k", f"between 1 and the {T} frames", k)
    chosen = list(range(T)) if k == T else [_rounded(i * T, k + 1) for i in range(1, k + 1)]
    xp = namespace(like)
    where = {} if like is None else {"device": device(like)}
    return xp.asarray(chosen, dtype=xp.int64, **where)


def _rounded(numerator: int, denominator: int) -> int:
    """Round a fraction to the nearest whole number, halves to the even one."""
    whole, rest = divmod(numerator, denominator)
    up = 2 * rest > denominator or (2 * rest == denominator and whole % 2 == 1)
    return whole + up


@spec("tubelet-embedding")
def tubelet_embedding(
    video: Float[Array, "*b T H W C"],
    E: Float[Array, "p_t p_h p_w C d"],
    *,
    bias: Float[Array, " d"] | None = None,
) -> Float[Array, "*b t s d"]:
    """Cut a video into tubelets, boxes of space and time, and map each to one token.

    z[t,s] = sum_i,j,l,c E[i,j,l,c] video[t p_t + i, y p_h + j, x p_w + l, c] + bias, s = (y, x)

    video: frames. E: the kernel, whose first three axes are the tubelet's size. bias: left out,
    none is added.
    Raises ShapeError; FormulaError for a tubelet larger than the video.
    Notes: frames, rows and columns left over at the end are not looked at. Places are row by row.
    """
    z = spatio_temporal_embedding(video, E, bias=bias, stride=tuple(E.shape[:3]), padding=(0, 0, 0))
    *batch, t, h, w, d = z.shape
    return namespace(z).reshape(z, (*batch, t, h * w, d))


@spec("inflated-kernel")
def inflated_kernel(
    E_image: Float[Array, "p_h p_w C d"], p_t: int
) -> Float[Array, "p_t p_h p_w C d"]:
    """Make a tubelet kernel that embeds the mean of its frames, out of an image model's kernel.

    E[i] = E_image / p_t

    E_image: the image model's kernel. p_t: frames of a tubelet, >= 1.
    Raises ShapeError; FormulaError for p_t < 1.
    """
    require(p_t >= 1, "inflated-kernel", "p_t", "at least one frame", p_t)
    return namespace(E_image).stack([E_image / p_t] * p_t, axis=0)


@spec("central-frame-kernel")
def central_frame_kernel(
    E_image: Float[Array, "p_h p_w C d"], p_t: int
) -> Float[Array, "p_t p_h p_w C d"]:
    """Make a tubelet kernel that embeds its central frame alone, out of an image model's kernel.

    E[i] = E_image if i = floor(p_t / 2) else 0

    E_image: the image model's kernel. p_t: frames of a tubelet, >= 1.
    Raises ShapeError; FormulaError for p_t < 1.
    Notes: of two frames the second is the central one.
    """
    require(p_t >= 1, "central-frame-kernel", "p_t", "at least one frame", p_t)
    xp = namespace(E_image)
    frames = [xp.zeros_like(E_image) for _ in range(p_t)]
    frames[p_t // 2] = E_image
    return xp.stack(frames, axis=0)


class EncoderParams(TypedDict):
    """An encoder of sequences: class token, positions, layers and a last norm."""

    cls: NotRequired[Float[Array, " d"]]
    positions: Float[Array, "_n d"]
    layers: list[LayerParams]
    norm: NormParams


class FactorisedEncoderParams(TypedDict):
    """An encoder of each frame, and one of the frames' vectors."""

    space: EncoderParams
    time: NotRequired[EncoderParams]


class FactorisedSelfAttentionLayerParams(FeedForwardSublayerParams):
    """One layer that attends along time and over space in turn."""

    time: SelfAttentionSublayerParams
    space: SelfAttentionSublayerParams


@spec("sequence-encoder")
def sequence_encoder(
    x: Float[Array, "*b n d"],
    params: EncoderParams,
    *,
    eps: float = 1e-6,
    activation: str = "gelu_tanh",
) -> Float[Array, "*b d"]:
    """Read a whole sequence into one vector: its class token's, or the mean of its tokens.

    h = LN(layers([cls, x] + positions))[0], without cls: mean_i LN(layers(x + positions))[i]

    x: tokens. params: cls (of width d)?, positions (one row for each token, the class token's
    first), layers: a list of params of pre-norm-layer, norm {gamma, beta}. eps: of all norms.
    activation: as in feed-forward.
    Raises ShapeError; FormulaError for positions of another number of tokens.
    """
    z, positions = _led_by(params.get("cls"), x), params["positions"]
    n, rows = z.shape[-2], positions.shape[0]
    require(rows == n, "sequence-encoder", "params", f"{n} rows of positions", rows)
    z = z + positions
    for layer in params["layers"]:
        z = pre_norm_layer(z, layer, eps=eps, activation=activation)
    z = layer_norm(z, **params["norm"], eps=eps)
    return z[..., 0, :] if "cls" in params else namespace(z).mean(z, axis=-2)


def _led_by(cls: Array | None, x: Array) -> Array:
    """Put a class token, where there is one, before the tokens of every sequence."""
    if cls is None:
        return x
    xp = namespace(cls, x)
    return xp.concat([xp.broadcast_to(cls, (*x.shape[:-2], 1, x.shape[-1])), x], axis=-2)


@spec("spatio-temporal-encoder")
def spatio_temporal_encoder(
    z: Float[Array, "*b t s d"],
    params: EncoderParams,
    *,
    eps: float = 1e-6,
    activation: str = "gelu_tanh",
) -> Float[Array, "*b d"]:
    """Read all tokens of all frames as one sequence (model 1).

    h = encode([z[0,0], z[0,1], ..., z[t-1,s-1]])

    z: tokens. params, eps, activation: those of sequence-encoder, with positions for t s tokens.
    Raises ShapeError; FormulaError.
    """
    *batch, t, s, d = z.shape
    x = namespace(z).reshape(z, (*batch, t * s, d))
    return sequence_encoder(x, params, eps=eps, activation=activation)


@spec("factorised-encoder")
def factorised_encoder(
    z: Float[Array, "*b t s d"],
    params: FactorisedEncoderParams,
    *,
    eps: float = 1e-6,
    activation: str = "gelu_tanh",
) -> Float[Array, "*b d"]:
    """Read each frame into one vector, then the vectors of all frames into one (model 2).

    h = encode_time([encode_space(z[0]), ..., encode_space(z[t-1])])

    z: tokens. params: space and time?, each those of sequence-encoder; without time the frames'
    vectors are averaged. eps, activation: as in sequence-encoder.
    Raises ShapeError; FormulaError.
    Notes: the space encoder is the same for every frame, class token and positions included.
    """
    h = sequence_encoder(z, params["space"], eps=eps, activation=activation)
    if "time" not in params:
        return namespace(h).mean(h, axis=-2)
    return sequence_encoder(h, params["time"], eps=eps, activation=activation)


@spec("factorised-self-attention-layer")
def factorised_self_attention_layer(
    z: Float[Array, "*b t s d"],
    params: FactorisedSelfAttentionLayerParams,
    *,
    order: str = "time-space",
    eps: float = 1e-6,
    activation: str = "gelu_tanh",
) -> Float[Array, "*b t s d"]:
    """Pass tokens through one layer that attends along time and over space in turn (model 3).

    z' = y + FFN(LN_2(y)), y = x + MHSA_space(LN(x)), x = z + MHSA_time(LN(z))

    z: tokens. params: time and space, each norm_1 and attention, then norm_2 and feed_forward.
    order: "time-space" as above, or "space-time". eps: of all norms. activation: as in
    feed-forward.
    Raises ShapeError; FormulaError for another order.
    Notes: the paper prints space first, its code runs time first (page, Deviations).
    """
    id, orders = "factorised-self-attention-layer", ("time-space", "space-time")
    require(order in orders, id, "order", f"one of {orders}", order)
    for axis in order.split("-"):
        together = _turned(z) if axis == "time" else z
        read = self_attention_sublayer(together, params[axis], eps=eps)
        z = _turned(read) if axis == "time" else read
    return feed_forward_sublayer(z, params, eps=eps, activation=activation)


def _turned(z: Array) -> Array:
    """Exchange frames and places, so that the other of the two is the sequence."""
    return namespace(z).moveaxis(z, -3, -2)


@spec("factorised-dot-product-attention")
def factorised_dot_product_attention(
    Q: Float[Array, "*b heads t s d_h"],
    K: Float[Array, "*b heads t s d_h"],
    V: Float[Array, "*b heads t s d_v"],
    *,
    first: str = "time",
) -> Float[Array, "*b heads t s d_v"]:
    """Let half of the heads attend along time at one place, the others over space in one frame.

    Y[h] = attention along t where h < heads / 2, attention over s otherwise

    Q, K, V: queries, keys and values. first: what the first half of the heads attends along,
    "time" or "space".
    Raises ShapeError; FormulaError for an odd number of heads or another word.
    """
    id, heads = "factorised-dot-product-attention", Q.shape[-4]
    require(heads % 2 == 0, id, "Q", "an even number of heads", heads)
    require(first in ("time", "space"), id, "first", "'time' or 'space'", first)
    half = heads // 2
    early = [x[..., :half, :, :, :] for x in (Q, K, V)]
    late = [x[..., half:, :, :, :] for x in (Q, K, V)]
    in_time, in_space = (early, late) if first == "time" else (late, early)
    over_time, over_space = _turned(attention(*map(_turned, in_time))), attention(*in_space)
    both = [over_time, over_space] if first == "time" else [over_space, over_time]
    return namespace(Q, K, V).concat(both, axis=-4)


@spec("factorised-dot-product-layer")
def factorised_dot_product_layer(
    z: Float[Array, "*b t s d"],
    params: LayerParams,
    *,
    first: str = "time",
    eps: float = 1e-6,
    activation: str = "gelu_tanh",
) -> Float[Array, "*b t s d"]:
    """Pass tokens through one layer whose heads share out time and space (model 4).

    z' = y + FFN(LN_2(y)), y = z + sum_h W_c[h]^T Y[h], Y = factorised attention of LN_1(z)

    z: tokens. params: those of pre-norm-layer. first: as in factorised-dot-product-attention.
    eps: of both norms. activation: as in feed-forward.
    Raises ShapeError; FormulaError for an odd number of heads.
    Notes: its params are those of a layer of model 1; no checkpoint tells the two apart.
    """
    weights, (*batch, t, s, d) = params["attention"], z.shape
    x = layer_norm(_reshaped(z, (*batch, t * s, d)), **params["norm_1"], eps=eps)
    heads = (qkv_projection(x, weights[f"W_{c}"], bias=weights.get(f"b_{c}")) for c in "qkv")
    Q, K, V = (_reshaped(y, (*y.shape[:-2], t, s, y.shape[-1])) for y in heads)
    Y = factorised_dot_product_attention(Q, K, V, first=first)
    Y = _reshaped(Y, (*Y.shape[:-3], t * s, Y.shape[-1]))
    update = output_projection(Y, weights["W_c"], bias=weights.get("b_c"))
    y = z + _reshaped(update, z.shape)
    return feed_forward_sublayer(y, params, eps=eps, activation=activation)


def _reshaped(x: Array, shape: tuple[int, ...]) -> Array:
    return namespace(x).reshape(x, shape)
