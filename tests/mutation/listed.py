"""What is listed by hand: mutants that are equivalent, and gaps that were known."""

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tests.mutation.mutants import Mutant

HERE = Path(__file__).parent


class Equivalent(NamedTuple):
    """A mutant that no test can kill, with the reason. where: the function; line: its text."""

    module: str
    where: str
    line: str
    change: str
    reason: str

    def fits(self, mutant: Mutant) -> bool:
        return self[:4] == (mutant.module, mutant.where, mutant.text, mutant.change)


def read_equivalents(path: Path = HERE / "equivalent.toml") -> list[Equivalent]:
    """Read the list of equivalent mutants."""
    return [Equivalent(**entry) for entry in tomllib.loads(path.read_text()).get("mutant", [])]


def stale(entries: Iterable[Equivalent], among: Iterable[Mutant]) -> list[Equivalent]:
    """Return the entries that fit no mutant."""
    every = {(each.module, each.where, each.text, each.change) for each in among}
    return [entry for entry in entries if entry[:4] not in every]


class StaleError(ValueError):
    """A known gap whose text is not, or not once, in its module."""


def read_known(root: Path, path: Path = HERE / "known.toml") -> list[Mutant]:
    """Read the gaps that were known, as mutants of the present source."""
    found = []
    for entry in tomllib.loads(path.read_text()).get("mutant", []):
        source = (root / entry["module"]).read_text()
        before, after = entry["before"], entry["after"]
        if source.count(before) != 1:
            raise StaleError(f"{entry['name']}: {entry['module']} has {before!r} not once")
        start = len(source[: source.index(before)].encode())
        line = source[: source.index(before)].count("\n") + 1
        found.append(
            Mutant(
                entry["module"], entry.get("where", ""), line, entry["name"],
                f"{' '.join(before.split())} -> {' '.join(after.split())}",
                start, start + len(before.encode()), after,
            )
        )  # fmt: skip
    return found
