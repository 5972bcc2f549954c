"""Every option of a model reaches all formulas that have it."""

import typing
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any, NamedTuple

import pytest

from tests.formulas.test_options import OF_FORMULAS, received_values, values_of
from tests.support.whole_models import SMALL, Small, new, videos
from vtnp.longnet import Branch
from vtnp.models import MODELS, deformable, timesformer
from vtnp.motionformer import Prototypes

VARIANTS = {**SMALL, "deformable": Small(deformable, deformable.CONFIGS["deformable-tiny"])}

# Values of the options that are neither words, truth values nor numbers with a fraction.
OTHERS = {
    "branches": (Branch(5, 1), Branch(9, 2)),
    "clips": 4,
    "iterations": 2,
    "landmarks": 5,
    "prototypes": Prototypes(3, "keys"),
}

# What means something else in a config than in a formula of that option.
OTHER_MEANING = {"d", "heads", "size", "stride_kv", "class_token"}


class Option(NamedTuple):
    """An option of a model that formulas have as well, with another value than the default."""

    model: Any
    name: str
    value: Any

    def __str__(self) -> str:
        return f"{self.model.__name__.rpartition('.')[2]}-{self.name}"

    def configs(self) -> Iterator[Any]:
        """Yield each variant of the model with the value."""
        for model, config in VARIANTS.values():
            if model is self.model:
                yield replace(config, **{self.name: self.value})


def options(model: Any) -> Iterator[Option]:
    config = next(config for each, config in VARIANTS.values() if each is model)
    hints = typing.get_type_hints(type(config))
    known = {name for of_formula in OF_FORMULAS.values() for name in of_formula} - OTHER_MEANING
    for name in (field.name for field in fields(config) if field.name in known):
        others = [x for x in values_of(hints[name]).values() if x != getattr(config, name)]
        yield Option(model, name, others[-1] if others else OTHERS[name])


def received(model: Any, config: Any, option: str) -> dict[str, list[Any]]:
    """Return the values of an option with which each formula of a model is called."""
    with received_values(option) as found:
        model.apply(new(model, config), videos(config, ()), config)
    return found


@pytest.mark.parametrize("option", [o for m in MODELS.values() for o in options(m)], ids=str)
def test_every_formula_receives_the_option_of_its_model(option):
    receivers = 0
    for config in option.configs():
        found = received(option.model, config, option.name)
        assert all(x == option.value for values in found.values() for x in values), found
        receivers += len(found)
    assert receivers, "no variant of the model uses it"


@pytest.mark.parametrize(
    ("scheme", "option", "value"),
    [
        ("space", "cls_in_space", "all"),
        ("divided", "order", "space-time"),
        ("divided", "cls_in_time", "key"),
        ("divided", "cls_in_space", "all"),
        ("local-global", "cls_in_local", "key"),
        ("local-global", "cls_in_global", "all"),
        ("axial", "cls_in_time", "key"),
        ("axial", "cls_in_width", "key"),
        ("axial", "cls_in_height", "all"),
    ],
)
def test_options_of_a_layer_of_timesformer_reach_it(scheme, option, value):
    _, config = SMALL[f"timesformer-{scheme}"]
    found = received(timesformer, replace(config, options={option: value}), option)
    assert found[f"{scheme}-layer"] == [value] * config.layers
