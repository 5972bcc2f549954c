"""What can go wrong around a candidate, apart from its numbers."""


class CandidateError(Exception):
    """A candidate that raised, or returned what no result can be; the message says which."""


class RaisedError(CandidateError):
    """A candidate that raised."""


class NotTakenError(Exception):
    """An argument that the candidate has no place for, or needs and is not given."""


def told(error: BaseException) -> str:
    """Return what somebody's code has raised, in one line."""
    first = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {first}"
