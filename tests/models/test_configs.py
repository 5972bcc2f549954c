"""The settings of every configuration are those of the table."""

import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from vtnp.models import MODELS, model_of

TABLE = tomllib.loads(Path(__file__).with_name("configs.toml").read_text())


def plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [plain(each) for each in value]
    return dict(value) if hasattr(value, "items") else value


def settings(config: Any) -> dict[str, Any]:
    every = {field.name: plain(getattr(config, field.name)) for field in fields(config)}
    return {name: value for name, value in every.items() if value is not None}


@pytest.mark.parametrize("name", MODELS)
def test_settings_are_those_of_the_table(name):
    configs, table = MODELS[name].CONFIGS, TABLE[name]
    assert list(configs) == list(table["configs"])
    default = type(next(iter(configs.values())))()
    assert settings(default) == table["defaults"]
    for each, config in configs.items():
        assert type(config) is type(default)
        assert settings(config) == table["defaults"] | table["configs"][each], each


@pytest.mark.parametrize("name", MODELS)
def test_settings_cannot_be_changed(name):
    configs = MODELS[name].CONFIGS
    with pytest.raises(TypeError):
        configs["another"] = 1
    with pytest.raises(AttributeError):
        next(iter(configs.values())).frames = 1


def test_what_is_no_configuration_is_refused_with_those_that_there_are():
    known = [type(next(iter(model.CONFIGS.values()))).__name__ for model in MODELS.values()]
    with pytest.raises(TypeError) as error:
        model_of(3)
    assert str(error.value) == f"expected one of {', '.join(known)}, got int"


def test_keys_of_mvit_are_as_many_in_every_stage():
    """The stride of keys and values shrinks as the queries' grid does (MViT, table 2)."""
    configs = MODELS["mvit"].CONFIGS
    blocks = configs["mvit-b"].blocks
    strides = [block.pool_kv.stride for block in blocks]
    assert strides == [(1, 8, 8)] + 2 * [(1, 4, 4)] + 11 * [(1, 2, 2)] + 2 * [(1, 1, 1)]
    asked = [block.pool_q.stride for block in blocks]
    assert [i for i, stride in enumerate(asked) if stride == (1, 2, 2)] == [1, 3, 14]
    assert asked.count((1, 1, 1)) == 13
    assert [block.heads for block in blocks] == [1] + 2 * [2] + 11 * [4] + 2 * [8]
    assert {block.pool_q.mode for block in blocks} == {"conv"}
