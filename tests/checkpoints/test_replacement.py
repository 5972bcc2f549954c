"""Files that take the place of others: whole or not at all, with their permissions and links."""

import contextlib
import os
import signal
import socket
import stat
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from tests.support.steps import stopped_at_each_step
from vtnp.checkpoints import FileError, load, replacing, save
from vtnp.checkpoints import replacement as module


def left_in(folder):
    return sorted(path.name for path in folder.iterdir())


def write(path, text="new"):
    with replacing(path) as temporary:
        temporary.write_text(text)


# --- Stopped at each step -------------------------------------------------------------------------

OLD, NEW = {"a": np.zeros(3)}, {"a": np.arange(4.0), "b": np.ones((2, 2), np.float32)}


def same(one, other):
    return one.keys() == other.keys() and all(
        np.array_equal(one[name], other[name]) for name in one
    )


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize("how", ["kill", "fail"])
def test_a_file_is_old_or_new_whatever_happens(tmp_path, how, exists):
    path = tmp_path / "x.safetensors"

    def prepare():
        for each in tmp_path.iterdir():
            each.unlink()
        if exists:
            save(path, OLD)

    steps, results, outcomes = [], set(), set()
    for _, outcome, step in stopped_at_each_step(
        prepare, lambda _: save(path, NEW), (FileError,), how=how
    ):
        steps.append(step.partition(" ")[0])
        outcomes.add(outcome)
        found = load(path)[0] if path.exists() else {}
        results.add("new" if same(found, NEW) else "old")
        if not same(found, NEW):
            assert same(found, OLD if exists else {}), step
            if how == "fail":  # removing what was written did not fail, too
                assert left_in(tmp_path) == [path.name] * exists, step
        save(path, NEW)  # the next writer removes what is left
        assert left_in(tmp_path) == [path.name]
        assert same(load(path)[0], NEW)
    assert results == {"old", "new"}
    assert {"os.mkdir", "fcntl.flock", "open", "os.fsync", "os.rename", "os.rmdir"} <= set(steps)
    assert outcomes == {"finished", "stopped" if how == "kill" else "raised"}


# --- What dead processes have left ----------------------------------------------------------------


@pytest.fixture
def writer(tmp_path):
    """The number of a process that has begun to replace a file."""
    reader, begun = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads, which wait for nothing
        process = os.fork()
    if process == 0:
        with replacing(tmp_path / "x") as temporary:
            temporary.write_text("half")
            os.write(begun, b"begun")
            time.sleep(600)
        os._exit(0)
    os.close(begun)
    assert os.read(reader, 5) == b"begun"
    os.close(reader)
    yield process
    killed(process)


def killed(process):
    """Kill a process that may be dead, and wait for it."""
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


def test_what_a_living_process_writes_is_left_alone_and_what_a_dead_one_wrote_removed(
    tmp_path, writer
):
    (theirs,) = left_in(tmp_path)
    assert theirs.startswith(f".x.{socket.gethostname()}.{writer}.")
    write(tmp_path / "x")
    assert left_in(tmp_path) == [theirs, "x"]
    killed(writer)
    write(tmp_path / "other")  # another file's
    assert theirs in left_in(tmp_path)
    write(tmp_path / "x")
    assert left_in(tmp_path) == ["other", "x"]


def test_what_is_not_ours_is_left_alone(tmp_path, monkeypatch):
    host = socket.gethostname()
    kept = [
        ".x.part", f".x.{host}.1.part", f".x.{host}.1.0.part.old", f".x.{host}.1.a.part",
        f".x.{host}.a.0.part", ".x.elsewhere.1.0.part", f"x.{host}.1.0.part",
        f".x.{host}.1.0.parts", "1.0.part",
    ]  # fmt: skip
    for name in kept:
        (tmp_path / name).mkdir()
    (tmp_path / f".x.{host}.1.1.part").write_text("a file")
    (tmp_path / f".x.{host}.1.2.part").symlink_to(tmp_path / kept[0])
    (tmp_path / f".x.{host}.1.3.part").mkdir()
    kept += [f".x.{host}.1.1.part", f".x.{host}.1.2.part", "x"]
    write(tmp_path / "x")
    assert left_in(tmp_path) == sorted(kept)
    (tmp_path / f".x.{host}.1.3.part").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)  # another user's
    write(tmp_path / "x")
    assert left_in(tmp_path) == sorted([*kept, f".x.{host}.1.3.part"])


