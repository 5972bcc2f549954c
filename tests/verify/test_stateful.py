"""Vectors that are exported, harmed and answered in any order, by exports that are killed."""

import shutil
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.support.exports import WrittenOnce
from tests.support.steps import stopped
from vtnp._registry.errors import UsageError
from vtnp._registry.spec import registry
from vtnp.checkpoints import FileError, load, replacement, save
from vtnp.verify.report import NOT_RUN, RIGHT, WRONG
from vtnp.verify.vectors import check, export, exporting

IDS = ("relu", "softmax", "causal-mask")
SEEDS = st.integers(0, 1)
written_once = WrittenOnce(exporting._write)


@cache
def all_written():
    """Compute every formula once, and not in each process that is stopped."""
    with tempfile.TemporaryDirectory() as folder:
        for id in IDS:
            for seed in (0, 1):
                written_once(Path(folder), registry[id], seed)


class Vectors(RuleBasedStateMachine):
    """A folder of vectors and one of results.

    exported: the formulas and the seed of the vectors; None where there are none. harmed: the
    formulas whose file is not the one that the manifest describes. foreign: whether there is a file
    that does not belong to an export. results: by formula the seed whose answers they are, and
    whether they are right.
    """

    def __init__(self):
        super().__init__()
        all_written()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(exporting, "_write", written_once)
        self.place = tempfile.TemporaryDirectory()
        self.folder, self.answers = (Path(self.place.name) / x for x in ("vectors", "results"))
        self.answers.mkdir()
        self.exported, self.harmed, self.foreign, self.results = None, set(), False, {}

    def teardown(self):
        self.patch.undo()
        self.place.cleanup()

    @rule(ids=st.sets(st.sampled_from(IDS), min_size=1), seed=SEEDS)
    def export(self, ids, seed):
        if self.foreign:
            with pytest.raises(FileError, match="is not part of an export"):
                export(self.folder, ids, seed)
            return
        assert export(self.folder, sorted(ids), seed) == self.folder
        self.exported, self.harmed = (ids, seed), set()

    @precondition(lambda self: not self.foreign)
    @rule(
        ids=st.sets(st.sampled_from(IDS), min_size=1), seed=SEEDS, k=st.integers(1, 40),
        how=st.sampled_from(["kill", "fail"]), in_one_step=st.booleans(),
    )  # fmt: skip
    def export_in_a_process_that_is_stopped(self, ids, seed, k, how, in_one_step):
        before = self.files()
        with pytest.MonkeyPatch.context() as patch:
            if not in_one_step:
                patch.setattr(replacement, "exchanged", lambda *_: False)
            outcome, _ = stopped(
                lambda: export(self.folder, sorted(ids), seed), k, (FileError,), how
            )
        replacement.recover(self.folder)
        if self.files() != before:
            self.exported, self.harmed = (ids, seed), set()
        elif outcome == "finished":
            assert self.exported == (ids, seed)
            assert not self.harmed

    def files(self):
        if not self.folder.exists():
            return None
        return {path.name: path.read_bytes() for path in self.folder.iterdir()}

    @precondition(lambda self: self.exported)
    @rule(id=st.sampled_from(IDS))
    def harm(self, id):
        if id in self.exported[0]:
            path = self.folder / f"{id}.safetensors"
            path.write_bytes(path.read_bytes()[:-1])
            self.harmed.add(id)

    @precondition(lambda self: self.exported)
    @rule()
    def add_what_is_not_ours(self):
        (self.folder / "mine.txt").write_text("mine")
        self.foreign = True

    @precondition(lambda self: self.foreign)
    @rule()
    def remove_what_is_not_ours(self):
        assert (self.folder / "mine.txt").read_text() == "mine"
        (self.folder / "mine.txt").unlink()
        self.foreign = False

    @precondition(lambda self: self.exported)
    @rule()
    def remove(self):
        shutil.rmtree(self.folder)
        self.exported, self.harmed, self.foreign = None, set(), False

    @precondition(lambda self: self.exported)
    @rule(id=st.sampled_from(IDS), right=st.booleans())
    def answer(self, id, right):
        ids, seed = self.exported
        if id not in ids or id in self.harmed:
            return
        arrays, _ = load(self.folder / f"{id}.safetensors")
        answers = {k: x for k, x in arrays.items() if k.split("/")[1] in ("outputs", "gradients")}
        if not right:
            answers = {k: x + 1.0 if x.dtype.kind == "f" else ~x for k, x in answers.items()}
        save(self.answers / f"{id}.safetensors", answers)
        self.results[id] = (seed, right)

    @rule()
    def remove_results(self):
        shutil.rmtree(self.answers)
        self.answers.mkdir()
        self.results = {}

    @rule()
    def check(self):
        if self.exported is None:
            with pytest.raises(FileError, match="No such file"):
                check(self.folder, self.answers)
            return
        ids, seed = self.exported
        answered = ids & self.results.keys()
        if answered & self.harmed:
            with pytest.raises(FileError, match=r"truncated|SHA-256 differs|the file holds"):
                check(self.folder, self.answers)
            return
        report = check(self.folder, self.answers)
        if not self.results:
            assert report.status == NOT_RUN
            return
        written = written_once.written
        same_numbers = {
            id for id in answered if written[id, self.results[id][0]][1] == written[id, seed][1]
        }
        wrong = {id for id in answered if id not in same_numbers or not self.results[id][1]}
        wrong |= self.results.keys() - ids
        assert report.status == (WRONG if wrong else RIGHT)
        found = {line.case.partition(",")[0] for line in report.failures()}
        assert found == wrong

    @rule()
    def results_are_not_the_vectors(self):
        if self.exported:
            with pytest.raises(UsageError, match="the vectors themselves"):
                check(self.folder, self.folder)

    @invariant()
    def nothing_is_lost_or_left(self):
        """There is a folder as long as there is an export, whatever was killed."""
        assert self.folder.exists() == (self.exported is not None)
        if self.exported:
            expected = {f"{id}.safetensors" for id in self.exported[0]}
            expected |= {"manifest.json", "vectors.schema.json"}
            expected |= {"mine.txt"} if self.foreign else set()
            assert {path.name for path in self.folder.iterdir()} == expected


TestVectors = Vectors.TestCase
TestVectors.settings = settings(stateful_step_count=15)


def test_what_is_written_once_is_what_is_computed(tmp_path):
    """What the machine puts in the place of the computation changes nothing."""
    export(tmp_path / "a", ["relu"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporting, "_write", written_once)
        export(tmp_path / "b", ["relu"])
        export(tmp_path / "c", ["relu"])
    for name in ("relu.safetensors", "manifest.json", "vectors.schema.json"):
        first, *others = ((tmp_path / x / name).read_bytes() for x in "abc")
        assert all(np.array_equal(first, each) for each in others)
