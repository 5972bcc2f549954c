"""The measure of errors finds lost digits, and nothing else."""

import numpy as np
import pytest
from scipy import special

from tests.exact.__main__ import main
from tests.exact.error import in_50_digits, rounded, worst
from tests.exact.inputs import FAMILIES, inputs
from tests.exact.numbers import exact, mp
from tests.exact.test_exact import bound, measured
from vtnp import encoder

# --- Implementations that lose digits -------------------------------------------------------------


def softmax_without_shift(x):
    exponentials = np.exp(x)
    return exponentials / np.sum(exponentials, axis=-1, keepdims=True)


def gelu_by_one_plus_erf(x, *, approximate="none"):
    if approximate == "tanh":
        return encoder.gelu(x, approximate=approximate)
    return x * (1 + special.erf(x / np.sqrt(x.dtype.type(2)))) / 2


def gelu_by_one_plus_tanh(x, *, approximate="none"):
    if approximate == "none":
        return encoder.gelu(x)
    return x * (1 + np.tanh((x + 0.044715 * x**3) * np.sqrt(2 / np.pi, dtype=x.dtype))) / 2


def layer_norm_by_the_mean_of_squares(x, gamma, beta, *, eps):
    mean = np.mean(x, axis=-1, keepdims=True)
    variance = np.mean(x**2, axis=-1, keepdims=True) - mean**2
    return (x - mean) / np.sqrt(variance + eps) * gamma + beta


def layer_norm_of_squares_that_underflow(x, gamma, beta, *, eps):
    centred = x - np.mean(x, axis=-1, keepdims=True)
    return centred / np.sqrt(np.mean(centred**2, axis=-1, keepdims=True) + eps) * gamma + beta


def attention_weights_in_lower_precision(Q, K, *, mask=None, scale=None):
    lower = np.float32 if Q.dtype == np.float64 else np.float16
    weights = encoder.attention_weights(Q.astype(lower), K.astype(lower), mask=mask, scale=scale)
    return weights.astype(Q.dtype)


