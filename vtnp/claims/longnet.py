"""Laws and special cases of spec/longnet/."""

import math
import warnings

import numpy as np
from autograd import elementwise_grad, make_vjp

from vtnp.claims._registry import law, special
from vtnp.claims.compare import assert_close
from vtnp.encoder import attention, causal_mask, softmax
from vtnp.longnet import dense_to_sparse, head_offsets, sparse_to_dense, valid_mask

LIKE = np.zeros(1)


def only(case, *names):
    return {name: case[name] for name in names if name in case.args}


def slots(case):
    """Return the arguments of valid-mask for a case of another formula."""
    x = case.args.get("x", case.args.get("K"))
    branch = only(case, "segment", "dilation", "offsets")
    return {"n": x.shape[-2], "heads": x.shape[-3], **branch, "like": LIKE}


def kept_of(h, heads, n, segment, dilation, offsets):
    """Return the tokens that head h keeps, a list for each segment, from the page's words."""
    s = h % dilation if offsets == "paper" else h // math.ceil(heads / dilation)
    return [
        [i for i in range(start, min(start + segment, n)) if (i - start) % dilation == s]
        for start in range(0, n, segment)
    ]


def kept_tokens(case):
    """Return, for each head and token, whether the head keeps the token."""
    args = slots(case)
    kept = np.zeros((args["heads"], args["n"]), bool)
    for h in range(args["heads"]):
        for row in kept_of(
            h, args["heads"], args["n"], args["segment"], args["dilation"], args["offsets"]
        ):
            kept[h, row] = True
    return kept


def of_length(case, n):
    """Return new queries and keys of another length, and values that show who reads whom."""
    shape = (*case["Q"].shape[:-2], n)
    Q, K = (case.rng.standard_normal((*shape, case["Q"].shape[-1])) for _ in range(2))
    return {"Q": Q, "K": K, "V": np.broadcast_to(np.eye(n), (*shape, n)).copy()}


# --- head-offsets ---------------------------------------------------------------------------------


@law("head-offsets", "in-range")
def offsets_in_range(case):
    s = case()
    assert np.all((s >= 0) & (s < case["dilation"]))


@law("head-offsets", "balanced")
def offsets_balanced(case):
    counts = np.bincount(case(offsets="paper"), minlength=case["dilation"])
    assert counts.max() - counts.min() <= 1


@law("head-offsets", "nested")
def offsets_nested(case):
    coarse = case(offsets="paper", dilation=3 * case["dilation"])
    assert np.array_equal(coarse % case["dilation"], case(offsets="paper"))


