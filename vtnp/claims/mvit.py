"""Laws and special cases of spec/mvit/."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
from autograd import elementwise_grad

from vtnp import encoder, mvit, tokens
from vtnp.claims._registry import law, special
from vtnp.claims.common import passed_on
from vtnp.claims.compare import assert_at_most, assert_close, refused
from vtnp.claims.errors import needs
from vtnp.mvit import Pooling
from vtnp.tokens import Grid

ONE, CUBE = (1, 1, 1), (3, 3, 3)
UNPOOLED = Pooling()


def delta(d, size=CUBE):
    """Return a kernel that is 1 at its centre and 0 elsewhere."""
    kernel = np.zeros((*size, d))
    kernel[tuple(k // 2 for k in size)] = 1.0
    return kernel


def drawn(case, *shape):
    return case.numbers(shape)


def ones_and_zeros(d):
    """Return the gain and offset of a norm that only normalises."""
    return {"gamma": np.ones(d), "beta": np.zeros(d)}


# --- The pooled grid ------------------------------------------------------------------------------


@law("pooled-grid", "last-window-fits")
def grid_last_window_fits(case):
    stride, size, padding, _ = case["pooling"]
    padding = padding or tuple(k // 2 for k in size)
    axes = zip(case["grid"], case(), size, stride, padding, strict=True)
    for n, count, k, s, p in axes:
        assert (count - 1) * s + k <= n + 2 * p < count * s + k


@law("pooled-grid", "odd-windows-round-up")
def grid_odd_windows_round_up(case):
    stride = case["pooling"].stride
    for size in ((3, 3, 3), (1, 3, 5)):
        grid = Grid(*(n + 2 for n in case["grid"]))
        pooled = case(grid=grid, pooling=Pooling(stride, size))
        assert pooled == tuple(-(-n // s) for n, s in zip(grid, stride, strict=True))


@law("pooled-grid", "whole-patches")
def grid_whole_patches(case):
    stride = case["pooling"].stride
    grid = Grid(*(n * s for n, s in zip(case["grid"], stride, strict=True)))
    assert case(grid=grid, pooling=Pooling(stride, stride, (0, 0, 0))) == case["grid"]


@special("pooled-grid", "one-window")
def grid_one_window(case):
    pooling = case["pooling"]._replace(size=tuple(case["grid"]), padding=(0, 0, 0))
    assert case(pooling=pooling) == ONE


@special("pooled-grid", "no-window")
def grid_no_window(case):
    assert case(pooling=UNPOOLED) == case["grid"]


# --- Pooling a grid -------------------------------------------------------------------------------


@law("pool", "on-the-pooled-grid")
def pool_on_the_pooled_grid(case):
    kernel, pooling = case.args.get("kernel"), case["pooling"]
    sized = pooling if kernel is None else pooling._replace(size=kernel.shape[:3])
    grid = Grid(*case["x"].shape[-4:-1])
    assert case().shape[-4:-1] == mvit.pooled_grid(grid, pooling=sized)


@law("pool", "average-is-a-constant-kernel")
def pool_average_is_a_constant_kernel(case):
    kernel = np.full((2, 3, 1, case["x"].shape[-1]), 1 / 6)
    average = case(kernel=None, pooling=Pooling((1, 2, 1), (2, 3, 1), mode="avg"))
    assert_close(average, case(kernel=kernel, pooling=Pooling((1, 2, 1))))


@law("pool", "linear")
def pool_linear(case):
    if case["pooling"].mode != "max":
        other = case.numbers(case["x"].shape)
        assert_close(case(x=2.0 * case["x"] - other), 2.0 * case() - case(x=other))


@law("pool", "maximum-keeps-order")
def pool_maximum_keeps_order(case):
    stride = case["pooling"].stride
    maxima = {"kernel": None, "pooling": Pooling(stride, (2, 3, 2), mode="max")}
    after, before = case.rounded(np.exp(case(**maxima))), case.rounded(np.exp(case["x"]))
    assert np.array_equal(after, case(x=before, **maxima))


@law("pool", "maximum-at-least-the-centre")
def pool_maximum_at_least_the_centre(case):
    window = Pooling((1, 2, 2), (1, 3, 3), mode="max")
    assert np.all(case(kernel=None, pooling=window) >= case["x"][..., ::2, ::2, :])
    inside = window._replace(padding=(0, 0, 0))
    average = case(kernel=None, pooling=inside._replace(mode="avg"))
    assert np.all(average <= case(kernel=None, pooling=inside))


@law("pool", "channels-apart")
def pool_channels_apart(case):
    order = case.rng.permutation(case["x"].shape[-1])
    kernel = case.args.get("kernel")
    kernel = None if kernel is None else kernel[..., order]
    assert_close(case(x=case["x"][..., order], kernel=kernel), case()[..., order], within=1e-14)


@law("pool", "shift-by-a-stride")
def pool_shift_by_a_stride(case):
    x = np.concatenate([case["x"], case["x"][..., ::-1, :, :, :]], axis=-4)
    pooling = case["pooling"]._replace(stride=(2, 1, 1), padding=(0, 0, 0))
    whole = case(x=x, pooling=pooling)
    shifted = case(x=x[..., 2:, :, :, :], pooling=pooling)
    assert_close(shifted, whole[..., 1:, :, :, :], within=1e-14)


@law("pool", "flip-odd-width")
def pool_flip_odd_width(case):
    x = case["x"]
    if x.shape[-2] % 2:
        for mode in ("max", "avg"):
            window = {"kernel": None, "pooling": Pooling((1, 1, 2), (1, 1, 3), mode=mode)}
            assert_close(case(x=x[..., ::-1, :], **window), case(**window)[..., ::-1, :])


@special("pool", "single-cells")
def pool_single_cells(case):
    for mode in ("max", "avg"):
        pooled = case(kernel=None, pooling=Pooling(size=ONE, mode=mode))
        assert np.array_equal(pooled, case["x"])


@special("pool", "delta-kernel")
def pool_delta_kernel(case):
    kernel = delta(case["x"].shape[-1])
    assert np.array_equal(case(kernel=kernel, pooling=Pooling()), case["x"])


@special("pool", "all-negative")
def pool_all_negative(case):
    negative = -1.0 - np.abs(case["x"])
    pooled = case(x=negative, kernel=None, pooling=Pooling(size=CUBE, mode="max"))
    assert np.all(pooled <= -1.0)


@special("pool", "border-of-an-average")
def pool_border_of_an_average(case):
    window = Pooling(size=(1, 1, 3), mode="avg")
    pooled = case(x=np.ones_like(case["x"]), kernel=None, pooling=window)
    assert_close(pooled[..., 0, :], np.full_like(pooled[..., 0, :], 2 / 3))


@special("pool", "ties-share", differentiates=True)
def pool_ties_share(case):
    window = Pooling((1, 1, 2), (1, 1, 2), (0, 0, 0), "max")
    gradient = elementwise_grad(lambda x: case.function(x=x, pooling=window))
    assert np.array_equal(gradient(np.ones((1, 1, 4, 2))), np.full((1, 1, 4, 2), 0.5))


# --- Pooling a sequence ---------------------------------------------------------------------------


def gridded(x, grid):
    return x.reshape((*x.shape[:-2], *grid, x.shape[-1]))


def pooling_of(case):
    return case.args.get("pooling", UNPOOLED)


@law("pooled-tokens", "pools-the-grid")
def tokens_pools_the_grid(case):
    kernel, pooling = case.args.get("kernel"), pooling_of(case)
    if kernel is None and pooling.size is None:
        return
    body = case["x"][..., case["has_cls"] :, :]
    pooled = mvit.pool(gridded(body, case["grid"]), kernel, pooling=pooling)
    pooled = pooled.reshape((*pooled.shape[:-4], -1, pooled.shape[-1]))
    y = case(gamma=None, beta=None)[..., case["has_cls"] :, :]
    assert_close(y, pooled)


@law("pooled-tokens", "class-token-passes-by")
def tokens_class_token_passes_by(case):
    """Neither part depends on the other, and the class token is normalised all the same."""
    d = case["x"].shape[-1]
    body = case["x"][..., case["has_cls"] :, :]
    row = drawn(case, *body.shape[:-2], 1, d)
    with_row = case(x=np.concatenate([row, body], axis=-2), has_cls=True)
    assert_close(with_row[..., 1:, :], case(x=body, has_cls=False))
    normed = case.args.get("gamma") is not None
    norm = {name: case[name] for name in ("gamma", "beta", "eps")}
    expected = encoder.layer_norm(row, **norm) if normed else row
    assert_close(with_row[..., :1, :], expected)


@law("pooled-tokens", "rows-normalised")
def tokens_rows_normalised(case):
    y = case(x=100.0 * case["x"], **ones_and_zeros(case["x"].shape[-1]))
    assert_close(np.mean(y, axis=-1), np.zeros(y.shape[:-1]))
    assert_at_most(np.var(y, axis=-1), 1.0)


@special("pooled-tokens", "no-window")
def tokens_no_window(case):
    plain = {"kernel": None, "pooling": UNPOOLED, "gamma": None, "beta": None}
    assert np.array_equal(case(**plain), case["x"])


# --- Eq. (10) -------------------------------------------------------------------------------------


BARE = {"kernel": None, "bias": None, "gamma": None, "beta": None}


@law("pooled-projection", "averages-commute")
def projection_averages_commute(case):
    """Without a bias, the average may be taken first."""
    X, W = case["X"], case["W"]
    window: dict[str, Any] = {"pooling": Pooling((1, 2, 1), (2, 3, 1), mode="avg")}
    pooled = mvit.pooled_tokens(X, grid=case["grid"], has_cls=case["has_cls"], **window)
    assert_close(case(**BARE, **window), pooled @ W)


@law("pooled-projection", "shared-kernels-commute")
def projection_shared_kernels_commute(case):
    X, W = case["X"], case["W"]
    weights = drawn(case, 3, 1, 3, 1)
    narrow, wide = (np.repeat(weights, d, axis=-1) for d in W.shape)
    window: dict[str, Any] = {"pooling": Pooling((2, 1, 1))}
    pooled = mvit.pooled_tokens(X, narrow, grid=case["grid"], has_cls=case["has_cls"], **window)
    assert_close(case(**{**BARE, "kernel": wide}, **window), pooled @ W)


@law("pooled-projection", "projects-first")
def projection_projects_first(case):
    others = {name: each for name, each in case.args.items() if name not in {"X", "W", "bias"}}
    projected = tokens.linear_embedding(case["X"], case["W"], bias=case.args.get("bias"))
    assert_close(case(), mvit.pooled_tokens(projected, **others))


@special("pooled-projection", "no-window")
def projection_no_window(case):
    assert_close(case(**BARE, pooling=UNPOOLED), case["X"] @ case["W"])


@special("pooled-projection", "delta-kernel")
def projection_delta_kernel(case):
    kernel = delta(case["W"].shape[-1])
    assert_close(case(**{**BARE, "kernel": kernel}, pooling=UNPOOLED), case["X"] @ case["W"])


# --- Eq. (11) -------------------------------------------------------------------------------------


@law("pooling-attention", "rows-convex")
def attention_rows_convex(case):
    y, V = case(), case["V"]
    assert_at_most(np.min(V, axis=-2, keepdims=True), y)
    assert_at_most(y, np.max(V, axis=-2, keepdims=True))
    assert_close(case(V=np.ones_like(V)), np.ones_like(y))


@law("pooling-attention", "shift-keys")
def attention_shift_keys(case):
    assert_close(case(K=case["K"] + drawn(case, case["K"].shape[-1])), case())


@law("pooling-attention", "permute-keys")
def attention_permute_keys(case):
    order = case.rng.permutation(case["K"].shape[-2])
    assert_close(case(K=case["K"][..., order, :], V=case["V"][..., order, :]), case())


@law("pooling-attention", "width-of-a-head")
def attention_width_of_a_head(case):
    """Channels of which the queries have nothing count in the scale, and nowhere else."""
    Q, K = case["Q"], case["K"]
    wider = [np.concatenate([x, 0.0 * x, 0.0 * x, 0.0 * x], axis=-1) for x in (Q, K)]
    assert_close(case(Q=2.0 * wider[0], K=wider[1]), case())
    scores = Q @ np.swapaxes(K, -1, -2) / math.sqrt(K.shape[-1])
    assert_close(case(), encoder.softmax(scores) @ case["V"])


@special("pooling-attention", "single-key")
def attention_single_key(case):
    y = case(K=case["K"][..., :1, :], V=case["V"][..., :1, :])
    assert np.array_equal(y, np.broadcast_to(case["V"][..., :1, :], y.shape))


@special("pooling-attention", "huge-logits")
def attention_huge_logits(case):
    needs(case.dtype != "float16", "scores of 1e5")
    assert np.all(np.isfinite(case(Q=1e4 * case["Q"])))


# --- Heads ----------------------------------------------------------------------------------------


PLAIN: Any = {"pool_q": UNPOOLED, "pool_kv": UNPOOLED}
CELLS: Any = dict.fromkeys(PLAIN, Pooling(size=ONE, mode="max"))


def projections(params):
    return {name: each for name, each in params.items() if name[:2] in {"W_", "b_"}}


@law("multi-head-pooling-attention", "delta-kernels-are-plain")
def heads_delta_kernels_are_plain(case):
    params = projections(case["params"])
    kernels = {f"kernel_{c}": delta(params[f"W_{c}"].shape[-1]) for c in "qkv"}
    expected = encoder.multi_head_self_attention(case["x"], **params)
    y, grid = case(params=params | kernels, **PLAIN)
    assert grid == case["grid"]
    assert_close(y, expected)
    y, _ = case(params=params, **CELLS)
    assert_close(y, expected)


@law("multi-head-pooling-attention", "sum-of-heads")
def heads_sum_of_heads(case):
    params = {name: each for name, each in case["params"].items() if name != "b_c"}
    total = 0.0
    for head in range(params["W_q"].shape[0]):
        one = slice(head, head + 1)
        alone = {k: v[one] if k[:2] in {"W_", "b_"} else v for k, v in params.items()}
        total = total + case(params=alone)[0]
    assert_close(case(params=params)[0], total)


@law("multi-head-pooling-attention", "permute-heads")
def heads_permute_heads(case):
    def turned(name, each):
        return each[::-1] if name[:2] in {"W_", "b_"} and name != "b_c" else each

    params = {name: turned(name, each) for name, each in case["params"].items()}
    assert_close(case(params=params)[0], case()[0])


@law("multi-head-pooling-attention", "queries-set-the-grid")
def heads_queries_set_the_grid(case):
    y, grid = case()
    assert y.shape[-2] == case["has_cls"] + math.prod(grid)
    params = {k: v for k, v in case["params"].items() if k not in {"kernel_k", "kernel_v"}}
    unpooled, same = case(params=params, pool_kv=UNPOOLED)
    assert same == grid
    assert unpooled.shape == y.shape


@law("multi-head-pooling-attention", "offset-of-the-keys")
def heads_offset_of_the_keys(case):
    """The offset of the keys' norm adds one vector to all keys, which changes nothing."""
    d_h = case["params"]["W_k"].shape[-1]
    norm = case["params"].get("norm_k", ones_and_zeros(d_h))
    moved = {"gamma": norm["gamma"], "beta": norm["beta"] + drawn(case, d_h)}
    before, _ = case(params=case["params"] | {"norm_k": norm})
    after, _ = case(params=case["params"] | {"norm_k": moved})
    assert_close(after, before, within=1e-11)


