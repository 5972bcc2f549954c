"""What no law says of vtnp.mvit: exact values, refusals, counterexamples, accuracy."""

import math

import numpy as np
import pytest

import vtnp
from tests.support.compare import assert_close, difference
from vtnp.claims.cases import make
from vtnp.claims.mvit import CUBE, PLAIN, delta, ones_and_zeros, projections
from vtnp.mvit import Pooling
from vtnp.tokens import Grid

# --- The pooled grid ------------------------------------------------------------------------------


def test_queries_and_residual_have_the_same_grid_but_for_odd_strides():
    """The queries' window of 3 and the residual's of s + 1: exhaustively, for short axes."""
    for s in range(1, 9):
        window = Pooling((s, 1, 1), CUBE)
        of_residual = Pooling((s, 1, 1), (s + 1 if s > 1 else 1, 1, 1))
        for n in range(1, 40):
            queries = vtnp.mvit.pooled_grid((n, 1, 1), pooling=window)
            residual = vtnp.mvit.pooled_grid((n, 1, 1), pooling=of_residual)
            assert (queries == residual) == (s == 1 or s % 2 == 0 or n % s != 0)


FITS = r"all\(k <= n \+ 2 \* p for n, k, p in zip\(grid, pooling.size, pooling.padding\)\)"


@pytest.mark.parametrize(
    ("expected", "changed"),
    [
        (r"pooling.size is None or min\(pooling.size\) >= 1", {"size": (0, 1, 1)}),
        (r"min\(pooling.stride\) >= 1", {"stride": (1, 1, 0)}),
        ("3 integers, got .1, 1.", {"stride": (1, 1)}),
        (r"pooling.padding is None or min\(pooling.padding\) >= 0", {"padding": (-1, 0, 0)}),
        (FITS, {"size": (5, 1, 1), "padding": (0, 0, 0)}),
        (r"max\(pooling.stride\) == 1 and .*", {"stride": (1, 2, 2), "size": None}),
        (r".* and pooling.padding is None", {"padding": (1, 1, 1), "size": None}),
    ],
)
def test_grid_refuses(expected, changed):
    pooling = Pooling(size=CUBE)._replace(**changed)
    with pytest.raises(vtnp.FormulaError, match=rf"^pooled-grid .*: .*expected .*{expected}"):
        vtnp.mvit.pooled_grid((4, 4, 4), pooling=pooling)


def test_an_empty_grid_is_refused():
    with pytest.raises(vtnp.FormulaError, match=r"expected min\(grid\) >= 1, got grid = Grid"):
        vtnp.mvit.pooled_grid((0, 3, 3), pooling=Pooling(size=CUBE))


def test_a_grid_is_of_the_type_grid():
    assert type(vtnp.mvit.pooled_grid([4, 4, 4], pooling=[(1, 2, 2), CUBE])) is Grid


# --- Pooling a grid -------------------------------------------------------------------------------


def test_false_flip_on_even_width():
    x = np.array([1.0, 2.0, 4.0, 8.0]).reshape((1, 1, 4, 1))
    window = Pooling((1, 1, 2), (1, 1, 3), mode="max")
    pooled = vtnp.mvit.pool(x, pooling=window)
    flipped = vtnp.mvit.pool(x[..., ::-1, :], pooling=window)
    assert pooled.ravel().tolist() == [2.0, 8.0]
    assert flipped.ravel().tolist() == [8.0, 4.0]


MODE_NEEDS = r"expected \(kernel is None\) == \(pooling.mode != 'conv'\), got kernel = "
ONE_OF_BOTH = r"expected \(kernel is None\) != \(pooling.size is None\), got kernel = "
NOT_PADDING_ALONE = r"or all\(0 <= p < k for p, k in zip\(pooling.padding, pooling.size\)\)"


@pytest.mark.parametrize(
    ("message", "options"),
    [
        (
            "pooling.mode: expected one of 'conv', 'max', 'avg', got 'mean'",
            (None, CUBE, None, "mean"),
        ),
        (ONE_OF_BOTH + r"an array \(3, 3, 3, 2\)", (delta(2), CUBE, None, "conv")),
        (MODE_NEEDS + r"an array \(3, 3, 3, 2\)", (delta(2), None, None, "max")),
        (MODE_NEEDS + "None", (None, CUBE, None, "conv")),
        (MODE_NEEDS + "None", (None, None, None, "conv")),
        (ONE_OF_BOTH + "None", (None, None, None, "avg")),
        (NOT_PADDING_ALONE, (None, (1, 1, 1), (1, 1, 1), "max")),
        (NOT_PADDING_ALONE, (None, CUBE, (-1, 0, 0), "max")),
    ],
)
def test_pool_refuses(message, options):
    kernel, size, padding, mode = options
    with pytest.raises(vtnp.FormulaError, match=rf"^pool \(spec/mvit/pool.md\): .*{message}"):
        vtnp.mvit.pool(
            np.ones((3, 3, 3, 2)), kernel, pooling=Pooling((1, 1, 1), size, padding, mode)
        )