def test_without_locks_nothing_is_removed(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(95, "Operation not supported")

    left = f".x.{socket.gethostname()}.1.3.part"
    (tmp_path / left).mkdir()
    with monkeypatch.context() as patched:
        patched.setattr(module.fcntl, "flock", no_locks)
        write(tmp_path / "x")
        assert left_in(tmp_path) == [left, "x"]
    with monkeypatch.context() as patched:
        patched.setattr(module, "fcntl", None)
        write(tmp_path / "x")
        assert left_in(tmp_path) == [left, "x"]
    write(tmp_path / "x")
    assert left_in(tmp_path) == ["x"]


def test_a_folder_that_is_taken_for_left_before_it_is_locked_is_made_again(tmp_path, monkeypatch):
    right, taken = module._lock, []

    def after_another(file, *, wait=False):
        if wait and not taken:  # another process is faster, and removes it
            (folder,) = tmp_path.iterdir()
            folder.rmdir()
            taken.append(folder)
        return right(file, wait=wait)

    monkeypatch.setattr(module, "_lock", after_another)
    write(tmp_path / "x")
    assert taken
    assert left_in(tmp_path) == ["x"]
    assert (tmp_path / "x").read_text() == "new"


def test_the_number_of_a_process_that_had_the_same_one_is_passed_over(tmp_path, monkeypatch):
    """In a container every first process is number 1."""
    monkeypatch.setattr(module, "_clean", lambda _: None)
    monkeypatch.setattr(module, "_numbers", iter(range(9)))
    left = f".x.{socket.gethostname()}.{os.getpid()}.0.part"
    (tmp_path / left).mkdir()
    write(tmp_path / "x")
    assert left_in(tmp_path) == [left, "x"]


def test_a_folder_that_cannot_be_listed_is_no_reason_not_to_write(tmp_path, monkeypatch):
    def refused(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(module.Path, "iterdir", refused)
    write(tmp_path / "x")
    assert (tmp_path / "x").read_text() == "new"


def test_names_of_any_length(tmp_path):
    for name in ("x" * 255, "é" * 127, "\udcff" * 255, "a\nb", "-x", " "):
        write(tmp_path / name)
        write(tmp_path / name, "again")
        assert left_in(tmp_path) == [name]
        assert (tmp_path / name).read_text() == "again"
        (tmp_path / name).unlink()
    with pytest.raises(FileError, match="File name too long"):
        write(tmp_path / ("x" * 256))
    assert left_in(tmp_path) == []


def test_the_temporary_file_has_the_files_own_name(tmp_path):
    """Writers that look at the end of a name find it; and nobody else sees what is half written."""
    with replacing(tmp_path / "curve.png") as temporary:
        assert temporary.name == "curve.png"
        assert stat.S_IMODE(temporary.parent.stat().st_mode) == 0o700
        temporary.touch()


# --- Permissions and links ------------------------------------------------------------------------


@pytest.fixture
def umask():
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_file_has_the_permissions_that_the_umask_leaves(tmp_path, umask):
    for mask, mode in ((0o022, 0o644), (0o077, 0o600), (0o002, 0o664)):
        umask(mask)
        write(tmp_path / f"{mask}")
        assert mode_of(tmp_path / f"{mask}") == mode


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o444, 0o755])
def test_an_old_file_keeps_its_permissions(tmp_path, umask, mode):
    path = tmp_path / "x"
    path.write_text("old")
    path.chmod(mode)
    umask(0o027)
    write(path)
    assert path.read_text() == "new"
    assert mode_of(path) == mode


