"""The usual mistakes of the pages in spec/longnet/."""

import math

from vtnp._array.xp import constant, device, namespace, transposed
from vtnp.encoder import attention, causal_mask, softmax
from vtnp.longnet import (
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

_OTHER = {"paper": "torchscale", "torchscale": "paper"}


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
def whole_sequences_only(n, heads, *, segment, dilation, **options):
    length = min(segment, n)
    whole = -(-n // length) * length
    return valid_mask(whole, heads, segment=segment, dilation=dilation, **options)


@mistake("valid-mask", "whole-segments-only")
def whole_segments_only(n, heads, *, segment, dilation, offsets="paper", like):
    xp, there, length = namespace(like), device(like), min(segment, n)
    first = head_offsets(heads, dilation, offsets=offsets, like=like)
    start = xp.arange(-(-n // length), device=there) * length
    place = xp.arange(-(-length // dilation), device=there) * dilation
    return xp.reshape(first, (-1, 1, 1)) + xp.reshape(start, (-1, 1)) + place < n


@mistake("dense-to-sparse", "first-rows")
def first_rows(x, *, segment, dilation, offsets="paper"):
    length = min(segment, x.shape[-2])
    rows = dense_to_sparse(x, segment=segment, dilation=1)
    return rows[..., : -(-length // dilation), :]


@mistake("dense-to-sparse", "no-offset")
def segments_without_offset(x, *, segment, dilation, offsets="paper"):
    xp = namespace(x)
    alone = dense_to_sparse(xp.expand_dims(x, axis=-3), segment=segment, dilation=dilation)
    return xp.squeeze(alone, axis=-4)


@mistake("sparse-to-dense", "not-trimmed")
def not_trimmed(y, n, *, segment, dilation, offsets="paper", fill=0.0):
    segments, kept = y.shape[-3:-1]
    long = kept * dilation
    x = sparse_to_dense(
        y, segments * long, segment=long, dilation=dilation, offsets=offsets, fill=fill
    )
    return x[..., :n, :]


@mistake("sparse-to-dense", "no-offset")
def back_without_offset(y, n, *, segment, dilation, offsets="paper", fill=0.0):
    xp = namespace(y)
    alone = sparse_to_dense(
        xp.expand_dims(y, axis=-4), n, segment=segment, dilation=dilation, fill=fill
    )
    return xp.squeeze(alone, axis=-3)


@mistake("logsumexp", "shifted")
def shifted(x):
    return logsumexp(x - namespace(x).max(x, axis=-1, keepdims=True))


@mistake("logsumexp", "no-logarithm")
def no_logarithm(x):
    xp = namespace(x)
    return xp.sum(xp.exp(x), axis=-1)


@mistake("dilated-branch", "offset-on-keys-only")
def offset_on_keys_only(Q, K, V, *, segment, dilation, offsets="paper", **options):
    branch = {"segment": segment, "dilation": dilation, "offsets": offsets}
    wrong = sparse_to_dense(segments_without_offset(Q, **branch), Q.shape[-2], **branch)
    return dilated_branch(wrong, K, V, **branch, **options)


@mistake("dilated-branch", "mask-multiplies")
def mask_multiplies(Q, K, V, *, segment, dilation, offsets="paper", causal=False, zero_keys=False):
    branch = {"segment": segment, "dilation": dilation, "offsets": offsets}
    q, k, v = (dense_to_sparse(x, **branch) for x in (Q, K, V))
    scores = q @ transposed(k) / math.sqrt(K.shape[-1])
    if causal:
        # A masked score becomes 0, and exp(0) is no 0.
        scores = namespace(Q, K).where(causal_mask(k.shape[-2], like=K), scores, 0.0)
    l = namespace(scores).expand_dims(logsumexp(scores), axis=-1)
    y = sparse_to_dense(softmax(scores) @ v, K.shape[-2], **branch)
    return y, sparse_to_dense(l, K.shape[-2], **branch, fill=-math.inf)[..., 0]


@mistake("dilated-branch", "zero-padding")
def branch_zero_padding(Q, K, V, **options):
    return dilated_branch(Q, K, V, **{**options, "zero_keys": True})


@mistake("dilated-branch", "segment-not-cut")
def segment_not_cut(Q, K, V, *, segment, **options):
    n = Q.shape[-2]
    y, l = dilated_branch(*(_padded_to(x, segment) for x in (Q, K, V)), segment=segment, **options)
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
def set_union(Q, K, V, *, segments, dilations, offsets="paper", causal=False, zero_keys=False):
    xp, (heads, n) = namespace(Q, K, V), K.shape[-3:-1]
    token, seen = xp.arange(n, device=device(K)), False
    for segment, dilation in zip(segments, dilations, strict=True):
        length = min(segment, n)
        first = head_offsets(heads, dilation, offsets=offsets, like=K)
        place = xp.remainder(xp.remainder(token, length), dilation)
        kept = xp.expand_dims(first, axis=-1) == place
        number = xp.floor_divide(token, length)
        together = xp.expand_dims(number, axis=-1) == number
        seen = seen | (together & kept[:, :, None] & kept[:, None, :])
    return attention(Q, K, V, mask=seen & causal_mask(n, like=K) if causal else seen)


@mistake("dilated-attention", "uniform")
def mean_of_branches(Q, K, V, *, segments, dilations, **options):
    pairs = zip(segments, dilations, strict=True)
    found = [dilated_branch(Q, K, V, segment=w, dilation=r, **options)[0] for w, r in pairs]
    return sum(found) / len(found)


@mistake("dilated-attention", "shifted-denominators")
def shifted_denominators(Q, K, V, *, segments, dilations, **options):
    xp, found = namespace(Q, K, V), []
    for w, r in zip(segments, dilations, strict=True):
        y, l = dilated_branch(Q, K, V, segment=w, dilation=r, **options)
        only = {name: options[name] for name in ("offsets",) if name in options}
        q, k = (dense_to_sparse(x, segment=w, dilation=r, **only) for x in (Q, K))
        largest = xp.max(q @ transposed(k) / math.sqrt(K.shape[-1]), axis=-1, keepdims=True)
        largest = sparse_to_dense(largest, K.shape[-2], segment=w, dilation=r, **only)
        found.append((y, l - largest[..., 0]))
    return mix_branches(*zip(*found, strict=True))


@mistake("dilated-attention", "one-branch-per-head")
def one_branch_per_head(Q, K, V, *, segments, dilations, **options):
    xp, heads = namespace(Q, K, V), K.shape[-3]
    each = [
        dilated_attention(Q, K, V, segments=[w], dilations=[r], **options)
        for w, r in zip(segments, dilations, strict=True)
    ]
    mine = [h * len(each) // heads for h in range(heads)]
    return xp.stack([each[i][..., h, :, :] for h, i in enumerate(mine)], axis=-3)


@mistake("dilated-attention", "other-offsets")
def other_offsets(Q, K, V, *, offsets="paper", **options):
    return dilated_attention(Q, K, V, offsets=_OTHER[offsets], **options)


@mistake("dilated-attention", "zero-padding")
def zero_padding(Q, K, V, **options):
    return dilated_attention(Q, K, V, **{**options, "zero_keys": True})
