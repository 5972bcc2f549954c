"""Run formulas, gradients, laws and whole models on a GPU, and compare them with the CPU.

    python -m tests.device --minutes 8 --out report.json
    python -m tests.device --minutes 8 --out report.json --resume

Value, gradient, laws and special cases of every formula in float64 and float32; one training step
of every model; what copies between host and device, or makes the host wait; time and peak memory
of large formulas. What a device may well get wrong comes first. The report is whole on disk at any
time; --resume goes on where an earlier run stopped, after a crash as well. CuPy and torch compute
the same: two reports put their times side by side, with --beside.

Exit status: 0 everything passed; 1 something failed; 2 it could not run; 3 the time was over, and
what ran passed.
"""

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

import vtnp
from tests.device.libraries import LIBRARIES, Device, Unavailable, one_line
from tests.device.report import Report
from tests.device.tasks import Stop, Task, tasks

PASSED, FAILED, COULD_NOT_RUN, TIME_IS_OVER = 0, 1, 2, 3


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.device",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--minutes", type=float, default=8.0, help="how long it may take (default: 8)")
    add("--out", type=Path, default=Path("device-report.json"), help="the report")
    add("--resume", action="store_true", help="go on with the report that is there")
    add("--library", choices=LIBRARIES, default="cupy", help="what computes (default: cupy)")
    add("--only", default="", metavar="TEXT", help="tasks whose name has this text")
    add("--list", action="store_true", help="print the names of the tasks, and run none")
    add("--beside", type=Path, help="a report of another library, whose times are printed, too")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parsed(arguments)
    chosen = [each for each in tasks() if options.only in each.name]
    if options.list:
        print("\n".join(each.name for each in chosen))
        return PASSED
    if not chosen:
        print(f"no task has {options.only!r} in its name", file=sys.stderr)
        return COULD_NOT_RUN
    deadline = time.monotonic() + 60.0 * options.minutes
    try:
        device = LIBRARIES[options.library]()
        report = Report(head_of(device, options.library), options.out)
        before = report.resume() if options.resume else 0
    except (Unavailable, OSError, ValueError) as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return COULD_NOT_RUN
    head = report.head
    print(f"{head['library']} {head['version']} on {head['device']}; {before} tasks were done")
    ended = "interrupted"
    try:
        with np.errstate(all="ignore"):
            ended = run(chosen, device, report, deadline)
    except KeyboardInterrupt:
        pass
    finally:
        report.close(ended)
    return said(report, chosen, options)


def head_of(device: Device, library: str) -> dict[str, Any]:
    return {
        "library": library,
        "version": device.version,
        "device": device.description,
        "vtnp": vtnp.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "begun": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def run(chosen: Sequence[Task], device: Device, report: Report, deadline: float) -> str:
    """Run what has not been run; return how it ended."""

    def go_on() -> None:
        if time.monotonic() > deadline:
            raise Stop

    for task in chosen:
        if task.name in report.tasks:
            continue
        if time.monotonic() > deadline:
            return "the time was over"
        report.begin(task.name)
        try:
            found = outcome(task, device, go_on)
        except Stop:
            return "the time was over"
        report.end(found)
        if found["status"] == "failed":
            print(f"failed: {task.name}: {next(iter(found['failed'].items()))}", flush=True)
            why = device.is_lost()
            if why:
                return f"the device is lost after {task.name} ({why}): go on with --resume"
    return "everything has run"


def outcome(task: Task, device: Device, go_on: Callable[[], None]) -> dict[str, Any]:
    """Run one task; return what the report says of it."""
    start = time.monotonic()
    try:
        found = task.run(device, go_on)
        failed, numbers = found.failed, found.numbers
    except Stop:
        raise
    except Exception as error:  # noqa: BLE001
        failed, numbers = {"error": one_line(error)}, {}
    seconds = round(time.monotonic() - start, 2)
    status = "failed" if failed else "passed"
    return {
        "status": status,
        "seconds": seconds,
        **numbers,
        **({"failed": failed} if failed else {}),
    }


def said(report: Report, chosen: Sequence[Task], options: argparse.Namespace) -> int:
    """Print the summary and return the exit status."""
    beside = {}
    if options.beside is not None:
        beside = json.loads(options.beside.read_text(encoding="utf-8"))["tasks"]
    for name, found in report.tasks.items():
        if name.startswith("time ") and found["status"] == "passed":
            other = beside.get(name, {})
            columns = [
                f"{what} {found[what]}" + (f" ({other[what]})" if what in other else "")
                for what in ("value ms", "gradient ms", "value peak bytes", "gradient peak bytes")
            ]
            print(f"{name.removeprefix('time ')}: {', '.join(columns)}")
    left = sum(each.name not in report.tasks for each in chosen)
    passed, failed = report.count("passed"), report.count("failed")
    print(f"{passed} tasks passed, {failed} failed, {left} have not run: {report.ended}")
    print(f"the report is in {options.out}")
    if failed or not (left == 0 or report.ended == "the time was over"):
        return FAILED
    return TIME_IS_OVER if left else PASSED


if __name__ == "__main__":
    sys.exit(main())
