"""The arguments that a formula has at given sizes: arrays without values, params and options.

    >>> from vtnp import cost
    >>> cost.sized_call("attention", n=10**9, d_k=128).arguments["Q"]
    CostArray((1000000000, 128), float32)

Sizes that are left out take the defaults of vtnp/cost/recipes, which name the papers they are from.
Formulas are named as in `vtnp.formula`: by id, "eq2" or 2.
"""

import inspect
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from types import MappingProxyType
from typing import Any, Literal

from vtnp._registry.errors import FormulaError
from vtnp._registry.options import kind_of_option, reader
from vtnp._registry.pages import formula
from vtnp._registry.params import Table
from vtnp._registry.shapes import Argument, Bound, alternatives, bind, parse
from vtnp._registry.spec import registry
from vtnp.cost.arrays import Ledger
from vtnp.cost.option_text import value_of
from vtnp.cost.recipes import defaults_of, recipe
from vtnp.cost.recipes.recipe import Rule, Sizes
from vtnp.tokens import Grid

Dtype = Literal["float16", "float32", "float64"]
_DTYPES = {"int": "int64", "bool": "bool"}  # of arrays that are not real


@dataclass(frozen=True)
class SizedCall:
    """The call of a formula at given sizes.

    Attributes
    ----------
    id : str
        The formula.
    arguments : Mapping[str, Any]
        Its arguments by name, None where an array is left out.
    letters : Mapping[str, Any]
        What its page's closed form may name: axes, sizes, options and arguments.
    """

    id: str
    arguments: Mapping[str, Any]
    letters: Mapping[str, Any]


def sized_call(id: str | int, /, **sizes: Any) -> SizedCall:
    """Return the call of a formula at sizes given by name.

    Parameters
    ----------
    id : str or int
        The formula: its id, "eq2" or 2.
    **sizes
        Axes, options and switches, of those that `size_names` lists. What is left out takes its
        default or follows from the others.

    Returns
    -------
    SizedCall
        Its arguments, all on one ledger, and the letters of its closed form.

    Raises
    ------
    UnknownFormulaError
        If there is no such formula.
    FormulaError
        If the formula has no such size, or a size is not an integer >= 0. Sizes that the formula
        itself does not accept are refused here or when it is called.

    Examples
    --------
    >>> from vtnp import cost, encoder
    >>> call = cost.sized_call("attention", n=3, m=5, d_k=4, d_v=2)
    >>> cost.counted(encoder.attention, **call.arguments).multiply_adds
    90
    >>> cost.closed_form("attention", call.letters)
    90
    """
    id = formula(id).id
    z, made_by = _Sizes(id, sizes), recipe(id)
    new = _Arrays(id, z, made_by.params)
    signature = registry[id].signature
    arrays = {argument.name: argument for argument in signature.arguments}
    arguments: dict[str, Any] = {}
    for name, parameter in inspect.signature(registry[id].function).parameters.items():
        if name in arrays:
            argument = arrays[name]
            is_there = not argument.optional or z[_switch(name)]
            arguments[name] = new.array(argument) if is_there else None
        elif name in signature.tables:
            arguments[name] = new.table(signature.tables[name])
        elif name == "like":
            arguments[name] = new.of_shape("1")
        elif name in z:
            arguments[name] = z[name]
        elif parameter.default is inspect.Parameter.empty and made_by.arguments is None:
            raise TypeError(f"{id}: no recipe makes its argument {name}")
    if made_by.arguments:
        arguments |= new.lists(made_by.arguments(z))
    letters = {**z, **(made_by.letters(z) if made_by.letters else {}), **arguments}
    return SizedCall(
        id, MappingProxyType(arguments), MappingProxyType(letters | _axes(id, arguments))
    )


def default_sizes(id: str | int, /, **sizes: Any) -> Mapping[str, Any]:
    """Return all sizes of a formula: those given, and the others by default.

    Parameters
    ----------
    id : str or int
        The formula: its id, "eq2" or 2.
    **sizes
        Sizes that are not left to their defaults.

    Returns
    -------
    Mapping[str, Any]
        A value for each name that `size_names` lists.

    Raises
    ------
    UnknownFormulaError
        If there is no such formula.
    FormulaError
        If the formula has no such size.
    """
    return MappingProxyType(dict(_Sizes(formula(id).id, sizes)))


