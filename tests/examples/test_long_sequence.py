"""Dilated attention chunk by chunk: values, bytes moved, clusters, interruptions and bad input."""

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
from vtnp.longnet import Branch

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "examples"))

import long_sequence  # noqa: E402
from long import arrays, chunked  # noqa: E402

SMALL = (
    "--tokens 1000 --heads 3 --width 4 --chunk 64 --branches 16x1 64x4 128x8 384x16 --sample 5"
).split()


def planned(tokens, chunk, branches, *, heads=3, widths=(5, 5, 4), seed=0):
    """Return random arrays, and the plan for them in chunks."""
    rng = np.random.default_rng(seed)
    inputs = [rng.standard_normal((heads, tokens, width)) for width in widths]
    blocks = [da.from_array(x, chunks=(heads, chunk, -1)) for x in inputs]
    return inputs, chunked.dilated_attention(*blocks, branches)


def in_memory(inputs, branches):
    return vtnp.longnet.dilated_attention(*inputs, branches=branches)


@st.composite
def fitting(draw):
    """Draw a number of tokens, a chunk, and branches within chunks and across them."""
    chunk = draw(st.sampled_from([6, 8, 12, 30]))
    divisors = [k for k in range(1, chunk + 1) if chunk % k == 0]
    within = st.sampled_from(divisors).flatmap(lambda w: st.tuples(st.just(w), st.integers(1, w)))
    across = st.tuples(st.integers(2, 4).map(lambda k: k * chunk), st.sampled_from(divisors))
    branches = draw(st.lists(within | across, min_size=1, max_size=4))
    return draw(st.integers(1, 7 * chunk)), chunk, branches


@given(fitting())
def test_values_are_those_in_memory_and_bytes_those_of_the_paper(case):
    tokens, chunk, branches = case
    assert chunked.misfit(branches, tokens, chunk) is None
    inputs, plan = planned(tokens, chunk, branches)
    found = plan.output.compute(scheduler="synchronous")
    assert np.allclose(found, in_memory(inputs, branches), rtol=1e-13, atol=1e-14)
    sizes = {"heads": 3, "width": 5 + 4, "itemsize": 8}
    paper = chunked.bytes_of_paper(branches, tokens, chunk, **sizes)
    assert chunked.bytes_moved(plan) == paper


@pytest.mark.parametrize(
    ("tokens", "chunk", "branches"),
    [
        (960, 64, [(16, 1), (64, 4), (192, 8)]),
        (1000, 64, [(16, 1), (64, 4), (128, 8), (256, 16)]),  # no segment divides the sequence
        (1000, 64, [(16, 3), (32, 5), (128, 2)]),  # within a chunk any dilation fits
        (130, 64, [(64, 3), (5000, 8)]),  # a segment longer than the sequence fits any chunk
        (50, 64, [(7, 2), (1000, 5)]),  # a single chunk
        (640, 64, [(128, 8), (16, 1), (128, 8)]),  # a branch twice is mixed twice and moved once
        (193, 64, [(128, 64)]),  # two heads select nothing of the last chunk
    ],
)
def test_segments_and_chunks_may_be_of_many_sizes(tokens, chunk, branches):
    assert chunked.misfit(branches, tokens, chunk) is None
    inputs, plan = planned(tokens, chunk, branches)
    found = plan.output.compute(scheduler="synchronous")
    assert np.allclose(found, in_memory(inputs, branches), rtol=1e-13, atol=1e-14)
    paper = chunked.bytes_of_paper(branches, tokens, chunk, heads=3, width=5 + 4, itemsize=8)
    assert chunked.bytes_moved(plan) == paper


def test_segments_within_a_chunk_move_nothing():
    _, plan = planned(1000, 64, [(16, 1), (32, 4), (64, 8)])
    assert plan.output.numblocks == (1, 16, 1)
    assert chunked.bytes_moved(plan) == 0
    # No task depends on a task of another chunk.
    graph = plan.output.__dask_graph__().get_all_dependencies()
    assert all(source[2] == key[2] for key, sources in graph.items() for source in sources)


def test_bytes_of_the_paper_by_hand():
    # 2 segments of 4 chunks of 8; each chunk gets 2 rows of keys and values from 3 others.
    each = 3 * 2 * (5 + 4) * 2 * 4
    sizes = {"heads": 2, "width": 5 + 4, "itemsize": 4}
    assert chunked.bytes_of_paper([(32, 4)], 64, 8, **sizes) == 8 * each
    assert chunked.bytes_of_paper([(8, 4), (4, 1)], 64, 8, **sizes) == 0
    # A third segment of 9 tokens: its chunks of 8 and 1 send 2 rows and 1 to each other.
    more = (2 + 1) * (5 + 4) * 2 * 4
    assert chunked.bytes_of_paper([(32, 4)], 73, 8, **sizes) == 8 * each + more


def test_unnecessary_data_are_counted_too():
    _, plan = planned(256, 16, [(64, 4)])
    Q, K, V = plan.arrays[:3]
    dense = chunked._gathered(Q, K, V, Branch(64, 4))
    moved = chunked.bytes_moved(chunked.Plan(dense, [Q, K, V, dense]))
    assert moved == 4 * chunked.bytes_moved(plan) == 16 * 3 * 16 * (5 + 4) * 3 * 8


def test_the_optimised_graph_moves_as_much_as_the_plan():
    _, plan = planned(1000, 64, [(16, 1), (64, 4), (128, 8), (256, 16)])
    (optimised,) = dask.optimize(plan.output)
    assert len(optimised.dask) < len(plan.output.dask)
    assert (
        chunked.bytes_moved(chunked.Plan(optimised, plan.arrays)) == chunked.bytes_moved(plan) > 0
    )


