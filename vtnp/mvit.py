"""Multiscale Vision Transformer: tokens pooled along time and space, eq. (10)-(11)."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

from vtnp._array.typing import Array, Float
from vtnp._array.xp import device, namespace
from vtnp._registry.errors import require
from vtnp._registry.params import AtLeast
from vtnp._registry.spec import spec
from vtnp.encoder import (
    ACTIVATIONS,
    AttentionParams,
    NormParams,
    attention,
    feed_forward_sublayer,
    layer_norm,
    output_projection,
    qkv_projection,
)
from vtnp.tokens import linear_embedding, sliding_windows

Sizes = tuple[int, int, int]
MODES = ("conv", "max", "avg")
_ONE: Sizes = (1, 1, 1)


@spec("pooled-grid")
def pooled_grid(grid: Sizes, *, size: Sizes, stride: Sizes, padding: Sizes | None = None) -> Sizes:
    """Count the places along each axis that a pooled grid has.

    L~ = floor((L + 2 p - k) / s) + 1, p = floor(k / 2)

    grid: (T, H, W), L along each axis. size: k. stride: s. padding: p, half the size unless given.
    Raises FormulaError for sizes or strides below 1, a negative padding, or a kernel larger than
    the padded grid.
    """
    given = (grid, size, stride, _half(size) if padding is None else padding)
    whole = all(len(each) == 3 for each in given) and min(*grid, *size, *stride) >= 1
    whole = whole and min(given[3]) >= 0
    expected = "three numbers each, grid, size and stride >= 1, padding >= 0"
    require(whole, "pooled-grid", "grid, size, stride, padding", expected, given)
    fits = all(n + 2 * p >= k for n, k, _, p in zip(*given, strict=True))
    require(fits, "pooled-grid", "size", f"at most that of the padded grid {grid}", size)
    t, h, w = ((n + 2 * p - k) // s + 1 for n, k, s, p in zip(*given, strict=True))
    return t, h, w


def _half(size: Sizes) -> Sizes:
    """Return the padding that all published models have."""
    t, h, w = (k // 2 for k in size)
    return t, h, w


@spec("pool")
def pool(
    x: Float[Array, "*b T H W d"],
    kernel: Float[Array, "k_t k_h k_w d"] | None = None,
    *,
    size: Sizes | None = None,
    stride: Sizes = _ONE,
    padding: Sizes | None = None,
    mode: str = "conv",
) -> Float[Array, "*b t h w d"]:
    """Summarise what a small window sees at each of its places, every channel on its own.

    y[t,h,w] = sum_{a,b,c} kernel[a,b,c] x[t s_t + a - p_t, h s_h + b - p_h, w s_w + c - p_w]

    x: tokens on their grid. kernel: one weight for each place and channel, in the mode "conv".
    size: of the window in the modes "max" and "avg", which have no kernel. stride: s. padding: p
    cells around the grid, half the size unless given. mode: "conv"; "max", the largest number of
    each channel instead; "avg", the mean, that of the padding included.
    Raises ShapeError; FormulaError as pooled-grid does, for another mode, a kernel and a size both
    or neither, and a maximum over padding alone.
    Notes: padding is 0, for "max" -inf. Largest numbers that are equal share the gradient.
    """
    size = _size_of(kernel, size, mode)
    require(size is not None, "pool", "kernel", "a kernel, or a size and another mode", None)
    padding = _half(size) if padding is None else padding
    pooled_grid(tuple(x.shape[-4:-1]), size=size, stride=stride, padding=padding)
    xp = namespace(x, kernel)
    if mode == "max":
        some = all(p < k for p, k in zip(padding, size, strict=True))
        require(some, "pool", "padding", f"less than the size {size}", padding)
        seen = sliding_windows(_surrounded(x, padding, -math.inf), size=size, stride=stride)
        return xp.max(seen, axis=(-4, -3, -2))
    seen = sliding_windows(x, size=size, stride=stride, padding=padding)
    if kernel is None:
        return xp.mean(seen, axis=(-4, -3, -2))
    places, d = math.prod(size), x.shape[-1]
    seen = xp.reshape(seen, (*seen.shape[:-4], places, d))
    return xp.vecdot(seen, xp.reshape(kernel, (places, d)), axis=-2)


def _size_of(kernel: Array | None, size: Sizes | None, mode: str) -> Any:
    """Return the extent of the window, which the kernel has in the mode "conv"; None for none."""
    require(mode in MODES, "pool", "mode", f"one of {MODES}", mode)
    alone = kernel is None if mode != "conv" else size is None
    require(alone, "pool", "size", 'a kernel in the mode "conv", a size in the others', size)
    return size if kernel is None else tuple(kernel.shape[:3])


def _surrounded(x: Array, padding: Sizes, value: float) -> Array:
    """Write a value around a grid."""
    xp = namespace(x)
    for axis, edge in zip((-4, -3, -2), padding, strict=True):
        shape = (*x.shape[:axis], edge, *x.shape[axis + 1 :])
        blank = xp.full(shape, value, dtype=x.dtype, device=device(x))
        x = xp.concat([blank, x, blank], axis=axis) if edge else x
    return x


@spec("pooled-tokens")
def pooled_tokens(
    x: Float[Array, "*b n d"],
    kernel: Float[Array, "k_t k_h k_w d"] | None = None,
    *,
    grid: Sizes,
    size: Sizes | None = None,
    stride: Sizes = _ONE,
    mode: str = "conv",
    gamma: Float[Array, " d"] | None = None,
    beta: Float[Array, " d"] | None = None,
    eps: float = 1e-6,
    cls: bool = False,
) -> Float[Array, "*b m d"]:
    """Pool a sequence of tokens on their grid, the class token passing by, and normalise all.

    y = LayerNorm([x_cls; pool(x_grid)])

    x: tokens in the order of the grid, the last axis fastest. kernel, size, stride, mode: as in
    pool; without kernel and size nothing is pooled. grid: (T, H, W). gamma, beta, eps: of the
    norm; left out, there is none. cls: True where x begins with the class token's row, which is
    normalised, and not pooled.
    Raises ShapeError; FormulaError for a grid that is not that of x, one of gamma and beta, a
    stride where nothing is pooled, and as pool does.
    """
    *batch, n, d = x.shape
    places, tokens = math.prod(grid), n - cls
    fits = len(grid) == 3 and places == tokens
    require(fits, "pooled-tokens", "grid", f"three sizes of product {tokens}", grid)
    both = (gamma is None) == (beta is None)
    require(both, "pooled-tokens", "beta", "both of gamma and beta, or neither", "one of them")
    xp = namespace(x, kernel, gamma, beta)
    if _size_of(kernel, size, mode) is None:
        still = tuple(stride) == _ONE
        require(still, "pooled-tokens", "stride", "1 along each axis without a window", stride)
        y = xp.concat([x], axis=-2)
    else:
        on_grid = xp.reshape(x[..., n - places :, :], (*batch, *grid, d))
        pooled = pool(on_grid, kernel, size=size, stride=stride, mode=mode)
        flat = xp.reshape(pooled, (*batch, math.prod(pooled.shape[-4:-1]), d))
        y = xp.concat([x[..., :1, :], flat], axis=-2) if cls else flat
    return y if gamma is None or beta is None else layer_norm(y, gamma, beta, eps=eps)


@spec("pooled-projection")
def pooled_projection(
    X: Float[Array, "*b n d"],
    W: Float[Array, "d d_h"],
    kernel: Float[Array, "k_t k_h k_w d_h"] | None = None,
    *,
    grid: Sizes,
    bias: Float[Array, " d_h"] | None = None,
    size: Sizes | None = None,
    stride: Sizes = _ONE,
    mode: str = "conv",
    gamma: Float[Array, " d_h"] | None = None,
    beta: Float[Array, " d_h"] | None = None,
    eps: float = 1e-6,
    cls: bool = False,
) -> Float[Array, "*b m d_h"]:
    """Project the tokens, then pool them: the queries, the keys or the values of one head.

    Q = Pool(X W_Q), K = Pool(X W_K), V = Pool(X W_V)

    X: tokens. W: the projection. bias: left out, none is added. Everything else: as in
    pooled-tokens.
    Raises ShapeError; FormulaError as pooled-tokens does.
    Notes: projected first, pooled second. Keys and values need the same stride.
    """
    return pooled_tokens(
        linear_embedding(X, W, bias=bias),
        kernel,
        grid=grid,
        size=size,
        stride=stride,
        mode=mode,
        gamma=gamma,
        beta=beta,
        eps=eps,
        cls=cls,
    )


@spec("pooling-attention")
def pooling_attention(
    Q: Float[Array, "*b n d_h"], K: Float[Array, "*b m d_h"], V: Float[Array, "*b m d_v"]
) -> Float[Array, "*b n d_v"]:
    """Let the pooled queries read the pooled values.

    PA[i] = sum_j softmax_j(<Q[i], K[j]> / sqrt(d_h)) V[j]

    Q, K, V: pooled queries, keys and values of one head, the class token's rows among them.
    Raises ShapeError; FormulaError for no keys at all, or for keys of width 0.
    Notes: the survey prints sqrt(D), the model's width; a head's is meant (page, Deviations).
    """
    return attention(Q, K, V)


class KeyNormParams(TypedDict):
    """Gain and offset of the norm of pooled queries or keys."""

    gamma: Float[Array, " d_h"]
    beta: Float[Array, " d_h"]


class ValueNormParams(TypedDict):
    """Gain and offset of the norm of pooled values."""

    gamma: Float[Array, " d_v"]
    beta: Float[Array, " d_v"]


class PoolingAttentionParams(AttentionParams):
    """Multi-head attention whose queries, keys and values are pooled and normalised."""

    kernel_q: NotRequired[Float[Array, "_t _h _w d_h"]]
    kernel_k: NotRequired[Float[Array, "_t _h _w d_h"]]
    kernel_v: NotRequired[Float[Array, "_t _h _w d_v"]]
    norm_q: NotRequired[KeyNormParams]
    norm_k: NotRequired[KeyNormParams]
    norm_v: NotRequired[ValueNormParams]


class WideFeedForwardParams(TypedDict):
    """The two linear maps of a feed-forward network whose output may have another width."""

    W_1: Float[Array, "d d_f"]
    W_2: Float[Array, "d_f d_out"]
    b_1: NotRequired[Float[Array, " d_f"]]
    b_2: NotRequired[Float[Array, " d_out"]]


class ShortcutParams(TypedDict):
    """The linear map beside a network that widens, and its bias."""

    W: Float[Array, "d d_out"]
    b: NotRequired[Float[Array, " d_out"]]


class WideningMlpParams(TypedDict):
    """A feed-forward network that widens, its norm, and the linear map beside it."""

    norm_2: NormParams
    feed_forward: WideFeedForwardParams
    shortcut: ShortcutParams


class MultiscaleBlockParams(TypedDict):
    """One block; with a shortcut it widens."""

    norm_1: NormParams
    attention: PoolingAttentionParams
    norm_2: NormParams
    feed_forward: WideFeedForwardParams
    shortcut: NotRequired[ShortcutParams]


@spec("multi-head-pooling-attention")
def multi_head_pooling_attention(
    x: Float[Array, "*b n d"],
    params: PoolingAttentionParams,
    *,
    grid: Sizes,
    stride_q: Sizes = _ONE,
    stride_kv: Sizes = _ONE,
    size_q: Sizes | None = None,
    size_kv: Sizes | None = None,
    mode: str = "conv",
    cls: bool = False,
    eps: float = 1e-6,
) -> tuple[Float[Array, "*b n_q d"], Sizes]:
    """Let pooled queries read pooled values in several heads; return them, and their new grid.

    u'[i] = sum_h W_c[h]^T PA(P_q(Q[h]), P_k(K[h]), P_v(V[h]))[i]

    x: tokens in the order of the grid. params: W_q, W_k, W_v, W_c, b_q?, b_k?, b_v?, b_c? as in
    multi-head-self-attention; kernel_q?, kernel_k?, kernel_v?, shared by the heads; norm_q?,
    norm_k?, norm_v? {gamma, beta}, over the channels of a head. grid: (T, H, W). stride_q,
    stride_kv: of the queries; of keys and values. size_q, size_kv: of the windows in the modes
    "max" and "avg". mode, cls, eps: as in pooled-tokens.
    Raises ShapeError; FormulaError as pooled-tokens does.
    Notes: what has neither kernel nor size is not pooled.
    """
    Q = _of_heads("q", x, params, grid, size_q, stride_q, mode, eps, cls=cls)
    K, V = (
        _of_heads(letter, x, params, grid, size_kv, stride_kv, mode, eps, cls=cls)
        for letter in ("k", "v")
    )
    u = output_projection(pooling_attention(Q, K, V), params["W_c"], bias=params.get("b_c"))
    size = _size_of(params.get("kernel_q"), size_q, mode)
    return u, grid if size is None else pooled_grid(grid, size=size, stride=stride_q)


def _of_heads(
    letter: str,
    x: Array,
    params: Mapping[str, Any],
    grid: Sizes,
    size: Sizes | None,
    stride: Sizes,
    mode: str,
    eps: float,
    *,
    cls: bool,
) -> Array:
    """Return the pooled queries, keys or values of every head, `*b heads m d_h`."""
    y = qkv_projection(x, params[f"W_{letter}"], bias=params.get(f"b_{letter}"))
    kernel, norm = params.get(f"kernel_{letter}"), params.get(f"norm_{letter}", {})
    options: dict[str, Any] = {"grid": grid, "size": size, "stride": stride, "mode": mode}
    return pooled_tokens(y, kernel, **options, **norm, eps=eps, cls=cls)


@spec("pooled-residual")
def pooled_residual(
    x: Float[Array, "*b n d"], *, grid: Sizes, stride: Sizes, cls: bool = False
) -> Float[Array, "*b m d"]:
    """Shrink the tokens themselves to the grid of the pooled queries, by their maximum.

    y = [x_cls; maxpool(x_grid)], k = s + 1 where s > 1, 1 where s = 1

    x: tokens in the order of the grid. grid: (T, H, W). stride: s, that of the queries. cls: True
    where x begins with the class token's row, which passes by.
    Raises ShapeError; FormulaError as pooled-tokens does.
    Notes: a stride of 1 along all axes leaves the tokens as they are. Always the maximum, whatever
    the mode of the attention's pooling.
    """
    t, h, w = (s + 1 if s > 1 else 1 for s in stride)
    return pooled_tokens(x, grid=grid, size=(t, h, w), stride=stride, mode="max", cls=cls)


@spec("widening-mlp")
def widening_mlp(
    y: Float[Array, "*b n d"],
    params: AtLeast[WideningMlpParams],
    *,
    eps: float,
    activation: str = "gelu",
) -> Float[Array, "*b n d_out"]:
    """Turn every token into a wider one: a feed-forward network beside a linear map.

    z = W_2^T f(W_1^T v + b_1) + b_2 + W^T v + b, v = LN_2(y)

    y: tokens. params: norm_2 {gamma, beta}, feed_forward {W_1, W_2, b_1?, b_2?} and widening
    {W, b?}, W_2 and W to the new width; others are not looked at. eps: of the norm. activation: as
    in feed-forward.
    Raises ShapeError; FormulaError for another activation.
    Notes: the linear map stands where feed-forward-sublayer adds y, and takes y normalised.
    """
    known = activation in ACTIVATIONS
    require(known, "widening-mlp", "activation", f"one of {sorted(ACTIVATIONS)}", activation)
    network, skip = params["feed_forward"], params["shortcut"]
    v = layer_norm(y, **params["norm_2"], eps=eps)
    hidden = ACTIVATIONS[activation](linear_embedding(v, network["W_1"], bias=network.get("b_1")))
    z = linear_embedding(hidden, network["W_2"], bias=network.get("b_2"))
    return z + linear_embedding(v, skip["W"], bias=skip.get("b"))


@spec("multiscale-block")
def multiscale_block(
    x: Float[Array, "*b n d"],
    params: MultiscaleBlockParams,
    *,
    grid: Sizes,
    stride_q: Sizes = _ONE,
    stride_kv: Sizes = _ONE,
    size_q: Sizes | None = None,
    size_kv: Sizes | None = None,
    mode: str = "conv",
    cls: bool = False,
    eps: float = 1e-6,
    activation: str = "gelu",
) -> tuple[Float[Array, "*b n_q d_out"], Sizes]:
    """Pass tokens through one block, which may shrink their grid and widen them.

    z = y + FFN(LN_2(y)), y = pooled-residual(x) + MHPA(LN_1(x))

    x: tokens in the order of the grid. params: norm_1 {gamma, beta}, attention as in
    multi-head-pooling-attention, norm_2 and feed_forward as in feed-forward-sublayer, and, where the
    block widens, widening as in widening-mlp. grid, stride_q, stride_kv, size_q, size_kv, mode,
    cls: as in multi-head-pooling-attention. eps: of all norms. activation: as in feed-forward.
    Raises ShapeError; FormulaError where queries and skip come to different grids.
    Notes: also returns the new grid. Queries change the grid; keys and values do not.
    """
    normalised = layer_norm(x, **params["norm_1"], eps=eps)
    update, shrunk = multi_head_pooling_attention(
        normalised,
        params["attention"],
        grid=grid,
        stride_q=stride_q,
        stride_kv=stride_kv,
        size_q=size_q,
        size_kv=size_kv,
        mode=mode,
        cls=cls,
        eps=eps,
    )
    skip = pooled_residual(x, grid=grid, stride=stride_q, cls=cls)
    fits = skip.shape == update.shape
    expected = f"one that pools the skip, too, to {shrunk} (page, Special cases)"
    require(fits, "multiscale-block", "stride_q", expected, stride_q)
    step = widening_mlp if "shortcut" in params else feed_forward_sublayer
    return step(skip + update, params, eps=eps, activation=activation), shrunk


@spec("adaptive-strides")
def adaptive_strides(stride_kv: Sizes, strides_q: Sequence[Sizes]) -> tuple[Sizes, ...]:
    """Choose the stride of the keys and values of every block, from that of its queries.

    s_kv[i] = max(1, floor(s_kv[i-1] / s_q[i]))

    stride_kv: before the first block. strides_q: of each block.
    Raises FormulaError for strides below 1.
    Notes: a block that shrinks the grid has the smaller stride already, while its keys and values
    are still pooled from the larger grid.
    """
    given = [stride_kv, *strides_q]
    whole = all(len(each) == 3 and min(each) >= 1 for each in given)
    require(whole, "adaptive-strides", "strides", "three numbers >= 1 each", given)
    chosen, (t, h, w) = [], stride_kv
    for a, b, c in strides_q:
        t, h, w = max(1, t // a), max(1, h // b), max(1, w // c)
        chosen.append((t, h, w))
    return tuple(chosen)
