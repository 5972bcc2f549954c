"""A report for a person, as tables on the terminal."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from vtnp._registry.errors import UsageError
from vtnp.verify.report import RIGHT, Finding, Line, Report

if TYPE_CHECKING:
    from rich.console import Console

_FAILURES_SHOWN = 12
_WIDTH = 140  # where the output is no terminal
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
    """Print the verdict, what fails, and why; with `every_line`, what holds as well.

    Raises UsageError without rich.
    """
    try:
        from rich.console import Console
        from rich.markup import escape
    except ImportError:
        raise UsageError("rich not found: pip install 'vtnp[verify]'") from None
    out = console or Console(highlight=False)
    if not out.is_terminal:
        out.width = max(out.width, _WIDTH)
    colour = "green" if report.status == RIGHT else "red"
    library = f" ({report.library})" if report.library else ""
    subject = escape(f"{report.candidate} checked against {report.formula}{library}")
    out.print(f"[bold]{subject}[/]: [{colour}]{report.verdict}[/]", soft_wrap=True)
    for note in report.notes:
        out.print(f"  {escape(note)}", soft_wrap=True)
    failures = report.failures()
    shown = failures[:_FAILURES_SHOWN]
    lines = report.lines if every_line else (*shown, *_failed_special_cases(report))
    if lines:
        _print_table(out, lines)
    if len(failures) > len(shown) and not every_line:
        out.print(f"  and {len(failures) - len(shown)} more; --all shows them")
    out.print(_summary(report))
    for finding in report.findings:
        _print_finding(out, finding)
    if report.example:
        out.print("\nThe smallest case that fails, without vtnp:\n")
        out.print(escape(report.example), soft_wrap=True)


def _failed_special_cases(report: Report) -> tuple[Line, ...]:
    return tuple(line for line in report.lines if not (line.counts or line.holds))


def _print_finding(out: "Console", finding: Finding) -> None:
    from rich.markup import escape

    out.print(f"\n[bold yellow]{escape(finding.title)}[/]", soft_wrap=True)
    out.print(f"  {escape(finding.explanation)}", soft_wrap=True)
    if finding.equivalents:
        out.print(f"  same numbers: {escape(', '.join(finding.equivalents))}", soft_wrap=True)
    if finding.fix:
        out.print(f"  fix: {escape(finding.fix)}", soft_wrap=True)


def _print_table(out: "Console", lines: tuple[Line, ...]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("", "what", "case", "error", "bound", ""):
        table.add_column(name, overflow="fold")
    for line in lines:
        mark = "[green]ok[/]" if line.holds else "[red]fails[/]"
        numbers = ["" if x is None else f"{x:.2g}" for x in (line.error, line.bound)]
        words = map(escape, (f"{line.kind} {line.what}", line.case, *numbers, line.note))
        table.add_row(mark, *words)
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
