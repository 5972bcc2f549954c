"""The errors of a formula, which name it, the argument, what was expected and what came."""


class FormulaError(ValueError):
    """An argument that the formula has no meaning for.

    called: the formula that the user called, with its page, where that is another one than the
    formula that raised the error.
    """

    called: str = ""

    def __str__(self) -> str:
        message = super().__str__()
        if not self.called or message.startswith(self.called):
            return message
        return f"{message}; called by {self.called}"


class ShapeError(FormulaError):
    """An array whose axes do not fit the shapes in the formula's signature."""


class UnknownFormulaError(LookupError):
    """A name that no formula answers to."""


class UsageError(Exception):
    """What was asked for cannot be done; the message is one line that says why."""


def require(condition: bool, formula: str, argument: str, expected: str, got: object) -> None:
    """Raise FormulaError unless the condition holds.

    For conditions that `requires` of `@spec` cannot say in one line.
    """
    if not condition:
        raise FormulaError(f"{formula}: argument {argument}: expected {expected}, got {got!r}")
