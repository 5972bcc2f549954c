"""The diagnosis: which mistake makes exactly the numbers that a wrong candidate makes.

Each mistake of the formula's page, and of the pages of the formulas it is made of, is run as
another reference; then pairs of them. What matches on every trial, those included where the
candidate is right, is named.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vtnp._array.xp import constant
from vtnp._registry.spec import registry
from vtnp.mistakes import mistakes
from vtnp.verify.functions.gradients import gradients_of
from vtnp.verify.functions.trials import Trial
from vtnp.verify.handlers import Function, calls_of, in_place_of, under, with_results
from vtnp.verify.judge import EPS, agrees, results_of
from vtnp.verify.page_text import inner_formulas, what_goes_wrong, where_to_look
from vtnp.verify.report import Finding

Key = tuple[str, str]  # a formula's id and the name of a mistake
Results = list[NDArray[Any]]
_SECONDS = 6.0  # for all pairs
_SWAPPED = 4  # trials that swaps are looked for in
# What a mistake raises that the arguments do not let happen.
_CANNOT_HAPPEN = (ValueError, TypeError, IndexError, ArithmeticError)


class Tried(NamedTuple):
    """A trial, what the candidate made of it, and whether that was right."""

    trial: Trial
    got: Sequence[NDArray[Any]]
    right: bool


def named(id: str, tried: Sequence[Tried]) -> list[Finding]:
    """Return the mistakes, or else the pairs of them, that make the candidate's numbers."""
    called = _called(id, tried)
    singles = [(key,) for key in suspects(id) if key[0] in called]
    found: list[tuple[Key, ...]] = [each for each in singles if _matches(id, each, tried)]
    found = found or _matching_pairs(id, called, tried)
    return [_finding(found)] if found else []


def _called(id: str, tried: Sequence[Tried]) -> set[str]:
    """Return the formulas that are called where the candidate is wrong, in the first such trial.

    A mistake in any other formula leaves the right numbers there, which are not the candidate's.
    """
    first = next(each.trial for each in tried if not each.right)
    calls = calls_of({*inner_formulas(id)}, registry[id].function, first.arguments)
    return {id} | {call.id for call in calls}


@cache
def suspects(id: str) -> tuple[Key, ...]:
    """Return the mistakes of a formula and of those it is made of, its own first."""
    return tuple(key for each in (id, *inner_formulas(id)) for key in mistakes if key[0] == each)


def _matching_pairs(id: str, called: set[str], tried: Sequence[Tried]) -> list[tuple[Key, ...]]:
    """Try two mistakes at once, as long as there is time."""
    end = time.thread_time() + _SECONDS
    found: list[tuple[Key, ...]] = []
    for pair in combinations(suspects(id), 2):
        one, other = (of for of, _ in pair)
        if called.isdisjoint((one, other)) or one == other != id:  # of which the second takes all
            continue
        orders: list[tuple[Key, ...]] = [pair, pair[::-1]] if one == other else [pair]
        found += [order for order in orders if _matches(id, order, tried)][:1]
        if time.thread_time() > end:
            break
    return found


def _matches(id: str, keys: tuple[Key, ...], tried: Sequence[Tried]) -> bool:
    alternative = with_mistakes(id, keys)
    return all(_agrees(alternative, each) for each in tried)


def _agrees(alternative: Callable[..., Any], tried: Tried, dtype: str = "") -> bool:
    trial = tried.trial
    try:
        return agrees(alternative, trial.arguments, tried.got, dtype or trial.dtype)
    except _CANNOT_HAPPEN:
        return False


def with_mistakes(id: str, keys: tuple[Key, ...]) -> Function:
    """Return the formula with these mistakes in it: its own, or of the formulas within.

    Of two mistakes of its own, the second takes the formula's place within the first.
    """
    own = [key for key in keys if key[0] == id]
    inner = [key for key in keys if key[0] != id] + own[1:]
    function = mistakes[own[0]] if own else registry[id].function
    substitutes = {key[0]: mistakes[key] for key in inner}
    return under(in_place_of(substitutes), substitutes, function) if substitutes else function


def _finding(matches: Sequence[tuple[Key, ...]]) -> Finding:
    """Name the first match, and those that make the same numbers."""
    keys, *others = matches
    says = " ".join(what_goes_wrong(*key) for key in keys)
    meant = "; ".join(dict.fromkeys(where_to_look(id) for id, _ in keys))
    return Finding(_title(keys), says, meant, tuple(keys), tuple(map(_title, others)))


def _title(keys: Sequence[Key]) -> str:
    return " and ".join(f"{name} ({id})" for id, name in keys)


