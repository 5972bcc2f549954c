"""Sizes and options as text: read from a command line, and written so that they can be read again.

    4096, 1e6, 2**20        an integer
    8x14x14                 a tuple, such as a grid
    2048,4096               a sequence
    2048x1,4096x2           a sequence of tuples
    1x8x8,none,max          a tuple of which some fields are tuples
    0.125, true, queries    a number, a truth value, a string
    none                    None

Which of these a text may be is decided by the readers of options that formulas use themselves.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal, DecimalException
from types import NoneType
from typing import Any

from vtnp._registry.errors import FormulaError
from vtnp._registry.options import is_sequence, kind_of_option
from vtnp._registry.shapes import alternatives

_MAX_DIGITS = 100
_TIMES = r"(?<=\d)x(?=\d)"  # not the x of a string
_BOOLEANS = {"true": True, "yes": True, "false": False, "no": False}


def value_of(what: str, name: str, hint: Any, text: str, *, example: Any = None) -> Any:
    """Return the value that a text says.

    what, name: the formula or model and its option, as errors name them. hint: the option's type.
    example: a value of that type, for the message.
    Raises FormulaError where the text says no value of that type.
    """
    hints = alternatives(hint)
    optional = NoneType in hints
    if optional and text.strip().lower() == "none":
        return None
    kind = next((kind for each in hints if (kind := kind_of_option(each))), None)
    if kind is None:
        raise FormulaError(f"{what}: {name} cannot be set on the command line")
    for value in _interpretations(text.strip()):
        with suppress(TypeError):
            return kind.read(value)
    if int in hints:
        such_as = ", such as 4096, 1e6 or 2**20"
    else:
        such_as = f", such as {text_of(example, hints[0])}" if isinstance(example, tuple) else ""
    none = ", or none" if optional else ""
    raise FormulaError(f"{what}: {name}: expected {kind.says}{such_as}{none}, got {text!r}")


def text_of(value: Any, hint: Any) -> str:
    """Return the text that says a value of that type."""
    if isinstance(value, tuple):
        nested = any(isinstance(each, tuple) for each in value)
        return ("," if nested or is_sequence(hint) else "x").join(text_of(x, None) for x in value)
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def integer_of(text: str) -> int:
    """Return the integer that a text says, with powers and exponents: 4096, 2**20, 1e6, 1.5e3.

    Raises ValueError, also for an integer of more than a hundred digits.
    """
    base, power, exponent = text.replace("_", "").partition("**")
    try:
        number = Decimal(base) ** int(exponent) if power else Decimal(base)
    except DecimalException:
        raise ValueError(text) from None
    if not number.is_finite() or number.adjusted() >= _MAX_DIGITS or number != int(number):
        raise ValueError(text)
    return int(base) ** int(exponent) if power else int(number)


def _interpretations(text: str) -> Iterator[Any]:
    """Yield all values that a text may say, the simplest first."""
    yield text
    if text.lower() in _BOOLEANS:
        yield _BOOLEANS[text.lower()]
    for read in (integer_of, float, _tuple_of, _tuple_of_tuples, _sequence_of_tuples):
        with suppress(ValueError):
            yield read(text)


def _tuple_of(text: str) -> tuple[Any, ...]:
    """Read 8x14x14 or 8,14,14."""
    return tuple(map(_scalar, re.split(f"{_TIMES}|,", text))) if text else ()


def _tuple_of_tuples(text: str) -> tuple[Any, ...]:
    """Read 1x8x8,none,max: a tuple of which some fields are tuples."""
    fields = [tuple(map(_scalar, re.split(_TIMES, each))) for each in text.split(",")]
    return tuple(each if len(each) > 1 else each[0] for each in fields)


def _sequence_of_tuples(text: str) -> tuple[tuple[Any, ...], ...]:
    """Read 2048x1,4096x2."""
    return tuple(map(_tuple_of, text.split(",")))


def _scalar(text: str) -> Any:
    if text == "none":
        return None
    for read in (integer_of, float):
        with suppress(ValueError):
            return read(text)
    return text
