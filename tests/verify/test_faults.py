"""Faults that are on no page are found and named; what is right in other words is not called wrong.

The candidates are written after public bug reports, each in its own way.
"""

import math

import numpy as np
import pytest

from tests.support.peers import installed, needs
from vtnp.verify import check

torch = installed("torch")
FAST = {"dtypes": ("float64",), "gradients": False, "examples": 0, "library": "numpy"}


def softmax(x, axis=-1):
    shifted = np.exp(x - x.max(axis=axis, keepdims=True))
    return shifted / shifted.sum(axis=axis, keepdims=True)


def named(candidate, id, **options):
    """Return the title of the first finding of a wrong candidate."""
    report = check(candidate, id, **(FAST | options))
    assert not report.right
    assert report.findings, f"found wrong, but named nothing: {report.failures()[:2]}"
    return report.findings[0].title


# --- Arguments and options ------------------------------------------------------------------------


def bgr(video):
    flipped = video[..., ::-1]
    return flipped.reshape(*video.shape[:-3], -1)


def keys_for_values(Q, K, V):
    return softmax(Q @ np.swapaxes(K, -1, -2) / math.sqrt(Q.shape[-1])) @ K


def gain_and_offset_exchanged(x, gamma, beta, eps):
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + eps) * beta + gamma


def no_offset(x, gamma, beta, eps):
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + eps) * gamma


def no_mask(Q, K, mask=None):
    return softmax(Q @ np.swapaxes(K, -1, -2) / math.sqrt(Q.shape[-1]))


def one_form(x, approximate="none"):
    erf = np.vectorize(math.erf)
    return x * 0.5 * (1.0 + erf(x / math.sqrt(2.0)))


def queries_one_late(Q, K):
    late = np.roll(Q, 1, axis=-2)
    return softmax(late @ np.swapaxes(K, -1, -2) / math.sqrt(Q.shape[-1]))


def result_backwards(Q, K):
    return softmax(Q @ np.swapaxes(K, -1, -2) / math.sqrt(Q.shape[-1]))[..., ::-1]


def mean_for_sum(Q, K, V):
    alpha = softmax(Q @ np.swapaxes(K, -1, -2) / math.sqrt(Q.shape[-1]))
    return 0.75 * (alpha @ V)


def values_not_projected(Y_tilde, W_q, W_k, W_v):
    own = np.einsum("...tstd->...tsd", Y_tilde)
    scores = np.einsum("...k,...uk->...u", own @ W_q, Y_tilde @ W_k) / math.sqrt(W_k.shape[-1])
    return np.einsum("...u,...ud->...d", softmax(scores), Y_tilde)


@pytest.mark.parametrize(
    ("candidate", "id", "options", "title"),
    [
        (bgr, "frame-tokens", {}, "video reversed along axis C"),
        (keys_for_values, "attention", {"sizes": {"d_v": 3, "d_k": 3}}, "K read in place of V"),
        (gain_and_offset_exchanged, "layer-norm", {}, "gamma and beta exchanged"),
        (no_offset, "layer-norm", {}, "beta taken for zeros"),
        (no_mask, "attention-weights", {}, "ignores mask"),
        (one_form, "gelu", {}, "ignores approximate"),
        (queries_one_late, "attention-weights", {}, "Q rolled by one place along axis n"),
        (result_backwards, "attention-weights", {}, "K reversed along axis m"),
        (mean_for_sum, "attention", {}, "results are 0.75 times those of the formula"),
        (
            values_not_projected, "trajectory-attention", {"sizes": {"d": 5, "d_v": 5}},
            "W_v taken for the identity",
        ),
    ],
)  # fmt: skip
def test_a_fault_without_a_page_is_named(candidate, id, options, title):
    assert named(candidate, id, **options) == title


def test_faults_of_the_same_numbers_are_told_together():
    def uniform(x, gamma, beta, eps):
        return np.broadcast_to(beta, x.shape)

    report = check(uniform, "layer-norm", **FAST)
    first = report.findings[0]
    assert "gamma taken for zeros" in first.equivalents
    assert first.title not in first.equivalents


# --- Masks, axes and chance -----------------------------------------------------------------------


