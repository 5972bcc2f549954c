"""Multiscale Vision Transformer: tokens pooled along time and space, eq. (10)-(11)."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, TypedDict

from vtnp._array.typing import Array, Float
from vtnp._array.xp import device, namespace
from vtnp._registry.errors import require
from vtnp._registry.params import AtLeast, renamed
from vtnp._registry.spec import spec
from vtnp.encoder import (
    ACTIVATIONS,
    Activation,
    AttentionParams,
    NormParams,
    attention,
    feed_forward_sublayer,
    layer_norm,
    output_projection,
    qkv_projection,
)
from vtnp.tokens import Grid, linear_embedding, sliding_windows

Sizes = tuple[int, int, int]


class Pooling(NamedTuple):
    """How tokens are pooled along time, height and width.

    Attributes
    ----------
    stride : tuple of int
        The distance between windows along each axis.
    size : tuple of int, optional
        The size of the window along each axis. Left out, it is the kernel's; without a kernel,
        nothing is pooled.
    padding : tuple of int, optional
        Cells added before and after each axis. Left out, half the size, rounded down.
    mode : {"conv", "max", "avg"}
        What a window becomes: the sum weighted by a kernel, the maximum or the mean.
    """

    stride: Sizes = (1, 1, 1)
    size: Sizes | None = None
    padding: Sizes | None = None
    mode: Literal["conv", "max", "avg"] = "conv"


class PoolingAttentionParams(AttentionParams):
    """Multi-head attention whose queries, keys and values are pooled and normalised."""

    kernel_q: NotRequired[Float[Array, "_t _h _w d_h"]]
    kernel_k: NotRequired[Float[Array, "_t _h _w d_h"]]
    kernel_v: NotRequired[Float[Array, "_t _h _w d_v"]]
    norm_q: NotRequired[Annotated[NormParams, renamed(d="d_h")]]
    norm_k: NotRequired[Annotated[NormParams, renamed(d="d_h")]]
    norm_v: NotRequired[Annotated[NormParams, renamed(d="d_v")]]


class WideFeedForwardParams(TypedDict):
    """The two linear maps of a feed-forward network whose output may have another width."""

    W_1: Float[Array, "d d_f"]
    W_2: Float[Array, "d_f d_out"]
    b_1: NotRequired[Float[Array, " d_f"]]
    b_2: NotRequired[Float[Array, " d_out"]]


class ShortcutParams(TypedDict):
    """The projected shortcut around an MLP that widens: a linear map, and its bias."""

    W: Float[Array, "d d_out"]
    b: NotRequired[Float[Array, " d_out"]]


class WideningMlpParams(TypedDict):
    """An MLP that widens, the norm before it, and its projected shortcut."""

    norm_2: NormParams
    feed_forward: WideFeedForwardParams
    shortcut: ShortcutParams


class MultiscaleBlockParams(TypedDict):
    """One block; with a shortcut, its MLP widens."""

    norm_1: NormParams
    attention: PoolingAttentionParams
    norm_2: NormParams
    feed_forward: WideFeedForwardParams
    shortcut: NotRequired[ShortcutParams]


@spec(
    "pooled-grid",
    requires=(
        "min(grid) >= 1",
        "min(pooling.stride) >= 1",
        "pooling.size is None or min(pooling.size) >= 1",
        "pooling.size is not None or (max(pooling.stride) == 1 and pooling.padding is None)",
        "pooling.padding is None or min(pooling.padding) >= 0",
        (
            "pooling.padding is None or "
            "all(k <= n + 2 * p for n, k, p in zip(grid, pooling.size, pooling.padding))"
        ),
    ),
)
def pooled_grid(grid: Grid, *, pooling: Pooling) -> Grid:
    """Count the positions of a pooling window along each axis of a grid.

    L~ = floor((L + 2 p - k) / s) + 1, p = floor(k / 2)

    Parameters
    ----------
    grid : Grid
        The number of cells L along each axis.
    pooling : Pooling
        Its stride s, size k and padding p; left out, p is half the size, rounded down. Without a
        size the grid does not change, and neither a stride nor a padding may be set.

    Returns
    -------
    Grid
        The number of positions along each axis.

    Raises
    ------
    FormulaError
        If an axis is empty, a size or a stride is below 1, a padding is negative, or the window is
        larger than the padded grid.

    References
    ----------
    spec/mvit/pooled-grid.md; survey, section 3-6.
    """
    size, stride, padding = _window(pooling)
    axes = zip(grid, size, stride, padding, strict=True)
    return Grid(*((n + 2 * p - k) // s + 1 for n, k, s, p in axes))


@spec(
    "pool",
    requires=(
        "min(T, H, W) >= 1",
        "(kernel is None) == (pooling.mode != 'conv')",
        "(kernel is None) != (pooling.size is None)",
        (
            "pooling.padding is None or pooling.mode != 'max' or "
            "all(0 <= p < k for p, k in zip(pooling.padding, pooling.size))"
        ),
    ),
)
def pool(
    x: Float[Array, "*b T H W d"],
    kernel: Float[Array, "k_t k_h k_w d"] | None = None,
    *,
    pooling: Pooling = Pooling(),
) -> Float[Array, "*b t h w d"]:
    """Move a window over a grid of tokens and pool each channel within it on its own.

    y[t,h,w] = sum_{a,b,c} kernel[a,b,c] x[t s_t + a - p_t, h s_h + b - p_h, w s_w + c - p_w]

    Parameters
    ----------
    x : array
        Tokens on their grid of T frames, H rows and W columns.
    kernel : array, optional
        One weight for each cell of the window and each channel; in the mode "conv" only.
    pooling : Pooling
        The window's stride s and padding p, which is half the size unless stated; its size in the
        modes "max" and "avg", where there is no kernel; and the mode. "max" takes the maximum of
        each channel instead of the sum, "avg" the mean, which counts the padding.

    Returns
    -------
    array
        Tokens on the pooled grid.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If the mode is "conv" and there is no kernel, or another and there is one; if kernel and
        size are both given or both missing; if the grid is empty, the window does not fit into
        the padded grid, a size or a stride is below 1, a padding is negative, or a maximum would
        be taken over padding alone.

    Notes
    -----
    The padding is 0, and -inf in the mode "max". Equal maxima share the gradient equally.

    References
    ----------
    spec/mvit/pool.md; survey, section 3-6.
    """
    xp = namespace(x, kernel)
    size, stride, padding = _window(pooling, kernel)
    if pooling.mode == "max":
        windows = sliding_windows(_padded(x, padding, -math.inf), size=size, stride=stride)
        return xp.max(windows, axis=(-4, -3, -2))
    windows = sliding_windows(x, size=size, stride=stride, padding=padding)
    if kernel is None:
        return xp.mean(windows, axis=(-4, -3, -2))
    windows = xp.reshape(windows, (*windows.shape[:-4], math.prod(size), x.shape[-1]))
    return xp.vecdot(windows, xp.reshape(kernel, windows.shape[-2:]), axis=-2)


@spec(
    "pooled-tokens",
    requires=(
        "min(grid) >= 1",
        "n == has_cls + grid.t * grid.h * grid.w",
        (
            "kernel is not None or pooling.size is not None or "
            "(max(pooling.stride) == 1 and pooling.padding is None)"
        ),
        "(gamma is None) == (beta is None)",
    ),
)
def pooled_tokens(
    x: Float[Array, "*b n d"],
    kernel: Float[Array, "k_t k_h k_w d"] | None = None,
    *,
    grid: Grid,
    pooling: Pooling = Pooling(),
    gamma: Float[Array, " d"] | None = None,
    beta: Float[Array, " d"] | None = None,
    eps: float = 1e-6,
    has_cls: bool = False,
) -> Float[Array, "*b m d"]:
    """Pool a sequence of tokens on their grid, all but the class token, and normalise every token.

    y = LayerNorm([x_cls; pool(x_grid)])

    Parameters
    ----------
    x : array
        Tokens in the order of the grid: frame after frame, row after row.
    kernel : array, optional
        One weight for each cell of the window and each channel; in the mode "conv" only.
    grid : Grid
        Frames, rows and columns of the tokens.
    pooling : Pooling
        Stride, padding and mode of the window, and its size where there is no kernel. With neither
        a kernel nor a size nothing is pooled.
    gamma, beta : array, optional
        Gain and offset of the norm; left out, nothing is normalised.
    eps : float
        Added to the variance in the norm.
    has_cls : bool
        Whether x begins with the class token's row, which is normalised but not pooled.

    Returns
    -------
    array
        Tokens of the pooled grid, after the class token's row where there is one.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If x has another number of tokens than the grid, gamma is given without beta or beta
        without gamma, a stride or a padding is set where nothing is pooled, or `pool` refuses the
        pooling.

    References
    ----------
    spec/mvit/pooled-tokens.md; survey, section 3-6.
    """
    xp = namespace(x, kernel, gamma, beta)
    tokens = x[..., int(has_cls) :, :]
    if kernel is not None or pooling.size is not None:
        *batch, _, d = x.shape
        pooled = pool(xp.reshape(tokens, (*batch, *grid, d)), kernel, pooling=pooling)
        tokens = xp.reshape(pooled, (*batch, math.prod(pooled.shape[-4:-1]), d))
    y = xp.concat([x[..., :1, :], tokens] if has_cls else [tokens], axis=-2)
    return y if gamma is None or beta is None else layer_norm(y, gamma, beta, eps=eps)


@spec("pooled-projection")
def pooled_projection(
    X: Float[Array, "*b n d"],
    W: Float[Array, "d d_h"],
    kernel: Float[Array, "k_t k_h k_w d_h"] | None = None,
    *,
    grid: Grid,
    bias: Float[Array, " d_h"] | None = None,
    pooling: Pooling = Pooling(),
    gamma: Float[Array, " d_h"] | None = None,
    beta: Float[Array, " d_h"] | None = None,
    eps: float = 1e-6,
    has_cls: bool = False,
) -> Float[Array, "*b m d_h"]:
    """Project the tokens, then pool them: the queries, the keys or the values of one head.

    Q = Pool(X W_Q), K = Pool(X W_K), V = Pool(X W_V)

    Parameters
    ----------
    X : array
        Tokens in the order of the grid: frame after frame, row after row.
    W : array
        The projection.
    kernel : array, optional
        One weight for each cell of the window and each channel; in the mode "conv" only.
    grid : Grid
        Frames, rows and columns of the tokens.
    bias : array, optional
        Of the projection; left out, none is added.
    pooling : Pooling
        Stride, padding and mode of the window, and its size where there is no kernel. With neither
        a kernel nor a size nothing is pooled.
    gamma, beta : array, optional
        Gain and offset of the norm after pooling; left out, nothing is normalised.
    eps : float
        Added to the variance in the norm.
    has_cls : bool
        Whether X begins with the class token's row, which is projected and normalised but not
        pooled.

    Returns
    -------
    array
        Queries, keys or values, after the class token's row where there is one.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If `pooled_tokens` refuses the grid, the pooling or the norm.

    Notes
    -----
    The projection comes first, the pooling second. Keys and values need the same stride.

    References
    ----------
    spec/mvit/pooled-projection.md; survey, eq. (10).
    """
    projected = linear_embedding(X, W, bias=bias)
    norm: dict[str, Any] = {"gamma": gamma, "beta": beta, "eps": eps}
    return pooled_tokens(projected, kernel, grid=grid, pooling=pooling, **norm, has_cls=has_cls)


@spec("pooling-attention")
def pooling_attention(
    Q: Float[Array, "*b n d_h"], K: Float[Array, "*b m d_h"], V: Float[Array, "*b m d_v"]
) -> Float[Array, "*b n d_v"]:
    """Let the pooled queries attend to the pooled keys and values.

    PA[i] = sum_j softmax_j(<Q[i], K[j]> / sqrt(d_h)) V[j]

    Parameters
    ----------
    Q, K, V : array
        Pooled queries, keys and values of one head, the class token's rows included.

    Returns
    -------
    array
        One average of the values for each query.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If there are no keys, or keys have width 0.

    Notes
    -----
    The survey prints sqrt(D), where D is the width of the model; the width of a head is correct.

    References
    ----------
    spec/mvit/pooling-attention.md; survey, eq. (11).
    """
    return attention(Q, K, V)


@spec("multi-head-pooling-attention")
def multi_head_pooling_attention(
    x: Float[Array, "*b n d"],
    params: PoolingAttentionParams,
    *,
    grid: Grid,
    pool_q: Pooling = Pooling(),
    pool_kv: Pooling = Pooling(),
    eps: float = 1e-6,
    has_cls: bool = False,
) -> tuple[Float[Array, "*b n_q d"], Grid]:
    """Let pooled queries attend to pooled keys and values in several heads.

    u'[i] = sum_h W_c[h]^T PA(P_q(Q[h]), P_k(K[h]), P_v(V[h]))[i]

    Parameters
    ----------
    x : array
        Tokens in the order of the grid: frame after frame, row after row.
    params : PoolingAttentionParams
        Projections and biases as in multi-head self-attention; ``kernel_q``, ``kernel_k`` and
        ``kernel_v``, the kernels of the mode "conv", which all heads share; ``norm_q``, ``norm_k``
        and ``norm_v``, over the channels of a head. Kernels, norms and biases may be missing.
    grid : Grid
        Frames, rows and columns of the tokens.
    pool_q, pool_kv : Pooling
        How queries, and how keys and values are pooled: stride, padding and mode of the window,
        and its size where there is no kernel. With neither a kernel nor a size nothing is pooled.
    eps : float
        Added to the variance in the norms.
    has_cls : bool
        Whether x begins with the class token's row, which is not pooled.

    Returns
    -------
    array
        One update for each pooled query, after the class token's where there is one.
    Grid
        Frames, rows and columns of the pooled queries.

    Raises
    ------
    ShapeError
        If axes do not fit, or keys and values differ in number.
    FormulaError
        If params lack a key or have an unknown one, or `pooled_tokens` refuses the grid or a
        pooling.

    References
    ----------
    spec/mvit/multi-head-pooling-attention.md; survey, Fig. 14.
    """
    options: dict[str, Any] = {"grid": grid, "eps": eps, "has_cls": has_cls}
    Q = _pooled_heads("q", x, params, pooling=pool_q, **options)
    K = _pooled_heads("k", x, params, pooling=pool_kv, **options)
    V = _pooled_heads("v", x, params, pooling=pool_kv, **options)
    u = output_projection(pooling_attention(Q, K, V), params["W_c"], bias=params.get("b_c"))
    size, _, _ = _window(pool_q, params.get("kernel_q"))
    return u, pooled_grid(grid, pooling=pool_q._replace(size=size))


@spec("pooled-residual", requires=("min(stride) >= 1",))
def pooled_residual(
    x: Float[Array, "*b n d"], *, grid: Grid, stride: Sizes, has_cls: bool = False
) -> Float[Array, "*b m d"]:
    """Bring the tokens themselves to the grid of the pooled queries, by maxima.

    y = [x_cls; maxpool(x_grid)], k = s + 1 where s > 1, 1 where s = 1

    Parameters
    ----------
    x : array
        Tokens in the order of the grid: frame after frame, row after row.
    grid : Grid
        Frames, rows and columns of the tokens.
    stride : tuple of int
        The stride s of the queries along time, height and width.
    has_cls : bool
        Whether x begins with the class token's row, which does not change.

    Returns
    -------
    array
        Tokens of the pooled grid, after the class token's row where there is one.

    Raises
    ------
    FormulaError
        If x has another number of tokens than the grid, or a stride is below 1.

    Notes
    -----
    Always the maximum, whatever the mode of the attention's pooling. A stride of 1 along all axes
    leaves the tokens as they are.

    References
    ----------
    spec/mvit/pooled-residual.md; survey, section 3-6.
    """
    t, h, w = (s + 1 if s > 1 else 1 for s in stride)
    maxima = Pooling(stride, size=(t, h, w), mode="max")
    return pooled_tokens(x, grid=grid, pooling=maxima, has_cls=has_cls)


@spec("widening-mlp")
def widening_mlp(
    y: Float[Array, "*b n d"],
    params: AtLeast[WideningMlpParams],
    *,
    eps: float,
    activation: Activation = "gelu",
) -> Float[Array, "*b n d_out"]:
    """Map every token to a wider one: an MLP plus a projected shortcut.

    z = W_2^T f(W_1^T v + b_1) + b_2 + W^T v + b, v = LN_2(y)

    Parameters
    ----------
    y : array
        Tokens.
    params : WideningMlpParams
        ``norm_2``; ``feed_forward``, whose ``W_2`` maps to the new width; ``shortcut``, whose ``W``
        does so too. Further keys are ignored.
    eps : float
        Added to the variance in the norm.
    activation : {"relu", "gelu", "gelu_tanh"}
        The function f.

    Returns
    -------
    array
        Tokens of the new width.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If params lack a key, or activation is another string.

    Notes
    -----
    The shortcut takes the place of the residual y in `feed_forward_sublayer`, but starts from the
    normalised tokens.

    References
    ----------
    spec/mvit/widening-mlp.md; survey, section 3-6.
    """
    network, shortcut = params["feed_forward"], params["shortcut"]
    v = layer_norm(y, **params["norm_2"], eps=eps)
    hidden = ACTIVATIONS[activation](linear_embedding(v, network["W_1"], bias=network.get("b_1")))
    z = linear_embedding(hidden, network["W_2"], bias=network.get("b_2"))
    return z + linear_embedding(v, shortcut["W"], bias=shortcut.get("b"))


@spec("multiscale-block")
def multiscale_block(
    x: Float[Array, "*b n d"],
    params: MultiscaleBlockParams,
    *,
    grid: Grid,
    pool_q: Pooling = Pooling(),
    pool_kv: Pooling = Pooling(),
    eps: float = 1e-6,
    activation: Activation = "gelu",
    has_cls: bool = False,
) -> tuple[Float[Array, "*b n_q d_out"], Grid]:
    """Pass tokens through one block, which may pool their grid and widen them.

    z = y + FFN(LN_2(y)), y = pooled-residual(x) + MHPA(LN_1(x))

    Parameters
    ----------
    x : array
        Tokens in the order of the grid: frame after frame, row after row.
    params : MultiscaleBlockParams
        ``norm_1``, ``attention``, ``norm_2`` and ``feed_forward``; with a ``shortcut`` the second
        sublayer is a widening MLP.
    grid : Grid
        Frames, rows and columns of the tokens.
    pool_q, pool_kv : Pooling
        How queries, and how keys and values are pooled: stride, padding and mode of the window,
        and its size where there is no kernel. With neither a kernel nor a size nothing is pooled.
    eps : float
        Added to the variance in all norms.
    activation : {"relu", "gelu", "gelu_tanh"}
        Of the feed-forward network.
    has_cls : bool
        Whether x begins with the class token's row, which is not pooled.

    Returns
    -------
    array
        Tokens of the pooled queries' grid, after the class token's row where there is one.
    Grid
        Frames, rows and columns of the pooled queries.

    Raises
    ------
    ShapeError
        If axes do not fit, or keys and values differ in number.
    FormulaError
        If params lack a key or have an unknown one, activation is another string, `pooled_tokens`
        refuses the grid or a pooling, or the residual is pooled to another grid than the queries.

    Notes
    -----
    Only the queries change the grid; keys and values do not.

    References
    ----------
    spec/mvit/multiscale-block.md; survey, Fig. 14.
    """
    on_grid: dict[str, Any] = {"grid": grid, "has_cls": has_cls}
    normalised = layer_norm(x, **params["norm_1"], eps=eps)
    update, pooled = multi_head_pooling_attention(
        normalised, params["attention"], pool_q=pool_q, pool_kv=pool_kv, eps=eps, **on_grid
    )
    residual = pooled_residual(x, stride=pool_q.stride, **on_grid)
    expected = f"a window that pools to the residual's grid, not to {pooled} (page, Special cases)"
    require(residual.shape == update.shape, "pool_q", expected, pool_q)
    widens = params.get("shortcut") is not None
    mlp: Callable[..., Array] = widening_mlp if widens else feed_forward_sublayer
    return mlp(residual + update, params, eps=eps, activation=activation), pooled


@spec(
    "adaptive-strides", requires=("min(stride_kv) >= 1", "all(min(s_q) >= 1 for s_q in strides_q)")
)
def adaptive_strides(stride_kv: Sizes, strides_q: Sequence[Sizes]) -> tuple[Sizes, ...]:
    """Choose the stride of the keys and values of every block from the strides of the queries.

    s_kv[i] = max(1, floor(s_kv[i-1] / s_q[i]))

    Parameters
    ----------
    stride_kv : tuple of int
        The stride before the first block, along time, height and width.
    strides_q : sequence of tuple of int
        The stride of the queries of each block.

    Returns
    -------
    tuple of tuple of int
        The stride of the keys and values of each block.

    Raises
    ------
    FormulaError
        If a stride is below 1.

    Notes
    -----
    A block that pools the grid has the smaller stride already, while its keys and values still
    come from the larger grid.

    References
    ----------
    spec/mvit/adaptive-strides.md; survey, section 3-6.
    """
    strides_kv: list[Sizes] = []
    for stride_q in strides_q:
        t, h, w = (max(1, a // b) for a, b in zip(stride_kv, stride_q, strict=True))
        stride_kv = t, h, w
        strides_kv.append(stride_kv)
    return tuple(strides_kv)


def _window(pooling: Pooling, kernel: Array | None = None) -> tuple[Sizes, Sizes, Sizes]:
    """Return a window's size, stride and padding; with neither kernel nor size it is one cell."""
    t, h, w = (pooling.size or (1, 1, 1)) if kernel is None else kernel.shape[:3]
    return (t, h, w), pooling.stride, pooling.padding or (t // 2, h // 2, w // 2)


def _padded(x: Array, padding: Sizes, value: float) -> Array:
    """Add cells of a value around a grid."""
    xp = namespace(x)
    for axis, edge in zip((-4, -3, -2), padding, strict=True):
        shape = (*x.shape[:axis], edge, *x.shape[axis + 1 :])
        cells = xp.full(shape, value, dtype=x.dtype, device=device(x))
        x = xp.concat([cells, x, cells], axis=axis) if edge else x
    return x


def _pooled_heads(
    letter: str, x: Array, params: Mapping[str, Any], *, pooling: Pooling, **options: Any
) -> Array:
    """Return the pooled queries ("q"), keys ("k") or values ("v") of every head."""
    y = qkv_projection(x, params[f"W_{letter}"], bias=params.get(f"b_{letter}"))
    kernel, norm = params.get(f"kernel_{letter}"), params.get(f"norm_{letter}") or {}
    return pooled_tokens(y, kernel, pooling=pooling, **norm, **options)
