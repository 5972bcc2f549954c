"""Dilated attention chunk by chunk: its values, what it moves, and what a killed worker changes."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pytest
from dask.callbacks import Callback
from hypothesis import given
from hypothesis import strategies as st

import vtnp

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "examples"))

import long_sequence  # noqa: E402
from long import arrays, chunked  # noqa: E402

SMALL = (
    "--tokens 1000 --heads 3 --width 4 --chunk 64 --segments 16 64 128 384 --dilations 1 4 8 16 "
    "--sample 5"
).split()


def planned(tokens, chunk, pairs, *, heads=3, widths=(5, 5, 4), seed=0):
    """Return random arrays, and the plan for them in chunks."""
    rng = np.random.default_rng(seed)
    inputs = [rng.standard_normal((heads, tokens, width)) for width in widths]
    blocks = [da.from_array(x, chunks=(heads, chunk, -1)) for x in inputs]
    return inputs, chunked.dilated_attention(*blocks, pairs)


def in_memory(inputs, pairs):
    segments, dilations = zip(*pairs, strict=True)
    return vtnp.longnet.dilated_attention(*inputs, segments=segments, dilations=dilations)


@st.composite
def fitting(draw):
    """Draw tokens, a chunk, and branches inside and across chunks."""
    chunk = draw(st.sampled_from([6, 8, 12, 30]))
    divisors = [k for k in range(1, chunk + 1) if chunk % k == 0]
    inside = st.sampled_from(divisors).flatmap(lambda w: st.tuples(st.just(w), st.integers(1, w)))
    across = st.tuples(st.integers(2, 4).map(lambda k: k * chunk), st.sampled_from(divisors))
    pairs = draw(st.lists(inside | across, min_size=1, max_size=4))
    return draw(st.integers(1, 7 * chunk)), chunk, pairs


@given(fitting())
def test_it_is_the_formula_in_memory_and_moves_what_the_paper_says(case):
    tokens, chunk, pairs = case
    assert chunked.misfit(pairs, tokens, chunk) is None
    inputs, plan = planned(tokens, chunk, pairs)
    found = plan.output.compute(scheduler="synchronous")
    assert np.allclose(found, in_memory(inputs, pairs), rtol=1e-13, atol=1e-14)
    sizes = {"heads": 3, "width": 5 + 4, "itemsize": 8}
    paper = chunked.bytes_of_paper(pairs, tokens, chunk, **sizes)
    assert chunked.bytes_moved(plan) == paper


@pytest.mark.parametrize(
    ("tokens", "chunk", "pairs"),
    [
        (960, 64, [(16, 1), (64, 4), (192, 8)]),
        (1000, 64, [(16, 1), (64, 4), (128, 8), (256, 16)]),  # no segment divides the sequence
        (1000, 64, [(16, 3), (32, 5), (128, 2)]),  # inside a chunk, a dilation need divide nothing
        (130, 64, [(64, 3), (5000, 8)]),  # longer than the sequence, a segment need fit no chunk
        (50, 64, [(7, 2), (1000, 5)]),  # one chunk holds all
        (640, 64, [(128, 8), (16, 1), (128, 8)]),  # a branch twice counts twice, and moves once
        (193, 64, [(128, 64)]),  # of the last chunk's single token, two heads keep nothing
    ],
)
def test_segments_and_chunks_may_be_of_many_sizes(tokens, chunk, pairs):
    assert chunked.misfit(pairs, tokens, chunk) is None
    inputs, plan = planned(tokens, chunk, pairs)
    found = plan.output.compute(scheduler="synchronous")
    assert np.allclose(found, in_memory(inputs, pairs), rtol=1e-13, atol=1e-14)
    paper = chunked.bytes_of_paper(pairs, tokens, chunk, heads=3, width=5 + 4, itemsize=8)
    assert chunked.bytes_moved(plan) == paper


def test_segments_inside_a_chunk_move_nothing():
    _, plan = planned(1000, 64, [(16, 1), (32, 4), (64, 8)])
    assert plan.output.numblocks == (1, 16, 1)
    assert chunked.bytes_moved(plan) == 0
    # Nor do tasks of two chunks have anything else in common.
    graph = plan.output.__dask_graph__().get_all_dependencies()
    assert all(source[2] == key[2] for key, sources in graph.items() for source in sources)


def test_bytes_of_the_paper_by_hand():
    # 4 chunks of 8 in each of 2 segments; each gets 2 rows, of keys and values, of the 3 others.
    each = 3 * 2 * (5 + 4) * 2 * 4
    sizes = {"heads": 2, "width": 5 + 4, "itemsize": 4}
    assert chunked.bytes_of_paper([(32, 4)], 64, 8, **sizes) == 8 * each
    assert chunked.bytes_of_paper([(8, 4), (4, 1)], 64, 8, **sizes) == 0
    # A third segment of 9 tokens: its chunks of 8 and 1 give 2 rows and 1 to each other.
    more = (2 + 1) * (5 + 4) * 2 * 4
    assert chunked.bytes_of_paper([(32, 4)], 73, 8, **sizes) == 8 * each + more


def test_what_is_moved_without_need_is_counted():
    _, plan = planned(256, 16, [(64, 4)])
    Q, K, V = plan.arrays[:3]
    dense = chunked._gathered(Q, K, V, segment=64, dilation=4)
    moved = chunked.bytes_moved(chunked.Plan(dense, [Q, K, V, dense]))
    assert moved == 4 * chunked.bytes_moved(plan) == 16 * 3 * 16 * (5 + 4) * 3 * 8


def test_the_graph_that_is_run_moves_as_much_as_the_one_that_is_planned():
    _, plan = planned(1000, 64, [(16, 1), (64, 4), (128, 8), (256, 16)])
    (run,) = dask.optimize(plan.output)
    assert len(run.dask) < len(plan.output.dask)
    assert chunked.bytes_moved(chunked.Plan(run, plan.arrays)) == chunked.bytes_moved(plan) > 0


def digest_of(folder):
    return hashlib.sha256((folder / "O.npy").read_bytes()).hexdigest()


def leftovers(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_run_from_disk_to_disk(tmp_path, capsys):
    assert long_sequence.main([*SMALL, "--folder", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    inputs = [np.load(tmp_path / f"{name}.npy") for name in "QKV"]
    O = np.load(tmp_path / "O.npy")
    assert O.dtype == inputs[0].dtype == np.float32
    assert O.shape == inputs[0].shape == (3, 1000, 4)
    pairs = [(16, 1), (64, 4), (128, 8), (384, 16)]
    assert np.abs(O - in_memory(inputs, pairs)).max() <= 4 * np.finfo(np.float32).eps
    moved = chunked.bytes_of_paper(pairs, 1000, 64, heads=3, width=8, itemsize=4)
    assert f"{moved} bytes in the task graph, {moved} by the paper's formula" in told
    assert "100% Completed" in told
    assert "5 sampled outputs" in told
    assert digest_of(tmp_path) in told
    assert "GB of memory" in told
    assert leftovers(tmp_path) == ["K.npy", "O.npy", "Q.npy", "V.npy"]
    assert all(x.std() > 0.9 for x in inputs)


def test_arrays_of_ones_own(tmp_path, capsys):
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal((2, 300, d), np.float32) for d in (4, 4, 3)]
    for name, x in zip("QKV", inputs, strict=True):
        np.save(tmp_path / f"{name}.npy", np.asfortranarray(x) if name == "K" else x)
    options = "--chunk 32 --segments 16 64 --dilations 1 8 --folder"
    assert long_sequence.main([*options.split(), str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("300 tokens, 2 heads of width 4; 10 chunks of 32")
    expected = in_memory(inputs, [(16, 1), (64, 8)])
    assert np.abs(np.load(tmp_path / "O.npy") - expected).max() <= 4 * np.finfo(np.float32).eps


def script(*options, folder):
    return subprocess.run(
        [sys.executable, str(ROOT / "examples" / "long_sequence.py"), *SMALL, *options],
        capture_output=True, text=True, check=False, cwd=folder, timeout=250,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder)},
    )  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    assert long_sequence.main([*SMALL, "--folder", str(folder)]) == 0
    return digest_of(folder)


def test_a_cluster_computes_the_same(undisturbed, tmp_path):
    run = script("--cluster", folder=tmp_path)
    assert (run.returncode, run.stderr) == (0, "")
    assert f"SHA-256 {undisturbed}" in run.stdout
    assert "100% Completed" in run.stdout
    assert run.stdout.splitlines()[-1].count(" + ") == 2  # the memory of three processes
    assert leftovers(tmp_path) == []


def test_a_killed_worker_does_not_change_the_result(undisturbed, tmp_path):
    run = script("--cluster", "--kill-worker", folder=tmp_path)
    assert (run.returncode, run.stderr) == (0, "")
    assert "was killed midway" in run.stdout
    assert f"SHA-256 {undisturbed}" in run.stdout


CLUSTER = """
import logging
from distributed import LocalCluster
if __name__ == "__main__":
    options = {"dashboard_address": "127.0.0.1:0", "silence_logs": logging.CRITICAL}
    with LocalCluster(n_workers=1, **options) as there:
        print(there.scheduler_address, flush=True)
        input()
