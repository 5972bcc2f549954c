"""Laws and special cases of spec/longnet/."""

import math
import warnings

import numpy as np
from autograd import elementwise_grad, make_vjp

from vtnp.claims._registry import law, special
from vtnp.claims.common import needs_generic
from vtnp.claims.compare import assert_at_most, assert_close
from vtnp.claims.errors import needs
from vtnp.encoder import attention, causal_mask, softmax
from vtnp.longnet import Branch, dense_to_sparse, head_offsets, sparse_to_dense, valid_mask

LIKE = np.zeros(1)


def branch_of(case):
    """Return the branch and the rule of offsets of a case."""
    return {name: case[name] for name in ("branch", "offsets")}


def mask_arguments(case):
    """Return the arguments of valid-mask for a case of another formula."""
    x = case.args.get("x", case.args.get("K"))
    return {"n": x.shape[-2], "heads": x.shape[-3], **branch_of(case), "like": LIKE}


def selected(h, heads, n, branch, offsets):
    """Return the tokens that head h selects, a list for each segment, as the pages define them."""
    segment, dilation = branch
    s = h % dilation if offsets == "paper" else h // math.ceil(heads / dilation)
    return [
        [i for i in range(start, min(start + segment, n)) if (i - start) % dilation == s]
        for start in range(0, n, segment)
    ]


def is_selected(case):
    """Return, for each head and token, whether the head selects the token."""
    x = case.args.get("x", case.args.get("K"))
    heads, n = x.shape[-3:-1]
    found = np.zeros((heads, n), bool)
    for h in range(heads):
        for tokens in selected(h, heads, n, case["branch"], case["offsets"]):
            found[h, tokens] = True
    return found


def of_length(case, n):
    """Return queries and keys of another length, and values that make the output the weights."""
    shape = (*case["Q"].shape[:-2], n)
    Q, K = (case.numbers((*shape, case["Q"].shape[-1])) for _ in range(2))
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


# --- valid-mask -----------------------------------------------------------------------------------


@law("valid-mask", "heads-share-tokens")
def mask_heads_share_tokens(case):
    assert case(heads=case["branch"].dilation).sum() == case["n"]


@law("valid-mask", "long-segment")
def mask_long_segment(case):
    r = case["branch"].dilation
    n = max(case["n"], r)
    assert np.array_equal(case(n=n, branch=Branch(n + 4, r)), case(n=n, branch=Branch(n, r)))


@special("valid-mask", "whole-segments")
def mask_whole_segments(case):
    r = case["branch"].dilation
    assert np.all(case(n=6 * r, branch=Branch(2 * r, r)))


# --- dense-to-sparse and sparse-to-dense ----------------------------------------------------------


@law("dense-to-sparse", "round-trip")
def sparse_round_trip(case):
    x = sparse_to_dense(case(), case["x"].shape[-2], **branch_of(case))
    assert np.array_equal(x, np.where(is_selected(case)[..., None], case["x"], 0.0))


@law("dense-to-sparse", "padding-is-zero")
def sparse_padding_is_zero(case):
    valid = valid_mask(**mask_arguments(case))[..., None]
    assert not np.any(np.where(valid, 0.0, case(x=np.ones_like(case["x"]))))


@law("dense-to-sparse", "long-segment")
def sparse_long_segment(case):
    r = case["branch"].dilation
    n = max(case["x"].shape[-2], r)
    x = case.numbers((*case["x"].shape[:-2], n, case["x"].shape[-1]))
    assert np.array_equal(case(x=x, branch=Branch(n + 5, r)), case(x=x, branch=Branch(n, r)))


@special("dense-to-sparse", "no-dilation")
def sparse_no_dilation(case):
    whole = case(branch=Branch(case["x"].shape[-2], 1))
    assert np.array_equal(whole, np.expand_dims(case["x"], axis=-3))


@special("dense-to-sparse", "nan-elsewhere")
def sparse_nan_elsewhere(case):
    x = np.where(is_selected(case)[..., None], case["x"], np.nan)
    assert np.array_equal(case(x=x), case())


