"""Write numbers of every formula for programs in any language, and judge theirs.

    vtnp vectors export DIR                     inputs, outputs and gradients, a file per formula
    vtnp vectors export DIR --formula eq2       of one formula alone
    vtnp vectors check DIR RESULTS              judge what a program wrote into RESULTS
    vtnp vectors check DIR RESULTS --json       the report for a program

DIR/manifest.json says what is in the files, vectors.schema.json beside it what is in the manifest;
examples/read_vectors.py reads and answers them in plain Python.
Exit status of check: 0 all results are right, 1 some are wrong or missing, 2 there were none.
"""

import argparse
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from vtnp._registry.errors import UsageError
from vtnp.cli import reports, units

_NEEDED = ("jsonschema", "safetensors")


def prepare(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    does = parser.add_subparsers(title="does", metavar="WHAT", required=True)
    export = does.add_parser("export", help="write vectors into a folder", allow_abbrev=False)
    export.add_argument("folder", type=Path, metavar="DIR", help="new, empty, or an older export")
    export.add_argument("--seed", type=int, default=0, help="of the inputs (default: 0)")
    export.set_defaults(run=run_export)
    check = does.add_parser("check", help="judge results of a program", allow_abbrev=False)
    check.add_argument("folder", type=Path, metavar="DIR", help="what was exported")
    check.add_argument("results", type=Path, metavar="RESULTS", help="files of the same names")
    reports.prepare(check)
    check.set_defaults(run=run_check)
    for each in (export, check):
        each.add_argument(
            "--formula", action="append", default=[], help="id, eq2 or 2; may come again"
        )


def run_export(options: argparse.Namespace) -> int:
    """Write vectors, and tell how large they are."""
    _need(_NEEDED)
    from vtnp.verify.vectors import export

    folder = export(options.folder, options.formula, options.seed)
    files = list(folder.iterdir())
    size = sum(file.stat().st_size for file in files)
    print(f"{folder}: {len(files)} files, {units.in_bytes(size)}; see {folder / 'manifest.json'}")
    return 0


def run_check(options: argparse.Namespace) -> int:
    """Judge results; return the exit status of the report."""
    _need(_NEEDED)
    from vtnp.verify.vectors import check

    report = check(options.folder, options.results, options.formula)
    return reports.shown(report, options)


def _need(modules: Sequence[str]) -> None:
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise UsageError(f"{', '.join(missing)} not found: pip install 'vtnp[verify]'")
