"""Files opened to be read, and the error that names a file that cannot be."""

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO

from vtnp._registry.printable import printable, shortened

_LONGEST_MESSAGE = 700  # characters
_REASONS: Mapping[type[BaseException], str] = {
    EOFError: "it ends too early",
    MemoryError: "more than fits into memory",
    RecursionError: "nested too deeply",
}
_SPECIAL: Mapping[str, Callable[[int], bool]] = {
    "a named pipe": stat.S_ISFIFO,
    "a socket": stat.S_ISSOCK,
    "a device": lambda mode: stat.S_ISCHR(mode) or stat.S_ISBLK(mode),
}


class FileError(ValueError):
    """A file that cannot be read or written, or is not valid; the message, one line, names it.

    Characters that a terminal would obey are escaped in the message.
    """

    def __init__(self, message: str) -> None:
        super().__init__(shortened(printable(message), _LONGEST_MESSAGE))


@contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a regular file to be read; raise FileError where that, or reading it, is impossible.

    Neither a pipe nor a device is opened, on which reading might never end.
    """
    try:
        refuse_special(path)
        # Should a pipe take its place now, opening it does not wait for a writer.
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(file, "rb") as opened:  # noqa: PTH123 - it is open already
            refuse_special(path, file)
            yield opened
    except OSError as error:
        raise FileError(f"{path}: {one_line(error)}") from None


def refuse_special(path: str | os.PathLike[str], file: int | None = None) -> None:
    """Raise FileError for a pipe, a socket or a device, and OSError where there is nothing.

    file: the open file, if it is.
    """
    try:
        mode = os.stat(path if file is None else file).st_mode  # noqa: PTH116 - of either
    except ValueError as error:  # NUL in its name
        raise FileError(f"{path}: {one_line(error)}") from None
    for kind, is_kind in _SPECIAL.items():
        if is_kind(mode):
            raise FileError(f"{path}: {kind}, expected a regular file")


def read_bytes(path: str | os.PathLike[str], most: int) -> bytes:
    """Return the content of a file of at most that many bytes. Raises FileError."""
    with reading(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise FileError(f"{path}: longer than {most} bytes")
    return content


def check_name(name: Any) -> None:
    """Raise ValueError unless the name of an array is a string that every program can hold."""
    if not isinstance(name, str):
        raise ValueError(f"{name!r} is not a name")  # noqa: TRY004 - the file is wrong, not a type
    if "\0" in name:
        raise ValueError(f"the name {name!r} contains NUL")
    if any("\ud800" <= each <= "\udfff" for each in name):
        raise ValueError(f"the name {name!r} is not valid Unicode")


def one_line(error: BaseException) -> str:
    """Return the message of an error as a single line, never an empty one."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    known = next((reason for kind, reason in _REASONS.items() if isinstance(error, kind)), "")
    return known or " ".join(str(error).split()) or type(error).__name__
