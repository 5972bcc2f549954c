"""Nyström attention: softmax attention through a few landmarks, in time linear in the tokens."""

from typing import Any

from vtnp._array.typing import Array, Bool, Float
from vtnp._array.xp import constant, device, namespace, transposed
from vtnp._registry.errors import require
from vtnp._registry.spec import spec
from vtnp.encoder import attention_weights, output_projection, qkv_projection


@spec("softmax-blocks")
def softmax_blocks(
    Q: Float[Array, "*b n d"],
    K: Float[Array, "*b n d"],
    l: int,
) -> tuple[
    Float[Array, "*b l l"], Float[Array, "*b l k"], Float[Array, "*b k l"], Float[Array, "*b k k"]
]:
    """Cut the softmax matrix into four blocks, at the first l queries and the first l keys.

    softmax(Q K^T / sqrt(d)) = [A B; F C]

    Q, K: queries and keys. l: rows and columns of A, 1 <= l <= n.
    Raises ShapeError; FormulaError for an l outside that range.
    Notes: returns A, B, F, C. Each row sums to one over both of its blocks, not within one.
    """
    n = Q.shape[-2]
    require(1 <= l <= n, "softmax-blocks", "l", f"1 to {n}, the number of tokens", l)
    S = attention_weights(Q, K)
    return S[..., :l, :l], S[..., :l, l:], S[..., l:, :l], S[..., l:, l:]


@spec("nystrom-approximation")
def nystrom_approximation(
    A: Float[Array, "*b l l"], B: Float[Array, "*b l k"], F: Float[Array, "*b k l"]
) -> Float[Array, "*b n n"]:
    """Complete a matrix of which one block is missing from the three others.

    S^ = [A B; F (F A^+ B)]

    A, B, F: the upper left, upper right and lower left block; l >= 1.
    Raises ShapeError; FormulaError for an empty A, or where the library has no pseudo-inverse.
    Notes: the survey's second form [A; F] A^+ [A B] is equal where A A^+ B = B and F A^+ A = F
    (page, Laws); the gradient is that of constant rank.
    """
    require(A.shape[-1] >= 1, "nystrom-approximation", "A", "at least one row", tuple(A.shape))
    xp = namespace(A, B, F)
    C = F @ pseudo_inverse(A, "nystrom-approximation") @ B
    return xp.concat([xp.concat([A, B], axis=-1), xp.concat([F, C], axis=-1)], axis=-2)


def pseudo_inverse(A: Array, formula: str) -> Array:
    """Invert by singular values; those within rounding of 0 stay 0."""
    library = namespace(constant(A))
    has_pinv = hasattr(library.linalg, "pinv")
    require(has_pinv, formula, "A", "a library with linalg.pinv", library.__name__)
    xp = namespace(A)
    if xp.finfo(A.dtype).bits >= 32:
        return xp.linalg.pinv(A)
    # No library has singular values in half precision.
    return xp.astype(xp.linalg.pinv(xp.astype(A, xp.float32)), A.dtype)


@spec("segment-means")
def segment_means(
    X: Float[Array, "*b n d"],
    l: int,
    *,
    mask: Bool[Array, "*#b n"] | None = None,
    divisor: str = "segment",
) -> Float[Array, "*b l d"]:
    """Cut the sequence into l segments of consecutive tokens and average each.

    X~[j] = sum_{i in segment j} X[i] / |segment j|

    X: queries or keys. l: number of segments, 1 <= l <= n. mask: True where a token is real; the
    others count as rows of 0. divisor: "segment", or "tokens" to divide by the real ones only.
    Raises ShapeError; FormulaError for an l outside that range, or another divisor.
    Notes: where l does not divide n, the first segments are one token shorter than the last. A
    segment without a real token has the landmark 0, whatever the divisor.
    """
    n = X.shape[-2]
    require(1 <= l <= n, "segment-means", "l", f"1 to {n}, the number of tokens", l)
    known = divisor in ("segment", "tokens")
    require(known, "segment-means", "divisor", "'segment' or 'tokens'", divisor)
    if mask is None:
        return _averaged(X, l)
    xp = namespace(X, mask)
    means = _averaged(_real(X, mask), l)
    if divisor == "segment":
        return means
    share = _averaged(xp.expand_dims(xp.astype(mask, X.dtype), axis=-1), l)
    return means / xp.where(share == 0.0, 1.0, share)


