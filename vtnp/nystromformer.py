"""Nyström attention: softmax attention through a few landmarks, in time linear in the tokens."""

from typing import Literal

from vtnp._array.pinv import has_batched_svd, pinv_matmul
from vtnp._array.typing import Array, Bool, Float
from vtnp._array.xp import constant, device, namespace, transposed
from vtnp._registry.errors import require
from vtnp._registry.spec import spec
from vtnp.encoder import attention_weights, output_projection, qkv_projection

Pinv = Literal["exact", "iterative"]
PinvStart = Literal["paper", "exact", "original"]


@spec("softmax-blocks", requires=("1 <= l <= n",))
def softmax_blocks(
    Q: Float[Array, "*b n d"],
    K: Float[Array, "*b n d"],
    l: int,
) -> tuple[
    Float[Array, "*b l l"], Float[Array, "*b l k"], Float[Array, "*b k l"], Float[Array, "*b k k"]
]:
    """Cut the softmax matrix into four blocks, after the first l queries and the first l keys.

    softmax(Q K^T / sqrt(d)) = [A B; F C]

    Parameters
    ----------
    Q, K : array
        Queries and keys.
    l : int
        Number of rows and of columns of A, 1 <= l <= n.

    Returns
    -------
    A, B, F, C : array
        The upper left, upper right, lower left and lower right block.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If l is less than 1 or greater than n, or keys have width 0.

    Notes
    -----
    A row sums to one over both of its blocks, not within one of them.

    References
    ----------
    spec/nystromformer/softmax-blocks.md; survey, eq. (12).
    """
    S = attention_weights(Q, K)
    return S[..., :l, :l], S[..., :l, l:], S[..., l:, :l], S[..., l:, l:]


@spec("pseudo-inverse", requires=("l >= 1",))
def pseudo_inverse(
    A: Float[Array, "*b l l"], *, times: Float[Array, "*b l m"] | None = None
) -> Float[Array, "*b l m"]:
    """Invert a matrix on the space where it can be inverted, and map the rest to 0.

    A^+ = sum_{sigma_i > 0} w_i u_i^T / sigma_i, A = sum_i sigma_i u_i w_i^T

    Parameters
    ----------
    A : array
        Any square matrix.
    times : array, optional
        A matrix B that the inverse is multiplied by; left out, the identity.

    Returns
    -------
    array
        The Moore-Penrose inverse, or its product with B.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If A has no rows, or the array library cannot decompose batches of matrices.

    Notes
    -----
    Singular values up to l eps times the largest count as 0, where eps is the machine epsilon of
    the dtype. The decomposition is in double precision, whatever the dtype. A matrix with an entry
    that is not finite has an inverse of NaN. The product is more accurate than multiplying by the
    inverse afterwards, whose entries are large where A is ill-conditioned. The gradient is the one
    along matrices of the same rank.

    References
    ----------
    spec/nystromformer/pseudo-inverse.md; survey, in eq. (13)-(14).

    Examples
    --------
    >>> import numpy as np, vtnp
    >>> vtnp.nystromformer.pseudo_inverse(np.array([[4.0, 0.0], [0.0, 0.0]]))
    array([[0.25, 0.  ],
           [0.  , 0.  ]])
    """
    library = namespace(constant(A)).__name__
    require(has_batched_svd(A), "A", "a library that decomposes batches of matrices", library)
    l, xp = A.shape[-1], namespace(A, times)
    B = xp.eye(l, dtype=A.dtype, device=device(A)) if times is None else times
    return pinv_matmul(A, B, rtol=l * float(xp.finfo(A.dtype).eps))


@spec("nystrom-approximation", requires=("l >= 1",))
def nystrom_approximation(
    A: Float[Array, "*b l l"], B: Float[Array, "*b l k"], F: Float[Array, "*b k l"]
) -> Float[Array, "*b n n"]:
    """Complete a matrix of which the lower right block is missing from its three other blocks.

    S^ = [A B; F (F A^+ B)]

    Parameters
    ----------
    A, B, F : array
        The upper left, upper right and lower left block.

    Returns
    -------
    array
        The completed matrix, n = l + k.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If A has no rows, or the array library cannot decompose batches of matrices.

    Notes
    -----
    The survey's second form, [A; F] A^+ [A B], is equal where A A^+ B = B and F A^+ A = F. The
    gradient is the one along matrices A of the same rank.

    References
    ----------
    spec/nystromformer/nystrom-approximation.md; survey, eq. (13).
    """
    xp = namespace(A, B, F)
    C = F @ pseudo_inverse(A, times=B)
    return xp.concat([xp.concat([A, B], axis=-1), xp.concat([F, C], axis=-1)], axis=-2)


