"""The mutants of a module: its source with one expression or statement changed.

Left out is what changes no behaviour, or only the wording of an error: docstrings, annotations,
assertions, imports, the arguments of `raise`, and `strict=` of a zip.
"""

import ast
from collections.abc import Iterable, Iterator
from copy import deepcopy
from itertools import pairwise
from typing import Any, NamedTuple

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult, ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr, ast.LShift: ast.RShift, ast.RShift: ast.LShift, ast.BitXor: ast.BitOr,
}  # fmt: skip
_PAIRS = (
    "any all", "min max", "minimum maximum", "argmin argmax", "floor ceil", "zeros ones",
    "zeros_like ones_like", "sin cos", "sum mean", "isnan isinf", "startswith endswith",
    "less less_equal", "greater greater_equal", "logical_and logical_or", "tril triu",
)  # fmt: skip
_OTHER_NAME = {a: b for pair in _PAIRS for a, b in (pair.split(), pair.split()[::-1])}
# Methods that return what they are called on, converted.
_CONVERSIONS = frozenset({
    "astype", "copy", "casefold", "lower", "strip", "lstrip", "rstrip", "removeprefix",
    "removesuffix", "resolve",
})  # fmt: skip
# Keywords that are not seen in a result: zip's check, an encoding that is the default.
_UNSEEN = frozenset({"encoding", "stacklevel", "strict"})
# Calls of one argument whose result could stand for it: conversions, and functions of numbers.
_MAPS = frozenset({
    "abs", "bool", "ceil", "constant", "exp", "float", "floor", "int", "list", "log",
    "reversed", "round", "sorted", "sqrt", "square", "str", "tuple",
})  # fmt: skip
# Types that have others in brackets, and calls whose first argument is a name.
_TYPES = frozenset({
    "AtLeast", "Bool", "Callable", "Float", "Int", "Iterator", "Literal", "Mapping", "NDArray",
    "NotRequired", "Sequence", "dict", "frozenset", "list", "set", "tuple", "type",
})  # fmt: skip
_NAMING = frozenset({"NewType", "ParamSpec", "TypeVar", "cast", "spec"})

Change = tuple[ast.expr | ast.stmt, "ast.expr | str"]


class Mutant(NamedTuple):
    """One change of a module.

    module: its path. where: the function or class around the change, "" at module level. line,
    text: the first line that changes. change: before -> after. start, end, after: which bytes of
    the source are replaced, and by what.
    """

    module: str
    where: str
    line: int
    text: str
    change: str
    start: int
    end: int
    after: str

    def of(self, source: str) -> str:
        """Return the mutated source."""
        whole = source.encode()
        return (whole[: self.start] + self.after.encode() + whole[self.end :]).decode()


def mutants(module: str, source: str, words: dict[str, str] | None = None) -> list[Mutant]:
    """Return the mutants of a module.

    words: for each value of an option another one, as `other_words` finds them.
    """
    tree = ast.parse(source)
    lines = source.encode().splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    found: dict[tuple[int, int, str], Mutant] = {}
    for where, (node, new) in _changes(tree, words or {}):
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        start = starts[node.lineno - 1] + node.col_offset
        end = starts[node.end_lineno - 1] + node.end_col_offset
        after = new if isinstance(new, str) else ast.unparse(new)
        before = ast.unparse(node)
        change = f"{_short(before)} -> {_short(after)}"
        text = lines[node.lineno - 1].decode().strip()
        if before != after:
            after = after if isinstance(node, ast.stmt) else f"({after})"
            mutant = Mutant(module, where, node.lineno, text, change, start, end, after)
            found.setdefault((start, end, after), mutant)
    return sorted(found.values(), key=lambda each: (each.start, each.end, each.after))


def other_words(sources: Iterable[str]) -> dict[str, str]:
    """Return for each value of a `Literal` in sources the next one of the same `Literal`."""
    found: dict[str, str] = {}
    for source in sources:
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith("Literal"):
                words = [each.value for each in ast.walk(node.slice) if _is_string(each)]
                for word, other in pairwise([*words, *words[:1]]):
                    if word != other:
                        found.setdefault(word, other)
    return found


