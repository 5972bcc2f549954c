"""Loops written from spec/longnet/."""

import math

import numpy as np


def offset(h, heads, dilation, offsets):
    return h % dilation if offsets == "paper" else h // math.ceil(heads / dilation)


def kept_of(h, heads, n, segment, dilation, offsets):
    """Return the places of each segment that head h keeps, padding included, and the token there.

    A list for each segment, with the token's number, or None for padding, at each kept place.
    """
    length = min(segment, n)
    rows = []
    for start in range(0, n, length):
        row = []
        for j in range(math.ceil(length / dilation)):
            place = j * dilation + offset(h, heads, dilation, offsets)
            inside = place < length and start + place < n
            row.append(start + place if inside else None)
        rows.append(row)
    return rows


def head_offsets(heads, dilation, *, offsets="paper", like):
    return np.array([offset(h, heads, dilation, offsets) for h in range(heads)])


def dense_to_sparse(x, *, segment, dilation, offsets="paper"):
    *batch, heads, n, d = x.shape
    each = [kept_of(h, heads, n, segment, dilation, offsets) for h in range(heads)]
    y = np.zeros((*batch, heads, len(each[0]), len(each[0][0]), d), x.dtype)
    for b in np.ndindex(*batch):
        for h in range(heads):
            for i, row in enumerate(each[h]):
                for j, token in enumerate(row):
                    if token is not None:
                        y[(*b, h, i, j)] = x[(*b, h, token)]
    return y


def sparse_to_dense(y, n, *, segment, dilation, offsets="paper", fill=0.0):
    *batch, heads, _, _, d = y.shape
    x = np.full((*batch, heads, n, d), fill, y.dtype)
    for b in np.ndindex(*batch):
        for h in range(heads):
            for i, row in enumerate(kept_of(h, heads, n, segment, dilation, offsets)):
                for j, token in enumerate(row):
                    if token is not None:
                        x[(*b, h, token)] = y[(*b, h, i, j)]
    return x


def valid_mask(n, heads, *, segment, dilation, offsets="paper", like):
    each = [kept_of(h, heads, n, segment, dilation, offsets) for h in range(heads)]
    return np.array([[[token is not None for token in row] for row in rows] for rows in each])


def logsumexp(x):
    l = np.zeros(x.shape[:-1], x.dtype)
    for row in np.ndindex(l.shape):
        largest = max(x[row])
        if largest == -math.inf:
            l[row] = -math.inf
        else:
            l[row] = largest + np.log(sum(np.exp(score - largest) for score in x[row]))
    return l


def _keys_of(p, h, heads, n, segment, dilation, offsets, causal, zero_keys):
    """Return the tokens that token p reads in one branch: None for a zero row, [] if not kept."""
    for row in kept_of(h, heads, n, segment, dilation, offsets):
        if p in row:
            before = row[: row.index(p) + 1] if causal else row
            return [q for q in before if q is not None or zero_keys]
    return []


def _read(Q, K, V, b, h, p, keys):
    """Return what token p reads from a multiset of tokens, and the log of the denominator."""
    y = np.zeros(V.shape[-1], V.dtype)
    scores = []
    for q in keys:
        product = Q.dtype.type(0)  # what a zero row gives
        if q is not None:
            product = sum(Q[(*b, h, p, k)] * K[(*b, h, q, k)] for k in range(K.shape[-1]))
        scores.append(product / math.sqrt(K.shape[-1]))
    if not keys:
        return y, -math.inf
    largest = max(scores)
    weights = [np.exp(score - largest) for score in scores]
    total = sum(weights)
    for weight, q in zip(weights, keys, strict=True):
        if q is not None:
            for c in range(len(y)):
                y[c] += weight * V[(*b, h, q, c)] / total
    return y, largest + np.log(total)


def dilated_branch(Q, K, V, *, segment, dilation, offsets="paper", causal=False, zero_keys=False):
    *batch, heads, n, _ = Q.shape
    y, l = np.zeros(V.shape, V.dtype), np.zeros(V.shape[:-1], V.dtype)
    for b in np.ndindex(*batch):
        for h in range(heads):
            for p in range(n):
                keys = _keys_of(p, h, heads, n, segment, dilation, offsets, causal, zero_keys)
                y[(*b, h, p)], l[(*b, h, p)] = _read(Q, K, V, b, h, p, keys)
    return y, l


def mix_branches(outputs, log_denominators):
    o = np.zeros_like(outputs[0])
    for row in np.ndindex(o.shape[:-1]):
        present = [i for i, l in enumerate(log_denominators) if l[row] > -math.inf]
        largest = max((log_denominators[i][row] for i in present), default=0.0)
        total = sum(np.exp(log_denominators[i][row] - largest) for i in present)
        for i in present:
            weight = np.exp(log_denominators[i][row] - largest) / total
            for c in range(o.shape[-1]):
                o[(*row, c)] += weight * outputs[i][(*row, c)]
    return o


def dilated_attention(
    Q, K, V, *, segments, dilations, offsets="paper", causal=False, zero_keys=False
):
    """One softmax over the keys of all branches, each key as often as it occurs."""
    *batch, heads, n, _ = Q.shape
    o = np.zeros(V.shape, V.dtype)
    for b in np.ndindex(*batch):
        for h in range(heads):
            for p in range(n):
                keys = []
                for segment, dilation in zip(segments, dilations, strict=True):
                    keys += _keys_of(p, h, heads, n, segment, dilation, offsets, causal, zero_keys)
                o[(*b, h, p)], _ = _read(Q, K, V, b, h, p, keys)
    return o
