"""Options that a builder leaves to their defaults, drawn by their types in the signature."""

import inspect
import typing
from typing import Any

from vtnp._registry.shapes import alternatives
from vtnp._registry.spec import registry
from vtnp.claims.cases._draw import Draw

# From what rounding hides beside a variance of 1 to what halves a norm.
EPS = (1e-12, 1e-6, 1e-3, 0.5)


def varied(draw: Draw, id: str, args: dict[str, Any]) -> dict[str, Any]:
    """Return arguments with options that the builder has not set, and without some defaults.

    Whatever equals its default is left out half of the time.
    """
    function = registry[id].function
    hints = typing.get_type_hints(inspect.unwrap(function))
    for name, parameter in inspect.signature(function).parameters.items():
        has_default = parameter.default is not inspect.Parameter.empty
        if has_default and name in args and _equal(args[name], parameter.default):
            if draw.chance():
                args = {key: value for key, value in args.items() if key != name}
        elif name == "eps" or (has_default and name not in args):
            values = EPS if name == "eps" else values_of(hints[name])
            if values and not (has_default and draw.chance(0.25)):
                args = {**args, name: draw.choice(values)}
    return args


def values_of(hint: Any) -> tuple[Any, ...]:
    """Return all values of an option that is a string or a truth value; () for any other."""
    kinds = alternatives(hint)
    if len(kinds) != 1:
        return ()
    if typing.get_origin(kinds[0]) is typing.Literal:
        return typing.get_args(kinds[0])
    return (False, True) if kinds[0] is bool else ()


def _equal(value: Any, default: Any) -> bool:
    return not hasattr(value, "dtype") and type(value) is type(default) and bool(value == default)
