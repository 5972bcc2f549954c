"""Which trials are well conditioned: there a right implementation is right, and a wrong one wrong.

A right implementation may err in the last place of its inputs, and of the results of the formulas
within. A trial judges nobody where that moves the result too far, where the formula itself
overflows in a lower precision or is wrong by a quarter, where it chooses between near ties, or
where rounding decides which singular values a pseudo-inverse cuts off.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vtnp._registry.calls import Call, Handler
from vtnp._registry.spec import registry
from vtnp.verify.functions.trials import Trial, inverses
from vtnp.verify.handlers import Function, calls_of, under, with_arguments, with_results
from vtnp.verify.judge import (
    EPS,
    HALF_PRECISIONS,
    INVERSE,
    deviations,
    largest,
    own_error_units,
    perturbed,
    perturbed_array,
    results_of,
)
from vtnp.verify.page_text import inner_formulas

Results = list[NDArray[Any]]
_REMEMBERED = 1024  # trials
_PERTURBATIONS = 3
_MOVED = 0.25  # of its bound: how far errors in the last place may move a result
_MOVED_IN_HALF = 0.5
_ROUGH = 0.25  # of the largest number, which no bound may exceed
_CUT = (0.5, 4.0)  # between these, times size and rounding, libraries cut off singular values
_DOUBT = 16.0  # times what rounding moves a matrix by, singular values are in doubt


class Reference(NamedTuple):
    """What a formula makes of a trial.

    exact: its results in float64. units: what it errs by itself, as judge.own_error_units says.
    """

    exact: Results
    units: list[float]
    is_well_conditioned: bool


def reference(id: str, trial: Trial) -> Reference:
    """Return what a formula makes of a trial; the last trials are remembered."""
    return _reference(_Question(id, trial.key, trial))


@dataclass(frozen=True)
class _Question:
    """A formula and a trial, equal to any other of the same numbers."""

    id: str
    key: Hashable
    trial: Trial = field(compare=False)


@lru_cache(_REMEMBERED)
def _reference(question: _Question) -> Reference:
    id, trial = question.id, question.trial
    function = registry[id].function
    exact = results_of(function, trial.arguments)
    units = own_error_units(function, trial.arguments, exact, trial.dtype)
    return Reference(exact, units, _is_well_conditioned(id, trial, exact, units))


def _is_well_conditioned(id: str, trial: Trial, exact: Results, units: Sequence[float]) -> bool:
    arguments, dtype, function = trial.arguments, trial.dtype, registry[id].function
    if dtype in HALF_PRECISIONS and chooses(id, arguments):
        return False
    lower = [results_of(function, arguments, "float32")]
    lower += [results_of(function, arguments, "float16")] * (dtype in HALF_PRECISIONS)
    if not all(_is_kept(x, y) for each in lower for x, y in zip(each, exact, strict=True)):
        return False
    most = _MOVED_IN_HALF if dtype in HALF_PRECISIONS else _MOVED
    inverted = _matrices(inverses(id, function, arguments))
    for k in range(_PERTURBATIONS):
        noisy = _noisy(id, dtype, trial.seed + k)
        moved_matrices = _matrices(inverses(id, noisy, arguments)) if inverted else []
        blurred = under(_blurred(trial.seed + k), {INVERSE}, noisy) if inverted else noisy
        results = results_of(blurred, perturbed(arguments, dtype, trial.seed + k))
        moved = deviations(results, exact, units, dtype)
        rough = (x.bound > _ROUGH * largest(y) > 0.0 for x, y in zip(moved, exact, strict=True))
        if any(each.ratio > most for each in moved) or any(rough):
            return False
        pairs = zip(inverted, moved_matrices, strict=True)
        if any(_has_doubtful_rank(A, A_moved) for A, A_moved in pairs):
            return False
    return True


def chooses(id: str, arguments: Mapping[str, Any]) -> bool:
    """Tell whether a formula, or one within, chooses rows by their numbers.

    In half precision, and among digits, many rows are tied but for rounding, which a little noise
    does not reveal.
    """
    if _returns_a_choice(id):
        return True
    within = {used for used in inner_formulas(id) if _returns_a_choice(used)}
    return bool(within and calls_of(within, registry[id].function, arguments))


def _returns_a_choice(id: str) -> bool:
    signature = registry[id].signature
    of_numbers = any(each.kind == "float" for each in signature.arguments)
    return of_numbers and any(each.kind == "int" for each in signature.returns)


def _is_kept(lower: NDArray[Any], exact: NDArray[Any]) -> bool:
    """Compare what no rounding may change: integers, and which numbers are finite."""
    if exact.dtype.kind != "f":
        return np.array_equal(lower, exact)
    return bool(np.all(np.isfinite(lower) | ~np.isfinite(exact)))


def _noisy(id: str, dtype: str, seed: int) -> Function:
    """Return the formula with errors in the last place in the results of all formulas within."""
    changes: dict[str, Callable[[Any], Any]] = {
        used: partial(perturbed_array, dtype=dtype, seed=seed + k)
        for k, used in enumerate(inner_formulas(id))
    }
    return under(with_results(changes), changes, registry[id].function)


# --- Pseudo-inverses ------------------------------------------------------------------------------


def _matrices(inverses: Sequence[Call]) -> Results:
    """Return what pseudo-inverses are taken of."""
    return [np.asarray(call.arguments["A"]) for call in inverses]


def _blurred(seed: int) -> Handler:
    """Let pseudo-inverses err as singular values do: in proportion to the largest number."""

    def blur(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        A = arguments["A"]
        signs = np.random.default_rng(seed).choice([-1.0, 1.0], A.shape)
        step = EPS["float64"] * np.max(np.abs(A), axis=(-2, -1), keepdims=True, initial=0.0)
        return {**arguments, "A": (A + step * signs).astype(A.dtype)}

    return with_arguments(INVERSE, blur)


def _has_doubtful_rank(A: NDArray[Any], moved: NDArray[Any]) -> bool:
    """Tell whether rounding decides which singular values count as 0."""
    sigma = np.linalg.svd(A, compute_uv=False)
    least, most = (k * max(A.shape[-2:]) * EPS["float64"] * sigma[..., :1] for k in _CUT)
    doubt = _DOUBT * np.linalg.norm(moved - A, axis=(-2, -1))[..., None]
    is_clear = (sigma > most + doubt) | (sigma + doubt < least)
    return not bool(np.all(is_clear))
