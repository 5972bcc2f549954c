"""The judgement by itself: roundings, errors in units, bounds, where a result first diverges."""

import numpy as np
import pytest

from vtnp.claims.cases import make
from vtnp.verify import judge
from vtnp.verify.judge import Deviation, deviation

DTYPES = ("float16", "float32", "float64")
ALL = (*DTYPES, "bfloat16")
INF, NAN = np.inf, np.nan


def array(*numbers):
    return np.array(numbers, dtype=np.float64)


# --- Precisions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_precisions_are_numpys(dtype):
    info = np.finfo(dtype)
    assert judge.EPS[dtype] == info.eps
    assert judge._smallest_subnormal(dtype) == info.smallest_subnormal


def test_bounds_are_the_documented_ones():
    assert judge.MULTIPLE == 16.0
    assert judge.ULPS == {"float64": 32.0, "float32": 32.0, "float16": 16.0, "bfloat16": 16.0}
    assert set(judge.HALF_PRECISIONS) == {"float16", "bfloat16"}
    assert judge.EPS["bfloat16"] == 2.0**-7
    assert judge._smallest_subnormal("bfloat16") == 2.0**-149
    assert judge._FAR_OFF == 0.5


@pytest.mark.parametrize("dtype", ALL)
def test_numbers_are_rounded_to_a_precision(dtype):
    x = np.random.default_rng(0).standard_normal(200)
    y = judge.rounded({"x": x, "n": [np.arange(3)]}, dtype)
    assert y["x"].dtype == np.float64
    largest = np.max(np.abs(y["x"] - x) / np.abs(x)) / judge.EPS[dtype]
    assert largest == 0.0 if dtype == "float64" else 0.4 < largest <= 0.5
    assert np.array_equal(judge.rounded(y, dtype)["x"], y["x"])
    assert y["n"][0].dtype == np.arange(3).dtype
    assert list(y["n"][0]) == [0, 1, 2]
    if dtype in DTYPES:
        assert np.array_equal(y["x"], x.astype(dtype))


def test_bfloat16_is_rounded_to_the_nearest_and_ties_to_even():
    ulp = 2.0**-7  # between 1 and 2
    x = 1.0 + ulp * array(0.0, 0.49, 0.5, 0.51, 1.49, 1.5, 1.51, 2.5, 3.5)
    expected = 1.0 + ulp * array(0.0, 0.0, 0.0, 1.0, 1.0, 2.0, 2.0, 2.0, 4.0)
    assert np.array_equal(judge.rounded({"x": x}, "bfloat16")["x"], expected)
    assert np.array_equal(judge.rounded({"x": -x}, "bfloat16")["x"], -expected)
    double = judge.rounded({"x": array(1.0 + 2.0**-30, 3.0e38)}, "bfloat16")["x"]
    assert double[0] == 1.0
    assert np.isfinite(double[1])


@pytest.mark.parametrize("dtype", ALL)
def test_every_number_is_moved_by_one_unit(dtype):
    arguments = {"x": np.ones(40), "y": np.ones(40), "n": np.arange(3), "one": 1.0}
    moved = judge.perturbed(arguments, dtype, 3)
    eps = judge.EPS[dtype]
    assert set(moved["x"]) == {1.0 - eps, 1.0 + eps}
    assert not np.array_equal(moved["x"], moved["y"])
    assert np.array_equal(moved["n"], np.arange(3))
    assert moved["n"].dtype == np.arange(3).dtype
    assert np.array_equal(judge.perturbed(arguments, dtype, 3)["x"], moved["x"])
    assert np.array_equal(judge.perturbed_array(np.ones(40), dtype, 3), moved["x"])
    signs = np.random.default_rng(3).choice([-1.0, 1.0], 40)
    assert np.array_equal(moved["x"], 1.0 + eps * signs)
    assert abs(float(judge.perturbed_array(4.0, dtype, 0)) - 4.0) == 4.0 * eps


# --- Results --------------------------------------------------------------------------------------


