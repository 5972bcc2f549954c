"""What can go wrong around a candidate, apart from its numbers."""


class CandidateError(Exception):
    """A candidate that raised, or returned what no result can be; the message says which."""


class NotTakenError(Exception):
    """An argument that the candidate has no place for, or needs and is not given."""