@law("multi-head-pooling-attention", "frames-without-order")
def heads_frames_without_order(case):
    """With windows of one frame, attention cannot tell the order of the frames."""
    x, cls, (t, h, w) = case["x"], int(case["has_cls"]), case["grid"]
    params = projections(case["params"]) | {
        f"kernel_{c}": drawn(case, 1, 3, 3, case["params"][f"W_{c}"].shape[-1]) for c in "qkv"
    }
    poolings = {"pool_q": Pooling((1, 2, 2)), "pool_kv": Pooling((1, 1, 2))}
    options = {**poolings, "params": params}
    order = case.rng.permutation(t)

    def shuffled(rows, shape):
        frames = rows[..., cls:, :].reshape((*rows.shape[:-2], *shape, rows.shape[-1]))
        frames = np.take(frames, order, axis=-4).reshape(rows[..., cls:, :].shape)
        return np.concatenate([rows[..., :cls, :], frames], axis=-2)

    y, grid = case(**options)
    moved, _ = case(**options, x=shuffled(x, (t, h, w)))
    assert_close(moved, shuffled(y, grid), within=1e-11)


@special("multi-head-pooling-attention", "one-head")
def heads_one_head(case):
    """One head is eq. (10) three times, then eq. (11)."""
    params = {k: v[:1] if k[:2] in {"W_", "b_"} and k != "b_c" else v
              for k, v in case["params"].items()}  # fmt: skip
    pooled = []
    for letter, which in (("q", "q"), ("k", "kv"), ("v", "kv")):
        bias = params.get(f"b_{letter}")
        pooled.append(
            mvit.pooled_projection(
                case["x"],
                params[f"W_{letter}"][0],
                params.get(f"kernel_{letter}"),
                bias=None if bias is None else bias[0],
                **params.get(f"norm_{letter}", {}),
                pooling=case.args.get(f"pool_{which}", UNPOOLED),
                **{name: case[name] for name in ("grid", "has_cls", "eps")},
            )
        )
    expected = mvit.pooling_attention(*pooled) @ params["W_c"][0] + params.get("b_c", 0.0)
    assert_close(case(params=params)[0], expected)


