"""Laws and special cases of softmax, of attention in one head, and of the causal mask."""

import math

import numpy as np
import scipy.special

from vtnp import encoder
from vtnp.claims._registry import law, special
from vtnp.claims.common import (
    assert_only_first_row_is_nan,
    attends,
    columns,
    gradient_at,
    mask_of,
    mask_one_key,
    permutation,
    rows,
    well_conditioned,
)
from vtnp.claims.compare import assert_at_most, assert_close
from vtnp.claims.errors import needs

# --- softmax --------------------------------------------------------------------------------------


@law("softmax", "sums-to-one")
def softmax_sums_to_one(case):
    y = case()
    assert np.all((y >= 0) & (y <= 1))
    assert_close(y.sum(axis=-1), np.ones(y.shape[:-1]))


@law("softmax", "shift-invariant")
def softmax_shift_invariant(case):
    shift = case.rng.choice([-1000.0, 1000.0], (*case["x"].shape[:-1], 1))
    # Rounding x + 1000 alone makes an error of up to 1e-13.
    assert_close(case(x=case["x"] + shift), case(), within=1e-12)


@law("softmax", "log-ratios")
def softmax_log_ratios(case):
    y, below = case(), case["x"] - np.max(case["x"], axis=-1, keepdims=True)
    normal = y >= np.finfo(case.dtype).tiny  # others have lost digits, or all of them
    ratios = np.log(np.where(normal, y, 1.0) / np.max(y, axis=-1, keepdims=True))
    assert_close(np.where(normal, ratios, 0.0), np.where(normal, below, 0.0))


@law("softmax", "keeps-order")
def softmax_keeps_order(case):
    order = np.argsort(case["x"], axis=-1)
    assert np.all(np.diff(np.take_along_axis(case(), order, axis=-1), axis=-1) >= 0)


@law("softmax", "permute")
def softmax_permute(case):
    order = permutation(case, case["x"].shape[-1])
    assert_close(case(x=columns(case["x"], order)), columns(case(), order))


@law("softmax", "jacobian", differentiates=True)
def softmax_jacobian(case):
    y = case()
    cotangent = case.numbers(y.shape)
    expected = y * cotangent - y * np.sum(y * cotangent, axis=-1, keepdims=True)
    assert_close(gradient_at(case, "x", case["x"], cotangent), expected)


@law("softmax", "half-lipschitz")
def softmax_half_lipschitz(case):
    for size in (1e-3, 1.0, 30.0):
        step = size * case.numbers(case["x"].shape)
        moved = np.linalg.norm(case(x=case["x"] + step) - case(), axis=-1)
        assert_at_most(moved, 0.5 * np.linalg.norm(step, axis=-1))


@special("softmax", "single-score")
def softmax_single_score(case):
    y = case(x=case["x"][..., :1])
    assert np.array_equal(y, np.ones_like(y))


@special("softmax", "equal-scores")
def softmax_equal_scores(case):
    y = case(x=np.repeat(case["x"][..., :1], case["x"].shape[-1], axis=-1))
    assert_close(y, np.full_like(y, 1 / y.shape[-1]), within=1e-15)


@special("softmax", "minus-infinity")
def softmax_minus_infinity(case):
    needs(case["x"].shape[-1] >= 2, "two scores")
    x = case["x"].copy()
    x[..., 1] = -math.inf
    y = case(x=x)
    assert np.all(y[..., 1] == 0.0)
    assert_close(np.delete(y, 1, axis=-1), case(x=np.delete(x, 1, axis=-1)))


@special("softmax", "all-minus-infinity", differentiates=True)
def softmax_all_minus_infinity(case):
    x = np.stack([np.full_like(case["x"], -math.inf), case["x"]])
    y = case(x=x)
    assert np.all(y[0] == 0.0)
    assert_close(y[1], case())
    gradient = gradient_at(case, "x", x, case.numbers(x.shape))
    assert np.all(gradient[0] == 0.0)
    assert np.all(np.isfinite(gradient[1]))


