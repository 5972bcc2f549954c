"""What the laws do not cover: error messages, Dask, half precision, gradients and accuracy."""

import re

import dask.array
import numpy as np
import pytest
from autograd import elementwise_grad, make_jvp

import vtnp
from tests.exact import nystromformer as derived
from tests.exact.encoder import attention_weights
from tests.exact.numbers import exact, mp
from tests.oracles import nystromformer as oracles
from tests.support import readings
from tests.support.compare import assert_close, difference
from tests.support.peers import installed, needs
from tests.support.torch_sides import assert_same_side, autograd_side, torch_side
from vtnp.claims.cases.nystromformer import condition

torch = installed("torch")

X = np.ones((4, 3))
PAGES = "spec/nystromformer/"
REFUSED = {
    f"softmax-blocks ({PAGES}softmax-blocks.md): expected 1 <= l <= n, got l = 5, n = 4": (
        lambda: vtnp.nystromformer.softmax_blocks(X, X, 5)
    ),
    f"softmax-blocks ({PAGES}softmax-blocks.md): expected 1 <= l <= n, got l = 0, n = 4": (
        lambda: vtnp.nystromformer.softmax_blocks(X, X, 0)
    ),
    f"segment-means ({PAGES}segment-means.md): expected 1 <= l <= n, got l = 5, n = 4; "
    f"called by nystrom-attention ({PAGES}nystrom-attention.md)": (
        lambda: vtnp.nystromformer.nystrom_attention(X, X, X, landmarks=5)
    ),
    f"segment-means ({PAGES}segment-means.md): expected 1 <= l <= n, got l = -1, n = 4": (
        lambda: vtnp.nystromformer.segment_means(X, -1)
    ),
    f"segment-means ({PAGES}segment-means.md): argument divisor: "
    "expected one of 'segment', 'tokens', got 'real'": (
        lambda: vtnp.nystromformer.segment_means(X, 2, divisor="real")
    ),
    f"pseudo-inverse ({PAGES}pseudo-inverse.md): expected l >= 1, got l = 0": (
        lambda: vtnp.nystromformer.pseudo_inverse(X[:0, :0])
    ),
    f"nystrom-approximation ({PAGES}nystrom-approximation.md): expected l >= 1, got l = 0": (
        lambda: vtnp.nystromformer.nystrom_approximation(X[:0, :0], X[:0], X[:3, :0])
    ),
    f"iterative-pinv ({PAGES}iterative-pinv.md): expected l >= 1, got l = 0": (
        lambda: vtnp.nystromformer.iterative_pinv(X[:0, :0])
    ),
    f"iterative-pinv ({PAGES}iterative-pinv.md): expected iterations >= 0, got iterations = -1": (
        lambda: vtnp.nystromformer.iterative_pinv(X[:3], iterations=-1)
    ),
    f"iterative-pinv ({PAGES}iterative-pinv.md): argument start: "
    "expected one of 'paper', 'exact', 'original', got 'eye'": (
        lambda: vtnp.nystromformer.iterative_pinv(X[:3], start="eye")
    ),
    f"nystrom-attention ({PAGES}nystrom-attention.md): argument pinv: "
    "expected one of 'exact', 'iterative', got 'svd'": (
        lambda: vtnp.nystromformer.nystrom_attention(X, X, X, landmarks=2, pinv="svd")
    ),
    f"nystrom-attention ({PAGES}nystrom-attention.md): expected (landmarks is None) != "
    "(Q_tilde is None), got Q_tilde = None, landmarks = None": (
        lambda: vtnp.nystromformer.nystrom_attention(X, X, X)
    ),
    f"nystrom-attention ({PAGES}nystrom-attention.md): expected (landmarks is None) != "
    "(Q_tilde is None), got Q_tilde = an array (4, 3), landmarks = 2": (
        lambda: vtnp.nystromformer.nystrom_attention(X, X, X, landmarks=2, Q_tilde=X, K_tilde=X)
    ),
    f"nystrom-attention ({PAGES}nystrom-attention.md): expected (Q_tilde is None) == "
    "(K_tilde is None), got K_tilde = None, Q_tilde = an array (4, 3)": (
        lambda: vtnp.nystromformer.nystrom_attention(X, X, X, Q_tilde=X)
    ),
    f"sequence-convolution ({PAGES}sequence-convolution.md): expected k % 2 == 1, got k = 4": (
        lambda: vtnp.nystromformer.sequence_convolution(X[None], X.T[:1])
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_arguments_without_meaning_are_refused(message):
    with pytest.raises(vtnp.FormulaError, match=f"^{re.escape(message)}$"):
        REFUSED[message]()


def test_dask_has_the_iterative_inverse_and_refuses_the_exact_one():
    rng = np.random.default_rng(0)
    Q, K, V = rng.standard_normal((3, 8, 3))
    lazy = [dask.array.from_array(x, chunks=(4, 3)) for x in (Q, K, V)]
    given = {"landmarks": 2, "pinv": "iterative"}
    Y = vtnp.nystromformer.nystrom_attention(*lazy, **given)
    assert isinstance(Y, dask.array.Array)
    assert_close(Y.compute(), vtnp.nystromformer.nystrom_attention(Q, K, V, **given))
    gradient = elementwise_grad(
        lambda Q: vtnp.nystromformer.nystrom_attention(Q, *lazy[1:], **given)
    )(lazy[0])
    expected = elementwise_grad(lambda Q: vtnp.nystromformer.nystrom_attention(Q, K, V, **given))(Q)
    assert isinstance(gradient, dask.array.Array)
    assert_close(gradient.compute(), expected)
    with pytest.raises(vtnp.FormulaError, match=r"decomposes batches of matrices, got '.*dask"):
        vtnp.nystromformer.nystrom_attention(*lazy, landmarks=2)


@pytest.mark.parametrize(
    ("library", "dtype"),
    [(name, np.float32) for name in readings.NAMES if name != "dask"]
    + [(name, np.float16) for name in readings.NAMES if name not in ("dask", "strict")],
)
def test_matrices_are_inverted_in_double_precision(library, dtype):
    """Whatever the library does in the precision of the matrix; condition numbers up to 1e3."""
    A = np.random.default_rng(0).standard_normal((7, 3, 3))
    A[:, 0] = A[:, 1] + (1e-1 if dtype == np.float16 else 1e-3) * A[:, 0]
    A, reading = A.astype(dtype), readings.reading(library)
    wide = vtnp.nystromformer.pseudo_inverse(A.astype(np.float64))
    Z = vtnp.nystromformer.pseudo_inverse(reading.asarray(A))
    assert np.max(np.abs(reading.to_numpy(Z) - wide) / np.abs(wide)) <= np.finfo(dtype).eps


def test_singular_values_up_to_the_threshold_count_as_0():
    """l eps of the largest, in every precision."""
    for dtype in (np.float64, np.float32, np.float16):
        threshold = 2 * np.finfo(dtype).eps
        for factor, inverse in ((0.5, 0.0), (2.0, 1.0 / (2.0 * threshold))):
            A = np.diag(np.array([1.0, factor * threshold], dtype))
            Z = vtnp.nystromformer.pseudo_inverse(A)
            assert_close(Z, np.diag(np.array([1.0, inverse], dtype)), within=1e-6)


def test_gradient_of_the_pseudo_inverse_along_matrices_of_the_same_rank():
    """It agrees with central differences along a curve of singular matrices."""
    X, Y, dX, dY = np.random.default_rng(2).standard_normal((4, 5, 3))

    def curve(h):
        return (X + h * dX) @ (Y + h * dY).T

    def slope(f, h=1e-4):
        return (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h)

    inverse = vtnp.nystromformer.pseudo_inverse
    tangent = make_jvp(inverse)(curve(0.0))(dX @ Y.T + X @ dY.T)[1]
    assert_close(tangent, slope(lambda h: inverse(curve(h))), within=1e-9)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_error_of_the_exact_inverse_is_bounded_by_the_condition_number(dtype):
    """|Y - exact| <= 50 eps cond(A), for condition numbers up to 1/sqrt(eps); exact by loops."""
    rng, eps = np.random.default_rng(1), np.finfo(dtype).eps
    for far in (0.3, 0.6, 1.0, 2.0, 4.0):
        for _ in range(8):
            Q, K, V = (
                far * rng.standard_normal((12, 3)),
                far * rng.standard_normal((12, 3)),
                rng.standard_normal((12, 2)),
            )
            Q, K, V = (x.astype(dtype) for x in (Q, K, V))
            tilde = [vtnp.nystromformer.segment_means(x.astype(np.float64), 3) for x in (Q, K)]
            worst = condition(*tilde)
            if worst**2 * eps > 1.0:
                continue
            wide = [x.astype(np.longdouble) for x in (Q, K, V)]
            exact = oracles.nystrom_attention(*wide, landmarks=3).astype(np.float64)
            ours = vtnp.nystromformer.nystrom_attention(Q, K, V, landmarks=3)
            assert difference(ours, exact) <= 50 * eps * worst


def assert_error_is_bounded(sizes, dtype, seed):
    """|Y - exact| <= 4 l eps |(F A^+)_i| |(A^+ B V)_c|; exact in 50 digits, nothing cut off."""
    n, l, d = sizes
    for magnitude in (10.0, 1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-6, 1e-8):
        Q, K, V = np.random.default_rng(seed).standard_normal((3, n, d))
        Q, K, V = (x.astype(dtype) for x in (magnitude * Q, magnitude * K, V))
        Y = vtnp.nystromformer.nystrom_attention(Q, K, V, landmarks=l)
        Q, K, V = map(exact, (Q, K, V))
        tilde = [derived.segment_means(X, l) for X in (Q, K)]
        A, F = attention_weights(*tilde), attention_weights(Q, tilde[1])
        X = derived.pseudo_inverse(A, times=attention_weights(tilde[0], K) @ V)
        FA = derived.pseudo_inverse(A.T, times=F.T).T
        rows, columns = (np.linalg.norm(x.astype(float), axis=i) for x, i in ((FA, 1), (X, 0)))
        error = np.abs(Y - F @ X).astype(float)
        assert np.all(error <= 4 * l * np.finfo(dtype).eps * np.outer(rows, columns)), magnitude


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("sizes", [(12, 3, 8), (16, 4, 3)])
def test_error_of_the_exact_inverse_is_bounded_whatever_the_condition_number(sizes, dtype):
    assert_error_is_bounded(sizes, dtype, seed=0)


@pytest.mark.deep
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("sizes", [(12, 3, 8), (16, 4, 3), (18, 6, 2), (64, 8, 16)])
def test_error_of_the_exact_inverse_is_bounded_in_more_cases(sizes, dtype):
    for seed in range(1, 5):
        assert_error_is_bounded(sizes, dtype, seed)


@pytest.mark.parametrize(
    ("magnitude", "dtype", "within"),
    [
        (1e-2, np.float64, 1e-14),
        (1e-6, np.float64, 1e-14),
        (1e-2, np.float32, 1e-4),  # singular values up to 1e-6 count as 0
        (1e-6, np.float32, 1e-7),
    ],
)
def test_flat_scores_of_the_page(magnitude, dtype, within):
    """64 tokens of width 16 and 8 landmarks."""
    Q, K, V = np.random.default_rng(0).standard_normal((3, 64, 16))
    Q, K, V = (x.astype(dtype) for x in (magnitude * Q, magnitude * K, V))
    expected = derived.nystrom_attention(*map(exact, (Q, K, V)), landmarks=8)
    Y = vtnp.nystromformer.nystrom_attention(Q, K, V, landmarks=8)
    assert np.max(np.abs(Y - expected.astype(float))) <= within


@pytest.mark.parametrize(("magnitude", "within"), [(1.0, 1e-11), (1e-2, 1e-9), (1e-4, 1e-5)])
def test_gradient_of_flat_scores(magnitude, within):
    """Along one direction of the queries, against differences in 50 digits."""
    Q, K, V, direction, cotangent = np.random.default_rng(0).standard_normal((5, 16, 4))
    Q, K, direction = (magnitude * x for x in (Q, K, direction))

    def loss(Q, attend=vtnp.nystromformer.nystrom_attention, K=K, V=V):
        return (attend(Q, K, V, landmarks=4) * cotangent).sum()

    def along(h):
        moved = exact(Q) + h * exact(direction)
        return loss(moved, derived.nystrom_attention, exact(K), exact(V))

    h = mp.mpf("1e-12")
    slope = float((along(h) - along(-h)) / (2 * h))
    found = np.sum(elementwise_grad(loss)(Q) * direction)
    assert abs(found - slope) <= within * abs(slope)


@needs(torch, "vtnp[peers]")
@pytest.mark.parametrize("name", ["regular", "equal singular values", "singular"])
def test_gradients_of_torch_itself(name):
    """They do not pass through singular vectors, whose derivatives may be infinite."""
    A, times, cotangent = np.random.default_rng(0).standard_normal((3, 2, 4, 4))
    A = {
        "regular": A,
        "equal singular values": np.stack([np.eye(4), 2.0 * np.eye(4)[::-1]]),
        "singular": np.concatenate([A[:, :3], A[:, :1]], axis=1),
    }[name]

    def inverse(x):
        return vtnp.nystromformer.pseudo_inverse(**x)

    inputs = {"A": A, "times": times}
    ours, theirs = (side(inverse, inputs, cotangent) for side in (autograd_side, torch_side))
    assert_same_side(ours, theirs)


SCALES = {
    np.float64: (1e200, 1e-200, 1e300, 1e-300),
    np.float32: (1e30, 1e-30),
    np.float16: (100.0, 1e4, 1e-2, 1e-3),
}


@pytest.mark.parametrize("dtype", SCALES)
def test_iteration_has_the_scale_of_its_matrix_over_the_whole_range(dtype):
    """Within the rounding of A itself; squares of these numbers overflow or vanish."""
    A = np.random.default_rng(0).uniform(-1.0, 1.0, (3, 3)) + 2.0 * np.eye(3)
    for scale in SCALES[dtype]:
        scaled = (scale * A).astype(dtype)
        expected = vtnp.nystromformer.iterative_pinv(scaled.astype(np.float64) / scale)
        Z = vtnp.nystromformer.iterative_pinv(scaled).astype(np.float64) * scale
        assert_close(Z, expected, within=20 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", SCALES)
def test_gradient_of_the_iteration_has_it_too(dtype):
    A = np.random.default_rng(0).uniform(-1.0, 1.0, (3, 3)) + 2.0 * np.eye(3)

    def gradient(A, scale):
        return elementwise_grad(lambda A: vtnp.nystromformer.iterative_pinv(A) * scale)(A) * scale

    for scale in SCALES[dtype]:
        scaled = (scale * A).astype(dtype)
        found = gradient(scaled, dtype(scale)).astype(np.float64)
        expected = gradient(scaled.astype(np.float64) / scale, 1.0)
        assert_close(found, expected, within=50 * np.finfo(dtype).eps)


def test_an_empty_batch_has_an_original_start_value():
    assert vtnp.nystromformer.iterative_pinv(np.ones((0, 3, 3)), start="original").shape == (
        0,
        3,
        3,
    )


def test_the_scale_of_a_matrix_is_that_of_its_largest_magnitude():
    """Of negative numbers as well: without it their products would overflow."""
    A = np.diag([2.0, 3.0])
    exact = np.diag([0.5, 1.0 / 3.0])
    for scale in (1.0, -1.0, 1e200, -1e200):
        found = vtnp.nystromformer.iterative_pinv(scale * A, iterations=12)
        np.testing.assert_allclose(scale * found, exact, atol=1e-12)
