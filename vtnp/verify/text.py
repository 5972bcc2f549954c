"""A report for a person, as tables on the terminal.

Whatever comes from a file or a candidate passes through `_shown`.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from vtnp._registry.errors import UsageError
from vtnp._registry.printable import printable
from vtnp.verify.report import RIGHT, Finding, Line, Report

if TYPE_CHECKING:
    from rich.console import Console

_FAILURES_SHOWN = 3
_WIDTH = 140  # where the output is not a terminal
_PLURALS: Mapping[str, str] = {
    "value": "values",
    "isolated": "isolated values",
    "gradient": "gradients",
    "law": "laws",
    "contract": "rules of the contract",
    "special": "special cases",
}


def print_report(
    report: Report, *, every_line: bool = False, console: "Console | None" = None
) -> None:
    """Print the verdict, why, and what fails; with `every_line`, all of it and what holds as well.

    Raises UsageError without rich.
    """
    try:
        from rich.console import Console
    except ImportError:
        raise UsageError("rich not found: pip install 'vtnp[verify]'") from None
    out = console or Console(highlight=False, emoji=False)
    if not out.is_terminal:
        out.width = max(out.width, _WIDTH)
    colour = "green" if report.status == RIGHT else "red"
    library = f" ({report.library})" if report.library else ""
    subject = _shown(out, f"{report.candidate} checked against {report.formula}{library}")
    out.print(f"[bold]{subject}[/]: [{colour}]{report.verdict}[/]", soft_wrap=True)
    for note in report.notes:
        out.print(f"  {_shown(out, note)}", soft_wrap=True)
    for finding in report.findings:
        _print_finding(out, finding)
    if report.findings:
        out.print()
    failures = report.failures()
    shown = failures[:_FAILURES_SHOWN]
    lines = report.lines if every_line else (*shown, *_failed_special_cases(report))
    if lines:
        _print_table(out, lines)
    if len(failures) > len(shown) and not every_line:
        out.print(f"  and {len(failures) - len(shown)} more; --all shows them")
    out.print(_summary(report))
    if report.example:
        out.print("\nThe smallest case that fails, without vtnp:\n")
        out.print(_shown(out, report.example, lines=True), soft_wrap=True)


def _shown(out: "Console", text: str, *, lines: bool = False) -> str:
    """Return a text without what a terminal or rich would obey."""
    from rich.markup import escape

    return escape(printable(text, lines=lines, encoding=out.encoding))


def _failed_special_cases(report: Report) -> tuple[Line, ...]:
    return tuple(line for line in report.lines if not (line.counts or line.holds))


def _print_finding(out: "Console", finding: Finding) -> None:
    out.print(f"\n[bold yellow]{_shown(out, finding.title)}[/]", soft_wrap=True)
    out.print(f"  {_shown(out, finding.explanation)}", soft_wrap=True)
    if finding.equivalents:
        same = ", ".join(finding.equivalents)
        out.print(f"  same numbers: {_shown(out, same)}", soft_wrap=True)
    if finding.fix:
        out.print(f"  fix: {_shown(out, finding.fix)}", soft_wrap=True)


def _print_table(out: "Console", lines: tuple[Line, ...]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("", "what", "case", "error", "bound", ""):
        table.add_column(name, overflow="fold")
    for line in lines:
        mark = "[green]ok[/]" if line.holds else "[red]fails[/]"
        numbers = ["" if x is None else f"{x:.2g}" for x in (line.error, line.bound)]
        words = (f"{line.kind} {line.what}", line.case, *numbers, line.note)
        table.add_row(mark, *(_shown(out, text) for text in words))
    out.print(table)


def _summary(report: Report) -> str:
    kinds = dict.fromkeys(line.kind for line in report.lines)
    counts = []
    for kind in kinds:
        of_kind = [line for line in report.lines if line.kind == kind]
        holding = sum(line.holds for line in of_kind)
        counts.append(f"{holding} of {len(of_kind)} {_PLURALS[kind]} hold")
    ratios = [
        line.error / line.bound
        for line in report.lines
        if line.holds and line.error is not None and line.bound
    ]
    if ratios and report.right:
        counts.append(f"largest error: {max(ratios):.2g} of its bound")
    return "; ".join(counts)