@cache
def size_names(id: str | int) -> Mapping[str, Any]:
    """Return the names of a formula's sizes, each with its type.

    Parameters
    ----------
    id : str or int
        The formula: its id, "eq2" or 2.

    Returns
    -------
    Mapping[str, Any]
        Axes, options, and a switch for each optional array, True where the array is passed;
        `biases` is the switch of all biases together. `batch` are the batch axes, `dtype` is that
        of all real arrays.

    Raises
    ------
    UnknownFormulaError
        If there is no such formula.
    """
    id = formula(id).id
    signature, made_by = registry[id].signature, recipe(id)
    hints = typing.get_type_hints(inspect.unwrap(registry[id].function))
    arrays = {argument.name: argument for argument in signature.arguments}
    names: dict[str, Any] = {}
    for argument in signature.arguments:
        names |= dict.fromkeys(_bound_axes(argument), int)
    for table in signature.tables.values():
        names |= _names_of_table(table, made_by.params)
    names |= made_by.names
    for name in inspect.signature(registry[id].function).parameters:
        if name in arrays:
            if arrays[name].optional:
                names[_switch(name)] = bool
        elif name not in signature.tables and _is_option(hints[name]):
            names.setdefault(name, hints[name])
    return MappingProxyType({**names, "batch": Sequence[int], "dtype": Dtype})


def parsed_size(id: str | int, name: str, text: str) -> Any:
    """Return the value of a size or an option that is written on a command line.

    Parameters
    ----------
    id : str or int
        The formula: its id, "eq2" or 2.
    name : str
        One of its `size_names`.
    text : str
        "1e6" and "2**20" are integers, "14x14" is a tuple, "2048,4096" a sequence, "none" None.

    Returns
    -------
    Any
        A value of the name's type.

    Raises
    ------
    UnknownFormulaError
        If there is no such formula.
    FormulaError
        If the formula has no such size, or the text is not a value of its type.
    """
    id = formula(id).id
    _require_known(id, [name])
    return value_of(id, name, size_names(id)[name], text, example=default_sizes(id)[name])


class _Sizes(Mapping[str, Any]):
    """All sizes of a formula: those given, and the others by default or by rule."""

    def __init__(self, id: str, sizes: Mapping[str, Any]) -> None:
        _require_known(id, sizes)
        self._id, self._defaults = id, defaults_of(id)
        self._values = {name: _as_formula_reads(id, name, x) for name, x in sizes.items()}
        # A grid that is given has the number of frames.
        if isinstance(grid := self._values.get("grid"), Grid):
            self._values.setdefault("t", grid.t)

    def __getitem__(self, name: str) -> Any:
        if name not in size_names(self._id):
            raise KeyError(name)
        if name not in self._values:
            defaults = self._defaults
            default = defaults[name] if name in defaults else _own_default(self._id, name)
            self._values[name] = default(self) if callable(default) else default
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(size_names(self._id))

    def __len__(self) -> int:
        return len(size_names(self._id))


