"""Every usual mistake is rejected by the oracle, or by a law, on random cases."""

from dataclasses import replace

import numpy as np
import pytest

import vtnp
from tests.formulas.test_formulas import oracle, outputs
from tests.support.compare import difference
from tests.support.strategies import BATCHES
from vtnp.claims import claims
from vtnp.claims.cases import make
from vtnp.mistakes import mistakes

SEEDS = range(12)


def rejected_by_oracle(id, wrong) -> bool:
    for seed in SEEDS:
        case = make(id, seed, BATCHES[seed % len(BATCHES)])
        results = zip(outputs(wrong(**case.args)), outputs(oracle(id)(**case.args)), strict=True)
        if any(difference(a, b) > 1e-9 for a, b in results):
            return True
    return False


def rejected_by_law(claim, wrong) -> bool:
    for seed in SEEDS:
        case = make(claim.id, seed, BATCHES[seed % len(BATCHES)])
        try:
            with np.errstate(all="ignore"):
                claim.check(replace(case, function=wrong))
        except (AssertionError, ValueError):
            return True
    return False


@pytest.mark.parametrize(("id", "name"), list(mistakes))
def test_mistake_is_rejected(id, name, record_property):
    wrong = mistakes[id, name]
    by = ["oracle"] if rejected_by_oracle(id, wrong) else []
    by += [
        claim.name
        for claim in claims.values()
        if claim.id == id and claim.kind == "law" and rejected_by_law(claim, wrong)
    ]
    record_property("rejected_by", ", ".join(by))
    assert by, f"nothing rejects {name!r} of {id!r}: it may not be a mistake"


@pytest.mark.parametrize(("id", "name"), list(mistakes))
def test_mistake_keeps_the_signature(id, name):
    """It takes the formula's arguments: otherwise a crash would count as a rejection."""
    for seed in SEEDS:
        case = make(id, seed)
        right, wrong = outputs(case()), outputs(mistakes[id, name](**case.args))
        assert len(right) == len(wrong)


def test_mistakes_are_those_of_the_pages():
    stated = {(each.id, name) for each in vtnp.formulas() for name in each.mistakes}
    assert stated == set(mistakes), (
        f"on a page, not in vtnp/mistakes: {sorted(stated - set(mistakes))}; "
        f"in vtnp/mistakes, on no page: {sorted(set(mistakes) - stated)}"
    )
