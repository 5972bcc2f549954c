"""`@spec(id)`: registers a formula and holds every call to the shapes in its signature."""

import inspect
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from types import NoneType
from typing import Any, NamedTuple, ParamSpec, TypeVar

from vtnp._array.gradients import unboxed, value_namespace
from vtnp._array.xp import device
from vtnp._registry.errors import ShapeError
from vtnp._registry.options import options_of
from vtnp._registry.params import Keys
from vtnp._registry.shapes import Argument, Bound, bind, dtype_name, kind_of, parse, told

P = ParamSpec("P")
R = TypeVar("R")

_checking: ContextVar[bool] = ContextVar("vtnp_checking", default=True)
_SEEN_AT_MOST = 4096  # shapes of calls remembered as right, per formula


class Signature(NamedTuple):
    """A formula's arrays as its signature states them."""

    arguments: tuple[Argument, ...]
    returns: tuple[Argument, ...]


class Entry(NamedTuple):
    """What the registry holds of a formula."""

    id: str
    module: str
    function: Callable[..., Any]
    signature: Signature

    @property
    def page(self) -> str:
        return f"spec/{self.module}/{self.id}.md"


registry: dict[str, Entry] = {}


@contextmanager
def unchecked() -> Iterator[None]:
    """Switch the checks of arrays off within a `with` block, in this thread or task.

    A generator that yields within the block leaves them off for whoever runs it.
    """
    token = _checking.set(False)
    try:
        yield
    finally:
        _checking.reset(token)


