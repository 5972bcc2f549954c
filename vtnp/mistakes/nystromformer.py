"""The usual mistakes of the pages in spec/nystromformer/."""

import math

from vtnp._array.xp import device, namespace, transposed
from vtnp.encoder import attention_weights, output_projection, qkv_projection, softmax
from vtnp.mistakes._registry import mistake
from vtnp.nystromformer import (
    _key_mask,
    _largest_sum,
    _zero_masked,
    iterative_pinv,
    nystrom_approximation,
    nystrom_attention,
    nystrom_self_attention,
    pseudo_inverse,
    segment_means,
    sequence_convolution,
    softmax_blocks,
)


def _eye(A):
    return namespace(A).eye(A.shape[-1], dtype=A.dtype, device=device(A))


@mistake("softmax-blocks", "each-block-normalised")
def each_block_normalised(Q, K, l):
    S = Q @ transposed(K) / math.sqrt(K.shape[-1])
    A, B, F, C = S[..., :l, :l], S[..., :l, l:], S[..., l:, :l], S[..., l:, l:]
    return tuple(softmax(block) if 0 not in block.shape else block for block in (A, B, F, C))


@mistake("softmax-blocks", "landmarks-last")
def landmarks_last(Q, K, l):
    xp = namespace(Q, K)
    return softmax_blocks(xp.flip(Q, axis=-2), xp.flip(K, axis=-2), l)


@mistake("softmax-blocks", "corners-swapped")
def corners_swapped(Q, K, l):
    A, B, F, C = softmax_blocks(Q, K, l)
    return A, F, B, C


def _inverse_by(invert):
    """A pseudo-inverse computed by a function of the matrix alone, then multiplied."""

    def inverse(A, *, times=None):
        Z = invert(A)
        return Z if times is None else Z @ times

    return inverse


def _doubled(invert):
    """The inverse in double precision, rounded: NumPy has none in half precision."""

    def inverse(A):
        xp = namespace(A)
        return xp.astype(invert(xp.astype(A, xp.float64)), A.dtype)

    return inverse


mistake("pseudo-inverse", "transposed")(_inverse_by(transposed))
mistake("pseudo-inverse", "inverse-transposed")(
    _inverse_by(lambda A: transposed(pseudo_inverse(A)))
)
mistake("pseudo-inverse", "reciprocals")(_inverse_by(lambda A: 1.0 / A))
mistake("pseudo-inverse", "jitter")(
    _inverse_by(_doubled(lambda A: namespace(A).linalg.inv(A + 1e-3 * _eye(A))))
)
mistake("pseudo-inverse", "coarse-threshold")(
    _inverse_by(_doubled(lambda A: namespace(A).linalg.pinv(A, rtol=0.1)))
)
mistake("pseudo-inverse", "iterative-for-exact")(_inverse_by(iterative_pinv))


def _completed(A, B, F, C):
    xp = namespace(A, B, F, C)
    return xp.concat([xp.concat([A, B], axis=-1), xp.concat([F, C], axis=-1)], axis=-2)


@mistake("nystrom-approximation", "not-inverted")
def approximation_not_inverted(A, B, F):
    return _completed(A, B, F, F @ A @ B)


@mistake("nystrom-approximation", "inverse-dropped")
def approximation_inverse_dropped(A, B, F):
    return _completed(A, B, F, F @ B)


@mistake("nystrom-approximation", "inverse-transposed")
def approximation_inverse_transposed(A, B, F):
    return _completed(A, B, F, F @ transposed(pseudo_inverse(A)) @ B)


@mistake("nystrom-approximation", "product-form")
def product_form(A, B, F):
    xp = namespace(A, B, F)
    left, right = xp.concat([A, F], axis=-2), xp.concat([A, B], axis=-1)
    return left @ pseudo_inverse(A) @ right


def _means_of(X, slices):
    xp = namespace(X)
    return xp.stack([xp.mean(X[..., each, :], axis=-2) for each in slices], axis=-2)


