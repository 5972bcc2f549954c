"""The device script finds what is wrong, and its report survives whatever ends it."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

import vtnp
from tests.device import libraries, tasks
from tests.device.__main__ import COULD_NOT_RUN, FAILED, PASSED, TIME_IS_OVER, main
from tests.device.report import Report
from tests.support import readings
from tests.support.whole_models import SMALL
from vtnp._array.xp import unboxed
from vtnp._registry.spec import registry
from vtnp.verify.functions import cupy_installation

LIBRARY = "cupy" if "cupy" in readings.NAMES else "cupy-standin"
TORCH = ["torch-cpu"] if "torch" in readings.NAMES else []
FIRST = "formula softmax "  # two tasks


@pytest.fixture
def run(tmp_path, capsys):
    """Run the script on the stand-in; return its status, its report and what it said."""

    def run(*arguments, library=LIBRARY):
        out = tmp_path / "report.json"
        status = main([*arguments, "--library", library, "--out", str(out)])
        ran = status in {PASSED, FAILED, TIME_IS_OVER}
        report = json.loads(out.read_text()) if ran else None
        said = capsys.readouterr()
        return SimpleNamespace(status=status, report=report, said=said.out + said.err)

    return run


def wrong(id, function):
    """Put a function in a formula's place on the device; on the CPU it stays right."""

    def handler(call, proceed):
        on_cpu = any(isinstance(unboxed(x), np.ndarray) for x in call.arguments.values())
        return proceed(call if on_cpu else call.replace(function=function))

    return vtnp.intercept(handler, [id])


# --- What is run ----------------------------------------------------------------------------------


def test_tasks_come_in_order_of_risk():
    names = [each.name for each in tasks.tasks()]
    assert len(names) == len(set(names))
    chapters = [registry[n.split(" ")[1]].module for n in names if n.startswith("formula ")]
    assert list(dict.fromkeys(chapters))[: len(tasks.RISKY)] == list(tasks.RISKY)
    every = [f"formula {id} {dtype}" for id in registry for dtype in tasks.DTYPES]
    every += [f"model {name} {dtype}" for name in SMALL for dtype in tasks.DTYPES]
    assert {*every, "model deformable-tiny float32"} <= {*names}
    first = next(i for i, name in enumerate(names) if name.startswith("model mvit"))
    assert names.index("model nystromformer-odd float32") < first


def test_a_formula_that_passes(run):
    found = run("--only", FIRST)
    assert found.status == PASSED
    assert found.report["summary"]["passed"] == 2
    assert found.report["head"]["library"] == LIBRARY
    task = found.report["tasks"]["formula softmax float32"]
    assert task["judged"] == 2
    assert task["laws"] > 10
    assert 0.0 < task["value"] < 1.0
    assert 0.0 < task["gradient"] < 1.0
    assert task["transfers"] == task["transfers in the gradient"] == []
    assert "2 tasks passed, 0 failed, 0 have not run" in found.said


@pytest.mark.parametrize("library", TORCH)
def test_torch_runs_the_same(run, library):
    found = run("--only", "formula logsumexp float64", library=library)
    assert found.status == PASSED
    assert "transfers" not in found.report["tasks"]["formula logsumexp float64"]


@pytest.mark.parametrize(
    ("id", "function", "what"),
    [
        ("relu", lambda x: x * 1.001 * (x > 0), "value"),
        ("relu", lambda x: x * (x > 0) + 0.0 * float(x[0, 0]), "transfers"),
        ("relu", lambda x: np.maximum(x.get(), 0.0), "error"),
        ("relu", lambda x: x[..., :1], "error"),
    ],
    ids=["wrong value", "waits", "leaves the device", "wrong shape"],
)
def test_a_wrong_formula_is_found(run, id, function, what):
    with wrong(id, function):
        found = run("--only", f"formula {id} float64")
    assert found.status == FAILED
    failed = found.report["tasks"][f"formula {id} float64"]["failed"]
    assert what in failed
    assert found.report["summary"]["failed_tasks"] == [f"formula {id} float64"]


def test_a_wrong_gradient_and_a_wrong_law_are_found(run):
    """A constant in place of the slope leaves the value as it is."""
    from vtnp._array.xp import constant, namespace

    def stopped(x, *, approximate="none"):
        xp = namespace(x)
        return xp.multiply(x, 0.5) + constant(own(x)) - xp.multiply(constant(x), 0.5)

    own = vtnp.encoder.gelu.__wrapped__
    with wrong("gelu", stopped):
        found = run("--only", "formula gelu float64")
    failed = found.report["tasks"]["formula gelu float64"]["failed"]
    assert "gradient" in failed
    assert "value" not in failed


