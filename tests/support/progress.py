"""What a person sees of a run: a line for each folder of tests instead of 12,000 dots.

Failures are printed as they come, and now and then how far the run is. With -v or -q pytest's own
output stays.
"""

import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import pytest

_PATIENCE = 15.0  # seconds without a line
_KINDS = ("passed", "failed", "skipped")


def peak_memory() -> float:
    """Return the most memory in MB that this process has had, 0 where nobody counts it."""
    try:
        import resource
    except ImportError:  # not on Windows
        return 0.0
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def folder_of(nodeid: str) -> str:
    """Return the folder under tests/ that a test is in, or the first part of another path."""
    path = nodeid.partition("::")[0].split("/")
    return path[1] if path[0] == "tests" and len(path) > 2 else path[0]


class Progress:
    """The reports of all processes, counted by folder."""

    def __init__(self, reporter: Any) -> None:
        self._reporter = reporter
        self._left: Counter[str] = Counter()
        self._total = self._done = 0
        self._seconds: Counter[str] = Counter()
        self._outcomes: dict[str, Counter[str]] = {}
        self._start = self._last = time.monotonic()
        self.peaks: list[float] = []
        reporter.showfspath = False  # else pytest names each file as it comes to it
        reporter._show_progress_info = False  # and writes a percentage of its own

    # --- What there is to do ---

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._begin(item.nodeid for item in session.items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: Sequence[str]) -> None:
        del node
        if not self._total:
            self._begin(ids)

    def _begin(self, ids: Iterable[str]) -> None:
        self._left.update(map(folder_of, ids))
        self._total = sum(self._left.values())

    # --- What is done ---

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: Any) -> tuple[str, str, str] | None:
        """Let pytest count and, at the end, name what did not pass, but write no letter now."""
        if hasattr(report, "wasxfail"):
            return None
        if report.failed:
            return ("failed", "", "FAILED") if report.when == "call" else ("error", "", "ERROR")
        if report.skipped:
            return "skipped", "", "SKIPPED"
        return ("passed" if report.when == "call" else "", "", "")

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        folder = folder_of(report.nodeid)
        outcomes = self._outcomes.setdefault(folder, Counter())
        self._seconds[folder] += report.duration
        if report.failed:
            self._write(f"FAILED {report.nodeid}", red=True)
        if report.when == "call" or not report.passed:
            outcomes[report.outcome] += 1
        if report.when == "teardown":
            self._finish(folder)

    def _finish(self, folder: str) -> None:
        self._done += 1
        self._left[folder] -= 1
        if self._left[folder] == 0:
            found = self._outcomes[folder]
            counts = ", ".join(f"{found[kind]:,} {kind}" for kind in _KINDS if found[kind])
            bad = bool(found["failed"])
            self._write(f"{folder:<16}{self._seconds[folder]:7.1f} s  {counts}", red=bad)
        elif self._reporter.isatty:
            self._reporter.rewrite(self._now(), erase=True)
        elif time.monotonic() - self._last > _PATIENCE:
            self._write(f"{self._done:,} of {self._total:,} tests")

    def _now(self) -> str:
        elapsed = time.monotonic() - self._start
        return f"[{self._done / max(self._total, 1):4.0%}] {elapsed:4.0f} s  "

    def _write(self, text: str, **markup: bool) -> None:
        if self._reporter.isatty:
            self._reporter.rewrite(self._now() + text, erase=True, **markup)
            self._reporter.write("\n")
        else:
            self._reporter.write_line(self._now() + text, **markup)
        self._last = time.monotonic()

    # --- The processes ---

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: Any) -> None:
        del error
        self.peaks.append(getattr(node, "workeroutput", {}).get("peak_memory", 0.0))

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        peaks = self.peaks or [peak_memory()]
        processes = "1 process" if len(peaks) == 1 else f"{len(peaks)} processes"
        terminalreporter.write_line(
            f"{time.monotonic() - self._start:.0f} s in {processes}; "
            f"peak memory of a process {max(peaks) / 1024:.2f} GB"
        )
