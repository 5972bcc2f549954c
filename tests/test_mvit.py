"""Laws and special cases of spec/mvit/. Oracles and gradients: test_formulas.py."""

import math
from itertools import pairwise

import numpy as np
import pytest

import vtnp
from tests.cases import law, make, special
from tests.compare import assert_close, difference

ONE, CUBE = (1, 1, 1), (3, 3, 3)


def delta(d, size=CUBE):
    """Return a kernel that reads the cell under its centre and nothing else."""
    kernel = np.zeros((*size, d))
    kernel[tuple(k // 2 for k in size)] = 1.0
    return kernel


def drawn(case, *shape):
    return case.rng.standard_normal(shape)


def ones_and_zeros(d):
    """Return the gain and offset of a norm that only normalises."""
    return {"gamma": np.ones(d), "beta": np.zeros(d)}


# --- How many places ------------------------------------------------------------------------------


@law("pooled-grid", "last-window-fits")
def test_grid_last_window_fits(case):
    padding = case.args.get("padding") or tuple(k // 2 for k in case["size"])
    axes = zip(case["grid"], case(), case["size"], case["stride"], padding, strict=True)
    for n, made, k, s, p in axes:
        assert (made - 1) * s + k <= n + 2 * p < made * s + k


@law("pooled-grid", "odd-windows-round-up")
def test_grid_odd_windows_round_up(case):
    for k in ((3, 3, 3), (1, 3, 5)):
        grid = tuple(n + 2 for n in case["grid"])
        made = case(grid=grid, size=k, padding=None)
        assert made == tuple(-(-n // s) for n, s in zip(grid, case["stride"], strict=True))


@law("pooled-grid", "whole-patches")
def test_grid_whole_patches(case):
    stride = case["stride"]
    grid = tuple(n * s for n, s in zip(case["grid"], stride, strict=True))
    assert case(grid=grid, size=stride, padding=(0, 0, 0)) == case["grid"]


@special("pooled-grid", "one-window")
def test_grid_one_window(case):
    assert case(size=case["grid"], padding=(0, 0, 0)) == ONE


def test_queries_and_skip_agree_but_for_odd_strides():
    """The queries' window of 3 and the skip's of s + 1: exhaustively, for short axes."""
    for s in range(1, 9):
        for n in range(1, 40):
            queries = vtnp.pooled_grid((n, 1, 1), size=CUBE, stride=(s, 1, 1))
            skip = vtnp.pooled_grid((n, 1, 1), size=(s + 1 if s > 1 else 1, 1, 1), stride=(s, 1, 1))
            assert (queries == skip) == (s == 1 or s % 2 == 0 or n % s != 0)


@pytest.mark.parametrize(
    ("argument", "changed"),
    [
        ("three numbers each", {"size": (0, 1, 1)}),
        ("three numbers each", {"stride": (1, 1, 0)}),
        ("3 whole numbers", {"stride": (1, 1)}),
        ("three numbers each", {"padding": (-1, 0, 0)}),
        ("three numbers each", {"grid": (0, 3, 3)}),
        ("at most that of the padded grid", {"size": (5, 1, 1), "padding": (0, 0, 0)}),
    ],
)
def test_grid_refuses(argument, changed):
    good = {"grid": (4, 4, 4), "size": CUBE, "stride": ONE}
    with pytest.raises(vtnp.FormulaError, match=argument):
        vtnp.pooled_grid(**good | changed)


# --- Pooling a grid -------------------------------------------------------------------------------


@law("pool", "average-is-a-constant-kernel")
def test_pool_average_is_a_constant_kernel(case):
    kernel = np.full((2, 3, 1, case["x"].shape[-1]), 1 / 6)
    options = {"stride": (1, 2, 1), "padding": None}
    average = case(kernel=None, size=(2, 3, 1), mode="avg", **options)
    assert_close(average, case(kernel=kernel, size=None, mode="conv", **options))


@law("pool", "linear")
def test_pool_linear(case):
    if case["mode"] != "max":
        other = case.rng.standard_normal(case["x"].shape)
        assert_close(case(x=2.0 * case["x"] - other), 2.0 * case() - case(x=other))


@law("pool", "maximum-keeps-order")
def test_pool_maximum_keeps_order(case):
    options = {"kernel": None, "size": (2, 3, 2), "mode": "max", "padding": None}
    assert np.array_equal(np.exp(case(**options)), case(x=np.exp(case["x"]), **options))


@law("pool", "maximum-at-least-the-centre")
def test_pool_maximum_at_least_the_centre(case):
    options = {"kernel": None, "size": (1, 3, 3), "stride": (1, 2, 2), "padding": None}
    pooled = case(**options, mode="max")
    assert np.all(pooled >= case["x"][..., ::2, ::2, :])
    shrunk = {**options, "padding": (0, 0, 0)}
    assert np.all(case(**shrunk, mode="avg") <= case(**shrunk, mode="max"))


@law("pool", "channels-apart")
def test_pool_channels_apart(case):
    order = case.rng.permutation(case["x"].shape[-1])
    kernel = case.args.get("kernel")
    kernel = None if kernel is None else kernel[..., order]
    assert_close(case(x=case["x"][..., order], kernel=kernel), case()[..., order], within=1e-14)


@law("pool", "shift-by-a-stride")
def test_pool_shift_by_a_stride(case):
    x = np.concatenate([case["x"], case["x"][..., ::-1, :, :, :]], axis=-4)
    window = {"stride": (2, 1, 1), "padding": (0, 0, 0)}
    whole = case(x=x, **window)
    assert_close(case(x=x[..., 2:, :, :, :], **window), whole[..., 1:, :, :, :], within=1e-14)


@law("pool", "flip-odd-width")
def test_pool_flip_odd_width(case):
    x = case["x"]
    if x.shape[-2] % 2:
        for mode in ("max", "avg"):
            window = {"kernel": None, "size": (1, 1, 3), "stride": (1, 1, 2), "mode": mode}
            pooled = case(**window, padding=None)
            flipped = case(x=x[..., ::-1, :], **window, padding=None)
            assert_close(flipped, pooled[..., ::-1, :])


@special("pool", "single-cells")
def test_pool_single_cells(case):
    for mode in ("max", "avg"):
        pooled = case(kernel=None, size=ONE, stride=ONE, padding=None, mode=mode)
        assert np.array_equal(pooled, case["x"])


@special("pool", "delta-kernel")
def test_pool_delta_kernel(case):
    kernel = delta(case["x"].shape[-1])
    window = {"size": None, "stride": ONE, "padding": None, "mode": "conv"}
    assert np.array_equal(case(kernel=kernel, **window), case["x"])


@special("pool", "all-negative")
def test_pool_all_negative(case):
    negative = -1.0 - np.abs(case["x"])
    window = {"kernel": None, "size": CUBE, "stride": ONE, "padding": None, "mode": "max"}
    assert np.all(case(x=negative, **window) <= -1.0)


@special("pool", "border-of-an-average")
def test_pool_border_of_an_average(case):
    ones = np.ones_like(case["x"])
    window = {"kernel": None, "size": (1, 1, 3), "stride": ONE, "padding": None, "mode": "avg"}
    pooled = case(x=ones, **window)
    assert_close(pooled[..., 0, :], np.full_like(pooled[..., 0, :], 2 / 3))


@special("pool", "ties-share")
def test_pool_ties_share(case):
    from autograd import elementwise_grad

    window = {"size": (1, 1, 2), "stride": (1, 1, 2), "padding": (0, 0, 0), "mode": "max"}
    gradient = elementwise_grad(lambda x: vtnp.pool(x, **window))
    assert np.array_equal(gradient(np.ones((1, 1, 4, 2))), np.full((1, 1, 4, 2), 0.5))


def test_false_flip_on_even_width():
    x = np.array([1.0, 2.0, 4.0, 8.0]).reshape((1, 1, 4, 1))
    window = {"size": (1, 1, 3), "stride": (1, 1, 2), "mode": "max"}
    pooled, flipped = vtnp.pool(x, **window), vtnp.pool(x[..., ::-1, :], **window)
    assert pooled.ravel().tolist() == [2.0, 8.0]
    assert flipped.ravel().tolist() == [8.0, 4.0]


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("mode: expected one of", {"size": CUBE, "mode": "mean"}),
        ("size: expected a kernel in the mode", {"kernel": delta(2), "size": CUBE}),
        ("size: expected a kernel in the mode", {"kernel": delta(2), "mode": "max"}),
        ("size: expected a kernel in the mode", {"size": CUBE}),
        ("kernel: expected a kernel, or a size", {}),
        ("kernel: expected a kernel, or a size", {"mode": "avg"}),
        ("padding: expected less than the size", {"size": ONE, "padding": ONE, "mode": "max"}),
    ],
)
def test_pool_refuses(message, options):
    with pytest.raises(vtnp.FormulaError, match=message):
        vtnp.pool(np.ones((3, 3, 3, 2)), **options)


def test_pool_refuses_an_empty_grid():
    with pytest.raises(vtnp.FormulaError, match="three numbers each, grid, size and stride >= 1"):
        vtnp.pool(np.ones((0, 3, 3, 2)), size=ONE, mode="max")


# --- Pooling a sequence ---------------------------------------------------------------------------


def gridded(x, grid):
    return x.reshape((*x.shape[:-2], *grid, x.shape[-1]))


def pooled_case(case):
    """Return the options of a pooled-tokens case that pool and its norm have."""
    window = {name: case.args.get(name) for name in ("kernel", "size")}
    window |= {name: case.args[name] for name in ("stride", "mode") if name in case.args}
    return window


@law("pooled-tokens", "pools-the-grid")
def test_tokens_pools_the_grid(case):
    options = pooled_case(case)
    if options["kernel"] is None and options["size"] is None:
        return
    body = case["x"][..., case["cls"] :, :]
    pooled = vtnp.pool(gridded(body, case["grid"]), **options)
    pooled = pooled.reshape((*pooled.shape[:-4], -1, pooled.shape[-1]))
    y = case(gamma=None, beta=None)[..., case["cls"] :, :]
    assert_close(y, pooled)


@law("pooled-tokens", "class-token-passes-by")
def test_tokens_class_token_passes_by(case):
    """Neither side knows of the other, and the class token is normalised all the same."""
    d = case["x"].shape[-1]
    body = case["x"][..., case["cls"] :, :]
    row = drawn(case, *body.shape[:-2], 1, d)
    with_row = case(x=np.concatenate([row, body], axis=-2), cls=True)
    assert_close(with_row[..., 1:, :], case(x=body, cls=False))
    normed = case.args.get("gamma") is not None
    expected = vtnp.layer_norm(row, case["gamma"], case["beta"], eps=1e-6) if normed else row
    assert_close(with_row[..., :1, :], expected)


@law("pooled-tokens", "rows-normalised")
def test_tokens_rows_normalised(case):
    y = case(x=100.0 * case["x"], **ones_and_zeros(case["x"].shape[-1]))
    assert_close(np.mean(y, axis=-1), np.zeros(y.shape[:-1]))
    flat = np.var(y, axis=-1)
    assert np.all(flat <= 1.0 + 1e-12)


@special("pooled-tokens", "no-window")
def test_tokens_no_window(case):
    window = {"kernel": None, "size": None, "stride": ONE}
    assert np.array_equal(case(**window, gamma=None, beta=None), case["x"])


def test_tokens_refuse():
    x = np.ones((13, 2))
    with pytest.raises(vtnp.FormulaError, match="grid: expected three sizes of product 13"):
        vtnp.pooled_tokens(x, grid=(3, 2, 2))
    with pytest.raises(vtnp.FormulaError, match="grid: expected three sizes of product 12"):
        vtnp.pooled_tokens(x, grid=(3, 2, 3), cls=True)
    with pytest.raises(vtnp.FormulaError, match="grid: expected 3 whole numbers"):
        vtnp.pooled_tokens(x, grid=(3, 4), cls=True)
    with pytest.raises(vtnp.FormulaError, match="stride: expected 1 along each axis"):
        vtnp.pooled_tokens(x, grid=(3, 2, 2), stride=(1, 2, 2), cls=True)
    with pytest.raises(vtnp.FormulaError, match="beta: expected both of gamma and beta"):
        vtnp.pooled_tokens(x, grid=(3, 2, 2), gamma=np.ones(2), cls=True)
    with pytest.raises(vtnp.FormulaError, match="mode: expected one of"):
        vtnp.pooled_tokens(x, grid=(3, 2, 2), mode="mean", cls=True)


# --- Eq. (10) -------------------------------------------------------------------------------------

BARE = {"kernel": None, "bias": None, "gamma": None, "beta": None}


@law("pooled-projection", "averages-commute")
def test_projection_averages_commute(case):
    """Without a bias, an average may as well be taken first."""
    X, W = case["X"], case["W"]
    window = {"size": (2, 3, 1), "stride": (1, 2, 1), "mode": "avg"}
    pooled = vtnp.pooled_tokens(X, grid=case["grid"], cls=case["cls"], **window)
    assert_close(case(**BARE, **window), pooled @ W)


@law("pooled-projection", "shared-kernels-commute")
def test_projection_shared_kernels_commute(case):
    X, W = case["X"], case["W"]
    weights = drawn(case, 3, 1, 3, 1)
    narrow, wide = (np.repeat(weights, d, axis=-1) for d in W.shape)
    window = {"stride": (2, 1, 1), "mode": "conv", "size": None}
    pooled = vtnp.pooled_tokens(X, narrow, grid=case["grid"], cls=case["cls"], stride=(2, 1, 1))
    assert_close(case(**{**BARE, "kernel": wide}, **window), pooled @ W)


@law("pooled-projection", "projects-first")
def test_projection_projects_first(case):
    others = {name: each for name, each in case.args.items() if name not in {"X", "W", "bias"}}
    projected = vtnp.linear_embedding(case["X"], case["W"], bias=case.args.get("bias"))
    assert_close(case(), vtnp.pooled_tokens(projected, **others))


@special("pooled-projection", "no-window")
def test_projection_no_window(case):
    plain = {**BARE, "size": None, "stride": ONE}
    assert_close(case(**plain), case["X"] @ case["W"])


@special("pooled-projection", "delta-kernel")
def test_projection_delta_kernel(case):
    window = {**BARE, "kernel": delta(case["W"].shape[-1]), "size": None, "stride": ONE}
    assert_close(case(**window, mode="conv"), case["X"] @ case["W"])


def test_false_maxima_and_kernels_of_channels_commute():
    rng = np.random.default_rng(0)
    X, W = rng.standard_normal((12, 3)), rng.standard_normal((3, 3))
    grid, window = (3, 2, 2), {"size": CUBE, "stride": (1, 2, 2), "mode": "max"}
    first = vtnp.pooled_projection(X, W, grid=grid, **window)
    assert difference(vtnp.pooled_tokens(X, grid=grid, **window) @ W, first) > 0.1
    kernel = rng.standard_normal((*CUBE, 3))
    first = vtnp.pooled_projection(X, W, kernel, grid=grid)
    assert difference(vtnp.pooled_tokens(X, kernel, grid=grid) @ W, first) > 0.1


def test_false_a_bias_commutes_with_padded_averages():
    window = {"size": (1, 1, 3), "mode": "avg", "grid": (1, 1, 3)}
    X, W, bias = np.zeros((3, 1)), np.ones((1, 1)), np.ones(1)
    y = vtnp.pooled_projection(X, W, bias=bias, **window)
    assert_close(y[:, 0], np.array([2 / 3, 1.0, 2 / 3]))


# --- Eq. (11) -------------------------------------------------------------------------------------


@law("pooling-attention", "rows-convex")
def test_attention_rows_convex(case):
    y, V = case(), case["V"]
    assert np.all(y <= np.max(V, axis=-2, keepdims=True) + 1e-12)
    assert np.all(y >= np.min(V, axis=-2, keepdims=True) - 1e-12)
    assert_close(case(V=np.ones_like(V)), np.ones_like(y))


@law("pooling-attention", "shift-keys")
def test_attention_shift_keys(case):
    assert_close(case(K=case["K"] + drawn(case, case["K"].shape[-1])), case())


@law("pooling-attention", "permute-keys")
def test_attention_permute_keys(case):
    order = case.rng.permutation(case["K"].shape[-2])
    assert_close(case(K=case["K"][..., order, :], V=case["V"][..., order, :]), case())


@law("pooling-attention", "width-of-a-head")
def test_attention_width_of_a_head(case):
    """Channels of which the queries have nothing count in the scale, and nowhere else."""
    Q, K = case["Q"], case["K"]
    wider = [np.concatenate([x, 0.0 * x, 0.0 * x, 0.0 * x], axis=-1) for x in (Q, K)]
    assert_close(case(Q=2.0 * wider[0], K=wider[1]), case())
    scores = Q @ np.swapaxes(K, -1, -2) / math.sqrt(K.shape[-1])
    assert_close(case(), vtnp.softmax(scores) @ case["V"])


@special("pooling-attention", "single-key")
def test_attention_single_key(case):
    y = case(K=case["K"][..., :1, :], V=case["V"][..., :1, :])
    assert np.array_equal(y, np.broadcast_to(case["V"][..., :1, :], y.shape))


@special("pooling-attention", "huge-logits")
def test_attention_huge_logits(case):
    assert np.all(np.isfinite(case(Q=1e4 * case["Q"])))


# --- Heads ----------------------------------------------------------------------------------------

UNPOOLED = {"stride_q": ONE, "stride_kv": ONE, "size_q": None, "size_kv": None}


def projections(params):
    return {name: each for name, each in params.items() if name[:2] in {"W_", "b_"}}


@law("multi-head-pooling-attention", "delta-kernels-are-plain")
def test_heads_delta_kernels_are_plain(case):
    params = projections(case["params"])
    kernels = {f"kernel_{c}": delta(params[f"W_{c}"].shape[-1]) for c in "qkv"}
    expected = vtnp.multi_head_self_attention(case["x"], **params)
    y, grid = case(params=params | kernels, **UNPOOLED, mode="conv")
    assert grid == case["grid"]
    assert_close(y, expected)
    y, _ = case(params=params, **{**UNPOOLED, "size_q": ONE, "size_kv": ONE}, mode="max")
    assert_close(y, expected)


@law("multi-head-pooling-attention", "sum-of-heads")
def test_heads_sum_of_heads(case):
    params = {name: each for name, each in case["params"].items() if name != "b_c"}
    total = 0.0
    for head in range(params["W_q"].shape[0]):
        one = slice(head, head + 1)
        alone = {k: v[one] if k[:2] in {"W_", "b_"} else v for k, v in params.items()}
        total = total + case(params=alone)[0]
    assert_close(case(params=params)[0], total)


@law("multi-head-pooling-attention", "permute-heads")
def test_heads_permute_heads(case):
    def turned(name, each):
        return each[::-1] if name[:2] in {"W_", "b_"} and name != "b_c" else each

    params = {name: turned(name, each) for name, each in case["params"].items()}
    assert_close(case(params=params)[0], case()[0])


@law("multi-head-pooling-attention", "queries-set-the-grid")
def test_heads_queries_set_the_grid(case):
    y, grid = case()
    assert y.shape[-2] == case["cls"] + math.prod(grid)
    params = {k: v for k, v in case["params"].items() if k not in {"kernel_k", "kernel_v"}}
    unpooled, same = case(params=params, stride_kv=ONE, size_kv=None)
    assert same == grid
    assert unpooled.shape == y.shape


@law("multi-head-pooling-attention", "offset-of-the-keys")
def test_heads_offset_of_the_keys(case):
    """The offset of the keys' norm adds one vector to all keys, which changes nothing."""
    d_h = case["params"]["W_k"].shape[-1]
    norm = case["params"].get("norm_k", ones_and_zeros(d_h))
    moved = {"gamma": norm["gamma"], "beta": norm["beta"] + drawn(case, d_h)}
    before, _ = case(params=case["params"] | {"norm_k": norm})
    after, _ = case(params=case["params"] | {"norm_k": moved})
    assert_close(after, before, within=1e-11)


@law("multi-head-pooling-attention", "frames-without-order")
def test_heads_frames_without_order(case):
    """With windows of one frame, attention cannot tell the order of the frames."""
    x, cls, (t, h, w) = case["x"], case["cls"], case["grid"]
    params = projections(case["params"]) | {
        f"kernel_{c}": drawn(case, 1, 3, 3, case["params"][f"W_{c}"].shape[-1]) for c in "qkv"
    }
    strides = {"stride_q": (1, 2, 2), "stride_kv": (1, 1, 2)}
    options = {**UNPOOLED, **strides, "mode": "conv", "params": params}
    order = case.rng.permutation(t)

    def shuffled(rows, shape):
        frames = rows[..., cls:, :].reshape((*rows.shape[:-2], *shape, rows.shape[-1]))
        frames = np.take(frames, order, axis=-4).reshape(rows[..., cls:, :].shape)
        return np.concatenate([rows[..., :cls, :], frames], axis=-2)

    y, grid = case(**options)
    moved, _ = case(**options, x=shuffled(x, (t, h, w)))
    assert_close(moved, shuffled(y, grid), within=1e-11)


@special("multi-head-pooling-attention", "one-head")
def test_heads_one_head(case):
    """One head is eq. (10) three times, then eq. (11)."""
    params = {k: v[:1] if k[:2] in {"W_", "b_"} and k != "b_c" else v
              for k, v in case["params"].items()}  # fmt: skip
    pooled = []
    for letter, which in (("q", "q"), ("k", "kv"), ("v", "kv")):
        bias = params.get(f"b_{letter}")
        pooled.append(
            vtnp.pooled_projection(
                case["x"],
                params[f"W_{letter}"][0],
                params.get(f"kernel_{letter}"),
                bias=None if bias is None else bias[0],
                **params.get(f"norm_{letter}", {}),
                size=case.args.get(f"size_{which}"),
                stride=case.args.get(f"stride_{which}", ONE),
                **{name: case[name] for name in ("grid", "mode", "cls")},
            )
        )
    expected = vtnp.pooling_attention(*pooled) @ params["W_c"][0] + params.get("b_c", 0.0)
    assert_close(case(params=params)[0], expected)


def test_false_frames_of_wider_windows_have_no_order():
    rng = np.random.default_rng(0)
    params = projections(make("multi-head-pooling-attention", 1).args["params"])
    params |= {f"kernel_{c}": rng.standard_normal((3, 1, 1, params[f"W_{c}"].shape[-1]))
               for c in "qkv"}  # fmt: skip
    x = rng.standard_normal((3, 4, params["W_q"].shape[1]))
    options = {"params": params, "grid": (3, 2, 2)}
    flat = (12, x.shape[-1])
    y, _ = vtnp.multi_head_pooling_attention(x.reshape(flat), **options)
    moved, _ = vtnp.multi_head_pooling_attention(x[[1, 0, 2]].reshape(flat), **options)
    assert difference(moved.reshape(x.shape)[[1, 0, 2]].reshape(flat), y) > 0.1


def test_false_delta_kernels_are_plain_beside_a_norm():
    case = make("multi-head-pooling-attention", 0)
    params = projections(case["params"])
    plain = vtnp.multi_head_self_attention(case["x"], **params)
    for letter in "qkv":
        d = params[f"W_{letter}"].shape[-1]
        params |= {f"kernel_{letter}": delta(d), f"norm_{letter}": ones_and_zeros(d)}
    y, _ = case(params=params, **UNPOOLED, mode="conv")
    assert difference(y, plain) > 0.1


def test_false_every_token_is_read():
    """Windows of three, eight steps apart, leave five of eight cells out: MViT-B's first block."""
    rng = np.random.default_rng(0)
    params = projections(make("multi-head-pooling-attention", 1).args["params"])
    for letter in "kv":
        params[f"kernel_{letter}"] = rng.standard_normal((*CUBE, params[f"W_{letter}"].shape[-1]))
    x = rng.standard_normal((1 + 16, params["W_q"].shape[1]))
    options = {"params": params, "grid": (1, 1, 16), "stride_kv": (1, 1, 8), "cls": True}
    of_class_token = vtnp.multi_head_pooling_attention(x, **options)[0][0]
    for place in range(16):
        moved = x.copy()
        moved[1 + place] += 1.0
        read = vtnp.multi_head_pooling_attention(moved, **options)[0][0]
        assert (difference(read, of_class_token) > 1e-6) == (place % 8 in {0, 1, 7} and place != 15)


def test_keys_and_values_of_different_windows_are_refused():
    case = make("multi-head-pooling-attention", 0)
    params = projections(case["params"])
    params["kernel_k"] = np.ones((2, 1, 1, params["W_k"].shape[-1]))
    params["kernel_v"] = np.ones((1, 1, 1, params["W_v"].shape[-1]))
    with pytest.raises(vtnp.ShapeError, match=r"pooling-attention .* argument V"):
        case(params=params, **UNPOOLED, mode="conv")


# --- The skip -------------------------------------------------------------------------------------


@law("pooled-skip", "at-least-the-first-of-each-step")
def test_skip_at_least_the_first_of_each_step(case):
    x, stride = case["x"], case["stride"]
    size = tuple(s + 1 if s > 1 else 1 for s in stride)
    made = vtnp.pooled_grid(case["grid"], size=size, stride=stride)
    y = gridded(case()[..., case["cls"] :, :], made)
    steps = tuple(slice(None, None, s) for s in stride)
    first = gridded(x[..., case["cls"] :, :], case["grid"])[(..., *steps, slice(None))]
    inside = tuple(slice(0, n) for n in first.shape[-4:-1])
    assert np.all(y[(..., *inside, slice(None))] >= first)
    assert np.all(np.isin(y, x)), "a maximum is one of the numbers"


@law("pooled-skip", "class-token-passes-by")
def test_skip_class_token_passes_by(case):
    x = case["x"][..., case["cls"] :, :]
    row = drawn(case, *x.shape[:-2], 1, x.shape[-1])
    y = case(x=np.concatenate([row, x], axis=-2), cls=True)
    assert np.array_equal(y[..., :1, :], row)
    assert np.array_equal(y[..., 1:, :], case(x=x, cls=False))


@law("pooled-skip", "keeps-order")
def test_skip_keeps_order(case):
    assert np.array_equal(case(x=np.exp(case["x"])), np.exp(case()))


@special("pooled-skip", "stride-one")
def test_skip_stride_one(case):
    assert np.array_equal(case(stride=ONE), case["x"])


@special("pooled-skip", "all-negative")
def test_skip_all_negative(case):
    assert np.all(case(x=-1.0 - np.abs(case["x"])) <= -1.0)


# --- Widening -------------------------------------------------------------------------------------


@law("widening-step", "blind-to-level-and-scale")
def test_widening_blind_to_level_and_scale(case):
    """Nothing of a token gets through but its normalised shape, where eps is next to nothing."""
    y = 100.0 * case["y"]
    assert_close(case(y=3.0 * y + 7.0), case(y=y), within=1e-7)


@law("widening-step", "token-by-token")
def test_widening_token_by_token(case):
    order = case.rng.permutation(case["y"].shape[-2])
    assert_close(case(y=case["y"][..., order, :]), case()[..., order, :])


@law("widening-step", "two-maps-added")
def test_widening_two_maps_added(case):
    silent = {**case["params"], "widening": {"W": 0.0 * case["params"]["widening"]["W"]}}
    alone = case(params=silent)
    v = vtnp.layer_norm(case["y"], **case["params"]["norm_2"], eps=case["eps"])
    skip = case["params"]["widening"]
    assert_close(case() - alone, v @ skip["W"] + skip.get("b", 0.0))


@special("widening-step", "silent-network")
def test_widening_silent_network(case):
    params = case["params"]
    network = {name: 0.0 * each for name, each in params["feed_forward"].items()}
    v = vtnp.layer_norm(case["y"], **params["norm_2"], eps=case["eps"])
    expected = v @ params["widening"]["W"] + params["widening"].get("b", 0.0)
    assert_close(case(params={**params, "feed_forward": network}), expected)


def test_widening_refuses():
    case = make("widening-step", 0)
    with pytest.raises(vtnp.FormulaError, match="widening-step: argument activation"):
        case(activation="swish")


# --- The block ------------------------------------------------------------------------------------

STILL = {**UNPOOLED, "mode": "conv"}


def parts_of(params):
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
def test_block_without_pooling_a_pre_norm_layer(case):
    params = parts_of(case["params"])
    y, grid = case(params=params, **STILL)
    assert grid == case["grid"]
    assert_close(y, vtnp.pre_norm_layer(case["x"], params, eps=1e-6))


@law("multiscale-block", "silence-leaves-the-skip")
def test_block_silence_leaves_the_skip(case):
    """Where attention and network say nothing, the skip is all there is."""
    params = {**case["params"], "attention": {**case["params"]["attention"]}}
    for name in ("W_c", "b_c"):
        if name in params["attention"]:
            params["attention"][name] = 0.0 * params["attention"][name]
    d, d_f = params["feed_forward"]["W_1"].shape
    params["feed_forward"] = {"W_1": np.ones((d, d_f)), "W_2": np.zeros((d_f, d))}
    params.pop("widening", None)
    stride = case.args.get("stride_q", ONE)
    skip = vtnp.pooled_skip(case["x"], grid=case["grid"], stride=stride, cls=case["cls"])
    assert_close(case(params=params)[0], skip)


@law("multiscale-block", "widens-after-attention")
def test_block_widens_after_attention(case):
    """A block that widens is one that does not, up to its second half."""
    params = case["params"]
    d, d_f = params["feed_forward"]["W_1"].shape
    silent = {"W_1": np.ones((d, d_f)), "W_2": np.zeros((d_f, d))}
    narrow = {k: v for k, v in params.items() if k != "widening"} | {"feed_forward": silent}
    y, _ = case(params=narrow)
    step = vtnp.widening_step if "widening" in params else vtnp.feed_forward_step
    assert_close(case()[0], step(y, params, eps=1e-6))


@special("multiscale-block", "grids-that-disagree")
def test_block_grids_that_disagree(case):
    attention = projections(case["params"]["attention"])
    attention["kernel_q"] = delta(attention["W_q"].shape[-1])
    params = {**case["params"], "attention": attention}
    x = np.ones((*case["x"].shape[:-2], 9, case["x"].shape[-1]))
    options = {**STILL, "cls": False, "params": params, "x": x, "grid": (1, 3, 3)}
    with pytest.raises(vtnp.FormulaError, match="multiscale-block: argument stride_q"):
        case(**options | {"stride_q": (1, 3, 3)})


# --- The strides of keys and values ---------------------------------------------------------------


@law("adaptive-strides", "from-the-product")
def test_strides_from_the_product(case):
    so_far = np.ones(3, int)
    strides = case()
    assert len(strides) == len(case["strides_q"])
    for stride_q, chosen in zip(case["strides_q"], strides, strict=True):
        so_far = so_far * stride_q
        expected = [max(1, s // f) for s, f in zip(case["stride_kv"], so_far, strict=True)]
        assert list(chosen) == expected


@law("adaptive-strides", "never-grows")
def test_strides_never_grow(case):
    strides = [case["stride_kv"], *case()]
    for before, after in pairwise(strides):
        assert all(1 <= b <= a for a, b in zip(before, after, strict=True))


@special("adaptive-strides", "still-queries")
def test_strides_still_queries(case):
    assert case(strides_q=[ONE] * 4) == (case["stride_kv"],) * 4


# Blocks of MViT-B, 16 x 4: the strides of queries, of keys; tokens of each, class token included.
MVIT_B = (
    [((1, 1, 1), (1, 8, 8), 25089, 393), ((1, 2, 2), (1, 4, 4), 6273, 1569)]
    + [((1, 1, 1), (1, 4, 4), 6273, 393), ((1, 2, 2), (1, 2, 2), 1569, 1569)]
    + [((1, 1, 1), (1, 2, 2), 1569, 393)] * 10
    + [((1, 2, 2), (1, 1, 1), 393, 1569), ((1, 1, 1), (1, 1, 1), 393, 393)]
)


def test_strides_and_tokens_of_mvit_b():
    strides_q, strides_kv, queries, keys = zip(*MVIT_B, strict=True)
    assert vtnp.adaptive_strides((1, 8, 8), strides_q) == strides_kv
    grid = (8, 56, 56)
    for stride_q, stride_kv, n_q, n_k in MVIT_B:
        assert 1 + math.prod(vtnp.pooled_grid(grid, size=CUBE, stride=stride_kv)) == n_k
        grid = vtnp.pooled_grid(grid, size=CUBE, stride=stride_q)
        assert 1 + math.prod(grid) == n_q
    assert len(set(keys)) == 2, "the number of keys is not the same in all blocks"
    assert len(queries) == 16


@pytest.mark.parametrize("strides", [((1, 0, 1), []), ((1, 8, 8), [(1, 2)]), ((1, 8), [])])
def test_strides_refuse(strides):
    with pytest.raises(vtnp.FormulaError, match="adaptive-strides: argument stride"):
        vtnp.adaptive_strides(*strides)
