"""The closed form of a formula's cost: the line `multiply_adds` of its page, as an integer.

A form may be composed of those of other formulas: `cost('attention', n=t * s)` is the closed form
of attention, at the same letters but for n.
"""

import inspect
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from vtnp._registry.errors import FormulaError, UnknownFormulaError
from vtnp._registry.expressions import ExpressionError, evaluated, names_in
from vtnp._registry.pages import formula
from vtnp._registry.params import shapes_of
from vtnp._registry.shapes import parse
from vtnp._registry.spec import registry

_USAGE = "cost takes a formula's id and letters by name, as in cost('attention', n=t * s)"


class ClosedFormError(ExpressionError):
    """A closed form that cannot be evaluated; the message names its page."""


def closed_form(id: str, letters: Mapping[str, Any]) -> int:
    """Return the multiply-adds that a formula's page states.

    Parameters
    ----------
    id : str
        The formula.
    letters : Mapping[str, Any]
        A value for each letter that the page's expression names: axes, options and arguments by
        name. `sized_call` makes them from sizes.

    Returns
    -------
    int
        Multiply-adds for one element of the batch axes.

    Raises
    ------
    FormulaError
        If a letter has no value.
    ClosedFormError
        If the page's expression is not in the language of the pages, is not an integer, names a
        formula or a letter that does not exist, or refers to itself.

    Examples
    --------
    >>> from vtnp import cost
    >>> cost.closed_form("attention", {"n": 3, "m": 5, "d_k": 4, "d_v": 2})
    90
    """
    return _closed_form(id, letters, ())


def _closed_form(id: str, letters: Mapping[str, Any], within: tuple[str, ...]) -> int:
    """Return a closed form; within: the formulas whose forms it is a part of."""
    return integer(formula(id).cost["multiply_adds"], letters, (*within, id))


def integer(form: str, letters: Mapping[str, Any], path: tuple[str, ...]) -> int:
    """Return the integer that an expression of `[cost]` makes of letters.

    path: the formula whose page it is on, preceded by those whose forms it is a part of. Raises as
    `closed_form` does.
    """

    def cost(*ids: Any, **others: Any) -> int:
        if len(ids) != 1 or not isinstance(ids[0], str):
            raise ExpressionError(_USAGE)
        (part,) = ids
        _require_part(part, others, path)
        return _closed_form(part, {**letters, **others}, path)

    try:
        value = evaluated(form, letters, {"cost": cost})
    except (ClosedFormError, FormulaError):  # of a part, which has said where
        raise
    except NameError as error:
        raise FormulaError(f"{_location(path)}: no value for {error.name!r} in {form!r}") from None
    except (ArithmeticError, ExpressionError, LookupError, TypeError) as error:
        raise ClosedFormError(f"{_location(path)}: {error}, in {form!r}") from None
    if isinstance(value, bool) or not isinstance(value, int):
        raise ClosedFormError(f"{_location(path)}: {value!r} is not an integer, in {form!r}")
    return value


def _require_part(part: str, others: Mapping[str, Any], path: tuple[str, ...]) -> None:
    """Raise ClosedFormError unless a form may name that part with those letters."""
    location = _location((*path, part))
    try:
        formula(part)
    except UnknownFormulaError as error:
        raise ClosedFormError(f"{location}: {error}") from None
    if part in path:
        cycle = " -> ".join(map(_page, (*path[path.index(part) :], part)))
        raise ClosedFormError(f"{location}: the cost refers to itself: {cycle}")
    if unknown := sorted(others.keys() - _letters(part)):
        known = ", ".join(sorted(_letters(part)))
        raise ClosedFormError(f"{location}: {part} has no letter {unknown[0]!r}; it has {known}")


@cache
def _letters(id: str) -> frozenset[str]:
    """Return the axes and arguments of a formula, and what its closed form and its parts name."""
    signature = registry[id].signature
    shapes = [argument.shape for argument in (*signature.arguments, *signature.returns)]
    for table in signature.tables.values():
        shapes += [parse(text) for _, text in shapes_of(table)]
    letters = {axis for shape in shapes for axis in shape.axes}
    letters |= inspect.signature(registry[id].function).parameters.keys()
    seen, parts = set(), [id]
    while parts:
        part = parts.pop()
        if part in registry and part not in seen:
            seen.add(part)
            form = formula(part).cost["multiply_adds"]
            letters |= names_in(form)
            parts += re.findall(r"\bcost\('([^']*)'", form)
    return frozenset(letters)


def _page(id: str) -> str:
    return registry[id].page_path if id in registry else id


def _location(path: tuple[str, ...]) -> str:
    """Return the page of an expression and the way to it, as errors name them."""
    id, *parts = path
    page = f"{id} ({_page(id)})" if id in registry else id
    return ": ".join([page, "multiply_adds", *(f"cost({part!r})" for part in parts)])
