"""What holds beyond single numbers: the page's laws, and the contract of any implementation.

The contract: inputs stay unchanged, dtype and device are kept, the same input gives the same
numbers, whatever its strides.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtnp._array.trees import tree_leaves, tree_map
from vtnp.claims import claims
from vtnp.claims.cases import make
from vtnp.claims.errors import NotApplicableError
from vtnp.verify.errors import ArgumentNotTakenError, CandidateError
from vtnp.verify.functions.candidate import Candidate
from vtnp.verify.functions.trials import Trial
from vtnp.verify.judge import agrees
from vtnp.verify.report import Kind, Line

Results = list[NDArray[Any]]
DETERMINISTIC = "deterministic"  # the rule's name
_NOTE_LENGTH = 160
_CALLS = 3  # of which two may be alike by chance, where few numbers are dropped


def watched_call(candidate: Candidate, trial: Trial) -> tuple[Results, list[tuple[str, str]]]:
    """Call a candidate, and watch whether it leaves inputs unchanged and keeps dtype and device.

    Returns its results, and the rules that it breaks, each with a note. Raises CandidateError.
    """
    library = candidate.library
    arguments = candidate.to_library(trial.arguments, trial.dtype)
    before = [library.to_numpy(x).copy() for _, x in tree_leaves(arguments)]
    results = candidate.call(arguments)
    arrays = list(tree_leaves(arguments))
    got = candidate.to_numpy(results, trial.arguments)
    broken = []
    for (path, x), old in zip(arrays, before, strict=True):
        if not np.array_equal(library.to_numpy(x), old, equal_nan=old.dtype.kind == "f"):
            broken.append(("inputs unchanged", f"changes its argument {path} in place"))
    devices = {library.device_of(x) for _, x in arrays}
    for argument, y in zip(candidate.entry.signature.returns, results, strict=False):
        dtype, device = library.dtype_of(y), library.device_of(y)
        if dtype != trial.dtype and argument.kind == "float":
            broken.append(("dtype", f"returns {dtype} for {trial.dtype}"))
        if devices and device not in devices:
            expected = ", ".join(devices)
            broken.append(("device", f"returns a result on {device}, expected {expected}"))
    return got, broken


def check_laws(
    candidate: Candidate,
    seed: int,
    seeds: int,
    batches: Sequence[tuple[int, ...]],
    sizes: Mapping[str, int],
) -> Iterator[Line]:
    """Check the laws and special cases of the formula's page, in float64."""

    def function(**arguments: Any) -> Any:
        found = candidate.sizes(arguments)
        if any(found.get(axis, size) != size for axis, size in sizes.items()):
            raise NotApplicableError("sizes that the candidate has not fixed")
        results = candidate(arguments, _precision_of(arguments))
        return results[0] if len(results) == 1 else tuple(results)

    id = candidate.entry.id
    # Laws that need autograd, or vtnp's own errors, do not apply to a candidate.
    not_applicable = ("differentiates", "refuses")
    for claim in claims.values():
        if claim.id != id or any(claim.options.get(need) for need in not_applicable):
            continue
        tried, broken = 0, ""
        for k in range(seeds):
            batch = batches[k % len(batches)]
            case = make(id, seed + k, batch, sizes=sizes)
            try:
                arguments = candidate.select(case.args)
                with np.errstate(all="ignore"):
                    claim.check(replace(case, args=arguments, function=function))
                tried += 1
            except ArgumentNotTakenError:
                continue
            except (AssertionError, CandidateError) as error:
                tried += 1
                first = next(iter(str(error).lstrip(": ").splitlines()), "does not hold")
                broken = broken or first[:_NOTE_LENGTH]
            except (LookupError, ValueError, TypeError, ArithmeticError, NotApplicableError):
                continue  # it needs an argument that was left out, or results that are sound
        if tried:
            kind: Kind = "special" if claim.kind == "special" else "law"
            yield Line(kind, claim.name, f"{tried} cases, float64", not broken, note=broken)


def _precision_of(arguments: Mapping[str, Any]) -> str:
    """Return the dtype of the real numbers, which a few laws lower."""
    real = (str(x.dtype) for _, x in tree_leaves(dict(arguments)) if x.dtype.kind == "f")
    return next(real, "float64")


def check_repeated(candidate: Candidate, trial: Trial) -> Line:
    """Check that the same input gives the same numbers."""
    first, *others = (candidate(trial.arguments, trial.dtype) for _ in range(_CALLS))
    same = all(
        np.array_equal(x, y, equal_nan=y.dtype.kind == "f")
        for again in others
        for x, y in zip(first, again, strict=True)
    )
    note = "" if same else "two calls with the same input differ"
    return Line("contract", DETERMINISTIC, trial.name, same, note=note)


def check_strided(candidate: Candidate, trial: Trial) -> Iterator[Line]:
    """Check that strided input gives the numbers of any other."""
    try:
        arguments = candidate.to_library(trial.arguments, trial.dtype)
        results = candidate.call(tree_map(candidate.library.strided, arguments))
        got = candidate.to_numpy(results, trial.arguments)
        holds = agrees(candidate.entry.function, trial.arguments, got, trial.dtype)
        note = "" if holds else "wrong for input with gaps in memory"
    except CandidateError as error:
        holds, note = False, str(error)
    yield Line("contract", "strided input", trial.name, holds, note=note)
