"""The formulas of spec/nystromformer/ in numbers of 50 digits."""

import numpy as np

from tests.exact.encoder import attention_weights, output_projection, qkv_projection
from tests.exact.inputs import hard, in_family, never
from tests.exact.numbers import exact, mp, where, zeros

# Singular values up to 1e-42 of the largest are rounding errors of 50 digits.
ROUNDING = mp.mpf("1e-42")


def turned(A):
    return np.swapaxes(A, -1, -2)


def softmax_blocks(Q, K, l):
    S = attention_weights(Q, K)
    return S[..., :l, :l], S[..., :l, l:], S[..., l:, :l], S[..., l:, l:]


def pseudo_inverse(A, *, times=None):
    l = A.shape[-1]
    of = exact(np.broadcast_to(np.eye(l), A.shape)) if times is None else times
    Z = zeros(of.shape)
    for b in np.ndindex(A.shape[:-2]):
        U, sigma, W = decomposed(A[b])
        # Z is never written out where it is multiplied: its digits would cancel.
        for i in range(l):
            if sigma[i] > ROUNDING * sigma[0]:
                Z[b] = Z[b] + W[:, i, None] * (U[None, :, i] @ of[b] / sigma[i])
    return Z


def decomposed(A):
    """Return the singular vectors as columns, and the singular values from the largest on."""
    U, sigma, Wt = mp.svd_r(mp.matrix(A.tolist()))
    U, Wt = (np.array(M.tolist(), dtype=object) for M in (U, Wt))
    return U, np.array(sigma, dtype=object).ravel(), Wt.T


def nystrom_approximation(A, B, F):
    C = F @ pseudo_inverse(A, times=B)
    return np.concatenate([np.concatenate([A, B], -1), np.concatenate([F, C], -1)], -2)


def segment_means(X, l, *, mask=None, divisor="segment"):
    n = X.shape[-2]
    real = np.broadcast_to(True if mask is None else mask, X.shape[:-1])
    X = where(real[..., None], X, zeros(X.shape))
    means, end = zeros((*X.shape[:-2], l, X.shape[-1])), 0
    for j in range(l):
        length = n // l + (j >= l - n % l)
        start, end = end, end + length
        count = real[..., start:end].sum(axis=-1, keepdims=True)
        count = np.maximum(count, 1) if divisor == "tokens" else length
        means[..., j, :] = X[..., start:end, :].sum(axis=-2) / count
    return means


def iterative_pinv(A, *, iterations=6, start="paper"):
    columns = abs(A).sum(axis=-2, keepdims=True).max(axis=-1, keepdims=True)
    rows = abs(A).sum(axis=-1, keepdims=True).max(axis=-2, keepdims=True)
    divisor = {"paper": columns * rows, "exact": columns, "original": columns.max(initial=0)}[start]
    divisor = np.broadcast_to(divisor, columns.shape)
    Z = turned(A) / where(divisor == 0, zeros(divisor.shape) + 1, divisor)
    I = np.eye(A.shape[-1], dtype=int)
    for _ in range(iterations):
        Z = Z @ (13 * I - A @ Z @ (15 * I - A @ Z @ (7 * I - A @ Z))) / 4
    return Z


def nystrom_attention(
    Q,
    K,
    V,
    *,
    landmarks=None,
    Q_tilde=None,
    K_tilde=None,
    mask=None,
    scale=None,
    pinv="exact",
    iterations=6,
    start="paper",
):
    if mask is not None:
        real = np.broadcast_to(mask, Q.shape[:-1])[..., None]
        Q, K = (where(real, X, zeros(X.shape)) for X in (Q, K))
    if landmarks is not None:
        Q_tilde, K_tilde = segment_means(Q, landmarks), segment_means(K, landmarks)
    keys = None if mask is None else mask[..., None, :]
    F = attention_weights(Q, K_tilde, scale=scale)
    A = attention_weights(Q_tilde, K_tilde, scale=scale)
    values = attention_weights(Q_tilde, K, mask=keys, scale=scale) @ V
    if pinv == "exact":
        return F @ pseudo_inverse(A, times=values)
    return F @ iterative_pinv(A, iterations=iterations, start=start) @ values


def sequence_convolution(V, kernel):
    k, n = kernel.shape[-1], V.shape[-2]
    y = zeros(V.shape)
    for i in range(n):
        for j in range(k):
            if 0 <= (at := i + j - (k - 1) // 2) < n:
                y[..., i, :] = y[..., i, :] + kernel[:, j, None] * V[..., at, :]
    return y


def nystrom_self_attention(
    x,
    W_q,
    W_k,
    W_v,
    W_c,
    *,
    b_q=None,
    b_k=None,
    b_v=None,
    b_c=None,
    kernel=None,
    landmarks,
    mask=None,
    pinv="exact",
    iterations=6,
    start="paper",
):
    Q, K, V = (qkv_projection(x, W, bias=b) for W, b in ((W_q, b_q), (W_k, b_k), (W_v, b_v)))
    mask = None if mask is None else mask[..., None, :]
    options = {"landmarks": landmarks, "pinv": pinv, "iterations": iterations, "start": start}
    y = nystrom_attention(Q, K, V, mask=mask, **options)
    if kernel is not None:
        real = np.broadcast_to(True if mask is None else mask, V.shape[:-1])[..., None]
        y = y + sequence_convolution(where(real, V, zeros(V.shape)), kernel)
    return output_projection(y, W_c, bias=b_c)


# --- Hard inputs ----------------------------------------------------------------------------------


# With the exact inverse these families make A ill-conditioned, and what rounding A does to the
# result is bounded in tests/nystromformer/.
for _id in ("nystrom-attention", "nystrom-self-attention"):
    for _family in ("large", "far apart"):
        never(_id, _family)

        @hard(_id, f"{_family}, iterative")
        def by_iteration(rng, dtype, id=_id, family=_family):
            args = in_family(id, family, rng, dtype)
            return {"iterations": 6, "start": "paper", **args, "pinv": "iterative"}


@hard("pseudo-inverse", "graded")
def graded(rng, dtype):
    """Rows of very different magnitudes, multiplied by a matrix or not."""
    A = rng.standard_normal((3, 3)) + 3.0 * np.eye(3)
    A *= float(np.finfo(dtype).eps) ** np.array([0.0, 0.25, 0.5])[rng.permutation(3), None]
    return {"A": A, "times": rng.standard_normal((3, 2))}


@hard("pseudo-inverse", "ill-conditioned product")
def ill_conditioned_product(rng, dtype):
    """A product of size 1 with an inverse of large entries."""
    A = np.vander(np.linspace(0.5, 1.0, 5) + 0.01 * rng.standard_normal(5))
    return {"A": A, "times": A @ rng.standard_normal((5, 2))}


@hard("iterative-pinv", "squares overflow")
def squares_overflow(rng, dtype):
    scale = float(np.finfo(dtype).max) ** 0.9
    return {"A": scale * rng.uniform(0.1, 1.0, (3, 3)), "iterations": 3}


@hard("nystrom-approximation", "nearly singular")
def nearly_singular(rng, dtype):
    small = float(np.finfo(dtype).eps) ** 0.4
    flat = 1.0 + small * rng.standard_normal((3, 3))
    outer = 1.0 + small * rng.standard_normal((2, 3, 3))
    return {"A": flat, "B": outer[0], "F": outer[1]}
