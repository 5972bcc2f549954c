"""A check in a process of its own, which is ended when a case takes too long."""

import multiprocessing
from multiprocessing.connection import Connection
from typing import Any

from vtnp._registry.errors import UsageError
from vtnp.verify.report import Line, Report

_START = 60.0  # seconds that importing the candidate's libraries may take


def check(candidate: str, name: str, seconds: float, asked: dict[str, Any]) -> Report:
    """Return the report of vtnp.verify.functions.check, or one that says which case did not end in time.

    candidate: by name, as in vtnp.verify.functions.target. seconds: for each call of the candidate.
    Raises UsageError as check does.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, candidate, name, asked), daemon=True)
    process.start()
    theirs.close()
    case, limit = "before its first case", max(seconds, _START)
    waits: float | None = limit
    try:
        while True:
            if not ours.poll(waits):
                return _ended(candidate, name, f"took longer than {limit:g} seconds", case)
            try:
                kind, told = ours.recv()
            except EOFError:
                process.join(1)
                return _ended(candidate, name, f"ended its process ({process.exitcode})", case)
            if kind == "case":
                case, limit, waits = told, seconds, None
            elif kind == "calls":  # what vtnp does in between takes its time
                waits = limit if told else None
            elif kind == "refused":
                raise UsageError(told)
            else:
                report: Report = told
                return report
    finally:
        process.kill()
        process.join()


def _ended(candidate: str, name: str, note: str, case: str) -> Report:
    line = Line("value", "call", case, holds=False, note=note)
    return Report(str(name), candidate, "", 0, (line,))


def _work(pipe: Connection, candidate: str, name: str, asked: dict[str, Any]) -> None:
    from vtnp.verify.functions.check import check as checked
    from vtnp.verify.functions.target import load

    try:
        report = checked(
            load(candidate),
            name,
            progress=lambda case: pipe.send(("case", case)),
            calls=lambda begins: pipe.send(("calls", begins)),
            **asked,
        )
    except (UsageError, LookupError) as error:
        pipe.send(("refused", str(error)))
    else:
        pipe.send(("report", report))
