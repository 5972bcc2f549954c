"""The diagnosis: which mistake gives exactly the numbers that a wrong candidate gives.

Each mistake of the formula's page, and of the pages of the formulas it is made of, is run as
another reference; then pairs of them. One that matches on every trial, those included where the
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
from vtnp.verify.functions.trials import Trial
from vtnp.verify.gradients import gradients_of
from vtnp.verify.handlers import Function, calls_of, in_place_of, under, with_results
from vtnp.verify.judge import EPS, agrees, results_of
from vtnp.verify.page_text import inner_formulas, what_goes_wrong, where_to_look
from vtnp.verify.report import Finding

Key = tuple[str, str]  # a formula's id and the name of a mistake
Results = list[NDArray[Any]]
_SECONDS = 6.0  # for all pairs
_TRIALS_FOR_SWAPS = 4
_STOPS = "look for detach, no_grad or stop_gradient"
# What mistakes raise on arguments that they do not allow.
_IMPOSSIBLE = (ValueError, TypeError, IndexError, ArithmeticError)


class Tried(NamedTuple):
    """A trial, what the candidate gave, and whether that was right."""

    trial: Trial
    got: Sequence[NDArray[Any]]
    right: bool


# --- Mistakes of pages ----------------------------------------------------------------------------


def named_mistakes(id: str, tried: Sequence[Tried]) -> list[Finding]:
    """Return the mistakes of pages that give the candidate's numbers, as one finding."""
    called = _called(id, tried)
    singles = [(key,) for key in suspects(id) if key[0] in called]
    matches: list[tuple[Key, ...]] = [keys for keys in singles if _matches(id, keys, tried)]
    return [_finding(matches)] if matches else []


def named_pairs(id: str, tried: Sequence[Tried]) -> list[Finding]:
    """Return the pairs of mistakes that give the candidate's numbers, as one finding."""
    matches = _matching_pairs(id, _called(id, tried), tried)
    return [_finding(matches)] if matches else []


@cache
def suspects(id: str) -> tuple[Key, ...]:
    """Return the mistakes of a formula and of those it is made of, its own first."""
    return tuple(key for each in (id, *inner_formulas(id)) for key in mistakes if key[0] == each)


def _called(id: str, tried: Sequence[Tried]) -> set[str]:
    """Return the formulas that are called in the first trial where the candidate is wrong.

    A mistake in any other formula leaves the results right there.
    """
    first = next(each.trial for each in tried if not each.right)
    calls = calls_of({*inner_formulas(id)}, registry[id].function, first.arguments)
    return {id} | {call.id for call in calls}


def _matching_pairs(id: str, called: set[str], tried: Sequence[Tried]) -> list[tuple[Key, ...]]:
    """Try two mistakes at once, as long as there is time."""
    end = time.thread_time() + _SECONDS
    matches: list[tuple[Key, ...]] = []
    for pair in combinations(suspects(id), 2):
        one, other = (of for of, _ in pair)
        # Of two mistakes of one inner formula, the second would stand alone.
        if called.isdisjoint((one, other)) or one == other != id:
            continue
        orders: list[tuple[Key, ...]] = [pair, pair[::-1]] if one == other else [pair]
        matches += [order for order in orders if _matches(id, order, tried)][:1]
        if time.thread_time() > end:
            break
    return matches


def _matches(id: str, keys: tuple[Key, ...], tried: Sequence[Tried]) -> bool:
    alternative = with_mistakes(id, keys)
    return all(reproduces(alternative, each) for each in tried)


def reproduces(alternative: Function, tried: Tried, dtype: str = "") -> bool:
    """Tell whether a function gives the candidate's numbers. dtype: as exact as in that."""
    trial = tried.trial
    try:
        return agrees(alternative, trial.arguments, tried.got, dtype or trial.dtype)
    except _IMPOSSIBLE:
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
    """Name the first match, and those that give the same numbers."""
    keys, *others = matches
    explanation = " ".join(what_goes_wrong(*key) for key in keys)
    fix = "; ".join(dict.fromkeys(where_to_look(id) for id, _ in keys))
    return Finding(_title(keys), explanation, fix, tuple(keys), tuple(map(_title, others)))


def _title(keys: Sequence[Key]) -> str:
    return " and ".join(f"{name} ({id})" for id, name in keys)


# --- Mistakes that any code can have --------------------------------------------------------------


