"""Laws and special cases of spec/encoder/."""

import math

import numpy as np
import scipy.special
from autograd import make_vjp
from scipy.stats import norm as normal

import vtnp
from vtnp.claims._registry import law, special
from vtnp.claims.compare import assert_close, largest

EPS = np.finfo(np.float64).eps


# --- What laws are made of ------------------------------------------------------------------------


def rows(x, order):
    """Reorder, choose or repeat the tokens of x."""
    return np.take(x, order, axis=-2)


def columns(x, order):
    return np.take(x, order, axis=-1)


def reordered(case, length):
    """Draw a permutation that is not the identity."""
    order = case.rng.permutation(length)
    return np.roll(np.arange(length), 1) if np.array_equal(order, np.arange(length)) else order


def mask_of(case, n, m):
    """Return the case's mask, or one that allows everything."""
    mask = case.args.get("mask")
    return np.ones((n, m), bool) if mask is None else mask


def without(case, n, m):
    """Draw a key j to mask for everybody; return j, a mask without it, and the keys that remain."""
    j, other = case.rng.permutation(m)[:2]
    mask = mask_of(case, n, m).copy()
    mask[..., j] = False
    mask[..., other] |= ~mask.any(axis=-1)
    return j, mask, np.delete(np.arange(m), j)


def well_conditioned(case, heads, width):
    """Draw one invertible matrix for each head, and their inverses."""
    turns = np.linalg.qr(case.rng.standard_normal((heads, width, width)))[0]
    sizes = case.rng.uniform(0.5, 2.0, (heads, width))
    A = turns * sizes[:, None, :]
    return A, np.linalg.inv(A)


def at(case, path):
    """Return the dict of attention weights at a path within the arguments."""
    node = case.args
    for key in path:
        node = node[key]
    names = ("W_q", "W_k", "W_v", "W_c", "b_q", "b_k", "b_v", "b_c")
    return {name: node[name] for name in names if name in node}


def with_weights(case, path, **changed):
    """Evaluate with some of the attention weights at a path changed."""
    if not path:
        return case(**changed)
    head, *rest = path
    node = dict(case.args[head])
    target = node
    for key in rest:
        target[key] = dict(target[key])
        target = target[key]
    target.update(changed)
    return case(**{head: node})


def assert_heads_permute(case, path):
    weights = at(case, path)
    order = reordered(case, weights["W_q"].shape[0])
    changed = {name: x if name == "b_c" else x[order] for name, x in weights.items()}
    # Sums over heads in another order; scores of these random weights reach the hundreds.
    assert_close(with_weights(case, path, **changed), case(), within=1e-11)


def assert_query_key_gauge(case, path):
    weights = at(case, path)
    heads, _, d_h = weights["W_q"].shape
    A, inverse = well_conditioned(case, heads, d_h)
    inverse_t = np.swapaxes(inverse, -1, -2)
    changed = {"W_q": weights["W_q"] @ A, "W_k": weights["W_k"] @ inverse_t}
    if "b_q" in weights:
        changed["b_q"] = (weights["b_q"][:, None, :] @ A)[:, 0]
        changed["b_k"] = (weights["b_k"][:, None, :] @ inverse_t)[:, 0]
    assert_close(with_weights(case, path, **changed), case(), within=1e-10)


def assert_value_gauge(case, path):
    weights = at(case, path)
    heads, _, d_v = weights["W_v"].shape
    B, inverse = well_conditioned(case, heads, d_v)
    changed = {"W_v": weights["W_v"] @ B, "W_c": inverse @ weights["W_c"]}
    if "b_v" in weights:
        changed["b_v"] = (weights["b_v"][:, None, :] @ B)[:, 0]
    assert_close(with_weights(case, path, **changed), case(), within=1e-10)


def assert_key_bias_is_invisible(case, path):
    heads, _, d_h = at(case, path)["W_k"].shape
    plus_bias = with_weights(case, path, b_k=case.rng.standard_normal((heads, d_h)))
    assert_close(plus_bias, with_weights(case, path, b_k=None), within=1e-11)


def assert_value_bias_folds(case, path):
    weights = at(case, path)
    heads, _, d_v = weights["W_v"].shape
    b_v = case.rng.standard_normal((heads, d_v))
    folded = weights.get("b_c", 0.0) + sum(b_v[h] @ weights["W_c"][h] for h in range(heads))
    assert_close(
        with_weights(case, path, b_v=b_v),
        with_weights(case, path, b_v=None, b_c=folded),
        within=1e-11,
    )


def assert_tokens_permute(case):
    n = case["x"].shape[-2]
    order = reordered(case, n)
    mask = columns(rows(mask_of(case, n, n), order), order)
    assert_close(case(x=rows(case["x"], order), mask=mask), rows(case(), order), within=1e-11)


def assert_replicates(case):
    n = case["x"].shape[-2]
    thrice = np.tile(np.arange(n), 3)
    mask = columns(rows(mask_of(case, n, n), thrice), thrice)
    again = case(x=rows(case["x"], thrice), mask=mask)
    assert_close(again, rows(case(), thrice), within=1e-11)


def assert_masked_token_is_deleted(case):
    n = case["x"].shape[-2]
    _, mask, kept = without(case, n, n)
    alone = case(x=rows(case["x"], kept), mask=columns(rows(mask, kept), kept))
    assert_close(rows(case(mask=mask), kept), alone, within=1e-11)


def assert_each_token_alone(case, name):
    chosen = case.rng.permutation(case[name].shape[-2])[:1]
    assert_close(case(**{name: rows(case[name], chosen)}), rows(case(), chosen))


def assert_queries_and_keys_do_not_matter(case, path):
    """With one token to read, scores make no difference."""
    weights = at(case, path)
    changed = {name: case.rng.standard_normal(weights[name].shape) for name in ("W_q", "W_k")}
    changed |= {name: None for name in ("b_q", "b_k") if name in weights}
    assert_close(with_weights(case, path, **changed), case(), within=1e-14)


def assert_normalised(case, norm, eps):
    """(z - beta) / gamma has mean 0 and variance below 1."""
    plain = (case() - norm["beta"]) / norm["gamma"]
    # Dividing by a small gamma magnifies the rounding of z.
    within = 1e-13 / np.min(np.abs(norm["gamma"]))
    assert_close(plain.mean(axis=-1), np.zeros(plain.shape[:-1]), within=within)
    variance = np.mean(plain**2, axis=-1)
    assert np.all(variance <= 1 + within)
    assert np.all(variance > 0.5) or eps > 1e-4


