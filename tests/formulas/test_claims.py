"""Every law and special case, checked on random cases of its formula."""

import subprocess
import sys
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
from autograd.tracer import isbox
from hypothesis import given
from hypothesis import strategies as st

from tests.support import readings
from tests.support.strategies import BATCHES, DTYPES, cases, put
from vtnp._registry.spec import registry
from vtnp.claims import claims, law
from vtnp.claims.cases import Case, Draw, Sizing, make

CLAIMS = [
    pytest.param(
        claim,
        marks=getattr(pytest.mark, claim.kind)(claim.id, claim.name),
        id=f"{claim.kind}-{claim.id}-{claim.name}",
    )
    for claim in claims.values()
]


# The array libraries that `--xp` names have float64 in common.
PRECISIONS = ("float64", *DTYPES)


def on_library(case: Case) -> Case:
    """Return a case that is evaluated on the library chosen by `pytest --xp`."""

    def function(**args: Any) -> Any:
        if is_traced(args):  # gradients are NumPy's
            return case.function(**args)
        return readings.chosen.call(case.function, args)

    return replace(case, function=function)


@pytest.mark.parametrize("claim", CLAIMS)
@given(data=st.data())
def test_claim(claim, data):
    """On sizes, options, masks and numbers of all kinds, in any precision, mostly float64."""
    put(claim, on_library(data.draw(cases(claim.id, dtypes=PRECISIONS))))


def is_traced(tree: Any) -> bool:
    """Tell whether autograd differentiates with respect to an array of a tree."""
    children = tree.values() if isinstance(tree, dict) else tree
    return isbox(tree) or (isinstance(tree, dict | list | tuple) and any(map(is_traced, children)))


@pytest.mark.parametrize("claim", claims.values(), ids=lambda claim: "-".join(claim[:3]))
def test_a_claim_can_be_checked_on_any_implementation(claim):
    """It calls that implementation, not vtnp's function, on NumPy arrays by name.

    It needs no gradient by autograd and no FormulaError, unless its options say so.
    """
    calls = []

    def implementation(**args):
        calls.append(args)
        assert not is_traced(args) or claim.options.get("differentiates")
        try:
            return registry[claim.id].function(**args)
        except ValueError as error:
            if claim.options.get("refuses"):
                raise
            raise RuntimeError from error

    for seed, batch in enumerate(BATCHES):
        claim.check(replace(make(claim.id, seed, batch), function=implementation))
    assert calls


def test_a_claim_is_registered_once():
    with pytest.raises(ValueError, match="law 'permute' of 'softmax' is registered twice"):
        law("softmax", "permute")(print)


def test_claims_cannot_be_imported_without_assert_statements():
    done = subprocess.run(
        [sys.executable, "-O", "-c", "import vtnp.claims"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "ImportError: the claims are assert statements" in done.stderr


@pytest.mark.parametrize("sizing", get_args(Sizing))
def test_sizes_are_drawn_as_requested(sizing):
    drawn = Draw(np.random.default_rng(0), (2,), sizing=sizing)
    n, m, d = drawn.shape("n m d")
    holds = {
        "distinct": len({n, m, d, 2}) == 4,
        "equal": n == m == d > 1,
        "one": n == m == d == 1,
        "odd": len({n, m, d}) == 3 and n % 2 == m % 2 == d % 2 == 1,
        "any": all(1 <= size <= 4 for size in (n, m, d)),
        "empty": all(size in {0, 2, 3, 5} for size in (n, m, d)),
    }
    assert holds[sizing]


def test_sizes_reach_the_arguments_of_a_case():
    args = make("attention", 0, (4,), sizing="one").args
    assert args["Q"].shape == args["K"].shape == args["V"].shape == (4, 1, 1)
