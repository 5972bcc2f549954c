"""KEY=VALUE on the command line."""

import typing
from collections.abc import Sequence
from typing import Any

from vtnp._registry.errors import UsageError
from vtnp.cost.models import config
from vtnp.cost.option_text import value_of


def pairs(texts: Sequence[str], option: str = "") -> list[tuple[str, str]]:
    """Split each text at its first "="; option: the option that they belong to, if any."""
    split = [text.partition("=") for text in texts]
    for text, (key, equals, value) in zip(texts, split, strict=True):
        if not (key and equals and value):
            raise UsageError(f"{option} {text}: expected KEY=VALUE".lstrip())
    return [(key, value) for key, _, value in split]


def changes(name: str, texts: Sequence[str]) -> dict[str, Any]:
    """Return changes of a configuration's fields, each read as the field's type."""
    named = config(name)
    hints = typing.get_type_hints(type(named))
    values = {}
    for key, text in pairs(texts):
        if key not in hints:
            raise UsageError(f"{name} has no field {key!r}; it has {', '.join(hints)}")
        values[key] = value_of(name, key, hints[key], text, example=getattr(named, key))
    return values
