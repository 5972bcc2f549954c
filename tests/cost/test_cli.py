"""`vtnp cost`: what it prints for people and for programs, and its errors."""

import json
import math
import re
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

import vtnp
from vtnp import cost
from vtnp.cli import main, units
from vtnp.cost import measure, plot
from vtnp.cost.sizes import sized_call
from vtnp.cost.sweep import geometric, sweep


def answer(capsys, *words: str) -> str:
    assert main(["cost", *words]) == 0
    return capsys.readouterr().out


def complaint(capsys, *words: str) -> str:
    assert main(["cost", *words]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("vtnp: ")
    assert printed.err.count("\n") == 1
    return printed.err


def test_the_answer_for_a_formula(capsys):
    head, _, table = answer(capsys, "attention", "n=1000", "m=500", "d_v=32").partition("\n\n")
    form = vtnp.formula("attention").cost["multiply_adds"]
    assert (
        head
        == f"""\
formula      attention: y[i] = sum_j alpha[i,j] V[j]
page         spec/encoder/attention.md
sizes        n=1000 m=500 d_v=32
defaults     d_k=64
counted      value, in float32
closed form  48,000,000 multiply-adds = {form}"""
    )
    shapes = [(1000, 64), (500, 64), (500, 32)]
    count = cost.counted(vtnp.encoder.attention, *(cost.array(x, "float32") for x in shapes))
    operations = sorted(count.operations.items(), key=lambda pair: -pair[1])
    assert [tuple(re.split(r"  +", line.strip())) for line in table.splitlines()] == [
        ("multiply-adds (MACs)", "4.800e+07"),
        ("elementwise operations", units.rounded(sum(count.operations.values()))),
        *((kind, units.rounded(n)) for kind, n in operations),
        ("read", units.in_bytes(count.bytes_read), "summed over all operations"),
        ("written", units.in_bytes(count.bytes_written)),
        ("peak memory", units.in_bytes(count.peak_bytes), "arguments and results included"),
        ("arguments", "448 kB"),
        ("results", "128 kB"),
    ]


def test_sizes_that_follow_from_others_are_not_called_defaults(capsys):
    printed = answer(capsys, "attention", "n=1000")
    assert "sizes        n=1000 m=1000\n" in printed
    assert "defaults     d_k=64 d_v=64\n" in printed


def test_long_lines_are_wrapped(capsys):
    for line in answer(capsys, "dilated-attention").splitlines():
        assert len(line) <= 100


def test_of_a_batch_the_closed_form_is_one_elements(capsys):
    printed = answer(capsys, "attention", "n=10", "batch=2,3")
    assert "sizes        n=10 m=10 batch=2,3\n" in printed
    assert "12,800 multiply-adds for each element of the batch = " in " ".join(printed.split())
    assert "multiply-adds (MACs)      76,800" in printed


@pytest.mark.parametrize("name", ["eq2", "2", "trajectory-tokens"])
def test_a_formula_answers_to_all_its_names(capsys, name):
    found = json.loads(answer(capsys, name, "t=4", "s=9", "d=8", "d_v=8", "--json"))
    assert found["formula"] == "trajectory-tokens"
    assert found["cost"]["multiply_adds"] == 4 * 9 * 4 * 9 * 16


def test_figures_for_a_program_are_those_counted(capsys):
    found = json.loads(answer(capsys, "attention", "n=7", "m=5", "d_k=3", "d_v=2", "--json"))
    shapes = [(7, 3), (5, 3), (5, 2)]
    counted = cost.counted(vtnp.encoder.attention, *(cost.array(x, "float32") for x in shapes))
    assert found["cost"]["multiply_adds"] == counted.multiply_adds == 7 * 5 * (3 + 2)
    assert found["cost"]["operations"] == counted.operations
    assert found["cost"]["argument_bytes"] == 4 * (21 + 15 + 10)
    assert found["sizes"]["n"] == 7


def test_the_gradient_of_attention_costs_two_more(capsys):
    sizes = ("attention", "n=7", "m=5", "d_k=3", "d_v=2", "--json")
    value = json.loads(answer(capsys, *sizes))["cost"]["multiply_adds"]
    both = json.loads(answer(capsys, *sizes, "--gradient"))["cost"]["multiply_adds"]
    assert both == 3 * value


def test_a_billion_tokens_take_no_time_and_no_memory(capsys):
    tracemalloc.start()
    found = json.loads(answer(capsys, "dilated-attention", "n=1000000000", "--json"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    branches = [[2048, 1], [4096, 2], [8192, 4], [16384, 6], [32768, 12]]
    assert found["sizes"]["branches"] == branches
    assert found["cost"]["multiply_adds"] == found["closed_form"] > 10**15
    assert peak < 200e6


def test_the_answer_for_a_model(capsys):
    found = json.loads(answer(capsys, "timesformer", "--json"))
    assert found["parameters"] == 121_566_352
    halved = json.loads(answer(capsys, "timesformer", "frames=4", "--json"))
    assert halved["cost"]["multiply_adds"] < found["cost"]["multiply_adds"]
    assert halved["changes"] == {"frames": 4}
    printed = answer(capsys, "timesformer", "frames=4", "--gradient")
    assert printed.startswith("""\
model       timesformer
changes     frames=4
counted     value and gradients, in float32, of one view
parameters  121,563,280

multiply-adds (MACs)  """)


def test_a_sweep_tells_the_power(capsys):
    printed = answer(capsys, "attention", "--sweep", "n=1000..64000*2", "m=64")
    *_, heads, first, second, _, _, _, _, last = printed.splitlines()
    columns = ["n", "multiply-adds (MACs)", "growth", "elementwise operations", "peak memory"]
    assert re.split(r"  +", heads.strip()) == columns
    assert first.split()[:2] == ["1,000", "8.192e+06"]
    assert "n^" not in first
    assert "n^1.000" in second
    assert last.split()[:3] == ["64,000", "5.243e+08", "n^1.000"]
    assert "swept        n\nsizes        m=64\ndefaults     d_k=64 d_v=64\n" in printed


def test_a_sweep_as_json(capsys):
    found = json.loads(answer(capsys, "attention", "--sweep", "n=1e2..1e3", "--json"))
    assert [each["n"] for each in found["sweep"]] == [100, 1000]
    assert found["sizes"] == {
        "d_k": 64, "d_v": 64, "mask": False, "scale": None, "batch": []
    }  # fmt: skip


def test_sizes_that_follow_from_the_swept_one_are_named(capsys):
    assert "swept        n and with it m\n" in answer(capsys, "attention", "--sweep", "n=2..2**4*2")


def test_growth_is_that_of_the_counts():
    found = list(sweep("attention", "n", geometric(8, 64, 2), m=8))
    assert [point.size for point in found] == [8, 16, 32, 64]
    assert found[0].exponent is None
    assert all(math.isclose(point.exponent, 1.0) for point in found[1:])


@pytest.mark.parametrize("id", ["attention", "nystrom-attention", "trajectory-tokens"])
def test_numpy_takes_the_memory_that_is_counted(id):
    sizes = {"attention": {"n": 700, "m": 600}, "trajectory-tokens": {"t": 4, "s": 100}}
    each = sized_call(id, **sizes.get(id, {"n": 2048}))
    run = measure.measured(vtnp.formula(id).function, each.arguments)
    assert run.memory_ratio == pytest.approx(1.0, abs=0.02)
    assert run.seconds_per_multiply_add > 0.0


def test_a_measured_run_is_compared_with_the_count(capsys):
    printed = answer(capsys, "softmax", "n=1000", "--measure")
    assert "times the count\n" in printed
    assert "the shortest of three runs\n" in printed
    assert "per multiply-add" not in printed
    assert "per multiply-add" in answer(capsys, "attention", "n=100", "--measure")
    found = json.loads(answer(capsys, "softmax", "n=1000", "--measure", "--json"))
    assert found["measured"].keys() == {"peak_bytes", "seconds"}


def test_the_plot_is_drawn_whole_or_not_at_all(capsys, tmp_path):
    file = tmp_path / "cost.png"
    assert answer(capsys, "--plot", str(file)) == f"wrote {file}\n"
    assert file.read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["cost.png"]
    assert ".png" in complaint(capsys, "--plot", str(tmp_path / "cost.xyz"))


def test_labels_are_kept_apart_and_near_their_lines():
    positions = [1.0, 1.1, 1.2, 5.0]
    moved = plot.separated(positions, 0.5)
    gaps = np.diff(sorted(moved))
    assert np.all(gaps >= 0.5 - 1e-12)
    assert moved[3] == 5.0
    assert np.mean(moved[:3]) == pytest.approx(1.1)
    assert plot.separated([0.0, 0.5, 1.0], 0.1) == [0.0, 0.5, 1.0]
    within = plot.separated([0.99, 0.95, 0.1], 0.1, 0.0, 1.0)
    assert max(within) <= 1.0
    assert within[2] == 0.1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("atention",), "no formula or model is called 'atention'; did you mean attention"),
        (("timesforme",), "did you mean timesformer"),
        (("attention", "n"), "n: expected KEY=VALUE"),
        (("attention", "frames=2"), "there are n,"),
        (("attention", "n=many"), "n: expected an integer, such as 4096, 1e6 or 2**20, got 'many'"),
        (("attention", "n=-1"), "attention: n: expected an integer >= 0, got -1"),
        (("gelu", "approximate=fast"), "expected one of 'none', 'tanh', got 'fast'"),
        (("axial-layer", "grid=14x14"), "expected Grid(t, h, w), such as 8x14x14, got '14x14'"),
        (("dilated-attention", "branches=2x3"), "expected 1 <= branch.dilation <= branch.segment"),
        (("dilated-attention", "branches=2048,4096"), "such as 2048x1,4096x2,8192x4"),
        (("timesformer", "colour=red"), "no field 'colour'; it has scheme, frames,"),
        (("timesformer", "image=224"), "image: expected 2 integers, such as 224x224, got '224'"),
        (("timesformer", "scheme=x"), "timesformer: unknown scheme 'x': expected one of"),
        (("timesformer", "image=225x225"), "timesformer: "),
        (("timesformer", "--measure"), "are for formulas, not for models"),
        (("attention", "--sweep", "n=9"), "KEY=FIRST..LAST*FACTOR, such as n=1e3..1e9"),
        (("attention", "--sweep", "n=9..3"), "1 <= FIRST <= LAST"),
        (("attention", "--sweep", "n=1..9*1"), "FACTOR >= 2"),
        (("attention", "--sweep", "n=1..9*x"), "n: expected an integer"),
        (("attention", "--sweep", "mask=true..true"), "expected integers"),
        (("attention", "--measure", "n=1e7"), "this run needs 1,200,007.8 GB of memory, and "),
        (("attention", "--measure", "--gradient"), "--measure cannot be combined with --gradient"),
        (("attention", "--table"), "--table and --plot do not take a formula or a model"),
        ((), "expected a formula or a model, as in: vtnp cost attention n=4096"),
        (("attention", "--colour"), "unrecognized arguments: --colour"),
        (("attention", "--dtype", "int8"), "invalid choice: 'int8'"),
    ],
)
def test_errors_are_one_line_that_says_what_to_do(capsys, words, message):
    assert message in complaint(capsys, *words)


