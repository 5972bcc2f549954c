"""Other people's implementations, where they are installed: what the peer tests compare with."""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pytest


def installed(name: str) -> Any:
    """Return the module of that name, or None where it, or a package it is in, is not there."""
    package, _, _ = name.rpartition(".")
    if package and installed(package) is None:
        return None
    return import_module(name) if find_spec(name) is not None else None


def needs(module: Any, install: str) -> pytest.MarkDecorator:
    """Return the mark that skips tests without a module, naming what pip would have to install."""
    return pytest.mark.skipif(module is None, reason=f"needs pip install {install!r}")
