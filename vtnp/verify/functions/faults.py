"""Faults that any code can have, together with a formula: no page needs to list them.

An argument or result is reversed or rolled along an axis, two arguments are exchanged, an argument
is left out or taken for zeros, ones or the identity, an option has no effect, a factor is missing.
The formula with one such fault is another reference; one that gives the candidate's numbers on
every trial, those included where the candidate is right, is named.
"""

import inspect
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vtnp._array.trees import tree_leaves, tree_replaced
from vtnp._registry.shapes import Shape
from vtnp._registry.spec import Entry
from vtnp.verify.functions.diagnose import Tried, reproduces
from vtnp.verify.handlers import Function
from vtnp.verify.judge import as_list, largest, results_of
from vtnp.verify.report import Finding

Array = NDArray[Any]
_SECONDS = 4.0
_CHANNELS = frozenset({"C", "d", "d_k", "d_v"})
_CHANNEL_ORDER = "check the order of the channels, such as RGB and BGR, or a table of them"


class Fault(NamedTuple):
    """A formula with one fault, and how it is reported."""

    title: str
    fix: str
    function: Function


def faults(entry: Entry, tried: Sequence[Tried]) -> list[Finding]:
    """Return the faults that give the candidate's numbers, as one finding."""
    end = time.thread_time() + _SECONDS
    found: list[Fault] = []
    for fault in _every_fault(entry, tried):
        if all(reproduces(fault.function, each) for each in tried):
            found.append(fault)
        if time.thread_time() > end:
            break
    if not found:
        return []
    first, *others = found
    explanation = f"with that, the formula gives the candidate's numbers in {len(tried)} trials."
    equivalents = tuple(each.title for each in others)
    return [Finding(first.title, explanation, first.fix, equivalents=equivalents)]


def _every_fault(entry: Entry, tried: Sequence[Tried]) -> Iterator[Fault]:
    yield from _ignored_options(entry, tried)
    yield from _moved_axes(entry)
    yield from _exchanged(entry)
    yield from _replaced_arguments(entry, tried)
    yield from _moved_results(entry)
    yield from _factor(entry, tried)


# --- Options --------------------------------------------------------------------------------------


def _ignored_options(entry: Entry, tried: Sequence[Tried]) -> Iterator[Fault]:
    """An option always has one of the values that occur."""
    arrays = {each.name for each in entry.signature.arguments} | {*entry.signature.tables}
    for name, parameter in inspect.signature(entry.function).parameters.items():
        every = [each.trial.arguments.get(name, parameter.default) for each in tried]
        values = {repr(value): value for value in every}
        if name in arrays or len(values) < 2 or parameter.empty in values.values():
            continue
        for text, value in values.items():
            fix = f"it computes with {name}={text}, whatever is asked for"
            function = partial(_with, entry.function, {name: value}, name)
            yield Fault(f"ignores {name}", fix, function)


def _with(function: Function, changed: Mapping[str, Any], without: str, **arguments: Any) -> Any:
    rest = {name: x for name, x in arguments.items() if name != without}
    return function(**{**rest, **changed})


# --- Axes -----------------------------------------------------------------------------------------


def _axes(shape: Shape) -> list[tuple[str, int]]:
    """Return the letters of a shape that are not batch axes, and where they are."""
    before = list(enumerate(shape.before))
    after = [(i - len(shape.after), axis) for i, axis in enumerate(shape.after)]
    return [(axis, i) for i, axis in (*before, *after)]


_MOVES: Mapping[str, Callable[..., Array]] = {
    "reversed": np.flip,
    "rolled by one place": lambda x, axis: np.roll(x, 1, axis),
    "rolled back by one place": lambda x, axis: np.roll(x, -1, axis),
}


def _moved_axes(entry: Entry) -> Iterator[Fault]:
    for argument in entry.signature.arguments:
        for letter, axis in _axes(argument.shape):
            for how, move in _MOVES.items():
                yield Fault(
                    f"{argument.name} {how} along axis {letter}",
                    _CHANNEL_ORDER if letter in _CHANNELS else "check where it begins and ends",
                    partial(_changed, entry.function, argument.name, partial(move, axis=axis)),
                )


