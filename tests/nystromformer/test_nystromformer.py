"""What the laws do not cover: error messages, Dask, half precision, gradients and accuracy."""

import re

import dask.array
import numpy as np
import pytest
from autograd import elementwise_grad, make_jvp

import vtnp
from tests.oracles import nystromformer as oracles
from tests.support.compare import assert_close, difference
from vtnp.claims.cases.nystromformer import condition

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
    with pytest.raises(vtnp.FormulaError, match=r"a library with linalg\.pinv, got '.*dask"):
        vtnp.nystromformer.nystrom_attention(*lazy, landmarks=2)


def test_half_precision_is_inverted_in_single_precision():
    A = np.random.default_rng(0).standard_normal((2, 3, 3)).astype(np.float16)
    Z = vtnp.nystromformer.pseudo_inverse(A)
    assert Z.dtype == np.float16
    single = vtnp.nystromformer.pseudo_inverse(A.astype(np.float32))
    assert np.array_equal(Z, single.astype(np.float16))


def test_singular_values_up_to_the_threshold_count_as_0():
    """l eps of the largest, in either precision."""
    for dtype in (np.float64, np.float32):
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


def test_an_empty_batch_has_an_original_start_value():
    assert vtnp.nystromformer.iterative_pinv(np.ones((0, 3, 3)), start="original").shape == (
        0,
        3,
        3,
    )