"""


def test_a_cluster_that_runs_elsewhere_needs_vtnp_alone(undisturbed, tmp_path):
    (tmp_path / "cluster.py").write_text(CLUSTER)
    process = subprocess.Popen(
        [sys.executable, "cluster.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    with process:
        address = process.stdout.readline().strip()
        run = script("--cluster", address, folder=tmp_path)
        process.communicate("\n")
    assert (run.returncode, run.stderr) == (0, "")
    assert f"SHA-256 {undisturbed}" in run.stdout


class Interrupted(Callback):
    """Press Ctrl-C when the first chunk is written."""

    def _posttask(self, key, result, dsk, state, worker_id):
        if key[0].startswith("write_chunk"):
            # Not by a signal: the workers of pytest-xdist ignore it.
            raise KeyboardInterrupt


def test_stopped_midway_it_leaves_the_old_output(tmp_path, capsys):
    (tmp_path / "O.npy").write_text("old")
    with Interrupted():
        assert long_sequence.main([*SMALL, "--folder", str(tmp_path)]) == 130
    assert capsys.readouterr().err == "\nstopped; no output is left\n"
    assert (tmp_path / "O.npy").read_text() == "old"
    assert leftovers(tmp_path) == ["K.npy", "O.npy", "Q.npy", "V.npy"]


def test_a_wrong_output_takes_no_place(tmp_path, capsys, monkeypatch):
    right = chunked.mixed
    monkeypatch.setattr(chunked, "mixed", lambda *branches: right(*branches) * 1.00001)
    assert long_sequence.main([*SMALL, "--folder", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("long_sequence.py: sampled outputs are off by ")
    assert error.count("\n") == 1
    assert "O.npy" not in leftovers(tmp_path)


def test_a_count_that_differs_from_the_paper_is_an_error(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(chunked, "bytes_moved", lambda plan: 7)
    assert long_sequence.main([*SMALL, "--folder", str(tmp_path)]) == 1
    assert "moves other bytes" in capsys.readouterr().err
    assert "O.npy" not in leftovers(tmp_path)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("--tokens 0", "argument --tokens: invalid whole number >= 1 value: '0'"),
        ("--tokens 2**99", "argument --tokens: invalid whole number >= 1 value: '2**99'"),
        ("--tokens 2**x", "argument --tokens: invalid whole number >= 1 value: '2**x'"),
        ("--tokens 2**46", "GB needed"),
        ("--colour", "unrecognized arguments: --colour"),
        ("--segments 64", "--segments and --dilations: 1 and 5 numbers, expected as many"),
        ("--segments 8 --dilations 9", "--dilations: 9 is more than its segment of 8 tokens"),
        ("--segments 2**20 --dilations 1", "a segment of 1048576 tokens with dilation 1 has"),
        (
            "--chunk 8192 --segments 16384 --dilations 6",
            "--chunk: a dilation of 6 does not divide chunks of 8192 tokens, as it must",
        ),
        (
            "--chunk 48 --segments 32 --dilations 2",
            "--chunk: segments of 32 tokens do not divide chunks of 48",
        ),
        (
            "--chunk 48 --segments 64 --dilations 2",
            "--chunk: chunks of 48 tokens do not divide segments of 64",
        ),
        ("--kill-worker", "--kill-worker goes with --cluster"),
        ("--folder none", "none: no such folder"),
        ("--folder half", "K.npy: No such file, but Q.npy is there"),
        ("--folder cut", "Q.npy: no .npy file, or one cut short"),
        ("--folder doubles", "Q.npy: expected float32 of (heads, tokens, width), got float64 of"),
        ("--folder apart", "Q, K and V do not fit: their shapes are"),
        ("--folder short --tokens 64", "--tokens 64: the arrays in"),
        ("--folder short --cluster nowhere", "--cluster nowhere: missing port number in address"),
        ("--folder short --cluster no://x", "--cluster no://x: unknown address scheme 'no'"),
    ],
)
def test_bad_input_is_one_line_and_status_2(options, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    x = np.zeros((2, 32, 4), np.float32)
    folders = {
        "half": {"Q": x},
        "cut": dict.fromkeys("QKV", x),
        "doubles": dict.fromkeys("QKV", x.astype(float)),
        "apart": {"Q": x, "K": x, "V": x[:, 1:]},
        "short": dict.fromkeys("QKV", x),
    }
    for folder, files in folders.items():
        Path(folder).mkdir()
        for name, array in files.items():
            np.save(Path(folder, f"{name}.npy"), array)
    os.truncate("cut/Q.npy", 300)
    before = sorted(tmp_path.rglob("*"))
    assert long_sequence.main(options.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith("long_sequence.py: ")
    assert told in error
    assert error.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_one_token_in_memory_is_a_row_of_the_whole():
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal((3, 100, 4)) for _ in range(3)]
    pairs = [(8, 1), (30, 6), (200, 16)]
    whole = in_memory(inputs, pairs)
    for place in (0, 29, 30, 64, 99):
        row = arrays.in_memory(inputs, place, pairs, "f8")
        assert np.allclose(row, whole[:, place : place + 1], rtol=1e-13, atol=1e-14)
