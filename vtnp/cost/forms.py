"""The closed form of a cost: the line `multiply_adds` of a formula's page, as an integer.

A form may name the costs of the formulas that it is made of: `cost('attention', n=t * s)` is the
form on the page of attention, at the same letters but for n.
"""

from collections.abc import Mapping
from typing import Any

from vtnp._registry.errors import FormulaError
from vtnp._registry.expressions import ExpressionError, evaluated
from vtnp._registry.pages import formula


def closed_form(id: str, letters: Mapping[str, Any]) -> int:
    """Return the multiply-adds that a formula's page states, at those letters.

    letters: as in vtnp.cost.sizes.Call. Raises FormulaError where the form names another letter.
    """
    return integer(formula(id).cost["multiply_adds"], letters, id)


def integer(form: str, letters: Mapping[str, Any], of: str) -> int:
    """Return the integer that an expression of a page makes of letters.

    Raises ExpressionError where it is not in the language or makes no integer, FormulaError where
    a letter has no value.
    """

    def cost(part: str, **others: Any) -> int:
        return closed_form(part, {**letters, **others})

    try:
        value = evaluated(form, letters, {"cost": cost})
    except NameError as error:
        raise FormulaError(f"{of}: the cost needs a value for {error.name!r}") from None
    if isinstance(value, bool) or not isinstance(value, int):
        raise ExpressionError(f"{of}: the cost is {value!r}, not an integer")
    return value