def test_results_are_computed_in_a_dtype_and_without_warnings():
    seen = []

    def function(x, n):
        seen.append((x.dtype, n.dtype))
        return x / np.zeros_like(x), [n]

    given = {"x": array(1.0, 0.0), "n": np.arange(2)}
    quotient, listed = judge.results_of(function, given)
    assert np.array_equal(quotient, array(INF, NAN), equal_nan=True)
    assert listed.shape == (1, 2)
    judge.results_of(function, given, "float32")
    assert seen == [(np.float64, np.arange(2).dtype), (np.float32, np.arange(2).dtype)]


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        (1.5, [1.5]),
        ((1.5, 2.5), [1.5, 2.5]),
        ([1.5], [1.5]),
        ((1, 2), [(1, 2)]),
        (3, [3]),
        ((1.5, (1, 2)), [1.5, (1, 2)]),
        ((1, 1.5), [1, 1.5]),
        ([[1, 2], (3,)], [[[1, 2], (3,)]]),
        ("ab", ["ab"]),
    ],
)
def test_sizes_are_one_result(results, expected):
    found = judge.as_list(results)
    assert found == expected
    assert isinstance(found, list)


def test_what_sizes_are():
    assert judge.is_sizes(2)
    assert judge.is_sizes([(1, 2), 3])
    assert not judge.is_sizes(2.0)
    assert not judge.is_sizes((1, 2.0))
    assert not judge.is_sizes("2")
    assert not judge.is_sizes(np.arange(2))


# --- Errors in units ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ALL)
def test_errors_count_in_units_of_the_precision(dtype):
    exact = [array(1.0, 2.0, INF, NAN), array()]
    off = [array(1.0, 2.0 - 3.0 * judge.EPS[dtype], 7.0, 7.0), array()]
    assert judge.error_units(exact, off, dtype) == [3.0, 0.0]
    assert judge.error_units(off, exact, dtype) == [3.0, 0.0]
    assert all(type(unit) is float for unit in judge.error_units(exact, off, dtype))


def test_errors_count_in_units_of_single_precision_by_default():
    assert judge.error_units([array(1.0)], [array(1.0 + 2.0**-22)]) == [2.0]


def test_errors_of_single_precision_are_taken_in_double():
    x, y = np.float32(1.0), np.float32(2.0**-30)
    assert judge._largest_error(np.array([x]), np.array([-y])) == 1.0 + 2.0**-30
    assert judge._largest_error(np.array([np.float16(65504)]), np.array([-6e4])) == 125504.0
    assert judge._largest_error(array(INF), array(INF)) == 0.0


def rounds_by(errors):
    """A function that errs by a known amount in each dtype."""

    def function(x):
        return (x * 0.0 + 1.0).astype(np.float64) + errors.get(str(x.dtype), 0.0)

    return function


def test_a_formulas_own_error():
    x, one = {"x": array(0.0, 0.0)}, [np.ones(2)]
    single = 5.0 * judge.EPS["float32"]
    small, large = 2.0 * judge.EPS["float16"], 9.0 * judge.EPS["float16"]
    for half in ("float16", "bfloat16"):
        function = rounds_by({"float32": single, "float16": large})
        assert judge.own_error_units(function, x, one, half) == [9.0]
        function = rounds_by({"float32": single, "float16": small})
        found = judge.own_error_units(function, x, one, half)
        assert found == [5.0]
        assert isinstance(found, list)
    # Half precision counts for itself alone.
    function = rounds_by({"float32": single, "float16": large})
    assert judge.own_error_units(function, x, one, "float32") == [5.0]
    assert judge.own_error_units(function, x, one, "float64") == [5.0]


