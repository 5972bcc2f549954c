"""The error of videos, and the checks of options that raise it."""

import operator
import os
import sys
from typing import Any

import numpy as np

from vtnp._registry.printable import printable, shortened

_LONGEST = 400  # characters of a name in a message


class VideoError(ValueError):
    """A fault of a video or of an option; the message is one line and names the file or option."""


def path_of(name: str, value: Any) -> str:
    """Return a path as a string; raise VideoError for what is none."""
    try:
        path = os.fsdecode(value)
    except TypeError:
        raise _unfit(name, "a path", value) from None
    try:
        possible = b"\0" not in os.fsencode(path)
    except UnicodeError:
        possible = False
    if not possible:
        raise VideoError(f"{shown(path)}: no file can have this name")
    return path


def shown(path: str) -> str:
    """Return a path as messages name it."""
    return shortened(printable(path), _LONGEST) or "''"


def integer(name: str, value: Any, least: int | None = None, most: int | None = None) -> int:
    """Return an option as an integer; raise VideoError for what is none, or out of its range.

    What is larger than any index becomes the largest index.
    """
    says = "an integer"
    if least is not None:
        says += f" >= {least}" if most is None else f" from {least} to {most}"
    try:
        number = _index(value)
    except TypeError:
        raise _unfit(name, says, value) from None
    if (least is not None and number < least) or (most is not None and number > most):
        raise _unfit(name, says, value)
    return min(number, sys.maxsize)


def integers(name: str, values: Any, count: int | None = None) -> list[int]:
    """Return an option as a list of that many integers; raise VideoError for what is none."""
    says = "integers" if count is None else f"{count} integers"
    try:
        numbers = [_index(each) for each in values]
    except TypeError:
        raise _unfit(name, says, values) from None
    if count not in {None, len(numbers)}:
        raise _unfit(name, says, values)
    return numbers


def flag(name: str, value: Any) -> bool:
    """Return an option as a bool; raise VideoError for what is none."""
    if not isinstance(value, bool | np.bool):
        raise _unfit(name, "True or False", value)
    return bool(value)


def _index(value: Any) -> int:
    """Return an integer; raise TypeError for what is none, True and False included."""
    if isinstance(value, bool | np.bool):
        raise TypeError
    return operator.index(value)


def _unfit(name: str, says: str, value: Any) -> VideoError:
    got = shortened(printable(repr(value)), _LONGEST // 5)
    return VideoError(f"argument {name}: expected {says}, got {got}")
