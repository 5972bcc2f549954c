"""What candidates are tried on: a formula's own cases, with the corner cases that break ports."""

import inspect
from collections.abc import Callable, Hashable, Iterator, Mapping
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
from vtnp.verify.errors import ArgumentNotTakenError
from vtnp.verify.handlers import Function, calls_of
from vtnp.verify.judge import rounded
from vtnp.verify.page_text import inner_formulas

Array = NDArray[Any]
Select = Callable[[Mapping[str, Any]], Mapping[str, Any]]

INVERSE = "pseudo-inverse"
DRAWN = "drawn"  # the sizing of what hypothesis draws
_SEEDS_FOR_OPTIONS = 60  # that are searched for options which the schedule has left out


@dataclass(frozen=True, eq=False)
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
        """A description in a few words."""
        batch = f", batch {'x'.join(map(str, self.batch))}" if self.batch else ""
        return f"{self.sizes}, {self.values} values{batch}, {self.dtype}, seed {self.seed}"

    @property
    def sizes(self) -> str:
        """The sizing in words."""
        return "all sizes 1" if self.sizing == "one" else f"{self.sizing} sizes"

    @property
    def key(self) -> Hashable:
        """A key that trials of the same numbers share."""
        how = self.dtype, self.sizing, self.values, self.batch, self.seed
        return hashable(self.arguments), how

    @property
    def size(self) -> int:
        """How many numbers its arguments have."""
        return sum(x.size for x in self.arguments.values() if hasattr(x, "dtype"))


def hashable(value: Any) -> Hashable:
    """Return what values of equal numbers have in common, as a key of a dict."""
    if isinstance(value, Mapping):
        return tuple((name, hashable(x)) for name, x in value.items())
    if isinstance(value, list | tuple):
        return type(value).__name__, tuple(map(hashable, value))
    if isinstance(value, np.random.Generator):
        return hashable(value.bit_generator.state)
    if hasattr(value, "dtype"):
        x = np.asarray(value)
        return x.dtype.str, x.shape, x.tobytes()
    return type(value).__name__, value


# --- Values ---------------------------------------------------------------------------------------


def _repeated(x: Array) -> Array:
    """All rows are the first."""
    return np.broadcast_to(x[..., :1, :], x.shape).copy() if x.ndim > 1 else x


def _nearly_tied(x: Array) -> Array:
    """All rows are nearly the first."""
    return _repeated(x) + 1e-4 * x


def _uneven(x: Array) -> Array:
    """Every other row is ten thousand times as large."""
    return x * np.where(np.arange(x.shape[-2]) % 2, 1e4, 1.0)[:, None] if x.ndim > 1 else 1e4 * x


VALUES: Mapping[str, Callable[[Array], Array]] = {
    "typical": lambda x: x,
    "large": lambda x: 8.0 * x,
    "huge": lambda x: 100.0 * x,
    "tiny": lambda x: 1e-3 * x,
    "repeated": _repeated,
    "nearly tied": _nearly_tied,
    "offset": lambda x: x + 10.0,
    "uneven": _uneven,
    "far offset": lambda x: x + 1e3,
}
# In a lower precision, rounding alone decides what such numbers give; and which of tied rows a
# formula chooses.
_ONLY_IN_FLOAT64 = frozenset({"huge", "uneven", "far offset", "offset"})
_TIED = frozenset({"repeated", "nearly tied"})

# Typical numbers first, in sizes that tell axes apart; corner cases after that.
_SCHEDULE: tuple[tuple[Sizing, str], ...] = (
    ("distinct", "typical"), ("distinct", "typical"), ("equal", "typical"), ("one", "typical"),
    ("distinct", "large"), ("odd", "typical"), ("distinct", "tiny"), ("distinct", "repeated"),
    ("distinct", "nearly tied"), ("distinct", "offset"), ("distinct", "huge"),
    ("distinct", "uneven"), ("distinct", "far offset"),
)  # fmt: skip


def values_for(entry: Entry, dtype: str) -> tuple[str, ...]:
    """Return the names of the VALUES on which a formula can be judged in a dtype."""
    if dtype == "float64":
        return tuple(VALUES)
    chooses = any(argument.kind == "int" for argument in entry.signature.returns)
    left_out = _ONLY_IN_FLOAT64 | (_TIED if chooses else frozenset())
    return tuple(name for name in VALUES if name not in left_out)