def assert_only_first_row_is_nan(y):
    first, *others = y.reshape(-1, y.shape[-1])
    assert np.all(np.isnan(first))
    assert np.all(np.isfinite(others))


def gradient_at(case, name, value, cotangent):
    """Return the gradient of <formula, cotangent> with respect to one argument, at a value."""
    return make_vjp(lambda x: case.function(**{**case.args, name: x}))(value)[0](cotangent)


# --- softmax --------------------------------------------------------------------------------------


@law("softmax", "sums-to-one")
def softmax_sums_to_one(case):
    y = case()
    assert np.all((y >= 0) & (y <= 1))
    assert_close(y.sum(axis=-1), np.ones(y.shape[:-1]))


@law("softmax", "shift-invariant")
def softmax_shift_invariant(case):
    shift = case.rng.choice([-1000.0, 1000.0], (*case["x"].shape[:-1], 1))
    # x + 1000 is itself rounded, by up to 1e-13.
    assert_close(case(x=case["x"] + shift), case(), within=1e-12)


@law("softmax", "log-ratios")
def softmax_log_ratios(case):
    logs = np.log(case())
    assert_close(logs - logs[..., :1], case["x"] - case["x"][..., :1])


@law("softmax", "keeps-order")
def softmax_keeps_order(case):
    order = np.argsort(case["x"], axis=-1)
    assert np.all(np.diff(np.take_along_axis(case(), order, axis=-1), axis=-1) >= 0)


@law("softmax", "permute")
def softmax_permute(case):
    order = reordered(case, case["x"].shape[-1])
    assert_close(case(x=columns(case["x"], order)), columns(case(), order))


@law("softmax", "jacobian", differentiates=True)
def softmax_jacobian(case):
    y = case()
    cotangent = case.rng.standard_normal(y.shape)
    expected = y * cotangent - y * np.sum(y * cotangent, axis=-1, keepdims=True)
    assert_close(gradient_at(case, "x", case["x"], cotangent), expected)


@law("softmax", "half-lipschitz")
def softmax_half_lipschitz(case):
    for size in (1e-3, 1.0, 30.0):
        step = size * case.rng.standard_normal(case["x"].shape)
        moved = np.linalg.norm(case(x=case["x"] + step) - case(), axis=-1)
        assert np.all(moved <= 0.5 * np.linalg.norm(step, axis=-1) + 1e-14)


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
    gradient = gradient_at(case, "x", x, case.rng.standard_normal(x.shape))
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


# --- Heads ----------------------------------------------------------------------------------------


@law("qkv-projection", "linear")
def projection_linear(case):
    other = case.rng.standard_normal(case["x"].shape)
    sum_of_both = case(x=2.0 * case["x"] - 3.0 * other, bias=None)
    assert_close(sum_of_both, 2.0 * case(bias=None) - 3.0 * case(x=other, bias=None))


@law("qkv-projection", "each-token-alone")
def projection_each_token_alone(case):
    assert_each_token_alone(case, "x")


@law("qkv-projection", "permute-heads")
def projection_permute_heads(case):
    order = reordered(case, case["W"].shape[0])
    changed = {name: case[name][order] for name in ("W", "bias") if name in case.args}
    assert_close(case(**changed), np.take(case(), order, axis=-3))


@law("qkv-projection", "bias-adds")
def projection_bias_adds(case):
    bias = case.rng.standard_normal((case["W"].shape[0], case["W"].shape[-1]))
    assert_close(case(bias=bias), case(bias=None) + bias[:, None, :])


@law("qkv-projection", "fused-matrix")
def projection_fused_matrix(case):
    heads, _, d_h = case["W"].shape
    fused = case["x"] @ np.concatenate(list(case["W"]), axis=-1)
    y = case(bias=None)
    for h in range(heads):
        assert_close(y[..., h, :, :], fused[..., h * d_h : (h + 1) * d_h])


@special("qkv-projection", "one-head")
def projection_one_head(case):
    y = case(W=case["W"][:1], bias=None)
    assert_close(y[..., 0, :, :], case["x"] @ case["W"][0])
    assert y.shape[-3] == 1


@special("qkv-projection", "zero-weights")
def projection_zero_weights(case):
    bias = case.rng.standard_normal((case["W"].shape[0], case["W"].shape[-1]))
    y = case(W=np.zeros_like(case["W"]), bias=bias)
    assert np.array_equal(y, np.broadcast_to(bias[:, None, :], y.shape))


@law("output-projection", "equal-to-concatenation")
def merge_equal_to_concatenation(case):
    heads = case["W_c"].shape[0]
    side_by_side = np.concatenate([case["y"][..., h, :, :] for h in range(heads)], axis=-1)
    W_O = np.concatenate(list(case["W_c"]), axis=0)
    bias = case.args.get("bias", 0.0)
    assert_close(case(), side_by_side @ W_O + bias)


@law("output-projection", "linear")
def merge_linear(case):
    other = case.rng.standard_normal(case["y"].shape)
    sum_of_both = case(y=2.0 * case["y"] - 3.0 * other, bias=None)
    assert_close(sum_of_both, 2.0 * case(bias=None) - 3.0 * case(y=other, bias=None))


@law("output-projection", "each-token-alone")
def merge_each_token_alone(case):
    assert_each_token_alone(case, "y")


@law("output-projection", "permute-heads")
def merge_permute_heads(case):
    order = reordered(case, case["W_c"].shape[0])
    permuted = case(y=np.take(case["y"], order, axis=-3), W_c=case["W_c"][order])
    assert_close(permuted, case())


@law("output-projection", "sum-of-heads")
def merge_sum_of_heads(case):
    heads = range(case["W_c"].shape[0])
    one = [case(y=case["y"][..., [h], :, :], W_c=case["W_c"][[h]], bias=None) for h in heads]
    assert_close(sum(one), case(bias=None))


@special("output-projection", "one-head")
def merge_one_head(case):
    merged = case(y=case["y"][..., :1, :, :], W_c=case["W_c"][:1], bias=None)
    assert_close(merged, case["y"][..., 0, :, :] @ case["W_c"][0])


@special("output-projection", "zero-weights")
def merge_zero_weights(case):
    bias = case.rng.standard_normal(case["W_c"].shape[-1])
    merged = case(W_c=np.zeros_like(case["W_c"]), bias=bias)
    assert np.array_equal(merged, np.broadcast_to(bias, merged.shape))


