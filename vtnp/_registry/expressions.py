"""The expressions of pages: conditions on arguments, and costs as integers.

An expression is one of Python, of which only arithmetic, comparisons, conditions, indexing, fields
and sums are read. It names axes, the formula's own arguments, FUNCTIONS and `inf`.
"""

import ast
import math
from collections.abc import Callable, Mapping
from functools import cache
from types import CodeType, MappingProxyType
from typing import Any


def _length(x: Any) -> Any:
    """Return the length of a sequence, or of an array, which need not have Python's."""
    return x.shape[0] if hasattr(x, "shape") else len(x)


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "abs": abs, "all": all, "any": any, "len": _length, "max": max, "min": min, "sum": sum,
    "zip": zip,
}  # fmt: skip
_ALLOWED = (
    ast.Expression, ast.Constant, ast.Name, ast.Load, ast.Store, ast.Tuple, ast.List,
    ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.Pow, ast.FloorDiv, ast.Mod,
    ast.UnaryOp, ast.USub, ast.Not, ast.BoolOp, ast.And, ast.Or, ast.IfExp,
    ast.Compare, ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Is, ast.IsNot,
    ast.In, ast.NotIn, ast.Subscript, ast.Attribute, ast.Call, ast.keyword,
    ast.GeneratorExp, ast.comprehension,
)  # fmt: skip
_FIELD = "field of"  # no name that an expression could have


class ExpressionError(ValueError):
    """An expression that is not in the language of the pages."""


def evaluated(
    expression: str,
    letters: Mapping[str, Any],
    more: Mapping[str, Callable[..., Any]] = MappingProxyType({}),
) -> Any:
    """Return what an expression makes of letters.

    more: functions that it may call beside FUNCTIONS, with keywords.
    Raises ExpressionError where it is not in the language, NameError where a letter has no value.
    """
    # Nothing but what `compiled` lets through is run, without any of Python's own functions.
    known = {"__builtins__": {}, "inf": math.inf, **letters, **FUNCTIONS, **more, _FIELD: _field}
    return eval(compiled(expression, tuple(more)), known)  # noqa: S307


@cache
def names_in(expression: str) -> frozenset[str]:
    """Return the letters that an expression names."""
    tree = ast.parse(expression, mode="eval")
    nodes = list(ast.walk(tree))
    called = {node.func for node in nodes if isinstance(node, ast.Call)}
    named = [node for node in nodes if isinstance(node, ast.Name) and node not in called]
    bound = {node.id for node in named if isinstance(node.ctx, ast.Store)}
    return frozenset({node.id for node in named} - bound - {"inf"})


@cache
def compiled(expression: str, more: tuple[str, ...] = ()) -> CodeType:
    """Return an expression as code.

    more: names of functions that it may call beside FUNCTIONS.
    Raises ExpressionError where it is not in the language.
    """
    try:
        tree = ast.parse(expression, mode="eval")
    except SyntaxError as error:
        raise ExpressionError(f"not an expression: {expression!r}") from error
    for node in ast.walk(tree):
        if not isinstance(node, _ALLOWED):
            raise ExpressionError(f"{type(node).__name__} is not allowed in {expression!r}")
        if isinstance(node, ast.Constant) and not isinstance(node.value, int | str | None):
            raise ExpressionError(f"{node.value!r} is not allowed in {expression!r}")
        if isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else ""
            if name not in more and name not in FUNCTIONS:
                known = ", ".join((*FUNCTIONS, *more))
                raise ExpressionError(f"only {known} may be called in {expression!r}")
            if node.keywords and name in FUNCTIONS:
                raise ExpressionError(f"{name} takes no keywords in {expression!r}")
        if isinstance(node, ast.keyword) and node.arg is None:
            raise ExpressionError(f"** is not allowed before keywords in {expression!r}")
    try:
        return compile(ast.fix_missing_locations(_Fields().visit(tree)), "<expression>", "eval")
    except SyntaxError as error:  # what only the compiler finds, such as a keyword given twice
        raise ExpressionError(f"not an expression: {expression!r}") from error


class _Fields(ast.NodeTransformer):
    """Reads `grid.h` as the field of a NamedTuple, and of nothing else."""

    def visit_Attribute(self, node: ast.Attribute) -> ast.Call:
        arguments = [self.visit(node.value), ast.Constant(node.attr)]
        return ast.Call(ast.Name(_FIELD, ast.Load()), arguments, [])


def _field(value: Any, name: str) -> Any:
    if name not in getattr(type(value), "_fields", ()):
        raise ExpressionError(f"{value!r} has no field {name!r}")
    return getattr(value, name)