@law("sparse-to-dense", "adjoint")
def dense_is_adjoint(case):
    x = case.numbers(case(fill=0.0).shape)
    sparse = dense_to_sparse(x, **branch_of(case))
    expected = np.sum(sparse * case["y"], axis=(-4, -3, -2, -1))
    assert_close(np.sum(x * case(fill=0.0), axis=(-3, -2, -1)), expected)


@law("sparse-to-dense", "round-trip")
def dense_round_trip(case):
    valid = valid_mask(case["n"], case["y"].shape[-4], **branch_of(case), like=LIKE)
    y = dense_to_sparse(case(fill=0.0), **branch_of(case))
    assert np.array_equal(y, np.where(valid[..., None], case["y"], 0.0))


@special("sparse-to-dense", "nothing-selected")
def dense_nothing_selected(case):
    """Of a sequence of one token, only heads of offset 0 select it."""
    y = case["y"][..., :1, :1, :]
    s = head_offsets(y.shape[-4], case["branch"].dilation, offsets=case["offsets"], like=LIKE)
    x = case(y=y, n=1, fill=-np.inf)
    assert np.array_equal(x, np.where(s[:, None, None] == 0, y[..., 0, :, :], -np.inf))


# --- logsumexp ------------------------------------------------------------------------------------


@law("logsumexp", "shift")
def log_sum_exp_shift(case):
    assert_close(case(x=case["x"] + 2.5), case() + 2.5)


@law("logsumexp", "bounds")
def log_sum_exp_bounds(case):
    largest = case["x"].max(axis=-1)
    assert_at_most(largest, case(), within=1e-14)
    assert_at_most(case(), largest + math.log(case["x"].shape[-1]), within=1e-14)


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


@special("logsumexp", "largest-alone")
def log_sum_exp_largest_alone(case):
    """To the last digits, for which 1e-22 must not be compared with 1."""
    for largest, other in ((0.0, -50.0), (0.0, -700.0)):
        found = case(x=np.array([[largest, other], [other, largest]]))
        assert_close(found / np.exp(other), np.ones(2), within=1e-15)


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
    needs(case.dtype != "float16", "scores of 1e5")
    huge = 1e4 * case["x"]
    assert np.all(np.isfinite(case(x=huge)))
    assert_close(case(x=huge + 1e4), case(x=huge) + 1e4)


# --- dilated-branch -------------------------------------------------------------------------------


@law("dilated-branch", "rows-sum-to-one")
def branch_rows_sum_to_one(case):
    y, _ = case(V=np.ones_like(case["V"]), zero_keys=False)
    expected = np.broadcast_to(is_selected(case)[..., None], y.shape)
    assert_close(y, expected.astype(y.dtype))


@law("dilated-branch", "attends-to-its-own")
def branch_attends_to_its_own(case):
    """A key changes only tokens of its segment at the same position modulo the dilation."""
    heads, n = case["K"].shape[-3:-1]
    q = int(case.rng.integers(n))
    changed = {name: case[name].copy() for name in "KV"}
    for x in changed.values():
        x[..., q, :] += 1.0
    before, after = case(), case(**changed)
    attends = np.zeros((heads, n, 1), bool)
    for h in range(heads):
        for tokens in selected(h, heads, n, case["branch"], case["offsets"]):
            attends[h, tokens] |= q in tokens
    for old, new in ((before[0], after[0]), (before[1][..., None], after[1][..., None])):
        assert np.array_equal(np.where(attends, new, old), new)