# --- Attention weights ----------------------------------------------------------------------------


@law("attention-weights", "rows-sum-to-one")
def weights_rows_sum_to_one(case):
    alpha = case()
    assert np.all((alpha >= 0) & (alpha <= 1))
    assert_close(alpha.sum(axis=-1), np.ones(alpha.shape[:-1]))


@law("attention-weights", "permute-keys")
def weights_permute_keys(case):
    order = reordered(case, case["K"].shape[-2])
    changed = {"K": rows(case["K"], order)}
    if "mask" in case.args:
        changed["mask"] = columns(case["mask"], order)
    assert_close(case(**changed), columns(case(), order))


@law("attention-weights", "permute-queries")
def weights_permute_queries(case):
    order = reordered(case, case["Q"].shape[-2])
    changed = {"Q": rows(case["Q"], order)}
    if "mask" in case.args:
        changed["mask"] = rows(case["mask"], order)
    assert_close(case(**changed), rows(case(), order))


@law("attention-weights", "shift-keys")
def weights_shift_keys(case):
    shift = case.rng.standard_normal((*case["K"].shape[:-2], 1, case["K"].shape[-1]))
    assert_close(case(K=case["K"] + shift), case())


@law("attention-weights", "query-key-gauge")
def weights_query_key_gauge(case):
    (A,), (inverse,) = well_conditioned(case, 1, case["K"].shape[-1])
    assert_close(case(Q=case["Q"] @ A, K=case["K"] @ inverse.T), case())


@law("attention-weights", "masked-is-deleted")
def weights_masked_is_deleted(case):
    j, mask, kept = without(case, case["Q"].shape[-2], case["K"].shape[-2])
    alpha = case(mask=mask)
    assert np.all(alpha[..., j] == 0.0)
    assert_close(columns(alpha, kept), case(K=rows(case["K"], kept), mask=columns(mask, kept)))


@special("attention-weights", "single-key")
def weights_single_key(case):
    alpha = case(K=case["K"][..., :1, :], mask=None)
    assert np.array_equal(alpha, np.ones_like(alpha))


@special("attention-weights", "equal-keys")
def weights_equal_keys(case):
    m = case["K"].shape[-2]
    alpha = case(K=rows(case["K"], np.zeros(m, int)), mask=None)
    assert_close(alpha, np.full_like(alpha, 1 / m), within=1e-15)


def fully_masked_first_row(case):
    mask = mask_of(case, case["Q"].shape[-2], case["K"].shape[-2]).copy()
    mask[..., 0, :] = False
    return mask


@special("attention-weights", "fully-masked-row", differentiates=True)
def weights_fully_masked_row(case):
    mask = fully_masked_first_row(case)
    alpha = case(mask=mask)
    assert np.all(alpha[..., 0, :] == 0.0)
    assert_close(alpha[..., 1:, :], case()[..., 1:, :])
    masked = case.with_args(mask=mask)
    cotangent = case.rng.standard_normal(alpha.shape)
    for name in ("Q", "K"):
        gradient = gradient_at(masked, name, case[name], cotangent)
        assert np.all(np.isfinite(gradient))
        assert name == "K" or np.all(gradient[..., 0, :] == 0.0)


def stretched(case):
    """Return queries so long, each by another factor, that scores reach 1e4 and more."""
    n = case["Q"].shape[-2]
    return case["Q"] * 10.0 ** np.linspace(-4, 5, n)[:, None]


@special("attention-weights", "huge-logits")
def weights_huge_logits(case):
    alpha = case(Q=stretched(case))
    assert np.all((alpha >= 0) & (alpha <= 1))
    assert_close(alpha.sum(axis=-1), np.ones(alpha.shape[:-1]))


@special("attention-weights", "nan-in-masked-key")
def weights_nan_in_masked_key(case):
    j, mask, _ = without(case, case["Q"].shape[-2], case["K"].shape[-2])
    for bad in (math.nan, math.inf):
        K = case["K"].copy()
        K[..., j, 0] = bad
        with np.errstate(invalid="ignore"):
            assert_close(case(K=K, mask=mask), case(mask=mask))


# --- Attention ------------------------------------------------------------------------------------


@law("attention", "convex-hull")
def attention_convex_hull(case):
    y, V = case(), case["V"][..., None, :, :]
    allowed = mask_of(case, case["Q"].shape[-2], case["K"].shape[-2])[..., None]
    low = np.min(np.where(allowed, V, np.inf), axis=-2)
    high = np.max(np.where(allowed, V, -np.inf), axis=-2)
    assert np.all((low - 1e-14 <= y) & (y <= high + 1e-14))


@law("attention", "linear-in-values")
def attention_linear_in_values(case):
    other = case.rng.standard_normal(case["V"].shape)
    assert_close(case(V=2.0 * case["V"] - 3.0 * other), 2.0 * case() - 3.0 * case(V=other))


@law("attention", "shift-values")
def attention_shift_values(case):
    shift = case.rng.standard_normal((*case["V"].shape[:-2], 1, case["V"].shape[-1]))
    assert_close(case(V=case["V"] + shift), case() + shift)


@law("attention", "permute-pairs")
def attention_permute_pairs(case):
    order = reordered(case, case["K"].shape[-2])
    changed = {name: rows(case[name], order) for name in ("K", "V")}
    if "mask" in case.args:
        changed["mask"] = columns(case["mask"], order)
    assert_close(case(**changed), case())


@law("attention", "permute-queries")
def attention_permute_queries(case):
    order = reordered(case, case["Q"].shape[-2])
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
    shift = case.rng.standard_normal((*case["K"].shape[:-2], 1, case["K"].shape[-1]))
    assert_close(case(K=case["K"] + shift), case())


@law("attention", "masked-is-deleted")
def attention_masked_is_deleted(case):
    _, mask, kept = without(case, case["Q"].shape[-2], case["K"].shape[-2])
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
    Q, m = stretched(case), case["K"].shape[-2]
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
    j, mask, _ = without(case, case["Q"].shape[-2], case["K"].shape[-2])
    K, V = case["K"].copy(), case["V"].copy()
    K[..., j, 0] = math.nan
    assert_close(case(K=K, mask=mask), case(mask=mask))
    V[..., j, 0] = math.nan
    y = case(V=V, mask=mask)
    assert np.all(np.isnan(y[..., 0]))
    assert_close(y[..., 1:], case(mask=mask)[..., 1:])


