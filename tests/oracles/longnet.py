"""Loops written from spec/longnet/."""

import math

import numpy as np


def offset(h, heads, dilation, offsets):
    return h % dilation if offsets == "paper" else h // math.ceil(heads / dilation)


def selected(h, heads, n, branch, offsets):
    """Return what head h selects: a list for each segment, of token indices, None for padding."""
    segment, dilation = branch
    length = min(segment, n)
    segments = []
    for start in range(0, n, length):
        rows = []
        for j in range(math.ceil(length / dilation)):
            position = j * dilation + offset(h, heads, dilation, offsets)
            inside = position < length and start + position < n
            rows.append(start + position if inside else None)
        segments.append(rows)
    return segments


def head_offsets(heads, dilation, *, offsets="paper", like):
    return np.array([offset(h, heads, dilation, offsets) for h in range(heads)])


def dense_to_sparse(x, *, branch, offsets="paper"):
    *batch, heads, n, d = x.shape
    each = [selected(h, heads, n, branch, offsets) for h in range(heads)]
    y = np.zeros((*batch, heads, len(each[0]), len(each[0][0]), d), x.dtype)
    for b in np.ndindex(*batch):
        for h in range(heads):
            for i, rows in enumerate(each[h]):
                for j, token in enumerate(rows):
                    if token is not None:
                        y[(*b, h, i, j)] = x[(*b, h, token)]
    return y


def sparse_to_dense(y, n, *, branch, offsets="paper", fill=0.0):
    *batch, heads, _, _, d = y.shape
    x = np.full((*batch, heads, n, d), fill, y.dtype)
    for b in np.ndindex(*batch):
        for h in range(heads):
            for i, rows in enumerate(selected(h, heads, n, branch, offsets)):
                for j, token in enumerate(rows):
                    if token is not None:
                        x[(*b, h, token)] = y[(*b, h, i, j)]
    return x


def valid_mask(n, heads, *, branch, offsets="paper", like):
    each = [selected(h, heads, n, branch, offsets) for h in range(heads)]
    return np.array([[[t is not None for t in rows] for rows in segments] for segments in each])


def logsumexp(x):
    l = np.zeros(x.shape[:-1], x.dtype)
    for row in np.ndindex(l.shape):
        largest = max(x[row])
        if largest == -math.inf:
            l[row] = -math.inf
        else:
            l[row] = largest + np.log(sum(np.exp(score - largest) for score in x[row]))
    return l


def keys_of(p, h, heads, n, branch, offsets, causal, zero_keys):
    """Return the keys of token p in one branch: token indices, and None for a key of 0."""
    for rows in selected(h, heads, n, branch, offsets):
        if p in rows:
            allowed = rows[: rows.index(p) + 1] if causal else rows
            return [q for q in allowed if q is not None or zero_keys]
    return []


def attend(Q, K, V, b, h, p, keys):
    """Return the output for token p over a multiset of keys, and the log of the denominator."""
    y = np.zeros(V.shape[-1], V.dtype)
    scores = []
    for q in keys:
        product = Q.dtype.type(0)  # of a key of 0
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


def dilated_branch(Q, K, V, *, branch, offsets="paper", causal=False, zero_keys=False):
    *batch, heads, n, _ = Q.shape
    y, l = np.zeros(V.shape, V.dtype), np.zeros(V.shape[:-1], V.dtype)
    for b in np.ndindex(*batch):
        for h in range(heads):
            for p in range(n):
                keys = keys_of(p, h, heads, n, branch, offsets, causal, zero_keys)
                y[(*b, h, p)], l[(*b, h, p)] = attend(Q, K, V, b, h, p, keys)
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


def dilated_attention(Q, K, V, *, branches, offsets="paper", causal=False, zero_keys=False):
    """One softmax over the keys of all branches, each key as often as it occurs."""
    *batch, heads, n, _ = Q.shape
    o = np.zeros(V.shape, V.dtype)
    for b in np.ndindex(*batch):
        for h in range(heads):
            for p in range(n):
                keys = []
                for branch in branches:
                    keys += keys_of(p, h, heads, n, branch, offsets, causal, zero_keys)
                o[(*b, h, p)], _ = attend(Q, K, V, b, h, p, keys)
    return o