def test_in_double_precision_a_change_of_the_inputs_counts_sixteen_times():
    def steep(x):
        return x * 128.0

    x = array(1.0)
    assert judge.own_error_units(steep, {"x": x}, [steep(x)], "float64") == [2048.0]
    assert judge.own_error_units(steep, {"x": x}, [steep(x)], "float32") == [0.0]
    # The error in single precision is the larger one.
    exact = [steep(x) + 2.0**-10]
    assert judge.own_error_units(steep, {"x": x}, exact, "float64")[0] >= 2.0**13
    # The inputs are moved by the signs of seed 0.
    signs = np.random.default_rng(0).choice([-1.0, 1.0], 6)
    ones, weights = np.ones(6), 2.0 ** np.arange(6)
    units = judge.own_error_units(
        lambda x: np.sum((x - 1.0) * weights), {"x": ones}, [np.asarray(0.0)], "float64"
    )
    assert units == [16.0 * abs(np.sum(signs * weights))]


def test_an_inverse_that_is_rounded_first_counts_once():
    """Results grow by the inverse's rounding, and not by multiplying twice."""
    case = make("nystrom-attention", 3)
    exact = judge.results_of(case.function, case.args)
    (units,) = judge.own_error_units(case.function, case.args, exact, "float64")
    assert 0.0 < units * judge.EPS["float64"] < 1e-6 * judge.largest(exact[0])


# --- The judgement --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ALL)
def test_a_result_may_be_at_its_bound_and_not_beyond(dtype):
    eps = judge.EPS[dtype]
    expected = array(1.0, -2.0)
    for units, bound in [(0.0, 2.0 * judge.ULPS[dtype] * eps), (40.0, 640.0 * eps)]:
        at = deviation(expected + array(bound, 0.0), expected, units, dtype)
        assert (at.error, at.bound, at.holds, at.index) == (bound, bound, True, None)
        beyond = deviation(expected + array(0.0, 2.0 * bound), expected, units, dtype)
        assert not beyond.holds
        assert beyond.index == (1,)
        assert (beyond.got, beyond.expected) == (-2.0 + 2.0 * bound, -2.0)
        assert type(beyond.got) is type(beyond.expected) is type(beyond.error) is float
        assert type(beyond.index[0]) is int
        assert (beyond.error, beyond.ratio) == (2.0 * bound, 2.0)


@pytest.mark.parametrize("dtype", ALL)
def test_of_zero_the_smallest_number_is_the_unit(dtype):
    tiny = judge._smallest_subnormal(dtype)
    found = deviation(array(0.0), array(0.0), 0.0, dtype)
    assert (found.error, found.bound, found.ratio) == (0.0, judge.ULPS[dtype] * tiny, 0.0)


def test_infinite_numbers_and_nan_agree_with_themselves():
    special = array(INF, -INF, NAN)
    assert deviation(special, special, 0.0, "float32").error == 0.0
    for i, other in [(0, -INF), (0, 1.0), (0, NAN), (2, INF), (2, 1.0)]:
        got = special.copy()
        got[i] = other
        for pair in ((got, special), (special, got)):
            found = deviation(*pair, 0.0, "float32")
            assert found.index == (i,)
            assert found.error == INF


def test_integers_and_truth_values_are_right_or_wrong():
    expected = np.array([[1, 2], [3, 4]])
    right = deviation(expected.copy(), expected, 1e9, "float32")
    assert (right.holds, right.error, right.bound, right.ratio) == (True, 0.0, 0.0, 0.0)
    for dtype in (np.int64, np.uint8):
        wrong = deviation(np.array([[1, 2], [5, 0]]), expected.astype(dtype), 1e9, "float32")
        assert (wrong.index, wrong.error, wrong.bound) == ((1, 0), 1.0, 0.0)
        assert (wrong.got, wrong.expected, wrong.ratio) == (5.0, 3.0, INF)
    flags = np.array([True, False])
    assert deviation(flags, flags, 0.0, "float32").holds
    assert deviation(~flags, flags, 0.0, "float32").index == (0,)


def test_half_precision_is_subtracted_in_double():
    got, expected = np.array([6e4], np.float16), np.array([-6e4], np.float16)
    assert deviation(got, expected, 0.0, "float16").error == 120_000.0


def test_an_empty_result_holds():
    found = deviation(array(), array(), 0.0, "float64")
    assert (found.holds, found.error) == (True, 0.0)


