"""The pages of `spec/`, read on demand: never at import time, never by a formula."""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any

from vtnp._registry.errors import UnknownFormulaError, did_you_mean
from vtnp._registry.spec import registry


@dataclass(frozen=True, eq=False)
class Formula:
    """One formula: its function, and what its page says of it.

    There is one object for each formula: copies are this object, and so is what pickle restores.
    """

    id: str
    function: Callable[..., Any]
    survey: str
    source: Mapping[str, str]
    plain: str
    requires: tuple[str, ...]
    accuracy: int
    laws: tuple[str, ...]
    special: tuple[str, ...]
    mistakes: tuple[str, ...]
    cost: Mapping[str, str]
    page: str

    def __reduce__(self) -> tuple[Callable[[str, str], "Formula"], tuple[str, str]]:
        return _restored, (self.function.__module__, self.id)


def _restored(module: str, id: str) -> Formula:
    import_module(module)  # registers the formula
    return _read(id)


def pages_folder() -> Path:
    """Return where the pages are: beside the package in a checkout, within it when installed."""
    package = Path(__file__).parent.parent
    installed = package / "spec_pages"
    return installed if installed.is_dir() else package.parent / "spec"


def front_matter(page: str) -> dict[str, Any]:
    """Read the TOML block at the head of a page."""
    start = page.index("```toml\n") + len("```toml\n")
    return tomllib.loads(page[start : page.index("\n```", start)])


def formulas() -> tuple[Formula, ...]:
    """Return every formula, in the survey's order."""
    return tuple(map(_read, registry))


def formula(name: str | int) -> Formula:
    """Return one formula by its id, by "eq2", or by the survey's number.

    Raises UnknownFormulaError, with the nearest names.
    """
    wanted = str(name).lower()
    if wanted in registry:
        return _read(wanted)
    number = wanted.removeprefix("eq").strip(" .()")
    for each in formulas():
        if each.survey == f"eq. ({number})":
            return each
    raise UnknownFormulaError(f"no formula is called {name!r}{did_you_mean(wanted, registry)}")


@cache
def _read(id: str) -> Formula:
    entry = registry[id]
    text = (pages_folder() / entry.module / f"{entry.id}.md").read_text(encoding="utf-8")
    front = front_matter(text)
    return Formula(
        id=entry.id,
        function=entry.function,
        survey=front["survey"],
        source=MappingProxyType(front["source"]),
        plain=front["plain"],
        requires=tuple(front.get("requires", ())),
        accuracy=front["accuracy"],
        laws=tuple(front["laws"]),
        special=tuple(front["special"]),
        mistakes=tuple(front["mistakes"]),
        cost=MappingProxyType(front["cost"]),
        page=text,
    )
