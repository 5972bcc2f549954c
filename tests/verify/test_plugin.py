"""Tests of other projects that keep an implementation verified, and the example of one."""

import shutil
import tomllib
from pathlib import Path

import pytest

from tests.support.peers import installed, needs

pytest_plugins = ["pytester"]
ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "verified_port"
FAST = 'dtypes=("float64",), gradients=False'
torch = installed("torch")


@pytest.fixture
def run(pytester, monkeypatch):
    """Run pytest on an empty project, as one knows it that has the plugin's entry point."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    # Not in this process: what vtnp has replaced and remembered stays its own.
    return lambda: pytester.runpytest_subprocess("-p", "vtnp.verify.pytest_plugin")


def test_mark_and_fixture(pytester, run):
    pytester.makepyfile(f"""
        import numpy as np, pytest

        def relu(x):
            return np.maximum(x, 0.0)

        @pytest.fixture
        def candidate():
            return relu

        @pytest.mark.vtnp("relu", {FAST})
        def test_marked(candidate):
            return candidate

        def test_asked(vtnp_check):
            vtnp_check(relu, "relu", {FAST})
    """)
    run().assert_outcomes(passed=2)


def test_wrong_candidates_are_named(pytester, run):
    pytester.makepyfile(f"""
        import numpy as np, pytest

        def sigmoid(x):
            return 1 / (1 + np.exp(-x))

        @pytest.mark.vtnp("softmax", {FAST})
        def test_marked():
            return sigmoid

        def test_asked(vtnp_check):
            vtnp_check(sigmoid, "softmax", {FAST})

        @pytest.mark.vtnp("softmax")
        def test_forgotten():
            sigmoid

        def test_of_another_kind():
            pass
    """)
    result = run()
    result.assert_outcomes(failed=3, passed=1)
    result.stdout.fnmatch_lines(["*sigmoid (softmax)*", "*must return the candidate, got None*"])
    assert "Traceback" not in result.stdout.str()


def test_plugin_is_declared():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert declared["project"]["entry-points"]["pytest11"] == {"vtnp": "vtnp.verify.pytest_plugin"}


@needs(torch, "vtnp[peers]")
@pytest.mark.parametrize(
    ("fault", "named"),
    [
        pytest.param(("", ""), "", id="right"),
        pytest.param(
            ("dim=-1", "dim=-2"),
            "softmax-over-queries (attention-weights)",
            id="over queries",
            marks=pytest.mark.deep,
        ),
        pytest.param(("@ values", "@ values.detach()"), "gradient V", id="gradient cut"),
    ],
)
def test_example_project(pytester, run, fault, named):
    for name in ("port.py", "test_port.py"):
        shutil.copy(EXAMPLE / name, pytester.path)
    port = pytester.path / "port.py"
    text = port.read_text()
    changed = text.replace(*fault)
    assert (changed == text) == (fault[0] == "")
    port.write_text(changed)
    result = run()
    if changed == text:
        result.assert_outcomes(passed=2)
    else:
        assert result.ret == pytest.ExitCode.TESTS_FAILED
        result.stdout.fnmatch_lines([f"*{named}*"])