# --- Multi-head attention -------------------------------------------------------------------------


SELF = "multi-head-self-attention"


@law(SELF, "permute-tokens")
def self_attention_permute_tokens(case):
    assert_tokens_permute(case)


@law(SELF, "permute-heads")
def self_attention_permute_heads(case):
    assert_heads_permute(case, ())


@law(SELF, "query-key-gauge")
def self_attention_query_key_gauge(case):
    assert_query_key_gauge(case, ())


@law(SELF, "value-gauge")
def self_attention_value_gauge(case):
    assert_value_gauge(case, ())


@law(SELF, "key-bias-is-invisible")
def self_attention_key_bias_is_invisible(case):
    assert_key_bias_is_invisible(case, ())


@law(SELF, "value-bias-folds")
def self_attention_value_bias_folds(case):
    assert_value_bias_folds(case, ())


@law(SELF, "replication")
def self_attention_replication(case):
    assert_replicates(case)


@law(SELF, "masked-is-deleted")
def self_attention_masked_is_deleted(case):
    assert_masked_token_is_deleted(case)


def read_alone(case, tokens):
    """Return sum_h (tokens W_v + b_v) W_c + b_c: what is read where the only weight is 1."""
    weights = at(case, ())
    values = tokens[..., None, :, :] @ weights["W_v"]
    if "b_v" in weights:
        values = values + weights["b_v"][:, None, :]
    return np.sum(values @ weights["W_c"], axis=-3) + weights.get("b_c", 0.0)


@special(SELF, "single-token")
def self_attention_single_token(case):
    one = case.with_args(x=case["x"][..., :1, :], mask=None)
    assert_queries_and_keys_do_not_matter(one, ())
    assert_close(one(), read_alone(one, one["x"]))


def without_queries(case):
    zeros = {name: np.zeros_like(case[name]) for name in ("W_q", "b_q") if name in case.args}
    return case(**zeros, mask=None)


@special(SELF, "zero-queries")
def self_attention_zero_queries(case):
    mean = np.mean(read_alone(case, case["x"]), axis=-2, keepdims=True)
    assert_close(without_queries(case), np.broadcast_to(mean, case["x"].shape))


@special(SELF, "fully-masked-row")
def self_attention_fully_masked_row(case):
    n = case["x"].shape[-2]
    mask = mask_of(case, n, n).copy()
    mask[..., 0, :] = False
    y = case(mask=mask)
    assert np.all(y[..., 0, :] == case.args.get("b_c", 0.0))
    assert_close(y[..., 1:, :], case()[..., 1:, :])


@law("cross-attention", "of-itself-is-self-attention")
def cross_of_itself_is_self_attention(case):
    weights = at(case, ())
    expected = vtnp.encoder.multi_head_self_attention(case["x"], **weights)
    assert_close(case(memory=case["x"], mask=None), expected)


@law("cross-attention", "permute-memory")
def cross_permute_memory(case):
    order = reordered(case, case["memory"].shape[-2])
    changed = {"memory": rows(case["memory"], order)}
    if "mask" in case.args:
        changed["mask"] = columns(case["mask"], order)
    assert_close(case(**changed), case(), within=1e-11)


@law("cross-attention", "each-token-alone")
def cross_each_token_alone(case):
    chosen = case.rng.permutation(case["x"].shape[-2])[:1]
    mask = rows(mask_of(case, case["x"].shape[-2], case["memory"].shape[-2]), chosen)
    alone = case(x=rows(case["x"], chosen), mask=mask)
    assert_close(alone, rows(case(), chosen), within=1e-11)


@law("cross-attention", "replicate-memory")
def cross_replicate_memory(case):
    thrice = np.tile(np.arange(case["memory"].shape[-2]), 3)
    changed = {"memory": rows(case["memory"], thrice)}
    if "mask" in case.args:
        changed["mask"] = columns(case["mask"], thrice)
    assert_close(case(**changed), case(), within=1e-11)


@law("cross-attention", "key-bias-is-invisible")
def cross_key_bias_is_invisible(case):
    assert_key_bias_is_invisible(case, ())


@law("cross-attention", "value-bias-folds")
def cross_value_bias_folds(case):
    assert_value_bias_folds(case, ())


@law("cross-attention", "masked-is-deleted")
def cross_masked_is_deleted(case):
    _, mask, kept = without(case, case["x"].shape[-2], case["memory"].shape[-2])
    fewer = case(memory=rows(case["memory"], kept), mask=columns(mask, kept))
    assert_close(case(mask=mask), fewer, within=1e-11)


@special("cross-attention", "single-memory-token")
def cross_single_memory_token(case):
    one = case.with_args(memory=case["memory"][..., :1, :], mask=None)
    assert_queries_and_keys_do_not_matter(one, ())
    read = read_alone(one, one["memory"])
    assert_close(one(), np.broadcast_to(read, one["x"].shape))


@special("cross-attention", "equal-memory")
def cross_equal_memory(case):
    equal = rows(case["memory"], np.zeros(case["memory"].shape[-2], int))
    assert_close(case(memory=equal, mask=None), case(memory=equal[..., :1, :], mask=None))


@special("cross-attention", "zero-queries")
def cross_zero_queries(case):
    mean = np.mean(read_alone(case, case["memory"]), axis=-2, keepdims=True)
    assert_close(without_queries(case), np.broadcast_to(mean, case["x"].shape))


# --- Masks ----------------------------------------------------------------------------------------


@law("causal-mask", "prefix")
def mask_prefix(case):
    mask = case()
    for k in range(case["n"]):
        assert np.array_equal(case(n=k), mask[:k, :k])


@law("causal-mask", "sees-itself")
def mask_sees_itself(case):
    assert np.all(np.diagonal(case()))


@law("causal-mask", "either-way")
def mask_either_way(case):
    mask = case()
    apart = ~np.eye(case["n"], dtype=bool)
    assert np.all((mask ^ mask.T)[apart])


@law("causal-mask", "counts")
def mask_counts(case):
    assert np.array_equal(case().sum(axis=1), np.arange(case["n"]) + 1)


@law("causal-mask", "prefix-of-attention")
def mask_prefix_of_attention(case):
    n = case["n"]
    Q, K, V = case.rng.standard_normal((3, n, 4))
    whole = vtnp.encoder.attention(Q, K, V, mask=case())
    for k in range(1, n):
        assert_close(vtnp.encoder.attention(Q[:k], K[:k], V[:k], mask=case(n=k)), whole[:k])
        changed = np.concatenate([V[:k], np.full((n - k, 4), 1e9)])
        assert_close(vtnp.encoder.attention(Q, K, changed, mask=case())[:k], whole[:k])


