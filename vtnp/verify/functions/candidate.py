"""A candidate, called as the formula is: with NumPy arrays, in the formula's layout."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtnp._array.trees import tree_leaves, tree_map
from vtnp._array.xp import is_boxed
from vtnp._registry.errors import UsageError
from vtnp._registry.shapes import Bound, bind
from vtnp._registry.spec import Entry
from vtnp.verify.errors import ArgumentNotTakenError, CandidateError, RaisedError, in_one_line
from vtnp.verify.functions.axis_layout import AxisLayout
from vtnp.verify.functions.libraries import Library
from vtnp.verify.functions.parameters import (
    LIKE,
    axis_letters,
    matched_parameters,
    refuse_unknown_options,
    required_options,
    size_parameters,
)
from vtnp.verify.judge import as_list, is_sizes

Arguments = Mapping[str, Any]
_REAL_KINDS = "biuf"  # of dtypes


class Candidate:
    """An implementation of a formula that is to be checked.

    names: the formula's argument, or the letter of an axis, -> the candidate's parameter. A
    parameter named like a letter is passed that axis' size, too. extra: further keyword arguments,
    the same in every call. options: of the formula, that the candidate has fixed. on_running: is
    called with True when the candidate begins to run, and with False when it has ended.
    What it prints goes to `printed`.
    Raises UsageError for a class, where the candidate has no parameter for an argument that the
    formula needs, or an option is unknown.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        entry: Entry,
        library: Library,
        layout: AxisLayout,
        *,
        names: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        on_running: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self.function, self.entry, self.library, self.layout = function, entry, library, layout
        self.extra, self.options = dict(extra or {}), dict(options or {})
        if inspect.isclass(function):
            what = f"{function.__qualname__} is a class"
            raise UsageError(f"{what}: pass a function, or an instance that can be called")
        self._on_running, self._depth, self.printed = on_running, 0, StringIO()
        refuse_unknown_options(entry, self.options)
        letters = {*axis_letters(entry), *(layout.batch or ())}
        self.size_parameters = size_parameters(function, letters, names or {})
        of_arguments = {k: v for k, v in (names or {}).items() if k not in self.size_parameters}
        taken = {*self.extra, *self.size_parameters.values()}
        self.parameters = matched_parameters(function, entry, of_arguments, taken, self.options)
        self.required = required_options(function, entry, self.parameters)

    def __call__(self, arguments: Arguments, dtype: str = "float64") -> list[NDArray[Any]]:
        """Return its results as NumPy arrays."""
        return self.to_numpy(self.call(self.to_library(arguments, dtype)), arguments)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Mark the time in which the candidate runs; some libraries run when results are read."""
        self._depth += 1
        if self._depth == 1:
            self._on_running(True)  # noqa: FBT003
        try:
            with redirect_stdout(self.printed):
                yield
        finally:
            self._depth -= 1
            if self._depth == 0:
                self._on_running(False)  # noqa: FBT003

    # --- Arguments --------------------------------------------------------------------------------

    def select(self, arguments: Arguments) -> dict[str, Any]:
        """Set what it has fixed, and leave out optional arguments that it has no parameter for.

        Raises ArgumentNotTakenError where one is missing that it requires.
        """
        kept = {*self.parameters, *self.options, LIKE}
        every = {**self.required, **arguments, **self.options}
        selected = {name: value for name, value in every.items() if name in kept}
        self._refuse_missing(selected)
        return selected

    def _refuse_missing(self, arguments: Arguments) -> None:
        for name in self.required:
            if arguments[name] is None:
                raise ArgumentNotTakenError(name)

    def to_library(self, arguments: Arguments, dtype: str) -> dict[str, Any]:
        """Convert arguments to the candidate's library and layout.

        Raises ArgumentNotTakenError for one that it has no parameter for, has fixed to another
        value, or requires and does not get.
        """
        for name in {**arguments, **self.options}:
            is_passed = name in self.parameters and name not in self.options
            if not (is_passed or self._is_implied(name, arguments)):
                raise ArgumentNotTakenError(name)
        arguments = {**self.required, **arguments}
        self._refuse_missing(arguments)
        if any(is_boxed(x) for _, x in tree_leaves(dict(arguments))):
            raise ArgumentNotTakenError("autograd's boxes")
        converted = {
            name: self._to_library(name, value, dtype)
            for name, value in arguments.items()
            if name in self.parameters
        }
        return converted | self.passed_sizes(arguments)

    def _to_library(self, name: str, value: Any, dtype: str) -> Any:
        def converted(x: Any) -> Any:
            return self.library.to_library(self.layout.to_candidate(name, np.asarray(x)), dtype)

        return tree_map(converted, value)

    def _is_implied(self, name: str, arguments: Arguments) -> bool:
        """Tell whether an argument has the value that the candidate goes by without it."""
        if name == LIKE:
            return True
        default = inspect.signature(self.entry.function).parameters[name].default
        value, fixed = arguments.get(name, default), self.options.get(name, default)
        return value is fixed or (not hasattr(value, "dtype") and bool(value == fixed))

    def sizes(self, arguments: Arguments) -> dict[str, int]:
        """Return the sizes of the axes, those of the batch by the layout's names."""
        bound: Bound = {}
        for argument in self.entry.signature.arguments:
            x = arguments.get(argument.name)
            if x is not None:
                bind(argument.shape, x.shape, bound)
        sizes = {axis: size for axis, size in bound.items() if isinstance(size, int)}
        batch = next((axes for axes in bound.values() if isinstance(axes, tuple)), ())
        return sizes | dict(zip(self.layout.batch or (), batch, strict=False))

    def passed_sizes(self, arguments: Arguments) -> dict[str, int]:
        """Return the sizes that it takes as arguments, by the letters of their axes."""
        sizes = self.sizes(arguments) if self.size_parameters else {}
        return {letter: sizes[letter] for letter in self.size_parameters}

    # --- Calls and results ------------------------------------------------------------------------

    def call(self, converted: Arguments) -> Sequence[Any]:
        """Call it with arguments that have been converted to its library.

        Raises RaisedError where it raises, CandidateError for another number of arrays.
        """
        positional, named = [], dict(self.extra)
        for name, parameter in (self.parameters | self.size_parameters).items():
            if name not in converted:
                continue
            if parameter is None:
                positional.append(converted[name])
            else:
                named[parameter] = converted[name]
        try:
            with self.running():
                returned = self.function(*positional, **named)
        except (Exception, SystemExit) as error:
            raise RaisedError(f"raised {in_one_line(error)}") from error
        results = as_list(returned)
        expected = len(self.entry.signature.returns)
        # Sizes may follow the arrays, as in the formula, or may be left out.
        arrays = [y for y in results if not is_sizes(y)]
        if len(arrays) != expected or any(is_sizes(y) for y in results[:expected]):
            raise CandidateError(f"returned {len(results)} results, expected {expected}")
        return results

    def to_numpy(self, results: Sequence[Any], arguments: Arguments) -> list[NDArray[Any]]:
        """Convert what it returned for arguments to NumPy and the formula's layout.

        Raises CandidateError for what are not real numbers, or cannot be read.
        """
        returns, sizes = self.entry.signature.returns, self.sizes(arguments)
        arrays = zip(returns, map(self._numbers, results), strict=False)
        read = [self.layout.to_formula(each.name, y, sizes) for each, y in arrays]
        return read + [np.asarray(y) for y in results[len(returns) :]]

    def _numbers(self, y: Any) -> NDArray[Any]:
        try:
            with self.running():
                numbers = self.library.to_numpy(y)
        except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
            raise CandidateError(f"returned what cannot be read: {in_one_line(error)}") from error
        if numbers.dtype.kind not in _REAL_KINDS:
            raise CandidateError(f"returned {self.library.dtype_of(y)}, expected real numbers")
        return numbers
