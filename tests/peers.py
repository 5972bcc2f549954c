"""Other people's implementations, where they are installed: what the peer tests compare with."""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pytest


def installed(name: str) -> Any:
    """Return the module of that name, or None where it is not installed."""
    return import_module(name) if find_spec(name) is not None else None


def needs(module: Any, extra: str) -> pytest.MarkDecorator:
    """Return the mark that skips a whole module of tests, naming the extra that would run it."""
    return pytest.mark.skipif(module is None, reason=f"needs the extra {extra!r} of vtnp")