@special("causal-mask", "one-token")
def mask_one_token(case):
    assert np.array_equal(case(n=1), [[True]])


@special("causal-mask", "no-tokens")
def mask_no_tokens(case):
    assert case(n=0).shape == (0, 0)


# --- Norms ----------------------------------------------------------------------------------------


def variances(x):
    """Return the variance of every token, with a last axis of length 1."""
    return np.var(x, axis=-1, keepdims=True)


def standard(case, name="x"):
    """Return the case with gain 1 and offset 0."""
    d = case[name].shape[-1]
    return case.with_args(gamma=np.ones(d), beta=np.zeros(d))


@law("layer-norm", "mean-zero")
def norm_mean_zero(case):
    plain = standard(case)()
    assert_close(plain.mean(axis=-1), np.zeros(plain.shape[:-1]))
    assert_close(case(), case["gamma"] * plain + case["beta"])


@law("layer-norm", "variance")
def norm_variance(case):
    for eps in (0.0, 1e-6, 0.5):
        plain = standard(case)(eps=eps)
        variance = variances(case["x"])
        expected = variance / (variance + eps)
        assert_close(np.mean(plain**2, axis=-1, keepdims=True), expected)


@law("layer-norm", "shift-invariant")
def norm_shift_invariant(case):
    shift = 1000.0 * case.rng.standard_normal((*case["x"].shape[:-1], 1))
    # x + shift is itself rounded, and division by a small deviation magnifies that.
    magnified = np.max(np.abs(shift) / np.sqrt(variances(case["x"]) + case["eps"]))
    within = 8 * EPS * (1 + magnified) * largest(case["gamma"])
    assert_close(case(x=case["x"] + shift), case(), within=within)


@law("layer-norm", "scale-moves-eps")
def norm_scale_moves_eps(case):
    for scale in (1e-3, 0.125, 7.0):
        scaled = case(x=scale * case["x"])
        assert_close(scaled, case(eps=case["eps"] / scale**2), within=1e-11)


@law("layer-norm", "reflect")
def norm_reflect(case):
    assert_close(case(x=-case["x"]) - case["beta"], case["beta"] - case())


@law("layer-norm", "permute-channels")
def norm_permute_channels(case):
    order = reordered(case, case["x"].shape[-1])
    changed = {name: columns(case[name], order) for name in ("x", "gamma", "beta")}
    # The mean sums in another order; see shift-invariant.
    assert_close(case(**changed), columns(case(), order), within=1e-11)


@law("layer-norm", "each-token-alone")
def norm_each_token_alone(case):
    other = case.rng.standard_normal(case["x"].shape)
    both = case(x=np.stack([case["x"], other]))
    assert_close(both[0], case())
    assert_close(both[1], case(x=other))


@law("layer-norm", "gradient-sums-to-zero", differentiates=True)
def norm_gradient_sums_to_zero(case):
    cotangent = case.rng.standard_normal(case["x"].shape)
    gradient = gradient_at(case, "x", case["x"], cotangent)
    sums = gradient.sum(axis=-1)
    assert largest(sums) <= 1e-12 * max(1.0, largest(gradient))


@special("layer-norm", "one-channel")
def norm_one_channel(case):
    y = case(**{name: case[name][..., :1] for name in ("x", "gamma", "beta")})
    assert np.array_equal(y, np.broadcast_to(case["beta"][:1], y.shape))


@special("layer-norm", "constant-token")
def norm_constant_token(case):
    level = np.round(4 * case["x"][..., :1]) / 4
    y = case(x=np.broadcast_to(level, case["x"].shape))
    assert np.array_equal(y, np.broadcast_to(case["beta"], y.shape))


@special("layer-norm", "zero-eps-constant-token")
def norm_zero_eps_constant_token(case):
    with np.errstate(invalid="ignore"):
        assert np.all(np.isnan(case(x=np.ones_like(case["x"]), eps=0.0)))


def assert_within_rounding_of_the_mean(case, x):
    """The error of every token is at most that of rounding its mean, 2^-53 |x| / deviation."""
    x_wide = np.longdouble(x)
    deviation = np.sqrt(variances(x_wide) + case["eps"])
    centred = x_wide - np.mean(x_wide, axis=-1, keepdims=True)
    exact = case["gamma"] * centred / deviation + case["beta"]
    size = np.max(np.abs(x), axis=-1, keepdims=True) / deviation
    bound = 4 * EPS * (largest(case["gamma"]) * (1 + size) + largest(case["beta"]))
    assert np.all(np.abs(case(x=x) - exact) <= bound)


@special("layer-norm", "low-variance")
def norm_low_variance(case):
    for scale in (1e-3, 1e-6, 1e-160):
        assert_within_rounding_of_the_mean(case, scale * case["x"])
        assert_within_rounding_of_the_mean(case, 3.0 + scale * case["x"])


@special("layer-norm", "large-offset")
def norm_large_offset(case):
    for offset in (1e3, 1e6, 1e9, 1e15):
        assert_within_rounding_of_the_mean(case, offset + case["x"])


@special("layer-norm", "nan-token")
def norm_nan_token(case):
    for bad in (math.nan, math.inf):
        x = np.stack([case["x"], case["x"]])
        first = (0,) * (x.ndim - 1)
        x[first][0] = bad
        with np.errstate(invalid="ignore"):
            y = case(x=x)
        assert_only_first_row_is_nan(y)


@special("layer-norm", "overflowing-square")
def norm_overflowing_square(case):
    for dtype, size in ((np.float16, 300.0), (np.float32, 2e19)):
        narrow = {name: case[name].astype(dtype) for name in ("gamma", "beta")}
        x = np.zeros(case["x"].shape, dtype)
        x[..., 0], x[..., 1] = 2 * size, -2 * size
        # In NumPy: not every library has float16.
        with np.errstate(over="ignore"):
            y = case.function(x=x, **narrow, eps=case["eps"])
        assert np.array_equal(y, np.broadcast_to(narrow["beta"], y.shape))


@law("add-and-norm", "mean-zero")
def sum_mean_zero(case):
    plain = standard(case)()
    assert_close(plain.mean(axis=-1), np.zeros(plain.shape[:-1]))
    assert_close(case(), case["gamma"] * plain + case["beta"])


