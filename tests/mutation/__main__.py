"""`python -m tests.mutation [ROOM | MODULE | CHAPTER | FORMULA ...]`.

Changes one place of one module at a time, in a copy of the project, and runs the tests that belong
to the place. A mutant is killed where one of them fails. The table says how many were; the list
above it how each survivor reads.
"""

import argparse
import json
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import vtnp
from tests.mutation.listed import StaleError, read_equivalents, read_known, stale
from tests.mutation.mutants import Mutant, mutants, other_words
from tests.mutation.runs import Outcome, Runner
from tests.mutation.selection import ROOMS, formulas_at, modules_of, room_of, selected_at

ROOT = Path(__file__).parents[2]
_FATES = ("killed", "survived", "equivalent", "broken")
_OF_PAGES = ("tests/project/test_pages.py", "tests/project/test_traceability.py")


def main(argv: Sequence[str] | None = None) -> int:
    """Run mutants; return 1 where one survived, 2 where a list does not fit the code."""
    options = _parser().parse_args(argv)
    listed = read_equivalents()
    if options.known:
        try:
            chosen = read_known(ROOT)
        except StaleError as error:
            print(f"tests/mutation/known.toml: {error}")
            return 2
    else:
        names = options.names or list(ROOMS)
        chosen = [mutant for name in names for mutant in mutants_at(name)]
        modules = {each.module for each in chosen}
        every = [mutant for module in modules for mutant in _of_module(module)]
        old = stale((each for each in listed if each.module in modules), every)
        for entry in old:
            print(f"stale in tests/mutation/equivalent.toml: {entry.module}: {entry.change}")
        if old:
            return 2
    total = len(chosen)
    if options.sample and options.sample < total:
        sample = random.Random(options.seed).sample(range(total), options.sample)
        chosen = [chosen[i] for i in sorted(sample)]
    equivalent = [next((x for x in listed if x.fits(each)), None) for each in chosen]
    outcomes = [
        Outcome(mutant, "equivalent", entry.reason)
        for mutant, entry in zip(chosen, equivalent, strict=True)
        if entry is not None
    ]
    planned = [
        (mutant, selected_at(ROOT, mutant.module, mutant.where))
        for mutant, entry in zip(chosen, equivalent, strict=True)
        if entry is None
    ]
    print(f"{len(chosen)} of {total} mutants, {len(outcomes)} of them equivalent", flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="mutation-") as scratch,
        Runner(ROOT, Path(scratch), options.jobs, cache=options.cache) as runner,
    ):
        for outcome in runner.outcomes(planned):
            outcomes.append(outcome)
            if outcome.fate != "killed" or options.verbose:
                print(line_of(outcome), flush=True)
    for test in sorted(runner.failing):
        print(f"fails without a mutant, and was left out: {test}")
    print(table(outcomes))
    if options.out:
        rows = [each.mutant._asdict() | each._asdict() | {"mutant": None} for each in outcomes]
        options.out.write_text(json.dumps(rows, indent=1) + "\n")
    return int(any(each.fate in {"survived", "broken"} for each in outcomes))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"rooms: {', '.join(ROOMS)}; by default all")
    parser.add_argument("--sample", type=int, metavar="N", help="only N mutants, drawn at random")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--known", action="store_true", help="the gaps of known.toml instead")
    parser.add_argument("--jobs", type=int, default=1, help="copies of the project, by default 1")
    parser.add_argument("--out", type=Path, help="a JSON file for all outcomes")
    parser.add_argument(
        "--cache", type=Path, help="a JSON file that remembers outcomes: a second run goes on there"
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="print the killed ones, too")
    return parser


@cache
def _of_module(module: str) -> list[Mutant]:
    return mutants(module, (ROOT / module).read_text(), _words())


@cache
def _words() -> dict[str, str]:
    return other_words(path.read_text() for path in sorted((ROOT / "vtnp").rglob("*.py")))


def mutants_at(name: str) -> list[Mutant]:
    """Return the mutants of a room, a module, a chapter, or a formula."""
    if modules := modules_of(ROOT, name):
        return [mutant for module in modules for mutant in _of_module(module)]
    module = f"{vtnp.formula(name).function.__module__.replace('.', '/')}.py"
    return [
        x for x in _of_module(module)
        if name in formulas_at(ROOT, f"{module}:{x.where.partition('.')[0]}")
    ]  # fmt: skip


def line_of(outcome: Outcome) -> str:
    """Write an outcome as a line."""
    mutant = outcome.mutant
    place = f"{mutant.module}:{mutant.line} {mutant.where}"
    by = f"  [{outcome.by}]" if outcome.by else ""
    return f"{outcome.fate:10} {outcome.cpu:5.1f} s  {place}: {mutant.change}{by}"


def table(outcomes: Iterable[Outcome]) -> str:
    """Write the counts by room as a table."""
    rows: dict[str, Counter[str]] = {}
    for each in outcomes:
        for room in (room_of(each.mutant.module), "all"):
            counts = rows.setdefault(room, Counter())
            counts[each.fate] += 1
            counts["by a page"] += each.by.startswith(_OF_PAGES)
    lines = [f"{'':12}" + "".join(f"{fate:>12}" for fate in (*_FATES, "by a page", "score"))]
    for room in [*(x for x in ROOMS if x in rows), "all"]:
        counts = rows.get(room, Counter())
        alive = counts["killed"] + counts["survived"]
        score = f"{counts['killed'] / alive:.1%}" if alive else "-"
        cells = [*(str(counts[fate]) for fate in (*_FATES, "by a page")), score]
        lines.append(f"{room:12}" + "".join(f"{cell:>12}" for cell in cells))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
