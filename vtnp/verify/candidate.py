"""A candidate, called as the formula is: with NumPy's arrays, in the formula's layout."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtnp._shapes import Bound, bind
from vtnp._spec import Entry
from vtnp._usage import UsageError
from vtnp._xp import is_boxed
from vtnp.trees import leaves, mapped
from vtnp.verify.errors import CandidateError, NotTakenError
from vtnp.verify.layout import Layout
from vtnp.verify.libraries import Library

Arguments = Mapping[str, Any]
_ALIASES = {"q": "query", "k": "key", "v": "value", "x": "input", "z": "x"}


class Candidate:
    """Somebody's implementation of a formula.

    names: the formula's argument -> the candidate's parameter. extra: further keyword arguments,
    the same in every call.
    Raises UsageError where an argument that the formula needs finds no place.
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
    ) -> None:
        self.function, self.entry, self.library, self.layout = function, entry, library, layout
        self.extra = dict(extra or {})
        self.places = _places(function, entry, dict(names or {}), self.extra)

    def __call__(self, arguments: Arguments, dtype: str = "float64") -> list[NDArray[Any]]:
        """Return its results as NumPy's arrays."""
        sizes = self.sizes(arguments)
        return [
            self.back(i, y, sizes) for i, y in enumerate(self.raw(self.there(arguments, dtype)))
        ]

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

        Raises NotTakenError for one that it has no place for.
        """
        for name, value in arguments.items():
            if name not in self.places and not self._is_default(name, value):
                raise NotTakenError(name)
            if any(is_boxed(x) for _, x in leaves(value)):
                raise NotTakenError("autograd's boxes")
        return {
            name: self._brought(name, value, dtype)
            for name, value in arguments.items()
            if name in self.places
        }

    def _brought(self, name: str, value: Any, dtype: str) -> Any:
        def there(x: Any) -> Any:
            return self.library.there(self.layout.there(name, np.asarray(x)), dtype)

        return mapped(there, value)

    def _is_default(self, name: str, value: Any) -> bool:
        if name == "like":  # says which library to answer in, which a candidate knows
            return True
        default = inspect.signature(self.entry.function).parameters[name].default
        return value is default or (not hasattr(value, "dtype") and bool(value == default))

    def raw(self, brought: Arguments) -> Sequence[Any]:
        """Call it with arguments that have been brought to its library.

        Raises CandidateError where it raises, or returns another number of arrays.
        """
        positional, named = [], dict(self.extra)
        for name, place in self.places.items():
            if name not in brought:
                continue
            if place is None:
                positional.append(brought[name])
            else:
                named[place] = brought[name]
        try:
            results = self.function(*positional, **named)
        except Exception as error:
            line = str(error).splitlines()[0] if str(error) else ""
            raise CandidateError(f"raised {type(error).__name__}: {line}") from error
        several = list(results) if isinstance(results, list | tuple) else [results]
        meant = len(self.entry.signature.returns)
        if len(several) != meant:
            raise CandidateError(f"returned {len(several)} results where {meant} are meant")
        return several

    def back(self, i: int, y: Any, sizes: Mapping[str, int]) -> NDArray[Any]:
        """Bring its i-th result to NumPy and the formula's layout."""
        return self.layout.back(self.entry.signature.returns[i].name, self.library.back(y), sizes)


def _places(
    function: Callable[..., Any], entry: Entry, names: dict[str, str], extra: Arguments
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
        return {name: names.get(name) for name in needed} | dict(names)
    free = [
        name
        for name, each in parameters.items()
        if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL) and name not in extra
    ]
    places: dict[str, str | None] = {}
    for name in formula:
        place = names.get(name) or _same_word(name, free)
        if place:
            places[name] = place
            free = [each for each in free if each != place]
    for name, each in formula.items():
        if name in places or each.default is not each.empty or name == "like":
            continue
        left = [
            each for each in free if parameters[each].kind is not inspect.Parameter.KEYWORD_ONLY
        ]
        if not left:
            raise UsageError(
                f"{entry.id} needs {name}, and the candidate's parameters "
                f"({', '.join(parameters)}) have no place for it: tell by names={{{name!r}: ...}}"
            )
        places[name] = left[0]
        free.remove(left[0])
    only = {name for name, each in parameters.items() if each.kind is each.POSITIONAL_ONLY}
    ordered = sorted(places, key=lambda name: list(parameters).index(places[name] or ""))
    return {name: None if places[name] in only else places[name] for name in ordered}


def _same_word(name: str, free: Sequence[str]) -> str | None:
    wanted = {name.lower(), _ALIASES.get(name.lower(), name.lower())}
    return next((each for each in free if each.lower() in wanted), None)
