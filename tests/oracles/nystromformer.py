"""Loops written from spec/nystromformer/."""

import numpy as np

from tests.oracles.encoder import attention_weights, output_projection, qkv_projection


def softmax_blocks(Q, K, l):
    S = attention_weights(Q, K)
    *batch, n, _ = S.shape
    sizes = ((l, l), (l, n - l), (n - l, l), (n - l, n - l))
    blocks = tuple(np.zeros((*batch, *size), S.dtype) for size in sizes)
    for b in np.ndindex(*batch):
        for i in range(n):
            for j in range(n):
                block = blocks[2 * (i >= l) + (j >= l)]
                block[(*b, i - l * (i >= l), j - l * (j >= l))] = S[(*b, i, j)]
    return blocks


def product(X, Y):
    Z = np.zeros((X.shape[0], Y.shape[1]), X.dtype)
    for i in range(X.shape[0]):
        for j in range(Y.shape[1]):
            for k in range(X.shape[1]):
                Z[i, j] += X[i, k] * Y[k, j]
    return Z


def pseudo_inverse(A, *, times=None):
    *batch, n, _ = A.shape
    Z = np.zeros_like(A) if times is None else np.zeros_like(times)
    for b in np.ndindex(*batch):
        # Squares of very small numbers vanish, and those of very large ones overflow.
        B = np.eye(n, dtype=A.dtype) if times is None else times[b]
        of_A, of_B = (
            max([np.finfo(A.dtype).tiny, *(abs(x) for x in M.ravel())]) for M in (A[b], B)
        )
        Z[b] = inverse_by_rotations(A[b] / of_A, B / of_B) * (of_B / of_A)
    return Z


def inverse_by_rotations(A, B):
    """One-sided Jacobi: rotate pairs of columns of A until A W has orthogonal columns.

    Then the columns of A W are sigma_i u_i, and those of W are w_i. Return A^+ B, the sum of
    w_i (sigma_i u_i . B) / sigma_i^2.
    """
    n = A.shape[0]
    # The squared length of a column that counts as 0, in units of the largest.
    threshold = (n * np.finfo(A.dtype).eps) ** 2
    U, W = A.copy(), np.eye(n, dtype=A.dtype)
    for _ in range(60):
        rotated = False
        for i in range(n):
            for j in range(i + 1, n):
                a = sum(U[k, i] * U[k, i] for k in range(n))
                b = sum(U[k, j] * U[k, j] for k in range(n))
                c = sum(U[k, i] * U[k, j] for k in range(n))
                if min(a, b) <= threshold * max(a, b) or abs(c) <= np.finfo(A.dtype).eps * np.sqrt(
                    a * b
                ):
                    continue
                rotated = True
                zeta = (b - a) / (2 * c)
                sign = 1 if zeta >= 0 else -1
                tangent = sign / (abs(zeta) + np.hypot(1, zeta))
                cosine = 1 / np.hypot(1, tangent)
                for M in (U, W):
                    for k in range(n):
                        x, y = M[k, i], M[k, j]
                        M[k, i] = cosine * (x - tangent * y)
                        M[k, j] = cosine * (tangent * x + y)
        if not rotated:
            break
    squares = [sum(U[k, i] * U[k, i] for k in range(n)) for i in range(n)]
    Z = np.zeros_like(B)
    for r in range(n):
        if squares[r] > threshold * max(squares):
            for j in range(B.shape[1]):
                share = sum(U[k, r] * B[k, j] for k in range(n)) / squares[r]
                for i in range(n):
                    Z[i, j] += W[i, r] * share
    return Z


def nystrom_approximation(A, B, F):
    *batch, l, k = B.shape
    S = np.zeros((*batch, l + k, l + k), A.dtype)
    for b in np.ndindex(*batch):
        C = product(F[b], pseudo_inverse(A[b], times=B[b]))
        for i in range(l + k):
            for j in range(l + k):
                if i < l:
                    S[(*b, i, j)] = A[(*b, i, j)] if j < l else B[(*b, i, j - l)]
                else:
                    S[(*b, i, j)] = F[(*b, i - l, j)] if j < l else C[i - l, j - l]
    return S


