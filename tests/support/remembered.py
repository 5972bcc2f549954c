"""What checks of one formula have in common, computed once: its trials, and what is made of them.

Each mistake is put to the check as a candidate, and held against every other mistake on the same
trials. What the formula with a mistake in it makes of a trial is the same each time.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import pytest

from vtnp._registry.spec import Entry
from vtnp.verify import judge
from vtnp.verify.functions import check, conditioning, diagnose, trials

Function = Callable[..., Any]
_BY_US = (trials.trials, judge.results_of, diagnose.with_mistakes)


class Memory:
    """All that is remembered of one formula."""

    def __init__(self) -> None:
        self._trials: dict[Any, list[trials.Trial]] = {}
        self._arguments: dict[int, Mapping[str, Any]] = {}
        self._results: dict[tuple[Function, int, str], Any] = {}
        self._with_mistakes = cache(_BY_US[2])

    def install(self, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(check, "trials", self.trials)
        for module in (judge, conditioning):
            patch.setattr(module, "results_of", self.results_of)
        patch.setattr(diagnose, "with_mistakes", self._with_mistakes)

    def trials(
        self,
        entry: Entry,
        dtypes: tuple[str, ...],
        batches: tuple[tuple[int, ...], ...],
        seed: int,
        sizes: Mapping[str, int] | None = None,
        taken: trials.Select = dict,
    ) -> Iterator[trials.Trial]:
        """Yield the same trials as ever, which are made once for candidates that take them all."""
        key = (entry.id, dtypes, batches, seed, *sorted((sizes or {}).items()))
        if key not in self._trials:
            self._trials[key] = list(_BY_US[0](entry, dtypes, batches, seed, sizes))
            self._arguments |= {id(each.arguments): each.arguments for each in self._trials[key]}
        made = self._trials[key]
        if all(taken(each.arguments).keys() == each.arguments.keys() for each in made):
            return iter(made)
        return _BY_US[0](entry, dtypes, batches, seed, sizes, taken)

    def results_of(
        self, function: Function, arguments: Mapping[str, Any], dtype: str = "float64"
    ) -> Sequence[Any]:
        """Return what a function makes of the arguments of such a trial, or raise its error."""
        if id(arguments) not in self._arguments:
            return _BY_US[1](function, arguments, dtype)
        key = (function, id(arguments), dtype)
        if key not in self._results:
            try:
                self._results[key] = _BY_US[1](function, arguments, dtype)
            except (ValueError, TypeError, IndexError, ArithmeticError) as error:
                self._results[key] = error
        found = self._results[key]
        if isinstance(found, Exception):
            raise found
        return found


_now: dict[str, Memory] = {}


def memory_of(id: str) -> Memory:
    """Return what is remembered of a formula; all others are forgotten."""
    if id not in _now:
        _now.clear()
        conditioning._reference.cache_clear()
        _now[id] = Memory()
    return _now[id]
