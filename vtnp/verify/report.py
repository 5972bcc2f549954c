"""What a check has found: lines with a figure and a bound each, and what they add up to."""

import math
from dataclasses import asdict, dataclass
from typing import Any

RIGHT, WRONG, NOT_RUN = 0, 1, 2  # exit statuses


@dataclass(frozen=True)
class Line:
    """One thing that was checked.

    kind: "value", "step" (a value made of the candidate's own inputs), "gradient", "law", "rule" or
    "special". what: the result, argument, law or rule. case: on which input. figure,
    bound: the error and the most it may be, where there are numbers.
    """

    kind: str
    what: str
    case: str
    holds: bool
    figure: float | None = None
    bound: float | None = None
    note: str = ""

    @property
    def counts(self) -> bool:
        """Whether the verdict hangs on it: special cases, where libraries differ, are only told."""
        return self.kind != "special"


@dataclass(frozen=True)
class Finding:
    """What is wrong with a candidate, as far as it can be told.

    mistakes: (formula, name) of the mistakes that together make exactly its numbers; none for
    what is no mistake of a page. same: other mistakes that make the same numbers. says: what goes
    wrong, in the page's words. mend: what to do.
    """

    title: str
    says: str
    mend: str = ""
    mistakes: tuple[tuple[str, str], ...] = ()
    same: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """The outcome of a check. findings: of a wrong candidate, the likeliest first.

    notes: what the candidate does not take, and what was therefore not checked. example: code that
    reproduces the smallest failure without vtnp.
    """

    formula: str
    candidate: str
    library: str
    seed: int
    lines: tuple[Line, ...]
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    example: str = ""

    @property
    def right(self) -> bool:
        """Whether everything holds that counts."""
        counted = [line for line in self.lines if line.counts]
        return bool(counted) and all(line.holds for line in counted)

    @property
    def status(self) -> int:
        """The exit status: right, wrong, or not run at all."""
        ran = any(line.kind == "value" for line in self.lines)
        return (RIGHT if self.right else WRONG) if ran else NOT_RUN

    def failures(self) -> tuple[Line, ...]:
        """Return the lines that do not hold and count."""
        return tuple(line for line in self.lines if line.counts and not line.holds)

    def as_dict(self) -> dict[str, Any]:
        """Return it as report.schema.json describes it."""
        words = {RIGHT: "right", WRONG: "wrong", NOT_RUN: "not run"}
        told: dict[str, Any] = asdict(self)
        for line in told["lines"]:
            line |= {name: _in_json(line[name]) for name in ("figure", "bound")}
        return {"verdict": words[self.status], **told}


def _in_json(x: float | None) -> float | str | None:
    """Return a number as JSON has it, which knows none beyond all bounds."""
    return x if x is None or math.isfinite(x) else str(x)
