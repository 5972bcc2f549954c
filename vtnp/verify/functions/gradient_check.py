"""A candidate's gradients against the formula's: by its own library, or by central differences."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vtnp._array.trees import tree_leaves, tree_replaced
from vtnp.verify.errors import CandidateError, in_one_line
from vtnp.verify.functions.candidate import Candidate
from vtnp.verify.functions.libraries import Differentiating
from vtnp.verify.functions.trials import Trial
from vtnp.verify.gradients import Gradients, gradients_of, random_cotangents
from vtnp.verify.judge import (
    MULTIPLE,
    deviation,
    error_units,
    largest,
    perturbed,
    results_of,
)
from vtnp.verify.report import Line

Results = list[NDArray[Any]]
CandidateGradients = Mapping[str, NDArray[Any] | None]  # None where a candidate has no gradient
_PERTURBATIONS = 3
_RESIDUE = 2.0**10  # units in the last place of the largest gradient
_STEPS = (1e-4, 1e-5, 1e-6)  # of central differences
_OWN_SHARE = 0.25  # of the bound of a slope, that the formula's own differences may be off


class GradientCheck(NamedTuple):
    """What one trial gave. cotangents: weights of the results. got: the candidate's gradients."""

    lines: list[Line]
    cotangents: Results
    got: CandidateGradients


def check_gradients(candidate: Candidate, trial: Trial) -> GradientCheck:
    """Compare the gradients of a weighted sum of results, by every argument."""
    function = candidate.entry.function
    cotangents = random_cotangents(results_of(function, trial.arguments), trial.seed)
    exact = gradients_of(function, trial.arguments, cotangents, "float64")
    got: CandidateGradients = {}
    try:
        if isinstance(candidate.library, Differentiating):
            got = _by_library(candidate, candidate.library, trial, cotangents, list(exact))
            lines = list(_judged(candidate, trial, cotangents, exact, got))
        elif trial.dtype == "float64":
            lines = list(_slopes(candidate, trial, cotangents, exact))
        else:
            lines = []
    except CandidateError as error:
        lines = [Line("gradient", "all", trial.name, holds=False, note=str(error))]
    return GradientCheck(lines, cotangents, got)


# --- By the candidate's own library ---------------------------------------------------------------


def _by_library(
    candidate: Candidate,
    library: Differentiating,
    trial: Trial,
    cotangents: Results,
    paths: Sequence[str],
) -> dict[str, NDArray[Any] | None]:
    """Return the candidate's own gradients by the paths of the arguments it takes.

    library: the candidate's. Raises CandidateError.
    """
    layout = candidate.layout
    arguments = candidate.to_library(trial.arguments, trial.dtype)
    variables = [(path, x) for path, x in tree_leaves(arguments) if path in paths]
    returns = candidate.entry.signature.returns
    real = [i for i, each in enumerate(returns) if each.kind == "float"]
    weights = [
        library.to_library(layout.to_candidate(returns[i].name, cotangents[i]), trial.dtype)
        for i in real
    ]

    def of_variables(*values: Any) -> Sequence[Any]:
        results = candidate.call(tree_replaced(arguments, dict(zip(
            (path for path, _ in variables), values, strict=True
        ))))  # fmt: skip
        return [results[i] for i in real]

    try:
        with candidate.running():
            found = library.gradients(of_variables, [x for _, x in variables], weights)
            numbers = [None if g is None else library.to_numpy(g) for g in found]
    except CandidateError:
        raise
    except Exception as error:
        raise CandidateError(f"no gradient: {in_one_line(error)}") from error
    sizes = candidate.sizes(trial.arguments)
    return {
        path: None if g is None else layout.to_formula(path, g, sizes)
        for (path, _), g in zip(variables, numbers, strict=True)
    }


def _judged(
    candidate: Candidate,
    trial: Trial,
    cotangents: Results,
    exact: Gradients,
    got: CandidateGradients,
) -> Iterator[Line]:
    units = _own_error_units(candidate, trial, cotangents, exact)
    for path, g in got.items():
        if g is not None:
            each = deviation(g, exact[path], units[path], trial.dtype)
            yield Line(
                "gradient", path, trial.name, each.holds, each.error, each.bound, each.note
            )  # fmt: skip
        elif np.any(exact[path]):
            note = _why_there_is_none(candidate, trial, path)
            yield Line("gradient", path, trial.name, holds=False, note=note)


