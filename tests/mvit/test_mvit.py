"""What no law says of vtnp.mvit: exact values, refusals, counterexamples, accuracy."""

import math

import numpy as np
import pytest

import vtnp
from tests.support.compare import assert_close, difference
from vtnp.claims.cases import make
from vtnp.claims.mvit import CUBE, ONE, UNPOOLED, delta, ones_and_zeros, projections

# --- How many places ------------------------------------------------------------------------------


def test_queries_and_skip_agree_but_for_odd_strides():
    """The queries' window of 3 and the skip's of s + 1: exhaustively, for short axes."""
    for s in range(1, 9):
        for n in range(1, 40):
            queries = vtnp.mvit.pooled_grid((n, 1, 1), size=CUBE, stride=(s, 1, 1))
            skip = vtnp.mvit.pooled_grid(
                (n, 1, 1), size=(s + 1 if s > 1 else 1, 1, 1), stride=(s, 1, 1)
            )
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
        vtnp.mvit.pooled_grid(**good | changed)


# --- Pooling a grid -------------------------------------------------------------------------------


def test_false_flip_on_even_width():
    x = np.array([1.0, 2.0, 4.0, 8.0]).reshape((1, 1, 4, 1))
    window = {"size": (1, 1, 3), "stride": (1, 1, 2), "mode": "max"}
    pooled, flipped = vtnp.mvit.pool(x, **window), vtnp.mvit.pool(x[..., ::-1, :], **window)
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
        vtnp.mvit.pool(np.ones((3, 3, 3, 2)), **options)


def test_pool_refuses_an_empty_grid():
    with pytest.raises(vtnp.FormulaError, match="three numbers each, grid, size and stride >= 1"):
        vtnp.mvit.pool(np.ones((0, 3, 3, 2)), size=ONE, mode="max")


# --- Pooling a sequence ---------------------------------------------------------------------------


def test_tokens_refuse():
    x = np.ones((13, 2))
    with pytest.raises(vtnp.FormulaError, match="grid: expected three sizes of product 13"):
        vtnp.mvit.pooled_tokens(x, grid=(3, 2, 2))
    with pytest.raises(vtnp.FormulaError, match="grid: expected three sizes of product 12"):
        vtnp.mvit.pooled_tokens(x, grid=(3, 2, 3), cls=True)
    with pytest.raises(vtnp.FormulaError, match="grid: expected 3 whole numbers"):
        vtnp.mvit.pooled_tokens(x, grid=(3, 4), cls=True)
    with pytest.raises(vtnp.FormulaError, match="stride: expected 1 along each axis"):
        vtnp.mvit.pooled_tokens(x, grid=(3, 2, 2), stride=(1, 2, 2), cls=True)
    with pytest.raises(vtnp.FormulaError, match="beta: expected both of gamma and beta"):
        vtnp.mvit.pooled_tokens(x, grid=(3, 2, 2), gamma=np.ones(2), cls=True)
    with pytest.raises(vtnp.FormulaError, match="mode: expected one of"):
        vtnp.mvit.pooled_tokens(x, grid=(3, 2, 2), mode="mean", cls=True)


# --- Eq. (10) -------------------------------------------------------------------------------------


def test_false_maxima_and_kernels_of_channels_commute():
    rng = np.random.default_rng(0)
    X, W = rng.standard_normal((12, 3)), rng.standard_normal((3, 3))
    grid, window = (3, 2, 2), {"size": CUBE, "stride": (1, 2, 2), "mode": "max"}
    first = vtnp.mvit.pooled_projection(X, W, grid=grid, **window)
    assert difference(vtnp.mvit.pooled_tokens(X, grid=grid, **window) @ W, first) > 0.1
    kernel = rng.standard_normal((*CUBE, 3))
    first = vtnp.mvit.pooled_projection(X, W, kernel, grid=grid)
    assert difference(vtnp.mvit.pooled_tokens(X, kernel, grid=grid) @ W, first) > 0.1


def test_false_a_bias_commutes_with_padded_averages():
    window = {"size": (1, 1, 3), "mode": "avg", "grid": (1, 1, 3)}
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
    of_class_token = vtnp.mvit.multi_head_pooling_attention(x, **options)[0][0]
    for place in range(16):
        moved = x.copy()
        moved[1 + place] += 1.0
        read = vtnp.mvit.multi_head_pooling_attention(moved, **options)[0][0]
        assert (difference(read, of_class_token) > 1e-6) == (place % 8 in {0, 1, 7} and place != 15)


def test_keys_and_values_of_different_windows_are_refused():
    case = make("multi-head-pooling-attention", 0)
    params = projections(case["params"])
    params["kernel_k"] = np.ones((2, 1, 1, params["W_k"].shape[-1]))
    params["kernel_v"] = np.ones((1, 1, 1, params["W_v"].shape[-1]))
    with pytest.raises(vtnp.ShapeError, match=r"pooling-attention .* argument V"):
        case(params=params, **UNPOOLED, mode="conv")


# --- Widening -------------------------------------------------------------------------------------


def test_widening_refuses():
    case = make("widening-mlp", 0)
    with pytest.raises(vtnp.FormulaError, match="widening-mlp: argument activation"):
        case(activation="swish")


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
        assert 1 + math.prod(vtnp.mvit.pooled_grid(grid, size=CUBE, stride=stride_kv)) == n_k
        grid = vtnp.mvit.pooled_grid(grid, size=CUBE, stride=stride_q)
        assert 1 + math.prod(grid) == n_q
    assert len(set(keys)) == 2, "the number of keys is not the same in all blocks"
    assert len(queries) == 16


@pytest.mark.parametrize("strides", [((1, 0, 1), []), ((1, 8, 8), [(1, 2)]), ((1, 8), [])])
def test_strides_refuse(strides):
    with pytest.raises(vtnp.FormulaError, match="adaptive-strides: argument stride"):
        vtnp.mvit.adaptive_strides(*strides)