@special("softmax", "huge-scores")
def softmax_huge_scores(case):
    scale = 10.0 ** case.rng.integers(-4, 5, (*case["x"].shape[:-1], 1))
    x = scale * case["x"] + case.rng.choice([-1e4, 1e4], scale.shape)
    assert_close(case(x=x), scipy.special.softmax(x, axis=-1))
    assert_close(case(x=x).sum(axis=-1), np.ones(x.shape[:-1]))


@special("softmax", "nan-row")
def softmax_nan_row(case):
    for bad in (math.nan, math.inf):
        x = np.stack([case["x"], case["x"]])
        x[(0,) * (x.ndim - 1)][0] = bad
        with np.errstate(invalid="ignore"):
            y = case(x=x)
        assert_only_first_row_is_nan(y)


# --- Attention weights ----------------------------------------------------------------------------


def fully_masked_first_row(case):
    """Return a mask under which the first query may attend to nothing."""
    mask = mask_of(case, case["Q"].shape[-2], case["K"].shape[-2]).copy()
    mask[..., 0, :] = False
    return mask


def long_queries(case):
    """Return queries of very different lengths, for which scores reach 1e4 and more."""
    needs(case.dtype != "float16", "scores of 1e5")
    n = case["Q"].shape[-2]
    return case["Q"] * 10.0 ** np.linspace(-4, 5, n)[:, None]


@law("attention-weights", "rows-sum-to-one")
def attention_weights_rows_sum_to_one(case):
    alpha = case()
    assert np.all((alpha >= 0) & (alpha <= 1))
    attending = attends(case, *alpha.shape[-2:])[..., 0]
    assert_close(alpha.sum(axis=-1), np.broadcast_to(attending * 1.0, alpha.shape[:-1]))


@law("attention-weights", "permute-keys")
def attention_weights_permute_keys(case):
    order = permutation(case, case["K"].shape[-2])
    changed = {"K": rows(case["K"], order)}
    if "mask" in case.args:
        changed["mask"] = columns(case["mask"], order)
    assert_close(case(**changed), columns(case(), order))


@law("attention-weights", "permute-queries")
def attention_weights_permute_queries(case):
    order = permutation(case, case["Q"].shape[-2])
    changed = {"Q": rows(case["Q"], order)}
    if "mask" in case.args:
        changed["mask"] = rows(case["mask"], order)
    assert_close(case(**changed), rows(case(), order))


@law("attention-weights", "shift-keys")
def attention_weights_shift_keys(case):
    shift = case.numbers((*case["K"].shape[:-2], 1, case["K"].shape[-1]))
    assert_close(case(K=case["K"] + shift), case())


@law("attention-weights", "query-key-gauge")
def attention_weights_query_key_gauge(case):
    (A,), (inverse,) = well_conditioned(case, 1, case["K"].shape[-1])
    assert_close(case(Q=case["Q"] @ A, K=case["K"] @ inverse.T), case())


@law("attention-weights", "masked-is-deleted")
def attention_weights_masked_is_deleted(case):
    j, mask, kept = mask_one_key(case, case["Q"].shape[-2], case["K"].shape[-2])
    alpha = case(mask=mask)
    assert np.all(alpha[..., j] == 0.0)
    assert_close(columns(alpha, kept), case(K=rows(case["K"], kept), mask=columns(mask, kept)))


@special("attention-weights", "single-key")
def attention_weights_single_key(case):
    alpha = case(K=case["K"][..., :1, :], mask=None)
    assert np.array_equal(alpha, np.ones_like(alpha))


@special("attention-weights", "equal-keys")
def attention_weights_equal_keys(case):
    m = case["K"].shape[-2]
    alpha = case(K=rows(case["K"], np.zeros(m, int)), mask=None)
    assert_close(alpha, np.full_like(alpha, 1 / m), within=1e-15)


