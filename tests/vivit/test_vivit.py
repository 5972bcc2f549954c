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
    """A float range of the same steps holds one frame more, for one pair in eight."""
    wrong = 0
    for T in range(2, 41):
        for k in range(1, T):
            assert len(vtnp.vivit.uniform_frame_sampling(T, k)) == k
            wrong += len(np.arange(T / (k + 1), T, T / (k + 1))) != k
    assert wrong == 96


@pytest.mark.parametrize(("T", "k"), [(8, 9), (8, 0), (0, 1)])
def test_sampling_refuses_frames_that_are_not_there(T, k):
    with pytest.raises(vtnp.FormulaError, match=f"argument k: expected between 1 and the {T} "):
        vtnp.vivit.uniform_frame_sampling(T, k)


def test_tubelet_larger_than_the_video_is_refused():
    with pytest.raises(vtnp.FormulaError, match="argument size: expected at most that of the "):
        vtnp.vivit.tubelet_embedding(np.ones((1, 4, 4, 1)), np.ones((2, 2, 2, 1, 3)))


@pytest.mark.parametrize("function", [vtnp.vivit.inflated_kernel, vtnp.vivit.central_frame_kernel])
def test_a_kernel_of_no_frames_is_refused(function):
    with pytest.raises(vtnp.FormulaError, match="argument p_t: expected at least one frame, got 0"):
        function(np.ones((2, 3, 1, 5)), 0)


# --- Encoders -------------------------------------------------------------------------------------


def test_encoder_refuses_positions_of_other_tokens():
    """One row of positions would broadcast over all tokens, and nobody would notice."""
    case = make("sequence-encoder", 3)
    params = {**case["params"], "positions": case["params"]["positions"][:1]}
    with pytest.raises(vtnp.FormulaError, match=r"argument params: expected \d+ rows of positions"):
        case(params=params)


# --- Layers ---------------------------------------------------------------------------------------


def test_self_attention_layer_order_matters():
    """FALSE in general: that the order of the two attentions does not matter."""
    case = make("factorised-self-attention-layer", 3)
    assert not np.allclose(case(order="time-space"), case(order="space-time"), rtol=1e-3)


def test_self_attention_layer_names_its_orders():
    with pytest.raises(vtnp.FormulaError, match=r"argument order: expected one of .* got 'time'"):
        make("factorised-self-attention-layer", 3)(order="time")


def test_dot_product_needs_heads_in_pairs():
    Q = np.ones((3, 2, 5, 7))
    with pytest.raises(vtnp.FormulaError, match="expected an even number of heads, got 3"):
        vtnp.vivit.factorised_dot_product_attention(Q, Q, Q)
    with pytest.raises(vtnp.FormulaError, match="argument first: expected 'time' or 'space'"):
        vtnp.vivit.factorised_dot_product_attention(Q[:2], Q[:2], Q[:2], first="both")
