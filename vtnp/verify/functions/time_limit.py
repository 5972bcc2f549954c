"""A check in a process of its own, which is killed when a call of the candidate takes too long."""

import multiprocessing
from multiprocessing.connection import Connection
from typing import Any

from vtnp._registry.errors import UsageError
from vtnp.verify.functions.check import check
from vtnp.verify.loading import load
from vtnp.verify.report import Line, Report

_START = 60.0  # seconds that importing the candidate's libraries may take


def check_in_process(candidate: str, name: str, seconds: float, options: dict[str, Any]) -> Report:
    """Return the report of check, or one that says which case did not end in time.

    candidate: by name, as in vtnp.verify.loading. seconds: for each call of the candidate. options:
    of vtnp.verify.check.
    Raises UsageError as check does.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    arguments = sender, candidate, name, options
    process = context.Process(target=_run, args=arguments, daemon=True)
    process.start()
    sender.close()
    case, limit = "before its first case", max(seconds, _START)
    timeout: float | None = limit
    try:
        while True:
            if not receiver.poll(timeout):
                return _failed(candidate, name, f"took longer than {limit:g} seconds", case)
            try:
                kind, message = receiver.recv()
            except EOFError:
                process.join(1)
                note = f"ended its process with status {process.exitcode}"
                return _failed(candidate, name, note, case)
            if kind == "case":
                case, limit, timeout = message, seconds, None
            elif kind == "running":  # what vtnp does in between is not limited
                timeout = limit if message else None
            elif kind == "refused":
                raise UsageError(message)
            else:
                report: Report = message
                return report
    finally:
        process.kill()
        process.join()


def _failed(candidate: str, name: str, note: str, case: str) -> Report:
    line = Line("value", "call", case, holds=False, note=note)
    return Report(str(name), candidate, "", 0, (line,))


def _run(sender: Connection, candidate: str, name: str, options: dict[str, Any]) -> None:
    """Check, and send what happens and the report."""
    try:
        report = check(
            load(candidate),
            name,
            on_case=lambda case: sender.send(("case", case)),
            on_running=lambda is_running: sender.send(("running", is_running)),
            **options,
        )
    except (UsageError, LookupError) as error:
        sender.send(("refused", str(error)))
    else:
        sender.send(("report", report))
