"""Errors of candidates that are not a matter of numbers."""


class CandidateError(Exception):
    """A candidate raised, or returned what cannot be a result; the message says which."""


class RaisedError(CandidateError):
    """A candidate raised."""


class ArgumentNotTakenError(Exception):
    """A candidate has no parameter for an argument, or requires one that a case leaves out."""


def in_one_line(error: BaseException) -> str:
    """Return the type and the first line of an error that a candidate raised."""
    first = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {first}"
