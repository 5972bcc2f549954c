"""The usual mistakes of the pages in spec/longnet/."""

import math
from functools import partial

from vtnp._array.xp import constant, device, namespace, transposed
from vtnp.encoder import attention, causal_mask, softmax
from vtnp.longnet import (
    Branch,
    Offsets,
    dense_to_sparse,
    dilated_attention,
    dilated_branch,
    head_offsets,
    logsumexp,
    mix_branches,
    sparse_to_dense,
    valid_mask,
)
from vtnp.mistakes._registry import mistake

_OTHER: dict[str, Offsets] = {"paper": "torchscale", "torchscale": "paper"}


def _padded_to(x, n):
    xp, missing = namespace(x), max(0, n - x.shape[-2])
    zeros = xp.zeros((*x.shape[:-2], missing, x.shape[-1]), dtype=x.dtype, device=device(x))
    return xp.concat([x, zeros], axis=-2)


def _replace_absent(l, present, absent):
    xp = namespace(l)
    return xp.where(constant(l) == -math.inf, absent, present)


@mistake("head-offsets", "no-offset")
def no_offset(heads, dilation, *, offsets="paper", like):
    return namespace(like).zeros_like(head_offsets(heads, dilation, offsets=offsets, like=like))


@mistake("head-offsets", "other-rule")
def other_rule(heads, dilation, *, offsets="paper", like):
    return head_offsets(heads, dilation, offsets=_OTHER[offsets], like=like)


@mistake("head-offsets", "groups-not-padded")
def groups_not_padded(heads, dilation, *, offsets="paper", like):
    if offsets == "paper":
        return head_offsets(heads, dilation, like=like)
    xp = namespace(like)
    return xp.floor_divide(xp.arange(heads, device=device(like)) * dilation, heads)


