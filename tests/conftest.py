"""How the tests run: hypothesis profiles, processes, deep tests, the array library of the laws.

`python -m pytest` runs all tests in as many processes as there are cores. Tests that are named run
in this process, and so do all of them under --cov, unless -n says otherwise.
"""

import gc
import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

import vtnp
from tests.support import compare, distribution, readings
from tests.support.progress import Progress, peak_memory

_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
# Some laws say something about few of the cases that are drawn: those of generic numbers.
_SLOW += [HealthCheck.filter_too_much]
# The same cases in every run, so that a red run is red for everybody.
settings.register_profile(
    "vtnp",
    max_examples=12,
    deadline=None,
    derandomize=True,
    database=None,
    print_blob=True,
    suppress_health_check=_SLOW,
)
# For a person with time: VTNP_HYPOTHESIS=deep python -m pytest
settings.register_profile(
    "deep", max_examples=500, deadline=None, print_blob=True, suppress_health_check=_SLOW
)
PROFILE = os.environ.get("VTNP_HYPOTHESIS", "vtnp")
settings.load_profile(PROFILE)


scope_of = distribution.scopes(each.id for each in vtnp.formulas())


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--xp",
        default="numpy",
        metavar="LIBRARY",
        help="run the laws and special cases on this array library: numpy, strict, "
        "cupy-standin, torch, jax, dask, cupy",
    )
    parser.addoption(
        "--deep", action="store_true", help="run the tests marked deep as well, which take long"
    )


_PROCESSES = 8  # at most: each of them collects all tests, which takes 10 s


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Distribute the whole suite, not a few tests that somebody named."""
    if "PYTEST_XDIST_WORKER" in os.environ:  # this is one of the processes, or a test's own
        return
    if config.pluginmanager.hasplugin("_cov"):  # pytest-cov has begun, in as many as -n says
        return
    whole = config.args_source is not pytest.Config.ArgsSource.ARGS
    if whole and config.getoption("numprocesses", 0) is None and not config.getoption("tx"):
        config.option.numprocesses = "auto"
        config.option.maxprocesses = config.option.maxprocesses or _PROCESSES


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    if config.getoption("dist") != "load":  # the default; another one was asked for
        return None
    return distribution.scheduler(config, log, scope_of)


@pytest.hookimpl(trylast=True)  # after pytest has its reporter
def pytest_configure(config: pytest.Config) -> None:
    reporter = config.pluginmanager.getplugin("terminalreporter")
    if reporter is not None and config.get_verbosity() == 0 and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Progress(reporter), "progress")
    name = config.getoption("--xp")
    if name not in readings.NAMES:
        known = name in readings.MISSING
        why = "is not installed, or has no device here" if known else "is not a library known here"
        raise pytest.UsageError(f"--xp {name}: {name} {why}; the laws did not run")
    readings.chosen = readings.reading(name)


def pytest_report_header(config: pytest.Config) -> str:
    gpu = "" if "cupy" in readings.NAMES else "; not on a GPU: CuPy found none"
    return (
        f"laws run on: {config.getoption('--xp')}{gpu}\n"
        f"formulas are read on: {', '.join(readings.NAMES)}"
        f" (not installed: {', '.join(readings.MISSING) or 'none'})"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out deep tests, and on another library than NumPy all but laws and special cases.

    Those of one formula come together.
    """
    kept = [items[i] for i in distribution.grouped((item.nodeid for item in items), scope_of)]
    if not config.getoption("--deep") and PROFILE != "deep":
        kept = [item for item in kept if not item.get_closest_marker("deep")]
    if config.getoption("--xp") != "numpy":
        marks = {"law", "special"}
        kept = [item for item in kept if any(mark.name in marks for mark in item.iter_markers())]
    among = set(kept)
    config.hook.pytest_deselected(items=[item for item in items if item not in among])
    items[:] = kept


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Let the garbage collector pass over what stays to the end: modules and 13,000 tests."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["peak_memory"] = peak_memory()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Hand the largest difference from other people's numbers on to the run's summary."""
    compare.differences.clear()
    yield
    against = item.path.stem.removeprefix("test_")
    if against.startswith(("peers", "vectors")) and compare.differences:
        test = getattr(item, "originalname", item.name).removeprefix("test_")
        row = f"{item.path.parent.name}, {against.replace('_', ' ')}: {test.replace('_', ' ')}"
        item.user_properties.append(("difference", (row, max(compare.differences))))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Tell what was proven, and how far other people's numbers are from ours."""
    passed = [r for r in terminalreporter.stats.get("passed", []) if r.when == "call"]
    if any("test_mistake_is_rejected" in report.nodeid for report in passed):
        terminalreporter.section("what was proven")
        terminalreporter.write_line(_counted(passed))
    verified = [r for r in passed if any(name == "verified" for name, _ in r.user_properties)]
    if verified:
        terminalreporter.section("mistakes put to the check as candidates")
        terminalreporter.write_line(_named(verified))
    closest = [x for r in passed for name, x in r.user_properties if name == "closest"]
    if closest:
        terminalreporter.section("right candidates")
        terminalreporter.write_line(
            f"{len(closest)} found right, the closest at {max(closest):.2f} of its bound"
        )
    rows: dict[str, float] = {}
    for report in passed:
        for name, value in report.user_properties:
            if name == "difference":
                rows[value[0]] = max(value[1], rows.get(value[0], 0.0))
    if rows:
        terminalreporter.section("largest relative difference, values and gradients")
        for row, off in sorted(rows.items()):
            terminalreporter.write_line(f"{off:8.1e}  {row}")


def _named(verified: list[Any]) -> str:
    found = {x for r in verified for name, x in r.user_properties if name == "verified"}
    equal = sorted(row for row in found if " = " in row)
    count = f"{len(verified)} found and named; {len(equal)} sets of them make the same numbers"
    return "\n  ".join([f"{count}:" if equal else count, *equal])


def _counted(passed: list[Any]) -> str:
    from vtnp._registry.spec import registry
    from vtnp.claims import claims
    from vtnp.mistakes import mistakes

    rejected = sum("test_mistake_is_rejected" in report.nodeid for report in passed)
    kinds = [kind for kind, _, _ in claims]
    laws, special = kinds.count("law"), kinds.count("special")
    return (
        f"{len(registry)} formulas, each with its page: {laws} laws, {special} special "
        f"cases; {rejected} of {len(mistakes)} mistakes were put to the test, and rejected"
    )
