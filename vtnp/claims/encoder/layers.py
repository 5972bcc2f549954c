"""Laws and special cases of whole layers and of their sublayers."""

import numpy as np

from vtnp import encoder
from vtnp.claims._registry import law, special
from vtnp.claims.common import assert_each_token_alone, is_generic, permutation, rows
from vtnp.claims.compare import assert_at_most, assert_close
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
    permuted_hidden,
)
from vtnp.claims.errors import needs

ATTENTION = ("params", "attention")
SELF_ATTENTION, CROSS_ATTENTION = ("params", "self_attention"), ("params", "cross_attention")
# At 0, they make a sublayer's output 0.
OUTPUTS = {"W_c", "b_c", "W_2", "b_2", "b_v"}


def with_params(case, part, **changed):
    """Return the params with one of their tables changed."""
    return case["params"] | {part: case["params"][part] | changed}


def with_zero_output(case, *parts):
    """Return the params with given sublayers whose output is 0."""
    params = dict(case["params"])
    for part in parts:
        params[part] = {
            name: np.zeros_like(x) if name in OUTPUTS else x for name, x in params[part].items()
        }
    return params


def assert_normalised(case, norm, eps):
    """Assert that (z - beta) / gamma has mean 0 and variance below 1."""
    needs(np.all(norm["gamma"] != 0), "gains other than 0")
    plain = (case() - norm["beta"]) / norm["gamma"]
    # Dividing by a small gamma magnifies the rounding of z.
    within = 1e-13 / np.min(np.abs(norm["gamma"]))
    assert_close(plain.mean(axis=-1), np.zeros(plain.shape[:-1]), within=within)
    variance = np.mean(plain**2, axis=-1)
    assert_at_most(variance, 1.0, within=within)
    assert np.all(variance > 0.5) or eps > 1e-4 or not is_generic(case)


# --- Encoder layer --------------------------------------------------------------------------------


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
    params = with_zero_output(case, "attention", "feed_forward")
    once = encoder.layer_norm(case["x"], **params["norm_1"], eps=case["eps"])
    assert_close(case(params=params), encoder.layer_norm(once, **params["norm_2"], eps=case["eps"]))


@special("encoder-layer", "constant-norm")
def encoder_layer_constant_norm(case):
    z = case(params=with_params(case, "norm_2", gamma=np.zeros(case["x"].shape[-1])))
    assert np.array_equal(z, np.broadcast_to(case["params"]["norm_2"]["beta"], z.shape))


# --- Pre-norm layer -------------------------------------------------------------------------------


@law("pre-norm-layer", "permute-tokens")
def pre_norm_layer_permute_tokens(case):
    assert_tokens_permute(case)


@law("pre-norm-layer", "shift-passes-through")
def pre_norm_layer_shift_passes_through(case):
    shift = 3.0 * case.numbers((*case["x"].shape[:-1], 1))
    assert_close(case(x=case["x"] + shift), case() + shift, within=1e-11)


@law("pre-norm-layer", "replication")
def pre_norm_layer_replication(case):
    assert_replicates(case)


@law("pre-norm-layer", "masked-is-deleted")
def pre_norm_layer_masked_is_deleted(case):
    assert_masked_token_is_deleted(case)


@law("pre-norm-layer", "permute-heads")
def pre_norm_layer_permute_heads(case):
    assert_heads_permute(case, ATTENTION)


@law("pre-norm-layer", "head-gauge")
def pre_norm_layer_head_gauge(case):
    assert_query_key_gauge(case, ATTENTION)
    assert_value_gauge(case, ATTENTION)


@law("pre-norm-layer", "key-bias-is-invisible")
def pre_norm_layer_key_bias_is_invisible(case):
    assert_key_bias_is_invisible(case, ATTENTION)


@law("pre-norm-layer", "value-bias-folds")
def pre_norm_layer_value_bias_folds(case):
    assert_value_bias_folds(case, ATTENTION)


@special("pre-norm-layer", "zero-sublayers")
def pre_norm_layer_zero_sublayers(case):
    z = case(params=with_zero_output(case, "attention", "feed_forward"))
    assert np.array_equal(z, case["x"])


@special("pre-norm-layer", "single-token")
def pre_norm_layer_single_token(case):
    one = case.with_args(x=case["x"][..., :1, :], mask=None)
    assert_queries_and_keys_do_not_matter(one, ATTENTION)


@special("pre-norm-layer", "huge-token")
def pre_norm_layer_huge_token(case):
    # Without attention the feed-forward sublayer normalises the token itself.
    needs(case.dtype != "float16", "numbers of 1e8")
    huge = case.rounded(1e8 * case["x"])
    needs(np.all(np.var(huge, axis=-1) > 1e15 * case["eps"]), "a variance far beyond eps")
    params = with_zero_output(case, "attention")
    update = case(params=params, eps=0.0) - case["x"]
    # The sum of two numbers of such different sizes loses that many digits.
    assert_close(case(x=huge, params=params), huge + update, within=4 * case.ulp)


# --- Self-attention sublayer ----------------------------------------------------------------------


@law("self-attention-sublayer", "shift-passes-through")
def self_attention_sublayer_shift_passes_through(case):
    shift = 3.0 * case.numbers((*case["x"].shape[:-1], 1))
    assert_close(case(x=case["x"] + shift), case() + shift, within=1e-10)


