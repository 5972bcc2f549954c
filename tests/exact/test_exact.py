"""Every value is as accurate as its page says, against a derivation in 50 digits.

`python -m tests.exact` prints the errors.
"""

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import pytest

import vtnp
from tests.exact.error import DRAWS, FEWER, Worst, derivation, in_dtype, worst
from tests.exact.inputs import Input, inputs
from vtnp._registry.pages import formula
from vtnp._registry.spec import registry

IDS = [each.id for each in vtnp.formulas()]
DTYPES = ("float64", "float32", "float16")


def bound(id: str) -> int:
    """Return the bound of the error that the formula's page states."""
    return formula(id).accuracy


def measured(
    id: str, dtype: Any, *, seeds: int, function: Callable[..., Any] | None = None
) -> Iterator[tuple[Input, Worst]]:
    """Yield the inputs of a formula with the largest error at each, of it or another function."""
    function, derived = function or registry[id].function, derivation(id)
    draws = 0 if bound(id) == 0 else DRAWS if bound(id) <= 4 else FEWER
    for each in inputs(id, dtype, seeds=seeds):
        yield each, worst(function, derived, in_dtype(each.args, dtype), draws=draws)


def assert_within_bound(id: str, dtype: Any, *, seeds: int) -> None:
    for each, found in measured(id, dtype, seeds=seeds):
        assert found.error <= bound(id), f"{id}, {dtype}, {each.name}: {found}"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("id", IDS)
def test_value_is_within_the_bound_of_its_page(id, dtype):
    assert_within_bound(id, dtype, seeds=1)


@pytest.mark.deep
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("id", IDS)
def test_value_is_within_the_bound_at_more_inputs(id, dtype):
    assert_within_bound(id, dtype, seeds=10)


@pytest.mark.parametrize("id", IDS)
def test_every_formula_has_a_derivation(id):
    module, name = registry[id].module, registry[id].function.__name__
    derivations = import_module(f"tests.exact.{module}")
    assert hasattr(derivations, name), f"write {name} in tests/exact/{module}.py, from its page"