@spec("segment-means", requires=("1 <= l <= n",))
def segment_means(
    X: Float[Array, "*b n d"],
    l: int,
    *,
    mask: Bool[Array, "*#b n"] | None = None,
    divisor: Literal["segment", "tokens"] = "segment",
) -> Float[Array, "*b l d"]:
    """Cut the sequence into l segments of consecutive tokens and average each.

    X~[j] = sum_{i in segment j} X[i] / |segment j|

    Parameters
    ----------
    X : array
        Queries or keys.
    l : int
        Number of segments, 1 <= l <= n.
    mask : array, optional
        True where a token is real. The others count as 0.
    divisor : {"segment", "tokens"}
        Divide each sum by the length of the segment, or by the number of its real tokens.

    Returns
    -------
    array
        One landmark for each segment.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If l is less than 1 or greater than n, or divisor is another string.

    Notes
    -----
    Where l does not divide n, the first segments are one token shorter than the last ones. The
    landmark of a segment without real tokens is 0, whatever the divisor.

    References
    ----------
    spec/nystromformer/segment-means.md; survey, section 4-1.
    """
    means = _averages(_zero_masked(X, mask), l)
    if mask is None or divisor == "segment":
        return means
    xp = namespace(X, mask)
    share = _averages(xp.expand_dims(xp.astype(mask, X.dtype), axis=-1), l)
    return means / xp.where(share == 0.0, 1.0, share)


def _zero_masked(X: Array, mask: Array | None) -> Array:
    """Set masked tokens to 0."""
    if mask is None:
        return X
    xp = namespace(X, mask)
    return xp.where(xp.expand_dims(mask, axis=-1), X, 0.0)


def _averages(X: Array, segments: int) -> Array:
    """Average each of so many segments, the last ones of which may be one token longer."""
    *batch, n, d = X.shape
    length, longer = divmod(n, segments)
    end = (segments - longer) * length
    xp = namespace(X)
    short = xp.reshape(X[..., :end, :], (*batch, segments - longer, length, d))
    if not longer:  # Dask cannot reshape what is empty.
        return xp.mean(short, axis=-2)
    long = xp.reshape(X[..., end:, :], (*batch, longer, length + 1, d))
    return xp.concat([xp.mean(short, axis=-2), xp.mean(long, axis=-2)], axis=-2)


@spec("iterative-pinv", requires=("l >= 1", "iterations >= 0"))
def iterative_pinv(
    A: Float[Array, "*b l l"], *, iterations: int = 6, start: PinvStart = "paper"
) -> Float[Array, "*b l l"]:
    """Approach the pseudo-inverse of a matrix by matrix products alone.

    Z_{k+1} = Z_k (13 I - A Z_k (15 I - A Z_k (7 I - A Z_k))) / 4, Z_0 = A^T / (|A|_1 |A|_inf)

    Parameters
    ----------
    A : array
        Any square matrix; in Nyström attention a softmax matrix.
    iterations : int
        Number of steps, >= 0.
    start : {"paper", "exact", "original"}
        Divide A^T in Z_0 by |A|_1 |A|_inf, by |A|_1, or by the largest |A|_1 of the whole batch.

    Returns
    -------
    array
        The last Z_k.

    Raises
    ------
    FormulaError
        If A has no rows, iterations is negative, or start is another string.

    Notes
    -----
    |A|_1 is the largest column sum of magnitudes, |A|_inf the largest row sum. Six steps invert
    only the singular values that are large enough. Released models were trained with "original",
    which makes the elements of a batch depend on each other.

    References
    ----------
    spec/nystromformer/iterative-pinv.md; survey, section 4-1.
    """
    # From the paper's start the result is of size 1 / A, whatever the size of A.
    unit = _largest_magnitude(A) if start == "paper" else 1.0
    A = A / unit
    Z = transposed(A) / _start_divisor(A, start)
    for _ in range(iterations):
        AZ = A @ Z
        Z = (Z * 13.0 - Z @ (AZ * 15.0 - AZ @ (AZ * 7.0 - AZ @ AZ))) * 0.25
    return Z / unit


