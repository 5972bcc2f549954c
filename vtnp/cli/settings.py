"""KEY=VALUE on the command line, and changes of a model's configuration written so."""

import typing
from collections.abc import Sequence
from typing import Any

from vtnp._registry.errors import UsageError
from vtnp.cost.models import config
from vtnp.cost.parsing import value_of


def pairs(texts: Sequence[str], option: str = "") -> list[tuple[str, str]]:
    """Split each at its first "="; option: which takes them, where one does."""
    split = [text.partition("=") for text in texts]
    for text, (key, equals, value) in zip(texts, split, strict=True):
        if not (key and equals and value):
            raise UsageError(f"{option} {text}: KEY=VALUE is meant".lstrip())
    return [(key, value) for key, _, value in split]


def changes(name: str, texts: Sequence[str]) -> dict[str, Any]:
    """Read changes of a configuration's fields, each as the field's type."""
    hints = typing.get_type_hints(type(config(name)))
    found = {}
    for key, text in pairs(texts):
        if key not in hints:
            raise UsageError(f"{name} has no field {key!r}; it has {', '.join(hints)}")
        found[key] = value_of(name, key, hints[key], text)
    return found