@law("self-attention-sublayer", "permute-tokens")
def self_attention_sublayer_permute_tokens(case):
    assert_tokens_permute(case)


@law("self-attention-sublayer", "first-half-of-the-layer")
def self_attention_sublayer_first_half_of_the_layer(case):
    d = case["x"].shape[-1]
    second = {
        "norm_2": {"gamma": np.ones(d), "beta": np.zeros(d)},
        "feed_forward": {"W_1": np.ones((d, 3)), "W_2": np.zeros((3, d))},
    }
    arguments = {**case.args, "params": case["params"] | second}
    assert_close(encoder.pre_norm_layer(**arguments), case())


@special("self-attention-sublayer", "zero-attention")
def self_attention_sublayer_zero_attention(case):
    assert np.array_equal(case(params=with_zero_output(case, "attention")), case["x"])


# --- Feed-forward sublayer ------------------------------------------------------------------------


@law("feed-forward-sublayer", "each-token-alone")
def feed_forward_sublayer_each_token_alone(case):
    assert_each_token_alone(case, "y")


@law("feed-forward-sublayer", "shift-passes-through")
def feed_forward_sublayer_shift_passes_through(case):
    shift = 3.0 * case.numbers((*case["y"].shape[:-1], 1))
    assert_close(case(y=case["y"] + shift), case() + shift, within=1e-11)


@law("feed-forward-sublayer", "permute-hidden")
def feed_forward_sublayer_permute_hidden(case):
    permuted = permuted_hidden(case, case["params"]["feed_forward"])
    assert_close(case(params={**case["params"], "feed_forward": permuted}), case())


@law("feed-forward-sublayer", "scale-of-the-update")
def feed_forward_sublayer_scale_of_the_update(case):
    for scale in (1e-3, 7.0):
        update = case(y=scale * case["y"]) - scale * case["y"]
        expected = case(eps=case["eps"] / scale**2) - case["y"]
        assert_close(update, expected, within=1e-11)


@special("feed-forward-sublayer", "zero-output")
def feed_forward_sublayer_zero_output(case):
    assert np.array_equal(case(params=with_zero_output(case, "feed_forward")), case["y"])


@special("feed-forward-sublayer", "constant-token")
def feed_forward_sublayer_constant_token(case):
    params = case["params"]
    beta = params["norm_2"]["beta"][None]
    expected = encoder.feed_forward(beta, **params["feed_forward"], activation=case["activation"])
    y = np.full_like(case["y"], 2.0)
    assert_close(case(y=y), np.broadcast_to(2.0 + expected, y.shape))


# --- Decoder layer --------------------------------------------------------------------------------


@law("decoder-layer", "causal")
def decoder_layer_causal(case):
    n = case["x"].shape[-2]
    before = case()
    for k in range(1, n):
        x = case["x"].copy()
        x[..., k:, :] = case.numbers(x[..., k:, :].shape)
        assert_close(case(x=x)[..., :k, :], before[..., :k, :], within=1e-11)


@law("decoder-layer", "prefix")
def decoder_layer_prefix(case):
    for k in range(1, case["x"].shape[-2]):
        assert_close(case(x=case["x"][..., :k, :]), case()[..., :k, :], within=1e-11)


@law("decoder-layer", "permute-memory")
def decoder_layer_permute_memory(case):
    order = permutation(case, case["memory"].shape[-2])
    assert_close(case(memory=rows(case["memory"], order)), case(), within=1e-11)


@law("decoder-layer", "replicate-memory")
def decoder_layer_replicate_memory(case):
    thrice = np.tile(np.arange(case["memory"].shape[-2]), 3)
    assert_close(case(memory=rows(case["memory"], thrice)), case(), within=1e-11)


@law("decoder-layer", "normalised-output")
def decoder_layer_normalised_output(case):
    assert_normalised(case, case["params"]["norm_3"], case["eps"])


@law("decoder-layer", "permute-heads")
def decoder_layer_permute_heads(case):
    assert_heads_permute(case, SELF_ATTENTION)
    assert_heads_permute(case, CROSS_ATTENTION)


@law("decoder-layer", "key-bias-is-invisible")
def decoder_layer_key_bias_is_invisible(case):
    assert_key_bias_is_invisible(case, SELF_ATTENTION)
    assert_key_bias_is_invisible(case, CROSS_ATTENTION)


@special("decoder-layer", "single-token")
def decoder_layer_single_token(case):
    one = case.with_args(x=case["x"][..., :1, :])
    assert_queries_and_keys_do_not_matter(one, SELF_ATTENTION)


@special("decoder-layer", "zero-cross-attention")
def decoder_layer_zero_cross_attention(case):
    without_memory = case.with_args(params=with_zero_output(case, "cross_attention"))
    other = case.numbers(case["memory"].shape)
    assert np.array_equal(without_memory(memory=other), without_memory())


@special("decoder-layer", "single-memory-token")
def decoder_layer_single_memory_token(case):
    one = case.with_args(memory=case["memory"][..., :1, :])
    assert_queries_and_keys_do_not_matter(one, CROSS_ATTENTION)
