"""The command line: `vtnp COMMAND ...`."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from vtnp._registry.errors import FormulaError, UsageError
from vtnp._registry.pages import UnknownFormulaError
from vtnp.checkpoints.files import FileError

# Each is the module of its name here; only the one that is asked for is imported.
_COMMANDS = {
    "compare": "compare a whole model with another implementation, layer by layer",
    "cost": "tell what a formula or a model costs, at any size",
    "verify": "check somebody's implementation of a formula, and name its mistake",
    "vectors": "write numbers of every formula for programs in any language, and judge theirs",
}

# Errors whose message says what is wrong with the request.
_TOLD = (UsageError, FormulaError, UnknownFormulaError, FileError)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; {self.prog} --help tells more")


def parser(chosen: str) -> argparse.ArgumentParser:
    """Return the parser of the command line, with all that the chosen command takes."""
    top = _Parser(prog="vtnp", description="Video transformers, one equation at a time.")
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
    """Read a command line; KEY=VALUE may stand before options and behind them."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    options, rest = parser(next(iter(words), "")).parse_known_args(words)
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
    except BrokenPipeError:  # whoever read it has read enough; nor must the end complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return status
