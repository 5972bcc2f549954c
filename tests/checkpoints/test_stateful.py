"""Files that are saved, loaded, damaged and moved in any order, by processes that are killed."""

import os
import stat
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.support.steps import stopped
from vtnp.checkpoints import FileError, load, read_header, save

NAMES = st.sampled_from(["x", "y", "link"])
DTYPES = st.sampled_from(["f4", "f8", "i8", "?"])


def arrays_of(seed, dtype):
    rng = np.random.default_rng(seed)
    return {
        f"{seed}.{i}": rng.standard_normal(rng.integers(0, 4, i)).astype(dtype) for i in range(3)
    }


def same(one, other):
    return one.keys() == other.keys() and all(
        one[name].dtype == x.dtype and np.array_equal(one[name], x) for name, x in other.items()
    )


class Files(RuleBasedStateMachine):
    """A folder with two files and a link to one of them.

    content: by file what it holds: arrays and metadata, or None if it is damaged; no entry where
    there is no file. modes: its permissions.
    """

    def __init__(self):
        super().__init__()
        self.place = tempfile.TemporaryDirectory()
        self.folder = Path(self.place.name)
        (self.folder / "link").symlink_to("x")
        self.content, self.modes = {}, {}
        self.count = 0

    def teardown(self):
        self.place.cleanup()

    def new(self, dtype):
        self.count += 1
        return arrays_of(self.count, dtype), {"number": f"{self.count}"}

    @staticmethod
    def real(name):
        return "x" if name == "link" else name

    @rule(name=NAMES, dtype=DTYPES)
    def save(self, name, dtype):
        new = self.new(dtype)
        save(self.folder / name, *new)
        self.wrote(name, new)

    def wrote(self, name, new):
        self.content[self.real(name)] = new
        self.modes.setdefault(self.real(name), 0o666 & ~self.umask())
        front = f".{self.real(name)}."
        assert not [path for path in self.folder.iterdir() if path.name.startswith(front)]

    @staticmethod
    def umask():
        mask = os.umask(0)
        os.umask(mask)
        return mask

    @rule(name=NAMES, dtype=DTYPES, k=st.integers(1, 30), how=st.sampled_from(["kill", "fail"]))
    def save_in_a_process_that_is_stopped(self, name, dtype, k, how):
        new, path = self.new(dtype), self.folder / name
        before = self.read(name)
        outcome, _ = stopped(lambda: save(path, *new), k, (FileError,), how)
        if self.read(name) == before:
            assert outcome != "finished"
        else:  # it has been replaced before the process was stopped
            self.content[self.real(name)] = new
            self.modes.setdefault(self.real(name), 0o666 & ~self.umask())

    def read(self, name):
        path = self.folder / name
        return path.read_bytes() if path.exists() else None

    @rule(name=NAMES)
    def load(self, name):
        path, expected = self.folder / name, self.content.get(self.real(name), "missing")
        if expected == "missing":
            with pytest.raises(FileError, match="No such file"):
                load(path)
        elif expected is None:
            with pytest.raises(FileError) as error:
                load(path)
            assert str(path) in str(error.value)
        else:
            arrays, metadata = load(path)
            assert same(arrays, expected[0])
            assert metadata == expected[1]
            assert read_header(path).keys() - {"__metadata__"} == arrays.keys()

    @rule(name=NAMES, at=st.floats(0, 1, exclude_max=True), cut=st.booleans())
    def damage(self, name, at, cut):
        """Cut it, or change the length of its header, which no other byte can make up for."""
        if self.content.get(self.real(name)):
            path = self.folder / name
            data = path.read_bytes()
            path.write_bytes(data[: int(at * len(data))] if cut else b"\xff" * 8 + data[8:])
            self.content[self.real(name)] = None

    @rule(name=NAMES)
    def remove(self, name):
        if self.real(name) in self.content:
            (self.folder / self.real(name)).unlink()
            del self.content[self.real(name)], self.modes[self.real(name)]

    @rule(name=NAMES, mode=st.sampled_from([0o600, 0o644, 0o640, 0o444]))
    def protect(self, name, mode):
        if self.real(name) in self.content:
            (self.folder / name).chmod(mode)
            self.modes[self.real(name)] = mode

    @rule()
    def move(self):
        """The link then leads to another file, or to none."""
        if "x" in self.content:
            (self.folder / "x").rename(self.folder / "y")
            for table in (self.content, self.modes):
                table["y"] = table.pop("x")

    @invariant()
    def links_and_permissions_stay(self):
        assert (self.folder / "link").readlink() == Path("x")
        for name, mode in self.modes.items():
            assert stat.S_IMODE((self.folder / name).lstat().st_mode) == mode

    @invariant()
    def nothing_else_is_there(self):
        found = {path.name for path in self.folder.iterdir() if not path.name.startswith(".")}
        assert found == {"link", *self.content}


TestFiles = Files.TestCase
TestFiles.settings = settings(stateful_step_count=20)
