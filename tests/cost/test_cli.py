"""`vtnp cost`: what a person and a program get, and what they are told when they err."""

import json
import math
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

import vtnp
from vtnp import cost
from vtnp.cli import main
from vtnp.cost import measure, plot
from vtnp.cost.sizes import call
from vtnp.cost.sweep import steps, sweep


def answer(capsys, *words: str) -> str:
    assert main(["cost", *words]) == 0
    return capsys.readouterr().out


def complaint(capsys, *words: str) -> str:
    assert main(["cost", *words]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("vtnp: ")
    assert told.err.count("\n") == 1
    return told.err


def test_a_formula_is_told_for_a_person(capsys):
    told = answer(capsys, "attention", "n=1000", "m=500", "d_k=64", "d_v=32")
    assert "n = 1 000, d_k = 64 (default), m = 500, d_v = 32" in told
    assert "48 000 000 by the page's closed form" in told
    assert "exp" in told
    assert "alive at once, at most" in told


@pytest.mark.parametrize("name", ["eq2", "2", "trajectory-tokens"])
def test_a_formula_answers_to_all_its_names(capsys, name):
    told = json.loads(answer(capsys, name, "t=4", "s=9", "d=8", "d_v=8", "--json"))
    assert told["formula"] == "trajectory-tokens"
    assert told["cost"]["multiply_adds"] == 4 * 9 * 4 * 9 * 16


def test_figures_for_a_program_are_those_counted(capsys):
    told = json.loads(answer(capsys, "attention", "n=7", "m=5", "d_k=3", "d_v=2", "--json"))
    shapes = [(7, 3), (5, 3), (5, 2)]
    counted = cost.counted(vtnp.encoder.attention, *(cost.array(x, "float32") for x in shapes))
    assert told["cost"]["multiply_adds"] == counted.multiply_adds == 7 * 5 * (3 + 2)
    assert told["cost"]["operations"] == counted.operations
    assert told["cost"]["argument_bytes"] == 4 * (21 + 15 + 10)
    assert told["sizes"]["n"] == 7


def test_the_gradient_of_attention_costs_two_more(capsys):
    sizes = ("attention", "n=7", "m=5", "d_k=3", "d_v=2", "--json")
    value = json.loads(answer(capsys, *sizes))["cost"]["multiply_adds"]
    both = json.loads(answer(capsys, *sizes, "--gradient"))["cost"]["multiply_adds"]
    assert both == 3 * value


def test_a_billion_tokens_take_no_time_and_no_memory(capsys):
    tracemalloc.start()
    told = json.loads(answer(capsys, "dilated-attention", "n=1000000000", "--json"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert told["sizes"]["segments"] == [2048, 4096, 8192, 16384, 32768]
    assert told["cost"]["multiply_adds"] > 10**15
    assert peak < 200e6


def test_a_model_is_told_with_its_parameters(capsys):
    told = json.loads(answer(capsys, "timesformer", "--json"))
    assert told["parameters"] == 121_566_352
    halved = json.loads(answer(capsys, "timesformer", "frames=4", "--json"))
    assert halved["cost"]["multiply_adds"] < told["cost"]["multiply_adds"]
    assert "one view" in answer(capsys, "vivit-b")


def test_a_sweep_tells_the_power(capsys):
    rows = answer(capsys, "attention", "--sweep", "n=1000..64000*2", "m=64").splitlines()
    assert rows[-1].split()[:2] == ["64", "000"]
    assert "1.000" in rows[-1]
    told = json.loads(answer(capsys, "attention", "--sweep", "n=1e2..1e3", "--json"))
    assert [each["n"] for each in told["sweep"]] == [100, 1000]


def test_growth_is_that_of_the_counts():
    found = list(sweep("attention", "n", steps(8, 64, 2), {"m": 8}))
    assert [step.size for step in found] == [8, 16, 32, 64]
    assert found[0].slope is None
    assert all(math.isclose(step.slope, 1.0) for step in found[1:])


@pytest.mark.parametrize("id", ["attention", "nystrom-attention", "trajectory-tokens"])
def test_numpy_takes_the_memory_that_is_counted(id):
    sizes = {"attention": {"n": 700, "m": 600}, "trajectory-tokens": {"t": 4, "s": 100}}
    each = call(id, **sizes.get(id, {"n": 2048}))
    run = measure.measured(vtnp.formula(id).function, each.arguments)
    assert run.memory_ratio == pytest.approx(1.0, abs=0.02)
    assert run.seconds_per_multiply_add > 0.0


def test_a_measured_run_stands_beside_the_count(capsys):
    told = answer(capsys, "softmax", "n=1000", "--measure")
    assert "of the count" in told
    assert "the shortest of three runs" in told
    assert "for a multiply-add" not in told


def test_the_plot_is_drawn_whole_or_not_at_all(capsys, tmp_path):
    file = tmp_path / "cost.png"
    answer(capsys, "--plot", str(file))
    assert file.read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["cost.png"]
    assert ".png" in complaint(capsys, "--plot", str(tmp_path / "cost.xyz"))


def test_labels_are_kept_apart_and_near_their_lines():
    places = [1.0, 1.1, 1.2, 5.0]
    moved = plot.apart(places, 0.5)
    gaps = np.diff(sorted(moved))
    assert np.all(gaps >= 0.5 - 1e-12)
    assert moved[3] == 5.0
    assert np.mean(moved[:3]) == pytest.approx(1.1)
    assert plot.apart([0.0, 0.5, 1.0], 0.1) == [0.0, 0.5, 1.0]
    within = plot.apart([0.99, 0.95, 0.1], 0.1, 0.0, 1.0)
    assert max(within) <= 1.0
    assert within[2] == 0.1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("atention",), "near it: attention"),
        (("attention", "n"), "KEY=VALUE is meant"),
        (("attention", "frames=2"), "there are n,"),
        (("attention", "n=many"), "a whole number"),
        (("attention", "n=-1"), "n"),
        (("dilated-attention", "segments=2048", "dilations=1,2"), "one for each of the 1 segments"),
        (("timesformer", "colour=red"), "no field 'colour'"),
        (("timesformer", "--measure"), "are for formulas"),
        (("attention", "--sweep", "n=9"), "FIRST..LAST"),
        (("attention", "--sweep", "n=9..3"), "the first"),
        (("attention", "--measure", "n=1e7"), "bytes are free"),
        (("attention", "--measure", "--gradient"), "--measure runs one value"),
        (("attention", "--table"), "no name goes with them"),
        ((), "which formula or model"),
        (("attention", "--colour"), "--colour"),
    ],
)
def test_errors_are_one_line_that_says_what_to_do(capsys, words, told):
    assert told in complaint(capsys, *words)


def test_a_size_that_no_memory_holds_is_still_counted(capsys):
    told = json.loads(answer(capsys, "attention", "n=1e12", "--json"))
    assert told["cost"]["multiply_adds"] == 10**24 * 128


def test_the_command_is_installed():
    run = subprocess.run(
        [sys.executable, "-c", "from vtnp.cli import main; raise SystemExit(main(['--help']))"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "cost" in run.stdout
