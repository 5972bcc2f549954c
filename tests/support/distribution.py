"""The order of the tests, and which process runs which: those of one formula together.

What is computed of a formula is remembered within a process, by several tests.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any

# Files in which each formula has tests of its own, which take long.
_BY_FORMULA = re.compile(r"tests/(formulas|verify)/test_\w+\.py::\w+\[(.*)\]$")


def scopes(ids: Iterable[str]) -> Callable[[str], str]:
    """Return what tells the scope of a test by its node id: a formula, or else its file.

    ids: of the formulas.
    """
    longest_first = "|".join(sorted(map(re.escape, ids), key=len, reverse=True))
    any_id = re.compile(rf"(?:^|-)({longest_first})(?=-|$)")

    def scope_of(nodeid: str) -> str:
        found = _BY_FORMULA.match(nodeid)
        id = found and any_id.search(found[2])
        return f"{found[1]} {id[1]}" if id else nodeid.partition("::")[0]

    return scope_of


def grouped(nodeids: Iterable[str], scope_of: Callable[[str], str]) -> list[int]:
    """Return the places of tests, scope after scope, each where its first test is."""
    groups: dict[str, list[int]] = {}
    for i, nodeid in enumerate(nodeids):
        groups.setdefault(scope_of(nodeid), []).append(i)
    return [i for places in groups.values() for i in places]


def scheduler(config: Any, log: Any, scope_of: Callable[[str], str]) -> Any:
    """Return pytest-xdist's scheduler that hands out scopes in their order.

    What is slow is small, and does not come last.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByScope(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return scope_of(nodeid)

    config.option.loadscopereorder = False
    return ByScope(config, log)
