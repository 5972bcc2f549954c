"""Options: each value is checked against its type in the signature.

NumPy scalars become Python numbers: beside an array of float32, np.float64(1e-6) would make the
result float64, and not every library accepts np.int64(2) as an index. A NamedTuple may be passed as
any sequence of its length.
"""

import inspect
import math
import operator
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from numbers import Real
from types import NoneType
from typing import Any, Literal, NamedTuple

from vtnp._array.xp import namespace, plain, unboxed
from vtnp._registry.errors import FormulaError
from vtnp._registry.shapes import alternatives, has_other_meaning, kind_of

Read = Callable[[Any], Any]
Reader = Callable[[tuple[Any, ...], dict[str, Any]], tuple[Any, ...]]


class Kind(NamedTuple):
    """A kind of option: its name in messages, and what makes one out of a value that is one."""

    says: str
    read: Read


def options_of(function: Callable[..., Any], what: str, others: Collection[str]) -> dict[str, Read]:
    """Return what reads each option of a formula, by name, where its type hint says how.

    what: the formula, as errors name it. others: arguments that are not options.
    """
    hints = typing.get_type_hints(function)
    names = inspect.signature(function).parameters
    found = {name: reader(what, name, hints[name]) for name in names if name not in others}
    return {name: read for name, read in found.items() if read is not None}


def in_call(names: Sequence[str], readers: Mapping[str, Read]) -> Reader:
    """Return what reads the options of a call, in place where they are named.

    It takes the call's positional arguments and named ones, and returns the positional ones.
    """
    in_order = [(i, readers[name]) for i, name in enumerate(names) if name in readers]
    first = in_order[0][0] if in_order else len(names)

    def read_options(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        for name, value in kwargs.items():
            read = readers.get(name)
            if read is not None:
                kwargs[name] = read(value)
        if len(args) <= first:
            return args
        values = list(args)
        for i, read in in_order:
            if i < len(values):
                values[i] = read(values[i])
        return tuple(values)

    return read_options


def reader(what: str, name: str, hint: Any) -> Read | None:
    """Return what checks the option of that type hint; None where only its formula can.

    Raises TypeError for a type hint that is of no kind of option.
    """
    either = alternatives(hint)
    hints = [each for each in either if each is not NoneType]
    kind = kind_of_option(hints[0]) if len(hints) == 1 else None
    if name == "rng":
        kind, either = _GENERATOR, (*either, NoneType)
    elif set(hints) == {int, Any}:
        kind = _INDEX
    if kind is None:
        beyond = Any in hints or typing.get_origin(hints[0]) in (Mapping, Sequence)
        if not beyond:
            raise TypeError(f"{what}: argument {name}: no check for {hint}")
        return None
    says, read = kind
    optional = NoneType in either

    def checked(value: Any) -> Any:
        if optional and value is None:
            return None
        try:
            return read(value)
        except _FieldError as error:
            raise FormulaError(f"{what}: argument {name}.{error}") from None
        except TypeError:
            raise FormulaError(f"{what}: argument {name}: expected {says}, got {value!r}") from None

    return checked


class _FieldError(TypeError):
    """A field of a NamedTuple that is of another kind than its type hint; the message names it."""


def kind_of_option(hint: Any) -> Kind | None:
    """Return the kind of a type hint, None where there is none."""
    within, origin = typing.get_args(hint), typing.get_origin(hint)
    if origin is Literal:
        return Kind(f"one of {', '.join(map(repr, within))}", _one_of(within))
    if isinstance(hint, type) and issubclass(hint, tuple) and hasattr(hint, "_fields"):
        return _named_tuple(hint)
    if origin is tuple and set(within) == {int}:
        return Kind(f"{len(within)} integers", _tuple_of([_integer] * len(within)))
    if is_sequence(hint) and (each := kind_of_option(within[0])):
        says = "integers" if within[0] is int else f"a sequence, each {each.says}"
        return Kind(says, _sequence_of(each.read))
    return _KINDS.get(hint)


def is_sequence(hint: Any) -> bool:
    """Return whether a type hint is that of sequences of any length."""
    return typing.get_origin(hint) is Sequence or typing.get_args(hint)[1:] == (...,)


def _named_tuple(cls: Any) -> Kind:
    hints = typing.get_type_hints(cls)
    fields = {name: reader("", name, hints[name]) or _anything for name in cls._fields}
    needed = len(fields) - len(cls._field_defaults)
    defaults = tuple(cls._field_defaults[name] for name in cls._fields[needed:])

    def read(values: Any) -> Any:
        given = _sequence_of(_anything)(values)
        if not needed <= len(given) <= len(fields):
            raise TypeError
        all_values = given + defaults[len(given) - needed :]
        try:
            return cls(*[f(x) for f, x in zip(fields.values(), all_values, strict=True)])
        except FormulaError as error:
            raise _FieldError(str(error).removeprefix(": argument ")) from None

    return Kind(f"{cls.__name__}({', '.join(cls._fields)})", read)


def _anything(value: Any) -> Any:
    return value


def _one_of(words: tuple[Any, ...]) -> Read:
    def one_of(value: Any) -> Any:
        if not isinstance(value, str) or value not in words:
            raise TypeError
        return value

    return one_of


def _integer(value: Any) -> int:
    if type(value) is int:
        return value
    if isinstance(value, bool):
        raise TypeError
    return operator.index(value)


def _number(value: Any) -> Any:
    number = unboxed(value)
    if isinstance(number, bool) or not isinstance(number, Real):
        raise TypeError
    try:
        as_float = float(number)
    except OverflowError:  # an integer beyond the range of floats
        raise TypeError from None
    if math.isnan(as_float):
        raise TypeError
    return as_float if value is number else value


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _boolean(value: Any) -> bool:
    if type(value).__name__ not in {"bool", "bool_"}:
        raise TypeError
    return bool(value)


def _index(value: Any) -> Any:
    if not hasattr(value, "shape") or not hasattr(value, "dtype"):
        return _integer(value)
    namespace(value)
    if kind_of(value.dtype) != "int" or has_other_meaning(value):
        raise TypeError
    return plain(value)


def _generator(value: Any) -> Any:
    if not callable(getattr(value, "integers", None)):
        raise TypeError
    return value


def _sequence_of(read: Read) -> Read:
    def sequence(values: Any) -> tuple[Any, ...]:
        if isinstance(values, str | Mapping):
            raise TypeError
        try:
            return tuple(map(read, values))
        except TypeError:
            raise TypeError from None

    return sequence


def _tuple_of(reads: Sequence[Read]) -> Read:
    def values_of(values: Any) -> tuple[Any, ...]:
        given = _sequence_of(_anything)(values)
        if len(given) != len(reads):
            raise TypeError
        return tuple(read(value) for read, value in zip(reads, given, strict=True))

    return values_of


_INDEX = Kind("an integer or an array of integers", _index)
_GENERATOR = Kind("a numpy.random.Generator", _generator)
_KINDS = {
    int: Kind("an integer", _integer),
    float: Kind("a number", _number),
    str: Kind("a string", _string),
    bool: Kind("True or False", _boolean),
}
