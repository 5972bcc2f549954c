"""What no law says of vtnp.vivit: exact values, refusals, counterexamples, accuracy."""

import numpy as np
import pytest

import vtnp
from vtnp.claims.cases import make

# --- Frames and tubelets --------------------------------------------------------------------------


def test_sampling_is_not_symmetric():
    """FALSE: that the chosen frames are the same from either end."""
    assert vtnp.vivit.uniform_frame_sampling(5, 1).tolist() == [2]


def test_sampling_counts_right_where_floats_do_not():
    """A range of floats with the same step has one frame more for one pair in eight."""
    wrong = 0
    for T in range(2, 41):
        for k in range(1, T):
            assert len(vtnp.vivit.uniform_frame_sampling(T, k)) == k
            wrong += len(np.arange(T / (k + 1), T, T / (k + 1))) != k
    assert wrong == 96


@pytest.mark.parametrize(("T", "k"), [(8, 9), (8, 0), (0, 1)])
def test_sampling_refuses_frames_that_are_not_there(T, k):
    expected = rf"^uniform-frame-sampling \(.*\): expected 1 <= k <= T, got T = {T}, k = {k}$"
    with pytest.raises(vtnp.FormulaError, match=expected):
        vtnp.vivit.uniform_frame_sampling(T, k)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((2, 2, 2), "1 <= p_t <= T, got T = 1, p_t = 2"),
        ((1, 5, 2), "1 <= p_h <= H, got H = 4, p_h = 5"),
        ((1, 2, 0), "1 <= p_w <= W, got W = 4, p_w = 0"),
    ],
)
def test_a_tubelet_that_is_empty_or_larger_than_the_video_is_refused(size, message):
    with pytest.raises(vtnp.FormulaError, match=rf"^tubelet-embedding \(.*\): expected {message}$"):
        vtnp.vivit.tubelet_embedding(np.ones((1, 4, 4, 1)), np.ones((*size, 1, 3)))


@pytest.mark.parametrize("function", [vtnp.vivit.inflated_kernel, vtnp.vivit.central_frame_kernel])
def test_a_kernel_of_no_frames_is_refused(function):
    with pytest.raises(
        vtnp.FormulaError, match=r"^.*-kernel \(.*\): expected p_t >= 1, got p_t = 0$"
    ):
        function(np.ones((2, 3, 1, 5)), 0)


# --- Encoders -------------------------------------------------------------------------------------


def test_encoder_refuses_positions_of_other_tokens():
    """A single row of positions would broadcast over all tokens without an error."""
    case = make("sequence-encoder", 3)
    params = {**case["params"], "positions": case["params"]["positions"][:1]}
    expected = (
        r"^sequence-encoder \(.*\): expected len\(params\['positions'\]\) == n \+ .*, "
        rf"got n = {case['x'].shape[-2]}, params = .*'positions': an array \(1, 5\)"
    )
    with pytest.raises(vtnp.FormulaError, match=expected):
        case(params=params)


def test_encoder_without_a_class_token_may_say_so():
    """None counts as left out, in the positions and in the result."""
    case = make("sequence-encoder", 3)
    n = case["x"].shape[-2]
    params = {key: value for key, value in case["params"].items() if key != "cls"}
    params["positions"] = case["params"]["positions"][-n:]
    assert np.array_equal(case(params={**params, "cls": None}), case(params=params))


def test_factorised_encoder_without_a_temporal_encoder_may_say_so():
    case = make("factorised-encoder", 3)
    params = {"space": case["params"]["space"]}
    assert np.array_equal(case(params={**params, "time": None}), case(params=params))


# --- Layers ---------------------------------------------------------------------------------------


def test_self_attention_layer_order_matters():
    """FALSE in general: that the order of the two attentions does not matter."""
    case = make("factorised-self-attention-layer", 3)
    assert not np.allclose(case(order="time-space"), case(order="space-time"), rtol=1e-3)


def test_self_attention_layer_names_its_orders():
    expected = "argument order: expected one of 'time-space', 'space-time', got 'time'$"
    with pytest.raises(vtnp.FormulaError, match=expected):
        make("factorised-self-attention-layer", 3)(order="time")


def test_dot_product_needs_heads_in_pairs():
    Q = np.ones((3, 2, 5, 7))
    expected = r"^factorised-dot-.* \(.*\): expected heads % 2 == 0, got heads = 3$"
    with pytest.raises(vtnp.FormulaError, match=expected):
        vtnp.vivit.factorised_dot_product_attention(Q, Q, Q)
    case = make("factorised-dot-product-layer", 3)
    attention = {key: W[:1] for key, W in case["params"]["attention"].items() if key != "b_c"}
    with pytest.raises(
        vtnp.FormulaError, match=r"^fact.*-layer \(.*\): expected heads % 2 == 0, got"
    ):
        case(params={**case["params"], "attention": attention})
    expected = "argument first: expected one of 'time', 'space', got 'both'$"
    with pytest.raises(vtnp.FormulaError, match=expected):
        vtnp.vivit.factorised_dot_product_attention(Q[:2], Q[:2], Q[:2], first="both")
