"""Cases read in a process of their own, which they may kill; and a table of what they ended in."""

import json
import os
import selectors
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.fuzz import WAITING, Target
from tests.fuzz.judging import Outcome

ROOT = Path(__file__).parents[2]


class Found(NamedTuple):
    """A case and its outcome."""

    target: str
    index: int
    outcome: Outcome


def plan(chosen: Sequence[Target], cases: int) -> list[tuple[str, int]]:
    """Share cases out among targets, at least one to each."""
    whole = sum(target.share for target in chosen)
    counts = [max(1, round(cases * target.share / whole)) for target in chosen]
    return [(each.name, i) for each, n in zip(chosen, counts, strict=True) for i in range(n)]


def run(seed: int, cases: Sequence[tuple[str, int]]) -> Iterator[Found]:
    """Read cases one after the other; when the process dies, another one continues."""
    begin = 0
    while begin < len(cases):
        for outcome in _process(seed, begin, cases):
            yield Found(*cases[begin], outcome)
            begin += 1


def _process(seed: int, begin: int, cases: Sequence[tuple[str, int]]) -> Iterator[Outcome]:
    """Yield outcomes until all are there or the process ends, of which the last tells."""
    worker = subprocess.Popen(
        [sys.executable, "-m", "tests.fuzz.worker", str(seed), str(begin), json.dumps(cases)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
    )
    assert worker.stdout is not None
    with worker, selectors.DefaultSelector() as selector:
        selector.register(worker.stdout, selectors.EVENT_READ)
        for i in range(begin, len(cases)):
            ready = selector.select(timeout=3 * WAITING)
            line = worker.stdout.readline() if ready else b""
            if not line and ready:
                status = worker.wait()
                if status == 1:
                    raise RuntimeError(f"{cases[i]}: the target itself failed, see above")
                yield Outcome("crash", f"it ended with status {status}", True, 0.0, 0)
                return
            if not line:
                worker.kill()
                yield Outcome("hang", "no answer", True, 0.0, 0)
                return
            yield Outcome(*json.loads(line))


def table(found: Iterable[Found]) -> str:
    """Return the numbers of outcomes by target, and what is wrong."""
    by_target: dict[str, list[Found]] = {}
    for each in found:
        by_target.setdefault(each.target, []).append(each)
    width = max(map(len, by_target))
    lines = [f"{'':{width}}  cases  wrong  seconds    MB  outcomes"]
    for name, group in by_target.items():
        kinds = Counter(each.outcome.kind for each in group if not each.outcome.wrong)
        wrong = sum(each.outcome.wrong for each in group)
        seconds = sum(each.outcome.seconds for each in group)
        memory = max(each.outcome.memory for each in group) / 1e6
        told = ", ".join(f"{kind} {n}" for kind, n in kinds.most_common())
        lines.append(
            f"{name:{width}}  {len(group):5}  {wrong:5}  {seconds:7.1f}  {memory:4.0f}  {told}"
        )
    return "\n".join(lines)


def faults(found: Iterable[Found], seed: int, each_kind: int = 3) -> str:
    """Return the wrong outcomes by target and kind, with how to run the first of each again."""
    groups: dict[tuple[str, str], list[Found]] = {}
    for each in found:
        if each.outcome.wrong:
            groups.setdefault((each.target, each.outcome.kind), []).append(each)
    lines = []
    for (target, kind), group in sorted(groups.items()):
        lines.append(f"{target}: {kind}, {len(group)} times")
        for each in group[:each_kind]:
            case = shlex.quote(f"{target}:{each.index}")
            again = f"python -m tests.fuzz --seed {seed} --case {case}"
            lines.append(f"    {ascii(each.outcome.detail)[:300]}\n        {again}")
    return "\n".join(lines)
