"""What a case ends in, and whether that is right."""

import os
import re
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from tests.fuzz import HARM, MEMORY, SECONDS, WAITING, Case, Target, WrongError, generator
from vtnp._registry.printable import printable

_LONGEST = 1000  # characters of a line of a message


class Outcome(NamedTuple):
    """What a case ended in.

    kind: "value" or another word for success, the class of a documented error, or what is wrong.
    detail: of errors and of what is wrong.
    """

    kind: str
    detail: str
    wrong: bool
    seconds: float
    memory: int


class HangError(BaseException):
    """Raised within a case that takes too long; no reader catches it."""


def judged(target: Target, seed: int, index: int, folder: Path) -> Outcome:
    """Make a case in an empty folder, read it, and judge what happens."""
    case = target.make(generator(seed, target.name, index), folder)
    return outcome(target, case, folder)


def outcome(target: Target, case: Case, folder: Path) -> Outcome:
    """Read a case and judge what happens."""
    memory, start = _memory(), time.process_time()
    with _prints() as printed, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        kind, detail, wrong = _read(target, case)
    seconds, memory = time.process_time() - start, max(0, _peak_memory() - memory)
    faults = [
        ("warning", _unexpected(target, warned)),
        ("print", "".join(printed)),
        ("memory", f"{memory / 1e6:.0f} MB" if memory > MEMORY else ""),
        ("code has run", "made a file" if (folder / HARM).exists() else ""),
    ]
    for fault, what in faults:
        if what and not wrong:
            kind, detail, wrong = fault, what, True
    return Outcome(kind, detail, wrong, seconds, memory)


def _read(target: Target, case: Case) -> tuple[str, str, bool]:
    try:
        with _time_limit():
            value = case.read()
    except HangError:
        return "hang", f"more than {SECONDS} s of computing, or {WAITING} s", True
    except WrongError as error:
        return "wrong", str(error), True
    except target.errors as error:
        complaint = _complaint(error, case)
        kind = type(error).__name__
        return (
            (f"{kind}: {complaint}", str(error), True) if complaint else (kind, str(error), False)
        )
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it is, it is wrong
        return type(error).__name__, f"{error} ({_place(error.__traceback__)})", True
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # of a library in Rust
            raise
        return "PanicException", str(error), True
    return (value if isinstance(value, str) else "value"), "", False


def _complaint(error: Exception, case: Case) -> str:
    """Return what is wrong with the message of a documented error; "" if nothing is."""
    text = str(error)
    lines = text.split("\n") if hasattr(error, "problems") else [text]  # one for each key
    if not text.strip():
        return "no message"
    if not all(line.isprintable() for line in lines):
        return "characters that a terminal obeys"
    if max(map(len, lines)) > _LONGEST:
        return "a line without end"
    shown = [printable(str(file)) for file in case.files]
    if shown and not any(file in text for file in shown):
        return "names no file"
    for file in sorted(shown, key=len, reverse=True):
        text = text.replace(file, "")
    if not re.search(r"\w\w", text) or re.search(r": *$", text):
        return "gives no reason"
    return ""


def _unexpected(target: Target, warned: list[warnings.WarningMessage]) -> str:
    """Return the first warning that is not documented, or not fit for a terminal."""
    for each in warned:
        text = str(each.message)
        if not any(re.search(pattern, text) for pattern in target.warnings):
            return f"{each.category.__name__}: {text} ({each.filename}:{each.lineno})"
        if not text.isprintable():
            return f"not printable: {text!r}"
    return ""


def _place(traceback: TracebackType | None) -> str:
    """Return the last line of the project that an error has passed, or the last one at all."""
    places = []
    while traceback:
        code = traceback.tb_frame.f_code
        places.append(f"{Path(code.co_filename).name}:{traceback.tb_lineno} {code.co_name}")
        traceback = traceback.tb_next
    return " < ".join(reversed(places[-3:]))


@contextmanager
def _time_limit() -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise HangError

    timers = (
        (signal.ITIMER_PROF, signal.SIGPROF, SECONDS),
        (signal.ITIMER_REAL, signal.SIGALRM, WAITING),
    )
    before = [
        (timer, number, signal.signal(number, stop), signal.setitimer(timer, limit))
        for timer, number, limit in timers
    ]
    try:
        yield
    finally:
        for timer, number, handler, running in before:
            signal.setitimer(timer, 0)
            signal.signal(number, handler)
            signal.setitimer(timer, *running)


@contextmanager
def _prints() -> Iterator[list[str]]:
    """Catch what is written to the terminal, by libraries in C as well."""
    printed: list[str] = []
    streams = [(stream, os.dup(fd), fd) for fd, stream in ((1, sys.stdout), (2, sys.stderr))]
    with tempfile.TemporaryFile() as file:
        for stream, _, fd in streams:
            stream.flush()
            os.dup2(file.fileno(), fd)
        try:
            yield printed
        finally:
            for stream, kept, fd in streams:
                stream.flush()
                os.dup2(kept, fd)
                os.close(kept)
            file.seek(0)
            text = file.read(_LONGEST).decode("utf-8", "backslashreplace")
            printed += [text] if text else []


def _memory() -> int:
    """Return the memory of this process in bytes, and begin to look for its peak."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _peak_memory() -> int:
    return _status("VmHWM")


def _status(field: str) -> int:
    text = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(rf"^{field}:\s+(\d+) kB$", text, re.MULTILINE)[1])  # type: ignore[index]
