"""What goes wrong, in one line each."""


class BadInputError(Exception):
    """What the user asked for cannot be done."""


class WrongError(Exception):
    """A result is not what it must be."""