def _real(X: Array, mask: Array | None) -> Array:
    """Set the tokens that are masked to 0."""
    if mask is None:
        return X
    xp = namespace(X, mask)
    return xp.where(xp.expand_dims(mask, axis=-1), X, 0.0)


def _averaged(X: Array, segments: int) -> Array:
    *batch, n, d = X.shape
    length = n // segments
    longer = n % segments
    end = (segments - longer) * length
    xp = namespace(X)
    short = xp.reshape(X[..., :end, :], (*batch, segments - longer, length, d))
    if not longer:  # Dask cannot reshape what is empty.
        return xp.mean(short, axis=-2)
    long = xp.reshape(X[..., end:, :], (*batch, longer, length + 1, d))
    return xp.concat([xp.mean(short, axis=-2), xp.mean(long, axis=-2)], axis=-2)


@spec("iterative-pinv")
def iterative_pinv(
    A: Float[Array, "*b l l"], *, iterations: int = 6, start: str = "paper"
) -> Float[Array, "*b l l"]:
    """Approach the pseudo-inverse of a matrix by matrix products alone.

    Z_{k+1} = Z_k (13 I - A Z_k (15 I - A Z_k (7 I - A Z_k))) / 4, Z_0 = A^T / (|A|_1 |A|_inf)

    A: any matrix, l >= 1; in Nyström attention a softmax matrix. iterations: >= 0. start: divide
    A^T in Z_0 by |A|_1 |A|_inf ("paper"), by |A|_1 ("exact"), or by the largest |A|_1 of the whole
    batch ("original").
    Raises ShapeError; FormulaError for an empty A, iterations < 0, or another start.
    Notes: |A|_1 is the largest column sum of magnitudes, |A|_inf the largest row sum. Six steps
    invert only the singular values that are large enough (page, Laws). "original" is what released
    models were trained with; it makes the elements of a batch depend on each other.
    """
    require(A.shape[-1] >= 1, "iterative-pinv", "A", "at least one row", tuple(A.shape))
    require(iterations >= 0, "iterative-pinv", "iterations", "a number >= 0", iterations)
    known = start in _STARTS
    require(known, "iterative-pinv", "start", f"one of {sorted(_STARTS)}", start)
    divisor = _STARTS[start](A)
    # The zero matrix is its own pseudo-inverse.
    Z = transposed(A) / namespace(A).where(divisor == 0.0, 1.0, divisor)
    for _ in range(iterations):
        AZ = A @ Z
        Z = (Z * 13.0 - Z @ (AZ * 15.0 - AZ @ (AZ * 7.0 - AZ @ AZ))) * 0.25
    return Z


def _largest_sum(A: Array, axis: int) -> Array:
    """Return the largest sum of magnitudes along an axis, for each matrix."""
    xp = namespace(A)
    return xp.max(xp.sum(xp.abs(A), axis=axis, keepdims=True), axis=(-2, -1), keepdims=True)


def _largest_of_batch(A: Array) -> Array:
    norms = _largest_sum(A, -2)
    return norms if 0 in norms.shape else namespace(A).max(norms)


_STARTS = {
    "paper": lambda A: _largest_sum(A, -2) * _largest_sum(A, -1),
    "exact": lambda A: _largest_sum(A, -2),
    "original": _largest_of_batch,
}


