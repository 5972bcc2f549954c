"""`@mistake(formula, name)`: a usual mistake, written out as the wrong implementation it is."""

from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

mistakes: dict[tuple[str, str], Callable[..., Any]] = {}


def mistake(formula: str, name: str) -> Callable[[F], F]:
    """Register a function, of the formula's own signature, as the mistake `name` of its page."""

    def register(function: F) -> F:
        if (formula, name) in mistakes:
            raise ValueError(f"mistake {name!r} of {formula!r} is registered twice")
        mistakes[formula, name] = function
        return function

    return register
