"""The errors of a formula, which name it, the argument, what was expected and what came."""


class FormulaError(ValueError):
    """An argument that the formula has no meaning for."""


class ShapeError(FormulaError):
    """An array whose axes do not fit the shapes in the formula's signature."""


def require(condition: bool, formula: str, argument: str, expected: str, got: object) -> None:
    """Raise FormulaError unless the condition holds."""
    if not condition:
        raise FormulaError(f"{formula}: argument {argument}: expected {expected}, got {got!r}")


class UnknownFormulaError(LookupError):
    """A name that no formula answers to."""


class UsageError(Exception):
    """What was asked for cannot be done; the message is one line that says why."""
