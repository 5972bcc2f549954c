"""The strategies that other people's property tests use, and what a failing law says."""

import numpy as np
import pytest
from hypothesis import HealthCheck, find, given, settings
from hypothesis import strategies as st

import vtnp
import vtnp.claims
from tests.support.compare import assert_close
from vtnp.claims import check_claim, claims, statement, strategies
from vtnp.claims.cases import Case, make
from vtnp.claims.check import as_code
from vtnp.claims.errors import NotApplicableError

QUIET = settings(
    max_examples=200,
    database=None,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)


@given(case=strategies.cases("eq2"))
def test_another_implementation_is_tested_in_three_lines(case):
    args = case.args
    assert case.id == "trajectory-tokens"
    assert case() is not args
    results = case.function(**args)
    assert_close(results, case(), within=0.0)


@given(arguments=strategies.arguments("softmax", sizes={"n": 4}, batches=[(3,)]))
def test_sizes_and_batches_are_those_asked_for(arguments):
    assert arguments["x"].shape == (3, 4)


@given(case=strategies.cases("softmax", dtypes=["float16"], families=["tiny"]))
def test_numbers_are_those_of_the_precision_and_the_family(case):
    assert (case.dtype, case.family) == ("float16", "tiny")
    assert case["x"].dtype == np.float64
    assert np.array_equal(case["x"], case["x"].astype(np.float16).astype(np.float64))


@given(case=strategies.cases("attention", sizings=["empty"]))
def test_empty_axes_are_those_that_the_formula_allows(case):
    assert case().shape == (*case["Q"].shape[:-1], case["V"].shape[-1])
    assert case["Q"].shape[-1] > 0


def test_an_unknown_formula_is_one_line():
    with pytest.raises(vtnp.UnknownFormulaError, match="softmaxx"):
        strategies.cases("softmaxx")


# --- A law that fails -----------------------------------------------------------------------------


def failing(id: str, name: str, wrong) -> Case:
    """Return the smallest case on which a law rejects a function."""
    claim = claims["law", id, name]

    def fails(case: Case) -> bool:
        with np.errstate(all="ignore"):
            try:
                check_claim(claim, with_function(case, wrong), moved=case.function)
            except NotApplicableError:
                return False
            except AssertionError:
                return True
        return False

    return find(strategies.cases(id, sizings=["any"]), fails, settings=QUIET)


def with_function(case: Case, function) -> Case:
    return Case(case.id, case.args, case.rng, function, case.dtype, case.family, case.seed)


def unshifted(x):
    y = np.exp(x)
    return y / y.sum(axis=-1, keepdims=True)


def test_a_broken_law_shrinks_to_its_smallest_case():
    """Softmax without its shift overflows: one number is enough to show it."""
    case = failing("softmax", "sums-to-one", unshifted)
    assert case["x"].size == 1
    assert case.family in {"huge", "far offset", "uneven"}


def test_a_failing_law_is_a_line_of_python():
    """It fails with the implementation that it was written for, and holds with vtnp's own."""
    case = failing("softmax", "sums-to-one", unshifted)
    line = statement(claims["law", "softmax", "sums-to-one"], case)
    assert "\n" not in line
    exec(line, {})
    arguments = eval(as_code(case.args), {"array": np.array})
    with pytest.raises(AssertionError), np.errstate(all="ignore"):
        vtnp.claims.check("law", "softmax", "sums-to-one", arguments, function=unshifted)


@pytest.mark.parametrize("id", [each.id for each in vtnp.formulas()])
def test_arguments_are_written_as_they_are(id):
    """Nested params, tuples, masks, infinities, empty arrays."""
    case = make(id, 1, (2,))
    names = {name: getattr(np, name) for name in ("array", "inf", "nan", "random")}
    again = eval(as_code(case.args), names)
    assert_close(case.function(**again), case(), within=0.0)


def test_an_unknown_claim_is_refused():
    with pytest.raises(vtnp.UsageError, match="law 'sum-to-one' of 'softmax' not found"):
        vtnp.claims.check("law", "softmax", "sum-to-one", {})


# --- Precisions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_rounding_alone_breaks_no_law(dtype):
    """In any precision, and so badly conditioned that no fixed tolerance would do."""
    x = np.array([1e4, 1e4 + 8.0, 3.0]) if dtype != "float16" else np.array([100.0, 100.5, 3.0])
    vtnp.claims.check("law", "softmax", "shift-invariant", {"x": x}, dtype=dtype, seed=1)


def test_a_wrong_implementation_is_no_better_in_half_precision():
    def halved(x):
        return vtnp.encoder.softmax(x) * x.dtype.type(0.9)

    x = {"x": np.array([0.0, 1.0])}
    for dtype in ("float64", "float32", "float16"):
        with pytest.raises(AssertionError):
            vtnp.claims.check("law", "softmax", "sums-to-one", x, function=halved, dtype=dtype)


@given(st.sampled_from(["float64", "float32"]))
def test_what_moves_is_measured_on_the_formula_not_on_the_candidate(dtype):
    """An implementation that magnifies rounding does not excuse itself."""

    def unstable(x):
        big = x.dtype.type(1.0) / np.finfo(x.dtype).eps
        return vtnp.encoder.softmax((x + big) - big)

    x = {"x": np.array([0.25, 1.5, -0.75])}
    with pytest.raises(AssertionError):
        vtnp.claims.check("law", "softmax", "log-ratios", x, function=unstable, dtype=dtype)
