"""The formulas of spec/longnet/ in numbers of 50 digits."""

import numpy as np

from tests.exact.inputs import hard
from tests.exact.numbers import exp, log, mp, where, zeros
from vtnp.longnet import Branch

MINUS_INFINITY = mp.mpf("-inf")


def head_offsets(heads, dilation, *, offsets="paper", like=None):
    if offsets == "paper":
        return np.array([h % dilation for h in range(heads)])
    share = -(-heads // dilation)
    return np.array([h // share for h in range(heads)])


def positions(n, heads, branch, offsets):
    """Return the position of each row as (heads, segments, rows); -1 is padding."""
    w, r = min(branch[0], n), branch[1]
    p = np.full((heads, -(-n // w), -(-w // r)), -1)
    first = head_offsets(heads, r, offsets=offsets)
    for h, i, j in np.ndindex(p.shape):
        within = j * r + first[h]
        if within < w and i * w + within < n:
            p[h, i, j] = i * w + within
    return p


def dense_to_sparse(x, *, branch, offsets="paper"):
    *batch, heads, n, d = x.shape
    p = positions(n, heads, branch, offsets)
    y = zeros((*batch, *p.shape, d))
    for h, i, j in np.argwhere(p >= 0):
        y[..., h, i, j, :] = x[..., h, p[h, i, j], :]
    return y


def sparse_to_dense(y, n, *, branch, offsets="paper", fill=0.0):
    *batch, heads, _, _, d = y.shape
    p = positions(n, heads, branch, offsets)
    x = zeros((*batch, heads, n, d)) + mp.mpf(fill)
    for h, i, j in np.argwhere(p >= 0):
        x[..., h, p[h, i, j], :] = y[..., h, i, j, :]
    return x


def valid_mask(n, heads, *, branch, offsets="paper", like=None):
    return positions(n, heads, branch, offsets) >= 0


def logsumexp(x):
    # An exponential of 50 digits has no largest one; log turns 0 into -inf.
    largest = x.max(axis=-1, keepdims=True)
    shift = where(largest == MINUS_INFINITY, zeros(largest.shape), largest)
    return log(exp(x - shift).sum(axis=-1)) + shift[..., 0]


def dilated_branch(Q, K, V, *, branch, offsets="paper", causal=False, zero_keys=False):
    *batch, heads, n, d_k = K.shape
    p = positions(n, heads, branch, offsets)
    y = zeros((*batch, heads, n, V.shape[-1]))
    l = zeros((*batch, heads, n)) + MINUS_INFINITY
    for h, i, j in np.argwhere(p >= 0):
        rows = [(k, p[h, i, k]) for k in range(p.shape[-1])]
        rows = [(k, q) for k, q in rows if (q >= 0 or zero_keys) and not (causal and k > j)]
        for b in np.ndindex(*batch):
            scores = [
                Q[b][h, p[h, i, j]] @ K[b][h, q] / mp.sqrt(d_k) if q >= 0 else mp.mpf(0)
                for _, q in rows
            ]
            weights = exp(scores)
            total = weights.sum()
            l[b][h, p[h, i, j]] = mp.log(total)
            values = [w * V[b][h, q] for w, (_, q) in zip(weights, rows, strict=True) if q >= 0]
            y[b][h, p[h, i, j]] = sum(values) / total
    return y, l


def mix_branches(outputs, log_denominators):
    l = np.stack(list(log_denominators), axis=-1)
    largest = l.max(axis=-1, keepdims=True)
    s = exp(l - where(largest == MINUS_INFINITY, zeros(largest.shape), largest))
    total = s.sum(axis=-1, keepdims=True)
    alpha = s / where(total == 0, zeros(total.shape) + 1, total)
    return sum(alpha[..., i, None] * y for i, y in enumerate(outputs))


def dilated_attention(Q, K, V, *, branches, offsets="paper", causal=False, zero_keys=False):
    options = {"offsets": offsets, "causal": causal, "zero_keys": zero_keys}
    each = [dilated_branch(Q, K, V, branch=branch, **options) for branch in branches]
    return mix_branches(*zip(*each, strict=True))


# --- Hard inputs ----------------------------------------------------------------------------------


@hard("logsumexp", "one far above the others")
def one_far_above(rng, dtype):
    """The others change the result by less than eps."""
    x = rng.uniform(-60.0, -30.0, (5, 4))
    x[:, 1] = [0.0, 0.0, 1e-12, -1e-12, 2.0]
    return {"x": x}


@hard("logsumexp", "result near 0")
def result_near_0(rng, dtype):
    """Scores near -log n cancel."""
    return {"x": 1e-3 * rng.standard_normal((4, 5)) - np.log(5.0)}


@hard("logsumexp", "minus infinity and ties")
def minus_infinity_and_ties(rng, dtype):
    return {"x": np.array([[-np.inf, 1.0, 1.0], [-np.inf] * 3, [0.0] * 3, [-np.inf, -50.0, 0.0]])}


def mixed(rng, log_denominators):
    outputs = [rng.standard_normal((4, 2)) for _ in log_denominators]
    return {"outputs": outputs, "log_denominators": log_denominators}


@hard("mix-branches", "huge denominators")
def huge_denominators(rng, dtype):
    return mixed(rng, [1e4 + 10.0 * rng.standard_normal(4) for _ in range(3)])


@hard("mix-branches", "far apart")
def far_apart(rng, dtype):
    return mixed(rng, [100.0 * rng.standard_normal(4) for _ in range(3)])


@hard("mix-branches", "absent")
def absent(rng, dtype):
    l = rng.standard_normal((3, 4))
    l[0, :2] = l[1, 0] = l[2, 0] = -np.inf
    return mixed(rng, list(l))


@hard("dilated-attention", "one branch far above the others")
def one_branch_far_above(rng, dtype):
    """Neighbours have scores of some hundreds, tokens of other segments none."""
    Q = np.repeat(rng.standard_normal((2, 3, 4)), 2, axis=-2)
    Q *= 20.0 / np.linalg.norm(Q, axis=-1, keepdims=True)
    K = Q + 0.1 * rng.standard_normal(Q.shape)
    V = rng.standard_normal((2, 6, 3))
    return {"Q": Q, "K": K, "V": V, "branches": [Branch(2, 1), Branch(6, 2)]}
