"""Print the table of errors: python -m tests.exact [id or chapter ...] [--seeds N]."""

import argparse
from collections.abc import Sequence

from tests.exact.test_exact import DTYPES, bound, measured
from vtnp._registry.spec import registry


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.exact", description="Print the errors of formulas, in units."
    )
    parser.add_argument("names", nargs="*", metavar="id", help="formulas or chapters; all if none")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--all", action="store_true", help="also what each input is, and its worst")
    chosen = parser.parse_args(arguments)
    print(f"{'formula':34} {'dtype':8} {'friendly':>9} {'hard':>9} {'bound':>5}  hardest")
    for id, entry in registry.items():
        if chosen.names and not {id, entry.module} & set(chosen.names):
            continue
        for dtype in DTYPES:
            try:
                found = list(measured(id, dtype, seeds=chosen.seeds))
            except AttributeError as error:  # no derivation
                print(f"{id:34} {error}")
                break
            friendly = max((w.error for x, w in found if not x.is_hard), default=0.0)
            hardest, at = max(
                ((w, x.name) for x, w in found if x.is_hard),
                default=(None, "-"),
                key=lambda pair: pair[0].error,
            )
            error = hardest.error if hardest else 0.0
            print(f"{id:34} {dtype:8} {friendly:9.3g} {error:9.3g} {bound(id):5}  {at}")
            if chosen.all:
                for each, w in found:
                    print(f"    {each.name:30} {w}")


if __name__ == "__main__":
    main()
