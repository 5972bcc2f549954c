"""python -m tests.fuzz: reads hostile input and tells what becomes of it."""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz import generator, targets
from tests.fuzz.running import faults, plan, run, table


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    add = parser.add_argument
    add("--cases", type=int, default=2000, help="of all targets together (default: 2000)")
    add("--seed", type=int, default=0, help="the same seed gives the same cases (default: 0)")
    add("--target", action="append", help="only this one; may be repeated")
    add("--case", metavar="TARGET:NUMBER", help="one case, in this process")
    options = parser.parse_args()
    known = targets()
    unknown = {*(options.target or ()), (options.case or "").partition(":")[0]} - {"", *known}
    if unknown:
        parser.error(f"no target {', '.join(unknown)}; there are {', '.join(known)}")
    if options.case:
        return again(options.seed, *options.case.split(":"))
    chosen = [known[name] for name in options.target or known]
    start = time.perf_counter()
    found = list(run(options.seed, plan(chosen, options.cases)))
    print(table(found))
    wrong = sum(each.outcome.wrong for each in found)
    seconds = time.perf_counter() - start
    kinds = {each.outcome.kind for each in found if each.outcome.wrong}
    print(f"\n{len(found)} cases, {wrong} wrong of {len(kinds)} kinds, {seconds:.0f} s")
    print(faults(found, options.seed))
    return int(wrong > 0)


def again(seed: int, name: str, index: str) -> int:
    """Read one case in this process, which shows the whole traceback."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz"))
    print(f"the case is in {folder}", file=sys.stderr)
    case = targets()[name].make(generator(seed, name, int(index)), folder)
    print(repr(case.read()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
