"""Hostile files: what becomes of input that nobody should send.

    python -m tests.fuzz --cases 2000 --seed 0      all targets; prints a table of outcomes
    python -m tests.fuzz --target npz --cases 500   one of them
    python -m tests.fuzz --case npz:17              one case in this process, with its traceback
    python -m tests.fuzz.guided npz                 led by coverage, without end (needs atheris)

A target writes one hostile input into a folder and returns how to read it. All its choices come
from a random.Random, so that a case is its seed and number, and so that a fuzzer led by coverage
can choose in place of the generator. Most inputs are valid ones, changed where their structure is:
a size in a header, an entry of a directory, a node of JSON, an opcode of a pickle.

Each case must end in a value or in an error that is documented: of its class, on one line, without
characters that a terminal would obey, naming the file, with a reason. Anything else is wrong: other
errors, warnings, prints, more than MEMORY, more than SECONDS, code that runs, a process that dies.

Modules in this folder that define targets are found by themselves.
"""

import pkgutil
import random
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

MEMORY = 64_000_000  # bytes that reading may take
SECONDS = 10.0  # of computing that reading may take
WAITING = 60.0  # seconds that it may take in all, on a machine that does other things, too
HARM = "harm"  # the file that hostile code tries to make in the folder


class WrongError(AssertionError):
    """Raised by a target whose reader did what it must not, such as printing raw characters."""


class Case(NamedTuple):
    """One hostile input.

    read: reads it; what it returns, if a string, is the kind of outcome, such as "exit 2". files:
    any of which an error has to name; none where errors are not about files.
    """

    read: Callable[[], object]
    files: tuple[Path, ...] = ()


Make = Callable[[random.Random, Path], Case]


class Target(NamedTuple):
    """A reader of hostile input.

    make: writes an input into an empty folder. errors: the classes that are documented. warnings:
    patterns of messages that are. share: of the cases, relative to the other targets.
    """

    name: str
    make: Make
    errors: tuple[type[Exception], ...]
    warnings: tuple[str, ...]
    share: float


_targets: dict[str, Target] = {}


def target(
    name: str,
    *,
    errors: tuple[type[Exception], ...] = (),
    warnings: tuple[str, ...] = (),
    share: float = 1.0,
) -> Callable[[Make], Make]:
    """Register what makes the inputs of a target."""

    def register(make: Make) -> Make:
        assert name not in _targets, name
        _targets[name] = Target(name, make, errors, warnings, share)
        return make

    return register


def targets() -> dict[str, Target]:
    """Return all targets by name, of all modules here whose imports are installed."""
    for module in sorted(each.name for each in pkgutil.iter_modules(__path__)):
        if not module.startswith(("__", "test_", "guided")):
            import_module(f"{__name__}.{module}")
    return dict(sorted(_targets.items()))


def generator(seed: int, name: str, index: int) -> random.Random:
    """Return the generator of one case."""
    return random.Random(f"{seed}/{name}/{index}")
