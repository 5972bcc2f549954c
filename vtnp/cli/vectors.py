"""Export test vectors of every formula for programs in any language, and check their results.

    vtnp vectors export DIR                     inputs, outputs and gradients, a file per formula
    vtnp vectors export DIR --formula eq2       one formula only
    vtnp vectors check DIR RESULTS              check the results that a program wrote to RESULTS
    vtnp vectors check DIR RESULTS --json       print the report as JSON

DIR/manifest.json describes the files; DIR/vectors.schema.json is the JSON schema of the manifest.
examples/read_vectors.py reads the vectors and writes results in plain Python.
Exit status of check: 0 all results are right, 1 some are wrong or missing, 2 no results were found.
"""

import argparse
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from vtnp._registry.errors import UsageError
from vtnp._registry.printable import printable
from vtnp.cli import reports, units
from vtnp.cli.output import say
from vtnp.verify.vectors import check, export

_REQUIRED = ("jsonschema", "safetensors")


def prepare(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    exporting = actions.add_parser(
        "export", help="write test vectors to a folder", allow_abbrev=False
    )
    exporting.add_argument(
        "folder",
        type=Path,
        metavar="DIR",
        help="a folder that is new or empty, or has an older export",
    )
    exporting.add_argument("--seed", type=int, default=0, help="seed of the inputs (default: 0)")
    exporting.set_defaults(run=run_export)
    checking = actions.add_parser(
        "check", help="check the results of a program", allow_abbrev=False
    )
    checking.add_argument("folder", type=Path, metavar="DIR", help="folder of the exported vectors")
    checking.add_argument(
        "results",
        type=Path,
        metavar="RESULTS",
        help="folder of results, in files of the same names",
    )
    reports.prepare(checking)
    checking.set_defaults(run=run_check)
    for each in (exporting, checking):
        each.add_argument(
            "--formula",
            action="append",
            default=[],
            help="only this formula: its id, eq2 or 2; may be repeated",
        )


def run_export(options: argparse.Namespace) -> int:
    """Write test vectors, and print their number and size."""
    _require(_REQUIRED)
    folder = export(options.folder, options.formula, options.seed)
    files = list(folder.iterdir())
    size = sum(file.stat().st_size for file in files)
    told = f"{folder}: {len(files)} files, {units.in_bytes(size)}; see {folder / 'manifest.json'}"
    say(printable(told))
    return 0


def run_check(options: argparse.Namespace) -> int:
    """Check results; return the exit status of the report."""
    _require(_REQUIRED)
    report = check(options.folder, options.results, options.formula)
    return reports.show(report, options)


def _require(modules: Sequence[str]) -> None:
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise UsageError(f"{', '.join(missing)} not found: pip install 'vtnp[verify]'")
