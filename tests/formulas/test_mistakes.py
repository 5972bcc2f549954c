"""Every usual mistake is rejected by the oracle, or by a law, on random cases."""

from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest

import vtnp
from tests.formulas.test_formulas import oracle, outputs
from tests.support.compare import difference
from tests.support.strategies import BATCHES
from tests.support.trees import leaves
from vtnp.claims import claims
from vtnp.claims.cases import Case, make
from vtnp.mistakes import mistakes

SEEDS = range(12)
FEW = range(3)


# What all mistakes of one formula are put to is made once.
@lru_cache(len(SEEDS))
def with_oracle(id: str, seed: int):
    """Return a case, and what the oracle makes of it."""
    case = read_only(make(id, seed, BATCHES[seed % len(BATCHES)]))
    return case, outputs(oracle(id)(**case.args))


@lru_cache(len(SEEDS))
def with_formula(id: str, seed: int):
    """Return a case, and what the formula makes of it."""
    case = read_only(make(id, seed))
    return case, outputs(case())


def read_only(case: Case) -> Case:
    for _, x in leaves(case.args):
        x.flags.writeable = False
    return case


def rejected_by_oracle(id, wrong) -> bool:
    for seed in SEEDS:
        case, expected = with_oracle(id, seed)
        results = zip(outputs(wrong(**case.args)), expected, strict=True)
        if any(difference(a, b) > 1e-9 for a, b in results):
            return True
    return False


def rejected_by_law(claim, wrong, seeds: Iterable[int]) -> bool:
    for seed in seeds:
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
    # Where the oracle has rejected it already, laws that notice it at once are told as well.
    seeds = FEW if by else SEEDS
    by += [
        claim.name
        for claim in claims.values()
        if claim.id == id and claim.kind == "law" and rejected_by_law(claim, wrong, seeds)
    ]
    record_property("rejected_by", ", ".join(by))
    assert by, f"nothing rejects {name!r} of {id!r}: it may not be a mistake"


@pytest.mark.parametrize(("id", "name"), list(mistakes))
def test_mistake_keeps_the_signature(id, name):
    """It takes the formula's arguments: otherwise a crash would count as a rejection."""
    for seed in SEEDS:
        case, expected = with_formula(id, seed)
        assert len(outputs(mistakes[id, name](**case.args))) == len(expected)


def test_mistakes_are_those_of_the_pages():
    stated = {(each.id, name) for each in vtnp.formulas() for name in each.mistakes}
    assert stated == set(mistakes), (
        f"on a page, not in vtnp/mistakes: {sorted(stated - set(mistakes))}; "
        f"in vtnp/mistakes, on no page: {sorted(set(mistakes) - stated)}"
    )