def test_a_size_that_no_memory_holds_is_still_counted(capsys):
    found = json.loads(answer(capsys, "attention", "n=1e12", "--json"))
    assert found["cost"]["multiply_adds"] == 10**24 * 128


@pytest.mark.parametrize(
    ("n", "text"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (3 * 10**12, "3 TB"), (10**30, "1e+06 YB")],
)
def test_bytes_are_written_with_their_unit(n, text):
    assert units.in_bytes(n) == text


@pytest.mark.parametrize(
    ("t", "text"),
    [(90.0, "90 s"), (1.5e-3, "1.5 ms"), (2e-6, "2 us"), (3e-9, "3 ns"), (4e-12, "4 ps")],
)
def test_times_are_written_with_their_unit(t, text):
    assert units.in_seconds(t) == text


# --- The command itself ---------------------------------------------------------------------------


def vtnp_command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vtnp", *words], capture_output=True, text=True, check=False
    )


def test_help_lists_the_commands():
    run = vtnp_command("--help")
    assert run.returncode == 0
    assert run.stdout.startswith("usage: vtnp ")
    assert all(f"\n    {name} " in run.stdout for name in ("compare", "cost", "vectors", "verify"))


@pytest.mark.parametrize("name", ["compare", "cost", "vectors", "verify"])
def test_help_of_a_command_has_examples_of_it(capsys, name):
    with pytest.raises(SystemExit, match="0"):
        main([name, "--help"])
    assert f"\n    vtnp {name} " in capsys.readouterr().out


def test_its_version_is_the_packages():
    assert vtnp_command("--version").stdout == f"vtnp {vtnp.__version__}\n"


def test_errors_leave_status_2():
    for words in ((), ("costs",), ("cost", "atention")):
        run = vtnp_command(*words)
        assert run.returncode == 2
        assert run.stdout == ""
        assert run.stderr.startswith("vtnp: ")


def test_importing_vtnp_imports_no_extra_and_no_chapter():
    names = ("scipy", "matplotlib", "av", "safetensors", "torch", "vtnp.cost", "vtnp.encoder")
    code = f"import sys, vtnp; print([name for name in {names} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