@law("dilated-branch", "heads-per-token")
def branch_heads_per_token(case):
    heads, r = case["K"].shape[-3], case["branch"].dilation
    _, l = case(offsets="paper")
    counts = np.isfinite(l).sum(axis=-2)
    assert np.all((counts == heads // r) | (counts == -(-heads // r)))


@law("dilated-branch", "shift-keys")
def branch_shift_keys(case):
    c = case.numbers(case["K"].shape[-1])
    y, l = case(zero_keys=False)
    shifted_y, shifted_l = case(K=case["K"] + c, zero_keys=False)
    assert_close(shifted_y, y)
    assert_close(shifted_l, l + case["Q"] @ c / math.sqrt(len(c)))


@law("dilated-branch", "counts-keys")
def branch_counts_keys(case):
    """With all scores 0 the denominator is the number of keys."""
    n = case["K"].shape[-2]
    V = np.broadcast_to(np.eye(n), (*case["K"].shape[:-1], n)).copy()
    y, l = case(Q=np.zeros_like(case["Q"]), V=V, zero_keys=False)
    assert_close(np.exp(l), np.sum(y > 0, axis=-1).astype(l.dtype))


@law("dilated-branch", "pairs")
def branch_pairs(case):
    """n w / r**2 pairs in each head, where r divides w and w divides n."""
    r = case["branch"].dilation
    w, n = 2 * r, 6 * r
    y, _ = case(**of_length(case, n), branch=Branch(w, r), causal=False, zero_keys=False)
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


@law("dilated-branch", "independent-segments")
def branch_independent_segments(case):
    """The parts before and after the end of a segment, computed separately."""
    w = min(case["branch"].segment, case["K"].shape[-2])
    x = of_length(case, 3 * w)
    branch = Branch(w, min(case["branch"].dilation, w))
    parts = [
        case(**{name: x[name][..., part, :] for name in x}, branch=branch)
        for part in (slice(w), slice(w, None))
    ]
    y, l = case(**x, branch=branch)
    assert_close(np.concatenate([y for y, _ in parts], axis=-2), y)
    assert_close(np.concatenate([l for _, l in parts], axis=-1), l)


@law("dilated-branch", "long-segment")
def branch_long_segment(case):
    w, r = case["branch"]
    x = of_length(case, w)
    for a, b in zip(case(**x), case(**x, branch=Branch(w + 6, r)), strict=True):
        assert np.array_equal(a, b)


@special("dilated-branch", "dense")
def branch_dense(case):
    n = case["K"].shape[-2]
    y, l = case(branch=Branch(n + 2, 1))
    mask = causal_mask(n, like=LIKE) if case["causal"] else None
    assert_close(y, attention(*(case[name] for name in "QKV"), mask=mask))
    assert np.all(np.isfinite(l))


@special("dilated-branch", "not-selected")
def branch_not_selected(case):
    y, l = case()
    absent = np.broadcast_to(~is_selected(case), l.shape)
    assert np.all(l[absent] == -np.inf)
    assert not np.any(y[absent])


@special("dilated-branch", "causal-zero-keys")
def branch_causal_zero_keys(case):
    """Padding comes after all tokens of its segment, and the causal mask excludes it."""
    for a, b in zip(
        case(causal=True, zero_keys=True), case(causal=True, zero_keys=False), strict=True
    ):
        assert_close(a, b, within=1e-15)


@special("dilated-branch", "huge-logits")
def branch_huge_logits(case):
    needs(case.dtype != "float16", "scores of 1e5")
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
    """The derivative along the first denominators agrees with central differences."""
    first, *others = case["log_denominators"]
    direction, cotangent = case.numbers(first.shape), case.numbers()

    def f(l):
        return case.function(outputs=case["outputs"], log_denominators=[l, *others]) * cotangent

    with warnings.catch_warnings():
        # A wrong mixture may not depend on the denominators at all. Its derivative is 0.
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
    needs(case.dtype != "float16", "numbers of 1e5")
    assert np.all(np.isfinite(case(log_denominators=[1e4 * l for l in case["log_denominators"]])))


# --- dilated-attention ----------------------------------------------------------------------------


def multiplicity(case, n):
    """Return m: the number of branches in which a head selects both tokens of one segment."""
    heads = case["K"].shape[-3]
    m = np.zeros((heads, n, n))
    for branch in case["branches"]:
        for h in range(heads):
            for tokens in selected(h, heads, n, branch, case["offsets"]):
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
    expected = np.any(multiplicity(case, o.shape[-2]), axis=-1, keepdims=True)
    assert_close(o, np.broadcast_to(expected, o.shape).astype(o.dtype))


@law("dilated-attention", "shift-keys")
def attention_shift_keys(case):
    c = case.numbers(case["K"].shape[-1])
    assert_close(case(K=case["K"] + c, zero_keys=False), case(zero_keys=False))


@law("dilated-attention", "permute-branches")
def attention_permute_branches(case):
    order = case.rng.permutation(len(case["branches"]))
    assert_close(case(branches=[case["branches"][i] for i in order]), case())


@law("dilated-attention", "branches-twice")
def attention_branches_twice(case):
    assert_close(case(branches=case["branches"] * 2), case())


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
    """With a dilation of 1 every token is a query and a key."""
    n = case["K"].shape[-2]
    V = np.broadcast_to(np.eye(n), (*case["K"].shape[:-1], n)).copy()
    (first, *others) = case["branches"]
    branches = [Branch(first.segment, 1), *others]
    A = case(V=V, branches=branches, causal=False, zero_keys=False)
    assert_close(A.sum(axis=-1), np.ones(A.shape[:-1]))
    needs_generic(case)  # weights of scores far apart underflow
    assert np.all(A.max(axis=-2) > 0)


@law("dilated-attention", "three-layers")
def attention_three_layers(case):
    w = int(case.rng.integers(2, 6))
    r = int(case.rng.integers(2, w + 1))
    n = 3 * w
    branches = [Branch(w, 1), Branch(n, r)]
    A = case(**of_length(case, n), branches=branches, causal=False, zero_keys=False)
    attends = (A > 0).astype(int)
    assert np.all(attends @ attends @ attends > 0)


@law("dilated-attention", "linear-cost")
def attention_linear_cost(case):
    a, w = int(case.rng.integers(2, 4)), int(case.rng.integers(1, 4))
    branches = [Branch(w * r, r) for r in (1, a, a * a)]
    n = 2 * w * a * a
    A = case(**of_length(case, n), branches=branches, causal=False, zero_keys=False)
    pairs = np.sum(A > 0, axis=(-2, -1))
    assert np.all(pairs <= a / (a - 1) * w * n)


@special("dilated-attention", "dense")
def attention_dense(case):
    n = case["K"].shape[-2]
    mask = causal_mask(n, like=LIKE) if case["causal"] else None
    for count in (1, 3):
        o = case(branches=[Branch(n + 1, 1)] * count)
        assert_close(o, attention(*(case[name] for name in "QKV"), mask=mask))


@special("dilated-attention", "long-segments")
def attention_long_segments(case):
    n = max(branch.segment for branch in case["branches"])
    x = of_length(case, n)
    a, b = (case(**x, branches=[*case["branches"], Branch(w, 1)]) for w in (n, n + 9))
    assert np.array_equal(a, b)


@special("dilated-attention", "equal-scores")
def attention_equal_scores(case):
    """With Q = 0 the weight of a branch is proportional to its number of keys."""
    x = of_length(case, 12)
    x["Q"] = np.zeros_like(x["Q"])
    branches = [Branch(6, 1), Branch(12, 2), Branch(12, 1)]
    A = case(**x, branches=branches, causal=False, zero_keys=False)
    s = head_offsets(A.shape[-3], 2, offsets=case["offsets"], like=LIKE)
    for h in range(A.shape[-3]):
        row = A[..., h, s[h], :]
        m = [1 + (q < 6) + (q % 2 == s[h]) for q in range(12)]
        assert_close(row, np.broadcast_to(np.array(m) / 24, row.shape))


@special("dilated-attention", "huge-logits")
def attention_huge_logits(case):
    needs(case.dtype != "float16", "scores of 1e5")
    scale = 1e4 * math.sqrt(case["K"].shape[-1])
    assert np.all(np.isfinite(case(Q=np.sign(case["Q"]) * scale, K=np.sign(case["K"]))))
