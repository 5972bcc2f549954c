"""Code that reproduces a failure without vtnp: numbers written out, and the expected results."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from vtnp._array.trees import tree_map
from vtnp.verify.errors import CandidateError
from vtnp.verify.functions.candidate import Candidate
from vtnp.verify.functions.trials import Trial
from vtnp.verify.judge import agrees, results_of, rounded

_MOST_NUMBERS = 400


def reproduction(candidate: Candidate, trial: Trial) -> str:
    """Return a program that fails as the candidate does; "" where it would be too long.

    The numbers are those of the trial, rounded to as few digits as still fail.
    """
    if trial.size > _MOST_NUMBERS:
        return ""
    arguments = next(
        (
            short
            for digits in (0, 1, 2)
            if _fails(candidate, short := _shortened(trial.arguments, digits, trial.dtype), trial)
        ),
        dict(trial.arguments),
    )

    def in_layout(name: str, value: Any) -> Any:
        return tree_map(lambda x: candidate.layout.to_candidate(name, np.asarray(x)), value)

    parameters = candidate.parameters
    passed = {name: in_layout(name, x) for name, x in arguments.items() if name in parameters}
    words = [_code(x) for name, x in passed.items() if parameters[name] is None]
    words += [f"{parameters[name]}={_code(x)}" for name, x in passed.items() if parameters[name]]
    sizes = candidate.passed_sizes(arguments)
    words += [f"{candidate.size_parameters[letter]}={size}" for letter, size in sizes.items()]
    words += [f"{name}={value!r}" for name, value in candidate.extra.items()]
    written = ",\n    ".join(words)
    expected = results_of(candidate.entry.function, arguments)
    checks = [
        f"# expected {each.name}:\n{_code(candidate.layout.to_candidate(each.name, y))}"
        for each, y in zip(candidate.entry.signature.returns, expected, strict=False)
    ]
    head = f"import numpy as np\n\n# arrays of {trial.dtype}"
    if candidate.library.name != "numpy":
        head += f"; convert them to {candidate.library.name} first"
    return f"{head}\nresult = candidate(\n    {written},\n)\n" + "\n".join(checks) + "\n"


def _shortened(arguments: Mapping[str, Any], digits: int, dtype: str) -> dict[str, Any]:
    """Round every real number to a few decimal places."""

    def short(x: Any) -> Any:
        x = np.asarray(x)
        return np.round(x, digits) + 0.0 if x.dtype.kind == "f" else x  # + 0.0: no -0.0

    return rounded({name: tree_map(short, x) for name, x in arguments.items()}, dtype)


def _fails(candidate: Candidate, arguments: Mapping[str, Any], trial: Trial) -> bool:
    try:
        got = candidate(arguments, trial.dtype)
        return not agrees(candidate.entry.function, arguments, got, trial.dtype)
    except (CandidateError, ValueError):
        return False


def _code(value: Any) -> str:
    """Write a value as Python reads it."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {_code(x)}" for key, x in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_code, value)) + "]"
    if hasattr(value, "dtype"):
        return f"np.array({np.asarray(value).tolist()!r})"
    return repr(value)
