"""A report on the terminal, for a program or for a person, and in a file for a CI server."""

import argparse
import json
from pathlib import Path

from vtnp.checkpoints.files import replacing
from vtnp.verify import junit
from vtnp.verify.report import Report
from vtnp.verify.text import told


def prepare(parser: argparse.ArgumentParser) -> None:
    """Declare how a report may be asked for."""
    add = parser.add_argument
    add("--json", action="store_true", help="the report for a program")
    add("--junit", type=Path, metavar="FILE", help="write the report for a CI server, too")
    add("--all", action="store_true", help="print every line, not only what is wrong")


def shown(report: Report, options: argparse.Namespace) -> int:
    """Print a report as those options ask; return its exit status."""
    if options.junit:
        with replacing(options.junit) as temporary:
            temporary.write_text(junit.text(report), encoding="utf-8")
    if options.json:
        print(json.dumps(report.as_dict(), indent=2, allow_nan=False))
    else:
        told(report, every=options.all)
    return report.status