def digest_of(folder):
    return hashlib.sha256((folder / "O.npy").read_bytes()).hexdigest()


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_run_from_disk_to_disk(tmp_path, capsys):
    assert long_sequence.main([*SMALL, "--folder", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    inputs = [np.load(tmp_path / f"{name}.npy") for name in "QKV"]
    O = np.load(tmp_path / "O.npy")
    assert O.dtype == inputs[0].dtype == np.float32
    assert O.shape == inputs[0].shape == (3, 1000, 4)
    branches = [(16, 1), (64, 4), (128, 8), (384, 16)]
    assert np.abs(O - in_memory(inputs, branches)).max() <= 4 * np.finfo(np.float32).eps
    moved = chunked.bytes_of_paper(branches, 1000, 64, heads=3, width=8, itemsize=4)
    assert f"{moved} bytes in the task graph, {moved} by the paper's formula" in printed
    assert "100% Completed" in printed
    assert "5 sampled outputs" in printed
    assert digest_of(tmp_path) in printed
    assert "peak memory" in printed
    assert names_in(tmp_path) == ["K.npy", "O.npy", "Q.npy", "V.npy"]
    assert all(x.std() > 0.9 for x in inputs)


def test_arrays_of_the_user(tmp_path, capsys):
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal((2, 300, d), np.float32) for d in (4, 4, 3)]
    for name, x in zip("QKV", inputs, strict=True):
        np.save(tmp_path / f"{name}.npy", np.asfortranarray(x) if name == "K" else x)
    options = "--chunk 32 --branches 16x1 64x8 --folder"
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
    assert names_in(tmp_path) == []


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
    with LocalCluster(n_workers=1, **options) as cluster:
        print(cluster.scheduler_address, flush=True)
        input()
"""


def test_a_cluster_started_elsewhere_needs_only_vtnp(undisturbed, tmp_path):
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
    """Interrupt the run when the first chunk is written."""

    def _posttask(self, key, result, dsk, state, worker_id):
        if key[0].startswith("write_chunk"):
            # Not by a signal, which the workers of pytest-xdist ignore.
            raise KeyboardInterrupt


def test_an_interrupted_run_leaves_the_old_output(tmp_path, capsys):
    (tmp_path / "O.npy").write_text("old")
    with Interrupted():
        assert long_sequence.main([*SMALL, "--folder", str(tmp_path)]) == 130
    assert capsys.readouterr().err == "\nstopped; no output was written\n"
    assert (tmp_path / "O.npy").read_text() == "old"
    assert names_in(tmp_path) == ["K.npy", "O.npy", "Q.npy", "V.npy"]


def test_a_wrong_output_is_not_kept(tmp_path, capsys, monkeypatch):
    right = chunked.mixed
    monkeypatch.setattr(chunked, "mixed", lambda *branches: right(*branches) * 1.00001)
    assert long_sequence.main([*SMALL, "--folder", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("long_sequence.py: the error of sampled outputs is ")
    assert error.count("\n") == 1
    assert "O.npy" not in names_in(tmp_path)


def test_a_count_that_differs_from_the_paper_is_an_error(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(chunked, "bytes_moved", lambda plan: 7)
    assert long_sequence.main([*SMALL, "--folder", str(tmp_path)]) == 1
    assert "differ from the paper's formula" in capsys.readouterr().err
    assert "O.npy" not in names_in(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--tokens 0", "argument --tokens: expected an integer >= 1, got '0'"),
        ("--tokens 2**99", "argument --tokens: expected an integer >= 1, got '2**99'"),
        ("--tokens 2**x", "argument --tokens: expected an integer >= 1, got '2**x'"),
        ("--tokens 2**46", "GB required"),
        ("--colour", "unrecognized arguments: --colour"),
        ("--branches 64", "argument --branches: expected SEGMENTxDILATION, such as 2048x4"),
        ("--branches 8x9", "with 1 <= dilation <= segment, got '8x9'"),
        ("--branches 8x0", "with 1 <= dilation <= segment, got '8x0'"),
        ("--branches 2**20x1", "a segment of 1048576 tokens with dilation 1 has"),
        (
            "--chunk 8192 --branches 16384x6",
            "--chunk: a dilation of 6 does not divide chunks of 8192 tokens, as it must",
        ),
        ("--chunk 48 --branches 32x2", "--chunk: segments of 32 tokens do not divide chunks of 48"),
        ("--chunk 48 --branches 64x2", "--chunk: chunks of 48 tokens do not divide segments of 64"),
        ("--kill-worker", "--kill-worker requires --cluster"),
        ("--folder none", "none: no such folder"),
        ("--folder half", "K.npy: no such file, although Q.npy exists"),
        ("--folder cut", "Q.npy: no .npy file, or a truncated one"),
        ("--folder doubles", "expected float32 of shape (heads, tokens, width), got float64 of"),
        ("--folder apart", "Q, K and V do not fit: their shapes are"),
        ("--folder short --tokens 64", "--tokens 64: the arrays in"),
        ("--folder short --cluster nowhere", "--cluster nowhere: missing port number in address"),
        ("--folder short --cluster no://x", "--cluster no://x: unknown address scheme 'no'"),
    ],
)
def test_bad_input_is_one_line_and_status_2(options, message, tmp_path, monkeypatch, capsys):
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
    assert message in error
    assert error.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_one_token_in_memory_is_a_row_of_the_whole():
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal((3, 100, 4)) for _ in range(3)]
    branches = [Branch(8, 1), Branch(30, 6), Branch(200, 16)]
    whole = in_memory(inputs, branches)
    for token in (0, 29, 30, 64, 99):
        row = arrays.in_memory(inputs, token, branches, "f8")
        assert np.allclose(row, whole[:, token : token + 1], rtol=1e-13, atol=1e-14)
