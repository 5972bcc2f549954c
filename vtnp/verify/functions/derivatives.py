"""A candidate's gradients held against the formula's: its own, or else central differences."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vtnp._array.trees import tree_leaves, tree_map
from vtnp.verify.errors import CandidateError, told
from vtnp.verify.functions.candidate import Candidate
from vtnp.verify.functions.gradients import Gradients, gradients_of, weights_for
from vtnp.verify.functions.libraries import Differentiating
from vtnp.verify.functions.trials import Trial
from vtnp.verify.judge import MULTIPLE, figures, largest, nudge, results_of, slack
from vtnp.verify.report import Line

Results = list[NDArray[Any]]
Theirs = Mapping[str, NDArray[Any] | None]  # None where a candidate has no gradient
_NUDGES = 3
_RESIDUE = 2.0**10  # units in the last place of the largest gradient
_STEPS = (1e-4, 1e-5, 1e-6)  # of central differences
_OWN = 0.25  # of what a slope may be off, that the formula's own may be


class Compared(NamedTuple):
    """What came of one trial. weights: of the results. got: what the candidate made of it."""

    lines: list[Line]
    weights: Results
    got: Theirs


def compared(candidate: Candidate, trial: Trial) -> Compared:
    """Compare the gradients of a weighed sum of results, by every argument."""
    function = candidate.entry.function
    weights = weights_for(results_of(function, trial.arguments), trial.seed)
    exact = gradients_of(function, trial.arguments, weights, "float64")
    got: Theirs = {}
    try:
        if isinstance(candidate.library, Differentiating):
            got = _theirs(candidate, candidate.library, trial, weights, list(exact))
            lines = list(_judged(candidate, trial, weights, exact, got))
        elif trial.dtype == "float64":
            lines = list(_slopes(candidate, trial, weights, exact))
        else:
            lines = []
    except CandidateError as error:
        lines = [Line("gradient", "all", trial.name, holds=False, note=str(error))]
    return Compared(lines, weights, got)


# --- Of the candidate's own library ---------------------------------------------------------------


def _theirs(
    candidate: Candidate,
    library: Differentiating,
    trial: Trial,
    weights: Results,
    paths: Sequence[str],
) -> dict[str, NDArray[Any] | None]:
    """Return the candidate's own gradients by the paths of the arguments it takes.

    library: the candidate's. Raises CandidateError.
    """
    layout = candidate.layout
    brought = candidate.there(trial.arguments, trial.dtype)
    chosen = [(path, x) for path, x in tree_leaves(brought) if path in paths]
    names = candidate.entry.signature.returns
    real = [i for i, each in enumerate(names) if each.kind == "float"]
    given = [library.there(layout.there(names[i].name, weights[i]), trial.dtype) for i in real]

    def of_chosen(*values: Any) -> Sequence[Any]:
        placed = dict(zip((path for path, _ in chosen), values, strict=True))
        by_path = iter([placed.get(path, x) for path, x in tree_leaves(brought)])
        results = candidate.raw(tree_map(lambda _: next(by_path), brought))
        return [results[i] for i in real]

    try:
        with candidate.at_work():
            found = library.gradients(of_chosen, [x for _, x in chosen], given)
            back = [None if g is None else library.back(g) for g in found]
    except CandidateError:
        raise
    except Exception as error:
        raise CandidateError(f"no gradient: {told(error)}") from error
    sizes = candidate.sizes(trial.arguments)
    result = {}
    for (path, _), g in zip(chosen, back, strict=True):
        result[path] = None if g is None else layout.back(path, g, sizes)
    return result


def _judged(
    candidate: Candidate, trial: Trial, weights: Results, exact: Gradients, got: Theirs
) -> Iterator[Line]:
    units = _units(candidate, trial, weights, exact)
    for path, g in got.items():
        if g is not None:
            (found,) = figures([g], [exact[path]], [units[path]], trial.dtype)
            holds, note = found.holds, found.note
            yield Line("gradient", path, trial.name, holds, found.error, found.bound, note)
        elif np.any(exact[path]):
            note = "there is none: the result does not depend on it"
            yield Line("gradient", path, trial.name, holds=False, note=note)


def _units(
    candidate: Candidate, trial: Trial, weights: Results, exact: Gradients
) -> dict[str, float]:
    """Return what the formula's gradients err by, as judge.units_of has it of its results."""
    function, dtype = candidate.entry.function, trial.dtype
    single = gradients_of(function, trial.arguments, weights, "float32")
    units = {path: slack([g], [single[path]])[0] for path, g in exact.items()}
    if dtype == "float64":
        for seed in range(_NUDGES):
            moved = gradients_of(function, nudge(trial.arguments, dtype, seed), weights, dtype)
            for path, g in exact.items():
                units[path] = max(units[path], MULTIPLE * slack([g], [moved[path]], dtype)[0])
        # A gradient that cancels to nothing beside the others is the rounding of its parts.
        residue = _RESIDUE * max(map(largest, exact.values()), default=0.0)
        units = {path: max(unit, residue) for path, unit in units.items()}
    return units


# --- By central differences -----------------------------------------------------------------------


def _slopes(
    candidate: Candidate, trial: Trial, weights: Results, exact: Gradients
) -> Iterator[Line]:
    """Compare the slope of the weighed sum of results along a random direction, in float64.

    Notes: a direction along which the formula's own differences are not its gradient, since there
    is a kink or too sharp a bend within the step, is taken in smaller steps, or left out.
    """

    def ours(arguments: Mapping[str, Any]) -> Results:
        return results_of(candidate.entry.function, arguments)

    rng = np.random.default_rng(trial.seed)
    for path in exact:
        if path.partition(".")[0] not in candidate.places:
            continue
        direction = rng.standard_normal(exact[path].shape)
        products = exact[path] * direction
        meant = float(products.sum())
        least = 1e-6 * float(np.abs(products).sum())
        for h in _STEPS:
            along = [moved_by(trial.arguments, path, k * h * direction) for k in (-2, -1, 1, 2)]
            slope, size = _slope(ours, along, weights, h)
            bound = least + 1e-6 * size
            if abs(slope - meant) <= _OWN * bound:
                theirs, _ = _slope(candidate, along, weights, h)
                error = abs(theirs - meant)
                note = "" if error <= bound else f"slope {theirs:.9g}, not {meant:.9g}"
                yield Line("gradient", path, trial.name, not note, error, bound, note)
                break


def _slope(
    function: Callable[[Mapping[str, Any]], Results],
    along: Sequence[Mapping[str, Any]],
    weights: Results,
    h: float,
) -> tuple[float, float]:
    """Return the slope of the weighed sum of results in the midst of four points, and its size."""
    a, b, c, d = (
        sum(
            float(np.sum(np.where(w == 0.0, 0.0, y * w)))
            for y, w in zip(function(arguments), weights, strict=False)
        )
        for arguments in along
    )
    return (8.0 * (c - b) - (d - a)) / (12.0 * h), abs(b)


def moved_by(arguments: Mapping[str, Any], path: str, step: NDArray[Any]) -> dict[str, Any]:
    """Add a step to one array of a tree of arguments."""
    by_path = iter([x + step if name == path else x for name, x in tree_leaves(dict(arguments))])
    return dict(tree_map(lambda _: next(by_path), dict(arguments)))
