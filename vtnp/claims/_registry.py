"""`@law(id, name)` and `@special(id, name)`: what a page states, as a check of one drawn case."""

from collections.abc import Callable
from typing import Any, NamedTuple

from vtnp.claims.cases import Case

Check = Callable[[Case], None]


class Claim(NamedTuple):
    """One law or special case of a page; `check(case)` raises AssertionError where it fails.

    What a check needs beyond values of NumPy arrays is stated in its options: `differentiates`,
    that autograd can go through the function; `refuses`, that it raises vtnp's own FormulaError.
    """

    kind: str
    id: str
    name: str
    check: Check
    options: dict[str, Any]


claims: dict[tuple[str, str, str], Claim] = {}


def law(id: str, name: str, **options: bool) -> Callable[[Check], Check]:
    """Register a check as the law `name` of a page."""
    return _registered("law", id, name, options)


def special(id: str, name: str, **options: bool) -> Callable[[Check], Check]:
    """Register a check as the special case `name` of a page."""
    return _registered("special", id, name, options)


def _registered(kind: str, id: str, name: str, options: dict[str, Any]) -> Callable[[Check], Check]:
    def register(check: Check) -> Check:
        if (kind, id, name) in claims:
            raise ValueError(f"{kind} {name!r} of {id!r} is registered twice")
        claims[kind, id, name] = Claim(kind, id, name, check, options)
        return check

    return register
