"""Params: nested tables of arrays, as TypedDicts whose values carry shapes.

    class Norm(TypedDict):
        gamma: Float[Array, " d"]
        beta: Float[Array, " d"]

At run time a table is a plain dict. A value is an array, another table, or a list of tables; None
counts as left out. A table has the keys of its TypedDict and no others, unless the signature says
`AtLeast[Norm]`: then further keys are not looked at. A nested table that has its own sizes for some
axes renames those: `Annotated[Norm, renamed(d="d_out")]`.
"""

import typing
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, NamedTuple, NotRequired, Required, TypeVar

from vtnp._array.xp import unboxed
from vtnp._registry.errors import FormulaError
from vtnp._registry.shapes import Argument, argument_of, parse

T = TypeVar("T")
_OPEN = "further keys are not looked at"
AtLeast = Annotated[T, _OPEN]


class Renamed(NamedTuple):
    """Other names for axes of a table."""

    axes: Mapping[str, str]


def renamed(**axes: str) -> Renamed:
    """Rename axes of a nested table, so that they are bound apart from those of the same name."""
    return Renamed(axes)


class Table(NamedTuple):
    """A TypedDict as it is checked.

    fields: an array, a table or a list of tables for each key. optional: the keys that may be
    missing. is_open: whether further keys may be there.
    """

    fields: Mapping[str, "Argument | Table | list[Table]"]
    optional: frozenset[str]
    is_open: bool


def table_of(hint: Any) -> Table | None:
    """Return the table that a type hint means; None where it means no table.

    Raises TypeError for a value of a TypedDict that is neither array, table nor list of tables.
    """
    annotations: list[Any] = []
    if typing.get_origin(hint) is Annotated:
        hint, *annotations = typing.get_args(hint)
    if not typing.is_typeddict(hint):
        return None
    hints = typing.get_type_hints(hint, include_extras=True)
    fields = {key: _field(f"{hint.__name__}.{key}", each) for key, each in hints.items()}
    table = Table(fields, hint.__optional_keys__, _OPEN in annotations)
    for each in annotations:
        if isinstance(each, Renamed):
            table = _with_renamed_axes(table, each.axes)
    return table


def _with_renamed_axes(table: Table, names: Mapping[str, str]) -> Table:
    def with_renamed(field: Any) -> Any:
        if isinstance(field, Table):
            return _with_renamed_axes(field, names)
        if isinstance(field, list):
            return [_with_renamed_axes(field[0], names)]
        text = " ".join(names.get(axis, axis) for axis in field.shape.text.split())
        return field._replace(shape=parse(text))

    return table._replace(fields={key: with_renamed(field) for key, field in table.fields.items()})


def _field(what: str, hint: Any) -> "Argument | Table | list[Table]":
    while typing.get_origin(hint) in (NotRequired, Required):
        hint = typing.get_args(hint)[0]
    if typing.get_origin(hint) is list:
        within = table_of(typing.get_args(hint)[0])
        if within is not None:
            return [within]
    found = table_of(hint) or argument_of(what, hint)
    if found is None:
        raise TypeError(f"{what}: {hint} is neither an array with a shape nor a table")
    return found


def arrays_in(table: Table, values: Any, place: str) -> Iterator[tuple[Argument, Any]]:
    """Yield every array of params with the table's entry for it, named by its path.

    Raises FormulaError for a table that lacks a key or has an unknown one.
    """
    found = unboxed(values)
    # Not only Mapping: torch's ParameterDict is none.
    if not hasattr(found, "keys"):
        raise FormulaError(f"argument {place}: expected a mapping, got {found!r}")
    for key, field in table.fields.items():
        value = found.get(key)
        if value is None:
            if key not in table.optional:
                raise FormulaError(f"argument {place}: expected a key {key!r}, got {list(found)}")
        elif isinstance(field, Argument):
            yield field._replace(name=f"{place}[{key!r}]"), value
        elif isinstance(field, Table):
            yield from arrays_in(field, value, f"{place}[{key!r}]")
        else:
            if not hasattr(unboxed(value), "__len__") or hasattr(unboxed(value), "keys"):
                raise FormulaError(f"argument {place}[{key!r}]: expected a list, got {value!r}")
            for i, each in enumerate(value):
                yield from arrays_in(field[0], each, f"{place}[{key!r}][{i}]")
    unknown = [] if table.is_open else [key for key in found if key not in table.fields]
    if unknown:
        known = sorted(table.fields)
        raise FormulaError(f"argument {place}: expected no keys but {known}, got {unknown}")


def traits(table: Table, values: Any) -> Any:
    """Return all of params that a check looks at, as something hashable.

    Raises AttributeError or TypeError for what is not a table of arrays.
    """
    found = unboxed(values)
    if not hasattr(found, "keys"):
        raise TypeError
    if table.is_open:
        return tuple(
            [(key, _trait(table.fields[key], found[key])) for key in table.fields if key in found]
        )
    return tuple([(key, _trait(table.fields.get(key), found[key])) for key in found])


def _trait(field: "Argument | Table | list[Table] | None", value: Any) -> Any:
    if value is None or isinstance(field, Argument):
        return trait(value)
    if isinstance(field, Table):
        return traits(field, value)
    if field is None:
        return None
    return tuple([traits(field[0], each) for each in value])


def trait(value: Any) -> Any:
    """Return all of an array that a check looks at.

    Raises AttributeError for what is not an array.
    """
    if value is None:
        return None
    raw = unboxed(value)
    device = getattr(raw, "device", None)
    if type(device).__hash__ is None:  # CuPy's
        device = str(device)
    return type(raw), raw.shape, raw.dtype, device


def shapes_of(table: Table, place: str = "") -> Iterator[tuple[str, str]]:
    """Yield the path and the shape of every array of a table, as pages write them.

    A path is like "attention.W_q"; "?" follows a key that may be missing, "[]" one that holds a
    list.
    """
    for key, field in table.fields.items():
        path = f"{place}{key}{'?' if key in table.optional else ''}"
        if isinstance(field, Argument):
            yield path, field.shape.text
        elif isinstance(field, Table):
            yield from shapes_of(field, f"{path}.")
        else:
            yield from shapes_of(field[0], f"{path}[].")