def mixed(
    id: str,
    chosen: Sequence[Tried],
    wrong_ones: Sequence[Tried],
    lower: Sequence[str],
    rounds: Callable[[Function, str], bool],
) -> list[Finding]:
    """Return mistakes together with what any code can get wrong: two axes, or the precision.

    rounds: tells whether the candidate is a function, but for rounding to one of those precisions.
    """
    found = []
    for key in suspects(id):
        alternative = with_mistakes(id, (key,))
        too = [(each.title, each.says) for each in swapped(alternative, wrong_ones)]
        too += [
            (f"computed in {dtype}", f"so computed in {dtype}, it makes the numbers.")
            for dtype in lower
            if all(_agrees(alternative, each, _coarser(dtype, each)) for each in chosen)
            and rounds(alternative, dtype)
        ][:1]
        found += [(key, f"{_title([key])}, {title}", says) for title, says in too]
    if not found:
        return []
    (key, title, says), *others = found
    named = _finding([(key,)])
    same = tuple(title for _, title, _ in others)
    return [replace(named, title=title, says=f"{named.says} {says}", same=same)]


def _coarser(dtype: str, tried: Tried) -> str:
    return max(dtype, tried.trial.dtype, key=EPS.__getitem__)


def swapped(function: Function, wrong: Sequence[Tried]) -> list[Finding]:
    """Return the swaps of two axes that explain the wrong trials, the first few of them."""
    first, *others = (_transposed(function, each) for each in wrong[:_SWAPPED])
    return [each for each in first if all(each in found for found in others)]


def _transposed(function: Function, tried: Tried) -> list[Finding]:
    """Look for two axes of an argument or a result that the candidate has swapped."""
    arguments, found = tried.trial.arguments, []

    def expected(**changed: Any) -> Results:
        return results_of(function, {**arguments, **changed})[: len(tried.got)]

    for name, x in arguments.items():
        for swap in _swaps(x):
            try:
                other = expected(**{name: np.swapaxes(x, *swap)})
            except _CANNOT_HAPPEN:
                continue
            if _same(other, tried.got):
                found.append(_swapped(f"argument {name}", swap))
    try:
        exact = expected()
    except _CANNOT_HAPPEN:
        return found
    for i, y in enumerate(exact):
        for swap in _swaps(y):
            other = [np.swapaxes(z, *swap) if j == i else z for j, z in enumerate(exact)]
            if _same(other, tried.got):
                found.append(_swapped(f"result {i}", swap))
    return found


def _swaps(x: Any) -> list[tuple[int, int]]:
    if getattr(x, "ndim", 0) < 2:
        return []
    return [(i - x.ndim, j - x.ndim) for i, j in combinations(range(x.ndim), 2)]


def _same(one: Sequence[NDArray[Any]], other: Sequence[NDArray[Any]]) -> bool:
    return len(one) == len(other) and all(
        x.shape == y.shape and np.allclose(x, y, rtol=1e-3, atol=1e-5)
        for x, y in zip(one, other, strict=True)
    )


def _swapped(what: str, swap: tuple[int, int]) -> Finding:
    return Finding(
        f"axes {swap[0]} and {swap[1]} of {what} swapped",
        f"with these axes exchanged the formula gives the candidate's numbers for {what}.",
        "check its layout, or tell it by a layout pattern",
    )


def stopped(id: str, trial: Trial, weights: Results, got: Mapping[str, Any]) -> list[Finding]:
    """Look for a formula within whose result the candidate's gradients treat as a constant."""
    found = []
    for used in dict.fromkeys(key[0] for key in suspects(id) if key[0] != id):
        function = under(with_results({used: constant}), {used}, registry[id].function)
        cut = gradients_of(function, trial.arguments, weights, "float64")
        if _same_gradients(got, cut):
            says = f"the gradients are those with {used} taken for a constant."
            found.append(Finding(f"gradient stopped at {used}", says, "look for detach or no_grad"))
    return found


def named_by_gradients(
    id: str, trial: Trial, weights: Results, got: Mapping[str, Any]
) -> list[Finding]:
    """Return the mistakes that make the candidate's gradients, where its values are right."""
    found: list[tuple[Key, ...]] = []
    for key in suspects(id):
        try:
            other = gradients_of(with_mistakes(id, (key,)), trial.arguments, weights, "float64")
        except _CANNOT_HAPPEN:
            continue
        if _same_gradients(got, other):
            found.append((key,))
    return [_finding(found)] if found else []


def _same_gradients(got: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    both = [(g, other[path]) for path, g in got.items()]
    return all(_same([np.zeros_like(c) if g is None else g], [c]) for g, c in both)