# --- The residual ---------------------------------------------------------------------------------


@law("pooled-residual", "at-least-the-first-of-each-stride")
def residual_at_least_the_first_of_each_stride(case):
    x, stride, has_cls = case["x"], case["stride"], case["has_cls"]
    size: Any = tuple(s + 1 if s > 1 else 1 for s in stride)
    pooled = mvit.pooled_grid(case["grid"], pooling=Pooling(stride, size))
    y = gridded(case()[..., has_cls:, :], pooled)
    strides = tuple(slice(None, None, s) for s in stride)
    first = gridded(x[..., has_cls:, :], case["grid"])[(..., *strides, slice(None))]
    inside = tuple(slice(0, n) for n in first.shape[-4:-1])
    assert np.all(y[(..., *inside, slice(None))] >= first)
    assert np.all(np.isin(y, x)), "a maximum is one of the numbers"


@law("pooled-residual", "class-token-passes-by")
def residual_class_token_passes_by(case):
    x = case["x"][..., case["has_cls"] :, :]
    row = drawn(case, *x.shape[:-2], 1, x.shape[-1])
    y = case(x=np.concatenate([row, x], axis=-2), has_cls=True)
    assert np.array_equal(y[..., :1, :], row)
    assert np.array_equal(y[..., 1:, :], case(x=x, has_cls=False))


