"""Which cases of a formula are exported: few and small ones that expose the usual mistakes."""

from collections.abc import Iterator
from itertools import islice, product
from typing import Any

import numpy as np

from vtnp._registry.errors import UsageError
from vtnp._registry.spec import Entry
from vtnp.claims.cases import make
from vtnp.mistakes import mistakes
from vtnp.verify.functions.trials import trial
from vtnp.verify.vectors.case import VectorCase

_DRAWN = 8  # of which the most different are chosen
_ROUNDS = 5  # of drawing, where no case is well conditioned, or a mistake stays undetected
_DIFFERENT = 4  # cases at most; one with a batch, and those that expose mistakes, are added
_MOST = 8
_BATCH = (2,)
_VALUES = ("typical", "large")


def cases_of(entry: Entry, seed: int) -> tuple[list[VectorCase], set[str]]:
    """Return the cases of a formula, and the usual mistakes that none of them exposes.

    Raises UsageError where none is well conditioned.
    """
    rounds = [(seed, k) for k in range(_ROUNDS)]
    chosen = next(filter(None, (_different(list(_drawn(entry, each))) for each in rounds)), [])
    if not chosen:
        raise UsageError(f"{entry.id}: no case of seed {seed} is well conditioned")
    if any(each.shape.row for each in entry.signature.arguments):
        batches = (case for each in rounds for case in _drawn(entry, each, batch=_BATCH))
        chosen += islice((case for case in batches if case.is_well_conditioned()), 1)
    wrong = {name: function for (id, name), function in mistakes.items() if id == entry.id}
    undetected = {
        name for name, each in wrong.items() if not any(case.exposes(each) for case in chosen)
    }
    for values, each in product(_VALUES, rounds):
        for case in _drawn(entry, each, values) if undetected else ():
            exposed = {name for name in undetected if case.exposes(wrong[name])}
            if exposed and len(chosen) < _MOST and case.is_well_conditioned():
                chosen.append(case)
                undetected -= exposed
    return chosen, undetected


def _different(drawn: list[VectorCase]) -> list[VectorCase]:
    """Choose cases one by one, each with the most traits that the others lack."""
    chosen: list[VectorCase] = []
    seen: set[Any] = set()
    while drawn and len(chosen) < _DIFFERENT:
        best = max(drawn, key=lambda each: len(_traits(each) - seen))  # of equals the first
        drawn.remove(best)
        if chosen and not _traits(best) - seen:
            break
        if best.is_well_conditioned():
            chosen.append(best)
            seen |= _traits(best)
    return chosen


def _drawn(
    entry: Entry, seed: tuple[int, int], values: str = "typical", batch: tuple[int, ...] = ()
) -> Iterator[VectorCase]:
    """Yield cases in numbers that float32 has, so that both precisions start alike; small first."""
    seeds = np.random.SeedSequence(seed).generate_state(_DRAWN)
    made = ((int(each), make(entry.id, int(each), batch).args) for each in seeds)
    drawn = [trial(entry, args, "float32", "distinct", values, batch, k) for k, args in made]
    cases = [VectorCase(entry, each.arguments, seed[0]) for each in drawn]
    yield from sorted(cases, key=lambda case: (_is_narrow(case), _numbers(case)))


def _is_narrow(case: VectorCase) -> bool:
    """Tell whether sizes hide mistakes: with width 2 a norm is nearly a sign; 1 hides an axis."""
    sizes = case.bound
    return sizes.get("d") == 2 or 1 in [x for axis, x in sizes.items() if not axis.isdigit()]


def _numbers(case: VectorCase) -> int:
    return sum(x.size for x in case.inputs.values())


def _traits(case: VectorCase) -> set[Any]:
    """Return the traits of a case: its arguments and params, its strings and truth values."""
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
