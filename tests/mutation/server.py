"""A process that has imported what the tests need of others, and forks for every mutant.

It runs as a script, and never imports the project's own packages itself. For each copy of the
project there is a process that reads requests from a pipe, one JSON object a line: `args` of
pytest, `without`, tests to leave out, `limit`, the most seconds of CPU that a test may take, and
`formulas`, the ids whose tests are wanted of files that have tests of every formula. It writes one
line for each: `status`, pytest's exit status or that of a process which a signal ended; `test`, the
one that failed; and `cpu`, what the run took.
"""

import contextlib
import json
import os
import re
import resource
import signal
import sys
import warnings
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

_MEMORY = 4 << 30  # beyond what the server has; a mutant may make arrays of any size
_CRASHED = 70  # the status of a process in which pytest itself failed
_OUTPUT = 1 << 28  # the largest file that a mutant may write
_BY_FORMULA = ("tests/formulas/", "tests/exact/")  # whose tests have the formula in their ids
_NO_PLUGINS = "PYTEST_DISABLE_PLUGIN_AUTOLOAD"
_OPTIONS = (
    "-qx", "--tb=line", "--no-header", "--import-mode=importlib", "-p", "no:cacheprovider",
    "-p", "pytest_timeout", "-p", "_hypothesis_pytestplugin",
    "-W", "ignore::pytest.PytestAssertRewriteWarning",
)  # fmt: skip


class Selection:
    """A plugin that keeps the tests of some formulas, in the order in which files were named."""

    def __init__(self, formulas: list[str], args: list[str]) -> None:
        self._wanted = frozenset(formulas)
        self._args = args
        self._id: re.Pattern[str] | None = None

    def pytest_configure(self) -> None:
        os.environ.pop(_NO_PLUGINS, None)  # not for the processes that tests start
        if "hypothesis" in sys.modules:
            from hypothesis import Phase, settings

            # Any failing case will do; the smallest would take long to find.
            phases = [Phase.explicit, Phase.generate]
            settings.register_profile("mutation", settings(), phases=phases)
            settings.load_profile("mutation")

    def _is_wanted(self, path: str, parameter: str) -> bool:
        if not self._wanted or not path.startswith(_BY_FORMULA):
            return True
        if self._id is None:  # the child's own formulas
            ids = [each.id for each in import_module("vtnp").formulas()]
            any_id = "|".join(sorted(map(re.escape, ids), key=len, reverse=True))
            self._id = re.compile(rf"(?:^|-)({any_id})(?=-|$)")
        found = self._id.search(parameter)
        return found is None or found[1] in self._wanted

    @pytest.hookimpl(wrapper=True)
    def pytest_generate_tests(self, metafunc: Any) -> Iterator[None]:
        """Make no items of other formulas, which would take longer than the tests."""
        yield
        path = metafunc.definition.nodeid.partition("::")[0]
        calls = metafunc._calls
        kept = [call for call in calls if self._is_wanted(path, call.id)]
        metafunc._calls = kept or calls[:1]  # pytest would make one without parameters

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave out the one that stood for none, and sort by the order of the arguments."""

        def place(item: pytest.Item) -> int:
            return min(i for i, arg in enumerate(self._args) if item.nodeid.startswith(arg))

        def is_kept(item: pytest.Item) -> bool:
            path, _, rest = item.nodeid.partition("::")
            _, bracket, parameter = rest.partition("[")
            return not bracket or self._is_wanted(path, parameter[:-1])

        items[:] = sorted(filter(is_kept, items), key=place)


def run_child(request: dict[str, Any], log: Path) -> int:
    """Run the tests in this process, which ends with it; return pytest's status."""
    os.setsid()
    sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (_OUTPUT, _OUTPUT))
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    size = pages * resource.getpagesize() + _MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    plugin = Selection(request["formulas"], request["args"])
    progress = Progress(log.with_suffix(".test"), request["limit"])
    without = [f"--deselect={test}" for test in request["without"]]
    return int(pytest.main([*_OPTIONS, *without, *request["args"]], plugins=[plugin, progress]))


class Progress:
    """A plugin that writes down which test runs, or which failed, and limits each one's CPU.

    limit: in seconds; a test that takes more ends the process.
    """

    def __init__(self, path: Path, limit: float) -> None:
        self._path, self._limit = path, limit
        self._note("")

    def _note(self, text: str) -> None:
        self._path.write_text(text)
        signal.setitimer(signal.ITIMER_PROF, self._limit)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._note(item.nodeid)
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_pycollect_makemodule(self, module_path: Path) -> Iterator[None]:
        self._note("")
        return (yield)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._note(report.nodeid)


def run(request: dict[str, Any], log: Path) -> dict[str, Any]:
    """Fork, run the tests in the child, and return what became of it."""
    child = os.fork()
    if child == 0:
        code = _CRASHED
        try:
            code = run_child(request, log)
        finally:
            os._exit(code)
    _, status, usage = os.wait4(child, 0)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # what it has started
    test = log.with_suffix(".test").read_text()
    cpu = usage.ru_utime + usage.ru_stime
    return {"status": os.waitstatus_to_exitcode(status), "test": test, "cpu": cpu}


def serve(path: str, reading: int, writing: int) -> None:
    """Answer the requests of one copy of the project until there are no more."""
    os.chdir(path)
    sys.path.insert(0, path)
    sys.pycache_prefix = f"{path}/.bytecode"
    os.environ |= {"PYTHONPATH": path, "PYTHONPYCACHEPREFIX": sys.pycache_prefix}
    with os.fdopen(reading) as requests, os.fdopen(writing, "w") as answers:
        for line in requests:
            answer = run(json.loads(line), Path(path, "log.txt"))
            print(json.dumps(answer), file=answers, flush=True)


def main() -> None:
    """Import what is named on the command line, and fork into a server for each copy."""
    places, *modules = sys.argv[1:]
    os.environ[_NO_PLUGINS] = "1"
    warnings.simplefilter("ignore")
    for name in modules:
        with contextlib.suppress(Exception):  # an optional library, or one that is not for here
            import_module(name)
    warnings.resetwarnings()
    copies = json.loads(places)
    ends = {end for _, *pair in copies for end in pair}
    children = []
    for path, *pair in copies:
        child = os.fork()
        if child == 0:
            for end in ends - set(pair):
                os.close(end)
            with contextlib.suppress(BrokenPipeError):  # whoever asked has gone
                serve(path, *pair)
            os._exit(0)
        children.append(child)
    for end in ends:
        os.close(end)
    for child in children:
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
