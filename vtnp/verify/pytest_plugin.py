"""A project's own tests keep its implementations verified.

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
        "vtnp(formula, **options): the test returns a candidate, which vtnp.verify.functions.check checks",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a marked test and check what it returns."""
    mark = pyfuncitem.get_closest_marker("vtnp")
    if mark is None:
        return None
    names = pyfuncitem._fixtureinfo.argnames  # noqa: SLF001  (as pytest's own hook has it)
    candidate = pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names})
    if candidate is None:
        pytest.fail("a test marked vtnp returns the candidate, not None", pytrace=False)
    _hold(candidate, *mark.args, **mark.kwargs)
    return True


@pytest.fixture
def vtnp_check() -> Callable[..., None]:
    """A function that fails the test where vtnp.verify.functions.check(candidate, formula) finds it wrong."""
    return _hold


def _hold(candidate: Callable[..., Any], formula: str | int, **options: Any) -> None:
    __tracebackhide__ = True
    # Here, not above: whoever has vtnp installed loads this plugin in every run.
    from rich.console import Console

    from vtnp.verify.functions.check import check
    from vtnp.verify.text import told

    report = check(candidate, formula, **options)
    if report.status:
        words = StringIO()
        told(report, console=Console(file=words, width=100, highlight=False, no_color=True))
        pytest.fail(words.getvalue(), pytrace=False)
