"""Options: what a signature says of each, held against what came.

A number of NumPy's becomes Python's: beside an array of float32, np.float64(1e-6) would make the
result float64, and np.int64(2) is no index that every library takes.
"""

import inspect
import math
import operator
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from numbers import Real
from types import NoneType, UnionType
from typing import Any, NamedTuple

from vtnp._array.xp import namespace, unboxed
from vtnp._registry.errors import require
from vtnp._registry.params import Keys, check_params

Read = Callable[[Any], Any]


class Kind(NamedTuple):
    """A kind of option: its name in messages, and what makes one out of a value that is one."""

    told: str
    read: Read


def options_of(
    function: Callable[..., Any], formula: str, arrays: Collection[str], params: Keys | None
) -> Callable[[tuple[Any, ...], dict[str, Any]], tuple[Any, ...]]:
    """Return what checks the options of a call, in place where they are named.

    It takes the call's positional arguments and named ones, and returns the positional ones.
    """
    hints = typing.get_type_hints(function)
    names = inspect.signature(function).parameters
    found = {name: reader(formula, name, hints[name]) for name in names if name not in arrays}
    if params is not None:
        found["params"] = _with_keys(formula, params)
    readers = {name: read for name, read in found.items() if read is not None}
    in_order = [(i, readers[name]) for i, name in enumerate(names) if name in readers]
    first = in_order[0][0] if in_order else len(names)

    def read_options(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        for name, value in kwargs.items():
            read = readers.get(name)
            if read is not None:
                kwargs[name] = read(value)
        if len(args) <= first:
            return args
        given = list(args)
        for i, read in in_order:
            if i < len(given):
                given[i] = read(given[i])
        return tuple(given)

    return read_options


def _with_keys(formula: str, keys: Keys) -> Read:
    def checked(params: Any) -> Any:
        check_params(params, keys, formula)
        return params

    return checked


def reader(formula: str, name: str, hint: Any) -> Read | None:
    """Return what checks the option of that type hint; None where only its formula can.

    Raises TypeError for a type hint that no kind of option answers to.
    """
    either = typing.get_args(hint) if typing.get_origin(hint) is UnionType else (hint,)
    hints = [each for each in either if each is not NoneType]
    kind = _LIKE if name == "like" else _kind(hints[0]) if len(hints) == 1 else None
    if kind is None:
        beyond = Any in hints or typing.get_origin(hints[0]) in (Mapping, Sequence)
        if not beyond:
            raise TypeError(f"{formula}: argument {name}: no check for {hint}")
        return None
    told, read = kind
    optional = NoneType in either

    def checked(value: Any) -> Any:
        if optional and value is None:
            return None
        try:
            return read(value)
        except TypeError:
            require(False, formula, name, told, value)

    return checked


def _kind(hint: Any) -> Kind | None:
    within, origin = typing.get_args(hint), typing.get_origin(hint)
    if origin is tuple and set(within) == {int}:
        return Kind(f"{len(within)} whole numbers", _row_of(_whole, len(within)))
    if origin is Sequence and (each := _kind(within[0])):
        told = "whole numbers" if within[0] is int else f"rows of {each.told}"
        return Kind(told, _row_of(each.read))
    return _KINDS.get(hint)


def _whole(value: Any) -> int:
    if type(value) is int:
        return value
    if isinstance(value, bool):
        raise TypeError
    return operator.index(value)


def _number(value: Any) -> Any:
    number = unboxed(value)
    if isinstance(number, bool) or not isinstance(number, Real) or math.isnan(number):
        raise TypeError
    return float(value) if value is number else value


def _word(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _truth(value: Any) -> bool:
    if type(value).__name__ not in {"bool", "bool_"}:
        raise TypeError
    return bool(value)


def _like(value: Any) -> Any:
    if not hasattr(unboxed(value), "dtype"):
        raise TypeError
    namespace(value)
    return value


def _row_of(read: Read, length: int | None = None) -> Read:
    def row(values: Any) -> tuple[Any, ...]:
        if isinstance(values, str | Mapping):
            raise TypeError
        read_all = tuple(map(read, values))
        if length is not None and len(read_all) != length:
            raise TypeError
        return read_all

    return row


_LIKE = Kind("an array", _like)
_KINDS = {
    int: Kind("a whole number", _whole),
    float: Kind("a number", _number),
    str: Kind("a word", _word),
    bool: Kind("True or False", _truth),
}
