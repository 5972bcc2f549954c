"""The process that reads hostile input: python -m tests.fuzz.worker SEED BEGIN PLAN.

PLAN is JSON, a list of a target's name and the number of a case; the first BEGIN of them are left
out. It writes one line of JSON for each case, so that the process that started it knows which one
it died of.
"""

import json
import os
import resource
import sys
import tempfile
from pathlib import Path

from tests.fuzz import targets
from tests.fuzz.judging import judged

_MORE = 2 << 30  # bytes that the process may take in addition


def main(seed: int, begin: int, plan: list[tuple[str, int]]) -> None:
    """Read the cases of a plan one by one."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    known = targets()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warm: set[str] = set()
    for name, index in plan[begin:]:
        with tempfile.TemporaryDirectory(prefix="fuzz") as folder:
            target = known[name]
            if name not in warm:  # imports on first use are not the fault of a case
                warm.add(name)
                (Path(folder) / "warm").mkdir()
                judged(target, seed, -1, Path(folder) / "warm")
                pages = int(Path("/proc/self/statm").read_text().split()[0])
                limit = pages * resource.getpagesize() + _MORE
                resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
            (Path(folder) / "case").mkdir()
            found = judged(target, seed, index, Path(folder) / "case")
        answers.write(json.dumps(found) + "\n")
        answers.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3]))