@law("pooled-residual", "keeps-order")
def residual_keeps_order(case):
    before, after = case.rounded(np.exp(case["x"])), case.rounded(np.exp(case()))
    assert np.array_equal(case(x=before), after)


@special("pooled-residual", "stride-one")
def residual_stride_one(case):
    assert np.array_equal(case(stride=ONE), case["x"])


@special("pooled-residual", "all-negative")
def residual_all_negative(case):
    assert np.all(case(x=-1.0 - np.abs(case["x"])) <= -1.0)


# --- Widening -------------------------------------------------------------------------------------


@law("widening-mlp", "blind-to-level-and-scale")
def widening_blind_to_level_and_scale(case):
    """Only the normalised token matters, where eps is negligible compared to its variance."""
    needs(case.dtype != "float16", "digits beside a level of 7")
    y, eps = 100.0 * case["y"], 1e-6
    needs(np.all(np.var(y, axis=-1) > 1e8 * eps), "a variance far beyond eps")
    assert_close(case(y=3.0 * y + 7.0, eps=eps), case(y=y, eps=eps), within=1e-7)


@law("widening-mlp", "token-by-token")
def widening_token_by_token(case):
    order = case.rng.permutation(case["y"].shape[-2])
    assert_close(case(y=case["y"][..., order, :]), case()[..., order, :])


