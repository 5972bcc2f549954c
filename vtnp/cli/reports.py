"""A report on the terminal: for a program, or for a person."""

import argparse
import json

from vtnp.verify.report import Report
from vtnp.verify.text import told


def shown(report: Report, options: argparse.Namespace) -> int:
    """Print a report as --json and --all ask; return its exit status."""
    if options.json:
        print(json.dumps(report.as_dict(), indent=2))
    else:
        told(report, every=options.all)
    return report.status
