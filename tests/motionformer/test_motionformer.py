"""What the laws do not cover: counterexamples and error messages."""

import math

import numpy as np
import pytest

import vtnp
from tests.support.compare import assert_close
from tests.support.trees import tree_map
from vtnp.claims.cases import make
from vtnp.claims.motionformer import cosines, worst_pair
from vtnp.motionformer import Prototypes

# --- Trajectory tokens ----------------------------------------------------------------------------


def test_different_shifts_of_the_keys_of_a_frame_change_tokens():
    """False: adding any vectors to the keys of a frame changes nothing."""
    Q, K = np.ones((1, 1, 1)), np.zeros((1, 2, 1))
    V = np.array([[[0.0], [1.0]]])
    shift = np.array([[0.0], [math.log(3)]])
    Q = np.ones((1, 2, 1))
    assert_close(vtnp.motionformer.trajectory_tokens(Q, K, V), np.full((1, 2, 1, 1), 1 / 2))
    assert_close(vtnp.motionformer.trajectory_tokens(Q, K + shift, V), np.full((1, 2, 1, 1), 3 / 4))


def test_a_frame_without_patches_is_an_error():
    empty = np.ones((2, 0, 3))
    with pytest.raises(vtnp.FormulaError, match=r"expected n >= 1.*; called by trajectory-tokens "):
        vtnp.motionformer.trajectory_tokens(empty, empty, empty)


# --- Trajectory attention -------------------------------------------------------------------------


def test_attention_leaves_the_hull_of_the_tokens():
    """False: the output lies between the tokens."""
    Y_tilde, one = np.ones((2, 1, 2, 1)), np.ones((1, 1))
    assert_close(
        vtnp.motionformer.trajectory_attention(Y_tilde, one, one, 5 * one), np.full((2, 1, 1), 5.0)
    )


def test_attention_refuses_arguments_without_meaning():
    Y, W = np.ones((2, 3, 2, 5)), np.ones((5, 4))
    with pytest.raises(vtnp.FormulaError, match="expected W_v is not None or not value_projection"):
        vtnp.motionformer.trajectory_attention(Y, W, W)
    message = "expected value_projection or W_v is None or d_v == d, got .* d = 5, d_v = 4"
    with pytest.raises(vtnp.FormulaError, match=message):
        vtnp.motionformer.trajectory_attention(Y, W, W, W, value_projection=False)
    with pytest.raises(vtnp.FormulaError, match="expected n >= 1"):
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
    """False: with P = K it becomes exact as the scores grow, for any keys."""
    q, K = np.array([[0.0, 1.0]]), np.array([[1.0, 0.2], [3.0, 0.1]])
    assert error_of(1e3 * q, 1e3 * K, 1e3 * K) > 2 - 1e-9


def test_more_prototypes_can_be_worse():
    """False: every further prototype reduces the error."""
    Q = np.array([[1.0], [0.0], [-2.0]])
    K = np.array([[4.0], [-4.0], [0.0]])
    assert error_of(Q[:1], K, Q[:1]) < 1e-12
    assert error_of(Q[:1], K, Q[:2]) > 0.1


# --- Choice of prototypes -------------------------------------------------------------------------


def test_greedy_can_lose_to_another_set():
    """False: its largest cosine is never greater than that of a random set."""
    angles = np.radians([15, 30, 120, 165])
    x = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    chosen = vtnp.motionformer.orthogonal_prototypes(x, 3, start=0)
    assert sorted(chosen) == [0, 2, 3]
    assert math.isclose(worst_pair(cosines(x), chosen), math.cos(math.pi / 6))
    assert math.isclose(worst_pair(cosines(x), [1, 2, 3]), math.sqrt(0.5))


def test_orthogonal_candidates_can_be_missed():
    """False: it finds r orthogonal candidates if there are any."""
    x = np.array([[1.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    assert 0 in vtnp.motionformer.orthogonal_prototypes(x, 2, start=0)
    assert worst_pair(cosines(x), vtnp.motionformer.orthogonal_prototypes(x, 2, start=0)) > 0.7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"r": 0, "start": 0}, "expected 1 <= r <= n, got n = 4, r = 0"),
        ({"r": 5, "start": 0}, "expected 1 <= r <= n, got n = 4, r = 5"),
        ({"r": 2}, r"expected \(start is None\) != \(rng is None\), got rng = None, start = None"),
        ({"r": 2, "start": 0, "rng": np.random.default_rng()}, r"expected \(start is None\) != "),
        ({"r": 2, "start": 4}, "start: expected 0 to 3, got 4"),
        ({"r": 2, "start": -1}, "start: expected 0 to 3, got -1"),
        ({"r": 2, "start": np.array([0, 4])}, "start: expected 0 to 3"),
        ({"r": 2, "start": np.array([0, 1, 2])}, "start: expected a shape of"),
        ({"r": 2, "start": np.array([0, -1])}, "start: expected 0 to 3"),
    ],
)
def test_choice_refuses(options, message):
    with pytest.raises(vtnp.FormulaError, match=message):
        vtnp.motionformer.orthogonal_prototypes(np.ones((2, 4, 3)), **options)


