"""The usual mistakes of the pages in spec/mvit/."""

import math

from vtnp._array.xp import namespace, transposed
from vtnp.encoder import (
    attention_weights,
    feed_forward_sublayer,
    layer_norm,
    output_projection,
    softmax,
)
from vtnp.mistakes._registry import mistake
from vtnp.mvit import (
    _half,
    _of_heads,
    multi_head_pooling_attention,
    pool,
    pooled_grid,
    pooled_projection,
    pooled_residual,
    pooled_tokens,
    widening_mlp,
)
from vtnp.tokens import linear_embedding

ONE = (1, 1, 1)


@mistake("pooled-grid", "rounded-up")
def rounded_up(grid, *, size, stride, padding=None):
    edges = _half(size) if padding is None else padding
    axes = zip(grid, size, stride, edges, strict=True)
    return tuple(-(-(n + 2 * p - k) // s) + 1 for n, k, s, p in axes)


@mistake("pooled-grid", "padded-on-one-side")
def padded_on_one_side(grid, *, size, stride, padding=None):
    edges = _half(size) if padding is None else padding
    axes = zip(grid, size, stride, edges, strict=True)
    return tuple((n + p - k) // s + 1 for n, k, s, p in axes)


@mistake("pooled-grid", "last-place-forgotten")
def last_place_forgotten(grid, *, size, stride, padding=None):
    made = pooled_grid(grid, size=size, stride=stride, padding=padding)
    return tuple(n - 1 for n in made)


def _padding(kernel, size, padding):
    return _half(size if kernel is None else kernel.shape[:3]) if padding is None else padding


def _with_zeros_around(x, padding):
    xp = namespace(x)
    for axis, edge in zip((-4, -3, -2), padding, strict=True):
        if edge:
            shape = (*x.shape[:axis], edge, *x.shape[axis + 1 :])
            blank = xp.zeros(shape, dtype=x.dtype)
            x = xp.concat([blank, x, blank], axis=axis)
    return x


@mistake("pool", "maximum-over-zeros")
def maximum_over_zeros(x, kernel=None, *, size=None, stride=ONE, padding=None, mode="conv"):
    padded = _with_zeros_around(x, _padding(kernel, size, padding))
    return pool(padded, kernel, size=size, stride=stride, padding=(0, 0, 0), mode=mode)


@mistake("pool", "kernel-flipped")
def kernel_flipped(x, kernel=None, *, size=None, stride=ONE, padding=None, mode="conv"):
    if kernel is not None:
        kernel = namespace(kernel).flip(kernel, axis=(0, 1, 2))
    return pool(x, kernel, size=size, stride=stride, padding=padding, mode=mode)


@mistake("pool", "average-of-the-inside")
def average_of_the_inside(x, kernel=None, *, size=None, stride=ONE, padding=None, mode="conv"):
    options = {"size": size, "stride": stride, "padding": padding, "mode": mode}
    y = pool(x, kernel, **options)
    return y / pool(namespace(x).ones_like(x), **options) if mode == "avg" else y


@mistake("pool", "one-kernel-for-all-channels")
def one_kernel_for_all_channels(
    x, kernel=None, *, size=None, stride=ONE, padding=None, mode="conv"
):
    if kernel is not None:
        kernel = 0.0 * kernel + kernel[..., :1]
    return pool(x, kernel, size=size, stride=stride, padding=padding, mode=mode)


@mistake("pool", "channels-mixed")
def channels_mixed(x, kernel=None, *, size=None, stride=ONE, padding=None, mode="conv"):
    y = pool(x, kernel, size=size, stride=stride, padding=padding, mode=mode)
    return 0.0 * y + namespace(y).sum(y, axis=-1, keepdims=True) if mode == "conv" else y


@mistake("pool", "height-and-width-swapped")
def height_and_width_swapped(x, kernel=None, *, size=None, stride=ONE, padding=None, mode="conv"):
    xp = namespace(x)
    y = pool(xp.moveaxis(x, -2, -3), kernel, size=size, stride=stride, padding=padding, mode=mode)
    return xp.moveaxis(y, -2, -3)


@mistake("pooled-tokens", "class-token-pooled")
def class_token_pooled(x, kernel=None, *, cls=False, **options):
    y = pooled_tokens(x, kernel, cls=cls, **options)
    if not cls:
        return y
    xp = namespace(y)
    return xp.concat([xp.mean(y, axis=-2, keepdims=True), y[..., 1:, :]], axis=-2)


@mistake("pooled-tokens", "class-token-not-normalised")
def class_token_not_normalised(x, kernel=None, *, cls=False, **options):
    y = pooled_tokens(x, kernel, cls=cls, **options)
    return namespace(y).concat([x[..., :1, :], y[..., 1:, :]], axis=-2) if cls else y


@mistake("pooled-tokens", "class-token-last")
def class_token_last(x, kernel=None, *, cls=False, **options):
    return pooled_tokens(namespace(x).roll(x, 1, axis=-2) if cls else x, kernel, cls=cls, **options)


@mistake("pooled-tokens", "normalised-before-pooling")
def normalised_before_pooling(
    x, kernel=None, *, gamma=None, beta=None, eps=1e-6, grid, cls=False, **options
):
    if gamma is not None:
        x = layer_norm(x, gamma, beta, eps=eps)
    return pooled_tokens(x, kernel, grid=grid, cls=cls, **options)


@mistake("pooled-tokens", "time-fastest")
def time_fastest(x, kernel=None, *, grid, cls=False, **options):
    xp = namespace(x)
    t, h, w = grid
    *batch, n, d = x.shape
    body = xp.reshape(x[..., n - t * h * w :, :], (*batch, h, w, t, d))
    body = xp.reshape(xp.moveaxis(body, -2, -4), (*batch, t * h * w, d))
    x = xp.concat([x[..., :1, :], body], axis=-2) if cls else body
    return pooled_tokens(x, kernel, grid=grid, cls=cls, **options)


@mistake("pooled-projection", "pooled-before-projected")
def pooled_before_projected(X, W, kernel=None, *, bias=None, gamma=None, beta=None, **options):
    if kernel is not None:
        # A kernel of the head's width does not fit X; one kernel for all channels does.
        kernel = namespace(X, kernel).repeat(
            namespace(kernel).mean(kernel, axis=-1, keepdims=True), X.shape[-1], axis=-1
        )
    eps = options.pop("eps", 1e-6)
    y = linear_embedding(pooled_tokens(X, kernel, **options), W, bias=bias)
    return y if gamma is None else layer_norm(y, gamma, beta, eps=eps)


@mistake("pooled-projection", "bias-after-pooling")
def bias_after_pooling(X, W, kernel=None, *, bias=None, gamma=None, beta=None, **options):
    eps = options.pop("eps", 1e-6)
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
    scaled = dict(params)
    # The scores are linear in what the queries are last multiplied by.
    if "norm_q" in params:
        scaled["norm_q"] = {name: too_flat * each for name, each in params["norm_q"].items()}
    else:
        scaled |= {name: too_flat * params[name] for name in ("W_q", "b_q") if name in params}
    return multi_head_pooling_attention(x, scaled, **options)


@mistake("multi-head-pooling-attention", "strides-swapped")
def strides_swapped(x, params, *, stride_q=ONE, stride_kv=ONE, **options):
    letters = {"q", "k"} <= {name[-1] for name in params if name.startswith("kernel_")}
    both = letters or (options.get("size_q") and options.get("size_kv"))
    if both:
        stride_q, stride_kv = stride_kv, stride_q
    return multi_head_pooling_attention(
        x, params, stride_q=stride_q, stride_kv=stride_kv, **options
    )


@mistake("multi-head-pooling-attention", "norms-forgotten")
def norms_forgotten(x, params, **options):
    kept = {name: each for name, each in params.items() if not name.startswith("norm_")}
    return multi_head_pooling_attention(x, kept, **options)


@mistake("multi-head-pooling-attention", "pooled-query-added")
def pooled_query_added(
    x, params, *, grid, stride_q=ONE, size_q=None, mode="conv", cls=False, eps=1e-6, **options
):
    y, shrunk = multi_head_pooling_attention(
        x,
        params,
        grid=grid,
        stride_q=stride_q,
        size_q=size_q,
        mode=mode,
        cls=cls,
        eps=eps,
        **options,
    )
    Q = _of_heads("q", x, params, grid, size_q, stride_q, mode, eps, cls=cls)
    # Widths of values and queries are the same in every published model.
    width = min(Q.shape[-1], params["W_c"].shape[-2])
    return y + output_projection(Q[..., :width], params["W_c"][:, :width, :]), shrunk


def _of_skip(stride):
    t, h, w = (s + 1 if s > 1 else 1 for s in stride)
    return t, h, w


@mistake("pooled-residual", "average-skip")
def average_skip(x, *, grid, stride, cls=False):
    size = _of_skip(stride)
    return pooled_tokens(x, grid=grid, size=size, stride=stride, mode="avg", cls=cls)


@mistake("pooled-residual", "padded-with-zeros")
def padded_with_zeros(x, *, grid, stride, cls=False):
    xp = namespace(x)
    *batch, n, d = x.shape
    on_grid = xp.reshape(x[..., n - math.prod(grid) :, :], (*batch, *grid, d))
    size = _of_skip(stride)
    y = maximum_over_zeros(on_grid, size=size, stride=stride, mode="max")
    y = xp.reshape(y, (*batch, math.prod(y.shape[-4:-1]), d))
    return xp.concat([x[..., :1, :], y], axis=-2) if cls else y


@mistake("pooled-residual", "every-second-token")
def every_second_token(x, *, grid, stride, cls=False):
    """Read the first token of each step instead of the largest numbers."""
    size = _of_skip(stride)
    shape = pooled_grid(grid, size=size, stride=stride)
    xp = namespace(x)
    *batch, n, d = x.shape
    y = xp.reshape(x[..., n - math.prod(grid) :, :], (*batch, *grid, d))
    for axis, (made, s) in enumerate(zip(shape, stride, strict=True)):
        last = y.shape[axis - 4] - 1
        taken = xp.asarray([min(place * s, last) for place in range(made)])
        y = xp.take(y, taken, axis=axis - 4)
    y = xp.reshape(y, (*batch, math.prod(shape), d))
    return xp.concat([x[..., :1, :], y], axis=-2) if cls else y


@mistake("widening-mlp", "skip-not-normalised")
def skip_not_normalised(y, params, *, eps, activation="gelu"):
    v = layer_norm(y, **params["norm_2"], eps=eps)
    z = widening_mlp(y, params, eps=eps, activation=activation)
    return z + (y - v) @ params["shortcut"]["W"]


@mistake("widening-mlp", "no-skip")
def no_skip(y, params, *, eps, activation="gelu"):
    silent = {name: 0.0 * each for name, each in params["shortcut"].items()}
    return widening_mlp(y, {**params, "shortcut": silent}, eps=eps, activation=activation)


@mistake("widening-mlp", "no-norm")
def no_norm(y, params, *, eps, activation="gelu"):
    network, skip = params["feed_forward"], params["shortcut"]
    # Normalised so weakly that next to nothing happens.
    gamma = 1e8 * namespace(y).ones_like(params["norm_2"]["gamma"])
    flat = {"gamma": gamma, "beta": 0.0 * gamma}
    weak = {"norm_2": flat, "feed_forward": network, "shortcut": skip}
    return widening_mlp(y, weak, eps=1e16, activation=activation)


def _block(x, params, *, skip_of, cls=False, eps=1e-6, activation="gelu", **options):
    """A block that makes its skip in another way."""
    normalised = layer_norm(x, **params["norm_1"], eps=eps)
    update, shrunk = multi_head_pooling_attention(
        normalised, params["attention"], cls=cls, eps=eps, **options
    )
    stride, grid = options.get("stride_q", ONE), options["grid"]
    skip = skip_of(x, normalised, grid=grid, stride=stride, cls=cls)
    step = widening_mlp if "shortcut" in params else feed_forward_sublayer
    return step(skip + update, params, eps=eps, activation=activation), shrunk


@mistake("multiscale-block", "skip-normalised")
def skip_normalised(x, params, **options):
    def skip_of(_, normalised, **where):
        return pooled_residual(normalised, **where)

    return _block(x, params, skip_of=skip_of, **options)


@mistake("multiscale-block", "skip-averaged")
def skip_averaged(x, params, **options):
    def skip_of(x, _, **where):
        return average_skip(x, **where)

    return _block(x, params, skip_of=skip_of, **options)


@mistake("multiscale-block", "no-skip")
def block_no_skip(x, params, **options):
    def skip_of(x, _, **where):
        return 0.0 * pooled_residual(x, **where)

    return _block(x, params, skip_of=skip_of, **options)


@mistake("multiscale-block", "eps-of-torch")
def eps_of_torch(x, params, *, eps=1e-6, **options):
    def skip_of(x, _, **where):
        return pooled_residual(x, **where)

    return _block(x, params, skip_of=skip_of, eps=1e-5, **options)


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


@mistake("adaptive-strides", "down-to-nothing")
def down_to_nothing(stride_kv, strides_q):
    return _divided(stride_kv, strides_q, lambda a, b: a // b)


@mistake("adaptive-strides", "never-divided")
def never_divided(stride_kv, strides_q):
    return _divided(stride_kv, strides_q, lambda a, _: a)


@mistake("adaptive-strides", "rounded-up")
def strides_rounded_up(stride_kv, strides_q):
    return _divided(stride_kv, strides_q, lambda a, b: -(-a // b))
