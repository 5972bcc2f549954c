"""What to do where a candidate could not be judged, in the words of the command line."""

import re
from collections.abc import Iterable

from vtnp._registry.shapes import Argument
from vtnp.verify.errors import CandidateError
from vtnp.verify.functions.candidate import Candidate

_LENGTH = 300
_MISSING = re.compile(r"missing \d+ required [a-z-]+ arguments?: (.+)$")


def no_verdict(candidate: Candidate, error: CandidateError) -> list[str]:
    """Say that no call worked, why, and what can be done."""
    what = f"no verdict: no call worked; the first one {error}"
    return [what[:_LENGTH], _what_to_do(candidate, error)]


def _what_to_do(candidate: Candidate, error: CandidateError) -> str:
    missing = _MISSING.search(str(error))
    if missing:
        (first, *_) = re.findall(r"'(\w+)'", missing[1])
        pass_it = f"pass what it requires (--extra {first}=VALUE)"
        return f"{pass_it}, or say which argument it is (--name ARGUMENT={first})"
    signature = candidate.entry.signature
    if str(error).startswith("returned"):
        results = _shapes(signature.returns)
        return f"expected as results: {results}; wrap it in a function that returns those"
    return (
        f"it is passed {_shapes(signature.arguments)}; if its axes come in another order, say so "
        "by --layout, sizes that it has fixed by --size, and options by --option"
    )


def _shapes(arrays: Iterable[Argument]) -> str:
    return ", ".join(f"{each.name} [{each.shape.text}]" for each in arrays)


def printed(candidate: Candidate) -> list[str]:
    """Say what the candidate has printed."""
    lines = candidate.printed.getvalue().splitlines()
    return [f"it printed {len(lines)} lines, the first: {lines[0][:_LENGTH]}"] if lines else []
