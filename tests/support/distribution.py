"""Which process runs which test: those of one formula together, others file by file.

What is computed of a formula is remembered within a process, by several tests.
"""

import re
from collections.abc import Iterable
from typing import Any

from xdist.scheduler import LoadScopeScheduling

# Files in which each formula has tests of its own, which take long.
_BY_FORMULA = re.compile(r"tests/(formulas|verify)/test_\w+\.py::\w+\[(.*)\]$")


class ByFormula(LoadScopeScheduling):
    """Files and formulas in their order: what is slow is small, and does not come last."""

    def __init__(self, config: Any, log: Any, ids: Iterable[str]) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)
        longest_first = "|".join(sorted(map(re.escape, ids), key=len, reverse=True))
        self._id = re.compile(rf"(?:^|-)({longest_first})(?=-|$)")

    def _split_scope(self, nodeid: str) -> str:
        found = _BY_FORMULA.match(nodeid)
        id = found and self._id.search(found[2])
        return f"{found[1]} {id[1]}" if id else nodeid.partition("::")[0]