@special("attention-weights", "fully-masked-row", differentiates=True)
def attention_weights_fully_masked_row(case):
    mask = fully_masked_first_row(case)
    alpha = case(mask=mask)
    assert np.all(alpha[..., 0, :] == 0.0)
    assert_close(alpha[..., 1:, :], case()[..., 1:, :])
    masked = case.with_args(mask=mask)
    cotangent = case.numbers(alpha.shape)
    for name in ("Q", "K"):
        gradient = gradient_at(masked, name, case[name], cotangent)
        assert np.all(np.isfinite(gradient))
        assert name == "K" or np.all(gradient[..., 0, :] == 0.0)


@special("attention-weights", "huge-logits")
def attention_weights_huge_logits(case):
    alpha = case(Q=long_queries(case))
    assert np.all((alpha >= 0) & (alpha <= 1))
    attending = attends(case, *alpha.shape[-2:])[..., 0]
    assert_close(alpha.sum(axis=-1), np.broadcast_to(attending * 1.0, alpha.shape[:-1]))


@special("attention-weights", "nan-in-masked-key")
def attention_weights_nan_in_masked_key(case):
    j, mask, _ = mask_one_key(case, case["Q"].shape[-2], case["K"].shape[-2])
    for bad in (math.nan, math.inf):
        K = case["K"].copy()
        K[..., j, 0] = bad
        with np.errstate(invalid="ignore"):
            assert_close(case(K=K, mask=mask), case(mask=mask))


# --- Attention ------------------------------------------------------------------------------------


@law("attention", "convex-hull")
def attention_convex_hull(case):
    y, V = case(), case["V"][..., None, :, :]
    n, m = case["Q"].shape[-2], case["K"].shape[-2]
    allowed, attending = mask_of(case, n, m)[..., None], attends(case, n, m)
    low = np.min(np.where(allowed, V, np.inf), axis=-2)
    high = np.max(np.where(allowed, V, -np.inf), axis=-2)
    assert_at_most(np.where(attending, low, 0.0), y, within=1e-14)
    assert_at_most(y, np.where(attending, high, 0.0), within=1e-14)


@law("attention", "linear-in-values")
def attention_linear_in_values(case):
    other = case.numbers(case["V"].shape)
    assert_close(case(V=2.0 * case["V"] - 3.0 * other), 2.0 * case() - 3.0 * case(V=other))


@law("attention", "shift-values")
def attention_shift_values(case):
    shift = case.numbers((*case["V"].shape[:-2], 1, case["V"].shape[-1]))
    attending = attends(case, case["Q"].shape[-2], case["K"].shape[-2])
    assert_close(case(V=case["V"] + shift), case() + np.where(attending, shift, 0.0))


@law("attention", "permute-pairs")
def attention_permute_pairs(case):
    order = permutation(case, case["K"].shape[-2])
    changed = {name: rows(case[name], order) for name in ("K", "V")}
    if "mask" in case.args:
        changed["mask"] = columns(case["mask"], order)
    assert_close(case(**changed), case())


@law("attention", "permute-queries")
def attention_permute_queries(case):
    order = permutation(case, case["Q"].shape[-2])
    changed = {"Q": rows(case["Q"], order)}
    if "mask" in case.args:
        changed["mask"] = rows(case["mask"], order)
    assert_close(case(**changed), rows(case(), order))


@law("attention", "replication")
def attention_replication(case):
    m = case["K"].shape[-2]
    thrice = np.tile(np.arange(m), 3)
    changed = {name: rows(case[name], thrice) for name in ("K", "V")}
    if "mask" in case.args:
        changed["mask"] = columns(case["mask"], thrice)
    assert_close(case(**changed), case())


@law("attention", "shift-keys")
def attention_shift_keys(case):
    shift = case.numbers((*case["K"].shape[:-2], 1, case["K"].shape[-1]))
    assert_close(case(K=case["K"] + shift), case())


@law("attention", "masked-is-deleted")
def attention_masked_is_deleted(case):
    _, mask, kept = mask_one_key(case, case["Q"].shape[-2], case["K"].shape[-2])
    fewer = case(K=rows(case["K"], kept), V=rows(case["V"], kept), mask=columns(mask, kept))
    assert_close(case(mask=mask), fewer)