def defined(node: ast.stmt) -> tuple[str, ...]:
    """Return the names that a statement of a module defines."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return (node.name,)
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return tuple(x.id for x in targets if isinstance(x, ast.Name))


def _short(code: str) -> str:
    code = " ".join(code.split())
    return code if len(code) <= 90 else f"{code[:60]} … {code[-25:]}"


def _is_string(node: Any) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _changes(tree: ast.Module, words: dict[str, str]) -> Iterator[tuple[str, Change]]:
    def walk(node: ast.AST, where: tuple[str, ...]) -> Iterator[tuple[str, Change]]:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            where = (*where, node.name)
        elif isinstance(node, ast.stmt) and not where:
            where = defined(node)[:1]
        own = [*_of_statement(node), *_of_expression(node, words)]
        yield from ((".".join(where), change) for change in own)
        for child in _children(node):
            yield from walk(child, where)

    yield from walk(tree, ())


def _children(node: ast.AST) -> Iterator[ast.AST]:  # noqa: C901, PLR0911, PLR0912
    """The nodes below that may be changed."""
    if isinstance(node, ast.Assert | ast.Raise | ast.Import | ast.ImportFrom | ast.JoinedStr):
        return
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return
    if isinstance(node, ast.Subscript) and (
        _is_string(node.slice) or ast.unparse(node.value).split(".")[-1] in _TYPES
    ):
        yield node.value
        return
    if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in {"__all__", "__slots__"}:
        return
    if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in _NAMING:
        yield from node.args[1:]
        yield from node.keywords
        return
    if isinstance(node, ast.Call) and ast.unparse(node.func) in {"isinstance", "dataclass"}:
        yield from node.args[:1]
        return
    if isinstance(node, ast.keyword) and node.arg == "requires":
        return
    if isinstance(node, ast.UnaryOp) and isinstance(node.operand, ast.Constant):
        return
    for name, value in ast.iter_fields(node):
        if name in {"annotation", "returns", "bases", "type_comment"}:
            continue
        children = value if isinstance(value, list) else [value]
        if name == "body" and _is_documented(node):
            children = children[1:]
        for child in children:
            if isinstance(child, ast.keyword) and child.arg in _UNSEEN:
                continue
            if isinstance(child, ast.AST):
                yield child


def _is_documented(node: ast.AST) -> bool:
    body = getattr(node, "body", None)
    return (
        isinstance(body, list)
        and bool(body)
        and isinstance(body[0], ast.Expr)
        and _is_string(body[0].value)
    )


# --- Statements -----------------------------------------------------------------------------------


def _of_statement(node: ast.AST) -> Iterator[Change]:
    if isinstance(node, ast.If | ast.While) and not _has_opposite(node.test):
        yield node.test, ast.UnaryOp(ast.Not(), node.test)
    for body in _bodies(node):
        is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for i, statement in enumerate(body):
            is_last = is_function and i == len(body) - 1
            if _may_be_dropped(statement, is_last=is_last, assigned=_names(body[:i])):
                yield statement, "pass"
    if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple):
        first, second, *rest = [*node.value.elts, None, None]
        if second is not None:
            others = [each for each in rest if each is not None]
            yield node.value, ast.Tuple([second, first, *others], ast.Load())  # type: ignore[list-item]


def _has_opposite(test: ast.expr) -> bool:
    """Whether a condition is negated by changing its operator, or is not for the program."""
    if isinstance(test, ast.Compare):
        return not isinstance(test.ops[0], ast.Lt | ast.LtE | ast.Gt | ast.GtE)
    return isinstance(test, ast.UnaryOp) or ast.unparse(test) == "TYPE_CHECKING"


def _bodies(node: ast.AST) -> Iterator[list[ast.stmt]]:
    if isinstance(node, ast.Module | ast.ClassDef):
        return
    for name in ("body", "orelse", "finalbody"):
        body = getattr(node, name, None)
        if isinstance(body, list):
            yield body[1:] if name == "body" and _is_documented(node) else body


def _names(body: list[ast.stmt]) -> set[str]:
    """The names that statements assign to."""
    nodes = [node for statement in body for node in ast.walk(statement)]
    return {x.id for x in nodes if isinstance(x, ast.Name) and isinstance(x.ctx, ast.Store)}


def _may_be_dropped(statement: ast.stmt, *, is_last: bool, assigned: set[str]) -> bool:
    """Whether the program runs on without a statement, instead of failing at once."""
    if isinstance(statement, ast.Assign):
        return all(
            isinstance(target, ast.Attribute | ast.Subscript)
            or (isinstance(target, ast.Name) and target.id in assigned)
            for target in statement.targets
        )
    if isinstance(statement, ast.If):
        only = statement.body[0]
        return not (len(statement.body) == 1 and not statement.orelse and _leaves(only))
    if isinstance(statement, ast.Return):
        return not is_last
    kinds = ast.Expr, ast.AugAssign, ast.Raise, ast.Continue, ast.Break, ast.Delete, ast.For
    return isinstance(statement, kinds)


def _leaves(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Raise | ast.Return | ast.Continue | ast.Break)


# --- Expressions ----------------------------------------------------------------------------------


def _of_expression(  # noqa: C901, PLR0912
    node: ast.AST, words: dict[str, str]
) -> Iterator[Change]:
    match node:
        case ast.Compare():
            for i, operator in enumerate(node.ops):
                ops = [*node.ops[:i], _COMPARISONS[type(operator)](), *node.ops[i + 1 :]]
                yield node, ast.Compare(node.left, ops, node.comparators)
        case ast.BinOp(left, operator, right) if not (_is_sequence(left) or _is_sequence(right)):
            if type(operator) in _OPERATORS:
                yield node, ast.BinOp(left, _OPERATORS[type(operator)](), right)
        case ast.UnaryOp(ast.USub(), ast.Constant(int(value))):
            yield node, repr(-value + 1)
            yield node, repr(-value - 1)
        case ast.UnaryOp(ast.USub() | ast.Not() | ast.Invert(), operand):
            yield node, operand
        case ast.BoolOp(operator, values):
            other = ast.And() if isinstance(operator, ast.Or) else ast.Or()
            yield node, ast.BoolOp(other, values)
            for i in range(len(values)):
                rest = [*values[:i], *values[i + 1 :]]
                yield node, rest[0] if len(rest) == 1 else ast.BoolOp(operator, rest)
        case ast.IfExp():
            yield node, node.body
            yield node, node.orelse
        case ast.Subscript(value, ast.Slice() as part):
            for name in ("lower", "upper", "step"):
                if getattr(part, name) is not None:
                    fewer = deepcopy(part)
                    setattr(fewer, name, None)
                    yield node, ast.Subscript(value, fewer, node.ctx)
        case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
            yield from _of_comprehension(node)
        case ast.Constant():
            yield from ((node, new) for new in _of_constant(node.value, words))
        case ast.Call():
            yield from ((node, new) for new in _of_call(node))
        case ast.keyword(arg="requires", value=ast.Tuple(conditions)):
            yield from _of_conditions(node.value, conditions)


def _is_sequence(node: ast.expr) -> bool:
    return isinstance(node, ast.Tuple | ast.List | ast.JoinedStr | ast.ListComp) or _is_string(node)


def _of_comprehension(node: Any) -> Iterator[Change]:
    for i, loop in enumerate(node.generators):
        for j in range(len(loop.ifs)):
            fewer = deepcopy(node)
            del fewer.generators[i].ifs[j]
            yield node, fewer


def _of_constant(value: object, words: dict[str, str]) -> Iterator[str]:
    match value:
        case bool():
            yield repr(not value)
        case int():
            yield repr(value + 1)
            yield repr(value - 1)
        case float() if value == value and abs(value) != float("inf"):  # noqa: PLR0124
            yield repr(value * 0.5) if value else "1.0"
            yield repr(value + 1.0)
        case str():
            yield repr(words.get(value, f"{value}_"))


def _of_call(node: ast.Call) -> Iterator[ast.expr]:
    for i, keyword in enumerate(node.keywords):
        is_flag = isinstance(keyword.value, ast.Constant) and isinstance(keyword.value.value, bool)
        if keyword.arg is not None and keyword.arg not in _UNSEEN and not is_flag:
            yield ast.Call(node.func, node.args, [*node.keywords[:i], *node.keywords[i + 1 :]])
    if isinstance(node.func, ast.Name | ast.Attribute):
        name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
        if name in _OTHER_NAME:
            func: ast.expr = ast.Name(_OTHER_NAME[name], ast.Load())
            if isinstance(node.func, ast.Attribute):
                func = ast.Attribute(node.func.value, _OTHER_NAME[name], ast.Load())
            yield ast.Call(func, node.args, node.keywords)
        if name == "where" and len(node.args) == 3:
            yield ast.Call(node.func, [node.args[0], node.args[2], node.args[1]], node.keywords)
        if name in _CONVERSIONS and isinstance(node.func, ast.Attribute):
            yield node.func.value
        elif name in _MAPS and len(node.args) == 1 and not node.keywords:
            yield node.args[0]


def _of_conditions(node: ast.expr, conditions: list[ast.expr]) -> Iterator[Change]:
    """Drop a condition of `@spec`, or change the expression in its string."""
    for i, condition in enumerate(conditions):
        yield node, ast.Tuple([*conditions[:i], *conditions[i + 1 :]], ast.Load())
        if not isinstance(condition, ast.Constant):
            continue
        for mutant in mutants("", str(condition.value)):
            yield condition, repr(mutant.of(str(condition.value)))
