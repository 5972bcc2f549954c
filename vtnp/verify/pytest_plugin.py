"""pytest plugin: a project's own tests check its implementations.

@pytest.mark.vtnp("eq2", layout="Q=b h (t s) d; K=b h (t s) d; V=b h (t s) d_v")
def test_trajectory_tokens():
    return my_project.trajectory_tokens

def test_attention(vtnp_check):
    vtnp_check(my_project.attend, "attention", extra={"dropout": 0.0})
"""

from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "vtnp(formula, **options): the test returns a candidate, and vtnp.verify.check checks it",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test marked vtnp, and check what it returns."""
    mark = pyfuncitem.get_closest_marker("vtnp")
    if mark is None:
        return None
    names = pyfuncitem._fixtureinfo.argnames  # noqa: SLF001  (as pytest's own hook does)
    candidate = pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names})
    if candidate is None:
        pytest.fail("a test marked vtnp must return the candidate, got None", pytrace=False)
    _fail_if_wrong(candidate, *mark.args, **mark.kwargs)
    return True


@pytest.fixture
def vtnp_check() -> Callable[..., None]:
    """A function that fails the test where vtnp.verify.check finds the candidate wrong."""
    return _fail_if_wrong


def _fail_if_wrong(candidate: Callable[..., Any], formula: str | int, **options: Any) -> None:
    __tracebackhide__ = True
    # Imported here: where vtnp is installed, pytest loads this plugin in every run.
    from rich.console import Console

    from vtnp.verify.functions.check import check
    from vtnp.verify.text import print_report

    report = check(candidate, formula, **options)
    if report.status:
        text = StringIO()
        console = Console(file=text, width=100, highlight=False, emoji=False, no_color=True)
        print_report(report, console=console)
        pytest.fail(text.getvalue(), pytrace=False)
