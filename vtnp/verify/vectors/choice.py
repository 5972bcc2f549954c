"""Which cases of a formula are exported: few and small, and such that usual mistakes show."""

from collections.abc import Iterator
from itertools import islice, product
from typing import Any

import numpy as np

from vtnp._registry.errors import UsageError
from vtnp._registry.spec import Entry
from vtnp.claims.cases import make
from vtnp.mistakes import mistakes
from vtnp.verify.functions.trials import trial
from vtnp.verify.vectors.case import Case

_DRAWN = 8  # of which the most different are taken
_ROUNDS = 5  # of so many, where rounding moves the results of all, or a mistake stays hidden
_USUAL = 4  # cases at most; one of a batch, and those that mistakes need, are added
_CASES = 8
_BATCH = (2,)
_VALUES = ("usual", "large")


def cases_of(entry: Entry, seed: int) -> tuple[list[Case], set[str]]:
    """Return the cases of a formula, and the usual mistakes that the outputs of none show.

    Raises UsageError where rounding moves the results of all.
    """
    rounds = [(seed, k) for k in range(_ROUNDS)]
    chosen = next(filter(None, (_different(list(_drawn(entry, each))) for each in rounds)), [])
    if not chosen:
        raise UsageError(f"{entry.id}: rounding moves the results of all cases of seed {seed}")
    if any(each.shape.row for each in entry.signature.arguments):
        batches = (case for each in rounds for case in _drawn(entry, each, batch=_BATCH))
        chosen += islice((case for case in batches if case.is_fair()), 1)
    wrong = {name: function for (id, name), function in mistakes.items() if id == entry.id}
    hidden = {name for name, each in wrong.items() if not any(case.shows(each) for case in chosen)}
    for values, each in product(_VALUES, rounds):
        for case in _drawn(entry, each, values) if hidden else ():
            shown = {name for name in hidden if case.shows(wrong[name])}
            if shown and len(chosen) < _CASES and case.is_fair():
                chosen.append(case)
                hidden -= shown
    return chosen, hidden


def _different(drawn: list[Case]) -> list[Case]:
    """Choose cases that each have the most that is new."""
    chosen: list[Case] = []
    seen: set[Any] = set()
    while drawn and len(chosen) < _USUAL:
        best = max(drawn, key=lambda each: len(_traits(each) - seen))  # of equals the first
        drawn.remove(best)
        if chosen and not _traits(best) - seen:
            break
        if best.is_fair():
            chosen.append(best)
            seen |= _traits(best)
    return chosen


def _drawn(
    entry: Entry, seed: tuple[int, int], values: str = "usual", batch: tuple[int, ...] = ()
) -> Iterator[Case]:
    """Yield cases of float32's numbers, so that both precisions start alike; small ones first."""
    seeds = np.random.SeedSequence(seed).generate_state(_DRAWN)
    made = ((int(each), make(entry.id, int(each), batch).args) for each in seeds)
    drawn = [trial(entry, args, "float32", "distinct", values, batch, k) for k, args in made]
    cases = [Case(entry, each.arguments, seed[0]) for each in drawn]
    yield from sorted(cases, key=lambda case: (_is_narrow(case), _numbers(case)))


def _is_narrow(case: Case) -> bool:
    """Tell whether sizes hide mistakes: of width 2 a norm is nearly a sign, of one all is alike."""
    sizes = case.bound
    return sizes.get("d") == 2 or 1 in [x for axis, x in sizes.items() if not axis.isdigit()]


def _numbers(case: Case) -> int:
    return sum(x.size for x in case.inputs.values())


def _traits(case: Case) -> set[Any]:
    """Return what kind of case it is: which arguments and params, which words and truths."""
    traits: set[Any] = set(case.inputs)
    optional = (each.name for each in case.entry.signature.arguments if each.optional)
    traits |= {(name, None) for name in optional if name not in case.arguments}
    for name, value in case.arguments.items():
        if isinstance(value, str | bool | None):
            traits.add((name, value))
        elif hasattr(value, "dtype") and value.dtype.kind == "b":
            traits.add((name, value.ndim))
        else:
            traits.add(name)
    return traits
