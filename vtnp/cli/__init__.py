"""The command line: `vtnp COMMAND ...`."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from vtnp import __version__
from vtnp._registry.errors import FormulaError, UnknownFormulaError, UsageError
from vtnp.checkpoints.opening import FileError
from vtnp.cli.output import complain

# Each is the module of its name here; only the one that is asked for is imported.
_COMMANDS = {
    "compare": "compare a whole model with another implementation, layer by layer",
    "cost": "count multiply-adds, bytes and peak memory of a formula or a model, at any size",
    "verify": "check an implementation of a formula, and name its mistake",
    "vectors": "export test vectors of every formula, and check the results of other programs",
}

# Errors of the user, whose message is enough.
_USER_ERRORS = (UsageError, FormulaError, UnknownFormulaError, FileError)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


def parser(chosen: str) -> argparse.ArgumentParser:
    """Return the parser of the command line, with the arguments of the chosen command."""
    top = _Parser(
        prog="vtnp",
        description="A tested reference implementation of every equation of a survey on video "
        "transformers.",
        epilog="vtnp COMMAND --help lists the options of a command, with examples.",
    )
    top.add_argument("--version", action="version", version=f"vtnp {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, summary in _COMMANDS.items():
        command = commands.add_parser(
            name,
            help=summary,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        if name == chosen:
            module = import_module(f"vtnp.cli.{name}")
            command.description = module.__doc__
            module.prepare(command)
    return top


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse a command line; KEY=VALUE may come before and after options."""
    strings = list(sys.argv[1:] if arguments is None else arguments)
    options, rest = parser(next(iter(strings), "")).parse_known_args(strings)
    unknown = [text for text in rest if text.startswith("-") or "=" not in text]
    if unknown or (rest and not hasattr(options, "settings")):
        raise UsageError(f"unrecognized arguments: {' '.join(unknown or rest)}")
    if rest:
        options.settings += rest
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        The command and its arguments; left out, those of the process.

    Returns
    -------
    int
        The exit status: that of the command, 2 where it could not be run.
    """
    try:
        options = parsed(arguments)
        status: int = options.run(options)
    except _USER_ERRORS as error:
        complain(error)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of a pipe has closed it; nor must the exit complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return status