def test_the_worst_place_is_told_in_as_many_digits_as_differ():
    found = Deviation(2.0, 1.0, (0, 3), 5.0, 1.0 / 3.0)
    assert found.note == "worst at [0, 3]: 5, expected 0.3333, 2 times the bound"
    found = Deviation(1e-9, 1e-12, (1,), 1.0 + 1e-9, 1.0)
    assert found.note == "worst at [1]: 1.000000001, expected 1, 1e+03 times the bound"
    found = Deviation(1.0, 0.0, (), 3.0, 3.0 + 2.0**-51)
    assert found.note == "worst at []: 3, expected 3.0000000000000004"
    got, expected = np.array([1.0, 2.0, 5.0]), np.array([1.0, 1.0, 1.0])
    assert deviation(got, expected, 0.0, "float64").index == (2,)
    assert Deviation(0.5, 1.0, None).note == ""
    assert Deviation(0.5, 1.0, None).ratio == 0.5
    assert Deviation(0.5, 1.0, None) == Deviation(0.5, 1.0, None, 0.0, 0.0)


def test_all_results_are_judged_by_their_own_error():
    got, expected = [array(1.5), array(1.5)], [array(1.0), array(1.0)]
    first, second = judge.deviations(got, expected, [1e9, 0.0], "float32")
    assert first.holds
    assert not second.holds


def test_the_largest_finite_magnitude():
    assert judge.largest(array(1.0, -3.0, INF, NAN)) == 3.0
    assert judge.largest(array(INF)) == judge.largest(array()) == 0.0
    assert judge.largest(array(-0.5)) == 0.5
    assert type(judge.largest(array(1.0))) is float


def halves(x):
    return x * 0.5, (3, 4)


@pytest.mark.parametrize(
    ("got", "expected"),
    [
        ([array(0.5, 1.0)], True),  # sizes may be left out
        ([array(0.5, 1.0), np.array([3, 4])], True),
        ([array(0.5, 1.0), np.array([3, 5])], False),
        ([array(0.5, 1.0 + 2.0**-20)], True),
        ([array(0.5, 1.0 + 2.0**-17)], False),
        ([array(0.5, 1.5)], False),
        ([array(0.5, 9.0)], False),
        ([array(0.5, NAN)], False),
        ([array(0.5)], False),
        ([array(0.5, 1.0).reshape(2, 1)], False),
        ([array(0.5, 1.0), np.array([3, 4]), array(1.0)], False),
    ],
)
def test_whether_results_are_those_of_a_function(got, expected):
    assert judge.agrees(halves, {"x": array(1.0, 2.0)}, got, "float32") is expected


def test_what_is_equal_agrees_and_what_is_far_off_does_not_whatever_the_formula_errs_by():
    calls = []

    def coarse(x):
        calls.append(x.dtype)
        return x.astype(np.float64) + (x.dtype == np.float32)

    x = array(1.0, 4.0)
    assert judge.agrees(coarse, {"x": x}, [x], "float32")
    assert not judge.agrees(coarse, {"x": x}, [x + array(0.0, 2.5)], "float32")
    assert calls == [np.float64] * 2
    assert judge.agrees(coarse, {"x": x}, [x + array(0.0, 2.0)], "float32")
    assert calls == [np.float64] * 3 + [np.float32]
    # Of a result that is zero nothing is far off.
    zero = array(0.0)
    assert judge.agrees(coarse, {"x": zero}, [zero + 0.25], "float32")


def test_one_of_several_results_far_off_is_enough():
    def two(x):
        return x, x

    x = array(1.0)
    assert not judge.agrees(two, {"x": x}, [x, x + 1e-3], "float32")
    assert not judge.agrees(two, {"x": x}, [x + 1.0, x], "float32")
    assert judge.agrees(two, {"x": x}, [x, x + 1e-7], "float32")

    def coarse(x):
        return x.astype(np.float64) + (x.dtype == np.float32), x

    assert judge.agrees(coarse, {"x": x}, [x + 0.25, x], "float32")
    assert not judge.agrees(coarse, {"x": x}, [x + 0.75, x], "float32")