@law("widening-mlp", "two-maps-added")
def widening_two_maps_added(case):
    zero = {**case["params"], "shortcut": {"W": 0.0 * case["params"]["shortcut"]["W"]}}
    alone = case(params=zero)
    v = encoder.layer_norm(case["y"], **case["params"]["norm_2"], eps=case["eps"])
    shortcut = case["params"]["shortcut"]
    assert_close(case() - alone, v @ shortcut["W"] + shortcut.get("b", 0.0))


@special("widening-mlp", "zero-network")
def widening_zero_network(case):
    params = case["params"]
    network = {name: 0.0 * each for name, each in params["feed_forward"].items()}
    v = encoder.layer_norm(case["y"], **params["norm_2"], eps=case["eps"])
    expected = v @ params["shortcut"]["W"] + params["shortcut"].get("b", 0.0)
    assert_close(case(params={**params, "feed_forward": network}), expected)


# --- The block ------------------------------------------------------------------------------------


def bare(params):
    """Return a block's params without pooling and without widening."""
    d, d_f = params["feed_forward"]["W_1"].shape
    network = {"W_1": params["feed_forward"]["W_1"], "W_2": np.ones((d_f, d)) / d_f}
    return {
        "norm_1": params["norm_1"],
        "attention": projections(params["attention"]),
        "norm_2": params["norm_2"],
        "feed_forward": network,
    }


