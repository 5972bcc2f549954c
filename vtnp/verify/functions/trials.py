"""What candidates are tried on: a formula's own cases, with the corners that break ports."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtnp._array.trees import tree_leaves
from vtnp._registry.calls import Call
from vtnp._registry.errors import UsageError
from vtnp._registry.spec import Entry
from vtnp.claims.cases import Sizing, make
from vtnp.verify.errors import NotTakenError
from vtnp.verify.handlers import Function, calls_of
from vtnp.verify.judge import rounded
from vtnp.verify.page_text import inner_formulas

Array = NDArray[Any]
Taken = Callable[[Mapping[str, Any]], Mapping[str, Any]]


@dataclass(frozen=True)
class Trial:
    """One input, and how it came about. arguments: float64, rounded to dtype."""

    arguments: Mapping[str, Any]
    dtype: str
    sizing: str
    values: str
    batch: tuple[int, ...]
    seed: int

    @property
    def name(self) -> str:
        """Say it in a few words."""
        batch = f", batch {'x'.join(map(str, self.batch))}" if self.batch else ""
        return f"{self.sizing} sizes, {self.values} values{batch}, {self.dtype}, seed {self.seed}"

    @property
    def numbers(self) -> int:
        """How many numbers it is made of."""
        return sum(x.size for x in self.arguments.values() if hasattr(x, "dtype"))


def _repeated(x: Array) -> Array:
    """All rows are the first."""
    return np.broadcast_to(x[..., :1, :], x.shape).copy() if x.ndim > 1 else x


def _near_ties(x: Array) -> Array:
    """All rows are nearly the first."""
    return _repeated(x) + 1e-4 * x


def _uneven(x: Array) -> Array:
    """Every other row is ten thousand times as large."""
    return x * np.where(np.arange(x.shape[-2]) % 2, 1e4, 1.0)[:, None] if x.ndim > 1 else 1e4 * x


VALUES: Mapping[str, Callable[[Array], Array]] = {
    "usual": lambda x: x,
    "large": lambda x: 8.0 * x,
    "huge": lambda x: 100.0 * x,
    "tiny": lambda x: 1e-3 * x,
    "repeated": _repeated,
    "nearly tied": _near_ties,
    "offset": lambda x: x + 10.0,
    "uneven": _uneven,
    "far": lambda x: x + 1e3,
}
# What such numbers round to in a lower precision is left to chance.
_FAR: Mapping[str, frozenset[str]] = {
    "float64": frozenset(),
    "float32": frozenset({"huge", "uneven", "far", "offset"}),
    "float16": frozenset({"huge", "uneven", "far", "offset"}),
    "bfloat16": frozenset({"huge", "uneven", "far", "offset"}),
}

# Nor is it told, in a lower precision, which of such rows a formula chooses.
_TIED = frozenset({"repeated", "nearly tied"})

# Usual numbers first, in sizes that tell axes apart; corners after that.
_SCHEDULE: tuple[tuple[Sizing, str], ...] = (
    ("distinct", "usual"), ("distinct", "usual"), ("equal", "usual"), ("one", "usual"),
    ("distinct", "large"), ("odd", "usual"), ("distinct", "tiny"), ("distinct", "repeated"),
    ("distinct", "nearly tied"), ("distinct", "offset"), ("distinct", "huge"),
    ("distinct", "uneven"), ("distinct", "far"),
)  # fmt: skip
INVERSE = "pseudo-inverse"
DRAWN = "drawn"  # the sizing of what hypothesis draws
_SCOUTED = 60  # seeds that are looked through for options that the schedule left out


def trials(
    entry: Entry,
    dtypes: tuple[str, ...],
    batches: tuple[tuple[int, ...], ...],
    seed: int,
    sizes: Mapping[str, int] | None = None,
    taken: Taken = dict,
) -> Iterator[Trial]:
    """Yield the trials of a formula, the same for the same seed.

    dtypes: the first of them with all batches, the others with one of them in turn. sizes: of axes
    that have the same in all trials. taken: what is put to the candidate of the arguments of a
    case; it raises NotTakenError for a case that is none for it.
    Raises UsageError where no trial can be made of such sizes and of what is taken.
    """
    seeds = _scouted(entry, batches, seed, taken)
    refused: list[ValueError] = []
    made = 0
    for dtype in dtypes:
        fair = values_for(entry, dtype)
        planned = [
            (sizing, values, batch, seed + len(batches) * k + i)
            for k, (sizing, values) in enumerate(_SCHEDULE)
            for i, batch in enumerate(batches)
            if values in fair and (dtype == dtypes[0] or i == k % len(batches))
        ]
        planned += [("distinct", "usual", batch, each) for batch, each in seeds]
        for sizing, values, batch, each in planned:
            try:
                case = make(entry.id, each, batch, sizing=sizing, sizes=sizes)
                found = trial(entry, taken(case.args), dtype, sizing, values, batch, each)
            except NotTakenError:
                continue
            except ValueError as error:  # sizes that this formula cannot have
                refused.append(error)
                continue
            made += 1
            if dtype == "float64" or not cuts_off(entry, found.arguments):
                yield found
    if refused and not made:
        why = " ".join(str(refused[0]).split())
        raise UsageError(f"no case of {entry.id} has these sizes and options: {why}")


def values_for(entry: Entry, dtype: str) -> tuple[str, ...]:
    """Return the names of the VALUES on which a formula is no game of chance in a precision."""
    chooses = any(argument.kind == "int" for argument in entry.signature.returns)
    left_out = _FAR[dtype] | (_TIED if chooses and dtype != "float64" else frozenset())
    return tuple(name for name in VALUES if name not in left_out)


def cuts_off(entry: Entry, arguments: Mapping[str, Any]) -> bool:
    """Tell whether a pseudo-inverse is taken: what it cuts off depends on the precision."""
    return bool(inversions(entry.id, entry.function, arguments))


def inversions(id: str, function: Function, arguments: Mapping[str, Any]) -> list[Call]:
    """Return the pseudo-inverses that a formula takes on its way. function: the formula."""
    if INVERSE not in (id, *inner_formulas(id)):
        return []
    return calls_of({INVERSE}, function, arguments)


def _scouted(
    entry: Entry, batches: tuple[tuple[int, ...], ...], seed: int, taken: Taken
) -> list[tuple[tuple[int, ...], int]]:
    """Choose batch axes and seeds such that any two options meet, whatever their values."""
    seen: set[Any] = set()
    chosen = []
    for k in range(_SCOUTED):
        batch, each = batches[k % len(batches)], seed + len(batches) * len(_SCHEDULE) + k
        try:
            options = sorted(_options(entry, taken(make(entry.id, each, batch).args)))
        except NotTakenError:
            continue
        pairs = {*combinations_with_replacement(options, 2)}
        if pairs - seen:
            chosen.append((batch, each))
        seen |= pairs
    return chosen


def _options(entry: Entry, arguments: Mapping[str, Any]) -> set[str]:
    """Name what arguments choose: words and truths as they are, of optional arrays whether."""
    parameters = inspect.signature(entry.function).parameters
    chosen = {f"{name}={x}" for name, x in arguments.items() if isinstance(x, bool | str)}
    return (
        chosen
        | {
            f"{name} {'given' if arguments.get(name) is not None else 'left out'}"
            for name, each in parameters.items()
            if each.default is None
        }
        | {path for path, _ in tree_leaves(dict(arguments)) if "." in path}
    )


def trial(
    entry: Entry,
    arguments: Mapping[str, Any],
    dtype: str,
    sizing: str,
    values: str,
    batch: tuple[int, ...],
    seed: int,
) -> Trial:
    """Make one trial of the arguments of a case; the rest is as in Trial.

    Raises ValueError for sizes that the formula cannot have.
    """
    given = dict(arguments)
    for argument in entry.signature.arguments:
        x = given.get(argument.name)
        if x is not None and argument.kind == "float" and argument.shape.row is not None:
            given[argument.name] = VALUES[values](x)
    given = rounded(given, dtype)
    with np.errstate(all="ignore"):
        entry.function(**given)
    return Trial(given, dtype, sizing, values, batch, seed)
