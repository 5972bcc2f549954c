"""Every option of every formula takes effect, at each of its values and left out.

An option that a formula does not pass on to an inner one, or to one of two, leaves that one at its
default: no comparison at a single value shows it.
"""

import inspect
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import combinations
from typing import Any, Literal, NamedTuple

import numpy as np
import pytest

import vtnp
from tests.formulas.test_formulas import oracle, outputs
from vtnp._registry.options import kind_of_option
from vtnp._registry.shapes import alternatives
from vtnp._registry.spec import registry
from vtnp.claims.cases import make
from vtnp.claims.compare import difference
from vtnp.verify.judge import agrees

LEFT_OUT, DRAWN = "left out", "drawn"
BATCHES = ((), (2,))
SEEDS = 40  # at most; nearly all options need one or two

INVISIBLE = {
    ("trajectory-prototypes", "gradient"),  # the gradient alone depends on it
    ("trajectory-self-attention", "prototypes.gradient"),
    ("trajectory-layer", "prototypes.gradient"),
    ("pooled-grid", "pooling.mode"),  # the number of tokens does not depend on it
}

# The rows of a softmax matrix sum to 1, and so do the norms that these start values differ by.
ALIKE = {
    ("nystrom-attention", "start"): {"paper", "exact"},
    ("nystrom-self-attention", "start"): {"paper", "exact"},
}


class Option(NamedTuple):
    """An option of a formula, or a field of an option that is a NamedTuple.

    default: None if there is none. values: those to try, by name, "left out" among them where there
    is a default; "drawn" stands for what a case draws.
    """

    id: str
    name: str
    field: str
    default: Any
    values: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.id}-{self.name}{'.' if self.field else ''}{self.field}"

    @property
    def same(self) -> frozenset[str]:
        """What leads to the same result: the default, and leaving it out."""
        default = [name for name, value in self.values.items() if value == self.default]
        return frozenset({LEFT_OUT, *default, *ALIKE.get((self.id, self.name), ())})

    def variants(self, args: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield arguments with each value of the option."""
        others = {name: value for name, value in args.items() if name != self.name}
        for name, value in self.values.items():
            if name == LEFT_OUT:
                yield name, others
            elif self.field:
                if args.get(self.name) is not None:
                    yield name, {**args, self.name: args[self.name]._replace(**{self.field: value})}
            elif name != DRAWN:
                yield name, {**args, self.name: value}
            elif args.get(self.name, self.default) != self.default:
                yield name, args


def options(id: str) -> Iterator[Option]:
    """Yield the options of a formula."""
    function = inspect.unwrap(registry[id].function)
    hints = typing.get_type_hints(function)
    for name, parameter in inspect.signature(function).parameters.items():
        hint, *more = (each for each in alternatives(hints[name]) if each is not type(None))
        if more or kind_of_option(hint) is None:
            continue
        values, default = values_of(hint), None
        if parameter.default is not parameter.empty:
            default = parameter.default
            values = {LEFT_OUT: LEFT_OUT, **(values or {DRAWN: DRAWN})}
        yield Option(id, name, "", default, values)
        for field in getattr(hint, "_fields", ()):
            of_field = values_of(typing.get_type_hints(hint)[field])
            yield Option(id, name, field, None, of_field)


def values_of(hint: Any) -> dict[str, Any]:
    """Return all words of an option, both truth values, or two numbers."""
    if typing.get_origin(hint) is Literal:
        return {word: word for word in typing.get_args(hint)}
    of_type = {bool: [False, True], float: [0.25, 0.75]}
    return {str(value): value for value in of_type.get(hint, [])}


OPTIONS = [
    option
    for id in registry
    for option in options(id)
    if option.values and tuple(str(option).rsplit("-", 1)) not in INVISIBLE
]


def results_if_accepted(id: str, args: dict[str, Any]) -> list[np.ndarray] | None:
    """Return the results of a formula; None if it refuses the arguments."""
    try:
        return results_of(registry[id].function, args)
    except vtnp.FormulaError:
        return None


def results_of(function: Any, args: dict[str, Any]) -> list[np.ndarray]:
    result = function(**args)
    return [np.asarray(y) for y in outputs(result) or [result]]


def differ(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    pairs = zip(one, other, strict=True)
    return any(x.shape != y.shape or difference(x, y) > 1e-9 for x, y in pairs)


@pytest.mark.parametrize("option", OPTIONS, ids=str)
def test_each_value_makes_the_difference_that_it_makes_in_the_oracle(option):
    """Any two values that are accepted with the same arguments."""
    function, loop = registry[option.id].function, oracle(option.id)
    accepted: set[str] = set()
    together: set[frozenset[str]] = set()
    apart: set[frozenset[str]] = set()
    for seed in range(SEEDS):
        case = make(option.id, seed, BATCHES[seed % 2])
        case()  # what is drawn is never refused
        chosen = dict(option.variants(case.args))
        every = {name: results_if_accepted(option.id, args) for name, args in chosen.items()}
        found = {name: results for name, results in every.items() if results is not None}
        pairs = {
            frozenset(pair) for pair in combinations(found, 2) if not option.same.issuperset(pair)
        }
        new = {pair for pair in pairs - apart if differ(*(found[name] for name in pair))}
        shown = frozenset().union(*new) - frozenset().union(*apart)
        for name in shown | (found.keys() - accepted):
            expected = results_of(loop, chosen[name])
            assert agrees(function, chosen[name], expected, "float64"), name
        accepted, together, apart = accepted | found.keys(), together | pairs, apart | new
        if accepted == option.values.keys() and together == apart:
            break
    assert accepted == option.values.keys(), f"accepted are only {sorted(accepted)}"
    alike = [sorted(pair) for pair in together - apart]
    assert not alike, f"these make no difference: {alike}"


# --- By what inner formulas receive ---------------------------------------------------------------


def options_and_defaults(id: str) -> dict[str, Any]:
    """Return the options of a formula, with their defaults."""
    function = inspect.unwrap(registry[id].function)
    hints = typing.get_type_hints(function)
    return {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if any(kind_of_option(hint) is not None for hint in alternatives(hints[name]))
    }


OF_FORMULAS = {id: options_and_defaults(id) for id in registry}


@contextmanager
def received_values(option: str) -> Iterator[dict[str, list[Any]]]:
    """Note the values of an option with which formulas are called, by formula."""
    found: dict[str, list[Any]] = {}

    def note(call: Any, proceed: Any) -> Any:
        of_formula = OF_FORMULAS[call.id]
        if option in of_formula and not is_unused(call, option):
            value = call.arguments.get(option, of_formula[option])
            found.setdefault(call.id, []).append(value)
        return proceed(call)

    with vtnp.intercept(note):
        yield found


def is_unused(call: Any, option: str) -> bool:
    """Tell whether a formula has nothing to do with an option: eps, without a norm."""
    without_norm = call.id == "pooled-tokens" and call.arguments.get("gamma") is None
    return without_norm and option == "eps"


INNER = [
    option
    for option in OPTIONS
    # The inner formula pads one axis more.
    if not option.field and str(option) != "spatial-embedding-padding"
]


@pytest.mark.parametrize("option", INNER, ids=str)
def test_inner_formulas_receive_the_option(option):
    """Also those that few cases have a use for, such as optional norms."""
    for seed in range(6):
        for name, args in option.variants(make(option.id, seed).args):
            value = args.get(option.name, option.default)
            with received_values(option.name) as found:
                if results_if_accepted(option.id, args) is None:
                    continue
            for inner, values in found.items():
                assert all(each == value for each in values), (inner, name)