# --- Prototype trajectory tokens ------------------------------------------------------------------


def test_prototype_tokens_refuse_another_number_of_sets():
    x = np.ones((3, 4, 5))
    with pytest.raises(vtnp.FormulaError, match=r"expected g in \(1, t\), got g = 2, t = 3"):
        vtnp.motionformer.prototype_trajectory_tokens(x, x, x, np.ones((2, 2, 5)))


# --- Self-attention and the layer -----------------------------------------------------------------


def params(width=2):
    W, second = np.ones((1, 2, 2)), np.ones((1, width, 2))
    first = dict.fromkeys(("W_q", "W_k", "W_v", "W_c"), W)
    return {"attention": first, "trajectory": {"W_q": second, "W_k": second}}


@pytest.mark.parametrize(
    ("params", "options", "message"),
    [
        (params(), {"prototypes": (1, "values")}, "prototypes.candidates: expected one of"),
        (params(), {"prototypes": {"r": 1, "start": 0}}, r"prototypes: expected Prototypes\(r, "),
        (params(), {"prototypes": Prototypes(7)}, "expected 1 <= r <= .t . s if shared else s."),
        (params(), {"prototypes": Prototypes(1, start=None)}, r"expected \(start is None\) != "),
        (params(), {"prototypes": Prototypes(1, start=6)}, "start: expected 0 to 5, got 6"),
        (params(), {"value_projection": True}, r"expected 'W_v' in params\['trajectory'\] or not"),
        (params(width=4), {}, "expected e == heads . d_v, got d_v = 2, e = 4, heads = 1"),
    ],
)
def test_self_attention_refuses_arguments_without_meaning(params, options, message):
    with pytest.raises(vtnp.FormulaError, match=message):
        vtnp.motionformer.trajectory_self_attention(
            np.ones((2, 3, 2)), np.ones(2), params, **options
        )


def test_a_generator_draws_the_first_prototypes():
    rng = np.random.default_rng(0)
    z, cls = rng.standard_normal((2, 3, 2)), np.ones(2)
    attend = vtnp.motionformer.trajectory_self_attention
    starts = [attend(z, cls, params(), prototypes=Prototypes(1, start=i))[0] for i in range(6)]
    drawn = attend(z, cls, params(), prototypes=Prototypes(1, start=None), rng=rng)[0]
    assert any(np.array_equal(drawn, each) for each in starts)


@pytest.mark.parametrize("id", ["trajectory-self-attention", "trajectory-layer"])
def test_a_generator_draws_the_first_prototypes_of_every_head(id):
    case = make(id, 0, (2,))
    frames, heads = case["z"].shape[-3], len(case["params"]["attention"]["W_q"])
    start = np.random.default_rng(5).integers(case["z"].shape[-2], size=(2, heads, frames))
    fixed = Prototypes(2, shared=False, start=start)
    drawn = fixed._replace(start=None)
    found = case(prototypes=drawn, rng=np.random.default_rng(5))
    assert all(map(np.array_equal, found, case(prototypes=fixed)))


def test_a_generator_draws_the_first_prototypes_of_every_frame():
    case = make("trajectory-prototypes", 0, (2,))
    candidates = case["candidates"]
    start = np.random.default_rng(5).integers(candidates.shape[-2], size=candidates.shape[:-2])
    expected = case(r=2, shared=False, start=start)
    found = case(r=2, shared=False, start=None, rng=np.random.default_rng(5))
    assert np.array_equal(found, expected)


def test_params_do_not_change():
    rng = np.random.default_rng(0)
    W = rng.standard_normal((1, 2, 2))
    params = {"attention": dict.fromkeys(("W_q", "W_k", "W_v", "W_c"), W),
              "trajectory": {"W_q": W, "W_k": W}}  # fmt: skip
    before = tree_map(np.copy, params)
    vtnp.motionformer.trajectory_self_attention(rng.standard_normal((2, 3, 2)), np.ones(2), params)
    assert all(np.array_equal(params[a][b], before[a][b]) for a in params for b in params[a])