@pytest.mark.parametrize(
    "pooling",
    [
        Pooling((1, 0, 1), CUBE, mode="avg"),
        Pooling((1, 1, 1), (3, 0, 3), mode="avg"),
        Pooling((1, 1, 1), (5, 1, 1), (0, 0, 0), "avg"),
        Pooling((1, 1, 1), (5, 1, 1), (0, 0, 0), "max"),
        Pooling((1, 1, 1), CUBE, (0, -1, 0), "avg"),
    ],
)
def test_pool_refuses_windows_that_do_not_fit(pooling):
    with pytest.raises(vtnp.FormulaError, match=r"^sliding-windows .*expected .*; called by pool "):
        vtnp.mvit.pool(np.ones((3, 3, 3, 2)), pooling=pooling)


def test_pool_refuses_an_empty_grid():
    with pytest.raises(vtnp.FormulaError, match=r"expected min\(T, H, W\) >= 1, got H = 3, T = 0"):
        vtnp.mvit.pool(np.ones((0, 3, 3, 2)), pooling=Pooling(size=(1, 1, 1), mode="max"))


# --- Pooling a sequence ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "options"),
    [
        (r"expected n == has_cls \+ grid.t \* grid.h \* grid.w, got", {"has_cls": False}),
        (r"expected n == has_cls \+ grid.t \* grid.h \* grid.w, got", {"grid": (3, 2, 3)}),
        (r"expected min\(grid\) >= 1, got grid = Grid\(t=-3", {"grid": (-3, -2, 2)}),
        (r"argument grid: expected Grid\(t, h, w\), got \(3, 4\)", {"grid": (3, 4)}),
        (
            r"expected kernel is not None or pooling.size is not None or .*== 1",
            {"pooling": Pooling((1, 2, 2))},
        ),
        (
            r"expected .* and pooling.padding is None\), got",
            {"pooling": Pooling(padding=(1, 1, 1))},
        ),
        (r"expected \(gamma is None\) == \(beta is None\), got beta = None", {"gamma": np.ones(2)}),
        ("argument pooling.mode: expected one of", {"pooling": Pooling(mode="mean")}),
    ],
)
def test_tokens_refuse(message, options):
    x, right = np.ones((13, 2)), {"grid": (3, 2, 2), "has_cls": True}
    with pytest.raises(vtnp.FormulaError, match=f"^pooled-tokens .*: {message}"):
        vtnp.mvit.pooled_tokens(x, **right | options)


# --- Eq. (10) -------------------------------------------------------------------------------------


def test_false_maxima_and_kernels_of_channels_commute():
    rng = np.random.default_rng(0)
    X, W = rng.standard_normal((12, 3)), rng.standard_normal((3, 3))
    grid, window = (3, 2, 2), Pooling((1, 2, 2), CUBE, mode="max")
    first = vtnp.mvit.pooled_projection(X, W, grid=grid, pooling=window)
    pooled = vtnp.mvit.pooled_tokens(X, grid=grid, pooling=window)
    assert difference(pooled @ W, first) > 0.1
    kernel = rng.standard_normal((*CUBE, 3))
    first = vtnp.mvit.pooled_projection(X, W, kernel, grid=grid)
    assert difference(vtnp.mvit.pooled_tokens(X, kernel, grid=grid) @ W, first) > 0.1


def test_false_a_bias_commutes_with_padded_averages():
    window = {"pooling": Pooling(size=(1, 1, 3), mode="avg"), "grid": (1, 1, 3)}
    X, W, bias = np.zeros((3, 1)), np.ones((1, 1)), np.ones(1)
    y = vtnp.mvit.pooled_projection(X, W, bias=bias, **window)
    assert_close(y[:, 0], np.array([2 / 3, 1.0, 2 / 3]))


# --- Heads ----------------------------------------------------------------------------------------


def test_false_frames_of_wider_windows_have_no_order():
    rng = np.random.default_rng(0)
    params = projections(make("multi-head-pooling-attention", 1).args["params"])
    params |= {f"kernel_{c}": rng.standard_normal((3, 1, 1, params[f"W_{c}"].shape[-1]))
               for c in "qkv"}  # fmt: skip
    x = rng.standard_normal((3, 4, params["W_q"].shape[1]))
    options = {"params": params, "grid": (3, 2, 2)}
    flat = (12, x.shape[-1])
    y, _ = vtnp.mvit.multi_head_pooling_attention(x.reshape(flat), **options)
    moved, _ = vtnp.mvit.multi_head_pooling_attention(x[[1, 0, 2]].reshape(flat), **options)
    assert difference(moved.reshape(x.shape)[[1, 0, 2]].reshape(flat), y) > 0.1


def test_false_delta_kernels_are_plain_beside_a_norm():
    case = make("multi-head-pooling-attention", 0)
    params = projections(case["params"])
    plain = vtnp.encoder.multi_head_self_attention(case["x"], **params)
    for letter in "qkv":
        d = params[f"W_{letter}"].shape[-1]
        params |= {f"kernel_{letter}": delta(d), f"norm_{letter}": ones_and_zeros(d)}
    y, _ = case(params=params, **PLAIN)
    assert difference(y, plain) > 0.1


