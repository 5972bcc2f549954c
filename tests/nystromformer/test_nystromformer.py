"""What no law says of vtnp.nystromformer: exact values, refusals, counterexamples, accuracy."""

import re

import dask.array
import numpy as np
import pytest
from autograd import elementwise_grad

import vtnp
from tests.oracles import nystromformer as oracles
from tests.support.compare import assert_close, difference
from vtnp.claims.cases.nystromformer import condition

# --- What is refused, and numbers that are hard ---------------------------------------------------


X = np.ones((4, 3))
REFUSED = {
    "softmax-blocks: argument l: expected 1 to 4, the number of tokens, got 5": (
        lambda: vtnp.nystromformer.softmax_blocks(X, X, 5)
    ),
    "softmax-blocks: argument l: expected 1 to 4, the number of tokens, got 0": (
        lambda: vtnp.nystromformer.softmax_blocks(X, X, 0)
    ),
    "segment-means: argument l: expected 1 to 4, the number of tokens, got 5": (
        lambda: vtnp.nystromformer.nystrom_attention(X, X, X, landmarks=5)
    ),
    "segment-means: argument l: expected 1 to 4, the number of tokens, got -1": (
        lambda: vtnp.nystromformer.segment_means(X, -1)
    ),
    "segment-means: argument divisor: expected 'segment' or 'tokens', got 'real'": (
        lambda: vtnp.nystromformer.segment_means(X, 2, divisor="real")
    ),
    "nystrom-approximation: argument A: expected at least one row, got (0, 0)": (
        lambda: vtnp.nystromformer.nystrom_approximation(X[:0, :0], X[:0], X[:3, :0])
    ),
    "iterative-pinv: argument A: expected at least one row, got (0, 0)": (
        lambda: vtnp.nystromformer.iterative_pinv(X[:0, :0])
    ),
    "iterative-pinv: argument iterations: expected a number >= 0, got -1": (
        lambda: vtnp.nystromformer.iterative_pinv(X[:3], iterations=-1)
    ),
    "iterative-pinv: argument start: expected one of ['exact', 'original', 'paper'], got 'eye'": (
        lambda: vtnp.nystromformer.iterative_pinv(X[:3], start="eye")
    ),
    "nystrom-attention: argument pinv: expected 'exact' or 'iterative', got 'svd'": (
        lambda: vtnp.nystromformer.nystrom_attention(X, X, X, landmarks=2, pinv="svd")
    ),
    "nystrom-attention: argument landmarks: expected a number, or Q_tilde and K_tilde instead, "
    "got None": (lambda: vtnp.nystromformer.nystrom_attention(X, X, X, Q_tilde=X)),
    "nystrom-attention: argument landmarks: expected a number, or Q_tilde and K_tilde instead, "
    "got 2": (
        lambda: vtnp.nystromformer.nystrom_attention(X, X, X, landmarks=2, Q_tilde=X, K_tilde=X)
    ),
    "sequence-convolution: argument kernel: expected an odd number of weights, got 4": (
        lambda: vtnp.nystromformer.sequence_convolution(X[None], X.T[:1])
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_has_no_meaning_is_refused(message):
    with pytest.raises(vtnp.FormulaError, match=f"^{re.escape(message)}$"):
        REFUSED[message]()


def test_dask_has_the_iteration_and_says_that_it_lacks_the_exact_inverse():
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


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_exact_inverse_loses_no_more_than_the_condition_explains(dtype):
    """|Y - exact| <= 50 eps cond(A), over conditions from 1 to 1/sqrt(eps); exact by loops."""
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


def test_empty_batch_has_an_original_start():
    assert vtnp.nystromformer.iterative_pinv(np.ones((0, 3, 3)), start="original").shape == (
        0,
        3,
        3,
    )
