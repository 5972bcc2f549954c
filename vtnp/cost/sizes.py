"""From sizes to the arguments of a formula: arrays without numbers, options, params.

    >>> call("attention", n=10**9, d_k=128).arguments["Q"]
    CostArray((1000000000, 128), float32)

What is left out takes a default: vtnp/cost/recipes has them, with the papers they come from.
Formulas are named as in vtnp.formula: by id, "eq2" or 2.
"""

import inspect
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from types import MappingProxyType
from typing import Any

from vtnp._registry.errors import FormulaError
from vtnp._registry.pages import formula
from vtnp._registry.shapes import Argument, Bound, bind, parse
from vtnp._registry.spec import registry
from vtnp.cost import Ledger
from vtnp.cost.parsing import value_of
from vtnp.cost.recipes import defaults_of, recipe
from vtnp.cost.recipes.tables import Sizes

_DTYPES = ("float16", "float32", "float64")
_KINDS = {"int": "int64", "bool": "bool"}
# Arguments that are arrays without a shape in the signature, or that a recipe makes.
_MADE = {"params", "like", "rng", "prototypes", "outputs", "log_denominators"}


@dataclass(frozen=True)
class Call:
    """A formula's arguments, and what the cost on its page may name.

    letters: every axis, every option, and every argument by its own name, None where it is left
    out.
    """

    id: str
    arguments: Mapping[str, Any]
    letters: Mapping[str, Any]


def call(id: str | int, /, **given: Any) -> Call:
    """Return a formula's arguments at sizes given by name, as `names(id)` lists them.

    Raises UnknownFormulaError; FormulaError for a name that the formula does not have, or a size
    that is no size. What the formula itself has no meaning for it refuses, here or when called.
    """
    id = formula(id).id
    z, make = _Resolved(id, given), recipe(id)
    new = _Arrays(z)
    arguments: dict[str, Any] = {}
    for name, parameter in inspect.signature(registry[id].function).parameters.items():
        argument = _arrays(id).get(name)
        if argument is not None:
            wanted = not argument.optional or z[_switch(name)]
            arguments[name] = new.array(argument.shape.text, argument.kind) if wanted else None
        elif name == "params" and make.params:
            arguments[name] = new.filled(make.params(z))
        elif name == "like":
            arguments[name] = new.array("1")
        elif name in z:
            arguments[name] = z[name]
        elif parameter.default is inspect.Parameter.empty and make.arguments is None:
            raise TypeError(f"{id}: no recipe makes its argument {name}")
    if make.arguments:
        arguments |= new.lists(make.arguments(z))
    known = {**z, **(make.letters(z) if make.letters else {}), **arguments}
    return Call(id, MappingProxyType(arguments), MappingProxyType(known | _axes(id, arguments)))


def defaults(id: str | int, /, **given: Any) -> Mapping[str, Any]:
    """Return every name that a formula's sizes have, with its default, others being as given.

    Raises FormulaError as call does.
    """
    return MappingProxyType(dict(_Resolved(formula(id).id, given)))


def parsed(id: str | int, name: str, text: str) -> Any:
    """Read a size or an option of a formula as it is written on a command line.

    "1e6" and "2**20" are whole numbers, "14x14" and "14,14" rows of them, "none" is None.
    Raises FormulaError for a name that the formula does not have, or a text that is none.
    """
    id = formula(id).id
    _require_known(id, [name])
    return value_of(id, name, names(id)[name], text)


@cache
def names(id: str | int) -> Mapping[str, Any]:
    """Return the names of a formula's sizes with their types: letters, options and switches.

    A switch is the name of an optional array, True where it is there; `biases` is that of all
    biases together. `batch` are the batch axes, `dtype` is that of all real arrays.
    """
    id = formula(id).id
    function, arrays = registry[id].function, _arrays(id)
    hints = typing.get_type_hints(inspect.unwrap(function))
    found: dict[str, Any] = {}
    for argument in arrays.values():
        shape = argument.shape
        found |= {axis: int for axis in shape.before + shape.after if not axis.isdigit()}
    found |= recipe(id).names
    for name in inspect.signature(function).parameters:
        if name in arrays:
            if arrays[name].optional:
                found[_switch(name)] = bool
        elif name not in _MADE:
            found[name] = int if name == "start" and hints[name] is not str else hints[name]
    return MappingProxyType({**found, "batch": tuple[int, ...], "dtype": str})