def mixed_mistakes(
    id: str,
    chosen: Sequence[Tried],
    wrong: Sequence[Tried],
    lower: Sequence[str],
    rounds: Callable[[Function, str], bool],
) -> list[Finding]:
    """Return mistakes of pages together with two swapped axes, or with a lower precision.

    rounds: tells whether the candidate is a function, but for rounding to one of those precisions.
    """
    found = []
    for key in suspects(id):
        alternative = with_mistakes(id, (key,))
        more = [(each.title, each.explanation) for each in swapped_axes(alternative, wrong)]
        more += [
            (f"computed in {dtype}", f"Computed in {dtype}, that gives the candidate's numbers.")
            for dtype in lower
            if all(reproduces(alternative, each, _coarser(dtype, each)) for each in chosen)
            and rounds(alternative, dtype)
        ][:1]
        found += [(key, f"{_title([key])}, {title}", text) for title, text in more]
    if not found:
        return []
    (key, title, text), *others = found
    first = _finding([(key,)])
    equivalents = tuple(title for _, title, _ in others)
    explanation = f"{first.explanation} {text}"
    return [replace(first, title=title, explanation=explanation, equivalents=equivalents)]


def _coarser(dtype: str, tried: Tried) -> str:
    return max(dtype, tried.trial.dtype, key=EPS.__getitem__)


def swapped_axes(function: Function, wrong: Sequence[Tried]) -> list[Finding]:
    """Return the swaps of two axes that explain the wrong trials, the first few of them."""
    first, *others = (_swaps_that_match(function, each) for each in wrong[:_TRIALS_FOR_SWAPS])
    return [each for each in first if all(each in found for found in others)]


def _swaps_that_match(function: Function, tried: Tried) -> list[Finding]:
    """Look for two axes of an argument or a result that the candidate has swapped."""
    arguments, found = tried.trial.arguments, []

    def results(**changed: Any) -> Results:
        return results_of(function, {**arguments, **changed})[: len(tried.got)]

    for name, x in arguments.items():
        for swap in _pairs_of_axes(x):
            try:
                other = results(**{name: np.swapaxes(x, *swap)})
            except _IMPOSSIBLE:
                continue
            if _are_close(other, tried.got):
                found.append(_swap_finding(f"argument {name}", swap))
    try:
        exact = results()
    except _IMPOSSIBLE:
        return found
    for i, y in enumerate(exact):
        for swap in _pairs_of_axes(y):
            other = [np.swapaxes(z, *swap) if j == i else z for j, z in enumerate(exact)]
            if _are_close(other, tried.got):
                found.append(_swap_finding(f"result {i}", swap))
    return found


def _pairs_of_axes(x: Any) -> list[tuple[int, int]]:
    if getattr(x, "ndim", 0) < 2:
        return []
    return [(i - x.ndim, j - x.ndim) for i, j in combinations(range(x.ndim), 2)]


def _swap_finding(what: str, swap: tuple[int, int]) -> Finding:
    return Finding(
        f"axes {swap[0]} and {swap[1]} of {what} swapped",
        "with these two axes swapped, the formula gives the candidate's numbers.",
        "check the order of the axes, or describe it with a layout pattern",
    )


def _are_close(one: Sequence[NDArray[Any]], other: Sequence[NDArray[Any]]) -> bool:
    return len(one) == len(other) and all(
        x.shape == y.shape and np.allclose(x, y, rtol=1e-3, atol=1e-5)
        for x, y in zip(one, other, strict=True)
    )


# --- Gradients ------------------------------------------------------------------------------------


def stopped_gradients(
    id: str, trial: Trial, cotangents: Results, got: Mapping[str, Any]
) -> list[Finding]:
    """Look for what the candidate's gradients take for a constant: arguments, inner formulas."""
    exact = gradients_of(registry[id].function, trial.arguments, cotangents, "float64")
    found = [_stopped_at(path) for path, g in got.items() if g is None and np.any(exact[path])]
    for used in dict.fromkeys(key[0] for key in suspects(id) if key[0] != id):
        function = under(with_results({used: constant}), {used}, registry[id].function)
        stopped = gradients_of(function, trial.arguments, cotangents, "float64")
        if _are_close_gradients(got, stopped):
            explanation = f"the gradients are those with {used} taken for a constant."
            found.append(Finding(f"gradient stopped at {used}", explanation, _STOPS))
    return found


def _stopped_at(path: str) -> Finding:
    explanation = f"no gradient arrives at {path}, as if it were a constant."
    return Finding(f"gradient stopped at argument {path}", explanation, _STOPS)


def mistakes_in_gradients(
    id: str, trial: Trial, cotangents: Results, got: Mapping[str, Any]
) -> list[Finding]:
    """Return the mistakes that give the candidate's gradients, where its values are right."""
    matches: list[tuple[Key, ...]] = []
    for key in suspects(id):
        alternative = with_mistakes(id, (key,))
        try:
            other = gradients_of(alternative, trial.arguments, cotangents, "float64")
        except _IMPOSSIBLE:
            continue
        if _are_close_gradients(got, other):
            matches.append((key,))
    return [_finding(matches)] if matches else []


def _are_close_gradients(got: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    pairs = [(g, other[path]) for path, g in got.items()]
    return all(_are_close([np.zeros_like(c) if g is None else g], [c]) for g, c in pairs)
