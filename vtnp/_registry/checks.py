"""The check of a call of a formula against its signature."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from vtnp._array.xp import device, unboxed, value_namespace
from vtnp._registry.errors import FormulaError, ShapeError
from vtnp._registry.expressions import evaluated, names_in
from vtnp._registry.params import Table, arrays_in
from vtnp._registry.shapes import (
    Argument,
    Bound,
    bind,
    bound_as_text,
    dtype_name,
    is_unknown,
    kind_of,
)

Arrays = list[tuple[Argument, Any]]


class Signature(NamedTuple):
    """A formula's arrays and tables of arrays, as its signature states them."""

    arguments: tuple[Argument, ...]
    returns: tuple[Argument, ...]
    tables: Mapping[str, Table]


def check_arguments(what: str, signature: Signature, arguments: Mapping[str, Any]) -> Bound:
    """Raise an error unless the arrays fit the signature; return the axes bound.

    what: the formula and its page, as errors name them.
    """
    arrays: Arrays = []
    for argument in signature.arguments:
        if argument.name in arguments:
            value = arguments[argument.name]
            if value is not None or not argument.optional:
                arrays.append((argument, value))
    for name, table in signature.tables.items():
        if name in arguments:
            arrays += arrays_in(table, arguments[name], name)
    bound: Bound = {}
    # Masks last, whatever the order of keywords: they may lack the batch axes that others bind.
    for argument, value in sorted(arrays, key=lambda pair: pair[0].shape.broadcasts):
        _check_is_array(what, argument, value)
        wrong = bind(argument.shape, tuple(value.shape), bound)
        if wrong is not None:
            raise ShapeError(
                f"{what}: argument {argument.name}: expected axes "
                f'"{argument.shape.text}", got shape {tuple(value.shape)}: {wrong} '
                f"(axes bound so far: {bound_as_text(bound)})"
            )
    floats = [(argument, value) for argument, value in arrays if argument.kind == "float"]
    _check_same(what, "dtypes", floats, lambda value: dtype_name(value.dtype))
    _check_same(what, "array libraries", arrays, _library)
    # What JAX traces is on no device yet, and may be combined with constants that are on one.
    placed = [(argument, value) for argument, value in arrays if device(value) is not None]
    _check_same(what, "devices", placed, lambda value: str(device(value)))
    return bound


def _check_is_array(what: str, argument: Argument, value: Any) -> None:
    what = f"{what}: argument {argument.name}"
    raw = unboxed(value)
    if not hasattr(raw, "dtype") or not hasattr(raw, "shape"):
        raise TypeError(f"{what}: expected an array, got {type(raw).__name__}")
    if type(raw).__name__ in {"matrix", "MaskedArray"}:
        # Their operators mean something else, and would change the formula without a word.
        raise TypeError(f"{what}: expected a plain array, got {type(raw).__name__}")
    if kind_of(raw.dtype) != argument.kind:
        raise TypeError(f"{what}: expected a {argument.kind} dtype, got {dtype_name(raw.dtype)}")


def _check_same(what: str, of_what: str, arrays: Arrays, of: Callable[[Any], str]) -> None:
    first: dict[str, str] = {}
    for argument, value in arrays:
        first.setdefault(of(value), argument.name)
    if len(first) > 1:
        each = ", ".join(f"{name}: {kind}" for kind, name in first.items())
        raise TypeError(f"{what}: arguments mix {of_what} ({each})")


def _library(value: Any) -> str:
    return str(value_namespace(value).__name__).removeprefix("array_api_compat.")


def check_conditions(what: str, conditions: Sequence[str], letters: Mapping[str, Any]) -> None:
    """Raise FormulaError for a condition that does not hold.

    letters: arguments, options and axes by name. A condition counts as met on an axis of unknown
    length (Dask has them after a data-dependent operation), and on an axis of an array that was
    left out.
    """
    for condition in conditions:
        named = {name: letters[name] for name in sorted(names_in(condition)) if name in letters}
        if any(isinstance(value, float) and is_unknown(value) for value in named.values()):
            continue
        try:
            holds = evaluated(condition, named)
        except NameError:
            continue
        if not holds:
            values = ", ".join(f"{name} = {_shown(value)}" for name, value in named.items())
            raise FormulaError(f"{what}: expected {condition}, got {values}")


def _shown(value: Any) -> str:
    raw = unboxed(value)
    if hasattr(raw, "shape"):
        return f"an array {tuple(raw.shape)}"
    if hasattr(raw, "keys"):
        return "{" + ", ".join(f"{key!r}: {_shown_entry(raw[key])}" for key in raw) + "}"
    return repr(raw)


def _shown_entry(value: Any) -> str:
    raw = unboxed(value)
    if hasattr(raw, "keys"):
        return "{...}"
    return "[...]" if isinstance(raw, list | tuple) else _shown(raw)


def check_result(what: str, signature: Signature, result: Any, bound: Bound) -> None:
    """Raise ShapeError where the formula itself breaks the shape it promises."""
    values = result if isinstance(result, tuple) else (result,)
    for argument, value in zip(signature.returns, values, strict=False):
        wrong = bind(argument.shape, tuple(value.shape), bound)
        if wrong is not None:
            raise ShapeError(
                f"{what}: {argument.name}: expected axes "
                f'"{argument.shape.text}", got shape {tuple(value.shape)}: {wrong}'
            )