@law("add-and-norm", "variance")
def sum_variance(case):
    plain = standard(case)(eps=0.5)
    variance = variances(case["x"] + case["update"])
    expected = variance / (variance + 0.5)
    assert_close(np.mean(plain**2, axis=-1, keepdims=True), expected)


@law("add-and-norm", "only-the-sum")
def sum_only_the_sum(case):
    assert_close(case(x=case["update"], update=case["x"]), case(), within=0.0)
    total = case["x"] + case["update"]
    assert_close(case(x=0.25 * total, update=0.75 * total), case(), within=1e-11)


@law("add-and-norm", "shift-invariant")
def sum_shift_invariant(case):
    shift = case.rng.standard_normal((*case["x"].shape[:-1], 1))
    for name in ("x", "update"):
        assert_close(case(**{name: case[name] + shift}), case(), within=1e-11)


@law("add-and-norm", "each-token-alone")
def sum_each_token_alone(case):
    chosen = case.rng.permutation(case["x"].shape[-2])[:1]
    alone = case(x=rows(case["x"], chosen), update=rows(case["update"], chosen))
    assert_close(alone, rows(case(), chosen))


@special("add-and-norm", "no-update")
def sum_no_update(case):
    expected = vtnp.encoder.layer_norm(case["x"], case["gamma"], case["beta"], eps=case["eps"])
    # Another library's mean is rounded elsewhere.
    assert_close(case(update=np.zeros_like(case["x"])), expected, within=1e-11)


@special("add-and-norm", "cancelling-update")
def sum_cancelling_update(case):
    u = case(update=-case["x"])
    assert np.array_equal(u, np.broadcast_to(case["beta"], u.shape))


@special("add-and-norm", "low-variance")
def sum_low_variance(case):
    # Powers of two: x + update is exact, so that what is left is known to all digits.
    x = np.round(64 * case["x"]) / 64
    left = 2.0**-20 * np.round(8 * case["update"])
    u = case(x=x, update=left - x)
    centred = left - np.mean(left, axis=-1, keepdims=True)
    plain = centred / np.sqrt(variances(left) + case["eps"])
    assert_close(u, case["gamma"] * plain + case["beta"])


# --- Activations ----------------------------------------------------------------------------------


@law("relu", "positive-part")
def relu_positive_part(case):
    mirrored = case(x=-case["x"])
    assert np.array_equal(case() - mirrored, case["x"])
    assert np.array_equal(case() + mirrored, np.abs(case["x"]))


@law("relu", "idempotent")
def relu_idempotent(case):
    y = case()
    assert np.all(y >= 0)
    assert np.array_equal(case(x=y), y)


@law("relu", "homogeneous")
def relu_homogeneous(case):
    for factor in (0.0, 0.25, 1024.0):
        assert np.array_equal(case(x=factor * case["x"]), factor * case())


@law("relu", "keeps-order")
def relu_keeps_order(case):
    step = np.abs(case.rng.standard_normal(case["x"].shape))
    assert np.all(case(x=case["x"] + step) >= case())


@law("relu", "contraction")
def relu_contraction(case):
    other = 6.0 * case.rng.standard_normal(case["x"].shape)
    assert np.all(np.abs(case(x=other) - case()) <= np.abs(other - case["x"]))


@special("relu", "zero", differentiates=True)
def relu_zero(case):
    for zero in (0.0, -0.0):
        x = np.full_like(case["x"], zero)
        assert np.all(case(x=x) == 0.0)
        assert np.all(gradient_at(case, "x", x, np.ones_like(x)) == 0.0)


@special("relu", "infinities")
def relu_infinities(case):
    assert np.all(case(x=np.full_like(case["x"], np.inf)) == np.inf)
    assert np.all(case(x=np.full_like(case["x"], -np.inf)) == 0.0)


@special("relu", "nan")
def relu_nan(case):
    assert np.all(np.isnan(case(x=np.full_like(case["x"], np.nan))))


@law("gelu", "reflection")
def gelu_reflection(case):
    assert_close(case() - case(x=-case["x"]), case["x"], within=1e-15)


@law("gelu", "below-relu")
def gelu_below_relu(case):
    for x in (case["x"], np.linspace(-9, 9, 1801)):
        gap = np.maximum(x, 0.0) - case(x=x)
        # The rounding of 1 + erf, times x.
        assert np.all((gap >= -4 * EPS * (1 + np.abs(x))) & (gap <= 0.1701))


@law("gelu", "derivative", differentiates=True)
def gelu_derivative(case):
    x = np.concatenate([case["x"].ravel(), [-math.sqrt(2), 0.0, math.sqrt(2)]])
    exact = case.with_args(approximate="none")
    slope = gradient_at(exact, "x", x, np.ones_like(x))
    assert_close(slope, normal.cdf(x) + x * normal.pdf(x))
    assert np.all((slope >= -0.12891) & (slope <= 1.12891))


@law("gelu", "two-forms-are-close")
def gelu_two_forms_are_close(case):
    x = np.linspace(-6, 6, 2401)
    apart = np.abs(case(x=x, approximate="none") - case(x=x, approximate="tanh"))
    assert 4.7e-4 < np.max(apart) < 4.8e-4
    assert 2.69 <= abs(x[np.argmax(apart)]) <= 2.71


@special("gelu", "zero", differentiates=True)
def gelu_zero(case):
    x = np.zeros_like(case["x"])
    assert np.all(case(x=x) == 0.0)
    assert_close(gradient_at(case, "x", x, np.ones_like(x)), np.full_like(x, 0.5), within=1e-15)


@special("gelu", "minimum", differentiates=True)
def gelu_minimum(case):
    exact = case.with_args(approximate="none")
    x = np.full_like(case["x"], -0.751792)
    assert_close(exact(x=x), np.full_like(x, -0.169971), within=5e-7)
    assert largest(gradient_at(exact, "x", x, np.ones_like(x))) < 1e-6


@special("gelu", "tails")
def gelu_tails(case):
    x = 10.0 + np.abs(case["x"])
    assert np.array_equal(case(x=x), x)
    assert np.all(case(x=-x) == 0.0)


@special("gelu", "infinities")
def gelu_infinities(case):
    infinite = np.full_like(case["x"], np.inf)
    assert np.all(case(x=infinite) == np.inf)
    with np.errstate(invalid="ignore"):
        assert np.all(np.isnan(case(x=-infinite)))


