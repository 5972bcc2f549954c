"""The outcome of a check: lines with an error and a bound each, and what they add up to."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

RIGHT, WRONG, NOT_RUN = 0, 1, 2  # exit statuses
_VERDICTS = {RIGHT: "right", WRONG: "wrong", NOT_RUN: "not run"}

Kind = Literal["value", "isolated", "gradient", "law", "contract", "special"]


@dataclass(frozen=True)
class Line:
    """One thing that was checked.

    kind: "isolated" is a value computed from the candidate's own inputs, "contract" what any
    implementation must keep to: dtype, device, inputs left unchanged. what: the result, argument,
    law or rule. case: on which input. error, bound: the largest error and the most it may be, where
    there are numbers.
    """

    kind: Kind
    what: str
    case: str
    holds: bool
    error: float | None = None
    bound: float | None = None
    note: str = ""

    @property
    def counts(self) -> bool:
        """Whether the verdict depends on it: not on special cases, in which libraries differ."""
        return self.kind != "special"


@dataclass(frozen=True)
class Finding:
    """What is wrong with a candidate, as far as the check can say.

    mistakes: (formula, name) of the mistakes that together give exactly the candidate's numbers;
    empty for what no page lists. equivalents: other mistakes that give the same numbers.
    explanation: what goes wrong, in the page's words. fix: what to do.
    """

    title: str
    explanation: str
    fix: str = ""
    mistakes: tuple[tuple[str, str], ...] = ()
    equivalents: tuple[str, ...] = ()


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

    @property
    def verdict(self) -> str:
        """The status in words."""
        return _VERDICTS[self.status]

    def failures(self) -> tuple[Line, ...]:
        """Return the lines that count and do not hold."""
        return tuple(line for line in self.lines if line.counts and not line.holds)

    def as_dict(self) -> dict[str, Any]:
        """Return it as report.schema.json describes it."""
        fields: dict[str, Any] = asdict(self)
        for line in fields["lines"]:
            line |= {name: _in_json(line[name]) for name in ("error", "bound")}
        return {"verdict": self.verdict, **fields}


def _in_json(x: float | None) -> float | str | None:
    """Return a number as JSON has it, which has neither NaN nor infinities."""
    return x if x is None or math.isfinite(x) else str(x)
