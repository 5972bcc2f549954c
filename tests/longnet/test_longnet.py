"""What no law says of vtnp.longnet: exact values, refusals, counterexamples, accuracy."""

import math

import numpy as np
import pytest

import vtnp
from tests.support.compare import assert_close
from tests.support.peers import installed, needs
from vtnp.claims.longnet import LIKE
from vtnp.longnet import dilated_attention, dilated_branch, head_offsets, mix_branches

jax = installed("jax")


PUBLISHED = {"segments": [2048, 4096, 8192, 16384, 32768], "dilations": [1, 2, 4, 6, 12]}


# --- What does not hold, and what is refused ------------------------------------------------------


def reading_matrix(n, seed=0, heads=1, **options):
    rng = np.random.default_rng(seed)
    Q, K = rng.standard_normal((2, heads, n, 4))
    return dilated_attention(Q, K, np.broadcast_to(np.eye(n), (heads, n, n)), **options)


def test_a_local_branch_beside_a_dense_one_is_not_dense():
    Q, V = np.zeros((1, 12, 4)), np.eye(12)[None]
    A = dilated_attention(Q, Q, V, segments=[4, 12], dilations=[1, 1])
    assert_close(A[0, 0], np.array([2] * 4 + [1] * 8) / 16)  # dense: 1/12 each


@pytest.mark.parametrize(
    "options",
    [
        {"n": 16, "segments": [4, 16], "dilations": [1, 8]},  # a dilation above the first segment
        {"n": 13, "segments": [4, 13], "dilations": [1, 3], "heads": 3},  # a short last segment
        {"n": 12, "segments": [4, 12], "dilations": [1, 3], "causal": True},
    ],
)
def test_three_layers_do_not_connect(options):
    reads = (reading_matrix(**options) > 0).astype(int)
    wanted = np.tril(np.ones_like(reads)) if "causal" in options else np.ones_like(reads)
    assert not np.all((reads @ reads @ reads > 0)[wanted > 0])


def active_branches(offsets):
    """Return how many (head, position) pairs have 1, 2, ... branches; 12 heads, 96 positions."""
    active = sum(
        (np.arange(96) % r)[None] == head_offsets(12, r, offsets=offsets, like=LIKE)[:, None]
        for r in PUBLISHED["dilations"]
    )
    return np.bincount(active.ravel(), minlength=6)[1:].tolist()


def test_the_two_rules_of_offsets_are_no_permutation_of_each_other():
    assert active_branches("paper") == [576, 192, 288, 0, 96]
    assert active_branches("torchscale") == [352, 496, 272, 16, 16]


def test_torchscale_leaves_an_offset_without_heads():
    counts = np.bincount(head_offsets(12, 5, offsets="torchscale", like=LIKE), minlength=5)
    assert counts.tolist() == [3, 3, 3, 3, 0]


def test_the_published_schedule_is_above_the_geometric_bound():
    pairs = zip(PUBLISHED["segments"], PUBLISHED["dilations"], strict=True)
    per_token = sum(w / r**2 for w, r in pairs)
    assert per_token == pytest.approx(4266.67, abs=0.01)
    assert per_token > 2 * PUBLISHED["segments"][0]
    # Ragged rows, averaged over 12 heads, come to the same.
    n, total = 32768, 0
    for w, r in zip(PUBLISHED["segments"], PUBLISHED["dilations"], strict=True):
        total += n // w * sum(len(range(h % r, w, r)) ** 2 for h in range(12))
    assert total / 12 / n == pytest.approx(4266.667, abs=0.001)


def test_branches_by_hand_are_the_whole():
    rng = np.random.default_rng(1)
    Q, K, V = rng.standard_normal((3, 2, 3, 11, 5))
    branches = [dilated_branch(Q, K, V, segment=w, dilation=r) for w, r in ((4, 1), (11, 3))]
    assert_close(
        mix_branches(*zip(*branches, strict=True)),
        dilated_attention(Q, K, V, segments=(4, 11), dilations=(1, 3)),
    )


def program(jaxpr):
    """Return how many operations a program of JAX has, and the size of its largest array."""
    sizes = [math.prod(var.aval.shape) for eqn in jaxpr.eqns for var in eqn.outvars]
    inner = [
        program(x.jaxpr) for eqn in jaxpr.eqns for x in eqn.params.values() if hasattr(x, "jaxpr")
    ]
    return len(sizes) + sum(n for n, _ in inner), max([*sizes, *(size for _, size in inner)])


@needs(jax, "vtnp[jax]")
@pytest.mark.parametrize("causal", [False, True])
def test_operations_do_not_grow_with_the_sequence_and_arrays_only_linearly(causal):
    def of_length(n):
        x = jax.numpy.zeros((3, n, 2))
        options = {"segments": [4, 16, 64], "dilations": [1, 2, 4], "causal": causal}
        made = jax.make_jaxpr(lambda x: dilated_attention(x, x, x, **options))(x)
        return program(made.jaxpr)

    (operations, largest), (same, twice) = of_length(1024), of_length(2048)
    assert operations == same
    assert twice == 2 * largest
    assert largest <= 1024 * 3 * 64 // 4  # the scores of the longest branch: n w / r**2 a head


def arguments(n=6, heads=2, d=3):
    return {name: np.ones((heads, n, d)) for name in "QKV"}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"segments": [4, 8], "dilations": [1]},
            "dilations: expected one for each of the 2 segments",
        ),
        ({"segments": [], "dilations": []}, "segments: expected at least one branch"),
        (
            {"segments": [2], "dilations": [3]},
            "segment: expected a number >= the dilation, 3, got 2",
        ),
        ({"segments": [0], "dilations": [0]}, "dilation: expected a number >= 1, got 0"),
        (
            {"segments": [-4], "dilations": [1]},
            "segment: expected a number >= the dilation, 1, got -4",
        ),
        ({"offsets": "fkodom"}, "offsets: expected one of ['paper', 'torchscale'], got 'fkodom'"),
        (arguments(n=0), "n: expected at least one token, got 0"),
        (arguments(d=0), "K: expected a width of at least 1"),
        (arguments(heads=0), "heads: expected a number >= 1, got 0"),
    ],
)
def test_what_has_no_meaning_is_refused(changed, message):
    with pytest.raises(vtnp.FormulaError) as error:
        dilated_attention(**{**arguments(), "segments": [4], "dilations": [1], **changed})
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("outputs", "log_denominators", "message"),
    [
        ([], [], "outputs: expected one array or more"),
        ([np.ones((3, 2))], [], "log_denominators: expected shapes [(3,)], got []"),
        ([np.ones((3, 2))], [np.ones((3, 2))], "got [(3, 2)]"),
        (
            [np.ones((3, 2)), np.ones((4, 2))],
            [np.ones(3)] * 2,
            "all of one shape, got [(3, 2), (4, 2)]",
        ),
    ],
)
def test_branches_that_do_not_fit_are_refused(outputs, log_denominators, message):
    with pytest.raises(vtnp.FormulaError) as error:
        mix_branches(outputs, log_denominators)
    assert message in str(error.value)