def _largest_magnitude(A: Array) -> Array:
    """Return a constant for each matrix; 1 where all entries are 0."""
    xp = namespace(constant(A))
    largest = xp.max(xp.abs(constant(A)), axis=(-2, -1), keepdims=True)
    return xp.where(largest == 0.0, 1.0, largest)


def _start_divisor(A: Array, start: PinvStart) -> Array:
    xp, divisor = namespace(A), _largest_sum(A, axis=-2)
    if start == "paper":
        divisor = divisor * _largest_sum(A, axis=-1)
    elif start == "original" and 0 not in A.shape:
        divisor = xp.max(divisor)
    # The zero matrix is its own pseudo-inverse.
    return xp.where(divisor == 0.0, 1.0, divisor)


def _largest_sum(A: Array, *, axis: int) -> Array:
    """Return the largest sum of magnitudes along an axis, one for each matrix."""
    xp = namespace(A)
    return xp.max(xp.sum(xp.abs(A), axis=axis, keepdims=True), axis=(-2, -1), keepdims=True)


@spec(
    "nystrom-attention",
    requires=(
        "(landmarks is None) != (Q_tilde is None)",
        "(Q_tilde is None) == (K_tilde is None)",
    ),
)
def nystrom_attention(
    Q: Float[Array, "*b n d"],
    K: Float[Array, "*b n d"],
    V: Float[Array, "*b n d_v"],
    *,
    landmarks: int | None = None,
    Q_tilde: Float[Array, "*b l d"] | None = None,
    K_tilde: Float[Array, "*b l d"] | None = None,
    mask: Bool[Array, "*#b n"] | None = None,
    scale: float | None = None,
    pinv: Pinv = "exact",
    iterations: int = 6,
    start: PinvStart = "paper",
) -> Float[Array, "*b n d_v"]:
    """Let queries attend to all keys through a few landmarks.

    Y = softmax(Q K~^T / sqrt(d)) softmax(Q~ K~^T / sqrt(d))^+ softmax(Q~ K^T / sqrt(d)) V

    Parameters
    ----------
    Q, K, V : array
        Queries, keys and values.
    landmarks : int, optional
        Take so many segment means of Q and of K as landmarks, 1 <= landmarks <= n.
    Q_tilde, K_tilde : array, optional
        The landmarks themselves, in place of their number.
    mask : array, optional
        True where a token is real.
    scale : float, optional
        Factor of the scores, a finite number; left out, 1 / sqrt(d).
    pinv : {"exact", "iterative"}
        Invert the middle factor by its singular values, or approach its inverse by matrix products.
    iterations : int
        Number of steps of the iterative inverse, >= 0.
    start : {"paper", "exact", "original"}
        Start value of the iterative inverse: A^T divided by |A|_1 |A|_inf, by |A|_1, or by the
        largest |A|_1 of the whole batch, for the middle factor A.

    Returns
    -------
    array
        One output for each query.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If both or neither of landmarks and Q_tilde are given, or one of Q_tilde and K_tilde alone;
        if landmarks is less than 1 or greater than n, the scale is not finite, or iterations is
        negative; if pinv or start is another string; if pinv is "exact" and the array library
        cannot decompose batches of matrices.

    Notes
    -----
    Masked queries and keys count as 0 in the landmarks, no query attends to a masked key, and the
    output of a masked query has no meaning. With V = I the result is the survey's S^ itself.

    References
    ----------
    spec/nystromformer/nystrom-attention.md; survey, eq. (14).
    """
    Q, K = _zero_masked(Q, mask), _zero_masked(K, mask)
    if landmarks is not None:
        Q_tilde, K_tilde = segment_means(Q, landmarks), segment_means(K, landmarks)
    F = attention_weights(Q, K_tilde, scale=scale)
    A = attention_weights(Q_tilde, K_tilde, scale=scale)
    B = attention_weights(Q_tilde, K, mask=_key_mask(mask, Q_tilde), scale=scale)
    if pinv == "exact":
        return F @ pseudo_inverse(A, times=B @ V)
    return F @ iterative_pinv(A, iterations=iterations, start=start) @ (B @ V)


def _key_mask(mask: Array | None, Q_tilde: Array) -> Array | None:
    """Repeat the mask of the keys for each landmark."""
    if mask is None:
        return None
    xp = namespace(mask)
    shape = (*mask.shape[:-1], Q_tilde.shape[-2], mask.shape[-1])
    return xp.broadcast_to(xp.expand_dims(mask, axis=-2), shape)