def test_nan_in_a_fully_masked_row():
    def attend(Q, K, V, mask=None):
        scores = Q @ np.swapaxes(K, -1, -2) / math.sqrt(Q.shape[-1])
        if mask is not None:
            scores = np.where(mask, scores, -np.inf)
        return softmax(scores) @ V

    assert named(attend, "attention") == "NaN for a query that may attend to nothing"


def test_an_axis_counted_from_the_front():
    def attend(Q, K):
        return softmax(Q @ np.swapaxes(K, -1, -2) / math.sqrt(K.shape[-1]), axis=1)

    assert named(attend, "attention-weights") == "right only for 0 batch axes"


def test_what_few_trials_have_in_common_is_no_trait():
    """One trial among many differs from the others by something, whatever is wrong with it."""
    calls = []

    def rarely(x):
        calls.append(x)
        return softmax(x) + (x.shape == (2, 3, 5) and len(calls) > 30)

    found = [each.title for each in check(rarely, "softmax", **FAST).findings]
    assert not any(title.startswith("right only") for title in found)


def test_randomness_is_the_only_finding():
    rng = np.random.default_rng(0)

    def dropped(Q, K, V):
        alpha = softmax(Q @ np.swapaxes(K, -1, -2) / math.sqrt(Q.shape[-1]))
        return (alpha * (rng.random(alpha.shape) > 0.3) / 0.7) @ V

    report = check(dropped, "attention", **FAST)
    assert [each.title for each in report.findings] == [
        "random: two calls with the same input differ"
    ]
    assert "dropout" in report.findings[0].fix
    assert {line.kind for line in report.lines} == {"value", "contract"}


# --- Gradients ------------------------------------------------------------------------------------


@needs(torch, "vtnp[peers]")
def test_statistics_that_are_detached():
    def normalised(x, gamma, beta, eps):
        mean = x.mean(-1, keepdim=True).detach()
        variance = x.var(-1, keepdim=True, unbiased=False).detach()
        return gamma * (x - mean) * (variance + eps).rsqrt() + beta

    options = {"gradients": True, "library": "torch"}
    assert named(normalised, "layer-norm", **options) == "detached-statistics (layer-norm)"


@needs(torch, "vtnp[peers]")
def test_a_backward_pass_with_the_diagonal_alone():
    class Softmax(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x.softmax(-1))
            return x.softmax(-1)

        @staticmethod
        def backward(ctx, g):
            (y,) = ctx.saved_tensors
            return g * (y - y * y)

    def weights(Q, K):
        return Softmax.apply(Q @ K.mT / math.sqrt(Q.shape[-1]))

    options = {"gradients": True, "library": "torch"}
    assert named(Softmax.apply, "softmax", **options) == "diagonal-gradient (softmax)"
    assert named(weights, "attention-weights", **options) == "diagonal-gradient (softmax)"


@needs(torch, "vtnp[peers]")
def test_an_argument_that_is_detached():
    def attend(Q, K, V):
        return (Q @ K.detach().mT / math.sqrt(Q.shape[-1])).softmax(-1) @ V

    options = {"gradients": True, "library": "torch"}
    assert named(attend, "attention", **options) == "gradient stopped at argument K"


# --- Right in other words -------------------------------------------------------------------------


@needs(torch, "vtnp[peers]")
def test_an_inverse_that_is_formed_first():
    """Its numbers are rounded, and the laws leave the sizes that the candidate has fixed alone."""

    def nystrom(Q, K, V):
        length, scale = Q.shape[-2] // 3, Q.shape[-1] ** -0.5
        Q_tilde, K_tilde = (x.unflatten(-2, (3, length)).mean(-2) for x in (Q, K))
        F, A, B = (
            (q @ k.mT * scale).softmax(-1)
            for q, k in ((Q, K_tilde), (Q_tilde, K_tilde), (Q_tilde, K))
        )
        return F @ torch.linalg.pinv(A) @ (B @ V)

    report = check(
        nystrom, "nystrom-attention", library="torch", sizes={"n": 6}, options={"landmarks": 3}
    )
    assert report.right, report.failures()[:2]
    assert any(line.kind == "law" for line in report.lines)
