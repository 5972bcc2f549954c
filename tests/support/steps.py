"""A function that is stopped at each of its steps: each call of the system that touches files.

It runs in a copy of the process, which is killed before the step, or in which the step fails. So
all states are seen that a crash, or a disk that is full, can leave behind.
"""

import errno
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

Outcome = Literal["finished", "stopped", "raised"]

_EVENTS = ("open", "os.", "shutil.", "fcntl.", "ctypes.dlsym")
_LOOKING = ("os.listdir", "os.scandir", "os.walk", "os.fwalk")


def stopped_at_each_step(
    prepare: Callable[[], Any],
    act: Callable[[Any], object],
    expected: tuple[type[Exception], ...] = (),
    *,
    how: Literal["kill", "fail"],
) -> Iterator[tuple[Any, Outcome, str]]:
    """Yield what `prepare` made, after `act` was stopped at its first step, its second, and so on.

    With it come the outcome and the step; the last outcome is "finished". expected: the errors that
    `act` may raise when a step fails.
    """
    for k in range(1, 1000):
        place = prepare()
        outcome, step = stopped(lambda place=place: act(place), k, expected, how)
        yield place, outcome, step
        if outcome == "finished" and step == "":
            return
    raise AssertionError("it has no end")


def stopped(
    act: Callable[[], object], k: int, expected: tuple[type[Exception], ...], how: str
) -> tuple[Outcome, str]:
    """Run it in a copy of this process, in which step k is its last, or fails.

    Return the outcome and the step, "" where there were fewer than k.
    """
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads, which wait for nothing
        process = os.fork()
    if process == 0:
        try:
            _stop_at(k, how, writer)
            act()
        except expected:
            os._exit(3)
        except BaseException:  # noqa: BLE001 - this process must not go on
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as told:
        step = told.read()
    _, status = os.waitpid(process, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return "stopped", step
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, 3), f"step {step} ended in another error, see above"
    return ("finished" if code == 0 else "raised"), step


def _stop_at(k: int, how: str, writer: int) -> None:
    """Make step k of this process its last, or let it fail."""
    left, busy = k, False
    fsync = os.fsync

    def step(what: str) -> None:
        nonlocal left, busy
        if busy:
            return
        left -= 1
        if left == 0:
            busy = True
            os.write(writer, what.encode())
            if how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            busy = False
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def heard(event: str, arguments: tuple[Any, ...]) -> None:
        # Pages and modules that are read, and what was loaded long ago, are not steps.
        if event.startswith(_EVENTS) and event not in _LOOKING:
            if event == "open" and not _writes_or_is_folder(arguments):
                return
            step(f"{event} {arguments[:2]}")

    def flushed(file: int) -> None:
        step("os.fsync")
        fsync(file)

    os.fsync = flushed
    sys.addaudithook(heard)


def _writes_or_is_folder(arguments: tuple[Any, ...]) -> bool:
    path, mode, flags = arguments
    writes = bool(flags & (os.O_WRONLY | os.O_RDWR)) or (isinstance(mode, str) and "r" not in mode)
    return writes or (
        isinstance(path, str | bytes | os.PathLike) and Path(os.fsdecode(path)).is_dir()
    )