def test_a_wrong_model_is_found(run):
    """A gain of 1.01 in one norm: the loss and the params after the step are others."""

    def louder(x, gamma, beta, *, eps):
        return own(x, 1.01 * gamma, beta, eps=eps)

    own = vtnp.encoder.layer_norm.__wrapped__
    with wrong("layer-norm", louder):
        found = run("--only", "model vivit-spatio-temporal float32")
    assert found.status == FAILED
    assert "step" in found.report["tasks"]["model vivit-spatio-temporal float32"]["failed"]


def test_times(run):
    found = run("--only", "time layer-norm")
    assert found.report["tasks"]["time layer-norm"]["gradient ms"] > 0
    assert "layer-norm: value ms" in found.said


# --- The report -----------------------------------------------------------------------------------


def test_time_over_and_resumed(run, monkeypatch):
    found = run("--only", FIRST, "--minutes", "0")
    assert found.status == TIME_IS_OVER
    assert found.report["tasks"] == {}
    assert "2 have not run: the time was over" in found.said
    found = run("--only", FIRST, "--resume")
    assert found.status == PASSED
    assert found.report["summary"]["passed"] == 2

    def fail(*args):
        raise AssertionError("run again")

    monkeypatch.setattr("tests.device.__main__.outcome", fail)
    assert run("--only", FIRST, "--resume").report["tasks"] == found.report["tasks"]


def test_report_is_whole_while_tasks_run(tmp_path, monkeypatch):
    out, seen = tmp_path / "report.json", []

    def outcome(task, device, go_on):
        seen.append(json.loads(out.read_text()))
        return {"status": "passed"}

    monkeypatch.setattr("tests.device.__main__.outcome", outcome)
    arguments = ["--library", LIBRARY, "--only", FIRST, "--out", str(out)]
    assert main(arguments) == PASSED
    assert [each["running"] for each in seen] == [
        "formula softmax float64", "formula softmax float32"
    ]  # fmt: skip
    assert [*seen[1]["tasks"]] == ["formula softmax float64"]
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_a_task_that_ended_the_process_has_failed(run, tmp_path):
    assert run("--only", FIRST, "--minutes", "0").status == TIME_IS_OVER
    out = tmp_path / "report.json"
    written = json.loads(out.read_text())
    out.write_text(json.dumps(written | {"running": "formula softmax float64"}))
    found = run("--only", FIRST, "--resume")
    assert found.status == FAILED
    assert found.report["tasks"]["formula softmax float64"]["failed"] == {
        "run": "the run ended while this was running"
    }
    assert found.report["tasks"]["formula softmax float32"]["status"] == "passed"


def test_an_interrupted_run_is_reported(run, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("tests.device.__main__.outcome", interrupt)
    found = run("--only", FIRST)
    assert found.status == FAILED
    assert found.report["summary"]["ended"] == "interrupted"


def test_a_lost_device_ends_the_run(run, monkeypatch):
    monkeypatch.setattr(libraries.Device, "is_lost", lambda self: "illegal address")
    with wrong("softmax", lambda x, **_: x):
        found = run("--only", FIRST)
    assert found.status == FAILED
    assert [*found.report["tasks"]] == ["formula softmax float64"]
    assert "the device is lost after formula softmax float64 (illegal address)" in found.said
    assert libraries.LIBRARIES[LIBRARY]().description


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "is not a report of this script"),
        ("[", "is not a report of this script"),
        (None, "No such file"),
        ("other", f"is of library 'torch', and this is {LIBRARY!r}"),
    ],
)
def test_what_cannot_be_resumed(run, tmp_path, text, message):
    if text == "other":
        report = Report({"library": "torch", "version": "", "device": "", "vtnp": "", "numpy": "",
                         "python": "", "begun": ""}, tmp_path / "report.json")  # fmt: skip
        report.write()
    elif text is not None:
        (tmp_path / "report.json").write_text(text)
    found = run("--only", FIRST, "--resume")
    assert found.status == COULD_NOT_RUN
    assert message in found.said
    assert found.said.count("\n") == 1


# --- Where it cannot run --------------------------------------------------------------------------


def test_without_a_device_it_says_so_in_one_line(run, tmp_path, monkeypatch):
    why = "no CUDA device: the driver finds none"
    monkeypatch.setattr(cupy_installation, "problem", lambda: why)
    found = run(library="cupy")
    assert found.status == COULD_NOT_RUN
    assert found.said == f"cupy: {why}\n"
    assert not (tmp_path / "report.json").exists()


def test_no_such_task(run):
    found = run("--only", "nothing")
    assert found.status == COULD_NOT_RUN
    assert found.said == "no task has 'nothing' in its name\n"


# --- All of it ------------------------------------------------------------------------------------


@pytest.mark.deep
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("library", [LIBRARY, *TORCH])
def test_everything_passes(run, library):
    found = run("--minutes", "25", library=library)
    assert found.report["summary"]["failed_tasks"] == []
    assert found.status == PASSED
    judged = [x["judged"] for name, x in found.report["tasks"].items() if name.startswith("form")]
    assert min(judged) == 2
