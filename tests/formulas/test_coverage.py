"""What is drawn of every formula: all values of its options, sizes, families, precisions.

`python -m tests.formulas.test_coverage [id ...]` prints the table.
"""

import inspect
import sys
import typing
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

import vtnp
from tests.support.strategies import DTYPES, cases
from vtnp._array.trees import tree_leaves
from vtnp._registry.shapes import alternatives
from vtnp._registry.spec import registry
from vtnp.claims.families import FAMILIES, families_for

EXAMPLES, ROUNDS = 25, 60
LEFT_OUT = "left out"
# Passed on to NumPy's generator, or one array's dtype and device: there is nothing to vary.
NOT_VARIED = {"rng", "like"}
# Left out, it is drawn at random, and two calls give different results.
RANDOM = {("orthogonal-prototypes", "start"), ("trajectory-prototypes", "start")}
IDS = [each.id for each in vtnp.formulas()]


def drawn(id: str, number: int) -> list[Any]:
    """Return what hypothesis draws of a formula in the round of that number."""
    found = []

    @seed(number)
    @settings(
        max_examples=EXAMPLES,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases(id, dtypes=DTYPES))
    def draw(case: Any) -> None:
        found.append(case)

    draw()
    return found


def shown(value: Any) -> str:
    return "an array" if hasattr(value, "dtype") else str(value)


def options_of(id: str) -> dict[str, Any]:
    """Return the parameters of a formula that are not required arrays, with their type hints."""
    function = registry[id].function
    hints = typing.get_type_hints(inspect.unwrap(function))
    required = {a.name for a in registry[id].signature.arguments}
    parameters = inspect.signature(function).parameters.values()
    return {
        p.name: hints[p.name]
        for p in parameters
        if p.name not in NOT_VARIED
        if p.default is not p.empty or p.name not in required
        if p.name not in registry[id].signature.tables
    }


def occurring(id: str, found: Iterable[Any]) -> dict[str, Counter[str]]:
    """Count the values of each option, and how often it is left out."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for case in found:
        for name in options_of(id):
            counts[name][shown(case.args[name]) if name in case.args else LEFT_OUT] += 1
    return counts


def expected_values(hint: Any) -> set[str]:
    """Return the values that an option must take: all, of those that can be listed."""
    (kind, *others) = alternatives(hint)
    if typing.get_origin(kind) is typing.Literal:
        return {str(value) for value in typing.get_args(kind)}
    return {"True", "False"} if kind is bool and not others else set()


def not_varied(id: str, found: list[Any]) -> list[str]:
    """Say what never occurs among the cases of a formula."""
    counts = occurring(id, found)
    parameters = inspect.signature(registry[id].function).parameters
    missing = []
    for name, hint in options_of(id).items():
        never = expected_values(hint) - set(counts[name])
        missing += [f"{name} is never {value}" for value in sorted(never)]
        if len(counts[name]) == 1:
            missing.append(f"{name} is always {next(iter(counts[name]))}")
        has_default = parameters[name].default is not inspect.Parameter.empty
        if has_default and (id, name) not in RANDOM and not counts[name][LEFT_OUT]:
            missing.append(f"{name} is never left out")
    missing += [f"never in {each}" for each in DTYPES if each not in {c.dtype for c in found}]
    families = {case.family for case in found}
    # Each of them comes up in one of forty examples; hypothesis repeats what it has drawn.
    if len(families) < 0.7 * len(families_for(registry[id], "float64")):
        missing.append(f"only {', '.join(sorted(families))}")
    return missing


@pytest.mark.parametrize("id", IDS)
def test_everything_is_varied(id):
    """Each option takes all values that can be listed, or several, and is left out; and so on."""
    found: list[Any] = []
    for number in range(ROUNDS):
        found += drawn(id, number)
        if not not_varied(id, found):
            break
    assert not not_varied(id, found), f"{id}, {len(found)} examples: {not_varied(id, found)}"


def test_a_mask_is_of_every_kind():
    """Fully masked rows, rows of one key, masks that broadcast over the batch, and none at all."""
    masks = [case["mask"] for number in range(20) for case in drawn("attention", number)]
    arrays = [mask for mask in masks if mask is not None]
    assert len(arrays) < len(masks)
    assert any(not mask.any(axis=-1).all() for mask in arrays)
    assert any(np.all(mask.sum(axis=-1) == 1) and mask.shape[-1] > 1 for mask in arrays)
    assert any(mask.all() for mask in arrays)
    assert any(mask.ndim == 3 and mask.shape[0] == 1 for mask in arrays)


def test_small_arrays_are_drawn_number_by_number_and_large_ones_by_a_seed():
    """And small ones by a seed, too."""
    seen = set()
    for case in [case for number in range(20) for case in drawn("softmax", number)]:
        if case.family == "typical" and case.dtype == "float64":
            eighths = 8.0 * case["x"]
            by_number = bool(np.all(eighths == np.round(eighths)))
            is_small = case["x"].size <= 32
            assert is_small or not by_number
            seen.add((is_small, by_number))
    assert seen >= {(True, True), (True, False)}


def table(ids: Iterable[str]) -> Iterable[str]:
    """Yield a line for each formula: its options and their values, sizes, families."""
    for id in ids:
        found = [case for number in range(4) for case in drawn(id, number)]
        options = "; ".join(
            f"{name}: {len(values)} values" + (", left out" if LEFT_OUT in values else "")
            for name, values in sorted(occurring(id, found).items())
        )
        numbers = [x for case in found for _, x in tree_leaves(case.args)]
        sizes = sorted({size for x in numbers for size in x.shape})
        families = Counter(case.family for case in found)
        yield (
            f"{id}: {len(found)} examples; sizes {sizes[0]} to {sizes[-1]}; "
            f"{len(families)} of {len(FAMILIES)} families; {options or 'no options'}"
        )


if __name__ == "__main__":
    for line in table(sys.argv[1:] or IDS):
        print(line)