def spec(id: str, *, params: Keys | None = None) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Register a function as the formula `id` and check each call against its signature.

    params: the keys of its argument of that name, which a signature cannot tell.
    Raises ShapeError where axes do not fit, TypeError where an array is none, has the wrong kind of
    dtype, or where dtypes, libraries or devices are mixed, and FormulaError for an option of
    another type than the signature's, or params with other keys.
    """

    def register(function: Callable[P, R]) -> Callable[P, R]:
        if id in registry:
            raise ValueError(f"formula {id!r} is registered twice")
        if ("params" in function.__annotations__) != (params is not None):
            raise TypeError(f"formula {id!r}: an argument params and its keys go together")
        signature = read_signature(function)
        names = tuple(inspect.signature(function).parameters)
        by_name = {argument.name: argument for argument in signature.arguments}
        by_position = [by_name.get(name) for name in names]
        read_options = options_of(function, id, by_name, params)
        seen: set[Any] = set()

        @wraps(function)
        def formula(*args: P.args, **kwargs: P.kwargs) -> R:
            args = read_options(args, kwargs)  # type: ignore[assignment]
            if not _checking.get():
                return function(*args, **kwargs)
            given = [
                (argument, value)
                for argument, value in zip(by_position, args, strict=False)
                if argument is not None and (value is not None or not argument.optional)
            ]
            if kwargs:
                given += [
                    (argument, value)
                    for name, value in kwargs.items()
                    if (argument := by_name.get(name))
                    if value is not None or not argument.optional
                ]
            key = tuple([_trait(argument, value) for argument, value in given])
            bound: Bound | None = None
            if key not in seen:
                bound = check_arguments(entry, given)
            result = function(*args, **kwargs)
            if bound is not None:
                check_result(entry, result, bound)
                if len(seen) >= _SEEN_AT_MOST:
                    seen.clear()
                seen.add(key)
            return result

        module = function.__module__.rpartition(".")[2]
        entry = registry[id] = Entry(id, module, formula, signature)
        return formula

    return register


def _trait(argument: Argument, value: Any) -> Any:
    """Return all of an argument that the check looks at, or a key that is never remembered."""
    try:
        raw = unboxed(value)
        return argument.name, type(raw), raw.shape, raw.dtype, getattr(raw, "device", None)
    except AttributeError:
        return object()


def read_signature(function: Callable[..., Any]) -> Signature:
    """Read the array arguments and results, with kind and shape, out of a signature."""
    hints = typing.get_type_hints(function)
    returned = hints.pop("return", None)
    results = typing.get_args(returned) if typing.get_origin(returned) is tuple else (returned,)
    arguments = [argument for name, hint in hints.items() if (argument := _argument(name, hint))]
    returns = [
        argument
        for i, hint in enumerate(results)
        if (argument := _argument(f"result {i}" if len(results) > 1 else "result", hint))
    ]
    return Signature(tuple(arguments), tuple(returns))


def _argument(name: str, hint: Any) -> Argument | None:
    for option in typing.get_args(hint) or (hint,):
        text = getattr(option, "dim_str", None)
        if option is not NoneType and text is not None:
            optional = NoneType in typing.get_args(hint)
            return Argument(name, kind_of(option.dtypes[-1]), parse(text), optional)
    return None


def check_arguments(entry: Entry, given: list[tuple[Argument, Any]]) -> Bound:
    """Raise TypeError or ShapeError unless the arrays fit the signature; return the axes bound."""
    bound: Bound = {}
    # Masks last, whatever the order of keywords: they may lack the batch axes that others bind.
    for argument, value in sorted(given, key=lambda pair: pair[0].shape.broadcasts):
        _check_is_array(entry, argument, value)
        wrong = bind(argument.shape, tuple(value.shape), bound)
        if wrong is not None:
            raise ShapeError(
                f"{entry.id} ({entry.page}): argument {argument.name}: expected axes "
                f'"{argument.shape.text}", got shape {tuple(value.shape)}: {wrong} '
                f"(axes bound so far: {told(bound)})"
            )
    floats = [(argument, value) for argument, value in given if argument.kind == "float"]
    _check_same(entry, "dtypes", floats, lambda value: dtype_name(value.dtype))
    _check_same(entry, "array libraries", given, _library)
    # What JAX traces is on no device yet, and may stand beside constants that are.
    placed = [(argument, value) for argument, value in given if device(value) is not None]
    _check_same(entry, "devices", placed, lambda value: str(device(value)))
    return bound


def _check_is_array(entry: Entry, argument: Argument, value: Any) -> None:
    what = f"{entry.id} ({entry.page}): argument {argument.name}"
    raw = unboxed(value)
    if not hasattr(raw, "dtype") or not hasattr(raw, "shape"):
        raise TypeError(f"{what}: expected an array, got {type(raw).__name__}")
    if type(raw).__name__ in {"matrix", "MaskedArray"}:
        # Their operators mean something else, and would change the formula without a word.
        raise TypeError(f"{what}: expected a plain array, got {type(raw).__name__}")
    if kind_of(raw.dtype) != argument.kind:
        raise TypeError(f"{what}: expected a {argument.kind} dtype, got {dtype_name(raw.dtype)}")


def _check_same(
    entry: Entry, what: str, given: list[tuple[Argument, Any]], of: Callable[[Any], str]
) -> None:
    if len({of(value) for _, value in given}) > 1:
        each = ", ".join(f"{argument.name}: {of(value)}" for argument, value in given)
        raise TypeError(f"{entry.id} ({entry.page}): arguments mix {what} ({each})")


def _library(value: Any) -> str:
    return str(value_namespace(value).__name__).removeprefix("array_api_compat.")


def check_result(entry: Entry, result: Any, bound: Bound) -> None:
    """Raise ShapeError where the formula itself breaks the shape it promises."""
    values = result if isinstance(result, tuple) else (result,)
    for argument, value in zip(entry.signature.returns, values, strict=False):
        wrong = bind(argument.shape, tuple(value.shape), bound)
        if wrong is not None:
            raise ShapeError(
                f"{entry.id} ({entry.page}): {argument.name}: promised axes "
                f'"{argument.shape.text}", made shape {tuple(value.shape)}: {wrong}'
            )
