"""Laws and special cases of spec/nystromformer/."""

from dataclasses import replace
from typing import Any

import numpy as np

from vtnp import encoder, nystromformer
from vtnp.claims._registry import law, special
from vtnp.claims.cases import Draw
from vtnp.claims.cases.nystromformer import condition, near
from vtnp.claims.common import EPS, gradient_at, is_generic
from vtnp.claims.compare import assert_close, difference, largest
from vtnp.claims.errors import needs


def norm(A: np.ndarray) -> np.ndarray:
    """Return the spectral norm of each matrix."""
    return np.linalg.norm(A, 2, axis=(-2, -1))


def row_norm(A: np.ndarray) -> np.ndarray:
    """Return the largest row sum of magnitudes of each matrix."""
    return np.max(np.sum(np.abs(A), axis=-1), axis=-1)


def lengths(n: int, segments: int) -> np.ndarray:
    """Return the segments' lengths, the short ones first."""
    return np.array([n // segments + (j >= segments - n % segments) for j in range(segments)])


def shuffled(case, segments: int, n: int) -> np.ndarray:
    """Return a random order of the tokens that keeps each in its segment."""
    ends = np.cumsum(lengths(n, segments))
    starts = ends - lengths(n, segments)
    orders = [case.rng.permutation(np.arange(a, b)) for a, b in zip(starts, ends, strict=True)]
    return np.concatenate(orders)


# --- Blocks of the softmax matrix -----------------------------------------------------------------


def assembled(A, B, F, C):
    return np.concatenate([np.concatenate([A, B], -1), np.concatenate([F, C], -1)], -2)


@law("softmax-blocks", "tile-the-softmax")
def blocks_tile_the_softmax(case):
    assert_close(assembled(*case()), encoder.attention_weights(case["Q"], case["K"]))


@law("softmax-blocks", "rows-sum-to-one")
def blocks_rows_sum_to_one(case):
    A, B, F, C = case()
    for left, right in ((A, B), (F, C)):
        assert_close(left.sum(-1) + right.sum(-1), np.ones(left.shape[:-1]))
        if is_generic(case) and case.dtype == "float64":  # others may underflow
            assert np.all(left > 0)
            assert np.all(left.sum(-1) < 1)


@law("softmax-blocks", "shift-keys")
def blocks_shift_keys(case):
    shift = case.numbers(case["K"].shape[-1])
    assert_close(case(K=case["K"] + shift), case())


@special("softmax-blocks", "all-rows")
def blocks_all_rows(case):
    A, B, F, C = case(l=case["Q"].shape[-2])
    assert_close(A, encoder.attention_weights(case["Q"], case["K"]))
    assert B.size == F.size == C.size == 0


@special("softmax-blocks", "huge-logits")
def blocks_huge_logits(case):
    needs(case.dtype != "float16", "scores of 1e5")
    blocks = case(Q=1e4 * case["Q"])
    assert all(np.all(np.isfinite(block)) for block in blocks)


# --- The pseudo-inverse ---------------------------------------------------------------------------


def turned(A: np.ndarray) -> np.ndarray:
    return np.swapaxes(A, -1, -2)


def singular(case) -> np.ndarray:
    """Return larger matrices with the singular values of A and three more of 0.

    The threshold grows with the size, and rounding alone comes close to that of a 2 x 2 matrix.
    """
    A = case["A"]
    tall = (*A.shape[:-2], A.shape[-1] + 3, A.shape[-1])
    left, right = (np.linalg.qr(case.numbers(tall))[0] for _ in range(2))
    return left @ A @ turned(right)


def orthogonal(case, A: np.ndarray) -> np.ndarray:
    """Draw orthogonal matrices of the shape of A."""
    return np.linalg.qr(case.numbers(A.shape))[0]


def needs_regular(case) -> None:
    """Go on only with matrices whose inverse and its products float64 holds."""
    sigma = np.linalg.svd(case["A"], compute_uv=False)
    is_regular = case.dtype == "float64" and bool(np.all(sigma > 1e-100))
    needs(is_regular, "regular matrices in float64")


def needs_condition_below(case, most: float) -> None:
    """Go on only with matrices whose condition number is smaller."""
    needs(np.linalg.cond(case["A"]).max(initial=0.0) < most, f"condition numbers below {most:g}")


def needs_full_rank(case) -> None:
    needs_regular(case)
    needs_condition_below(case, 1e12)


def needs_finite_inverse(case) -> None:
    """Go on only with matrices whose inverse has no overflow."""
    own = nystromformer.pseudo_inverse(case["A"])
    needs(np.all(np.isfinite(own)), "inverses that do not overflow")


def needs_to_fit(case, *arrays: np.ndarray) -> None:
    """Go on only with numbers that the precision holds, without an underflow."""
    info = np.finfo(case.dtype)
    for x in arrays:
        size = np.abs(x[x != 0.0])
        fits = bool(np.all((size >= info.tiny) & (size <= info.max)))
        needs(fits, "numbers that neither underflow nor overflow")


def inverse_of(case, A: np.ndarray) -> np.ndarray:
    return case(A=A, times=None)


@law("pseudo-inverse", "penrose-conditions")
def inverse_penrose_conditions(case):
    needs_regular(case)
    for A in (case["A"], singular(case)):
        Z = inverse_of(case, A)
        AZ, ZA = A @ Z, Z @ A
        assert_close(AZ @ A, A)
        assert_close(ZA @ Z, Z)
        assert_close(AZ, turned(AZ))
        assert_close(ZA, turned(ZA))


@law("pseudo-inverse", "inverse")
def inverse_of_a_regular_matrix(case):
    needs_full_rank(case)
    assert_close(inverse_of(case, case["A"]), np.linalg.inv(case["A"]))


@law("pseudo-inverse", "product")
def inverse_times_a_matrix(case):
    needs_finite_inverse(case)
    for A in (case["A"], singular(case)):
        B = case.numbers((*A.shape[:-1], 3))
        assert_close(case(A=A, times=B), inverse_of(case, A) @ B)


@law("pseudo-inverse", "transpose")
def inverse_of_the_transpose(case):
    for A in (case["A"], singular(case)):
        assert_close(inverse_of(case, turned(A)), turned(inverse_of(case, A)))


@law("pseudo-inverse", "inverse-scale")
def inverse_scale(case):
    needs_finite_inverse(case)
    for A in (case["A"], singular(case)):
        for factor in (-8.0, case.ulp**0.3):
            needs_to_fit(case, factor * A, nystromformer.pseudo_inverse(factor * A))
            # The inverse in units of the factor.
            assert_close(factor * inverse_of(case, factor * A), inverse_of(case, A))


@law("pseudo-inverse", "twice")
def inverse_twice(case):
    needs_regular(case)
    for A in (case["A"], singular(case)):
        assert_close(inverse_of(case, inverse_of(case, A)), A)


@law("pseudo-inverse", "orthogonal-factors")
def inverse_orthogonal_factors(case):
    needs_finite_inverse(case)
    for A in (case["A"], singular(case)):
        U, W = orthogonal(case, A), orthogonal(case, A)
        assert_close(inverse_of(case, U @ A @ turned(W)), W @ inverse_of(case, A) @ turned(U))


@law("pseudo-inverse", "normal-equations")
def inverse_normal_equations(case):
    """The products square the condition number, which is at most 30."""
    needs_regular(case)
    needs_condition_below(case, 100)
    for A in (case["A"], singular(case)):
        Z, At = inverse_of(case, A), turned(A)
        assert_close(inverse_of(case, At @ A) @ At, Z, within=1e-11)
        assert_close(At @ inverse_of(case, A @ At), Z, within=1e-11)


@law("pseudo-inverse", "least-squares")
def inverse_least_squares(case):
    """The residual is orthogonal to the range of A, and x = A^+ b lies in the range of A^T."""
    needs_regular(case)
    for A in (case["A"], singular(case)):
        b = case.numbers((*A.shape[:-1], 1))
        x = inverse_of(case, A) @ b
        assert_close(turned(A) @ (A @ x), turned(A) @ b)
        rows = np.linalg.svd(A)[2][..., : case["A"].shape[-1], :]
        assert_close(turned(rows) @ (rows @ x), x)


@law("pseudo-inverse", "gradient-of-constant-rank", differentiates=True)
def inverse_gradient_of_constant_rank(case):
    needs_regular(case)
    needs_condition_below(case, 1e3)
    alone = case.with_args(times=None)
    for A in (case["A"], singular(case)):
        Z, eye = np.linalg.pinv(A, rcond=1e-12), np.eye(A.shape[-1])
        D, G = (case.numbers(A.shape) for _ in "DG")
        Dt, Zt = turned(D), turned(Z)
        slope = -Z @ D @ Z + Z @ Zt @ Dt @ (eye - A @ Z) + (eye - Z @ A) @ Dt @ Zt @ Z
        assert_close(np.sum(gradient_at(alone, "A", A, G) * D), np.sum(G * slope), within=1e-10)


@special("pseudo-inverse", "zero-matrix")
def inverse_zero_matrix(case):
    zero = np.zeros_like(case["A"])
    assert np.array_equal(inverse_of(case, zero), zero)


@special("pseudo-inverse", "diagonal")
def inverse_diagonal(case):
    A = np.diag([4.0, 0.0, -0.5])
    assert_close(inverse_of(case, A), np.diag([0.25, 0.0, -2.0]))


@special("pseudo-inverse", "rank-one")
def inverse_rank_one(case):
    u, v = case["A"][..., :, :1], case["A"][..., :1, :]
    lengths = np.sum(u**2, axis=(-2, -1)) * np.sum(v**2, axis=(-2, -1))
    needs_to_fit(case, u @ v, lengths, 1.0 / lengths)
    expected = turned(u @ v) / lengths[..., None, None]
    assert_close(inverse_of(case, u @ v), expected)


@special("pseudo-inverse", "orthogonal")
def inverse_orthogonal(case):
    U = orthogonal(case, case["A"])
    assert_close(inverse_of(case, U), turned(U))


@special("pseudo-inverse", "projection")
def inverse_projection(case):
    U = orthogonal(case, case["A"])[..., :-1]
    assert_close(inverse_of(case, U @ turned(U)), U @ turned(U))


@special("pseudo-inverse", "tiny-singular-value")
def inverse_tiny_singular_value(case):
    assert_close(inverse_of(case, np.diag([1.0, 1e-20])), np.diag([1.0, 0.0]))


@special("pseudo-inverse", "graded")
def inverse_of_graded_rows(case):
    needs(case.dtype == "float64", "digits for rows that far apart")
    rows = 10.0 ** -np.array([0.0, 5.0, 10.0])
    A = np.array([[4.0, 1.0, -2.0], [1.0, 3.0, 1.0], [2.0, -1.0, 5.0]])
    assert_close(inverse_of(case, rows[:, None] * A) * rows, np.linalg.inv(A), within=1e-14)


@special("pseudo-inverse", "not-finite", differentiates=True)
def inverse_of_what_is_not_finite(case):
    regular = np.array([[2.0, 1.0], [0.0, 4.0]])
    for entry in (np.nan, np.inf, -np.inf):
        A = np.stack([regular, [[1.0, entry], [0.0, 1.0]], -regular])
        with np.errstate(invalid="ignore"):
            Z, gradient = inverse_of(case, A), gradient_at(case.with_args(times=None), "A", A, A)
        for found in (Z, gradient):
            assert np.all(np.isnan(found[1]))
            assert np.all(np.isfinite(found[::2]))
        assert_close(Z[::2], np.linalg.inv(A[::2]))


# --- Completion from three blocks -----------------------------------------------------------------


@law("nystrom-approximation", "keeps-its-blocks")
def approximation_keeps_its_blocks(case):
    needs(case["A"].shape[-1] >= 2, "two rows")
    A = case["A"].copy()
    A[..., 0, :] = A[..., 1, :]
    S, count = case(A=A), A.shape[-1]
    assert np.array_equal(S[..., :count, :count], A)
    assert np.array_equal(S[..., :count, count:], case["B"])
    assert np.array_equal(S[..., count:, :count], case["F"])


@law("nystrom-approximation", "second-equality")
def approximation_second_equality(case):
    """For A of full rank, and for a singular A whose range holds B's and whose rows hold F's."""
    needs(case.dtype == "float64", "a rank that rounding does not change")
    needs_condition_below(case, 100)
    needs_full_rank(case)
    count = case["A"].shape[-1]
    flat = case.numbers((*case["A"].shape[:-1], count - 1))
    singular = flat @ np.swapaxes(flat, -1, -2)
    full = case["A"], case["B"], case["F"]
    for rank, (A, B, F) in (
        (count, full),
        (count - 1, (singular, singular @ full[1], full[2] @ singular)),
    ):
        product = np.concatenate([A, F], -2) @ np.linalg.pinv(A, rcond=1e-12)
        product = product @ np.concatenate([A, B], -1)
        # Two roundings apart, each enlarged by the condition of A on its range.
        sigma = np.linalg.svd(A, compute_uv=False)
        conditions = sigma[..., 0] / sigma[..., rank - 1] if rank else np.ones(1)
        assert_close(case(A=A, B=B, F=F), product, within=100 * EPS * np.max(conditions))


@law("nystrom-approximation", "exact-at-equal-rank")
def approximation_exact_at_equal_rank(case):
    """It restores a matrix of the rank of A, and misses what is added to its lower right block."""
    needs_full_rank(case)
    A, B, F = case["A"], case["B"], case["F"]
    C = F @ np.linalg.solve(A, B)
    assert_close(case(), assembled(A, B, F, C), within=1e-12)
    larger = assembled(A, B, F, C + 1.0)
    assert np.linalg.matrix_rank(larger).min() > A.shape[-1]
    zero = np.zeros_like
    assert_close(larger - case(), assembled(zero(A), zero(B), zero(F), np.ones_like(C)))


@law("nystrom-approximation", "transpose")
def approximation_transpose(case):
    blocks = {new: turned(case[old]) for new, old in zip("ABF", "AFB", strict=True)}
    assert_close(case(**blocks), turned(case()), within=1e-12)


@law("nystrom-approximation", "scales")
def approximation_scales(case):
    scaled = {name: -3.0 * case[name] for name in "ABF"}
    assert_close(case(**scaled), -3.0 * case(), within=1e-12)


@special("nystrom-approximation", "zero-block")
def approximation_zero_block(case):
    A = np.zeros_like(case["A"])
    zero = np.zeros((*case["B"].shape[:-2], case["B"].shape[-1], case["B"].shape[-1]))
    assert np.array_equal(case(A=A), assembled(A, case["B"], case["F"], zero))


@special("nystrom-approximation", "no-other-rows")
def approximation_no_other_rows(case):
    assert np.array_equal(case(B=case["B"][..., :0], F=case["F"][..., :0, :]), case["A"])


@special("nystrom-approximation", "one-row")
def approximation_one_row(case):
    A, B, F = (np.full((1, 1), x) for x in (2.0, 3.0, 5.0))
    assert_close(case(A=A, B=B, F=F), np.array([[2.0, 3.0], [5.0, 7.5]]))


# --- Landmarks ------------------------------------------------------------------------------------


@law("segment-means", "mean-is-kept")
def means_keep_the_mean(case):
    weights = lengths(case["X"].shape[-2], case["l"])[:, None]
    means = case(mask=None)
    expected = np.sum(case["X"], axis=-2)
    assert_close(np.sum(weights * means, axis=-2), expected)


@law("segment-means", "linear")
def means_linear(case):
    other = case.numbers(case["X"].shape)
    assert_close(case(X=2.0 * case["X"] - other), 2.0 * case() - case(X=other))


@law("segment-means", "commutes-with-projection")
def means_commute_with_projection(case):
    W = case.numbers((case["X"].shape[-1], 3))
    bias = case.numbers(3)
    assert_close(case(X=case["X"] @ W + bias, mask=None), case(mask=None) @ W + bias)


@law("segment-means", "permute-within-segments")
def means_permute_within_segments(case):
    order = shuffled(case, case["l"], case["X"].shape[-2])
    changed = {"X": case["X"][..., order, :]}
    if "mask" in case.args:
        changed["mask"] = case["mask"][..., order]
    assert_close(case(**changed), case())


@law("segment-means", "short-segments-first")
def means_short_segments_first(case):
    """The averages of the token indices are the middles of the segments."""
    n = case["X"].shape[-2]
    X = np.broadcast_to(np.arange(n, dtype=float)[:, None], case["X"].shape)
    ends = np.cumsum(lengths(n, case["l"]))
    middles = ends - (lengths(n, case["l"]) + 1) / 2
    assert_close(case(X=X, mask=None)[..., 0], np.broadcast_to(middles, case().shape[:-1]))


@law("segment-means", "piecewise-constant")
def means_of_constant_segments(case):
    means = case.numbers(case().shape)
    X = np.repeat(means, lengths(case["X"].shape[-2], case["l"]), axis=-2)
    assert_close(case(X=X, mask=None), means)


@law("segment-means", "masked-tokens-do-not-matter")
def means_masked_tokens_do_not_matter(case):
    if "mask" not in case.args:
        return
    other = np.where(case["mask"][..., None], case["X"], np.nan)
    assert np.array_equal(case(X=other), case())


@law("segment-means", "tokens-by-segment")
def means_divisors_differ_by_the_share_of_real_tokens(case):
    real = np.broadcast_to(case.args.get("mask", True), case["X"].shape[:-1]).astype(float)
    share = nystromformer.segment_means(real[..., None], case["l"])
    by_segment, by_tokens = case(divisor="segment"), case(divisor="tokens")
    assert_close(by_tokens * share, by_segment)


@special("segment-means", "one-segment")
def means_one_segment(case):
    assert_close(case(l=1, mask=None), np.mean(case["X"], axis=-2, keepdims=True))


@special("segment-means", "one-token-per-segment")
def means_one_token_per_segment(case):
    assert np.array_equal(case(l=case["X"].shape[-2], mask=None), case["X"])


@special("segment-means", "no-real-token")
def means_no_real_token(case):
    all_masked = np.zeros(case["X"].shape[-2], bool)
    for divisor in ("segment", "tokens"):
        assert np.array_equal(case(mask=all_masked, divisor=divisor), np.zeros_like(case()))


@special("segment-means", "all-real")
def means_all_real(case):
    all_real = np.ones(case["X"].shape[-2], bool)
    for divisor in ("segment", "tokens"):
        assert np.array_equal(case(mask=all_real, divisor=divisor), case(mask=None))


# --- The iteration --------------------------------------------------------------------------------


def residual(A, Z):
    return np.eye(A.shape[-1]) - A @ Z


@law("iterative-pinv", "residual-recurrence")
def pinv_residual_recurrence(case):
    needs_regular(case)
    for k in range(4):
        R = residual(case["A"], case(iterations=k))
        expected = R @ R @ R @ (3.0 * np.eye(R.shape[-1]) + R) / 4.0
        assert_close(residual(case["A"], case(iterations=k + 1)), expected)


def start_factor(case):
    """Return c of the start value Z_0 = c A^T, one for each matrix."""
    return np.trace(case(iterations=0) @ case["A"], axis1=-2, axis2=-1) / np.sum(
        case["A"] ** 2, axis=(-2, -1)
    )


def needs_small_start(case) -> None:
    """Go on only where c <= 1 / sigma_max^2: "paper" has it always, others for softmax matrices."""
    needs_regular(case)
    largest_sigma = np.linalg.svd(case["A"], compute_uv=False)[..., 0]
    # That of the formula itself, whatever is put to the claim.
    c = start_factor(replace(case, function=nystromformer.iterative_pinv))
    needs(np.all(c * largest_sigma**2 < 1.0 + 1e-9), "a small start value")


@law("iterative-pinv", "spectral-filter")
def pinv_spectral_filter(case):
    """Z_k = W diag((1 - rho_k) / sigma) U^T for A = U diag(sigma) W^T."""
    needs_small_start(case)
    U, sigma, Wt = np.linalg.svd(case["A"])
    rho = 1.0 - start_factor(case)[..., None] * sigma**2
    for k in range(1, 7):
        rho = rho**3 * (3.0 + rho) / 4.0
        inverted = ((1.0 - rho) / sigma)[..., :, None] * np.swapaxes(U, -1, -2)
        # 1 - rho is off by eps at first, by 13/4 more after each step, and divided by sigma.
        within = 10 * EPS * 3.25**k / np.min(sigma)
        assert_close(case(iterations=k), np.swapaxes(Wt, -1, -2) @ inverted, within=within)


@law("iterative-pinv", "cubic-convergence")
def pinv_cubic_convergence(case):
    needs_small_start(case)
    for k in range(5):
        before = norm(residual(case["A"], case(iterations=k)))
        after = norm(residual(case["A"], case(iterations=k + 1)))
        assert np.all(before <= 1.0 + 1e-12)
        assert np.all(after <= (3.0 * before**3 + before**4) / 4.0 + 1e-12)


@law("iterative-pinv", "monotone")
def pinv_monotone(case):
    """A Z_k is symmetric, its eigenvalues lie in [0, 1] and grow with k."""
    needs_small_start(case)
    last: Any = 0.0
    for k in range(7):
        AZ = case["A"] @ case(iterations=k)
        assert_close(AZ, np.swapaxes(AZ, -1, -2), within=1e-11)
        values = np.linalg.eigvalsh((AZ + np.swapaxes(AZ, -1, -2)) / 2.0)
        assert np.all(values <= 1.0 + 1e-11)
        assert np.all(values >= last - 1e-11)
        last = values


@law("iterative-pinv", "reaches-the-inverse")
def pinv_reaches_the_inverse(case):
    """As many steps as the smallest singular value needs."""
    needs_small_start(case)
    sigma = np.linalg.svd(case["A"], compute_uv=False)
    rho, steps = 1.0 - np.min(start_factor(case) * sigma[..., -1] ** 2), 0
    needs(rho < 1.0 - 1e-6, "singular values that ten or twenty steps invert")
    while rho > EPS:
        rho, steps = rho**3 * (3.0 + rho) / 4.0, steps + 1
    within = 100 * EPS * np.max(sigma[..., 0] / sigma[..., -1])
    # The error relative to the norm of the inverse.
    Z, inverse = case(iterations=steps), np.linalg.inv(case["A"])
    assert np.all(norm(Z - inverse) <= within * norm(inverse))


@law("iterative-pinv", "transpose")
def pinv_transpose(case):
    of_transpose = case(A=turned(case["A"]), start="paper")
    assert_close(of_transpose, turned(case(start="paper")))


@law("iterative-pinv", "inverse-scale")
def pinv_inverse_scale(case):
    """Whatever the scale: the dtype has no squares of these."""
    info = np.finfo(case.dtype)
    for factor in (-8.0, float(info.max) ** 0.6, -(float(info.tiny) ** 0.6)):
        A, inverse = factor * case["A"], nystromformer.iterative_pinv(**case.args)
        needs_to_fit(case, A, inverse / factor)
        scaled = case(A=A, start="paper")
        assert_close(factor * scaled, case(start="paper"))


@law("iterative-pinv", "each-matrix-alone")
def pinv_each_matrix_alone(case):
    """Beside a matrix of larger column sums, with the start values of single matrices."""
    A = case["A"] / case["A"].sum(axis=-1, keepdims=True)
    steep = np.zeros_like(A)
    steep[..., 0] = 1.0
    for start in ("paper", "exact"):
        assert_close(case(A=np.stack([A, steep]), start=start)[0], case(A=A, start=start))


@special("iterative-pinv", "identity")
def pinv_identity(case):
    eye = np.broadcast_to(np.eye(case["A"].shape[-1]), case["A"].shape)
    assert np.array_equal(case(A=eye), eye)


@special("iterative-pinv", "zero-matrix")
def pinv_zero_matrix(case):
    zero = np.zeros_like(case["A"])
    assert np.array_equal(case(A=zero), zero)


@special("iterative-pinv", "no-step")
def pinv_no_step(case):
    A = case["A"]
    columns = np.abs(A).sum(-2, keepdims=True).max(-1, keepdims=True)
    rows = np.abs(A).sum(-1, keepdims=True).max(-2, keepdims=True)
    for start, divisor in (
        ("paper", columns * rows),
        ("exact", columns),
        ("original", columns.max()),
    ):
        assert_close(case(iterations=0, start=start), turned(A) / divisor)


@special("iterative-pinv", "singular")
def pinv_singular(case):
    """Six steps reach the pseudo-inverse; forty, or fewer in less precision, the noise."""
    A = np.array([[0.2, 0.8, 0.0], [0.6, 0.2, 0.2], [0.4, 0.5, 0.1]])
    assert_close(case(A=A, iterations=6, start="paper"), np.linalg.pinv(A, rcond=1e-12))
    many = {"float64": 40, "float32": 24, "float16": 16}[case.dtype]
    assert largest(case(A=A, iterations=many, start="paper")) > 100.0


@special("iterative-pinv", "equal-landmarks")
def pinv_equal_landmarks(case):
    """Rows and columns that are equal bit for bit stay so, and no noise grows between them."""
    A = np.array([[0.3, 0.3, 0.4], [0.3, 0.3, 0.4], [0.1, 0.1, 0.8]])
    for iterations in (12, 60):
        assert_close(case(A=A, iterations=iterations), np.linalg.pinv(A, rcond=1e-12))


@special("iterative-pinv", "original-couples-the-batch")
def pinv_original_couples_the_batch(case):
    A = np.array([[0.6, 0.4], [0.3, 0.7]])
    steep = np.array([[0.999, 0.001], [0.998, 0.002]])
    alone = case(A=A, iterations=1, start="original")
    assert np.array_equal(alone, case(A=A, iterations=1, start="exact"))
    beside = case(A=np.stack([A, steep]), iterations=1, start="original")[0]
    assert difference(beside, alone) > 0.1


# --- Nystrom attention ----------------------------------------------------------------------------


def apart(case, n: int, segments: int, worst: float = 1e3):
    """Draw queries and keys around one anchor for each segment, such that A is well conditioned."""
    draw, far = Draw(case.rng, (), {"n": n, "l": segments, "d": case["Q"].shape[-1]}), 1.0
    while True:
        anchors = far * draw.array("l d")
        Q, K = near(draw, anchors, "n d"), near(draw, anchors, "n d")
        tilde = [nystromformer.segment_means(X, segments) for X in (Q, K)]
        if condition(*tilde) < worst:
            return Q, K, tilde
        far *= 1.05


def values(case, n: int) -> np.ndarray:
    return case.numbers((n, case["V"].shape[-1]))


PLAIN = {
    "landmarks": None,
    "Q_tilde": None,
    "K_tilde": None,
    "mask": None,
    "scale": None,
    "pinv": "exact",
}


def changed(**given):
    """Return arguments that replace all options that a case has drawn."""
    return PLAIN | given


@law("nystrom-attention", "rows-sum-to-one")
def attention_rows_sum_to_one(case):
    """With the exact inverse of a non-singular A, with a mask and without."""
    Q, K, tilde = apart(case, 13, 3)
    mask = None if case.rng.random() < 0.5 else np.arange(13) != 4
    V = np.ones((13, 2))
    Q_tilde, K_tilde = tilde
    Y = case(**changed(Q=Q, K=K, V=V, Q_tilde=Q_tilde, K_tilde=K_tilde, mask=mask))
    assert_close(Y, V, within=1e-11)


@law("nystrom-attention", "linear-in-values")
def attention_linear_in_values(case):
    other = case.numbers(case["V"].shape)
    expected = 2.0 * case() - case(V=other)
    assert_close(case(V=2.0 * case["V"] - other), expected, within=1e-11)


@law("nystrom-attention", "shift-keys")
def attention_shift_keys(case):
    shift = case.numbers(case["K"].shape[-1])
    Q, K, (Q_tilde, K_tilde) = apart(case, 11, 3)
    V = values(case, 11)
    for pinv in ("exact", "iterative"):
        by_number = changed(Q=Q, V=V, landmarks=3, pinv=pinv)
        assert_close(case(**by_number, K=K + shift), case(**by_number, K=K), within=1e-11)
        given = changed(Q=Q, V=V, Q_tilde=Q_tilde, pinv=pinv)
        given.pop("K_tilde")
        shifted = case(**given, K=K + shift, K_tilde=K_tilde + shift)
        assert_close(shifted, case(**given, K=K, K_tilde=K_tilde), within=1e-11)


@law("nystrom-attention", "permute-within-segments")
def attention_permute_within_segments(case):
    Q, K, _ = apart(case, 13, 3)
    V = values(case, 13)
    queries, keys = shuffled(case, 3, 13), shuffled(case, 3, 13)
    for pinv in ("exact", "iterative"):
        Y = case(**changed(Q=Q, K=K, V=V, landmarks=3, pinv=pinv))
        moved = changed(Q=Q[queries], K=K[keys], V=V[keys], landmarks=3, pinv=pinv)
        assert_close(case(**moved), Y[queries], within=1e-11)


@law("nystrom-attention", "permute-segments")
def attention_permute_segments(case):
    Q, K, _ = apart(case, 12, 4)
    V = values(case, 12)
    order = np.arange(12).reshape(4, 3)[case.rng.permutation(4)].ravel()
    for pinv in ("exact", "iterative"):
        Y = case(**changed(Q=Q, K=K, V=V, landmarks=4, pinv=pinv))
        moved = changed(Q=Q[order], K=K[order], V=V[order], landmarks=4, pinv=pinv)
        assert_close(case(**moved), Y[order], within=1e-11)


@law("nystrom-attention", "piecewise-constant-is-exact")
def attention_piecewise_constant_is_exact(case):
    """Segments of equal length; A non-singular, or singular because two segments are equal."""
    _, _, (Q_tilde, K_tilde) = apart(case, 12, 4)
    V = values(case, 12)
    for repeated in (False, True):
        if repeated:
            Q_tilde[1], K_tilde[1] = Q_tilde[0], K_tilde[0]
        Q, K = np.repeat(Q_tilde, 3, axis=0), np.repeat(K_tilde, 3, axis=0)
        Y = case(**changed(Q=Q, K=K, V=V, landmarks=4))
        # Taking a row away can make A's other singular values smaller.
        sigma = np.linalg.svd(encoder.attention_weights(Q_tilde, K_tilde), compute_uv=False)
        within = 100 * EPS * sigma[0] / sigma[-2 if repeated else -1]
        assert_close(Y, encoder.attention(Q, K, V), within=within)


@law("nystrom-attention", "query-landmarks-are-exact")
def attention_query_landmarks_are_exact(case):
    """Every query is a landmark; any keys, and any key landmarks with a non-singular A."""
    _, K, (Q_tilde, K_tilde) = apart(case, 13, 3)
    Q, V = Q_tilde[case.rng.integers(0, 3, 13)], values(case, 13)
    Y = case(**changed(Q=Q, K=K, V=V, Q_tilde=Q_tilde, K_tilde=K_tilde))
    assert_close(Y, encoder.attention(Q, K, V), within=1e-11)


@law("nystrom-attention", "key-landmarks-are-exact")
def attention_key_landmarks_are_exact(case):
    """Every key is a landmark, and all landmarks occur equally often."""
    Q, _, (Q_tilde, K_tilde) = apart(case, 12, 3)
    K, V = K_tilde[case.rng.permutation(np.repeat(np.arange(3), 4))], values(case, 12)
    Y = case(**changed(Q=Q, K=K, V=V, Q_tilde=Q_tilde, K_tilde=K_tilde))
    assert_close(Y, encoder.attention(Q, K, V), within=1e-11)


@law("nystrom-attention", "all-landmarks-are-exact")
def attention_all_landmarks_are_exact(case):
    """By their number, and with all queries and keys passed as landmarks."""
    Q, K, _ = apart(case, 5, 5)
    V = values(case, 5)
    expected = encoder.attention(Q, K, V)
    assert_close(case(**changed(Q=Q, K=K, V=V, landmarks=5)), expected, within=1e-11)
    given = changed(Q=Q, K=K, V=V, Q_tilde=Q, K_tilde=K)
    assert_close(case(**given), expected, within=1e-11)


@law("nystrom-attention", "iteration-becomes-exact")
def attention_iteration_becomes_exact(case):
    Q, K, _ = apart(case, 13, 3, worst=20.0)
    given = {"Q": Q, "K": K, "V": values(case, 13), "landmarks": 3}
    for start in ("paper", "exact", "original"):
        Y = case(**changed(**given, iterations=20, start=start) | {"pinv": "iterative"})
        assert_close(Y, case(**changed(**given)), within=1e-10)


@law("nystrom-attention", "rank")
def attention_rank(case):
    """With V = I the result is S^ itself."""
    needs(case.dtype == "float64", "a rank that rounding does not change")
    Q, K, _ = apart(case, 13, 3)
    S = case(**changed(Q=Q, K=K, V=np.eye(13), landmarks=3))
    sigma = np.linalg.svd(S, compute_uv=False)
    assert sigma[3] <= 1e-11 * sigma[0]


@law("nystrom-attention", "error-is-bounded")
def attention_error_is_bounded(case):
    """|S - S^| <= 1 + |Z|, in the norm of the largest row sum."""
    n = case["Q"].shape[-2]
    eye = np.broadcast_to(np.eye(n), (*case["Q"].shape[:-1], n))
    Q, K = case["Q"], case["K"]
    tilde = case.args.get("Q_tilde"), case.args.get("K_tilde")
    if tilde[0] is None:
        tilde = tuple(nystromformer.segment_means(X, case["landmarks"]) for X in (Q, K))
    A = encoder.attention_weights(*tilde)
    for pinv in ("exact", "iterative"):
        Z = (
            np.linalg.pinv(A, rcond=A.shape[-1] * EPS)
            if pinv == "exact"
            else nystromformer.iterative_pinv(A)
        )
        given = dict(zip(("Q_tilde", "K_tilde"), tilde, strict=True))
        error = encoder.attention_weights(Q, K) - case(
            **changed(Q=Q, K=K, V=eye, **given, pinv=pinv)
        )
        assert np.all(row_norm(error) <= (1.0 + row_norm(Z)) * (1.0 + 1e-9))


@law("nystrom-attention", "masked-tokens-do-not-matter")
def attention_masked_tokens_do_not_matter(case):
    """The results of masked tokens do not change either; masked values are finite."""
    if case.args.get("mask") is None:
        return
    noise = {name: case.numbers(case[name].shape) for name in "QKV"}
    other = {name: np.where(case["mask"][..., None], case[name], noise[name]) for name in "QKV"}
    assert np.array_equal(case(**other), case())


@special("nystrom-attention", "one-landmark")
def attention_one_landmark(case):
    """The output for every query is the attention of the mean query."""
    Q, K, V = case["Q"], case["K"], case["V"]
    for pinv in ("exact", "iterative"):
        Y = case(**changed(Q=Q, K=K, V=V, landmarks=1, pinv=pinv))
        of_mean = encoder.attention(np.mean(Q, axis=-2, keepdims=True), K, V)
        assert_close(Y, np.broadcast_to(of_mean, Y.shape))


@special("nystrom-attention", "zero-queries")
def attention_zero_queries(case):
    """The mean of all values, even with 0 iterations."""
    Q, K, V = np.zeros_like(case["Q"]), case["K"], case["V"]
    mean = np.broadcast_to(np.mean(V, axis=-2, keepdims=True), V.shape)
    for options in ({}, {"pinv": "iterative", "iterations": 0}, {"pinv": "iterative"}):
        Y = case(**changed(Q=Q, K=K, V=V, landmarks=2) | options)
        assert_close(Y, mean)


@special("nystrom-attention", "no-real-token")
def attention_no_real_token(case):
    all_masked = np.zeros(case["Q"].shape[-2], bool)
    for pinv in ("exact", "iterative"):
        Y = case(mask=all_masked, pinv=pinv)
        assert np.array_equal(Y, np.zeros_like(Y))


@special("nystrom-attention", "segment-without-a-real-token")
def attention_segment_without_a_real_token(case):
    """The same result as with a landmark of 0 passed by the caller."""
    needs(case.dtype == "float64", "landmarks that are not rounded")
    Q, K, (Q_tilde, K_tilde) = apart(case, 12, 3)
    mask, V = np.arange(12) < 8, values(case, 12)
    Q_tilde[2] = K_tilde[2] = 0.0
    by_number = case(**changed(Q=Q, K=K, V=V, landmarks=3, mask=mask))
    given = changed(Q=Q, K=K, V=V, Q_tilde=Q_tilde, K_tilde=K_tilde, mask=mask)
    assert np.array_equal(by_number, case(**given))
    without = case(**changed(Q=Q[:8], K=K[:8], V=V[:8], landmarks=2))
    assert difference(by_number[:8], without) > 1e-9


@special("nystrom-attention", "huge-logits")
def attention_huge_logits(case):
    """Scores of 1e4 and more give finite results, with either inverse, in two precisions."""
    needs(case.dtype != "float16", "scores of 1e5")
    for dtype in (np.float64, np.float32):
        given = {
            name: (case[name] * (1.0 if name == "V" else 300.0)).astype(dtype) for name in "QKV"
        }
        for pinv in ("exact", "iterative"):
            assert np.all(np.isfinite(case(**changed(**given, landmarks=2, pinv=pinv))))


@special("nystrom-attention", "flat-scores")
def attention_flat_scores(case):
    """The results differ from the mean of all values by about the square of the magnitude."""
    needs(case.dtype == "float64", "digits of scores of 1e-6")
    Q, K, _ = apart(case, 12, 3)
    V = values(case, 12)
    mean = np.broadcast_to(np.mean(V, axis=0), V.shape)
    for magnitude in (1e-2, 1e-4, 1e-6, 1e-8):
        for pinv in ("exact", "iterative"):
            flat = changed(Q=magnitude * Q, K=magnitude * K, V=V, landmarks=3, pinv=pinv)
            assert_close(case(**flat), mean, within=1e4 * magnitude**2 + 1e-12)


@special("nystrom-attention", "not-finite")
def attention_not_finite(case):
    Q, K, _ = apart(case, 12, 3)
    V = values(case, 12)
    broken = Q.copy()
    broken[1, 0] = np.nan
    for options in ({}, {"pinv": "iterative"}, {"pinv": "iterative", "start": "exact"}):
        given = changed(Q=Q, K=K, V=V, landmarks=3) | {"start": "paper"} | options
        batch = given | {"Q": np.stack([Q, broken, Q]), "K": np.stack([K] * 3)}
        Y = case(**batch | {"V": np.stack([V] * 3)})
        assert np.all(np.isnan(Y[1]))
        for element in (0, 2):
            assert_close(Y[element], case(**given))


# --- The convolution along the sequence -----------------------------------------------------------


@law("sequence-convolution", "delta")
def convolution_delta(case):
    """A single 1 becomes the reversed kernel, centred at it."""
    heads, k = case["kernel"].shape
    V = np.zeros((heads, 2 * k + 1, 1))
    V[:, k] = 1.0
    y = case(V=V)[..., 0]
    half = (k - 1) // 2
    assert np.array_equal(y[:, k - half : k + half + 1], case["kernel"][:, ::-1])
    assert np.count_nonzero(y) == np.count_nonzero(case["kernel"])


@law("sequence-convolution", "linear")
def convolution_linear(case):
    other = case.numbers(case["V"].shape)
    assert_close(case(V=2.0 * case["V"] - other), 2.0 * case() - case(V=other))


@law("sequence-convolution", "heads-apart")
def convolution_heads_apart(case):
    for h in range(case["kernel"].shape[0]):
        alone = case(V=case["V"][..., h : h + 1, :, :], kernel=case["kernel"][h : h + 1])
        assert_close(alone, case()[..., h : h + 1, :, :])


@law("sequence-convolution", "reversed")
def convolution_reversed(case):
    """Reversing the sequence and the kernel reverses the result."""
    reversed_result = case(V=case["V"][..., ::-1, :], kernel=case["kernel"][:, ::-1])
    assert_close(reversed_result, case()[..., ::-1, :])


@special("sequence-convolution", "one-weight")
def convolution_one_weight(case):
    needs(case.dtype == "float64", "products that are not rounded")
    kernel = case["kernel"][:, :1]
    assert np.array_equal(case(kernel=kernel), kernel[:, :, None] * case["V"])


@special("sequence-convolution", "longer-than-the-sequence")
def convolution_longer_than_the_sequence(case):
    V = np.ones((1, 2, 1))
    kernel = np.arange(1.0, 8.0)[None]
    assert_close(case(V=V, kernel=kernel), np.array([[[4.0 + 5.0], [3.0 + 4.0]]]))


# --- Heads ----------------------------------------------------------------------------------------


WEIGHTS = ("W_q", "W_k", "W_v", "W_c", "b_q", "b_k", "b_v", "kernel")


@law("nystrom-self-attention", "permute-heads")
def heads_permute(case):
    order = case.rng.permutation(case["W_q"].shape[0])
    moved = {name: case[name][order] for name in WEIGHTS if case.args.get(name) is not None}
    assert_close(case(**moved), case(), within=1e-11)


@law("nystrom-self-attention", "sum-of-heads")
def heads_sum(case):
    """Without output bias; the start value "original" would couple the heads."""
    start = "paper" if case.args.get("start") == "original" else case.args.get("start", "paper")
    total = 0.0
    for h in range(case["W_q"].shape[0]):
        one = {name: case[name][h : h + 1] for name in WEIGHTS if case.args.get(name) is not None}
        total = total + case(**one, b_c=None, start=start)
    assert_close(case(b_c=None, start=start), total, within=1e-11)


@law("nystrom-self-attention", "all-landmarks-are-exact")
def heads_all_landmarks_are_exact(case):
    """Without a kernel, and with every token a landmark: multi-head self-attention."""
    Q, _, _ = apart_tokens(case)
    weights = {name: case[name] for name in ("W_v", "W_c")}
    weights |= {name: case.args.get(name) for name in ("b_v", "b_c")}
    eye = np.broadcast_to(np.eye(Q.shape[-1]), (case["W_q"].shape[0], *[Q.shape[-1]] * 2))
    weights |= {"W_q": eye, "W_k": eye}
    y = case(x=Q, **weights, b_q=None, b_k=None, kernel=None, mask=None, landmarks=5, pinv="exact")
    assert_close(y, encoder.multi_head_self_attention(Q, **weights), within=1e-10)


def apart_tokens(case):
    """Draw five tokens that attend mostly to themselves."""
    d, far = case["x"].shape[-1], 1.0
    while True:
        x = far * case.numbers((5, d))
        if condition(x, x) < 1e3:
            return x, x, far
        far *= 1.05


@law("nystrom-self-attention", "masked-tokens-do-not-matter")
def heads_masked_tokens_do_not_matter(case):
    if case.args.get("mask") is None:
        return
    noise = case.numbers(case["x"].shape)
    other = np.where(case["mask"][..., None], case["x"], noise)
    real = np.broadcast_to(case["mask"], case["x"].shape[:-1])
    assert np.array_equal(case(x=other)[real], case()[real])


@special("nystrom-self-attention", "zero-kernel")
def heads_zero_kernel(case):
    kernel = np.zeros((case["W_q"].shape[0], 3))
    assert_close(case(kernel=kernel), case(kernel=None), within=1e-13)


@special("nystrom-self-attention", "no-real-token")
def heads_no_real_token(case):
    """The result is the output bias."""
    all_masked = np.zeros(case["x"].shape[-2], bool)
    b_c = np.zeros(case["x"].shape[-1]) if case.args.get("b_c") is None else case["b_c"]
    assert_close(case(mask=all_masked), np.broadcast_to(b_c, case["x"].shape), within=1e-13)
