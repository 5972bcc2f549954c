"""Files and folders that are replaced completely or not at all."""

import contextlib
import ctypes
import errno
import hashlib
import itertools
import os
import shutil
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vtnp.checkpoints.opening import FileError, one_line, refuse_special

try:
    import fcntl
except ImportError:  # on Windows, where what a dead process has left stays
    fcntl = None  # type: ignore[assignment]

_OLD = "old"  # what a folder is called while another one takes its place
_LONGEST_NAME = 100  # bytes of a name within the name of a temporary folder
_numbers = itertools.count()


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Replace a file completely or not at all, as a context manager.

    Parameters
    ----------
    path : str or PathLike
        The file, which may exist.

    Yields
    ------
    Path
        A temporary path of the same name, in a folder beside the file. At the end of the block,
        what was written there replaces the file.

    Raises
    ------
    FileError
        If the file system refuses, or there is something else than a regular file.

    Notes
    -----
    If the block raises, the process is killed or the machine loses power, the old file remains.
    What a killed process has left beside the file is removed when the file is next replaced on the
    same host; what belongs to a living process never is.

    The new file has the permissions of the old one, and its owner and group where the system allows
    it; if not the group, others' permissions apply to it. Without an old file the umask decides. A
    symbolic link stays, and the file that it points to is replaced; other hard links keep the old
    content.
    """
    with errors_of(path):
        place = Path(os.path.realpath(path))
        with contextlib.suppress(FileNotFoundError):
            refuse_special(place)
        with temporary_folder(place) as folder:
            new = folder / place.name
            yield new
            _keep_permissions(place, new)
            flush(new)
            new.replace(place)
            flush(place.parent)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Replace a folder of files completely or not at all; yield the new one, empty.

    Where the system can exchange two folders, there is one at every moment; elsewhere a process
    that is killed between two renames leaves none, which `recover` or the next writer undoes.
    Raises FileError.
    """
    with errors_of(path):
        place = Path(os.path.realpath(path))
        with temporary_folder(place) as folder:
            new = folder / place.name
            new.mkdir()
            yield new
            for each in new.iterdir():
                if each.is_dir():  # what could not be removed when a file was replaced
                    shutil.rmtree(each)
                else:
                    flush(each)
            flush(new)
            _keep_permissions(place, new)
            if place.exists() and not exchanged(new, place):
                place.rename(folder / _OLD)
            if not place.exists():
                new.rename(place)
            flush(place.parent)


def recover(path: Path) -> None:
    """Put back a folder that a killed process has renamed away, if there is one.

    Raises FileError.
    """
    if not path.exists():
        with errors_of(path):
            _clean(Path(os.path.realpath(path)))


# --- Temporary folders ----------------------------------------------------------------------------


@contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """Yield a folder beside a file, for what will take its place; remove those of dead processes.

    Its name has the host and the process, and it is locked as long as it is in use.
    """
    _clean(path)
    folder, lock = _locked_new(path)
    try:
        yield folder
    finally:
        _remove(folder, path)
        os.close(lock)


def _front(path: Path) -> str:
    """Return what the names of temporary folders of a file begin with on this host."""
    name = os.fsencode(path.name)
    if len(name) > _LONGEST_NAME:
        name = name[: _LONGEST_NAME - 12] + hashlib.sha256(name).hexdigest()[:12].encode()
    host = "".join(x for x in socket.gethostname() if x.isalnum() or x == "-")[:50]
    return f".{os.fsdecode(name)}.{host}."


def _locked_new(path: Path) -> tuple[Path, int]:
    """Make and lock a temporary folder; return it and the lock, held until it is closed."""
    while True:
        folder = path.with_name(f"{_front(path)}{os.getpid()}.{next(_numbers)}.part")
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:  # of another process that had this number
            continue
        try:
            lock = os.open(folder, os.O_RDONLY)
        except OSError:
            folder.rmdir()
            raise
        _lock(lock, wait=True)
        if _is_same(lock, folder):
            return folder, lock
        os.close(lock)  # another process has taken it for one that was left, and removed it


def _lock(file: int, *, wait: bool = False) -> bool | None:
    """Lock an open folder; return None where the file system has no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _is_same(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.lstat())
    except FileNotFoundError:
        return False


def _clean(path: Path) -> None:
    """Remove what dead processes of this host have left beside a file, or put it back."""
    front = _front(path)
    # What cannot be listed, opened or removed is not a reason not to write.
    with contextlib.suppress(OSError):
        for name in [each.name for each in path.parent.iterdir()]:
            pid, _, number = name.removeprefix(front).removesuffix(".part").partition(".")
            is_temporary = name.startswith(front) and name.endswith(".part")
            if is_temporary and pid.isdecimal() and number.isdecimal():
                _remove_if_dead(path.with_name(name), path)


def _remove_if_dead(folder: Path, path: Path) -> None:
    """Remove a temporary folder that no process has locked.

    Unlike its number, the lock also tells whether a process in another container is alive.
    """
    with contextlib.suppress(OSError):
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            if _lock(lock) and os.fstat(lock).st_uid == os.geteuid():
                _remove(folder, path)
        finally:
            os.close(lock)


def _remove(folder: Path, path: Path) -> None:
    """Remove a temporary folder; put back what has been renamed away and not been replaced."""
    old, new = folder / _OLD, folder / path.name
    if old.is_dir() and new.is_dir() and not path.exists():
        old.rename(path)
    shutil.rmtree(folder, ignore_errors=True)


# --- Exchange, permissions, errors ----------------------------------------------------------------


def exchanged(one: Path, other: Path) -> bool:
    """Exchange what is at two paths in one step; return whether the system can."""
    name, flag = ("renamex_np", 2) if sys.platform == "darwin" else ("renameat2", 2)
    function = getattr(ctypes.CDLL(None, use_errno=True), name, None)
    if function is None:
        return False
    paths = (os.fsencode(one), os.fsencode(other))
    here = -100  # AT_FDCWD
    arguments = paths if name == "renamex_np" else (here, paths[0], here, paths[1])
    if function(*arguments, ctypes.c_uint(flag)) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM):
        return False
    raise OSError(number, os.strerror(number), str(other))


def _keep_permissions(old: Path, new: Path) -> None:
    """Give a new file the permissions of an old one, as far as the system allows."""
    try:
        kept, made = old.stat(), new.stat()
    except FileNotFoundError:
        return  # there is no old one; or no new one, which flushing it will tell
    mode = stat.S_IMODE(kept.st_mode)
    if (kept.st_uid, kept.st_gid) != (made.st_uid, made.st_gid):
        try:
            os.chown(new, kept.st_uid, kept.st_gid)
        except OSError:
            if kept.st_gid != made.st_gid:  # another group gets no more than others
                mode = mode & ~stat.S_IRWXG | (mode & stat.S_IRWXO) << 3
            mode &= ~(stat.S_ISUID | stat.S_ISGID)
    new.chmod(mode)


def flush(path: Path) -> None:
    """Wait until the disk has what was written to a file or folder."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


@contextmanager
def errors_of(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn errors of the system into FileErrors that name a path."""
    try:
        yield
    except OSError as error:
        raise FileError(f"{path}: {one_line(error)}") from None
    except ValueError as error:
        if "\0" not in os.fspath(path):
            raise
        raise FileError(f"{path}: {one_line(error)}") from None