def test_false_every_token_contributes_to_a_key():
    """Windows of three with stride eight leave out five of eight cells: MViT-B's first block."""
    rng = np.random.default_rng(0)
    params = projections(make("multi-head-pooling-attention", 1).args["params"])
    for letter in "kv":
        params[f"kernel_{letter}"] = rng.standard_normal((*CUBE, params[f"W_{letter}"].shape[-1]))
    x = rng.standard_normal((1 + 16, params["W_q"].shape[1]))
    options = {"params": params, "grid": (1, 1, 16), "has_cls": True}
    options["pool_kv"] = Pooling((1, 1, 8))
    of_class_token = vtnp.mvit.multi_head_pooling_attention(x, **options)[0][0]
    for i in range(16):
        moved = x.copy()
        moved[1 + i] += 1.0
        update = vtnp.mvit.multi_head_pooling_attention(moved, **options)[0][0]
        assert (difference(update, of_class_token) > 1e-6) == (i % 8 in {0, 1, 7} and i != 15)


def test_keys_and_values_of_different_windows_are_refused():
    case = make("multi-head-pooling-attention", 0)
    params = projections(case["params"])
    params["kernel_k"] = np.ones((2, 1, 1, params["W_k"].shape[-1]))
    params["kernel_v"] = np.ones((1, 1, 1, params["W_v"].shape[-1]))
    with pytest.raises(vtnp.ShapeError, match=r"pooling-attention .* argument V"):
        case(params=params, **PLAIN)


# --- Widening -------------------------------------------------------------------------------------


def test_widening_refuses():
    case = make("widening-mlp", 0)
    message = r"^widening-mlp .*: argument activation: expected one of 'relu', .*, got 'swish'"
    with pytest.raises(vtnp.FormulaError, match=message):
        case(activation="swish")


def test_a_missing_shortcut_is_none():
    """A key whose value is None counts as left out."""
    case = make("multiscale-block", 0)
    narrow = {key: each for key, each in case["params"].items() if key != "shortcut"}
    d, d_f = narrow["feed_forward"]["W_1"].shape
    narrow["feed_forward"] = {"W_1": np.ones((d, d_f)), "W_2": np.ones((d_f, d))}
    attention = {"norm_q": None, "kernel_q": None} | projections(narrow["attention"])
    explicit = {**narrow, "shortcut": None, "attention": attention}
    bare = {**narrow, "attention": projections(narrow["attention"])}
    assert_close(case(params=explicit, **PLAIN)[0], case(params=bare, **PLAIN)[0], within=0)


# --- The strides of keys and values ---------------------------------------------------------------


# Blocks of MViT-B, 16 x 4: the strides of queries, of keys; tokens of each, class token included.
MVIT_B = (
    [((1, 1, 1), (1, 8, 8), 25089, 393), ((1, 2, 2), (1, 4, 4), 6273, 1569)]
    + [((1, 1, 1), (1, 4, 4), 6273, 393), ((1, 2, 2), (1, 2, 2), 1569, 1569)]
    + [((1, 1, 1), (1, 2, 2), 1569, 393)] * 10
    + [((1, 2, 2), (1, 1, 1), 393, 1569), ((1, 1, 1), (1, 1, 1), 393, 393)]
)


def test_strides_and_tokens_of_mvit_b():
    strides_q, strides_kv, queries, keys = zip(*MVIT_B, strict=True)
    assert vtnp.mvit.adaptive_strides((1, 8, 8), strides_q) == strides_kv
    grid = (8, 56, 56)
    for stride_q, stride_kv, n_q, n_k in MVIT_B:
        keys_of = vtnp.mvit.pooled_grid(grid, pooling=Pooling(stride_kv, CUBE))
        assert 1 + math.prod(keys_of) == n_k
        grid = vtnp.mvit.pooled_grid(grid, pooling=Pooling(stride_q, CUBE))
        assert 1 + math.prod(grid) == n_q
    assert len(set(keys)) == 2, "the number of keys is not the same in all blocks"
    assert len(queries) == 16


@pytest.mark.parametrize(
    ("strides", "message"),
    [
        (((1, 0, 1), []), r"expected min\(stride_kv\) >= 1, got stride_kv = \(1, 0, 1\)"),
        (
            ((1, 8, 8), [(1, 2, 2), (1, 0, 1)]),
            r"expected all\(min\(s_q\) >= 1 for s_q in strides_q\), got strides_q = ",
        ),
        (
            ((1, 8, 8), [(1, 2)]),
            r"argument strides_q: expected a sequence, each 3 integers, got \[\(1, 2\)\]",
        ),
        (((1, 8), []), r"argument stride_kv: expected 3 integers, got \(1, 8\)"),
    ],
)
def test_strides_refuse(strides, message):
    with pytest.raises(vtnp.FormulaError, match=f"^adaptive-strides .*: {message}"):
        vtnp.mvit.adaptive_strides(*strides)
