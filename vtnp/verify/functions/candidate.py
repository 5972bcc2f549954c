"""A candidate, called as the formula is: with NumPy's arrays, in the formula's layout."""

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtnp._array.trees import tree_leaves, tree_map
from vtnp._array.xp import is_boxed
from vtnp._registry.errors import UsageError
from vtnp._registry.shapes import Bound, bind
from vtnp._registry.spec import Entry
from vtnp.verify.errors import CandidateError, NotTakenError, RaisedError, told
from vtnp.verify.functions.layout import Layout
from vtnp.verify.functions.libraries import Library
from vtnp.verify.judge import is_sizes, several

Arguments = Mapping[str, Any]
_LIKE = "like"  # an argument that only says in which library to answer
_REAL = "biuf"  # kinds of dtype
_ALIASES = {"q": "query", "k": "key", "v": "value", "x": "input", "z": "x"}


class Candidate:
    """Somebody's implementation of a formula.

    names: the formula's argument, or the letter of an axis, -> the candidate's parameter. A
    parameter called as a letter is given that axis' size, too. extra: further keyword arguments,
    the same in every call. options: of the formula, that the candidate has fixed. calls: is told
    True when it begins to work, and False when it has ended.
    Raises UsageError where an argument that the formula needs finds no place, or an option is none.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        entry: Entry,
        library: Library,
        layout: Layout,
        *,
        names: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        calls: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self._calls, self._depth = calls, 0
        self.function, self.entry, self.library, self.layout = function, entry, library, layout
        self.extra, self.options = dict(extra or {}), dict(options or {})
        _complain_of_options(entry, self.options)
        letters = {*_letters(entry), *(layout.batch or ())}
        self.sized = _sized(function, letters, dict(names or {}))
        of_arguments = {k: v for k, v in (names or {}).items() if k not in self.sized}
        taken = {*self.extra, *self.sized.values()}
        self.places = _places(function, entry, of_arguments, taken, self.options)
        self.needed = _needed(function, entry, self.places)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Mark what the candidate does, whose results some libraries wait for only when read."""
        self._depth += 1
        if self._depth == 1:
            self._calls(True)  # noqa: FBT003
        try:
            yield
        finally:
            self._depth -= 1
            if self._depth == 0:
                self._calls(False)  # noqa: FBT003

    def __call__(self, arguments: Arguments, dtype: str = "float64") -> list[NDArray[Any]]:
        """Return its results as NumPy's arrays."""
        return self.read(self.raw(self.there(arguments, dtype)), arguments)

    def taken(self, arguments: Arguments) -> dict[str, Any]:
        """Set what it has fixed, and leave out optional arguments that it has no place for.

        Raises NotTakenError where one is missing that it cannot do without.
        """
        kept = {*self.places, *self.options, _LIKE}
        every = {**self.needed, **arguments, **self.options}
        taken = {name: value for name, value in every.items() if name in kept}
        self._complain_of_none(taken)
        return taken

    def _complain_of_none(self, arguments: Arguments) -> None:
        for name in self.needed:
            if arguments[name] is None:
                raise NotTakenError(name)

    def sizes(self, arguments: Arguments) -> dict[str, int]:
        """Return the sizes of the axes, those of the batch by the layout's names."""
        bound: Bound = {}
        for argument in self.entry.signature.arguments:
            x = arguments.get(argument.name)
            if x is not None:
                bind(argument.shape, x.shape, bound)
        sizes = {axis: size for axis, size in bound.items() if isinstance(size, int)}
        batch = next((row for row in bound.values() if isinstance(row, tuple)), ())
        return sizes | dict(zip(self.layout.batch or (), batch, strict=False))

    def there(self, arguments: Arguments, dtype: str) -> dict[str, Any]:
        """Bring arguments to the candidate's library and layout.

        Raises NotTakenError for one that it has no place for, has fixed otherwise, or needs.
        """
        for name in {**arguments, **self.options}:
            is_open = name in self.places and name not in self.options
            if not (is_open or self._is_meant(name, arguments)):
                raise NotTakenError(name)
        arguments = {**self.needed, **arguments}
        self._complain_of_none(arguments)
        if any(is_boxed(x) for _, x in tree_leaves(dict(arguments))):
            raise NotTakenError("autograd's boxes")
        brought = {
            name: self._brought(name, value, dtype)
            for name, value in arguments.items()
            if name in self.places
        }
        return brought | self.given_sizes(arguments)

    def given_sizes(self, arguments: Arguments) -> dict[str, int]:
        """Return the sizes that it takes as arguments, by the letters of their axes."""
        sizes = self.sizes(arguments) if self.sized else {}
        return {letter: sizes[letter] for letter in self.sized}

    def _brought(self, name: str, value: Any, dtype: str) -> Any:
        def there(x: Any) -> Any:
            return self.library.there(self.layout.there(name, np.asarray(x)), dtype)

        return tree_map(there, value)

    def _is_meant(self, name: str, arguments: Arguments) -> bool:
        """Tell whether an argument is what the candidate goes by anyway."""
        if name == _LIKE:  # says which library to answer in, which a candidate knows
            return True
        default = inspect.signature(self.entry.function).parameters[name].default
        value, fixed = arguments.get(name, default), self.options.get(name, default)
        return value is fixed or (not hasattr(value, "dtype") and bool(value == fixed))

    def raw(self, brought: Arguments) -> Sequence[Any]:
        """Call it with arguments that have been brought to its library.

        Raises RaisedError where it raises, CandidateError for another number of arrays.
        """
        positional, named = [], dict(self.extra)
        for name, place in (self.places | self.sized).items():
            if name not in brought:
                continue
            if place is None:
                positional.append(brought[name])
            else:
                named[place] = brought[name]
        try:
            with self.at_work():
                results = self.function(*positional, **named)
        except (Exception, SystemExit) as error:
            raise RaisedError(f"raised {told(error)}") from error
        returned = several(results)
        meant = len(self.entry.signature.returns)
        # Sizes may follow the arrays, as in the formula, or may be left out.
        arrays = [y for y in returned if not is_sizes(y)]
        if len(arrays) != meant or any(is_sizes(y) for y in returned[:meant]):
            raise CandidateError(f"returned {len(returned)} results where {meant} are meant")
        return returned

    def read(self, results: Sequence[Any], arguments: Arguments) -> list[NDArray[Any]]:
        """Bring what it returned for arguments to NumPy and the formula's layout.

        Raises CandidateError for what are no real numbers, or cannot be read.
        """
        returns, sizes = self.entry.signature.returns, self.sizes(arguments)
        arrays = zip(returns, map(self._numbers, results), strict=False)
        read = [self.layout.back(each.name, y, sizes) for each, y in arrays]
        return read + [np.asarray(y) for y in results[len(returns) :]]

    def _numbers(self, y: Any) -> NDArray[Any]:
        try:
            with self.at_work():
                numbers = self.library.back(y)
        except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
            raise CandidateError(f"returned what cannot be read: {told(error)}") from error
        if numbers.dtype.kind not in _REAL:
            raise CandidateError(
                f"returned {self.library.dtype_of(y)}, where real numbers are meant"
            )
        return numbers