@mistake("valid-mask", "whole-sequences-only")
def whole_sequences_only(n, heads, *, branch, **options):
    length = min(branch.segment, n)
    return valid_mask(-(-n // length) * length, heads, branch=branch, **options)


@mistake("valid-mask", "whole-segments-only")
def whole_segments_only(n, heads, *, branch, offsets="paper", like):
    xp, length = namespace(like), min(branch.segment, n)
    first = head_offsets(heads, branch.dilation, offsets=offsets, like=like)
    start = xp.arange(-(-n // length), device=device(like)) * length
    step = xp.arange(-(-length // branch.dilation), device=device(like)) * branch.dilation
    return xp.reshape(first, (-1, 1, 1)) + xp.reshape(start, (-1, 1)) + step < n


@mistake("dense-to-sparse", "first-rows")
def first_rows(x, *, branch, offsets="paper"):
    length = min(branch.segment, x.shape[-2])
    rows = dense_to_sparse(x, branch=Branch(branch.segment, 1))
    return rows[..., : -(-length // branch.dilation), :]


@mistake("dense-to-sparse", "no-offset")
def segments_without_offset(x, *, branch, offsets="paper"):
    xp = namespace(x)
    one_head = dense_to_sparse(xp.expand_dims(x, axis=-3), branch=branch)
    return xp.squeeze(one_head, axis=-4)


@mistake("sparse-to-dense", "not-trimmed")
def not_trimmed(y, n, *, branch, **options):
    segments, rows = y.shape[-3:-1]
    longer = Branch(rows * branch.dilation, branch.dilation)
    x = sparse_to_dense(y, segments * longer.segment, branch=longer, **options)
    return x[..., :n, :]


@mistake("sparse-to-dense", "no-offset")
def scattered_without_offset(y, n, *, branch, offsets="paper", fill=0.0):
    xp = namespace(y)
    one_head = sparse_to_dense(xp.expand_dims(y, axis=-4), n, branch=branch, fill=fill)
    return xp.squeeze(one_head, axis=-3)


@mistake("logsumexp", "shifted")
def shifted(x):
    return logsumexp(x - namespace(x).max(x, axis=-1, keepdims=True))


@mistake("logsumexp", "no-logarithm")
def no_logarithm(x):
    xp = namespace(x)
    return xp.sum(xp.exp(x), axis=-1)


@mistake("dilated-branch", "offset-on-keys-only")
def offset_on_keys_only(Q, K, V, *, branch, offsets="paper", **options):
    rows = segments_without_offset(Q, branch=branch)
    wrong = sparse_to_dense(rows, Q.shape[-2], branch=branch, offsets=offsets)
    return dilated_branch(wrong, K, V, branch=branch, offsets=offsets, **options)


@mistake("dilated-branch", "mask-multiplies")
def mask_multiplies(Q, K, V, *, branch, offsets="paper", causal=False, zero_keys=False):
    q, k, v = (dense_to_sparse(x, branch=branch, offsets=offsets) for x in (Q, K, V))
    scores = q @ transposed(k) / math.sqrt(K.shape[-1])
    if causal:
        # A masked score becomes 0, and exp(0) is not 0.
        scores = namespace(Q, K).where(causal_mask(k.shape[-2], like=K), scores, 0.0)
    l = namespace(scores).expand_dims(logsumexp(scores), axis=-1)
    scatter = partial(sparse_to_dense, n=K.shape[-2], branch=branch, offsets=offsets)
    return scatter(softmax(scores) @ v), scatter(l, fill=-math.inf)[..., 0]


@mistake("dilated-branch", "zero-padding")
def branch_zero_padding(Q, K, V, **options):
    return dilated_branch(Q, K, V, **{**options, "zero_keys": True})


@mistake("dilated-branch", "segment-not-cut")
def segment_not_cut(Q, K, V, *, branch, **options):
    n, padded = Q.shape[-2], [_padded_to(x, branch.segment) for x in (Q, K, V)]
    y, l = dilated_branch(*padded, branch=branch, **options)
    return y[..., :n, :], l[..., :n]


@mistake("dilated-branch", "no-scale")
def no_scale(Q, K, V, **options):
    return dilated_branch(Q * math.sqrt(K.shape[-1]), K, V, **options)


@mistake("dilated-branch", "absent-zero")
def absent_zero(Q, K, V, **options):
    y, l = dilated_branch(Q, K, V, **options)
    return y, _replace_absent(l, l, 0.0)


@mistake("mix-branches", "uniform")
def uniform(outputs, log_denominators):
    return sum(outputs) / len(outputs)


@mistake("mix-branches", "uniform-over-present")
def uniform_over_present(outputs, log_denominators):
    return mix_branches(outputs, [_replace_absent(l, 0.0, l) for l in log_denominators])


@mistake("mix-branches", "absent-counts")
def absent_counts(outputs, log_denominators):
    return mix_branches(outputs, [_replace_absent(l, l, 0.0) for l in log_denominators])


@mistake("mix-branches", "logarithms-as-weights")
def logarithms_as_weights(outputs, log_denominators):
    weights = [_replace_absent(l, l, 0.0) for l in log_denominators]
    products = zip(weights, outputs, strict=True)
    return sum(w[..., None] * y for w, y in products) / sum(weights)[..., None]


@mistake("mix-branches", "detached-weights")
def detached_weights(outputs, log_denominators):
    return mix_branches(outputs, [constant(l) for l in log_denominators])


@mistake("dilated-attention", "set-union")
def set_union(Q, K, V, *, branches, offsets="paper", causal=False, zero_keys=False):
    xp, (heads, n) = namespace(Q, K, V), K.shape[-3:-1]
    token, mask = xp.arange(n, device=device(K)), False
    for branch in branches:
        length = min(branch.segment, n)
        first = head_offsets(heads, branch.dilation, offsets=offsets, like=K)
        position = xp.remainder(token, length)
        is_selected = xp.expand_dims(first, axis=-1) == xp.remainder(position, branch.dilation)
        segment = xp.floor_divide(token, length)
        same = xp.expand_dims(segment, axis=-1) == segment
        mask = mask | (same & is_selected[:, :, None] & is_selected[:, None, :])
    return attention(Q, K, V, mask=mask & causal_mask(n, like=K) if causal else mask)


@mistake("dilated-attention", "uniform")
def mean_of_branches(Q, K, V, *, branches, **options):
    outputs = [dilated_branch(Q, K, V, branch=branch, **options)[0] for branch in branches]
    return sum(outputs) / len(outputs)


@mistake("dilated-attention", "shifted-denominators")
def shifted_denominators(Q, K, V, *, branches, offsets="paper", **options):
    xp, each = namespace(Q, K, V), []
    for branch in branches:
        y, l = dilated_branch(Q, K, V, branch=branch, offsets=offsets, **options)
        q, k = (dense_to_sparse(x, branch=branch, offsets=offsets) for x in (Q, K))
        largest = xp.max(q @ transposed(k) / math.sqrt(K.shape[-1]), axis=-1, keepdims=True)
        largest = sparse_to_dense(largest, K.shape[-2], branch=branch, offsets=offsets)
        each.append((y, l - largest[..., 0]))
    return mix_branches(*zip(*each, strict=True))


@mistake("dilated-attention", "one-branch-per-head")
def one_branch_per_head(Q, K, V, *, branches, **options):
    xp, heads = namespace(Q, K, V), K.shape[-3]
    each = [dilated_attention(Q, K, V, branches=[branch], **options) for branch in branches]
    of_head = [each[h * len(each) // heads][..., h, :, :] for h in range(heads)]
    return xp.stack(of_head, axis=-3)


@mistake("dilated-attention", "other-offsets")
def other_offsets(Q, K, V, *, offsets="paper", **options):
    return dilated_attention(Q, K, V, offsets=_OTHER[offsets], **options)


@mistake("dilated-attention", "zero-padding")
def zero_padding(Q, K, V, **options):
    return dilated_attention(Q, K, V, **{**options, "zero_keys": True})
