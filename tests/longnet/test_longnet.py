"""What the laws do not cover: counterexamples, published branches, operations, error messages."""

import math

import numpy as np
import pytest

import vtnp
from tests.support.compare import assert_close
from tests.support.peers import installed, needs
from vtnp.claims.longnet import LIKE
from vtnp.longnet import (
    Branch,
    dilated_attention,
    dilated_branch,
    head_offsets,
    mix_branches,
    sparse_to_dense,
)

jax = installed("jax")


PUBLISHED = [(2048, 1), (4096, 2), (8192, 4), (16384, 6), (32768, 12)]


# --- Counterexamples ------------------------------------------------------------------------------


def weights(n, seed=0, heads=1, **options):
    """Return the weight of each key for each query."""
    rng = np.random.default_rng(seed)
    Q, K = rng.standard_normal((2, heads, n, 4))
    return dilated_attention(Q, K, np.broadcast_to(np.eye(n), (heads, n, n)), **options)


def test_a_local_branch_beside_a_dense_one_is_not_dense():
    Q, V = np.zeros((1, 12, 4)), np.eye(12)[None]
    A = dilated_attention(Q, Q, V, branches=[(4, 1), (12, 1)])
    assert_close(A[0, 0], np.array([2] * 4 + [1] * 8) / 16)  # dense: 1/12 each


@pytest.mark.parametrize(
    "options",
    [
        {"n": 16, "branches": [(4, 1), (16, 8)]},  # a dilation greater than the first segment
        {"n": 13, "branches": [(4, 1), (13, 3)], "heads": 3},  # a short last segment
        {"n": 12, "branches": [(4, 1), (12, 3)], "causal": True},
    ],
)
def test_three_layers_do_not_connect(options):
    attends = (weights(**options) > 0).astype(int)
    pairs = np.tril(np.ones_like(attends)) if "causal" in options else np.ones_like(attends)
    assert not np.all((attends @ attends @ attends > 0)[pairs > 0])


def active_branches(offsets):
    """Count the pairs of 12 heads and 96 positions that 1, 2, ... branches select."""
    active = sum(
        (np.arange(96) % r)[None] == head_offsets(12, r, offsets=offsets, like=LIKE)[:, None]
        for _, r in PUBLISHED
    )
    return np.bincount(active.ravel(), minlength=6)[1:].tolist()


def test_the_two_rules_of_offsets_are_no_permutation_of_each_other():
    assert active_branches("paper") == [576, 192, 288, 0, 96]
    assert active_branches("torchscale") == [352, 496, 272, 16, 16]


def test_torchscale_leaves_an_offset_without_heads():
    counts = np.bincount(head_offsets(12, 5, offsets="torchscale", like=LIKE), minlength=5)
    assert counts.tolist() == [3, 3, 3, 3, 0]


def test_the_published_branches_are_above_the_geometric_bound():
    per_token = sum(w / r**2 for w, r in PUBLISHED)
    assert per_token == pytest.approx(4266.67, abs=0.01)
    assert per_token > 2 * PUBLISHED[0][0]
    # The mean of 12 heads is the same, although their numbers of rows differ.
    n, total = 32768, 0
    for w, r in PUBLISHED:
        total += n // w * sum(len(range(h % r, w, r)) ** 2 for h in range(12))
    assert total / 12 / n == pytest.approx(4266.667, abs=0.001)


def test_dilated_attention_is_the_mixture_of_its_branches():
    rng = np.random.default_rng(1)
    Q, K, V = rng.standard_normal((3, 2, 3, 11, 5))
    branches = [Branch(4, 1), Branch(11, 3)]
    each = [dilated_branch(Q, K, V, branch=branch) for branch in branches]
    mixture = mix_branches(*zip(*each, strict=True))
    assert_close(mixture, dilated_attention(Q, K, V, branches=branches))
    assert_close(mixture, dilated_attention(Q, K, V, branches=[(4, 1), [11, 3]]))


def program(jaxpr):
    """Return the number of operations of a JAX program, and the size of its largest array."""
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
        options = {"branches": [(4, 1), (16, 2), (64, 4)], "causal": causal}
        made = jax.make_jaxpr(lambda x: dilated_attention(x, x, x, **options))(x)
        return program(made.jaxpr)

    (operations, largest), (same, twice) = of_length(1024), of_length(2048)
    assert operations == same
    assert twice == 2 * largest
    assert largest <= 1024 * 3 * 64 // 4  # the scores of the longest branch: n w / r**2 a head


# --- Error messages -------------------------------------------------------------------------------


def arguments(n=6, heads=2, d=3):
    return {name: np.ones((heads, n, d)) for name in "QKV"}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"branches": []},
            "dilated-attention.md): expected len(branches) >= 1, got branches = ()",
        ),
        (
            {"branches": [4]},
            "argument branches: expected a sequence, each Branch(segment, dilation), got [4]",
        ),
        (
            {"branches": [(2, 3)]},
            "expected 1 <= branch.dilation <= branch.segment, got branch = Branch(segment=2, di",
        ),
        (
            {"branches": [(2, 3)]},
            "dilation=3); called by dilated-attention (spec/longnet/dilated-attention.md)",
        ),
        ({"branches": [(0, 0)]}, "got branch = Branch(segment=0, dilation=0)"),
        ({"branches": [(-4, 1)]}, "got branch = Branch(segment=-4, dilation=1)"),
        (
            {"offsets": "fkodom"},
            "argument offsets: expected one of 'paper', 'torchscale', got 'fkodom'",
        ),
        (arguments(n=0), "expected n >= 1, got n = 0"),
        (arguments(d=0), "expected d_k >= 1, got d_k = 0"),
        (arguments(heads=0), "expected heads >= 1, got heads = 0"),
    ],
)
def test_arguments_without_meaning_are_refused(changed, message):
    with pytest.raises(vtnp.FormulaError) as error:
        dilated_attention(**{**arguments(), "branches": [(4, 1)], **changed})
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 3, 2, 5), "expected segments == -(-n // min(branch.segment, n)), got "),
        ((2, 2, 3, 5), "expected rows == -(-min(branch.segment, n) // branch.dilation), got "),
    ],
)
def test_other_numbers_of_segments_or_rows_are_refused(shape, message):
    with pytest.raises(vtnp.FormulaError) as error:
        sparse_to_dense(np.ones(shape), 7, branch=Branch(4, 2))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("outputs", "log_denominators", "message"),
    [
        ([], [], "expected 1 <= len(outputs) == len(log_denominators), got"),
        ([np.ones((3, 2))], [], "expected 1 <= len(outputs) == len(log_denominators), got"),
        (
            [np.ones((3, 2))],
            [np.ones((3, 2))],
            'log_denominators[0]: expected axes "*b n", got shape (3, 2): axis n has size 2, exp',
        ),
        (
            [np.ones((3, 2)), np.ones((4, 2))],
            [np.ones(3)] * 2,
            'outputs[1]: expected axes "*b n d_v", got shape (4, 2): axis n has size 4, expected 3',
        ),
    ],
)
def test_branches_that_do_not_fit_are_refused(outputs, log_denominators, message):
    with pytest.raises(vtnp.FormulaError) as error:
        mix_branches(outputs, log_denominators)
    assert message in str(error.value)
