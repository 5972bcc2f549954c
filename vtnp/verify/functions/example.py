"""Code that reproduces a failure without vtnp: numbers written out, and what should come out."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from vtnp._array.trees import tree_map
from vtnp.verify.errors import CandidateError
from vtnp.verify.functions.candidate import Candidate
from vtnp.verify.functions.trials import Trial
from vtnp.verify.judge import agrees, results_of, rounded

_NUMBERS = 400


def reproduction(candidate: Candidate, trial: Trial) -> str:
    """Return a program that fails as the candidate does; "" where it would be too long.

    The numbers are those of the trial, with as few digits as still fail.
    """
    if trial.numbers > _NUMBERS:
        return ""
    arguments = next(
        (
            fewer
            for digits in (0, 1, 2)
            if _fails(candidate, fewer := _written(trial.arguments, digits, trial.dtype), trial)
        ),
        dict(trial.arguments),
    )

    def there(name: str, value: Any) -> Any:
        return tree_map(lambda x: candidate.layout.there(name, np.asarray(x)), value)

    brought = {name: there(name, x) for name, x in arguments.items() if name in candidate.places}
    expected = results_of(candidate.entry.function, arguments)
    positional = [_code(x) for name, x in brought.items() if candidate.places[name] is None]
    named = [f"{candidate.places[k]}={_code(x)}" for k, x in brought.items() if candidate.places[k]]
    sizes = candidate.given_sizes(arguments)
    further = [f"{candidate.sized[letter]}={size}" for letter, size in sizes.items()]
    further += [f"{name}={value!r}" for name, value in candidate.extra.items()]
    given = ",\n    ".join([*positional, *named, *further])
    returns = candidate.entry.signature.returns
    meant = [
        f"# {each.name} should be\n{_code(candidate.layout.there(each.name, y))}"
        for each, y in zip(returns, expected, strict=False)
    ]
    head = "import numpy as np\n\n# arrays of " + trial.dtype
    if candidate.library.name != "numpy":
        head += f"; bring them to {candidate.library.name} first"
    return f"{head}\nresult = candidate(\n    {given},\n)\n" + "\n".join(meant) + "\n"


def _written(arguments: Mapping[str, Any], digits: int, dtype: str) -> dict[str, Any]:
    """Round every real number to a few digits behind the point."""

    def short(x: Any) -> Any:
        x = np.asarray(x)
        return np.round(x, digits) + 0.0 if x.dtype.kind == "f" else x  # and no -0.0

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