class _Arrays:
    """Makes arrays without values, all on one ledger, of the shapes in a signature."""

    def __init__(self, id: str, z: Sizes, rules: Mapping[str, Rule]) -> None:
        self._id, self._z, self._rules, self._ledger = id, z, rules, Ledger()
        if z["dtype"] not in typing.get_args(Dtype):
            known = ", ".join(typing.get_args(Dtype))
            raise FormulaError(f"{id}: dtype: expected one of {known}, got {z['dtype']!r}")
        if not isinstance(z["batch"], tuple | list):
            raise FormulaError(f"{id}: batch: expected a sequence of sizes, got {z['batch']!r}")
        self._batch = [self._size("batch", n) for n in z["batch"]]

    def array(self, argument: Argument) -> Any:
        return self.of_shape(argument.shape.text, argument.kind)

    def of_shape(self, text: str, kind: str = "float") -> Any:
        shape = parse(text)
        # A mask need not have batch axes.
        batch = self._batch if shape.row and not shape.broadcasts else []
        before, after = (map(self._extent, axes) for axes in (shape.before, shape.after))
        return self._ledger.array((*before, *batch, *after), _DTYPES.get(kind, self._z["dtype"]))

    def table(self, table: Table, path: str = "") -> dict[str, Any]:
        """Make the arrays of params; leave out what a rule or a switch leaves out."""
        made: dict[str, Any] = {}
        for key, field in table.fields.items():
            content = self._content(table, key, f"{path}{key}")
            if isinstance(content, tuple):
                made[key] = self._ledger.array(content, self._z["dtype"])
            elif content is None or content is False:
                continue
            elif isinstance(field, Argument):
                made[key] = self.array(field)
            elif isinstance(field, Table):
                made[key] = self.table(field, f"{path}{key}.")
            else:
                made[key] = [self.table(field[0], f"{path}{key}.") for _ in range(content)]
        return made

    def lists(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Make the arrays of arguments that are lists of shapes; leave others as they are."""
        return {
            name: [self.of_shape(text) for text in value] if isinstance(value, list) else value
            for name, value in arguments.items()
        }

    def _content(self, table: Table, key: str, path: str) -> Any:
        if path in self._rules:
            return self._rules[path](self._z)
        if isinstance(table.fields[key], list):
            return self._z[key]
        return self._z[_switch(key)] if key in table.optional else True

    def _extent(self, axis: str) -> int:
        return int(axis) if axis.isdigit() else self._size(axis, self._z[axis])

    def _size(self, name: str, value: Any) -> int:
        if isinstance(value, bool) or not hasattr(value, "__index__") or value < 0:
            raise FormulaError(f"{self._id}: {name}: expected an integer >= 0, got {value!r}")
        return int(value)


def _as_formula_reads(id: str, name: str, value: Any) -> Any:
    """Return an option as its formula reads it: a closed form may name the fields of a grid."""
    arrays = {argument.name for argument in registry[id].signature.arguments}
    options = inspect.signature(registry[id].function).parameters.keys() - arrays
    read = reader(f"{id} ({registry[id].page_path})", name, size_names(id)[name])
    return value if name not in options or read is None else read(value)


def _own_default(id: str, name: str) -> Any:
    parameter = inspect.signature(registry[id].function).parameters.get(name)
    if any(argument.name == name for argument in registry[id].signature.arguments):
        return False
    if parameter is None or parameter.default is inspect.Parameter.empty:
        raise TypeError(f"{id}: no recipe has a default for {name}")
    return parameter.default


def _require_known(id: str, names: Iterable[str]) -> None:
    known = size_names(id)
    for name in names:
        if name not in known:
            (near,) = get_close_matches(name, known, n=1, cutoff=0.0)
            raise FormulaError(
                f"{id}: no size or option is called {name!r}; there are {', '.join(known)}; "
                f"nearest: {near}"
            )


def _is_option(hint: Any) -> bool:
    return any(map(kind_of_option, alternatives(hint)))


def _bound_axes(argument: Argument) -> list[str]:
    return [axis for axis in argument.shape.axes if not axis.startswith("_")]


def _names_of_table(table: Table, rules: Mapping[str, Rule], path: str = "") -> dict[str, Any]:
    """Return the axes of a table's arrays, its switches, and the lengths of its lists."""
    names: dict[str, Any] = {}
    for key, field in table.fields.items():
        if f"{path}{key}" not in rules:
            if isinstance(field, list):
                names[key] = int
            elif key in table.optional:
                names[_switch(key)] = bool
        if isinstance(field, Argument):
            names |= dict.fromkeys(_bound_axes(field), int)
        else:
            within = field if isinstance(field, Table) else field[0]
            names |= _names_of_table(within, rules, f"{path}{key}.")
    return names


def _switch(name: str) -> str:
    """Return the name of the size that says whether an optional array is passed."""
    return "biases" if name in {"b", "bias"} or name.startswith("b_") else name


def _axes(id: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the axes that the arrays have; those that only a result has, off the result."""
    signature, bound = registry[id].signature, typing.cast(Bound, {})
    for argument in signature.arguments:
        if arguments.get(argument.name) is not None and not argument.shape.broadcasts:
            bind(argument.shape, arguments[argument.name].shape, bound)
    options = inspect.signature(registry[id].function).parameters
    axes = {axis for result in signature.returns for axis in result.shape.axes}
    if axes - bound.keys() - options.keys():
        results = registry[id].function(**arguments)
        for argument, result in zip(
            signature.returns, results if isinstance(results, tuple) else [results], strict=False
        ):
            bind(argument.shape, result.shape, bound)
    return {axis: size for axis, size in bound.items() if isinstance(size, int)}
