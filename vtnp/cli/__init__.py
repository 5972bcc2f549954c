"""The command line: `vtnp COMMAND ...`."""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from vtnp._errors import FormulaError
from vtnp._pages import UnknownFormulaError
from vtnp._usage import UsageError
from vtnp.checkpoints.files import FileError
from vtnp.cli import cost

_COMMANDS: dict[str, Callable[[argparse.ArgumentParser], None]] = {"cost": cost.prepare}
# Errors whose message says what is wrong with the request.
_TOLD = (UsageError, FormulaError, UnknownFormulaError, FileError)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; {self.prog} --help tells more")


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; each sets `run`, a function of what was parsed."""
    top = _Parser(prog="vtnp", description="Video transformers, one equation at a time.")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, prepare in _COMMANDS.items():
        module = sys.modules[prepare.__module__]
        text = (module.__doc__ or "").strip()
        command = commands.add_parser(
            name,
            help=text.splitlines()[0],
            description=text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        prepare(command)
    return top


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read a command line; KEY=VALUE may stand before options and behind them."""
    options, rest = parser().parse_known_args(arguments)
    strange = [word for word in rest if word.startswith("-") or "=" not in word]
    if strange or (rest and not hasattr(options, "settings")):
        raise UsageError(f"unrecognized arguments: {' '.join(strange or rest)}")
    if rest:
        options.settings += rest
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status: 2 where it could not be run."""
    try:
        options = parsed(arguments)
        status: int = options.run(options)
    except _TOLD as error:
        print(f"vtnp: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return status
