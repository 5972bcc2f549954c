"""KEY=VALUE on the command line, and names that do not exist."""

import typing
from collections.abc import Collection, Sequence
from difflib import get_close_matches
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


def did_you_mean(name: str, known: Collection[str]) -> str:
    """Return a question about the most similar names, to end an error with; "" without any."""
    near = get_close_matches(name, known, n=3, cutoff=0.4)
    listed = " or ".join([*filter(None, [", ".join(near[:-1])]), *near[-1:]])
    return f"; did you mean {listed}?" if near else ""