def _moved_results(entry: Entry) -> Iterator[Fault]:
    for i, returned in enumerate(entry.signature.returns):
        for letter, axis in _axes(returned.shape):
            for how, move in _MOVES.items():
                yield Fault(
                    f"result {returned.name} {how} along axis {letter}",
                    "check the order in which results are put together",
                    partial(_changed_result, entry.function, i, partial(move, axis=axis)),
                )


def _changed_result(
    function: Function, i: int, change: Callable[[Array], Array], **arguments: Any
) -> Any:
    results = as_list(function(**arguments))
    return tuple(change(np.asarray(y)) if j == i else y for j, y in enumerate(results))


# --- Arguments ------------------------------------------------------------------------------------


def _exchanged(entry: Entry) -> Iterator[Fault]:
    """Two arguments of one kind in each other's place, or one read twice."""
    names = [each.name for each in entry.signature.arguments if each.kind == "float"]
    for one, other in combinations(names, 2):
        yield Fault(
            f"{one} and {other} exchanged", "check the order of the arguments",
            partial(_read_as, entry.function, {one: other, other: one}),
        )  # fmt: skip
        for read, instead in ((one, other), (other, one)):
            yield Fault(
                f"{read} read in place of {instead}", f"check where {instead} is used",
                partial(_read_as, entry.function, {instead: read}),
            )  # fmt: skip


def _read_as(function: Function, sources: Mapping[str, str], **arguments: Any) -> Any:
    taken = {name: arguments[source] for name, source in sources.items() if source in arguments}
    return function(**{**arguments, **taken})


def _identity(x: Array) -> Array:
    if x.ndim < 2:
        raise ValueError("no matrix")
    return np.broadcast_to(np.eye(*x.shape[-2:], dtype=x.dtype), x.shape)


_REPLACEMENTS: Mapping[str, Callable[[Array], Array]] = {
    "the identity": _identity,
    "ones": np.ones_like,
    "zeros": np.zeros_like,
}


def _replaced_arguments(entry: Entry, tried: Sequence[Tried]) -> Iterator[Fault]:
    """An array, one in params too, has no effect."""
    arguments = [each.trial.arguments for each in tried]
    paths = {path: x for each in arguments for path, x in tree_leaves(dict(each))}
    optional = [name for each in arguments for name, x in each.items() if x is None]
    for path, x in paths.items():
        if x.dtype.kind == "b" or path in optional:
            fix = f"check whether {path} is used at all"
            yield Fault(f"ignores {path}", fix, partial(_with, entry.function, {}, path))
        if x.dtype.kind == "f":
            for what, make in _REPLACEMENTS.items():
                yield Fault(
                    f"{path} taken for {what}", f"check whether {path} is used at all",
                    partial(_changed, entry.function, path, make),
                )  # fmt: skip


def _changed(
    function: Function, path: str, change: Callable[[Array], Array], **arguments: Any
) -> Any:
    """Call a function with one array changed, where there is one at that path."""
    leaves = dict(tree_leaves(arguments))
    if path not in leaves:
        return function(**arguments)
    return function(**tree_replaced(arguments, {path: change(leaves[path])}))


# --- A factor -------------------------------------------------------------------------------------


def _factor(entry: Entry, tried: Sequence[Tried]) -> Iterator[Fault]:
    """All results are the formula's times one number, estimated from the first wrong trial."""
    wrong = next(each for each in tried if not each.right)
    exact = results_of(entry.function, wrong.trial.arguments)[: len(wrong.got)]
    x, y = exact[0].astype(np.float64), np.asarray(wrong.got[0], np.float64)
    is_sound = x.shape == y.shape and bool(np.all(np.isfinite(x)) and np.all(np.isfinite(y)))
    if not is_sound or exact[0].dtype.kind != "f" or not largest(x):
        return
    factor = float(np.sum(x * y) / np.sum(x * x))
    title = f"results are {factor:.6g} times those of the formula"
    fix = "look for a scale, a mean in place of a sum, or a constant"
    yield Fault(title, fix, partial(_scaled, entry.function, factor))


def _scaled(function: Function, factor: float, **arguments: Any) -> Any:
    results = as_list(function(**arguments))
    return tuple(factor * y if np.asarray(y).dtype.kind == "f" else y for y in results)