def _letters(entry: Entry) -> set[str]:
    """Return the letters of a formula's axes that are no names of its arguments."""
    shapes = [argument.shape for argument in entry.signature.arguments]
    letters = {axis for shape in shapes for axis in shape.before + shape.after}
    arguments = inspect.signature(entry.function).parameters
    return {axis for axis in letters if not axis.isdigit() and axis not in arguments}


def _sized(
    function: Callable[..., Any], letters: set[str], names: dict[str, str]
) -> dict[str, str]:
    """Tell which parameters are given which axes' sizes: those named so, or called as letters."""
    told = {letter: names[letter] for letter in names if letter in letters}
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # written in C: it does not tell
        return told
    free = [name for name in parameters if name not in {*names.values()}]
    return {name: name for name in free if name in letters and name not in told} | told


def _complain_of_options(entry: Entry, options: Collection[str]) -> None:
    """Raise UsageError for what is no option of the formula."""
    arrays = {argument.name for argument in entry.signature.arguments}
    known = [name for name in inspect.signature(entry.function).parameters if name not in arrays]
    unknown = [name for name in options if name not in known]
    if unknown:
        there = ", ".join(known) or "no options"
        raise UsageError(f"options: {entry.id} has no {', '.join(unknown)}; it has {there}")


def _places(
    function: Callable[..., Any],
    entry: Entry,
    names: dict[str, str],
    taken: Collection[str],
    fixed: Collection[str],
) -> dict[str, str | None]:
    """Tell where each argument of the formula goes: a parameter's name, or None for the next."""
    formula = inspect.signature(entry.function).parameters
    unknown = [name for name in names if name not in formula]
    if unknown:
        raise UsageError(f"names: {entry.id} has no {', '.join(unknown)}: {', '.join(formula)}")
    try:
        parameters = dict(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # written in C: it does not tell
        needed = [name for name, each in formula.items() if each.default is each.empty]
        free = [name for name in needed if name not in fixed]
        return {name: names.get(name) for name in free} | dict(names)
    free = [
        name
        for name, each in parameters.items()
        if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL) and name not in taken
    ]
    places: dict[str, str | None] = {}
    for name in formula:
        place = names.get(name) or _same_word(name, free)
        if place:
            places[name] = place
            free = [each for each in free if each != place]
    for name, each in formula.items():
        is_needed = each.default is each.empty and name != _LIKE and name not in fixed
        if name not in places and is_needed:
            places[name] = _next(entry, name, parameters, free)
    return _in_order(places, parameters)