@spec("nystrom-attention")
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
    pinv: str = "exact",
    iterations: int = 6,
    start: str = "paper",
) -> Float[Array, "*b n d_v"]:
    """Let the queries read the values through a few landmarks instead of through all keys.

    Y = softmax(Q K~^T / sqrt(d)) softmax(Q~ K~^T / sqrt(d))^+ softmax(Q~ K^T / sqrt(d)) V

    Q, K, V: queries, keys, values. landmarks: how many segment-means of Q and of K to take; or
    Q_tilde, K_tilde: the landmarks themselves. mask: True where a token is real. scale: 1/sqrt(d)
    unless given. pinv: "exact", or "iterative" with iterations and start as in iterative-pinv.
    Raises ShapeError; FormulaError for both or neither kind of landmarks, more landmarks than
    tokens, no landmark, or another pinv.
    Notes: masked queries and keys count as rows of 0 in the landmarks, masked keys are never read,
    and what a masked query reads has no meaning. With V = I this is the survey's S^ itself.
    """
    given = {name for name, each in {"Q": Q_tilde, "K": K_tilde}.items() if each is not None}
    one_way = given == ({"Q", "K"} if landmarks is None else set())
    either = "a number, or Q_tilde and K_tilde instead"
    require(one_way, "nystrom-attention", "landmarks", either, landmarks)
    known = pinv in ("exact", "iterative")
    require(known, "nystrom-attention", "pinv", "'exact' or 'iterative'", pinv)
    Q, K = _real(Q, mask), _real(K, mask)
    if landmarks is not None:
        Q_tilde, K_tilde = segment_means(Q, landmarks), segment_means(K, landmarks)
    F = attention_weights(Q, K_tilde, scale=scale)
    A = attention_weights(Q_tilde, K_tilde, scale=scale)
    B = attention_weights(Q_tilde, K, mask=_for_each(Q_tilde, mask), scale=scale)
    if pinv == "exact":
        Z = pseudo_inverse(A, "nystrom-attention")
    else:
        Z = iterative_pinv(A, iterations=iterations, start=start)
    return (F @ Z) @ (B @ V)


def _for_each(Q_tilde: Array, mask: Array | None) -> Array | None:
    """Give every landmark the mask of the keys."""
    if mask is None:
        return None
    xp = namespace(mask)
    shape = (*mask.shape[:-1], Q_tilde.shape[-2], mask.shape[-1])
    return xp.broadcast_to(xp.expand_dims(mask, axis=-2), shape)


@spec("sequence-convolution")
def sequence_convolution(
    V: Float[Array, "*b heads n d_v"], kernel: Float[Array, "heads k"]
) -> Float[Array, "*b heads n d_v"]:
    """Mix each token with its neighbours in the sequence, by one small kernel for each head.

    y[h,i] = sum_j kernel[h,j] V[h,i+j-(k-1)/2]

    V: values of each head; beyond both ends of the sequence they count as 0. kernel: weights of
    the neighbours from the earliest to the latest, k odd; every channel of a head shares them.
    Raises ShapeError; FormulaError for an even k.
    Notes: added to nystrom-attention in the paper's model; the survey leaves it out.
    """
    k = kernel.shape[-1]
    require(k % 2 == 1, "sequence-convolution", "kernel", "an odd number of weights", k)
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
    pinv: str = "exact",
    iterations: int = 6,
    start: str = "paper",
) -> Float[Array, "*b n d"]:
    """Let every token read all tokens through landmarks, in several heads, and its neighbours.

    u'[i] = sum_h W_c[h]^T (S^[h] V[h] + kernel[h] * V[h])[i]

    x: tokens. W_q, W_k, W_v, W_c: projections of each head. b_q, b_k, b_v, b_c: their biases.
    kernel: of sequence-convolution; left out, there is no such term. landmarks, mask, pinv,
    iterations, start: as in nystrom-attention.
    Raises ShapeError; FormulaError as nystrom-attention and sequence-convolution do.
    Notes: masked tokens count as 0 in the convolution too.
    """
    Q = qkv_projection(x, W_q, bias=b_q)
    K = qkv_projection(x, W_k, bias=b_k)
    V = qkv_projection(x, W_v, bias=b_v)
    each_head = None if mask is None else namespace(mask).expand_dims(mask, axis=-2)
    inverse: dict[str, Any] = {"pinv": pinv, "iterations": iterations, "start": start}
    y = nystrom_attention(Q, K, V, landmarks=landmarks, mask=each_head, **inverse)
    if kernel is not None:
        y = y + sequence_convolution(_real(V, each_head), kernel)
    return output_projection(y, W_c, bias=b_c)