@special("attention", "single-key")
def attention_single_key(case):
    y = case(K=case["K"][..., :1, :], V=case["V"][..., :1, :], mask=None)
    assert np.array_equal(y, np.broadcast_to(case["V"][..., :1, :], y.shape))


@special("attention", "equal-keys")
def attention_equal_keys(case):
    y = case(K=rows(case["K"], np.zeros(case["K"].shape[-2], int)), mask=None)
    mean = np.mean(case["V"], axis=-2, keepdims=True)
    assert_close(y, np.broadcast_to(mean, y.shape), within=1e-15)


@special("attention", "fully-masked-row", differentiates=True)
def attention_fully_masked_row(case):
    mask = fully_masked_first_row(case)
    y = case(mask=mask)
    assert np.all(y[..., 0, :] == 0.0)
    assert_close(y[..., 1:, :], case()[..., 1:, :])
    masked = case.with_args(mask=mask)
    cotangent = np.zeros(y.shape)
    cotangent[..., 0, :] = 1.0
    for name in ("Q", "K", "V"):
        assert np.all(gradient_at(masked, name, case[name], cotangent) == 0.0)


@special("attention", "huge-logits")
def attention_huge_logits(case):
    Q, m = long_queries(case), case["K"].shape[-2]
    needs(m >= 2, "two keys")
    scale = case.args.get("scale", 1 / math.sqrt(Q.shape[-1]))
    allowed = mask_of(case, Q.shape[-2], m)
    scores = np.where(allowed, Q @ np.swapaxes(case["K"], -1, -2) * scale, -np.inf)
    order = np.argsort(scores, axis=-1)
    ranked = np.take_along_axis(scores, order, axis=-1)
    clear = ranked[..., -1] - ranked[..., -2] > 50
    best = np.take_along_axis(case["V"], order[..., -1][..., None], axis=-2)
    y = case(Q=Q)
    assert np.all(np.isfinite(y))
    assert_close(y[clear], best[clear], within=1e-14)


@special("attention", "nan-in-masked-value")
def attention_nan_in_masked_value(case):
    j, mask, _ = mask_one_key(case, case["Q"].shape[-2], case["K"].shape[-2])
    K, V = case["K"].copy(), case["V"].copy()
    K[..., j, 0] = math.nan
    assert_close(case(K=K, mask=mask), case(mask=mask))
    V[..., j, 0] = math.nan
    y = case(V=V, mask=mask)
    assert np.all(np.isnan(y[..., 0]))
    assert_close(y[..., 1:], case(mask=mask)[..., 1:])


# --- Causal mask ----------------------------------------------------------------------------------


@law("causal-mask", "prefix")
def causal_mask_prefix(case):
    mask = case()
    for k in range(case["n"]):
        assert np.array_equal(case(n=k), mask[:k, :k])


@law("causal-mask", "sees-itself")
def causal_mask_sees_itself(case):
    assert np.all(np.diagonal(case()))


@law("causal-mask", "either-way")
def causal_mask_either_way(case):
    mask = case()
    apart = ~np.eye(case["n"], dtype=bool)
    assert np.all((mask ^ mask.T)[apart])


@law("causal-mask", "counts")
def causal_mask_counts(case):
    assert np.array_equal(case().sum(axis=1), np.arange(case["n"]) + 1)


@law("causal-mask", "prefix-of-attention")
def causal_mask_prefix_of_attention(case):
    n = case["n"]
    Q, K, V = case.numbers((3, n, 4))
    whole = encoder.attention(Q, K, V, mask=case())
    for k in range(1, n):
        assert_close(encoder.attention(Q[:k], K[:k], V[:k], mask=case(n=k)), whole[:k])
        changed = np.concatenate([V[:k], np.full((n - k, 4), 1e9)])
        assert_close(encoder.attention(Q, K, changed, mask=case())[:k], whole[:k])


@special("causal-mask", "one-token")
def causal_mask_one_token(case):
    assert np.array_equal(case(n=1), [[True]])


@special("causal-mask", "no-tokens")
def causal_mask_no_tokens(case):
    assert case(n=0).shape == (0, 0)
