"""What the command lines of the examples share."""

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import NoReturn

from vtnp._registry.printable import printable
from vtnp.cost.option_text import integer_of


class BadInputError(Exception):
    """A request that cannot be carried out; the message is one line that says why."""


class Parser(argparse.ArgumentParser):
    """A parser that is described by the docstring of its script, and raises BadInputError."""

    def __init__(self, description: str) -> None:
        super().__init__(
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        raise BadInputError(message)


def integer(minimum: int, *, below: int = 2**63) -> Callable[[str], int]:
    """Return the type of an argument that is an integer: 4096, 1e6 or 2**20."""

    def read(text: str) -> int:
        try:
            value = integer_of(text)
        except ValueError:
            value = minimum - 1
        if not minimum <= value < below:
            raise argparse.ArgumentTypeError(f"expected an integer >= {minimum}, got {text!r}")
        return value

    return read


def require_installed(modules: Sequence[str], extra: str) -> None:
    """Raise BadInputError for modules that are not installed; extra: the one that has them."""
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise BadInputError(f"{', '.join(missing)} not found: pip install 'vtnp[{extra}]'")


def report(script: str, error: Exception) -> int:
    """Print an error as one line; return the exit status 2."""
    print(f"{script}: {printable(error)}", file=sys.stderr)
    return 2
