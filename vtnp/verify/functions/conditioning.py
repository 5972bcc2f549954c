"""Which trials are fair: where a right implementation is found right, and a wrong one is not.

A right one is as if it erred in the last place of its inputs, and of what the formulas within make
of them. What that moves too far judges nobody, nor what overflows a lower precision in the formula
itself, what is chosen of near ties, what a pseudo-inverse cuts off by chance, or what the formula
gets wrong by a quarter itself.
"""

import pickle  # makes keys, and is read nowhere
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vtnp._registry.calls import Call, Handler
from vtnp._registry.spec import registry
from vtnp.verify.functions.trials import INVERSE, Trial, inversions
from vtnp.verify.handlers import Function, calls_of, under, with_arguments, with_results
from vtnp.verify.judge import (
    EPS,
    HALVES,
    figures,
    largest,
    nudge,
    nudged,
    results_of,
    units_of,
)
from vtnp.verify.page_text import inner_formulas

Results = list[NDArray[Any]]
_REMEMBERED = 1024  # trials
_NUDGES = 3
_NUDGED = 0.25  # of its bound, that an error in the last place may make
_NUDGED_HALF = 0.5
_ROUGH = 0.25  # of the largest number, which no bound may exceed
_CUT = (0.5, 4.0)  # between these, times size and rounding, libraries cut off singular values
_DOUBT = 16.0  # times what rounding moves a matrix by, singular values are in doubt


class Meant(NamedTuple):
    """What a formula makes of a trial: results, what they err by, and whether it is fair."""

    exact: Results
    units: list[float]
    is_fair: bool


def meant(id: str, trial: Trial) -> Meant:
    """Return it; of the last trials, to which several candidates may be put, it is remembered."""
    return _meant(_Asked(id, trial))


class _Asked:
    """A question, equal to every other of the same numbers."""

    def __init__(self, id: str, trial: Trial) -> None:
        self.id, self.trial = id, trial
        self._key = pickle.dumps((id, trial))

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Asked) and self._key == other._key


@lru_cache(_REMEMBERED)
def _meant(asked: _Asked) -> Meant:
    id, trial = asked.id, asked.trial
    function = registry[id].function
    exact = results_of(function, trial.arguments)
    units = units_of(function, trial.arguments, exact, trial.dtype)
    return Meant(exact, units, _is_fair(id, trial, exact, units))


def _is_fair(id: str, trial: Trial, exact: Results, units: Sequence[float]) -> bool:
    arguments, dtype, function = trial.arguments, trial.dtype, registry[id].function
    if dtype in HALVES and chooses(id, arguments):
        return False
    try:
        lower = [results_of(function, arguments, "float32")]
        lower += [results_of(function, arguments, "float16")] * (dtype in HALVES)
    except (TypeError, np.linalg.LinAlgError):  # NumPy's linear algebra has no half precision
        return False
    if not all(_is_alike(x, y) for each in lower for x, y in zip(each, exact, strict=True)):
        return False
    most = _NUDGED_HALF if dtype in HALVES else _NUDGED
    inverted = _matrices(inversions(id, function, arguments))
    for k in range(_NUDGES):
        noisy = _noisy(id, dtype, trial.seed + k)
        matrices = _matrices(inversions(id, noisy, arguments)) if inverted else []
        blurred = under(_blurring(trial.seed + k), {INVERSE}, noisy) if inverted else noisy
        results = results_of(blurred, nudge(arguments, dtype, trial.seed + k))
        judged = figures(results, exact, units, dtype)
        rough = (f.bound > _ROUGH * largest(y) > 0.0 for f, y in zip(judged, exact, strict=True))
        if any(each.ratio > most for each in judged) or any(rough):
            return False
        if any(_rank_is_chance(A, B) for A, B in zip(inverted, matrices, strict=True)):
            return False
    return True


def chooses(id: str, arguments: Mapping[str, Any]) -> bool:
    """Tell whether rows are chosen on the way by their numbers.

    In half precision, and among digits, many are alike but for how they have been rounded, which a
    little noise does not bring out.
    """
    if _returns_a_choice(id):
        return True
    within = {used for used in inner_formulas(id) if _returns_a_choice(used)}
    return bool(within and calls_of(within, registry[id].function, arguments))


def _returns_a_choice(id: str) -> bool:
    signature = registry[id].signature
    of_numbers = any(each.kind == "float" for each in signature.arguments)
    return of_numbers and any(each.kind == "int" for each in signature.returns)


def _is_alike(lower: NDArray[Any], exact: NDArray[Any]) -> bool:
    """Compare what no rounding may change: whole numbers, and what is finite."""
    if exact.dtype.kind != "f":
        return np.array_equal(lower, exact)
    return bool(np.all(np.isfinite(lower) | ~np.isfinite(exact)))


# --- Noise ----------------------------------------------------------------------------------------


def _noisy(id: str, dtype: str, seed: int) -> Function:
    """Return the formula with an error in the last place in the results of all it is made of."""
    changes: dict[str, Callable[[Any], Any]] = {
        used: partial(nudged, dtype=dtype, seed=seed + k)
        for k, used in enumerate(inner_formulas(id))
    }
    return under(with_results(changes), changes, registry[id].function)


# --- Pseudo-inverses ------------------------------------------------------------------------------


def _matrices(inversions: Sequence[Call]) -> Results:
    """Return what pseudo-inverses are taken of."""
    return [np.asarray(call.arguments["A"]) for call in inversions]


def _blurring(seed: int) -> Handler:
    """Let pseudo-inverses err as those by singular values may: by the largest of them."""

    def blurred(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        A = arguments["A"]
        signs = np.random.default_rng(seed).choice([-1.0, 1.0], A.shape)
        step = EPS["float64"] * np.max(np.abs(A), axis=(-2, -1), keepdims=True, initial=0.0)
        return {**arguments, "A": (A + step * signs).astype(A.dtype)}

    return with_arguments(INVERSE, blurred)


def _rank_is_chance(A: NDArray[Any], moved: NDArray[Any]) -> bool:
    """Tell whether rounding decides which singular values count as 0."""
    sigma = np.linalg.svd(A, compute_uv=False)
    least, most = (k * max(A.shape[-2:]) * EPS["float64"] * sigma[..., :1] for k in _CUT)
    doubt = _DOUBT * np.linalg.norm(moved - A, axis=(-2, -1))[..., None]
    is_clear = (sigma > most + doubt) | (sigma + doubt < least)
    return not bool(np.all(is_clear))