@law("multiscale-block", "without-pooling-a-pre-norm-layer")
def block_without_pooling_a_pre_norm_layer(case):
    params: Any = bare(case["params"])
    y, grid = case(params=params, **PLAIN)
    assert grid == case["grid"]
    assert_close(y, encoder.pre_norm_layer(case["x"], params, **passed_on(case)))


@law("multiscale-block", "zero-sublayers-leave-the-residual")
def block_zero_sublayers_leave_the_residual(case):
    """Where attention and network give 0, only the pooled residual is left."""
    params = {**case["params"], "attention": {**case["params"]["attention"]}}
    for name in ("W_c", "b_c"):
        if name in params["attention"]:
            params["attention"][name] = 0.0 * params["attention"][name]
    d, d_f = params["feed_forward"]["W_1"].shape
    params["feed_forward"] = {"W_1": np.ones((d, d_f)), "W_2": np.zeros((d_f, d))}
    params.pop("shortcut", None)
    residual = mvit.pooled_residual(
        case["x"],
        grid=case["grid"],
        stride=case.args.get("pool_q", UNPOOLED).stride,
        has_cls=case["has_cls"],
    )
    assert_close(case(params=params)[0], residual)


@law("multiscale-block", "widens-after-attention")
def block_widens_after_attention(case):
    """A block that widens is one that does not, up to its second sublayer."""
    params = case["params"]
    d, d_f = params["feed_forward"]["W_1"].shape
    zero = {"W_1": np.ones((d, d_f)), "W_2": np.zeros((d_f, d))}
    narrow = {k: v for k, v in params.items() if k != "shortcut"} | {"feed_forward": zero}
    y, _ = case(params=narrow)
    mlp = mvit.widening_mlp if "shortcut" in params else encoder.feed_forward_sublayer
    assert_close(case()[0], mlp(y, params, **passed_on(case)))


@special("multiscale-block", "grids-that-disagree", refuses=True)
def block_grids_that_disagree(case):
    attention = projections(case["params"]["attention"])
    attention["kernel_q"] = delta(attention["W_q"].shape[-1])
    params = {**case["params"], "attention": attention}
    x = np.ones((*case["x"].shape[:-2], 9, case["x"].shape[-1]))
    options = {"has_cls": False, "params": params, "x": x, "grid": Grid(1, 3, 3)}
    with refused(r"^multiscale-block \(.*\): argument pool_q"):
        case(**options, pool_q=Pooling((1, 3, 3)), pool_kv=UNPOOLED)


# --- The strides of keys and values ---------------------------------------------------------------


@law("adaptive-strides", "from-the-product")
def strides_from_the_product(case):
    so_far = np.ones(3, int)
    strides = case()
    assert len(strides) == len(case["strides_q"])
    for stride_q, chosen in zip(case["strides_q"], strides, strict=True):
        so_far = so_far * stride_q
        expected = [max(1, s // f) for s, f in zip(case["stride_kv"], so_far, strict=True)]
        assert list(chosen) == expected


@law("adaptive-strides", "never-grows")
def strides_never_grow(case):
    strides = [case["stride_kv"], *case()]
    for before, after in pairwise(strides):
        assert all(1 <= b <= a for a, b in zip(before, after, strict=True))


@special("adaptive-strides", "unpooled-queries")
def strides_unpooled_queries(case):
    assert case(strides_q=[ONE] * 4) == (case["stride_kv"],) * 4
