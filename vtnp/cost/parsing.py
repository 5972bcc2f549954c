"""Sizes and options as a person writes them."""

import typing
from collections.abc import Callable, Sequence
from decimal import Decimal, DecimalException
from types import NoneType
from typing import Any

from vtnp._registry.errors import FormulaError

_DIGITS = 100
_EXAMPLES = {2: "14x14", 3: "8x14x14"}
_TRUTH = {"true": True, "yes": True, "false": False, "no": False}


def value_of(id: str, name: str, hint: Any, text: str) -> Any:
    """Read a text as a value of that type; raise FormulaError where it is none."""
    kinds = [each for each in _either(hint) if each is not NoneType]
    optional = NoneType in _either(hint)
    if optional and text.strip().lower() == "none":
        return None
    told, read = _reader(kinds[0])
    try:
        return read(text.strip())
    except (ValueError, KeyError, DecimalException):
        none = ", or none" if optional else ""
        raise FormulaError(f"{id}: {name}: expected {told}{none}, got {text!r}") from None


def _either(hint: Any) -> tuple[Any, ...]:
    is_union = not isinstance(hint, type) and typing.get_origin(hint) not in {tuple, Sequence}
    return typing.get_args(hint) if is_union else (hint,)


def _reader(hint: Any) -> tuple[str, Callable[[str], Any]]:
    if hint in _READERS:
        return _READERS[hint]
    within = typing.get_args(hint)
    if within[0] is int:
        length = len(within) if typing.get_origin(hint) is tuple and ... not in within else None
        many = "whole numbers, such as 2048,4096"
        told = many if length is None else f"{length} whole numbers, such as {_EXAMPLES[length]}"
        return told, _row(length)
    return "rows of whole numbers, such as 1x2x2,1x1x1", _rows(len(typing.get_args(within[0])))


def whole(text: str) -> int:
    """Read a whole number, with powers and exponents: 4096, 2**20, 1e6, 1.5e3.

    Raises ValueError for one of more than a hundred digits.
    """
    base, power, exponent = text.replace("_", "").partition("**")
    number = Decimal(base)
    if power:
        number = number ** int(exponent)
    if not number.is_finite() or number.adjusted() >= _DIGITS or number != int(number):
        raise ValueError(text)
    return int(base) ** int(exponent) if power else int(number)


def _row(length: int | None) -> Callable[[str], tuple[int, ...]]:
    def read(text: str) -> tuple[int, ...]:
        row = tuple(whole(each) for each in text.replace("x", ",").split(",") if each or length)
        if length is not None and len(row) != length:
            raise ValueError(text)
        return row

    return read


def _rows(length: int) -> Callable[[str], tuple[tuple[int, ...], ...]]:
    return lambda text: tuple(_row(length)(each) for each in text.split(",") if each)


_READERS: dict[Any, tuple[str, Callable[[str], Any]]] = {
    int: ("a whole number, such as 4096, 1e6 or 2**20", whole),
    float: ("a number", float),
    bool: ("true or false", lambda text: _TRUTH[text.lower()]),
    str: ("a word", lambda text: text),
}
