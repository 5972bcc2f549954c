"""What the calls of one formula are checked against: signature, options and conditions.

Each kind of call is checked once: its key has all that a check looks at, which are type, shape,
dtype and device of every array, those in params included, and the value of every option.
"""

import inspect
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from types import NoneType
from typing import Any

from vtnp._array.values import on_device_of, unboxed
from vtnp._registry.checks import (
    Like,
    Signature,
    check_arguments,
    check_conditions,
    check_result,
    plain_arguments,
)
from vtnp._registry.expressions import compiled, names_in
from vtnp._registry.options import in_call, options_of
from vtnp._registry.params import Table, table_of, trait, traits
from vtnp._registry.shapes import Argument, alternatives, argument_of, sequence_of

Function = Callable[..., Any]
_SEEN_AT_MOST = 4096  # kinds of calls remembered as right, per formula
_ANYWHERE = object()  # for arrays of libraries that compute where their arrays are


class Contract:
    """The contract of a formula.

    what: the formula and its page, as errors name them. function: the formula as it is written.
    requires: conditions on arguments, options and axes.
    """

    def __init__(self, what: str, function: Function, requires: Sequence[str]) -> None:
        self._python = inspect.signature(function)
        parameters = self._python.parameters
        self.function, self.what, self.requires = function, what, tuple(requires)
        self.names = tuple(parameters)
        kinds = {name: each.kind for name, each in parameters.items()}
        self._positional = [name for name, kind in kinds.items() if kind is not kind.KEYWORD_ONLY]
        self._known = frozenset(parameters)
        self.signature = read_signature(function)
        self._defaults = {
            name: each.default
            for name, each in parameters.items()
            if each.default is not each.empty
        }
        self._needed = self._known - self._defaults.keys()
        arrays: dict[str, Callable[[Any], Any]] = {
            each.name: trait for each in self.signature.arguments
        }
        arrays |= {each.name: _traits_of_members for each in self.signature.sequences}
        tables = {name: _traits_of(table) for name, table in self.signature.tables.items()}
        readers = options_of(function, what, {*arrays, *tables, "like"})
        self.read_options = in_call(self.names, readers)
        # What no reader makes plain values of is remembered only where it is plain by itself.
        others = {name: unboxed if name in readers else _plain for name in self.names}
        others |= {"like": trait, "rng": _plain}
        self._traits: Mapping[str, Callable[[Any], Any]] = {**others, **arrays, **tables}
        self._require_known_letters()
        # Kinds of calls that were right, and the device on which each computes.
        self._seen: dict[Any, Any] = {}

    def _require_known_letters(self) -> None:
        found = {axis for each in _arrays_of(self.signature) for axis in each.shape.axes}
        axes = {axis for axis in found if not axis.startswith("_")}
        for condition in self.requires:
            compiled(condition)
            if unknown := names_in(condition) - axes - {*self.names}:
                raise ValueError(f"{self.what}: {condition!r} names {sorted(unknown)}")

    def bound(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments of a call by name; what was left out is not there.

        Raises TypeError where an argument is missing, unknown or given twice.
        """
        arguments = dict(zip(self._positional, args, strict=False)) | kwargs
        is_fitting = self._needed <= arguments.keys() <= self._known
        if is_fitting and len(arguments) == len(args) + len(kwargs):
            return arguments
        try:  # slower, and says what does not fit
            return self._python.bind(*args, **kwargs).arguments
        except TypeError as error:
            raise TypeError(f"{self.what}: {error}") from None

    def compute(self, function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return what a function makes of arguments, options being read, and check both."""
        # Of a function that a handler has put in place nothing is known from earlier calls.
        key = self._key(args, kwargs) if function is self.function else None
        context = self._seen.get(key)
        if context is not None:
            if context is _ANYWHERE:
                return function(*args, **kwargs)
            with context:
                return function(*args, **kwargs)
        arguments = self.bound(args, kwargs)
        axes = check_arguments(self.what, self.signature, arguments)
        letters = {**axes, **self._defaults, **arguments}
        check_conditions(self.what, self.requires, letters)
        plain = plain_arguments(self.signature, arguments)
        context = on_device_of(args, kwargs)
        with context:
            result = function(*args, **kwargs) if plain is arguments else function(**plain)
        if plain is not arguments:
            key = None  # not remembered, so that each call is given plain arrays
        sizes = {name: value for name, value in letters.items() if type(value) is int}
        check_result(self.what, self.signature, result, {**sizes, **axes})
        if key is not None:
            if len(self._seen) >= _SEEN_AT_MOST:
                self._seen.clear()
            self._seen[key] = _ANYWHERE if isinstance(context, nullcontext) else context
        return result

    def _key(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return the kind of a call; None for one that cannot be remembered."""
        traits_of = self._traits
        try:
            key = (
                *[
                    traits_of[name](value) if name in traits_of else value
                    for name, value in zip(self.names, args, strict=False)
                ],
                *[
                    (name, traits_of[name](value) if name in traits_of else value)
                    for name, value in kwargs.items()
                ],
            )
            hash(key)
        except (AttributeError, TypeError):
            return None
        return key


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, int | float | str):
        return value
    raise TypeError


def _traits_of(table: Table) -> Callable[[Any], Any]:
    return lambda values: traits(table, values)


def _traits_of_members(values: Any) -> Any:
    found = unboxed(values)
    if not isinstance(found, list | tuple):
        raise TypeError
    return tuple(map(trait, found))


def read_signature(function: Function) -> Signature:
    """Read the arrays, with kind and shape, and the tables of params out of a signature."""
    hints = typing.get_type_hints(function, include_extras=True)
    returned = hints.pop("return", None)
    results = typing.get_args(returned) if typing.get_origin(returned) is tuple else (returned,)
    arguments = [argument_of(name, hint) for name, hint in hints.items()]
    returns = [
        argument_of(f"result {i}" if len(results) > 1 else "result", hint)
        for i, hint in enumerate(results)
    ]
    tables = {name: table_of(hint) for name, hint in hints.items()}
    sequences = [sequence_of(name, hint) for name, hint in hints.items()]
    like = None
    if "like" in hints:
        # A table of numbers has the dtype of `like`; what selects or counts has its own.
        of_floats = any(each and each.kind == "float" for each in returns)
        kinds = ("float",) if of_floats else ("float", "int", "bool")
        like = Like(kinds, optional=NoneType in alternatives(hints["like"]))
    return Signature(
        tuple(each for each in arguments if each),
        tuple(each for each in returns if each),
        {name: table for name, table in tables.items() if table},
        tuple(each for each in sequences if each),
        like,
    )


def _arrays_of(signature: Signature) -> Iterator[Argument]:
    yield from signature.arguments
    yield from signature.sequences
    for table in signature.tables.values():
        yield from _arrays_of_table(table)


def _arrays_of_table(table: Table) -> Iterator[Argument]:
    for field in table.fields.values():
        if isinstance(field, Argument):
            yield field
        else:
            yield from _arrays_of_table(field if isinstance(field, Table) else field[0])
