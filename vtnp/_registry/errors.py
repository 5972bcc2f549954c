"""The errors of formulas, which name the formula, the argument, what was expected and its value."""

from collections.abc import Collection
from difflib import get_close_matches


class FormulaError(ValueError):
    """An argument for which the formula is not defined.

    formula: the formula that raised the error, with its page. called: the one that the user called,
    which may use the other.
    """

    formula: str = ""
    called: str = ""

    def pass_through(self, formula: str) -> None:
        """Note a formula that the error leaves, the innermost first."""
        self.formula = self.formula or formula
        self.called = formula

    def __str__(self) -> str:
        message = super().__str__()
        if not message.startswith(self.formula):
            message = f"{self.formula}: {message}"
        return message if self.called == self.formula else f"{message}; called by {self.called}"


class ShapeError(FormulaError):
    """An array whose axes do not fit the shapes in the formula's signature."""


class UnknownFormulaError(LookupError):
    """A name or number that no formula has."""


class UsageError(Exception):
    """A request that cannot be carried out; the message is one line that says why."""


def require(condition: bool, argument: str, expected: str, got: object) -> None:
    """Raise FormulaError unless the condition holds; the error names the formula by itself.

    For conditions that `requires` of `@spec` cannot say in one line.
    """
    if not condition:
        raise FormulaError(f"argument {argument}: expected {expected}, got {got!r}")


def did_you_mean(name: str, known: Collection[str]) -> str:
    """Return a question about the most similar names, to end an error with; "" without any."""
    near = get_close_matches(name, known, n=3, cutoff=0.4)
    listed = " or ".join([*filter(None, [", ".join(near[:-1])]), *near[-1:]])
    return f"; did you mean {listed}?" if near else ""