@mistake("segment-means", "one-token-each")
def one_token_each(X, l, *, mask=None, divisor="segment"):
    length = X.shape[-2] // l
    return _means_of(_zero_masked(X, mask), [slice(j * length, j * length + 1) for j in range(l)])


@mistake("segment-means", "interleaved")
def interleaved(X, l, *, mask=None, divisor="segment"):
    return _means_of(_zero_masked(X, mask), [slice(j, None, l) for j in range(l)])


@mistake("segment-means", "as-many-tokens-as-segments")
def as_many_tokens_as_segments(X, l, *, mask=None, divisor="segment"):
    xp, length = namespace(X), X.shape[-2] // l
    X = _zero_masked(X, mask)
    sums = [xp.sum(X[..., j * length : j * length + l, :], axis=-2) / l for j in range(l)]
    return xp.stack(sums, axis=-2)


@mistake("segment-means", "long-segments-first")
def long_segments_first(X, l, *, mask=None, divisor="segment"):
    xp = namespace(X)
    mask = None if mask is None else xp.flip(mask, axis=-1)
    means = segment_means(xp.flip(X, axis=-2), l, mask=mask, divisor=divisor)
    return xp.flip(means, axis=-2)


@mistake("segment-means", "padded")
def padded(X, l, *, mask=None, divisor="segment"):
    xp = namespace(X)
    *batch, n, d = X.shape
    rest = xp.zeros((*batch, -n % l, d), dtype=X.dtype, device=device(X))
    return segment_means(xp.concat([_zero_masked(X, mask), rest], axis=-2), l)


@mistake("segment-means", "other-divisor")
def other_divisor(X, l, *, mask=None, divisor="segment"):
    return segment_means(X, l, mask=mask, divisor="tokens" if divisor == "segment" else "segment")


@mistake("segment-means", "mask-ignored")
def mean_mask_ignored(X, l, *, mask=None, divisor="segment"):
    return segment_means(X, l)


@mistake("iterative-pinv", "newton")
def newton(A, *, iterations=6, start="paper"):
    Z = iterative_pinv(A, iterations=0, start=start)
    for _ in range(iterations):
        Z = Z * 2.0 - Z @ A @ Z
    return Z


@mistake("iterative-pinv", "product-on-the-right")
def product_on_the_right(A, *, iterations=6, start="paper"):
    Z, eye = iterative_pinv(A, iterations=0, start=start), _eye(A)
    for _ in range(iterations):
        ZA = Z @ A
        Z = Z @ (eye * 13.0 - ZA @ (eye * 15.0 - ZA @ (eye * 7.0 - ZA))) * 0.25
    return Z


def _from(Z, A, iterations):
    eye = _eye(A)
    for _ in range(iterations):
        AZ = A @ Z
        Z = Z @ (eye * 13.0 - AZ @ (eye * 15.0 - AZ @ (eye * 7.0 - AZ))) * 0.25
    return Z


@mistake("iterative-pinv", "start-not-transposed")
def start_not_transposed(A, *, iterations=6, start="paper"):
    return _from(transposed(iterative_pinv(A, iterations=0, start=start)), A, iterations)


@mistake("iterative-pinv", "start-unscaled")
def start_unscaled(A, *, iterations=6, start="paper"):
    return _from(transposed(A), A, iterations)


@mistake("iterative-pinv", "start-by-row-sums")
def start_by_row_sums(A, *, iterations=6, start="paper"):
    return _from(transposed(A) / _largest_sum(A, axis=-1), A, iterations)


@mistake("iterative-pinv", "start-over-the-batch")
def start_over_the_batch(A, *, iterations=6, start="paper"):
    xp = namespace(A)
    columns, rows = xp.max(_largest_sum(A, axis=-2)), xp.max(_largest_sum(A, axis=-1))
    return _from(transposed(A) / (columns * rows), A, iterations)


@mistake("iterative-pinv", "one-step-short")
def one_step_short(A, *, iterations=6, start="paper"):
    return iterative_pinv(A, iterations=max(iterations - 1, 0), start=start)


