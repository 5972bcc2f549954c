"""`@spec(id)`: registers a formula, and is the one place that each of its calls goes through."""

import inspect
import typing
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, NamedTuple, ParamSpec, TypeVar

from vtnp._registry.calls import Call, handle, handlers
from vtnp._registry.checks import Signature, check_arguments, check_conditions, check_result
from vtnp._registry.errors import FormulaError
from vtnp._registry.expressions import names_in
from vtnp._registry.options import in_call, options_of
from vtnp._registry.params import Table, table_of, trait, traits
from vtnp._registry.shapes import Argument, argument_of

P = ParamSpec("P")
R = TypeVar("R")

_SEEN_AT_MOST = 4096  # kinds of calls remembered as right, per formula


class Entry(NamedTuple):
    """What the registry holds of a formula."""

    id: str
    module: str
    function: Callable[..., Any]
    signature: Signature
    requires: tuple[str, ...] = ()

    @property
    def page(self) -> str:
        """The path of its page."""
        return f"spec/{self.module}/{self.id}.md"


registry: dict[str, Entry] = {}


def spec(id: str, *, requires: Sequence[str] = ()) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Register a function as the formula `id` and hold each call to its signature.

    requires: conditions on arguments, options and axes, as expressions; the page has the same.
    The formula raises ShapeError where axes do not fit, TypeError where an array is none, has the
    wrong kind of dtype, or where dtypes, libraries or devices are mixed, and FormulaError for an
    option of another type than the signature's, for params with other keys, and for a condition
    that does not hold.
    """

    def register(function: Callable[P, R]) -> Callable[P, R]:
        if id in registry:
            raise ValueError(f"formula {id!r} is registered twice")
        module = function.__module__.rpartition(".")[2]
        what = f"{id} (spec/{module}/{id}.md)"
        signature = read_signature(function)
        parameters = inspect.signature(function).parameters
        names = tuple(parameters)
        defaults = {
            name: each.default
            for name, each in parameters.items()
            if each.default is not each.empty
        }
        arrays = {argument.name for argument in signature.arguments}
        traits_of: dict[str, Callable[[Any], Any]] = dict.fromkeys(arrays, trait)
        traits_of |= {name: _traits_of(table) for name, table in signature.tables.items()}
        readers = options_of(function, what, traits_of.keys())
        # What no reader makes plain values of is remembered only where it is plain by itself.
        traits_of |= {
            name: trait if name == "like" else _plain
            for name in parameters.keys() - traits_of.keys() - readers.keys()
        }
        read_options = in_call(names, readers)
        known = arrays | {axis for each in _arrays_of(signature) for axis in each.shape.axes}
        for condition in requires:
            if unknown := names_in(condition) - known - set(names):
                raise ValueError(f"{id}: {condition!r} names {sorted(unknown)}")
        seen: set[Any] = set()

        def compute(call: Call) -> Any:
            arguments = dict(call.arguments)
            read_options((), arguments)
            if not call.checked:
                return call.function(**arguments)
            return checked(call.function, (), arguments)

        def checked(raw: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            try:
                key = (
                    *[
                        traits_of[name](value) if name in traits_of else (name, value)
                        for name, value in zip(names, args, strict=False)
                    ],
                    *[
                        (name, traits_of[name](value) if name in traits_of else value)
                        for name, value in kwargs.items()
                    ],
                )
                is_new = key not in seen
            except (AttributeError, TypeError):  # no array, or what cannot be remembered
                key, is_new = None, True
            if not is_new:
                return raw(*args, **kwargs)
            arguments = dict(zip(names, args, strict=False)) | kwargs
            bound = check_arguments(what, signature, arguments)
            sizes = {k: v for k, v in (defaults | arguments).items() if type(v) is int}
            if requires:
                check_conditions(what, requires, {**bound, **defaults, **arguments})
            result = raw(*args, **kwargs)
            check_result(what, signature, result, {**sizes, **bound})
            if key is not None:
                if len(seen) >= _SEEN_AT_MOST:
                    seen.clear()
                seen.add(key)
            return result

        @wraps(function)
        def formula(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                if handlers.get():
                    arguments = dict(zip(names, args, strict=False)) | kwargs
                    return handle(id, function, arguments, compute)  # type: ignore[no-any-return]
                args = read_options(args, kwargs)  # type: ignore[assignment]
                return checked(function, args, kwargs)  # type: ignore[no-any-return]
            except FormulaError as error:
                error.called = what
                raise

        registry[id] = Entry(id, module, formula, signature, tuple(requires))
        return formula

    return register


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, int | float | str):
        return value
    raise TypeError


def _traits_of(table: Table) -> Callable[[Any], Any]:
    return lambda values: traits(table, values)


def read_signature(function: Callable[..., Any]) -> Signature:
    """Read the arrays, with kind and shape, and the tables of params out of a signature."""
    hints = typing.get_type_hints(function, include_extras=True)
    returned = hints.pop("return", None)
    results = typing.get_args(returned) if typing.get_origin(returned) is tuple else (returned,)
    arguments = [found for name, hint in hints.items() if (found := argument_of(name, hint))]
    returns = [
        found
        for i, hint in enumerate(results)
        if (found := argument_of(f"result {i}" if len(results) > 1 else "result", hint))
    ]
    tables = {name: found for name, hint in hints.items() if (found := table_of(hint))}
    return Signature(tuple(arguments), tuple(returns), tables)


def _arrays_of(signature: Signature) -> list[Argument]:
    found = list(signature.arguments)
    for table in signature.tables.values():
        found += _arrays_of_table(table)
    return found


def _arrays_of_table(table: Table) -> list[Argument]:
    found: list[Argument] = []
    for field in table.fields.values():
        if isinstance(field, Argument):
            found.append(field)
        else:
            found += _arrays_of_table(field if isinstance(field, Table) else field[0])
    return found
