"""All that the command prints itself; `vtnp.verify.text` prints reports, likewise escaped."""

import sys

from vtnp._registry.printable import printable, shortened

_LONGEST = 1000  # characters of an error


def say(text: str) -> None:
    """Print a text of one or more lines, without characters that a terminal would obey."""
    print(printable(text, lines=True, encoding=sys.stdout.encoding or "utf-8"))


def complain(error: Exception) -> None:
    """Print an error on one line of the error output."""
    text = shortened(f"vtnp: {error}", _LONGEST)
    print(printable(text, encoding=sys.stderr.encoding or "utf-8"), file=sys.stderr)