@special("gelu", "nan")
def gelu_nan(case):
    assert np.all(np.isnan(case(x=np.full_like(case["x"], np.nan))))


# --- Feed-forward network -------------------------------------------------------------------------


def permuted_hidden(case, network):
    order = reordered(case, network["W_1"].shape[1])
    changed = {**network, "W_1": columns(network["W_1"], order), "W_2": rows(network["W_2"], order)}
    return {**changed, "b_1": network["b_1"][order]} if "b_1" in network else changed


def network_of(case):
    return {name: case[name] for name in ("W_1", "W_2", "b_1", "b_2") if name in case.args}


@law("feed-forward", "each-token-alone")
def network_each_token_alone(case):
    assert_each_token_alone(case, "u")


@law("feed-forward", "permute-hidden")
def network_permute_hidden(case):
    assert_close(case(**permuted_hidden(case, network_of(case))), case())


@law("feed-forward", "sum-of-hidden")
def network_sum_of_hidden(case):
    parts = []
    for part in (slice(0, 1), slice(1, None)):
        b_1 = case.args.get("b_1")
        changed = {"W_1": case["W_1"][:, part], "W_2": case["W_2"][part]}
        parts.append(case(**changed, b_1=None if b_1 is None else b_1[part], b_2=None))
    assert_close(sum(parts), case(b_2=None))


@law("feed-forward", "output-bias-adds")
def network_output_bias_adds(case):
    b_2 = case.rng.standard_normal(case["u"].shape[-1])
    assert_close(case(b_2=b_2), case(b_2=None) + b_2)


@law("feed-forward", "relu-rescales-hidden")
def network_relu_rescales_hidden(case):
    c = case.rng.uniform(0.25, 4.0, case["W_1"].shape[1])
    changed = {"W_1": case["W_1"] * c, "W_2": case["W_2"] / c[:, None]}
    if "b_1" in case.args:
        changed["b_1"] = case["b_1"] * c
    assert_close(case(**changed, activation="relu"), case(activation="relu"))


@special("feed-forward", "zero-weights")
def network_zero_weights(case):
    b_2 = case.rng.standard_normal(case["u"].shape[-1])
    z = case(W_2=np.zeros_like(case["W_2"]), b_2=b_2)
    assert np.array_equal(z, np.broadcast_to(b_2, z.shape))


@special("feed-forward", "all-off")
def network_all_off(case):
    b_1 = np.full(case["W_1"].shape[1], -1e6)
    b_2 = case.rng.standard_normal(case["u"].shape[-1])
    z = case(b_1=b_1, b_2=b_2, activation="relu")
    assert np.array_equal(z, np.broadcast_to(b_2, z.shape))


@special("feed-forward", "all-on")
def network_all_on(case):
    b_1 = np.full(case["W_1"].shape[1], 1e3)
    z = case(b_1=b_1, b_2=None, activation="relu")
    assert_close(z, (case["u"] @ case["W_1"] + b_1) @ case["W_2"])


# --- Layers ---------------------------------------------------------------------------------------


ATTENTION = ("params", "attention")
OUTPUTS = {"W_c", "b_c", "W_2", "b_2", "b_v"}


def with_params(case, part, **changed):
    return case["params"] | {part: case["params"][part] | changed}


def silenced(case, *parts):
    """Return params of which the given sub-layers write nothing."""
    params = dict(case["params"])
    for part in parts:
        params[part] = {
            name: np.zeros_like(x) if name in OUTPUTS else x for name, x in params[part].items()
        }
    return params


@law("encoder-layer", "permute-tokens")
def encoder_layer_permute_tokens(case):
    assert_tokens_permute(case)


@law("encoder-layer", "normalised-output")
def encoder_layer_normalised_output(case):
    assert_normalised(case, case["params"]["norm_2"], case["eps"])


@law("encoder-layer", "replication")
def encoder_layer_replication(case):
    assert_replicates(case)


@law("encoder-layer", "masked-is-deleted")
def encoder_layer_masked_is_deleted(case):
    assert_masked_token_is_deleted(case)


@law("encoder-layer", "permute-heads")
def encoder_layer_permute_heads(case):
    assert_heads_permute(case, ATTENTION)


@law("encoder-layer", "head-gauge")
def encoder_layer_head_gauge(case):
    assert_query_key_gauge(case, ATTENTION)
    assert_value_gauge(case, ATTENTION)


@law("encoder-layer", "key-bias-is-invisible")
def encoder_layer_key_bias_is_invisible(case):
    assert_key_bias_is_invisible(case, ATTENTION)


@law("encoder-layer", "value-bias-folds")
def encoder_layer_value_bias_folds(case):
    assert_value_bias_folds(case, ATTENTION)


@special("encoder-layer", "single-token")
def encoder_layer_single_token(case):
    one = case.with_args(x=case["x"][..., :1, :], mask=None)
    assert_queries_and_keys_do_not_matter(one, ATTENTION)


@special("encoder-layer", "zero-sublayers")
def encoder_layer_zero_sublayers(case):
    params = silenced(case, "attention", "feed_forward")
    once = vtnp.encoder.layer_norm(case["x"], **params["norm_1"], eps=case["eps"])
    assert_close(
        case(params=params), vtnp.encoder.layer_norm(once, **params["norm_2"], eps=case["eps"])
    )


@special("encoder-layer", "constant-norm")
def encoder_layer_constant_norm(case):
    z = case(params=with_params(case, "norm_2", gamma=np.zeros(case["x"].shape[-1])))
    assert np.array_equal(z, np.broadcast_to(case["params"]["norm_2"]["beta"], z.shape))


@law("pre-norm-layer", "permute-tokens")
def pre_norm_permute_tokens(case):
    assert_tokens_permute(case)


@law("pre-norm-layer", "shift-passes-through")
def pre_norm_shift_passes_through(case):
    shift = 3.0 * case.rng.standard_normal((*case["x"].shape[:-1], 1))
    assert_close(case(x=case["x"] + shift), case() + shift, within=1e-11)


@law("pre-norm-layer", "replication")
def pre_norm_replication(case):
    assert_replicates(case)


@law("pre-norm-layer", "masked-is-deleted")
def pre_norm_masked_is_deleted(case):
    assert_masked_token_is_deleted(case)


@law("pre-norm-layer", "permute-heads")
def pre_norm_permute_heads(case):
    assert_heads_permute(case, ATTENTION)


@law("pre-norm-layer", "head-gauge")
def pre_norm_head_gauge(case):
    assert_query_key_gauge(case, ATTENTION)
    assert_value_gauge(case, ATTENTION)


