"""Where no question was put there is no verdict, but a line that says what to do."""

import json

import pytest

from tests.support.peers import installed, needs
from vtnp._registry.errors import UsageError
from vtnp.cli import main
from vtnp.verify import check
from vtnp.verify.report import NOT_RUN, RIGHT

torch = installed("torch")
FAST = {"dtypes": ("float64",), "gradients": False, "examples": 0, "library": "numpy"}
RELU = "import numpy as np\ndef relu(x):\n    print('hello')\n    return np.maximum(x, 0.0)\n"


def advice(candidate, id, **options):
    report = check(candidate, id, **(FAST | options))
    assert report.status == NOT_RUN
    assert report.lines == ()
    what, to_do = report.notes
    assert what.startswith("no verdict: no call worked; the first one ")
    return what, to_do


def test_a_parameter_that_nobody_passes():
    def attend(Q, K, V, *, training):
        return V

    what, to_do = advice(attend, "attention")
    assert "missing 1 required keyword-only argument: 'training'" in what
    assert "--extra training=VALUE" in to_do


def test_a_layout_that_is_not_told():
    def heads_last(Q, K, V):
        _, _, h, d, _ = Q.shape
        raise ValueError(f"{h} heads of width {d}")

    what, to_do = advice(heads_last, "attention")
    assert "not enough values to unpack" in what
    assert "Q [*b n d_k]" in to_do
    assert "--layout" in to_do


@pytest.mark.parametrize("returned", [[1.0], (1.0, 2.0), 3.0, iter(())])
def test_results_of_another_structure(returned):
    what, to_do = advice(lambda x: returned, "relu")
    assert "returned" in what
    assert to_do.startswith("expected as results: result [")


def test_a_class_is_refused():
    class Attention:
        def __call__(self, x):
            return x

    with pytest.raises(UsageError, match="Attention is a class: pass a function, or an instance"):
        check(Attention, "relu", **FAST)
    assert not check(Attention(), "relu", **FAST).right


@needs(torch, "vtnp[peers]")
@pytest.mark.parametrize("device", ["cuda:99", "spaceship"])
def test_a_device_that_is_not_there(device, capsys):
    with pytest.raises(UsageError, match=f"^device {device}: "):
        check(torch.relu, "relu", library="torch", device=device)
    command = "verify torch:relu --formula relu --library torch --device"
    assert main([*command.split(), device]) == NOT_RUN
    assert f"device {device}: " in capsys.readouterr().err


def test_what_a_candidate_prints_is_a_note(capsys, tmp_path):
    (tmp_path / "talking.py").write_text(RELU)
    command = ["verify", f"{tmp_path / 'talking.py'}:relu", "--formula", "relu", "--examples", "0"]
    assert main([*command, "--json"]) == RIGHT
    report = json.loads(capsys.readouterr().out)
    assert report["notes"][-1].startswith("it printed ")
    assert report["notes"][-1].endswith(" lines, the first: hello")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--formula", "relo"], "did you mean relu"),
        (["--formula", "relu", "--layout", "y=b n"], "layout"),
        (["--formula", "relu", "--layout", "b h n d"], "expected ARRAY=PATTERN"),
    ],
)
def test_a_mistyped_formula_or_layout_is_refused_before_anything_is_imported(
    options, said, capsys, tmp_path
):
    (tmp_path / "never.py").write_text("raise SystemExit('imported')")
    assert main(["verify", f"{tmp_path / 'never.py'}:relu", *options]) == NOT_RUN
    assert said in capsys.readouterr().err