class _Resolved(Mapping[str, Any]):
    """All sizes of a formula: those given, and the others by default or by rule."""

    def __init__(self, id: str, given: Mapping[str, Any]) -> None:
        _require_known(id, given)
        self._id, self._values, self._rules = id, dict(given), defaults_of(id)

    def __getitem__(self, name: str) -> Any:
        if name not in names(self._id):
            raise KeyError(name)
        if name not in self._values:
            rules = self._rules
            rule = rules[name] if name in rules else _own_default(self._id, name)
            self._values[name] = rule(self) if callable(rule) else rule
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(names(self._id))

    def __len__(self) -> int:
        return len(names(self._id))


def _own_default(id: str, name: str) -> Any:
    parameter = inspect.signature(registry[id].function).parameters.get(name)
    if name in _arrays(id):
        return False
    if parameter is None or parameter.default is inspect.Parameter.empty:
        raise TypeError(f"{id}: no recipe has a default for {name}")
    return parameter.default


def _require_known(id: str, given: typing.Iterable[str]) -> None:
    for name in given:
        if name not in names(id):
            near = get_close_matches(name, names(id), n=1, cutoff=0.0)
            raise FormulaError(
                f"{id}: nothing is called {name!r}; there are {', '.join(names(id))}; "
                f"nearest: {near[0]}"
            )


def _arrays(id: str) -> dict[str, Argument]:
    return {argument.name: argument for argument in registry[id].signature.arguments}


def _switch(name: str) -> str:
    return "biases" if name == "bias" or name.startswith("b_") else name


def _size(name: str, value: Any) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < 0:
        raise FormulaError(f"{name}: expected a whole number >= 0, got {value!r}")
    return int(value)


class _Arrays:
    """Makes arrays without numbers, all of one ledger, out of shape strings."""

    def __init__(self, z: Sizes) -> None:
        if z["dtype"] not in _DTYPES:
            raise FormulaError(f"dtype: expected one of {_DTYPES}, got {z['dtype']!r}")
        if not isinstance(z["batch"], tuple | list):
            raise FormulaError(f"batch: expected a row of sizes, got {z['batch']!r}")
        self._z, self._ledger = z, Ledger()
        self._batch = [_size("batch", n) for n in z["batch"]]

    def array(self, text: str, kind: str = "float") -> Any:
        shape = parse(text)
        # A mask need not have batch axes.
        row = self._batch if shape.row and not shape.broadcasts else []
        sizes = [*map(self._extent, shape.before), *row, *map(self._extent, shape.after)]
        return self._ledger.array(tuple(sizes), _KINDS.get(kind, self._z["dtype"]))

    def filled(self, table: Any) -> Any:
        """Make arrays of a table's shape strings and tuples; leave out what is None."""
        if isinstance(table, dict):
            return {key: self.filled(each) for key, each in table.items() if each is not None}
        if isinstance(table, list):
            return [self.filled(each) for each in table]
        if isinstance(table, tuple):
            return self._ledger.array(table, self._z["dtype"])
        return self.array(table)

    def lists(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Make the arrays of arguments that are lists; leave others as they are."""
        return {k: self.filled(v) if isinstance(v, list) else v for k, v in arguments.items()}

    def _extent(self, axis: str) -> int:
        return int(axis) if axis.isdigit() else _size(axis, self._z[axis])


def _axes(id: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the axes that the arrays have; those that only a result has, off the result."""
    signature, bound = registry[id].signature, typing.cast(Bound, {})
    for argument in signature.arguments:
        if arguments.get(argument.name) is not None and not argument.shape.broadcasts:
            bind(argument.shape, arguments[argument.name].shape, bound)
    options = inspect.signature(registry[id].function).parameters
    new = {
        axis for result in signature.returns for axis in result.shape.before + result.shape.after
    }
    if not all(axis in bound or axis in options or axis.isdigit() for axis in new):
        results = registry[id].function(**arguments)
        for argument, result in zip(
            signature.returns, results if isinstance(results, tuple) else [results], strict=False
        ):
            bind(argument.shape, result.shape, bound)
    return {axis: size for axis, size in bound.items() if isinstance(size, int)}