@spec("sequence-convolution", requires=("k % 2 == 1",))
def sequence_convolution(
    V: Float[Array, "*b heads n d_v"], kernel: Float[Array, "heads k"]
) -> Float[Array, "*b heads n d_v"]:
    """Convolve the values along the sequence, with one small kernel for each head.

    y[h,i] = sum_j kernel[h,j] V[h,i+j-(k-1)/2]

    Parameters
    ----------
    V : array
        Values of each head. Beyond both ends of the sequence they count as 0.
    kernel : array
        Weights of the neighbours, from the earliest to the latest; k is odd. All channels of a
        head share them.

    Returns
    -------
    array
        One weighted sum for each token and head.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If k is even.

    Notes
    -----
    The paper's model adds it to the output of attention; the survey leaves it out.

    References
    ----------
    spec/nystromformer/sequence-convolution.md; survey, section 4-1.
    """
    k = kernel.shape[-1]
    xp = namespace(V, kernel)
    *before, n, d_v = V.shape
    edge = xp.zeros((*before, k // 2, d_v), dtype=V.dtype, device=device(V))
    padded = xp.concat([edge, V, edge], axis=-2)
    neighbours = xp.stack([padded[..., j : j + n, :] for j in range(k)], axis=-2)
    return xp.squeeze(kernel[:, None, None, :] @ neighbours, axis=-2)


@spec("nystrom-self-attention")
def nystrom_self_attention(
    x: Float[Array, "*b n d"],
    W_q: Float[Array, "heads d d_h"],
    W_k: Float[Array, "heads d d_h"],
    W_v: Float[Array, "heads d d_v"],
    W_c: Float[Array, "heads d_v d"],
    *,
    b_q: Float[Array, "heads d_h"] | None = None,
    b_k: Float[Array, "heads d_h"] | None = None,
    b_v: Float[Array, "heads d_v"] | None = None,
    b_c: Float[Array, " d"] | None = None,
    kernel: Float[Array, "heads k"] | None = None,
    landmarks: int,
    mask: Bool[Array, "*#b n"] | None = None,
    pinv: Pinv = "exact",
    iterations: int = 6,
    start: PinvStart = "paper",
) -> Float[Array, "*b n d"]:
    """Let every token attend to all tokens through landmarks, in several heads, and convolve.

    u'[i] = sum_h W_c[h]^T (S^[h] V[h] + kernel[h] * V[h])[i]

    Parameters
    ----------
    x : array
        Tokens.
    W_q, W_k, W_v, W_c : array
        Projections of each head to queries, keys and values, and back.
    b_q, b_k, b_v, b_c : array, optional
        Biases of the projections; left out, none is added.
    kernel : array, optional
        Weights of the convolution along the sequence, k odd; left out, there is no convolution.
    landmarks : int
        Number of segments whose mean queries and keys are the landmarks, 1 <= landmarks <= n.
    mask : array, optional
        True where a token is real.
    pinv : {"exact", "iterative"}
        Invert the middle factor by its singular values, or approach its inverse by matrix products.
    iterations : int
        Number of steps of the iterative inverse, >= 0.
    start : {"paper", "exact", "original"}
        Start value of the iterative inverse: A^T divided by |A|_1 |A|_inf, by |A|_1, or by the
        largest |A|_1 of the whole batch and of all heads, for the middle factor A.

    Returns
    -------
    array
        One update for each token.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If landmarks is less than 1 or greater than n, iterations is negative, or k is even; if pinv
        or start is another string; if pinv is "exact" and the array library cannot decompose
        batches of matrices.

    Notes
    -----
    Masked tokens count as 0 in the landmarks and in the convolution, and no query attends to a
    masked key.

    References
    ----------
    spec/nystromformer/nystrom-self-attention.md; survey, section 4-1.
    """
    Q = qkv_projection(x, W_q, bias=b_q)
    K = qkv_projection(x, W_k, bias=b_k)
    V = qkv_projection(x, W_v, bias=b_v)
    each_head = None if mask is None else namespace(mask).expand_dims(mask, axis=-2)
    y = nystrom_attention(
        Q, K, V, landmarks=landmarks, mask=each_head, pinv=pinv, iterations=iterations, start=start
    )
    if kernel is not None:
        y = y + sequence_convolution(_zero_masked(V, each_head), kernel)
    return output_projection(y, W_c, bias=b_c)
