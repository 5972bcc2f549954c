"""The usual mistakes of the pages in spec/mvit/."""

import math
from typing import Any

from vtnp._array.xp import namespace, transposed
from vtnp.encoder import (
    attention_weights,
    feed_forward_sublayer,
    layer_norm,
    output_projection,
    qkv_projection,
    softmax,
)
from vtnp.mistakes._registry import mistake
from vtnp.mvit import (
    Pooling,
    multi_head_pooling_attention,
    pool,
    pooled_grid,
    pooled_projection,
    pooled_residual,
    pooled_tokens,
    widening_mlp,
)
from vtnp.tokens import Grid, linear_embedding

ONE = (1, 1, 1)
UNPOOLED = Pooling()


def _half(size):
    return tuple(k // 2 for k in size)


def _axes(grid, pooling):
    """Return L, k, s and p of each axis."""
    size = pooling.size or ONE
    padding = pooling.padding or _half(size)
    return zip(grid, size, pooling.stride, padding, strict=True)


@mistake("pooled-grid", "rounded-up")
def rounded_up(grid, *, pooling):
    return Grid(*(-(-(n + 2 * p - k) // s) + 1 for n, k, s, p in _axes(grid, pooling)))


@mistake("pooled-grid", "padded-on-one-side")
def padded_on_one_side(grid, *, pooling):
    return Grid(*((n + p - k) // s + 1 for n, k, s, p in _axes(grid, pooling)))


@mistake("pooled-grid", "last-position-forgotten")
def last_position_forgotten(grid, *, pooling):
    return Grid(*(n - 1 for n in pooled_grid(grid, pooling=pooling)))


def _with_zeros_around(x, padding):
    xp = namespace(x)
    for axis, edge in zip((-4, -3, -2), padding, strict=True):
        if edge:
            shape = (*x.shape[:axis], edge, *x.shape[axis + 1 :])
            zeros = xp.zeros(shape, dtype=x.dtype)
            x = xp.concat([zeros, x, zeros], axis=axis)
    return x


@mistake("pool", "maximum-over-zeros")
def maximum_over_zeros(x, kernel=None, *, pooling=UNPOOLED):
    size = pooling.size if kernel is None else kernel.shape[:3]
    padded = _with_zeros_around(x, pooling.padding or _half(size))
    return pool(padded, kernel, pooling=pooling._replace(padding=(0, 0, 0)))


@mistake("pool", "kernel-flipped")
def kernel_flipped(x, kernel=None, *, pooling=UNPOOLED):
    if kernel is not None:
        kernel = namespace(kernel).flip(kernel, axis=(0, 1, 2))
    return pool(x, kernel, pooling=pooling)


@mistake("pool", "average-of-the-inside")
def average_of_the_inside(x, kernel=None, *, pooling=UNPOOLED):
    y = pool(x, kernel, pooling=pooling)
    if pooling.mode != "avg":
        return y
    return y / pool(namespace(x).ones_like(x), pooling=pooling)


@mistake("pool", "one-kernel-for-all-channels")
def one_kernel_for_all_channels(x, kernel=None, *, pooling=UNPOOLED):
    if kernel is not None:
        kernel = 0.0 * kernel + kernel[..., :1]
    return pool(x, kernel, pooling=pooling)


@mistake("pool", "channels-mixed")
def channels_mixed(x, kernel=None, *, pooling=UNPOOLED):
    y = pool(x, kernel, pooling=pooling)
    return y if kernel is None else 0.0 * y + namespace(y).sum(y, axis=-1, keepdims=True)


@mistake("pool", "height-and-width-swapped")
def height_and_width_swapped(x, kernel=None, *, pooling=UNPOOLED):
    xp = namespace(x)
    y = pool(xp.moveaxis(x, -2, -3), kernel, pooling=pooling)
    return xp.moveaxis(y, -2, -3)


@mistake("pooled-tokens", "class-token-pooled")
def class_token_pooled(x, kernel=None, *, has_cls=False, **options):
    y = pooled_tokens(x, kernel, has_cls=has_cls, **options)
    if not has_cls:
        return y
    xp = namespace(y)
    return xp.concat([xp.mean(y, axis=-2, keepdims=True), y[..., 1:, :]], axis=-2)


@mistake("pooled-tokens", "class-token-not-normalised")
def class_token_not_normalised(x, kernel=None, *, has_cls=False, **options):
    y = pooled_tokens(x, kernel, has_cls=has_cls, **options)
    return namespace(y).concat([x[..., :1, :], y[..., 1:, :]], axis=-2) if has_cls else y


@mistake("pooled-tokens", "class-token-last")
def class_token_last(x, kernel=None, *, has_cls=False, **options):
    rolled = namespace(x).roll(x, 1, axis=-2) if has_cls else x
    return pooled_tokens(rolled, kernel, has_cls=has_cls, **options)


@mistake("pooled-tokens", "normalised-before-pooling")
def normalised_before_pooling(x, kernel=None, *, gamma=None, beta=None, eps=1e-6, **options):
    if gamma is not None:
        x = layer_norm(x, gamma, beta, eps=eps)
    return pooled_tokens(x, kernel, **options)


@mistake("pooled-tokens", "time-fastest")
def time_fastest(x, kernel=None, *, grid, has_cls=False, **options):
    xp = namespace(x)
    t, h, w = grid
    *batch, n, d = x.shape
    body = xp.reshape(x[..., n - t * h * w :, :], (*batch, h, w, t, d))
    body = xp.reshape(xp.moveaxis(body, -2, -4), (*batch, t * h * w, d))
    x = xp.concat([x[..., :1, :], body], axis=-2) if has_cls else body
    return pooled_tokens(x, kernel, grid=grid, has_cls=has_cls, **options)


@mistake("pooled-projection", "pooled-before-projected")
def pooled_before_projected(
    X, W, kernel=None, *, bias=None, gamma=None, beta=None, eps=1e-6, **options
):
    if kernel is not None:
        # A kernel of the head's width does not fit X; one kernel for all channels does.
        kernel = namespace(X, kernel).repeat(
            namespace(kernel).mean(kernel, axis=-1, keepdims=True), X.shape[-1], axis=-1
        )
    y = linear_embedding(pooled_tokens(X, kernel, **options), W, bias=bias)
    return y if gamma is None else layer_norm(y, gamma, beta, eps=eps)


@mistake("pooled-projection", "bias-after-pooling")
def bias_after_pooling(X, W, kernel=None, *, bias=None, gamma=None, beta=None, eps=1e-6, **options):
    y = pooled_projection(X, W, kernel, **options)
    y = y if bias is None else y + bias
    return y if gamma is None else layer_norm(y, gamma, beta, eps=eps)


@mistake("pooling-attention", "scale-of-the-model")
def pooling_scale_of_the_model(Q, K, V):
    # As it is with two heads: D = 2 d_h.
    return attention_weights(Q, K, scale=1.0 / math.sqrt(2 * K.shape[-1])) @ V


@mistake("pooling-attention", "no-scale")
def pooling_no_scale(Q, K, V):
    return attention_weights(Q, K, scale=1.0) @ V


@mistake("pooling-attention", "softmax-over-queries")
def pooling_softmax_over_queries(Q, K, V):
    scores = Q @ transposed(K) * (1.0 / math.sqrt(K.shape[-1]))
    return transposed(softmax(transposed(scores))) @ V


@mistake("multi-head-pooling-attention", "scale-of-the-model")
def scale_of_the_model(x, params, **options):
    W_q = params["W_q"]
    too_flat = math.sqrt(W_q.shape[-1] / (W_q.shape[0] * W_q.shape[-1]))
    scaled: Any = dict(params)
    # The scores are linear in what the queries are last multiplied by.
    if "norm_q" in params:
        scaled["norm_q"] = {name: too_flat * each for name, each in params["norm_q"].items()}
    else:
        scaled |= {name: too_flat * params[name] for name in ("W_q", "b_q") if name in params}
    return multi_head_pooling_attention(x, scaled, **options)


@mistake("multi-head-pooling-attention", "strides-swapped")
def strides_swapped(x, params, *, pool_q=UNPOOLED, pool_kv=UNPOOLED, **options):
    has_kernels = {"kernel_q", "kernel_k"} <= params.keys()
    if has_kernels or (pool_q.size and pool_kv.size):
        strides = pool_q.stride, pool_kv.stride
        pool_q, pool_kv = pool_q._replace(stride=strides[1]), pool_kv._replace(stride=strides[0])
    return multi_head_pooling_attention(x, params, pool_q=pool_q, pool_kv=pool_kv, **options)


@mistake("multi-head-pooling-attention", "norms-forgotten")
def norms_forgotten(x, params, **options):
    kept: Any = {name: each for name, each in params.items() if not name.startswith("norm_")}
    return multi_head_pooling_attention(x, kept, **options)


@mistake("multi-head-pooling-attention", "pooled-query-added")
def pooled_query_added(x, params, *, pool_q=UNPOOLED, pool_kv=UNPOOLED, **options):
    y, pooled = multi_head_pooling_attention(x, params, pool_q=pool_q, pool_kv=pool_kv, **options)
    Q = pooled_tokens(
        qkv_projection(x, params["W_q"], bias=params.get("b_q")),
        params.get("kernel_q"),
        pooling=pool_q,
        **params.get("norm_q", {}),
        **options,
    )
    # Widths of values and queries are the same in every published model.
    width = min(Q.shape[-1], params["W_c"].shape[-2])
    return y + output_projection(Q[..., :width], params["W_c"][:, :width, :]), pooled


def _window_of_residual(stride):
    return tuple(s + 1 if s > 1 else 1 for s in stride)


@mistake("pooled-residual", "averaged")
def averaged(x, *, grid, stride, has_cls=False):
    pooling = Pooling(stride, _window_of_residual(stride), mode="avg")
    return pooled_tokens(x, grid=grid, pooling=pooling, has_cls=has_cls)


@mistake("pooled-residual", "padded-with-zeros")
def padded_with_zeros(x, *, grid, stride, has_cls=False):
    xp = namespace(x)
    *batch, n, d = x.shape
    on_grid = xp.reshape(x[..., n - math.prod(grid) :, :], (*batch, *grid, d))
    pooling = Pooling(stride, _window_of_residual(stride), mode="max")
    y = maximum_over_zeros(on_grid, pooling=pooling)
    y = xp.reshape(y, (*batch, math.prod(y.shape[-4:-1]), d))
    return xp.concat([x[..., :1, :], y], axis=-2) if has_cls else y


@mistake("pooled-residual", "every-second-token")
def every_second_token(x, *, grid, stride, has_cls=False):
    """Take the first token of each stride instead of the maximum."""
    pooled = pooled_grid(grid, pooling=Pooling(stride, _window_of_residual(stride)))
    xp = namespace(x)
    *batch, n, d = x.shape
    y = xp.reshape(x[..., n - math.prod(grid) :, :], (*batch, *grid, d))
    for axis, (count, s) in enumerate(zip(pooled, stride, strict=True)):
        last = y.shape[axis - 4] - 1
        taken = xp.asarray([min(i * s, last) for i in range(count)])
        y = xp.take(y, taken, axis=axis - 4)
    y = xp.reshape(y, (*batch, math.prod(pooled), d))
    return xp.concat([x[..., :1, :], y], axis=-2) if has_cls else y


@mistake("widening-mlp", "shortcut-not-normalised")
def shortcut_not_normalised(y, params, *, eps, activation="gelu"):
    v = layer_norm(y, **params["norm_2"], eps=eps)
    z = widening_mlp(y, params, eps=eps, activation=activation)
    return z + (y - v) @ params["shortcut"]["W"]


@mistake("widening-mlp", "no-shortcut")
def no_shortcut(y, params, *, eps, activation="gelu"):
    zeros = {name: 0.0 * each for name, each in params["shortcut"].items()}
    without: Any = {**params, "shortcut": zeros}
    return widening_mlp(y, without, eps=eps, activation=activation)


@mistake("widening-mlp", "no-norm")
def no_norm(y, params, *, eps, activation="gelu"):
    # With an eps so large, and a gain that makes up for it, the norm changes next to nothing.
    gamma = 1e8 * namespace(y).ones_like(params["norm_2"]["gamma"])
    without: Any = {**params, "norm_2": {"gamma": gamma, "beta": 0.0 * gamma}}
    return widening_mlp(y, without, eps=1e16, activation=activation)


def _block(x, params, *, residual_of, eps=1e-6, activation="gelu", **options):
    """A block that takes its residual from elsewhere."""
    normalised = layer_norm(x, **params["norm_1"], eps=eps)
    update, pooled = multi_head_pooling_attention(
        normalised, params["attention"], eps=eps, **options
    )
    on_grid = {name: options[name] for name in ("grid", "has_cls") if name in options}
    stride = options.get("pool_q", UNPOOLED).stride
    y = residual_of(x, normalised, stride=stride, **on_grid) + update
    mlp = widening_mlp if "shortcut" in params else feed_forward_sublayer
    return mlp(y, params, eps=eps, activation=activation), pooled


@mistake("multiscale-block", "residual-normalised")
def residual_normalised(x, params, **options):
    def residual_of(_, normalised, **on_grid):
        return pooled_residual(normalised, **on_grid)

    return _block(x, params, residual_of=residual_of, **options)


@mistake("multiscale-block", "residual-averaged")
def residual_averaged(x, params, **options):
    def residual_of(x, _, **on_grid):
        return averaged(x, **on_grid)

    return _block(x, params, residual_of=residual_of, **options)


@mistake("multiscale-block", "no-residual")
def no_residual(x, params, **options):
    def residual_of(x, _, **on_grid):
        return 0.0 * pooled_residual(x, **on_grid)

    return _block(x, params, residual_of=residual_of, **options)


@mistake("multiscale-block", "eps-of-torch")
def eps_of_torch(x, params, *, eps=1e-6, **options):
    def residual_of(x, _, **on_grid):
        return pooled_residual(x, **on_grid)

    return _block(x, params, residual_of=residual_of, eps=1e-5, **options)


def _divided(stride_kv, strides_q, divide):
    chosen, each = [], stride_kv
    for stride_q in strides_q:
        each = tuple(divide(a, b) for a, b in zip(each, stride_q, strict=True))
        chosen.append(each)
    return tuple(chosen)


@mistake("adaptive-strides", "one-block-late")
def one_block_late(stride_kv, strides_q):
    shifted = [ONE, *strides_q][: len(strides_q)]
    return _divided(stride_kv, shifted, lambda a, b: max(1, a // b))


@mistake("adaptive-strides", "down-to-zero")
def down_to_zero(stride_kv, strides_q):
    return _divided(stride_kv, strides_q, lambda a, b: a // b)


@mistake("adaptive-strides", "never-divided")
def never_divided(stride_kv, strides_q):
    return _divided(stride_kv, strides_q, lambda a, _: a)


@mistake("adaptive-strides", "rounded-up")
def strides_rounded_up(stride_kv, strides_q):
    return _divided(stride_kv, strides_q, lambda a, b: -(-a // b))