@law("head-offsets", "grouped")
def offsets_grouped(case):
    s = case(offsets="torchscale")
    sizes = np.bincount(s)
    assert np.all(np.diff(s) >= 0)
    assert np.all(sizes[:-1] == -(-case["heads"] // case["dilation"]))


@special("head-offsets", "no-dilation")
def offsets_no_dilation(case):
    assert not np.any(case(dilation=1))


@special("head-offsets", "few-heads")
def offsets_few_heads(case):
    heads = case["heads"]
    assert np.array_equal(case(dilation=heads), np.arange(heads))
    assert np.array_equal(case(dilation=heads + 2), np.arange(heads))


# --- valid-mask ----------------------------------------------------------------------------------


@law("valid-mask", "heads-share-tokens")
def places_heads_share_tokens(case):
    assert case(heads=case["dilation"]).sum() == case["n"]


@law("valid-mask", "long-segment")
def places_long_segment(case):
    n = max(case["n"], case["dilation"])
    assert np.array_equal(case(n=n, segment=n + 4), case(n=n, segment=n))


@special("valid-mask", "whole-segments")
def places_whole_segments(case):
    whole = 2 * case["dilation"]
    assert np.all(case(n=3 * whole, segment=whole))


# --- dense-to-sparse and sparse-to-dense ------------------------------------------------------------


@law("dense-to-sparse", "there-and-back")
def segments_there_and_back(case):
    branch = only(case, "segment", "dilation", "offsets")
    back = sparse_to_dense(case(), case["x"].shape[-2], **branch)
    assert np.array_equal(back, np.where(kept_tokens(case)[..., None], case["x"], 0.0))


@law("dense-to-sparse", "padding-is-zero")
def segments_padding_is_zero(case):
    kept = valid_mask(**slots(case))[..., None]
    assert not np.any(np.where(kept, 0.0, case(x=np.ones_like(case["x"]))))


@law("dense-to-sparse", "long-segment")
def segments_long_segment(case):
    n = max(case["x"].shape[-2], case["dilation"])
    x = case.rng.standard_normal((*case["x"].shape[:-2], n, case["x"].shape[-1]))
    assert np.array_equal(case(x=x, segment=n + 5), case(x=x, segment=n))


@special("dense-to-sparse", "no-dilation")
def segments_no_dilation(case):
    whole = case(segment=case["x"].shape[-2], dilation=1)
    assert np.array_equal(whole, np.expand_dims(case["x"], axis=-3))


@special("dense-to-sparse", "nan-elsewhere")
def segments_nan_elsewhere(case):
    """A NaN in a token that a head has not kept does not reach the head."""
    hidden = np.where(kept_tokens(case)[..., None], case["x"], np.nan)
    assert np.array_equal(case(x=hidden), case())


@law("sparse-to-dense", "adjoint")
def back_is_adjoint(case):
    x = case.rng.standard_normal(case(fill=0.0).shape)
    branch = only(case, "segment", "dilation", "offsets")
    there = np.sum(dense_to_sparse(x, **branch) * case["y"], axis=(-4, -3, -2, -1))
    assert_close(np.sum(x * case(fill=0.0), axis=(-3, -2, -1)), there)


@law("sparse-to-dense", "back-and-there")
def back_and_there(case):
    branch = only(case, "segment", "dilation", "offsets")
    kept = valid_mask(case["n"], case["y"].shape[-4], **branch, like=LIKE)[..., None]
    again = dense_to_sparse(case(fill=0.0), **branch)
    assert np.array_equal(again, np.where(kept, case["y"], 0.0))


@special("sparse-to-dense", "nothing-kept")
def back_nothing_kept(case):
    """A sequence of one token is kept by the heads of offset 0 alone."""
    y = case["y"][..., :1, :1, :]
    s = head_offsets(y.shape[-4], case["dilation"], offsets=case["offsets"], like=LIKE)
    x = case(y=y, n=1, fill=-np.inf)
    assert np.array_equal(x, np.where(s[:, None, None] == 0, y[..., 0, :, :], -np.inf))


# --- logsumexp ----------------------------------------------------------------------------------


@law("logsumexp", "shift")
def log_sum_exp_shift(case):
    assert_close(case(x=case["x"] + 2.5), case() + 2.5)


@law("logsumexp", "bounds")
def log_sum_exp_bounds(case):
    largest, slack = case["x"].max(axis=-1), 1e-14 * np.abs(case["x"]).max(axis=-1, initial=1.0)
    assert np.all(case() >= largest - slack)
    assert np.all(case() <= largest + math.log(case["x"].shape[-1]) + slack)


@law("logsumexp", "permute")
def log_sum_exp_permute(case):
    order = case.rng.permutation(case["x"].shape[-1])
    assert_close(case(x=case["x"][..., order]), case())


@law("logsumexp", "slope-is-softmax", differentiates=True)
def log_sum_exp_slope(case):
    assert_close(elementwise_grad(lambda x: case.function(x=x))(case["x"]), softmax(case["x"]))


@special("logsumexp", "single-score")
def log_sum_exp_single_score(case):
    assert np.array_equal(case(x=case["x"][..., :1]), case["x"][..., 0])


@special("logsumexp", "minus-infinity")
def log_sum_exp_minus_infinity(case):
    absent = np.full_like(case["x"][..., :1], -np.inf)
    assert_close(case(x=np.concatenate([case["x"], absent], axis=-1)), case())


@special("logsumexp", "all-minus-infinity", differentiates=True)
def log_sum_exp_all_minus_infinity(case):
    absent = np.full_like(case["x"], -np.inf)
    assert np.all(case(x=absent) == -np.inf)
    assert not np.any(elementwise_grad(lambda x: case.function(x=x))(absent))


@special("logsumexp", "huge-scores")
def log_sum_exp_huge_scores(case):
    huge = 1e4 * case["x"]
    assert np.all(np.isfinite(case(x=huge)))
    assert_close(case(x=huge + 1e4), case(x=huge) + 1e4)


# --- dilated-branch -------------------------------------------------------------------------------


@law("dilated-branch", "rows-sum-to-one")
def branch_rows_sum_to_one(case):
    y, _ = case(V=np.ones_like(case["V"]), zero_keys=False)
    kept = np.broadcast_to(kept_tokens(case)[..., None], y.shape)
    assert_close(y, kept.astype(y.dtype))


@law("dilated-branch", "reads-its-own")
def branch_reads_its_own(case):
    """Only tokens of the same segment and the same place modulo the dilation are read."""
    n, heads = case["K"].shape[-2], case["K"].shape[-3]
    q = int(case.rng.integers(n))
    changed = {name: case[name].copy() for name in "KV"}
    for x in changed.values():
        x[..., q, :] += 1.0
    before, after = case(), case(**changed)
    rows = [
        kept_of(h, heads, n, case["segment"], case["dilation"], case["offsets"])
        for h in range(heads)
    ]
    reads = [
        [any(p in row and q in row for row in rows[h]) for p in range(n)] for h in range(heads)
    ]
    for old, new in ((before[0], after[0]), (before[1][..., None], after[1][..., None])):
        assert np.array_equal(np.where(np.array(reads)[..., None], new, old), new)


@law("dilated-branch", "heads-per-token")
def branch_heads_per_token(case):
    heads, r = case["K"].shape[-3], case["dilation"]
    _, l = case(offsets="paper")
    keep = np.isfinite(l).sum(axis=-2)
    assert np.all((keep == heads // r) | (keep == -(-heads // r)))


@law("dilated-branch", "shift-keys")
def branch_shift_keys(case):
    c = case.rng.standard_normal(case["K"].shape[-1])
    y, l = case(zero_keys=False)
    shifted_y, shifted_l = case(K=case["K"] + c, zero_keys=False)
    assert_close(shifted_y, y)
    assert_close(shifted_l, l + case["Q"] @ c / math.sqrt(len(c)))


@law("dilated-branch", "counts-keys")
def branch_counts_keys(case):
    """With all scores 0 the denominator is the number of keys that are read."""
    n = case["K"].shape[-2]
    V = np.broadcast_to(np.eye(n), (*case["K"].shape[:-1], n)).copy()
    y, l = case(Q=np.zeros_like(case["Q"]), V=V, zero_keys=False)
    assert_close(np.exp(l), np.sum(y > 0, axis=-1).astype(l.dtype))


@law("dilated-branch", "pairs")
def branch_pairs(case):
    """n w / r**2 pairs in each head, where r divides w and w divides n."""
    r = case["dilation"]
    w, n = 2 * r, 6 * r
    y, _ = case(**of_length(case, n), segment=w, causal=False, zero_keys=False)
    assert np.all(np.sum(y > 0, axis=(-2, -1)) == n * w // r**2)


@law("dilated-branch", "causal-past")
def branch_causal_past(case):
    n = case["K"].shape[-2]
    t = int(case.rng.integers(n))
    changed = {name: case[name].copy() for name in "QKV"}
    for x in changed.values():
        x[..., t:, :] += 1.0
    y, l = case(causal=True)
    later_y, later_l = case(**changed, causal=True)
    assert np.array_equal(later_y[..., :t, :], y[..., :t, :])
    assert np.array_equal(later_l[..., :t], l[..., :t])


@law("dilated-branch", "segments-apart")
def branch_segments_apart(case):
    """Cut at a segment's end, the two parts of a sequence can be computed on two machines."""
    w = min(case["segment"], case["K"].shape[-2])
    x = of_length(case, 3 * w)
    branch = {"segment": w, "dilation": min(case["dilation"], w)}
    parts = [
        case(**{name: x[name][..., part, :] for name in x}, **branch)
        for part in (slice(w), slice(w, None))
    ]
    y, l = case(**x, **branch)
    assert_close(np.concatenate([y for y, _ in parts], axis=-2), y)
    assert_close(np.concatenate([l for _, l in parts], axis=-1), l)


@law("dilated-branch", "long-segment")
def branch_long_segment(case):
    x = of_length(case, case["segment"])
    for a, b in zip(case(**x), case(**x, segment=case["segment"] + 6), strict=True):
        assert np.array_equal(a, b)


@special("dilated-branch", "dense")
def branch_dense(case):
    n = case["K"].shape[-2]
    y, l = case(segment=n + 2, dilation=1)
    mask = causal_mask(n, like=LIKE) if case["causal"] else None
    assert_close(y, attention(*(case[name] for name in "QKV"), mask=mask))
    assert np.all(np.isfinite(l))


@special("dilated-branch", "not-kept")
def branch_not_kept(case):
    y, l = case()
    absent = np.broadcast_to(~kept_tokens(case), l.shape)
    assert np.all(l[absent] == -np.inf)
    assert not np.any(y[absent])


@special("dilated-branch", "causal-zero-keys")
def branch_causal_zero_keys(case):
    """Padding stands behind every token of its segment: the triangle hides it."""
    for a, b in zip(
        case(causal=True, zero_keys=True), case(causal=True, zero_keys=False), strict=True
    ):
        assert_close(a, b, within=1e-15)


@special("dilated-branch", "huge-logits")
def branch_huge_logits(case):
    scale = 1e4 * math.sqrt(case["K"].shape[-1])
    y, l = case(Q=np.sign(case["Q"]) * scale, K=np.sign(case["K"]))
    assert np.all(np.isfinite(y))
    assert not np.any(np.isnan(l))


# --- mix-branches ---------------------------------------------------------------------------------


@law("mix-branches", "weights-sum-to-one")
def mix_weights_sum_to_one(case):
    o = case(outputs=[np.ones_like(y) for y in case["outputs"]])
    assert_close(o, np.ones_like(o))


@law("mix-branches", "shift")
def mix_shift(case):
    assert_close(case(log_denominators=[l + 3.0 for l in case["log_denominators"]]), case())


@law("mix-branches", "permute-branches")
def mix_permute_branches(case):
    order = case.rng.permutation(len(case["outputs"]))
    assert_close(case(**{name: [case[name][i] for i in order] for name in case.args}), case())


@law("mix-branches", "absent-is-deleted")
def mix_absent_is_deleted(case):
    y, l = case["outputs"], case["log_denominators"]
    absent = np.full_like(l[0], -np.inf)
    assert_close(case(outputs=[*y, y[0]], log_denominators=[*l, absent]), case())


@law("mix-branches", "gradient-through-weights", differentiates=True)
def mix_gradient_through_weights(case):
    """The slope along the first denominators is that of the value itself."""
    first, *others = case["log_denominators"]
    direction, cotangent = case.rng.standard_normal(first.shape), case.rng.standard_normal()

    def f(l):
        return case.function(outputs=case["outputs"], log_denominators=[l, *others]) * cotangent

    with warnings.catch_warnings():
        # A wrong mixture may not depend on the denominators at all: its slope is 0.
        warnings.simplefilter("ignore", UserWarning)
        vjp, o = make_vjp(f)(first)
    reverse = np.sum(vjp(np.ones_like(o)) * direction)
    h = 1e-4
    step = [np.sum(f(first + k * h * direction)) for k in (-2, -1, 1, 2)]
    central = (step[0] - 8 * step[1] + 8 * step[2] - step[3]) / (12 * h)
    assert_close(reverse, central, within=1e-8)


@special("mix-branches", "single-branch")
def mix_single_branch(case):
    y, l = case["outputs"][0], case["log_denominators"][0]
    assert np.array_equal(case(outputs=[y], log_denominators=[l]), y)


@special("mix-branches", "no-branch")
def mix_no_branch(case):
    absent = [np.full_like(l, -np.inf) for l in case["log_denominators"]]
    assert not np.any(case(log_denominators=absent))


@special("mix-branches", "equal-denominators")
def mix_equal_denominators(case):
    o = case(log_denominators=[np.full_like(l, 0.7) for l in case["log_denominators"]])
    assert_close(o, sum(case["outputs"]) / len(case["outputs"]))


@special("mix-branches", "huge-denominators")
def mix_huge_denominators(case):
    assert np.all(np.isfinite(case(log_denominators=[1e4 * l for l in case["log_denominators"]])))


# --- dilated-attention ----------------------------------------------------------------------------


def multiplicity(case, n):
    """Return m: in how many branches a head keeps both tokens in the same segment."""
    heads = case["K"].shape[-3]
    m = np.zeros((heads, n, n))
    for w, r in zip(case["segments"], case["dilations"], strict=True):
        for h in range(heads):
            for tokens in kept_of(h, heads, n, w, r, case["offsets"]):
                m[h][np.ix_(tokens, tokens)] += 1
    return np.tril(m) if case["causal"] else m


@law("dilated-attention", "multiset")
def attention_multiset(case):
    Q, K, V = (case[name] for name in "QKV")
    m = multiplicity(case, K.shape[-2])
    with np.errstate(divide="ignore"):
        scores = Q @ np.swapaxes(K, -1, -2) / math.sqrt(K.shape[-1]) + np.log(m)
    assert_close(case(zero_keys=False), softmax(scores) @ V)


@law("dilated-attention", "rows-sum-to-one")
def attention_rows_sum_to_one(case):
    o = case(V=np.ones_like(case["V"]), zero_keys=False)
    kept = np.any(multiplicity(case, o.shape[-2]), axis=-1, keepdims=True)
    assert_close(o, np.broadcast_to(kept, o.shape).astype(o.dtype))


@law("dilated-attention", "shift-keys")
def attention_shift_keys(case):
    c = case.rng.standard_normal(case["K"].shape[-1])
    assert_close(case(K=case["K"] + c, zero_keys=False), case(zero_keys=False))


@law("dilated-attention", "permute-branches")
def attention_permute_branches(case):
    names = ("segments", "dilations")
    order = case.rng.permutation(len(case["segments"]))
    assert_close(case(**{name: [case[name][i] for i in order] for name in names}), case())


@law("dilated-attention", "branches-twice")
def attention_branches_twice(case):
    assert_close(case(segments=case["segments"] * 2, dilations=case["dilations"] * 2), case())


@law("dilated-attention", "causal-past")
def attention_causal_past(case):
    t = int(case.rng.integers(case["K"].shape[-2]))
    changed = {name: case[name].copy() for name in "QKV"}
    for x in changed.values():
        x[..., t:, :] += 1.0
    later = case(**changed, causal=True)
    assert np.array_equal(later[..., :t, :], case(causal=True)[..., :t, :])


@law("dilated-attention", "covers-all")
def attention_covers_all(case):
    """With a dilation of 1 among them every token asks, and every token is read."""
    n = case["K"].shape[-2]
    V = np.broadcast_to(np.eye(n), (*case["K"].shape[:-1], n)).copy()
    A = case(V=V, dilations=[1, *case["dilations"][1:]], causal=False, zero_keys=False)
    assert_close(A.sum(axis=-1), np.ones(A.shape[:-1]))
    assert np.all(A.max(axis=-2) > 0)


@law("dilated-attention", "three-layers")
def attention_three_layers(case):
    w = int(case.rng.integers(2, 6))
    r = int(case.rng.integers(2, w + 1))
    n = 3 * w
    A = case(**of_length(case, n), segments=[w, n], dilations=[1, r], causal=False, zero_keys=False)
    reads = (A > 0).astype(int)
    assert np.all(reads @ reads @ reads > 0)


@law("dilated-attention", "linear-cost")
def attention_linear_cost(case):
    a, w = int(case.rng.integers(2, 4)), int(case.rng.integers(1, 4))
    dilations = [1, a, a * a]
    n = 2 * w * a * a
    A = case(
        **of_length(case, n),
        segments=[w * r for r in dilations],
        dilations=dilations,
        causal=False,
        zero_keys=False,
    )
    pairs = np.sum(A > 0, axis=(-2, -1))
    assert np.all(pairs <= a / (a - 1) * w * n)


@special("dilated-attention", "dense")
def attention_dense(case):
    n = case["K"].shape[-2]
    mask = causal_mask(n, like=LIKE) if case["causal"] else None
    for branches in (1, 3):
        o = case(segments=[n + 1] * branches, dilations=[1] * branches)
        assert_close(o, attention(*(case[name] for name in "QKV"), mask=mask))


@special("dilated-attention", "long-segments")
def attention_long_segments(case):
    longest = max(case["segments"])
    x = of_length(case, longest)
    segments = [*case["segments"], longest]
    longer = [*case["segments"], longest + 9]
    dilations = [*case["dilations"], 1]
    a, b = (case(**x, segments=each, dilations=dilations) for each in (segments, longer))
    assert np.array_equal(a, b)


@special("dilated-attention", "equal-scores")
def attention_equal_scores(case):
    """With Q = 0 a branch weighs as many as it has keys."""
    x = of_length(case, 12)
    options = {"segments": [6, 12, 12], "dilations": [1, 2, 1], "causal": False}
    A = case(**x | {"Q": np.zeros_like(x["Q"])}, **options, zero_keys=False)
    s = head_offsets(A.shape[-3], 2, offsets=case["offsets"], like=LIKE)
    for h in range(A.shape[-3]):
        row = A[..., h, s[h], :]
        together = [1 + (q < 6) + (q % 2 == s[h]) for q in range(12)]
        assert_close(row, np.broadcast_to(np.array(together) / 24, row.shape))


@special("dilated-attention", "huge-logits")
def attention_huge_logits(case):
    scale = 1e4 * math.sqrt(case["K"].shape[-1])
    assert np.all(np.isfinite(case(Q=np.sign(case["Q"]) * scale, K=np.sign(case["K"]))))