# --- Trials ---------------------------------------------------------------------------------------


def trials(
    entry: Entry,
    dtypes: tuple[str, ...],
    batches: tuple[tuple[int, ...], ...],
    seed: int,
    sizes: Mapping[str, int] | None = None,
    select: Select = dict,
) -> Iterator[Trial]:
    """Yield the trials of a formula, the same for the same seed.

    dtypes: the first of them with all batches, the others with one of them in turn. sizes: of axes
    that have the same size in all trials. select: returns those of the arguments of a case that
    the candidate takes; it raises ArgumentNotTakenError where it cannot take the case.
    Raises UsageError where no case has such sizes and arguments.
    """
    for_options = _seeds_for_options(entry, batches, seed, select)
    errors: list[ValueError] = []
    made = 0
    for dtype in dtypes:
        judged = values_for(entry, dtype)
        planned = [
            (sizing, values, batch, seed + len(batches) * k + i)
            for k, (sizing, values) in enumerate(_SCHEDULE)
            for i, batch in enumerate(batches)
            if values in judged and (dtype == dtypes[0] or i == k % len(batches))
        ]
        planned += [("distinct", "typical", batch, each) for batch, each in for_options]
        for sizing, values, batch, each in planned:
            try:
                case = make(entry.id, each, batch, sizing=sizing, sizes=sizes)
                one = trial(entry, select(case.args), dtype, sizing, values, batch, each)
            except ArgumentNotTakenError:
                continue
            except ValueError as error:  # sizes that this formula cannot have
                errors.append(error)
                continue
            made += 1
            if dtype == "float64" or not takes_inverse(entry, one.arguments):
                yield one
    if errors and not made:
        why = " ".join(str(errors[0]).split())
        raise UsageError(f"no case of {entry.id} has these sizes and options: {why}")


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
    changed = dict(arguments)
    for argument in entry.signature.arguments:
        x = changed.get(argument.name)
        if x is not None and argument.kind == "float" and argument.shape.row is not None:
            changed[argument.name] = VALUES[values](x)
    changed = rounded(changed, dtype)
    with np.errstate(all="ignore"):
        entry.function(**changed)
    return Trial(changed, dtype, sizing, values, batch, seed)


def takes_inverse(entry: Entry, arguments: Mapping[str, Any]) -> bool:
    """Tell whether a pseudo-inverse is taken, whose rank depends on the precision."""
    return bool(inverses(entry.id, entry.function, arguments))


def inverses(id: str, function: Function, arguments: Mapping[str, Any]) -> list[Call]:
    """Return the calls of the pseudo-inverse that a formula makes. function: the formula."""
    if INVERSE not in (id, *inner_formulas(id)):
        return []
    return calls_of({INVERSE}, function, arguments)


def _seeds_for_options(
    entry: Entry, batches: tuple[tuple[int, ...], ...], seed: int, select: Select
) -> list[tuple[tuple[int, ...], int]]:
    """Choose batch axes and seeds such that any two options occur together, with any values."""
    seen: set[Any] = set()
    chosen = []
    for k in range(_SEEDS_FOR_OPTIONS):
        batch, each = batches[k % len(batches)], seed + len(batches) * len(_SCHEDULE) + k
        try:
            options = sorted(_options(entry, select(make(entry.id, each, batch).args)))
        except ArgumentNotTakenError:
            continue
        pairs = {*combinations_with_replacement(options, 2)}
        if pairs - seen:
            chosen.append((batch, each))
        seen |= pairs
    return chosen


def _options(entry: Entry, arguments: Mapping[str, Any]) -> set[str]:
    """Name the options of a case: strings and truth values, and which optional arrays it has."""
    parameters = inspect.signature(entry.function).parameters
    chosen = {f"{name}={x}" for name, x in arguments.items() if isinstance(x, bool | str)}
    optional = {
        f"{name} {'left out' if arguments.get(name) is None else 'passed'}"
        for name, each in parameters.items()
        if each.default is None
    }
    params = {path for path, _ in tree_leaves(dict(arguments)) if "." in path}
    return chosen | optional | params
