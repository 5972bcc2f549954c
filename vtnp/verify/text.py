"""A report for a person, as tables on the terminal."""

from typing import TYPE_CHECKING

from vtnp._registry.errors import UsageError
from vtnp.verify.report import RIGHT, Line, Report

if TYPE_CHECKING:
    from rich.console import Console

_SHOWN = 12
_WIDTH = 140  # where nobody says how wide it is


def told(report: Report, *, every: bool = False, console: "Console | None" = None) -> None:
    """Print a report: the verdict, what is wrong, why; with `every`, each line there is.

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
    verdict = "[green]right[/]" if report.status == RIGHT else "[red]wrong[/]"
    what = f"{report.candidate} as {report.formula}" + (
        f", {report.library}" * bool(report.library)
    )
    out.print(f"[bold]{escape(what)}[/]: {verdict}", soft_wrap=True)
    for note in report.notes:
        out.print(f"  {escape(note)}", soft_wrap=True)
    wrong = report.failures()
    lines = report.lines if every else (*wrong[:_SHOWN], *_told_only(report))
    if lines:
        _table(out, lines)
    if len(wrong) > _SHOWN and not every:
        out.print(f"  and {len(wrong) - _SHOWN} more; --all shows them")
    out.print(_summary(report))
    for finding in report.findings:
        out.print(f"\n[bold yellow]{escape(finding.title)}[/]", soft_wrap=True)
        out.print(f"  {escape(finding.says)}", soft_wrap=True)
        if finding.same:
            out.print(f"  the same numbers: {escape(', '.join(finding.same))}", soft_wrap=True)
        if finding.mend:
            out.print(f"  mend: {escape(finding.mend)}", soft_wrap=True)
    if report.example:
        out.print("\nThe smallest case that fails, without vtnp:\n")
        out.print(escape(report.example), soft_wrap=True)


def _told_only(report: Report) -> tuple[Line, ...]:
    return tuple(line for line in report.lines if not (line.counts or line.holds))


def _table(out: "Console", lines: tuple[Line, ...]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("", "what", "case", "error", "bound", ""):
        table.add_column(name, overflow="fold")
    for line in lines:
        mark = "[green]ok[/]" if line.holds else "[red]no[/]"
        numbers = ["" if x is None else f"{x:.2g}" for x in (line.figure, line.bound)]
        words = map(escape, (f"{line.kind} {line.what}", line.case, *numbers, line.note))
        table.add_row(mark, *words)
    out.print(table)


def _summary(report: Report) -> str:
    kinds = dict.fromkeys(line.kind for line in report.lines)
    counts = []
    for kind in kinds:
        of_kind = [line for line in report.lines if line.kind == kind]
        counts.append(f"{sum(line.holds for line in of_kind)} of {len(of_kind)} {kind}s hold")
    ratios = [
        line.figure / line.bound
        for line in report.lines
        if line.holds and line.figure is not None and line.bound
    ]
    worst = f"; the closest to its bound at {max(ratios):.2g} of it" if ratios else ""
    return "; ".join(counts) + worst
