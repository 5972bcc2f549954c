"""What holds beyond single numbers: gradients, laws, dtypes, devices, manners."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtnp.claims import claims
from vtnp.claims.cases import make
from vtnp.trees import leaves, mapped
from vtnp.verify.candidate import Candidate
from vtnp.verify.errors import CandidateError, NotTakenError, told
from vtnp.verify.judge import agrees, results_of
from vtnp.verify.libraries import Differentiating
from vtnp.verify.report import Line
from vtnp.verify.trials import Trial

Results = list[NDArray[Any]]
_STEPS = (1e-4, 1e-5, 1e-6)  # of central differences
_OWN = 0.25  # of what a slope may be off, that the formula's own may be


def watched(candidate: Candidate, trial: Trial) -> tuple[Results, list[str]]:
    """Call it, and see that it leaves its inputs alone and keeps dtype and device.

    Returns its results, and what was seen. Raises CandidateError.
    """
    library = candidate.library
    brought = candidate.there(trial.arguments, trial.dtype)
    before = [library.back(x).copy() for _, x in leaves(brought)]
    results = candidate.raw(brought)
    arrays = list(leaves(brought))
    got = candidate.read(results, trial.arguments)
    seen = [
        f"changes its argument {path} in place"
        for (path, x), old in zip(arrays, before, strict=True)
        if not np.array_equal(library.back(x), old, equal_nan=old.dtype.kind == "f")
    ]
    where = {library.device_of(x) for _, x in arrays}
    for meant, y in zip(candidate.entry.signature.returns, results, strict=False):
        dtype = library.dtype_of(y)
        if dtype != trial.dtype and meant.kind == "float":
            seen.append(f"returns {dtype} for {trial.dtype}")
        if where and library.device_of(y) not in where:
            seen.append(f"returns a result on {library.device_of(y)}, not on {', '.join(where)}")
    return got, seen


def gradients(
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
    chosen = [(path, x) for path, x in leaves(brought) if path in paths]
    names = candidate.entry.signature.returns
    real = [i for i, each in enumerate(names) if each.kind == "float"]
    given = [library.there(layout.there(names[i].name, weights[i]), trial.dtype) for i in real]

    def of_chosen(*values: Any) -> Sequence[Any]:
        placed = dict(zip((path for path, _ in chosen), values, strict=True))
        by_path = iter([placed.get(path, x) for path, x in leaves(brought)])
        results = candidate.raw(mapped(lambda _: next(by_path), brought))
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


def laws(
    candidate: Candidate,
    seed: int,
    seeds: int,
    batches: Sequence[tuple[int, ...]],
    sizes: Mapping[str, int],
) -> Iterator[Line]:
    """Put the laws and special cases of the formula's page to the candidate, in float64."""

    def function(**arguments: Any) -> Any:
        results = candidate(arguments, _precision_of(arguments))
        return results[0] if len(results) == 1 else tuple(results)

    id = candidate.entry.id
    # What needs autograd, or vtnp's own errors, is no business of a candidate.
    ours = ("differentiates", "refuses")
    for claim in claims.values():
        if claim.id != id or any(claim.options.get(need) for need in ours):
            continue
        tried, broken = 0, ""
        for k in range(seeds):
            batch = batches[k % len(batches)]
            case = make(id, seed + k, batch, sizes=sizes)
            try:
                taken = candidate.taken(case.args)
                with np.errstate(all="ignore"):
                    claim.check(replace(case, args=taken, function=function))
                tried += 1
            except NotTakenError:
                continue
            except (AssertionError, CandidateError) as error:
                tried += 1
                broken = broken or (str(error).splitlines() or ["does not hold"])[0][:160]
            except (LookupError, ValueError, TypeError, ArithmeticError):
                continue  # it needs an argument that was left out, or results that are sound
        if tried:
            case_name = f"{tried} cases, float64"
            yield Line(claim.kind, claim.name, case_name, not broken, note=broken)


def _precision_of(arguments: Mapping[str, Any]) -> str:
    """Return the dtype of the real numbers, which a few laws lower."""
    real = (str(x.dtype) for _, x in leaves(dict(arguments)) if x.dtype.kind == "f")
    return next(real, "float64")


def manners(candidate: Candidate, trial: Trial) -> Iterator[Line]:
    """See that the same input gives the same numbers, and strided input those of any other."""
    first, again = (candidate(trial.arguments, trial.dtype) for _ in range(2))
    same = all(np.array_equal(x, y, equal_nan=True) for x, y in zip(first, again, strict=True))
    note = "" if same else "two calls with the same input differ"
    yield Line("rule", "deterministic", trial.name, same, note=note)
    function = candidate.entry.function
    try:
        brought = candidate.there(trial.arguments, trial.dtype)
        strided = candidate.raw(mapped(candidate.library.strided, brought))
        got = candidate.read(strided, trial.arguments)
        holds = agrees(function, trial.arguments, got, trial.dtype)
        note = "" if holds else "wrong where there are gaps in memory"
        yield Line("rule", "strided input", trial.name, holds, note=note)
    except CandidateError as error:
        yield Line("rule", "strided input", trial.name, holds=False, note=str(error))


def slopes(
    candidate: Candidate, trial: Trial, weights: Results, exact: Mapping[str, NDArray[Any]]
) -> Iterator[tuple[str, float, float, float]]:
    """Compare the formula's gradients with central differences of the candidate, in float64.

    Yields for each argument the slope of the weighed sum of results along a random direction, the
    one that the gradient means, and the most by which they may differ.
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
            along = [_moved(trial.arguments, path, k * h * direction) for k in (-2, -1, 1, 2)]
            slope, size = _slope(ours, along, weights, h)
            bound = least + 1e-6 * size
            if abs(slope - meant) <= _OWN * bound:
                yield path, _slope(candidate, along, weights, h)[0], meant, bound
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


def _moved(arguments: Mapping[str, Any], path: str, step: NDArray[Any]) -> dict[str, Any]:
    """Add a step to one array of a tree of arguments."""
    by_path = iter([x + step if name == path else x for name, x in leaves(dict(arguments))])
    return dict(mapped(lambda _: next(by_path), dict(arguments)))
