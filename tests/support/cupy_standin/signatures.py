"""What CuPy's functions take, as read out of CuPy itself."""

import inspect
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tests.support.cupy_signatures import PATH

DATA: dict[str, Any] = json.loads(PATH.read_text(encoding="utf-8"))


class Loop(NamedTuple):
    """One loop of a ufunc: the dtypes it reads and writes; an error, where CuPy raises for it."""

    takes: tuple[np.dtype[Any], ...]
    makes: tuple[np.dtype[Any], ...]
    is_error: bool


def loops(text: str) -> tuple[Loop, ...]:
    """Read the loops of a ufunc."""

    def dtypes(chars: str) -> tuple[np.dtype[Any], ...]:
        return tuple(map(np.dtype, chars))

    found = []
    for each in text.split():
        takes, makes = each.removesuffix("!").split("->")
        found.append(Loop(dtypes(takes), dtypes(makes), each.endswith("!")))
    return tuple(found)


def signature(name: str) -> inspect.Signature:
    """Return the signature of a function or method by its full name."""
    text = DATA["functions"][name]
    function: Callable[..., Any] = eval(f"lambda {text[1:-1]}: None")
    return inspect.signature(function)
