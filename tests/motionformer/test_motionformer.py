"""What no law says of vtnp.motionformer: exact values, refusals, counterexamples, accuracy."""

import math

import numpy as np
import pytest

import vtnp
from tests.support.compare import assert_close
from tests.support.trees import tree_map
from vtnp.claims.motionformer import cosines, worst_pair

# --- Trajectory tokens ----------------------------------------------------------------------------


def test_tokens_keys_shifted_place_by_place_change_them():
    """False: a shift of the keys that depends on the place cancels as well."""
    Q, K = np.ones((1, 1, 1)), np.zeros((1, 2, 1))
    V = np.array([[[0.0], [1.0]]])
    shift = np.array([[0.0], [math.log(3)]])
    Q = np.ones((1, 2, 1))
    assert_close(vtnp.motionformer.trajectory_tokens(Q, K, V), np.full((1, 2, 1, 1), 1 / 2))
    assert_close(vtnp.motionformer.trajectory_tokens(Q, K + shift, V), np.full((1, 2, 1, 1), 3 / 4))


def test_a_frame_without_places_is_an_error():
    nothing = np.ones((2, 0, 3))
    with pytest.raises(vtnp.FormulaError, match="at least one score per row"):
        vtnp.motionformer.trajectory_tokens(nothing, nothing, nothing)


# --- Trajectory attention -------------------------------------------------------------------------


def test_attention_leaves_the_hull_of_the_tokens():
    """False: what is read lies between the tokens. The projection moves the values out."""
    Y_tilde, one = np.ones((2, 1, 2, 1)), np.ones((1, 1))
    assert_close(
        vtnp.motionformer.trajectory_attention(Y_tilde, one, one, 5 * one), np.full((2, 1, 1), 5.0)
    )


def test_attention_refuses_what_has_no_meaning():
    Y, W = np.ones((2, 3, 2, 5)), np.ones((5, 4))
    with pytest.raises(vtnp.FormulaError, match=r"W_v: expected a matrix; .* got None"):
        vtnp.motionformer.trajectory_attention(Y, W, W)
    with pytest.raises(vtnp.FormulaError, match=r"none, or a square one, got \(5, 4\)"):
        vtnp.motionformer.trajectory_attention(Y, W, W, W, value_projection=False)
    with pytest.raises(vtnp.FormulaError, match="at least one score per row"):
        vtnp.motionformer.trajectory_attention(np.ones((0, 3, 0, 5)), W, W, W)


# --- Prototype attention --------------------------------------------------------------------------


def error_of(Q, K, P):
    exact = vtnp.encoder.attention_weights(Q, K)
    eye = np.eye(K.shape[0])
    return np.abs(vtnp.motionformer.prototype_attention(Q, K, eye, P) - exact).sum(-1).max()


def test_all_queries_as_prototypes_are_not_exact():
    """False: with r = n the approximation is exact."""
    Q = K = np.eye(2)
    assert error_of(Q, K, Q) > 0.2


def test_all_keys_as_prototypes_are_not_exact_in_the_limit():
    """False: with P = K the limit is exact whatever the keys' lengths."""
    q, K = np.array([[0.0, 1.0]]), np.array([[1.0, 0.2], [3.0, 0.1]])
    assert error_of(1e3 * q, 1e3 * K, 1e3 * K) > 2 - 1e-9


def test_more_prototypes_can_be_worse():
    """False: the error shrinks with every prototype."""
    Q = np.array([[1.0], [0.0], [-2.0]])
    K = np.array([[4.0], [-4.0], [0.0]])
    one, two = (np.abs(vtnp.motionformer.prototype_attention(Q[:1], K, np.eye(3), Q[:r])
                       - vtnp.encoder.attention_weights(Q[:1], K)).sum() for r in (1, 2))  # fmt: skip
    assert one < 1e-12
    assert two > 0.1


# --- Choice of prototypes -------------------------------------------------------------------------


def test_greedy_can_lose_to_another_set():
    """False: its largest cosine is never above that of a random set."""
    angles = np.radians([15, 30, 120, 165])
    x = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    chosen = vtnp.motionformer.orthogonal_prototypes(x, 3, start=0)
    assert sorted(chosen) == [0, 2, 3]
    assert math.isclose(worst_pair(cosines(x), chosen), math.cos(math.pi / 6))
    assert math.isclose(worst_pair(cosines(x), [1, 2, 3]), math.sqrt(0.5))


def test_orthogonal_candidates_can_be_missed():
    """False: it finds r orthogonal candidates wherever there are."""
    x = np.array([[1.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    assert 0 in vtnp.motionformer.orthogonal_prototypes(x, 2, start=0)
    assert worst_pair(cosines(x), vtnp.motionformer.orthogonal_prototypes(x, 2, start=0)) > 0.7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"r": 0, "start": 0}, "r: expected 1 to 4, the number of candidates, got 0"),
        ({"r": 5, "start": 0}, "r: expected 1 to 4, the number of candidates, got 5"),
        ({"r": 2}, "start: expected either start or rng"),
        ({"r": 2, "start": 0, "rng": np.random.default_rng()}, "start: expected either start or"),
        ({"r": 2, "start": 4}, "start: expected 0 to 3, got 4"),
        ({"r": 2, "start": -1}, "start: expected 0 to 3, got -1"),
        ({"r": 2, "start": np.array([0, 4])}, "start: expected 0 to 3"),
        ({"r": 2, "start": np.array([0, 1, 2])}, "start: expected a shape of"),
    ],
)
def test_choice_refuses(options, message):
    with pytest.raises(vtnp.FormulaError, match=message):
        vtnp.motionformer.orthogonal_prototypes(np.ones((2, 4, 3)), **options)


# --- Trajectory tokens through prototypes ---------------------------------------------------------


def test_prototype_tokens_refuse_another_number_of_sets():
    x = np.ones((3, 4, 5))
    with pytest.raises(vtnp.FormulaError, match="P: expected 1 or 3 sets, got 2"):
        vtnp.motionformer.prototype_trajectory_tokens(x, x, x, np.ones((2, 2, 5)))


# --- Self-attention and the layer -----------------------------------------------------------------


def test_self_attention_refuses_other_candidates():
    W, flat = np.ones((1, 2, 2)), np.ones((1, 2, 2))
    first = {"W_q": W, "W_k": W, "W_v": W, "W_c": W}
    params = {"attention": first, "trajectory": {"W_q": flat, "W_k": flat}}
    prototypes = {"r": 1, "start": 0, "candidates": "values"}
    with pytest.raises(vtnp.FormulaError, match=r"candidates among .* got 'values'"):
        vtnp.motionformer.trajectory_self_attention(
            np.ones((2, 3, 2)), np.ones(2), params, prototypes=prototypes
        )


def test_params_are_left_alone():
    rng = np.random.default_rng(0)
    W = rng.standard_normal((1, 2, 2))
    params = {"attention": dict.fromkeys(("W_q", "W_k", "W_v", "W_c"), W),
              "trajectory": {"W_q": W, "W_k": W}}  # fmt: skip
    before = tree_map(np.copy, params)
    vtnp.motionformer.trajectory_self_attention(rng.standard_normal((2, 3, 2)), np.ones(2), params)
    assert all(np.array_equal(params[a][b], before[a][b]) for a in params for b in params[a])
