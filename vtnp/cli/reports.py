"""Reports on the terminal, as JSON, and as JUnit files."""

import argparse
import json
from pathlib import Path

from vtnp.checkpoints.replacement import replacing
from vtnp.cli.output import say
from vtnp.verify.junit import as_xml
from vtnp.verify.report import Report
from vtnp.verify.text import print_report


def prepare(parser: argparse.ArgumentParser) -> None:
    """Declare the options of all commands that print a report."""
    add = parser.add_argument
    add("--json", action="store_true", help="print the report as JSON")
    add("--junit", type=Path, metavar="FILE", help="also write a JUnit report")
    add("--all", action="store_true", help="print every check, not only failures")


def show(report: Report, options: argparse.Namespace) -> int:
    """Print a report as the options say, and return its exit status."""
    if options.junit:
        with replacing(options.junit) as temporary:
            temporary.write_text(as_xml(report), encoding="utf-8")
    if options.json:
        say(json.dumps(report.as_dict(), indent=2, allow_nan=False))
    else:
        print_report(report, every_line=options.all)
    return report.status
