"""Beside the laws of vtnp.encoder: exact values, errors, counterexamples, accuracy."""

import numpy as np
import pytest
from autograd import elementwise_grad

import vtnp
from tests.oracles import encoder as oracles
from tests.support.compare import assert_close, largest
from tests.support.trees import floats, replaced, tree_map
from vtnp.claims.cases import make
from vtnp.claims.common import EPS

# --- softmax --------------------------------------------------------------------------------------


def test_softmax_attains_its_lipschitz_constant():
    step = 1e-6
    moved = vtnp.encoder.softmax(np.array([step, -step])) - vtnp.encoder.softmax(np.zeros(2))
    assert np.linalg.norm(moved) / (step * np.sqrt(2)) == pytest.approx(0.5, rel=1e-9)


def test_softmax_of_scores_whose_difference_overflows():
    with pytest.warns(RuntimeWarning, match="overflow"):
        y = vtnp.encoder.softmax(np.array([1.7e308, -1.7e308]))
    assert np.array_equal(y, [1.0, 0.0])


def test_softmax_refuses_an_empty_row():
    with pytest.raises(vtnp.FormulaError) as error:
        vtnp.encoder.softmax(np.zeros((3, 0)))
    assert str(error.value) == "softmax (spec/encoder/softmax.md): expected n >= 1, got n = 0"


# --- Attention weights ----------------------------------------------------------------------------


def test_weights_refuse_no_keys_and_keys_without_width():
    with pytest.raises(vtnp.FormulaError, match=r"^softmax .*: expected n >= 1, got n = 0; called"):
        vtnp.encoder.attention_weights(np.ones((2, 3)), np.ones((0, 3)))
    with pytest.raises(
        vtnp.FormulaError, match=r"^attention-weights .*: expected d_k >= 1, got d_k"
    ):
        vtnp.encoder.attention_weights(np.ones((2, 0)), np.ones((5, 0)))


# --- Multi-head attention -------------------------------------------------------------------------


def test_self_attention_refuses_no_tokens():
    weights = np.ones((1, 3, 2)), np.ones((1, 3, 2)), np.ones((1, 3, 2)), np.ones((1, 2, 3))
    with pytest.raises(vtnp.FormulaError, match=r"^softmax .*: expected n >= 1, got n = 0; called"):
        vtnp.encoder.multi_head_self_attention(np.ones((0, 3)), *weights)


# --- Masks ----------------------------------------------------------------------------------------


def test_mask_refuses_a_negative_number():
    with pytest.raises(vtnp.FormulaError, match=r"^causal-mask .*: expected n >= 0, got n = -1"):
        vtnp.encoder.causal_mask(-1, like=np.zeros(1))


# --- Norms ----------------------------------------------------------------------------------------


def test_normalising_twice_differs_from_once():
    one, zero, x = np.ones(2), np.zeros(2), np.array([[0.0, 2.0]])
    once = vtnp.encoder.layer_norm(x, one, zero, eps=1.0)
    twice = vtnp.encoder.layer_norm(once, one, zero, eps=1.0)
    assert_close(once, np.array([[-1.0, 1.0]]) / np.sqrt(2))
    assert_close(twice, np.array([[-1.0, 1.0]]) / np.sqrt(3))


@pytest.mark.parametrize(
    ("dtype", "size"),
    [
        (np.float64, 1e-170),
        (np.float64, 1e160),
        (np.float32, 1e-30),
        (np.float32, 1e20),
        (np.float16, 2.0**-20),
        (np.float16, 300.0),
    ],
)
def test_norm_without_eps_of_deviations_whose_square_is_out_of_range(dtype, size):
    one, zero, x = np.ones(2, dtype), np.zeros(2, dtype), size * np.array([1, 3], dtype)

    def norm(x):
        return vtnp.encoder.layer_norm(x, one, zero, eps=0.0)

    assert_close(norm(x), np.array([-1.0, 1.0], dtype))
    # The result does not depend on x: the slope of y x is y.
    assert_close(elementwise_grad(lambda x: norm(x) * x)(x), np.array([-1.0, 1.0], dtype))


@pytest.mark.parametrize("offset", [1e3, 1e9, 1e15])
def test_norm_of_two_channels_does_not_depend_on_their_offset(offset):
    x = offset + np.random.default_rng(0).integers(-9, 9, (50, 1)) + np.array([1.0, 2.0])
    y = vtnp.encoder.layer_norm(x, np.ones(2), np.zeros(2), eps=0.0)
    assert np.array_equal(y, np.tile([-1.0, 1.0], (50, 1)))


@pytest.mark.parametrize("eps", [-1e-6, np.inf])
def test_norm_refuses_an_eps_that_is_negative_or_infinite(eps):
    message = rf"^layer-norm .*: expected 0 <= eps < inf, got eps = {eps}"
    with pytest.raises(vtnp.FormulaError, match=message):
        vtnp.encoder.layer_norm(np.ones((2, 3)), np.ones(3), np.ones(3), eps=eps)