@law("pre-norm-layer", "key-bias-is-invisible")
def pre_norm_key_bias_is_invisible(case):
    assert_key_bias_is_invisible(case, ATTENTION)


@law("pre-norm-layer", "value-bias-folds")
def pre_norm_value_bias_folds(case):
    assert_value_bias_folds(case, ATTENTION)


@special("pre-norm-layer", "zero-sublayers")
def pre_norm_zero_sublayers(case):
    z = case(params=silenced(case, "attention", "feed_forward"))
    assert np.array_equal(z, case["x"])


@special("pre-norm-layer", "single-token")
def pre_norm_single_token(case):
    one = case.with_args(x=case["x"][..., :1, :], mask=None)
    assert_queries_and_keys_do_not_matter(one, ATTENTION)


@special("pre-norm-layer", "huge-token")
def pre_norm_huge_token(case):
    # Without attention, so that what is normalised is the token itself, with nothing added.
    params = silenced(case, "attention")
    huge = 1e8 * case["x"]
    update = case(x=huge, params=params) - huge
    limit = case(params=params, eps=0.0) - case["x"]
    # The difference of two numbers of this size has lost that many digits.
    assert largest(update - limit) <= 4 * EPS * largest(huge) + 1e-11 * largest(limit)


@law("feed-forward-sublayer", "each-token-alone")
def step_each_token_alone(case):
    assert_each_token_alone(case, "y")


@law("feed-forward-sublayer", "shift-passes-through")
def step_shift_passes_through(case):
    shift = 3.0 * case.rng.standard_normal((*case["y"].shape[:-1], 1))
    assert_close(case(y=case["y"] + shift), case() + shift, within=1e-11)


@law("feed-forward-sublayer", "permute-hidden")
def step_permute_hidden(case):
    permuted = permuted_hidden(case, case["params"]["feed_forward"])
    assert_close(case(params={**case["params"], "feed_forward": permuted}), case())


@law("feed-forward-sublayer", "scale-of-the-update")
def step_scale_of_the_update(case):
    for scale in (1e-3, 7.0):
        update = case(y=scale * case["y"]) - scale * case["y"]
        expected = case(eps=case["eps"] / scale**2) - case["y"]
        assert_close(update, expected, within=1e-11)


@special("feed-forward-sublayer", "zero-output")
def step_zero_output(case):
    assert np.array_equal(case(params=silenced(case, "feed_forward")), case["y"])


@special("feed-forward-sublayer", "constant-token")
def step_constant_token(case):
    params = case["params"]
    beta = params["norm_2"]["beta"][None]
    expected = vtnp.encoder.feed_forward(
        beta, **params["feed_forward"], activation=case["activation"]
    )
    y = np.full_like(case["y"], 2.0)
    assert_close(case(y=y), np.broadcast_to(2.0 + expected, y.shape))


SELF_IN_DECODER, CROSS = ("params", "self_attention"), ("params", "cross_attention")


@law("decoder-layer", "causal")
def decoder_causal(case):
    n = case["x"].shape[-2]
    before = case()
    for k in range(1, n):
        x = case["x"].copy()
        x[..., k:, :] = case.rng.standard_normal(x[..., k:, :].shape)
        assert_close(case(x=x)[..., :k, :], before[..., :k, :], within=1e-11)


@law("decoder-layer", "prefix")
def decoder_prefix(case):
    for k in range(1, case["x"].shape[-2]):
        assert_close(case(x=case["x"][..., :k, :]), case()[..., :k, :], within=1e-11)


@law("decoder-layer", "permute-memory")
def decoder_permute_memory(case):
    order = reordered(case, case["memory"].shape[-2])
    assert_close(case(memory=rows(case["memory"], order)), case(), within=1e-11)


@law("decoder-layer", "replicate-memory")
def decoder_replicate_memory(case):
    thrice = np.tile(np.arange(case["memory"].shape[-2]), 3)
    assert_close(case(memory=rows(case["memory"], thrice)), case(), within=1e-11)


@law("decoder-layer", "normalised-output")
def decoder_normalised_output(case):
    assert_normalised(case, case["params"]["norm_3"], case["eps"])


@law("decoder-layer", "permute-heads")
def decoder_permute_heads(case):
    assert_heads_permute(case, SELF_IN_DECODER)
    assert_heads_permute(case, CROSS)


@law("decoder-layer", "key-bias-is-invisible")
def decoder_key_bias_is_invisible(case):
    assert_key_bias_is_invisible(case, SELF_IN_DECODER)
    assert_key_bias_is_invisible(case, CROSS)


@special("decoder-layer", "single-token")
def decoder_single_token(case):
    one = case.with_args(x=case["x"][..., :1, :])
    assert_queries_and_keys_do_not_matter(one, SELF_IN_DECODER)


@special("decoder-layer", "memory-not-read")
def decoder_memory_not_read(case):
    deaf = case.with_args(params=silenced(case, "cross_attention"))
    other = case.rng.standard_normal(case["memory"].shape)
    assert np.array_equal(deaf(memory=other), deaf())


@special("decoder-layer", "single-memory-token")
def decoder_single_memory_token(case):
    one = case.with_args(memory=case["memory"][..., :1, :])
    assert_queries_and_keys_do_not_matter(one, CROSS)


# --- Exact values and accuracy --------------------------------------------------------------------


@law("self-attention-sublayer", "shift-passes-through")
def attention_step_shift_passes_through(case):
    shift = 3.0 * case.rng.standard_normal((*case["x"].shape[:-1], 1))
    assert_close(case(x=case["x"] + shift), case() + shift, within=1e-10)


@law("self-attention-sublayer", "permute-tokens")
def attention_step_permute_tokens(case):
    assert_tokens_permute(case)


@law("self-attention-sublayer", "first-half-of-the-layer")
def attention_step_first_half_of_the_layer(case):
    d = case["x"].shape[-1]
    second = {
        "norm_2": {"gamma": np.ones(d), "beta": np.zeros(d)},
        "feed_forward": {"W_1": np.ones((d, 3)), "W_2": np.zeros((3, d))},
    }
    arguments = {**case.args, "params": case["params"] | second}
    assert_close(vtnp.encoder.pre_norm_layer(**arguments), case())


@special("self-attention-sublayer", "zero-attention")
def attention_step_zero_attention(case):
    assert np.array_equal(case(params=silenced(case, "attention")), case["x"])
