"""The closed form of a cost: the line `multiply_adds` of a formula's page, as whole numbers.

The line is an expression of Python, of which only arithmetic, comparisons, conditions, indexing
and sums over rows are read. It names axes, the formula's own arguments, and FUNCTIONS.
"""

import ast
from collections.abc import Mapping
from functools import cache
from types import CodeType
from typing import Any

from vtnp._registry.errors import FormulaError
from vtnp._registry.pages import formula

FUNCTIONS = {"min": min, "max": max, "sum": sum, "len": len, "zip": zip}
_ALLOWED = (
    ast.Expression, ast.Constant, ast.Name, ast.Load, ast.Store, ast.Tuple, ast.List,
    ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.Pow, ast.FloorDiv, ast.Mod,
    ast.UnaryOp, ast.USub, ast.Not, ast.BoolOp, ast.And, ast.Or, ast.IfExp,
    ast.Compare, ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Is, ast.IsNot,
    ast.In, ast.NotIn, ast.Subscript, ast.Call, ast.GeneratorExp, ast.comprehension,
)  # fmt: skip


class FormError(ValueError):
    """A closed form that is none: not in the language of the pages."""


def closed_form(id: str, letters: Mapping[str, Any]) -> int:
    """Return the multiply-adds that a formula's page states, at those letters.

    letters: as in vtnp.cost.sizes.Call. Raises FormulaError where the form names another letter.
    """
    return evaluated(formula(id).cost["multiply_adds"], letters, id)


def evaluated(form: str, letters: Mapping[str, Any], of: str) -> int:
    """Return the whole number that an expression of a page makes of letters.

    Raises FormError where it is not in the language, FormulaError where a letter has no value.
    """
    try:
        # Nothing but what _compiled lets through is run, without any of Python's own functions.
        value = eval(_compiled(form), {"__builtins__": {}, **letters, **FUNCTIONS})  # noqa: S307
    except NameError as error:
        raise FormulaError(f"{of}: the cost needs a value for {error.name!r}") from None
    if isinstance(value, bool) or not isinstance(value, int):
        raise FormError(f"{of}: the cost is {value!r}, no whole number")
    return value


@cache
def names_in(form: str) -> frozenset[str]:
    """Return the letters that an expression names."""
    tree = ast.parse(form, mode="eval")
    named = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    bound = {node.id for node in named if isinstance(node.ctx, ast.Store)}
    return frozenset({node.id for node in named} - bound - set(FUNCTIONS))


@cache
def _compiled(form: str) -> CodeType:
    try:
        tree = ast.parse(form, mode="eval")
    except SyntaxError as error:
        raise FormError(f"no expression: {form!r}") from error
    for node in ast.walk(tree):
        if not isinstance(node, _ALLOWED):
            raise FormError(f"{type(node).__name__} has no place in a cost: {form!r}")
        if isinstance(node, ast.Constant) and not isinstance(node.value, int | str | None):
            raise FormError(f"{node.value!r} has no place in a cost: {form!r}")
        if isinstance(node, ast.Call) and not (
            isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS and not node.keywords
        ):
            raise FormError(f"only {', '.join(FUNCTIONS)} are called in a cost: {form!r}")
    return compile(tree, "<cost>", "eval")