def test_owner_and_group_are_kept_or_others_get_no_more(tmp_path, monkeypatch):
    path = tmp_path / "x"
    path.write_text("old")
    path.chmod(0o4675)
    kept, passed = path.stat(), []
    other = os.stat_result((*kept[:5], kept.st_gid + 1, *kept[6:]))
    right = module.Path.stat
    monkeypatch.setattr(
        module.Path, "stat", lambda self, **k: other if self == path else right(self, **k)
    )
    monkeypatch.setattr(os, "chown", lambda *arguments: passed.append(arguments[1:]))
    write(path)
    assert passed == [(kept.st_uid, kept.st_gid + 1)]
    assert stat.S_IMODE(os.lstat(path).st_mode) == 0o4675

    def refused(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chown", refused)
    write(path)
    assert stat.S_IMODE(os.lstat(path).st_mode) == 0o655


def test_a_symbolic_link_stays(tmp_path):
    (tmp_path / "data").mkdir()
    real, link = tmp_path / "data" / "real", tmp_path / "link"
    link.symlink_to("data/real")  # to nothing yet
    write(link, "first")
    write(link, "second")
    assert link.is_symlink()
    assert link.readlink() == module.Path("data/real")
    assert real.read_text() == "second"
    assert left_in(tmp_path) == ["data", "link"]
    assert left_in(tmp_path / "data") == ["real"]


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "loop", "NUL", "no folder"])
def test_what_is_no_file_is_not_replaced(tmp_path, kind):
    path = tmp_path / ("a\0b" if kind == "NUL" else "x")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/null")
    elif kind == "folder":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to("x")
    elif kind == "no folder":
        path = path / "y"
    says = {
        "pipe": "a named pipe, expected a regular file",
        "device": "a device, expected a regular file",
        "folder": "Is a directory",
        "loop": "Too many levels of symbolic links",
        "NUL": "null",
        "no folder": "No such file",
    }
    before = left_in(tmp_path)
    with pytest.raises(FileError, match=says[kind]):
        write(path)
    assert left_in(tmp_path) == before
    assert stat.S_ISCHR(module.Path("/dev/null").stat().st_mode)


def test_an_error_of_the_block_is_not_changed(tmp_path):
    with pytest.raises(ValueError, match="mine"), replacing(tmp_path / "x"):
        raise ValueError("mine")
    assert left_in(tmp_path) == []


def test_a_file_that_is_not_written_does_not_replace_one(tmp_path):
    (tmp_path / "x").write_text("old")
    with pytest.raises(FileError, match="No such file"), replacing(tmp_path / "x"):
        pass
    assert (tmp_path / "x").read_text() == "old"
    assert left_in(tmp_path) == ["x"]


# --- Folders --------------------------------------------------------------------------------------


@pytest.fixture(params=["in one step", "in two steps"])
def system(request, monkeypatch):
    """A system that can exchange two folders in one step, and one that cannot."""
    if request.param == "in two steps":
        monkeypatch.setattr(module, "exchanged", lambda *_: False)
    return request.param


@pytest.mark.parametrize("how", ["kill", "fail"])
def test_a_folder_is_old_or_new_whatever_happens(tmp_path, system, how):
    folder = tmp_path / "x"

    def prepare():
        for each in folder.iterdir() if folder.exists() else ():
            each.unlink()
        folder.mkdir(exist_ok=True)
        (folder / "old").write_text("old")

    def replace(_):
        with module.replacing_folder(folder) as new:
            (new / "new").write_text("new")
            (new / "more").write_text("more")

    results, missing = set(), []
    for _, _, step in stopped_at_each_step(prepare, replace, (FileError,), how=how):
        if not folder.exists():
            missing.append(step)
            module.recover(folder)
        found = left_in(folder)
        results.add(tuple(found))
        replace(None)
        assert left_in(tmp_path) == ["x"]
        assert left_in(folder) == ["more", "new"]
    assert results == {("old",), ("more", "new")}
    if how == "kill" and system == "in two steps":
        assert len(missing) == 1
        assert missing[0].startswith("os.rename")
    else:
        assert missing == []