def _landmarks(Q, K, landmarks, Q_tilde, K_tilde, mask):
    """Return queries and keys with masked ones set to 0, and the landmarks."""
    Q, K = _zero_masked(Q, mask), _zero_masked(K, mask)
    if landmarks is not None:
        Q_tilde, K_tilde = segment_means(Q, landmarks), segment_means(K, landmarks)
    return Q, K, Q_tilde, K_tilde


def _inverted(A, pinv, iterations, start):
    if pinv == "exact":
        return pseudo_inverse(A)
    return iterative_pinv(A, iterations=iterations, start=start)


def _with_inverse(replaced):
    """Nyström attention with another matrix in place of the pseudo-inverse Z of A."""

    def attention(
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
        Q, K, Q_tilde, K_tilde = _landmarks(Q, K, landmarks, Q_tilde, K_tilde, mask)
        F = attention_weights(Q, K_tilde, scale=scale)
        A = attention_weights(Q_tilde, K_tilde, scale=scale)
        B = attention_weights(Q_tilde, K, mask=_key_mask(mask, Q_tilde), scale=scale)
        Z = _inverted(A, pinv, iterations, start)
        return F @ replaced(A, Z) @ (B @ V)

    return attention


mistake("nystrom-attention", "not-inverted")(_with_inverse(lambda A, Z: A))
mistake("nystrom-attention", "inverse-dropped")(_with_inverse(lambda A, Z: _eye(A)))
mistake("nystrom-attention", "inverse-transposed")(_with_inverse(lambda A, Z: transposed(Z)))


@mistake("nystrom-attention", "iterative-for-exact")
def iterative_for_exact(Q, K, V, *, pinv="exact", **options):
    return nystrom_attention(
        Q, K, V, pinv="exact" if pinv == "iterative" else "iterative", **options
    )


def _factors(normalise_F, normalise_B):
    """Nyström attention with the outer factors normalised otherwise."""

    def attention(
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
        Q, K, Q_tilde, K_tilde = _landmarks(Q, K, landmarks, Q_tilde, K_tilde, mask)
        factor = 1.0 / math.sqrt(K.shape[-1]) if scale is None else scale
        F = normalise_F(Q @ transposed(K_tilde) * factor)
        B = Q_tilde @ transposed(K) * factor
        if mask is not None:
            B = namespace(B, mask).where(_key_mask(mask, Q_tilde), B, -math.inf)
        A = attention_weights(Q_tilde, K_tilde, scale=scale)
        return F @ _inverted(A, pinv, iterations, start) @ (normalise_B(B) @ V)

    return attention


def _over_columns(x):
    return transposed(softmax(transposed(x)))


mistake("nystrom-attention", "softmax-over-landmarks")(_factors(softmax, _over_columns))
mistake("nystrom-attention", "softmax-over-queries")(_factors(_over_columns, softmax))


@mistake("nystrom-attention", "no-scale")
def no_scale(Q, K, V, *, scale=None, **options):
    return nystrom_attention(Q, K, V, scale=1.0, **options)


@mistake("nystrom-attention", "scale-twice")
def scale_twice(Q, K, V, *, scale=None, **options):
    factor = 1.0 / K.shape[-1] if scale is None else scale**2
    return nystrom_attention(Q, K, V, scale=factor, **options)


def _other_landmarks(choose):
    """Nyström attention with other landmarks than segment means."""

    def attention(Q, K, V, *, landmarks=None, mask=None, **options):
        if landmarks is None:
            return nystrom_attention(Q, K, V, mask=mask, **options)
        Q_tilde, K_tilde = choose(Q, landmarks, mask=mask), choose(K, landmarks, mask=mask)
        tilde = {"Q_tilde": Q_tilde, "K_tilde": K_tilde}
        return nystrom_attention(Q, K, V, mask=mask, **options | tilde)

    return attention


mistake("nystrom-attention", "landmarks-strided")(_other_landmarks(one_token_each))
mistake("nystrom-attention", "landmarks-interleaved")(_other_landmarks(interleaved))


@mistake("nystrom-attention", "blocks-of-the-full-softmax")
def blocks_of_the_full_softmax(Q, K, V, *, landmarks=None, Q_tilde=None, mask=None, **options):
    count = Q_tilde.shape[-2] if landmarks is None else landmarks
    A, B, F, _ = softmax_blocks(_zero_masked(Q, mask), _zero_masked(K, mask), count)
    return nystrom_approximation(A, B, F) @ V


@mistake("nystrom-attention", "mask-only-in-the-last-factor")
def mask_only_in_the_last_factor(
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
    Q, K, Q_tilde, K_tilde = _landmarks(Q, K, landmarks, Q_tilde, K_tilde, None)
    F = attention_weights(Q, K_tilde, scale=scale)
    A = attention_weights(Q_tilde, K_tilde, scale=scale)
    B = attention_weights(Q_tilde, K, mask=_key_mask(mask, Q_tilde), scale=scale)
    return F @ _inverted(A, pinv, iterations, start) @ (B @ V)


@mistake("nystrom-attention", "mask-missing-in-the-last-factor")
def mask_missing_in_the_last_factor(Q, K, V, *, mask=None, **options):
    return nystrom_attention(_zero_masked(Q, mask), _zero_masked(K, mask), V, **options)


@mistake("sequence-convolution", "kernel-flipped")
def kernel_flipped(V, kernel):
    return sequence_convolution(V, namespace(kernel).flip(kernel, axis=-1))


@mistake("sequence-convolution", "causal")
def causal(V, kernel):
    *before, n, d_v = V.shape
    edge = namespace(V).zeros(
        (*before, kernel.shape[-1] // 2, d_v), dtype=V.dtype, device=device(V)
    )
    later = namespace(V).concat([edge, V], axis=-2)
    return sequence_convolution(later, kernel)[..., :n, :]


@mistake("sequence-convolution", "edges-repeated")
def edges_repeated(V, kernel):
    xp, half = namespace(V), kernel.shape[-1] // 2
    first, last = [V[..., :1, :]] * half, [V[..., -1:, :]] * half
    wide = sequence_convolution(xp.concat([*first, V, *last], axis=-2), kernel)
    return wide[..., half : half + V.shape[-2], :]


@mistake("sequence-convolution", "one-kernel-for-all-heads")
def one_kernel_for_all_heads(V, kernel):
    return sequence_convolution(V, namespace(kernel).broadcast_to(kernel[:1, :], kernel.shape))


@mistake("nystrom-self-attention", "convolution-dropped")
def convolution_dropped(x, W_q, W_k, W_v, W_c, *, kernel=None, **options):
    return nystrom_self_attention(x, W_q, W_k, W_v, W_c, **options)


@mistake("nystrom-self-attention", "output-convolved")
def output_convolved(
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
    mask=None,
    **options,
):
    Q, K = qkv_projection(x, W_q, bias=b_q), qkv_projection(x, W_k, bias=b_k)
    V = qkv_projection(x, W_v, bias=b_v)
    each_head = None if mask is None else namespace(mask).expand_dims(mask, axis=-2)
    y = nystrom_attention(Q, K, V, mask=each_head, **options)
    return output_projection(
        y if kernel is None else y + sequence_convolution(y, kernel), W_c, bias=b_c
    )


@mistake("nystrom-self-attention", "masked-values-convolved")
def masked_values_convolved(
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
    mask=None,
    **options,
):
    Q, K = qkv_projection(x, W_q, bias=b_q), qkv_projection(x, W_k, bias=b_k)
    V = qkv_projection(x, W_v, bias=b_v)
    each_head = None if mask is None else namespace(mask).expand_dims(mask, axis=-2)
    y = nystrom_attention(Q, K, V, mask=each_head, **options)
    return output_projection(
        y if kernel is None else y + sequence_convolution(V, kernel), W_c, bias=b_c
    )


@mistake("nystrom-self-attention", "scale-of-the-model")
def scale_of_the_model(x, W_q, W_k, W_v, W_c, *, b_q=None, **options):
    factor = math.sqrt(W_q.shape[-1] / W_q.shape[-2])
    b_q = None if b_q is None else b_q * factor
    return nystrom_self_attention(x, W_q * factor, W_k, W_v, W_c, b_q=b_q, **options)
