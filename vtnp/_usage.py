"""Requests that cannot be done."""


class UsageError(Exception):
    """What was asked for cannot be done; the message is one line that says why."""
