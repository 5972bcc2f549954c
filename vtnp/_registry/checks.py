"""The check of a call of a formula against its signature."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from vtnp._array.xp import device, is_subclassed, plain, unboxed, value_namespace
from vtnp._registry.errors import FormulaError, ShapeError
from vtnp._registry.expressions import evaluated, names_in
from vtnp._registry.params import Table, arrays_in
from vtnp._registry.shapes import (
    Argument,
    Bound,
    bind,
    bound_as_text,
    dtype_name,
    has_other_meaning,
    is_unknown,
    kind_of,
)

Arrays = list[tuple[Argument, Any]]
_FLOATS = ("float16", "float32", "float64", "bfloat16")


class Like(NamedTuple):
    """The argument `like`: the kinds of dtype that it may have, and whether it may be left out."""

    kinds: tuple[str, ...]
    optional: bool


class Signature(NamedTuple):
    """A formula's arrays, sequences of arrays and tables of arrays, as its signature states them.

    like: an array of any shape, whose library, device and, for results of floats, dtype the result
    has.
    """

    arguments: tuple[Argument, ...]
    returns: tuple[Argument, ...]
    tables: Mapping[str, Table]
    sequences: tuple[Argument, ...] = ()
    like: Like | None = None


def check_arguments(what: str, signature: Signature, arguments: Mapping[str, Any]) -> Bound:
    """Raise an error unless the arrays fit the signature; return the axes bound.

    what: the formula and its page, as errors name them.
    """
    arrays = list(_arrays(what, signature, arguments))
    if signature.like is not None:
        _check_like(what, signature.like, arguments.get("like"))
    bound: Bound = {}
    # Masks last, whatever the order of keywords: they may lack the batch axes that others bind.
    for argument, value in sorted(arrays, key=lambda pair: pair[0].shape.broadcasts):
        _check_is_array(f"{what}: argument {argument.name}", (argument.kind,), value)
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


def _arrays(what: str, signature: Signature, arguments: Mapping[str, Any]) -> Iterator[Any]:
    """Yield each array of a call with the signature's entry for it."""
    for argument in signature.arguments:
        if argument.name in arguments:
            value = arguments[argument.name]
            if value is not None or not argument.optional:
                yield argument, value
    for argument in signature.sequences:
        if argument.name in arguments:
            values = unboxed(arguments[argument.name])
            if not isinstance(values, list | tuple):
                got = f"expected a list or tuple of arrays, got {type(values).__name__}"
                raise TypeError(f"{what}: argument {argument.name}: {got}")
            for i, value in enumerate(values):
                yield argument._replace(name=f"{argument.name}[{i}]"), value
    for name, table in signature.tables.items():
        if name in arguments:
            yield from arrays_in(table, arguments[name], name)


def _check_like(what: str, like: Like, value: Any) -> None:
    if value is not None or not like.optional:
        _check_is_array(f"{what}: argument like", like.kinds, value)


def _check_is_array(what: str, kinds: Collection[str], value: Any) -> None:
    raw = unboxed(value)
    if not _is_array(raw):
        raise TypeError(f"{what}: expected an array, got {type(raw).__name__}")
    if has_other_meaning(raw):
        raise TypeError(f"{what}: expected a plain array, got {type(raw).__name__}")
    kind, name = kind_of(raw.dtype), dtype_name(raw.dtype)
    if kind not in kinds:
        raise TypeError(f"{what}: expected a {' or '.join(kinds)} dtype, got {name}")
    if kind == "float" and name not in _FLOATS:
        known = f"{', '.join(_FLOATS[:-1])} or {_FLOATS[-1]}"
        raise TypeError(f"{what}: expected one of the dtypes {known}, got {name}")


def _is_array(value: Any) -> bool:
    if not hasattr(value, "dtype") or not hasattr(value, "shape"):
        return False
    try:  # a table of pandas has both, and a sparse matrix of scipy
        value_namespace(value)
    except TypeError:
        return False
    return True


def _check_same(what: str, of_what: str, arrays: Arrays, of: Callable[[Any], str]) -> None:
    first: dict[str, str] = {}
    for argument, value in arrays:
        first.setdefault(of(value), argument.name)
    if len(first) > 1:
        each = ", ".join(f"{name}: {kind}" for kind, name in first.items())
        raise TypeError(f"{what}: arguments mix {of_what} ({each})")


def _library(value: Any) -> str:
    return str(value_namespace(value).__name__).removeprefix("array_api_compat.")


def plain_arguments(signature: Signature, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the arguments with plain arrays in place of those of NumPy's subclasses.

    Where there are none, these are the same arguments.
    """
    arrays = [value for _, value in _arrays("", signature, arguments)]
    if not any(map(is_subclassed, arrays)):
        return arguments
    names = {each.name for each in (*signature.arguments, *signature.sequences)}
    names |= signature.tables.keys()
    return {
        name: _all_plain(value) if name in names else value for name, value in arguments.items()
    }


def _all_plain(values: Any) -> Any:
    found = unboxed(values)
    if hasattr(found, "keys"):
        return {key: _all_plain(values[key]) for key in found}
    if isinstance(found, list | tuple):
        return [_all_plain(values[i]) for i in range(len(found))]
    return plain(values)


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
