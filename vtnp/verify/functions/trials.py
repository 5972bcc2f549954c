"""What candidates are tried on: a formula's own cases, with the corner cases that break ports."""

import inspect
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtnp._array.trees import tree_leaves
from vtnp._registry.calls import Call
from vtnp._registry.errors import UsageError
from vtnp._registry.spec import Entry
from vtnp.claims.cases import Sizing, make
from vtnp.claims.families import families_for, in_family
from vtnp.verify.errors import ArgumentNotTakenError
from vtnp.verify.handlers import Function, calls_of
from vtnp.verify.judge import INVERSE, rounded
from vtnp.verify.page_text import inner_formulas

Array = NDArray[Any]
Select = Callable[[Mapping[str, Any]], Mapping[str, Any]]

DRAWN = "drawn"  # the sizing of what hypothesis draws
_SEEDS_FOR_OPTIONS = 60  # that are searched for options which the schedule has left out
_REMEMBERED = 256  # cases
_SEEDS_FOR_PAIRS = 12  # that are tried because two options have not occurred together


@dataclass(frozen=True, eq=False)
class Trial:
    """One input, and how it came about.

    arguments: float64, rounded to dtype. mask: what is special about it, in words.
    """

    arguments: Mapping[str, Any]
    dtype: str
    sizing: str
    values: str
    batch: tuple[int, ...]
    seed: int
    mask: str = ""

    @property
    def name(self) -> str:
        """A description in a few words."""
        batch = f", batch {'x'.join(map(str, self.batch))}" if self.batch else ""
        mask = f", {self.mask}" if self.mask else ""
        return f"{self.sizes}, {self.values} values{batch}{mask}, {self.dtype}, seed {self.seed}"

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


# --- Trials ---------------------------------------------------------------------------------------

# Typical numbers first, in sizes that tell axes apart; corner cases after that.
_SCHEDULE: tuple[tuple[Sizing, str], ...] = (
    ("distinct", "typical"), ("distinct", "typical"), ("equal", "typical"), ("one", "typical"),
    ("distinct", "large"), ("odd", "typical"), ("distinct", "tiny"), ("distinct", "repeated"),
    ("distinct", "nearly tied"), ("distinct", "offset"), ("distinct", "huge"),
    ("distinct", "uneven"), ("distinct", "far offset"),
)  # fmt: skip


def trials(
    entry: Entry,
    dtypes: tuple[str, ...],
    batches: tuple[tuple[int, ...], ...],
    seed: int,
    sizes: Mapping[str, int] = MappingProxyType({}),
    select: Select = dict,
) -> Iterator[Trial]:
    """Yield the trials of a formula, the same for the same seed.

    dtypes: the first of them with all batches, the others with one of them in turn. sizes: of axes
    that have the same size in all trials. select: returns those of the arguments of a case that
    the candidate takes; it raises ArgumentNotTakenError where it cannot take the case.
    Where a formula takes a mask, there are special ones as well, in the first dtype.
    Raises UsageError where no case has such sizes and arguments.
    """
    for_options = _seeds_for_options(entry, batches, seed, select)
    errors: list[ValueError] = []
    made, masked = 0, dict.fromkeys(MASKS, 0)
    for dtype in dtypes:
        judged = families_for(entry, dtype)
        planned = [
            (sizing, values, batch, seed + len(batches) * k + i)
            for k, (sizing, values) in enumerate(_SCHEDULE)
            for i, batch in enumerate(batches)
            if values in judged and (dtype == dtypes[0] or i == k % len(batches))
        ]
        planned += [("distinct", "typical", batch, each) for batch, each in for_options]
        for sizing, values, batch, each in planned:
            try:
                arguments = select(_made(entry.id, each, batch, sizing, tuple(sizes.items())))
                one = trial(entry, arguments, dtype, sizing, values, batch, each)
            except ArgumentNotTakenError:
                continue
            except ValueError as error:  # sizes that this formula cannot have
                errors.append(error)
                continue
            made += 1
            if dtype == "float64" or not takes_inverse(entry, one.arguments):
                yield one
                if dtype == dtypes[0] and values == "typical":
                    yield from _special_masks(entry, one, masked)
    if errors and not made:
        why = " ".join(str(errors[0]).split())
        raise UsageError(f"no case of {entry.id} has these sizes and options: {why}")


# --- Masks ----------------------------------------------------------------------------------------

NO_KEY = "a query that may attend to nothing"
_OF_EACH_MASK = 2  # trials


def _no_key(mask: Array, _batch: int) -> Array:
    found: Array = mask.copy()
    found[..., 0, :] = False
    return found


def _one_key(mask: Array, _batch: int) -> Array:
    """Leave each query the first of the keys that it has."""
    found: Array = mask & (np.cumsum(mask, axis=-1) == 1)
    return found


def _broadcast(mask: Array, batch: int) -> Array:
    return mask[(slice(0, 1),) * batch]


MASKS: Mapping[str, Callable[[Array, int], Array]] = {
    NO_KEY: _no_key,
    "queries of one key": _one_key,
    "a mask that broadcasts over the batch": _broadcast,
}


def _special_masks(entry: Entry, usual: Trial, counts: dict[str, int]) -> Iterator[Trial]:
    """Yield a trial with each of the special masks. counts: how many there have been."""
    masks = {
        argument.name: usual.arguments[argument.name]
        for argument in entry.signature.arguments
        if argument.kind == "bool" and len(argument.shape.after) == 2
        if usual.arguments.get(argument.name) is not None
    }
    for words, change in MASKS.items() if masks else ():
        changed = {
            name: change(mask, len(usual.batch) if mask.ndim > 2 else 0)
            for name, mask in masks.items()
        }
        same = all(np.array_equal(masks[name], mask) for name, mask in changed.items())
        if not same and counts[words] < _OF_EACH_MASK:
            counts[words] += 1
            yield replace(usual, arguments={**usual.arguments, **changed}, mask=words)


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
    changed = rounded(in_family(entry, arguments, values), dtype)
    with np.errstate(all="ignore"):
        entry.function(**changed)
    return Trial(changed, dtype, sizing, values, batch, seed)


@lru_cache(_REMEMBERED)
def _made(
    id: str,
    seed: int,
    batch: tuple[int, ...],
    sizing: Sizing = "distinct",
    sizes: tuple[tuple[str, int], ...] = (),
) -> Mapping[str, Any]:
    """Make the arguments of a case; the last ones are remembered."""
    return make(id, seed, batch, sizing=sizing, sizes=dict(sizes)).args


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
    """Choose batch axes and seeds such that every option occurs, and most pairs of options do."""
    seen: set[Any] = set()
    chosen: list[tuple[tuple[int, ...], int]] = []
    for k in range(_SEEDS_FOR_OPTIONS):
        batch, each = batches[k % len(batches)], seed + len(batches) * len(_SCHEDULE) + k
        try:
            options = sorted(_options(entry, select(_made(entry.id, each, batch))))
        except ArgumentNotTakenError:
            continue
        size = 2 if len(chosen) < _SEEDS_FOR_PAIRS else 1
        sets = {each for k in range(1, size + 1) for each in combinations(options, k)}
        if sets - seen:
            chosen.append((batch, each))
        seen |= sets
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
