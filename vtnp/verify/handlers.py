"""Handlers of formula calls, which change or record what a formula does while it runs."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from vtnp._registry.calls import Call, Handler, Proceed, intercept

Function = Callable[..., Any]


def under(handler: Handler, ids: Collection[str], function: Function) -> Function:
    """Return a function that runs under a handler of these formulas; nothing else does."""

    def handled(*args: Any, **kwargs: Any) -> Any:
        with intercept(handler, ids):
            return function(*args, **kwargs)

    return handled


def in_place_of(substitutes: Mapping[str, Function]) -> Handler:
    """Let other functions compute formulas, by id.

    A substitute that calls its own formula reaches the formula itself.
    """

    def substitute(call: Call, proceed: Proceed) -> Any:
        if call.id not in substitutes or call.id in call.within:
            return proceed(call)
        return substitutes[call.id](**call.arguments)

    return substitute


def with_arguments(id: str, change: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> Handler:
    """Change the arguments of a formula."""

    def changed(call: Call, proceed: Proceed) -> Any:
        if call.id == id:
            call = call.replace(arguments=change(call.arguments))
        return proceed(call)

    return changed


def with_results(changes: Mapping[str, Callable[[Any], Any]]) -> Handler:
    """Change the arrays among the results of formulas, by id; sizes stay what they are."""

    def changed(call: Call, proceed: Proceed) -> Any:
        result = proceed(call)
        if call.id not in changes:
            return result
        change = changes[call.id]
        if isinstance(result, tuple) and any(hasattr(y, "dtype") for y in result):
            return tuple(change(y) if hasattr(y, "dtype") else y for y in result)
        return change(result) if hasattr(result, "dtype") else result

    return changed


def calls_of(ids: Collection[str], function: Function, arguments: Mapping[str, Any]) -> list[Call]:
    """Return the calls of some formulas that a function makes, in order."""
    calls: list[Call] = []

    def record(call: Call, proceed: Proceed) -> Any:
        if call.id in ids:
            calls.append(call)
        return proceed(call)

    with intercept(record, ids), np.errstate(all="ignore"):
        function(**arguments)
    return calls