# --- Activations ----------------------------------------------------------------------------------


def test_gelu_does_not_keep_order():
    low, high = vtnp.encoder.gelu(np.array([-2.0, -1.0]))
    assert low == pytest.approx(-0.0455, abs=1e-4)
    assert high == pytest.approx(-0.1587, abs=1e-4)


def test_gelu_refuses_another_form():
    expected = r"^gelu .*: argument approximate: expected one of 'none', 'tanh', got 'fast'"
    with pytest.raises(vtnp.FormulaError, match=expected):
        vtnp.encoder.gelu(np.zeros(2), approximate="fast")


# --- Feed-forward network -------------------------------------------------------------------------


def test_network_refuses_an_unknown_activation():
    expected = (
        r"^feed-forward .*: argument activation: expected one of 'relu', 'gelu', .*got 'tanh'"
    )
    with pytest.raises(vtnp.FormulaError, match=expected):
        vtnp.encoder.feed_forward(
            np.ones((1, 2)), np.ones((2, 3)), np.ones((3, 2)), activation="tanh"
        )


# --- Layers ---------------------------------------------------------------------------------------


def test_the_result_of_pre_norm_is_not_normalised():
    first, second = np.array([[1.0], [0.0]]), np.array([[0.0], [1.0]])
    plain = {"gamma": np.ones(2), "beta": np.zeros(2)}
    attention = dict.fromkeys(("W_q", "W_k", "W_v"), first[None])
    params = {
        "attention": {**attention, "W_c": np.array([[[4.0, 0.0]]])},
        "norm_1": plain,
        "feed_forward": {"W_1": second, "W_2": np.array([[10.0, 20.0]])},
        "norm_2": plain,
    }
    z = vtnp.encoder.pre_norm_layer(np.array([[1.0, 3.0]]), params, eps=0.0, activation="relu")
    assert (z.mean(), z.var()) == (15.0, 64.0)


def test_the_decoder_depends_on_the_order():
    case = make("decoder-layer", 0)
    assert largest(case(x=case["x"][::-1]) - case()[::-1]) > 0.1


# --- Exact values and accuracy --------------------------------------------------------------------


def unavoidable_error(case):
    """Return the result, and the error that rounding the inputs alone causes.

    No implementation can avoid it. The oracle is evaluated in extended precision, on inputs changed
    by one unit in the last place, up or down; the largest effect of several such changes is taken,
    and the rounding of the result itself is added.
    """
    wide = tree_map(np.longdouble, case.args)
    oracle = getattr(oracles, case.function.__name__)
    exact = oracle(**wide)
    largest_change = 0.0
    for _ in range(6):
        args = wide
        for path, x in floats(wide):
            ulps = np.longdouble(EPS / 2) * np.sign(case.rng.standard_normal(x.shape))
            args = replaced(args, path, x * (1 + ulps))
        largest_change = max(largest_change, largest(oracle(**args) - exact))
    return exact, largest_change + EPS * largest(exact)


def assert_as_good_as_rounding_allows(case, **changed):
    case = case.with_args(**changed)
    exact, unavoidable = unavoidable_error(case)
    error = largest(np.longdouble(case()) - exact)
    assert error <= 8 * unavoidable, f"error {error:.3g}, unavoidable {unavoidable:.3g}"


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e2, 1e4])
@pytest.mark.parametrize("id", ["softmax", "attention-weights", "attention"])
def test_attention_is_as_accurate_as_its_scores_allow(id, scale, seed):
    case = make(id, seed, (2,))
    name = "x" if id == "softmax" else "Q"
    assert_as_good_as_rounding_allows(case, **{name: scale * case[name]})


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (1e-3, 0.0), (1e-3, 3.0), (1.0, 1e6)])
@pytest.mark.parametrize("id", ["encoder-layer", "pre-norm-layer"])
def test_layers_are_as_accurate_as_their_inputs_allow(id, scale, offset, seed):
    case = make(id, seed)
    assert_as_good_as_rounding_allows(case, x=offset + scale * case["x"])


def test_gelu_equals_tabulated_values():
    """Phi(1/2), Phi(1), Phi(2) and Phi(3) of the normal distribution, to sixteen digits."""
    x = np.array([0.5, 1.0, 2.0, 3.0])
    table = [0.6914624612740131, 0.8413447460685429, 0.9772498680518208, 0.9986501019683699]
    assert_close(vtnp.encoder.gelu(x) / x, np.array(table), within=2 * EPS)


def test_gelu_has_a_finite_gradient_at_large_numbers():
    x = np.array([-1e30, -50.0, 50.0, 1e30])
    for approximate in ("none", "tanh"):
        slope = elementwise_grad(lambda x, a=approximate: vtnp.encoder.gelu(x, approximate=a))(x)
        assert_close(slope, np.array([0.0, 0.0, 1.0, 1.0]), within=0.0)