def _why_there_is_none(candidate: Candidate, trial: Trial, path: str) -> str:
    """Tell a result that does not depend on an argument from one whose gradient is cut off."""
    x = dict(tree_leaves(dict(trial.arguments)))[path]
    step = 0.5 * np.random.default_rng(trial.seed).standard_normal(x.shape)
    points = trial.arguments, moved_along(trial.arguments, path, step)
    before, after = (candidate(arguments, trial.dtype) for arguments in points)
    if all(map(np.array_equal, before, after)):
        return "the result does not depend on it"
    return "no gradient arrives, though the result depends on it: look for detach or no_grad"


def _own_error_units(
    candidate: Candidate, trial: Trial, cotangents: Results, exact: Gradients
) -> dict[str, float]:
    """Return what the formula's gradients err by, as judge.own_error_units does for its results."""
    function, dtype = candidate.entry.function, trial.dtype
    single = gradients_of(function, trial.arguments, cotangents, "float32")
    units = {path: error_units([g], [single[path]])[0] for path, g in exact.items()}
    if dtype == "float64":
        for seed in range(_PERTURBATIONS):
            arguments = perturbed(trial.arguments, dtype, seed)
            moved = gradients_of(function, arguments, cotangents, dtype)
            for path, g in exact.items():
                of_inputs = error_units([g], [moved[path]], dtype)[0]
                units[path] = max(units[path], MULTIPLE * of_inputs)
        # A gradient that cancels to nothing beside the others is the rounding of its terms.
        residue = _RESIDUE * max(map(largest, exact.values()), default=0.0)
        units = {path: max(unit, residue) for path, unit in units.items()}
    return units


# --- By central differences -----------------------------------------------------------------------


def _slopes(
    candidate: Candidate, trial: Trial, cotangents: Results, exact: Gradients
) -> Iterator[Line]:
    """Compare the slope of the weighted sum of results along a random direction, in float64.

    Where the formula's own differences along a direction are not its gradient, since there is a
    kink or too sharp a bend within the step, smaller steps are tried, and else none.
    """

    def formula(arguments: Mapping[str, Any]) -> Results:
        return results_of(candidate.entry.function, arguments)

    rng = np.random.default_rng(trial.seed)
    for path in exact:
        if path.partition(".")[0] not in candidate.parameters:
            continue
        direction = rng.standard_normal(exact[path].shape)
        products = exact[path] * direction
        expected = float(products.sum())
        least = 1e-6 * float(np.abs(products).sum())
        for h in _STEPS:
            points = [moved_along(trial.arguments, path, k * h * direction) for k in (-2, -1, 1, 2)]
            slope, size = _slope(formula, points, cotangents, h)
            bound = least + 1e-6 * size
            if abs(slope - expected) <= _OWN_SHARE * bound:
                got, _ = _slope(candidate, points, cotangents, h)
                error = abs(got - expected)
                note = "" if error <= bound else f"slope {got:.9g}, expected {expected:.9g}"
                yield Line("gradient", path, trial.name, not note, error, bound, note)
                break


def _slope(
    function: Callable[[Mapping[str, Any]], Results],
    points: Sequence[Mapping[str, Any]],
    cotangents: Results,
    h: float,
) -> tuple[float, float]:
    """Return the slope of the weighted sum of results amid four points h apart, and its size."""
    a, b, c, d = (
        sum(
            float(np.sum(np.where(w == 0.0, 0.0, y * w)))
            for y, w in zip(function(arguments), cotangents, strict=False)
        )
        for arguments in points
    )
    return (8.0 * (c - b) - (d - a)) / (12.0 * h), abs(b)


def moved_along(arguments: Mapping[str, Any], path: str, step: NDArray[Any]) -> dict[str, Any]:
    """Return arguments with a step added to one array of them."""
    x = dict(tree_leaves(dict(arguments)))[path]
    return tree_replaced(arguments, {path: x + step})