LOST = {
    softmax_without_shift: "softmax",
    gelu_by_one_plus_erf: "gelu",
    gelu_by_one_plus_tanh: "gelu",
    layer_norm_by_the_mean_of_squares: "layer-norm",
    layer_norm_of_squares_that_underflow: "layer-norm",
    attention_weights_in_lower_precision: "attention-weights",
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("function", LOST, ids=lambda function: function.__name__)
def test_lost_digits_are_found(function, dtype):
    id = LOST[function]
    largest = max(found.error for _, found in measured(id, dtype, seeds=1, function=function))
    assert largest > 100 * bound(id)


# --- The unit -------------------------------------------------------------------------------------

EPS = float(np.finfo(np.float64).eps)


def error_of(value, y, *, x=1.0):
    """Return the error of a function of x with this value, where y(x) is right."""
    return worst(lambda x: np.asarray(value), y, {"x": np.asarray([x])}).error


def about(units):
    """Roundings are at random, and the largest of them hardly less than half an eps."""
    return pytest.approx(units, rel=0.1)


def test_a_unit_is_the_change_by_rounding_and_half_an_ulp():
    # x changes by EPS / 2, and half an ulp of 1 is EPS / 2.
    assert error_of([1.0], lambda x: x) == 0.0
    assert error_of([1.0 + EPS], lambda x: x) == about(1.0)
    assert error_of([1.0 + 4 * EPS], lambda x: x) == about(4.0)
    # x^9 changes nine times as much.
    assert error_of([1.0 + 5 * EPS], lambda x: x**9) == about(1.0)


def test_a_constant_has_half_an_ulp_alone():
    assert error_of([1.0 + EPS], lambda x: x**0) == pytest.approx(2.0)
    assert error_of([5e-324], lambda x: x * 0) == pytest.approx(2.0)  # half the smallest number


def test_what_cancels_between_the_inputs_is_not_the_formulas():
    x = np.array([1e6, 1e6 + 1.0])

    def off(error):
        value = np.array([1.0 + error])
        return worst(lambda x: value, lambda x: x[1:] - x[:1], {"x": x}).error

    assert off(1e6 * EPS) <= 2.0
    assert off(1e9 * EPS) > 100.0


def test_two_numbers_that_cancel_are_rounded_differently():
    x = np.array([1.0, -1.0 + 1e-9])
    value = np.array([(x[0] + x[1]) / 3])
    for seed in range(100):
        found = worst(lambda x: value, lambda x: (x[:1] + x[1:]) / 3, {"x": x}, draws=4, seed=seed)
        assert found.error < 1.0
        off = worst(lambda x: value + EPS, lambda x: (x[:1] + x[1:]) / 3, {"x": x}, seed=seed)
        assert 2.0 < off.error < 20.0


def test_infinities_and_nans():
    huge = np.finfo(np.float64).max
    assert error_of([np.inf], lambda x: 2 * x, x=huge) == 0.0  # rounding overflows as well
    assert error_of([-np.inf], lambda x: 2 * x, x=huge) == np.inf
    assert error_of([np.inf], lambda x: x) == np.inf
    assert error_of([np.nan], lambda x: x) == np.inf
    assert error_of([1.0], lambda x: x * mp.mpf("nan")) == np.inf
    assert error_of([np.nan], lambda x: x * mp.mpf("nan")) == 0.0
    assert error_of([-np.inf], lambda x: x * mp.mpf("-inf")) == 0.0


def test_integers_are_right_or_wrong():
    assert error_of(np.array([3]), lambda x: np.array([3])) == 0.0
    assert error_of(np.array([3]), lambda x: np.array([4])) == np.inf
    assert error_of(np.array([True]), lambda x: np.array([False])) == np.inf


def test_another_shape_is_refused():
    with pytest.raises(AssertionError, match="derived"):
        error_of([1.0, 1.0], lambda x: x)


def test_the_worst_element_is_named():
    found = worst(lambda x: x + np.array([0.0, 1e-9]), lambda x: x, {"x": np.array([1.0, 2.0])})
    assert found.index == (1,)
    assert str(found).endswith("units at [1] of result 0: 2.000000001, exactly 2.0, unit 4.35e-16")


def test_every_number_is_rounded_and_nothing_else():
    args = {"x": np.array([1.0, 3.0]), "mask": np.array([True]), "n": 3, "params": [{"eps": 0.5}]}
    right = in_50_digits(args)
    changed = rounded(right, EPS, np.random.default_rng(0))
    assert changed["n"] == 3
    assert changed["mask"] is args["mask"]
    moved = [*(changed["x"] / right["x"]), changed["params"][0]["eps"] / 0.5]
    assert all(EPS / 4 <= abs(ratio - 1) <= EPS / 2 for ratio in moved)


def test_numbers_of_any_precision_are_taken_as_they_are():
    third = np.float32(1) / np.float32(3)
    assert exact(third) == mp.mpf(float(third)) != mp.mpf(1) / 3


# --- Inputs ---------------------------------------------------------------------------------------


def test_inputs_are_many_and_different():
    names = [each.name for each in inputs("attention", "float64", seeds=2)]
    assert len(set(names)) == len(names) == 2 * (len(FAMILIES) + 2)
    masked = next(x for x in inputs("attention", "float64") if x.name.startswith("masked"))
    assert not masked.args["mask"][..., 0, :].any()
    assert (masked.args["mask"].sum(axis=-1)[..., 1:] == 1).all()


def test_the_table_is_printed(capsys):
    main(["softmax", "--seeds", "1"])
    head, double, single, half = capsys.readouterr().out.splitlines()
    assert head.split() == ["formula", "dtype", "friendly", "hard", "bound", "hardest"]
    assert double.split()[:2] == ["softmax", "float64"]
    assert float(single.split()[3]) <= float(single.split()[4])
    assert half.split()[-1] == "-"
