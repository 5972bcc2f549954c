"""Laws and special cases of the projections of heads, and of multi-head attention."""

import numpy as np

from vtnp import encoder
from vtnp.claims._registry import law, special
from vtnp.claims.common import (
    assert_each_token_alone,
    columns,
    mask_of,
    mask_one_key,
    permutation,
    rows,
)
from vtnp.claims.compare import assert_close
from vtnp.claims.encoder.symmetries import (
    assert_heads_permute,
    assert_key_bias_is_invisible,
    assert_masked_token_is_deleted,
    assert_queries_and_keys_do_not_matter,
    assert_query_key_gauge,
    assert_replicates,
    assert_tokens_permute,
    assert_value_bias_folds,
    assert_value_gauge,
    projections_at,
)

# --- Projections ----------------------------------------------------------------------------------


@law("qkv-projection", "linear")
def qkv_projection_linear(case):
    other = case.numbers(case["x"].shape)
    sum_of_both = case(x=2.0 * case["x"] - 3.0 * other, bias=None)
    assert_close(sum_of_both, 2.0 * case(bias=None) - 3.0 * case(x=other, bias=None))


@law("qkv-projection", "each-token-alone")
def qkv_projection_each_token_alone(case):
    assert_each_token_alone(case, "x")


@law("qkv-projection", "permute-heads")
def qkv_projection_permute_heads(case):
    order = permutation(case, case["W"].shape[0])
    changed = {name: case[name][order] for name in ("W", "bias") if name in case.args}
    assert_close(case(**changed), np.take(case(), order, axis=-3))


@law("qkv-projection", "bias-adds")
def qkv_projection_bias_adds(case):
    bias = case.numbers((case["W"].shape[0], case["W"].shape[-1]))
    assert_close(case(bias=bias), case(bias=None) + bias[:, None, :])


@law("qkv-projection", "fused-matrix")
def qkv_projection_fused_matrix(case):
    heads, _, d_h = case["W"].shape
    fused = case["x"] @ np.concatenate(list(case["W"]), axis=-1)
    y = case(bias=None)
    for h in range(heads):
        assert_close(y[..., h, :, :], fused[..., h * d_h : (h + 1) * d_h])


@special("qkv-projection", "one-head")
def qkv_projection_one_head(case):
    y = case(W=case["W"][:1], bias=None)
    assert_close(y[..., 0, :, :], case["x"] @ case["W"][0])
    assert y.shape[-3] == 1


@special("qkv-projection", "zero-weights")
def qkv_projection_zero_weights(case):
    bias = case.numbers((case["W"].shape[0], case["W"].shape[-1]))
    y = case(W=np.zeros_like(case["W"]), bias=bias)
    assert np.array_equal(y, np.broadcast_to(bias[:, None, :], y.shape))


@law("output-projection", "equal-to-concatenation")
def output_projection_equal_to_concatenation(case):
    heads = case["W_c"].shape[0]
    side_by_side = np.concatenate([case["y"][..., h, :, :] for h in range(heads)], axis=-1)
    W_O = np.concatenate(list(case["W_c"]), axis=0)
    bias = case.args.get("bias", 0.0)
    assert_close(case(), side_by_side @ W_O + bias)


@law("output-projection", "linear")
def output_projection_linear(case):
    other = case.numbers(case["y"].shape)
    sum_of_both = case(y=2.0 * case["y"] - 3.0 * other, bias=None)
    assert_close(sum_of_both, 2.0 * case(bias=None) - 3.0 * case(y=other, bias=None))


@law("output-projection", "each-token-alone")
def output_projection_each_token_alone(case):
    assert_each_token_alone(case, "y")


@law("output-projection", "permute-heads")
def output_projection_permute_heads(case):
    order = permutation(case, case["W_c"].shape[0])
    permuted = case(y=np.take(case["y"], order, axis=-3), W_c=case["W_c"][order])
    assert_close(permuted, case())


@law("output-projection", "sum-of-heads")
def output_projection_sum_of_heads(case):
    heads = range(case["W_c"].shape[0])
    one = [case(y=case["y"][..., [h], :, :], W_c=case["W_c"][[h]], bias=None) for h in heads]
    assert_close(sum(one), case(bias=None))


@special("output-projection", "one-head")
def output_projection_one_head(case):
    merged = case(y=case["y"][..., :1, :, :], W_c=case["W_c"][:1], bias=None)
    assert_close(merged, case["y"][..., 0, :, :] @ case["W_c"][0])


@special("output-projection", "zero-weights")
def output_projection_zero_weights(case):
    bias = case.numbers(case["W_c"].shape[-1])
    merged = case(W_c=np.zeros_like(case["W_c"]), bias=bias)
    assert np.array_equal(merged, np.broadcast_to(bias, merged.shape))


# --- Multi-head self-attention --------------------------------------------------------------------


@law("multi-head-self-attention", "permute-tokens")
def self_attention_permute_tokens(case):
    assert_tokens_permute(case)


@law("multi-head-self-attention", "permute-heads")
def self_attention_permute_heads(case):
    assert_heads_permute(case, ())


@law("multi-head-self-attention", "query-key-gauge")
def self_attention_query_key_gauge(case):
    assert_query_key_gauge(case, ())