def test_a_folder_is_exchanged_in_one_step_here(tmp_path):
    """Of the systems that the project is tested on; where it is not, two steps are tested alone."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "x").touch()
    if not module.exchanged(tmp_path / "a", tmp_path / "b"):
        pytest.skip("this file system exchanges nothing")
    assert left_in(tmp_path / "b") == ["x"]
    with pytest.raises(FileNotFoundError):
        module.exchanged(tmp_path / "a", tmp_path / "none")


def test_folders_cannot_be_exchanged_everywhere(tmp_path, monkeypatch):
    class Library:
        pass

    monkeypatch.setattr(module.ctypes, "CDLL", lambda *_, **__: Library())
    assert not module.exchanged(tmp_path / "a", tmp_path / "b")
    for number, can in ((38, False), (22, False), (95, False), (1, False)):
        Library.renameat2 = lambda *_, number=number: module.ctypes.set_errno(number) or -1
        assert module.exchanged(tmp_path / "a", tmp_path / "b") is can


def test_nothing_is_put_back_while_a_process_lives(tmp_path, writer):
    (theirs,) = left_in(tmp_path)
    (tmp_path / theirs / "old").mkdir()
    (tmp_path / theirs / "x").unlink(missing_ok=True)
    (tmp_path / theirs / "x").mkdir()
    module.recover(tmp_path / "x")
    assert left_in(tmp_path) == [theirs]
    killed(writer)
    module.recover(tmp_path / "x")
    assert left_in(tmp_path) == ["x"]


def test_a_folder_that_was_replaced_is_not_put_back_once_it_is_removed(tmp_path, monkeypatch):
    """A process may be killed after it has renamed both, and somebody remove the new one."""
    monkeypatch.setattr(module, "exchanged", lambda *_: False)
    folder = tmp_path / "x"

    def replace(_):
        with module.replacing_folder(folder):
            pass

    left = set()
    for _, _, step in stopped_at_each_step(folder.mkdir, replace, (FileError,), how="kill"):
        if folder.exists():
            left |= {step for each in left_in(tmp_path) if each != "x"}
            folder.rmdir()
            module.recover(folder)
        else:
            module.recover(folder)
            folder.rmdir()
        assert left_in(tmp_path) == []
    assert left


def test_darwin_exchanges_by_a_call_of_its_own(monkeypatch):
    calls = []

    class Library:
        @staticmethod
        def renamex_np(*arguments):
            calls.append(arguments)
            return 0

    monkeypatch.setattr(module.sys, "platform", "darwin")
    monkeypatch.setattr(module.ctypes, "CDLL", lambda *_, **__: Library())
    assert module.exchanged(Path("a"), Path("b"))
    ((*paths, flag),) = calls
    assert paths == [b"a", b"b"]
    assert flag.value == 2


def test_the_folder_is_flushed_last(tmp_path, monkeypatch):
    """Without that the new name may be lost with the power, though the file is not."""
    flushed, flush = [], module.flush
    monkeypatch.setattr(module, "flush", lambda path: flushed.append(path) or flush(path))
    write(tmp_path / "x")
    assert flushed[-1] == tmp_path.resolve()
    assert flushed[0].name == "x"


def test_the_host_in_a_name_is_letters_digits_and_hyphens(tmp_path, monkeypatch):
    monkeypatch.setattr(module.socket, "gethostname", lambda: "a-1_b.c/d")
    with module.temporary_folder(tmp_path / "x") as folder:
        assert folder.name.startswith(f".x.a-1bcd.{os.getpid()}.")
