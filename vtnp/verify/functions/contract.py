"""What holds beyond single numbers: laws, dtypes, devices, manners."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtnp._array.trees import tree_leaves, tree_map
from vtnp.claims import claims
from vtnp.claims.cases import make
from vtnp.verify.errors import CandidateError, NotTakenError
from vtnp.verify.functions.candidate import Candidate
from vtnp.verify.functions.trials import Trial
from vtnp.verify.judge import agrees
from vtnp.verify.report import Line

Results = list[NDArray[Any]]


def watched(candidate: Candidate, trial: Trial) -> tuple[Results, list[str]]:
    """Call it, and see that it leaves its inputs alone and keeps dtype and device.

    Returns its results, and what was seen. Raises CandidateError.
    """
    library = candidate.library
    brought = candidate.there(trial.arguments, trial.dtype)
    before = [library.back(x).copy() for _, x in tree_leaves(brought)]
    results = candidate.raw(brought)
    arrays = list(tree_leaves(brought))
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
    real = (str(x.dtype) for _, x in tree_leaves(dict(arguments)) if x.dtype.kind == "f")
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
        strided = candidate.raw(tree_map(candidate.library.strided, brought))
        got = candidate.read(strided, trial.arguments)
        holds = agrees(function, trial.arguments, got, trial.dtype)
        note = "" if holds else "wrong where there are gaps in memory"
        yield Line("rule", "strided input", trial.name, holds, note=note)
    except CandidateError as error:
        yield Line("rule", "strided input", trial.name, holds=False, note=str(error))
