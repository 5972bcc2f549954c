"""What a claim raises where it says nothing."""

from typing import Any


class NotApplicableError(Exception):
    """The claim says nothing about this case, such as one key where it masks one of two."""


def needs(condition: Any, what: str) -> None:
    """Go on only where a case has what a claim is about. what: in words, "two keys".

    Raises NotApplicableError otherwise.
    """
    if not condition:
        raise NotApplicableError(what)