def _needed(
    function: Callable[..., Any], entry: Entry, places: Mapping[str, str | None]
) -> dict[str, Any]:
    """Return the formula's default of what the formula can do without, and the function cannot."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # written in C: it does not tell
        return {}
    formula = inspect.signature(entry.function).parameters
    needed = {name for name, each in parameters.items() if each.default is each.empty}
    return {
        name: formula[name].default
        for name, place in places.items()
        if place in needed and formula[name].default is not inspect.Parameter.empty
    }


def _next(
    entry: Entry, name: str, parameters: Mapping[str, inspect.Parameter], free: list[str]
) -> str | None:
    """Take the next free parameter for an argument that none is called like."""
    kinds = {each.kind for each in parameters.values()}
    any_name = inspect.Parameter.VAR_KEYWORD in kinds
    for word in free:
        each = parameters[word]
        is_needed = each.default is each.empty or not any_name
        if each.kind is not each.KEYWORD_ONLY and is_needed:
            free.remove(word)
            return word
    if any_name:
        return name
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return None
    arrays = {argument.name for argument in entry.signature.arguments}
    fixed = "" if name in arrays else f", or options={{{name!r}: ...}} where it is fixed"
    raise UsageError(
        f"{entry.id} needs {name}, and the candidate's parameters "
        f"({', '.join(parameters)}) have no place for it: tell by names={{{name!r}: ...}}{fixed}"
    )


def _in_order(
    places: Mapping[str, str | None], parameters: Mapping[str, inspect.Parameter]
) -> dict[str, str | None]:
    """Sort arguments as the candidate's parameters are; None for those passed by position."""
    order = {word: i for i, word in enumerate(parameters)}
    kinds = [each.kind for each in parameters.values()]
    by_position = {word for word, each in parameters.items() if each.kind is each.POSITIONAL_ONLY}
    if None in places.values():  # what precedes *args, too
        by_position |= set(list(order)[: kinds.index(inspect.Parameter.VAR_POSITIONAL)])
    ordered = sorted(places, key=lambda name: order.get(places[name] or "", len(order)))
    return {name: None if places[name] in by_position else places[name] for name in ordered}


def _same_word(name: str, free: Sequence[str]) -> str | None:
    wanted = {name.lower(), _ALIASES.get(name.lower(), name.lower())}
    return next((each for each in free if each.lower() in wanted), None)