@law("multi-head-self-attention", "value-gauge")
def self_attention_value_gauge(case):
    assert_value_gauge(case, ())


@law("multi-head-self-attention", "key-bias-is-invisible")
def self_attention_key_bias_is_invisible(case):
    assert_key_bias_is_invisible(case, ())


@law("multi-head-self-attention", "value-bias-folds")
def self_attention_value_bias_folds(case):
    assert_value_bias_folds(case, ())


@law("multi-head-self-attention", "replication")
def self_attention_replication(case):
    assert_replicates(case)


@law("multi-head-self-attention", "masked-is-deleted")
def self_attention_masked_is_deleted(case):
    assert_masked_token_is_deleted(case)


@special("multi-head-self-attention", "single-token")
def self_attention_single_token(case):
    one = case.with_args(x=case["x"][..., :1, :], mask=None)
    assert_queries_and_keys_do_not_matter(one, ())
    assert_close(one(), projected_values(one, one["x"]))


@special("multi-head-self-attention", "zero-queries")
def self_attention_zero_queries(case):
    mean = np.mean(projected_values(case, case["x"]), axis=-2, keepdims=True)
    assert_close(with_zero_queries(case), np.broadcast_to(mean, case["x"].shape))


@special("multi-head-self-attention", "fully-masked-row")
def self_attention_fully_masked_row(case):
    n = case["x"].shape[-2]
    mask = mask_of(case, n, n).copy()
    mask[..., 0, :] = False
    y = case(mask=mask)
    assert np.all(y[..., 0, :] == case.args.get("b_c", 0.0))
    assert_close(y[..., 1:, :], case()[..., 1:, :])


# --- Cross-attention ------------------------------------------------------------------------------


@law("cross-attention", "of-itself-is-self-attention")
def cross_attention_of_itself_is_self_attention(case):
    weights = projections_at(case, ())
    expected = encoder.multi_head_self_attention(case["x"], **weights)
    assert_close(case(memory=case["x"], mask=None), expected)


@law("cross-attention", "permute-memory")
def cross_attention_permute_memory(case):
    order = permutation(case, case["memory"].shape[-2])
    changed = {"memory": rows(case["memory"], order)}
    if "mask" in case.args:
        changed["mask"] = columns(case["mask"], order)
    assert_close(case(**changed), case(), within=1e-11)


@law("cross-attention", "each-token-alone")
def cross_attention_each_token_alone(case):
    chosen = case.rng.permutation(case["x"].shape[-2])[:1]
    mask = rows(mask_of(case, case["x"].shape[-2], case["memory"].shape[-2]), chosen)
    alone = case(x=rows(case["x"], chosen), mask=mask)
    assert_close(alone, rows(case(), chosen), within=1e-11)


@law("cross-attention", "replicate-memory")
def cross_attention_replicate_memory(case):
    thrice = np.tile(np.arange(case["memory"].shape[-2]), 3)
    changed = {"memory": rows(case["memory"], thrice)}
    if "mask" in case.args:
        changed["mask"] = columns(case["mask"], thrice)
    assert_close(case(**changed), case(), within=1e-11)


@law("cross-attention", "key-bias-is-invisible")
def cross_attention_key_bias_is_invisible(case):
    assert_key_bias_is_invisible(case, ())


@law("cross-attention", "value-bias-folds")
def cross_attention_value_bias_folds(case):
    assert_value_bias_folds(case, ())


@law("cross-attention", "masked-is-deleted")
def cross_attention_masked_is_deleted(case):
    _, mask, kept = mask_one_key(case, case["x"].shape[-2], case["memory"].shape[-2])
    fewer = case(memory=rows(case["memory"], kept), mask=columns(mask, kept))
    assert_close(case(mask=mask), fewer, within=1e-11)


@special("cross-attention", "single-memory-token")
def cross_attention_single_memory_token(case):
    one = case.with_args(memory=case["memory"][..., :1, :], mask=None)
    assert_queries_and_keys_do_not_matter(one, ())
    output = projected_values(one, one["memory"])
    assert_close(one(), np.broadcast_to(output, one["x"].shape))


@special("cross-attention", "equal-memory")
def cross_attention_equal_memory(case):
    equal = rows(case["memory"], np.zeros(case["memory"].shape[-2], int))
    assert_close(case(memory=equal, mask=None), case(memory=equal[..., :1, :], mask=None))


@special("cross-attention", "zero-queries")
def cross_attention_zero_queries(case):
    mean = np.mean(projected_values(case, case["memory"]), axis=-2, keepdims=True)
    assert_close(with_zero_queries(case), np.broadcast_to(mean, case["x"].shape))


# --- Parts of these claims ------------------------------------------------------------------------


def projected_values(case, tokens):
    """Return sum_h (tokens W_v + b_v) W_c + b_c: the output for a token with weight 1."""
    weights = projections_at(case, ())
    values = tokens[..., None, :, :] @ weights["W_v"]
    if "b_v" in weights:
        values = values + weights["b_v"][:, None, :]
    return np.sum(values @ weights["W_c"], axis=-3) + weights.get("b_c", 0.0)


def with_zero_queries(case):
    """Evaluate with queries of 0, which attend to all keys alike."""
    zeros = {name: np.zeros_like(case[name]) for name in ("W_q", "b_q") if name in case.args}
    return case(**zeros, mask=None)