def segment_means(X, l, *, mask=None, divisor="segment"):
    *batch, n, d = X.shape
    real = np.broadcast_to(True if mask is None else mask, (*batch, n))
    means = np.zeros((*batch, l, d), X.dtype)
    for b in np.ndindex(*batch):
        first = 0
        for j in range(l):
            # The last n mod l segments are one token longer than the others.
            length = n // l + (1 if j >= l - n % l else 0)
            tokens = [i for i in range(first, first + length) if real[(*b, i)]]
            first += length
            count = length if divisor == "segment" else len(tokens)
            for k in range(d):
                if tokens:
                    means[(*b, j, k)] = sum(X[(*b, i, k)] for i in tokens) / count
    return means


def iterative_pinv(A, *, iterations=6, start="paper"):
    *batch, l, _ = A.shape
    result = np.zeros_like(A)
    A = A.astype(np.longdouble)  # whose range holds the products of two norms
    columns, rows = np.zeros(batch, A.dtype), np.zeros(batch, A.dtype)
    for b in np.ndindex(*batch):
        columns[b] = max(sum(abs(A[(*b, i, j)]) for i in range(l)) for j in range(l))
        rows[b] = max(sum(abs(A[(*b, i, j)]) for j in range(l)) for i in range(l))
    for b in np.ndindex(*batch):
        divisor = columns[b]
        if start == "paper":
            divisor = columns[b] * rows[b]
        elif start == "original":
            divisor = max(columns[other] for other in np.ndindex(*batch))
        Z = np.zeros((l, l), A.dtype)
        if divisor > 0:
            for i in range(l):
                for j in range(l):
                    Z[i, j] = A[(*b, j, i)] / divisor
        for _ in range(iterations):
            AZ = product(A[b], Z)
            inner = AZ
            for c in (7, 15, 13):
                shifted = -inner
                for i in range(l):
                    shifted[i, i] += c
                inner = product(Z if c == 13 else AZ, shifted)
            Z = inner / 4
        result[b] = Z
    return result


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
    *batch, n, _ = Q.shape
    real = np.broadcast_to(True if mask is None else mask, (*batch, n))
    Q, K = Q.copy(), K.copy()
    for token in np.ndindex(*batch, n):
        if not real[token]:
            Q[token] = K[token] = 0
    if landmarks is not None:
        Q_tilde, K_tilde = segment_means(Q, landmarks), segment_means(K, landmarks)
    l = Q_tilde.shape[-2]
    F = attention_weights(Q, K_tilde, scale=scale)
    A = attention_weights(Q_tilde, K_tilde, scale=scale)
    keys = np.zeros((*batch, l, n), bool)
    for b in np.ndindex(*batch):
        for j in range(l):
            keys[(*b, j)] = real[b]
    B = attention_weights(Q_tilde, K, mask=keys, scale=scale)
    X = np.zeros((*batch, l, V.shape[-1]), V.dtype)
    for b in np.ndindex(*batch):
        X[b] = product(B[b], V[b])
    if pinv == "exact":
        X = pseudo_inverse(A, times=X)
    else:
        Z = iterative_pinv(A, iterations=iterations, start=start)
        for b in np.ndindex(*batch):
            X[b] = product(Z[b], X[b])
    Y = np.zeros_like(V)
    for b in np.ndindex(*batch):
        Y[b] = product(F[b], X[b])
    return Y


def sequence_convolution(V, kernel):
    *batch, heads, n, d_v = V.shape
    k = kernel.shape[-1]
    y = np.zeros_like(V)
    for b in np.ndindex(*batch):
        for h in range(heads):
            for i in range(n):
                for j in range(k):
                    neighbour = i + j - (k - 1) // 2
                    if 0 <= neighbour < n:
                        for c in range(d_v):
                            y[(*b, h, i, c)] += kernel[h, j] * V[(*b, h, neighbour, c)]
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
    Q, K = qkv_projection(x, W_q, bias=b_q), qkv_projection(x, W_k, bias=b_k)
    V = qkv_projection(x, W_v, bias=b_v)
    *batch, heads, n, _ = Q.shape
    real = np.zeros((*batch, heads, n), bool)
    for b in np.ndindex(*batch):
        for h in range(heads):
            real[(*b, h)] = True if mask is None else np.broadcast_to(mask, (*batch, n))[b]
    options = {"landmarks": landmarks, "pinv": pinv, "iterations": iterations, "start": start}
    y = nystrom_attention(Q, K, V, mask=real, **options)
    if kernel is not None:
        V = V.copy()
        for token in np.ndindex(*real.shape):
            if not real[token]:
                V[token] = 0
        y = y + sequence_convolution(V, kernel)
    return output_projection(y, W_c, bias=b_c)
