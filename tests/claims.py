"""What the tests claim to prove: every test that carries a law or special mark."""

from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple


class Claim(NamedTuple):
    """One test that says which law or special case of which page it proves."""

    kind: str
    id: str
    name: str
    test: Callable[..., Any]


@cache
def claims() -> tuple[Claim, ...]:
    """Return the claims of all test modules."""
    found = []
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        if path.stem in {"test_mistakes", "test_traceability"}:
            continue
        for test in vars(import_module(f"tests.{path.stem}")).values():
            found += [
                Claim(mark.name, *mark.args, test)
                for mark in getattr(test, "pytestmark", ())
                if mark.name in {"law", "special"}
            ]
    return tuple(found)
