"""What can be told of a wrong candidate without a name for its mistake."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from vtnp._array.trees import tree_leaves
from vtnp._registry.spec import Entry
from vtnp.verify.errors import CandidateError
from vtnp.verify.functions.candidate import Candidate
from vtnp.verify.functions.derivatives import moved_by
from vtnp.verify.functions.diagnose import Tried
from vtnp.verify.functions.trials import DRAWN, Trial
from vtnp.verify.handlers import Function
from vtnp.verify.judge import EPS, agrees, largest, results_of, rounded
from vtnp.verify.report import Finding, Line

LOWER = ("float32", "float16", "bfloat16")
_JUMP = 0.5  # of what the formula's results move by
_LARGE = frozenset({"large", "huge", "uneven", "far"})


def told(
    candidate: Candidate,
    tried: Sequence[Tried],
    failed: Sequence[Trial],
    lines: Sequence[Line],
    *,
    named: bool,
) -> Iterator[Finding]:
    """Yield what the wrong trials have in common; named: whether their mistake has a name."""
    entry = candidate.entry
    wrong, right = ([each for each in tried if each.right is truth] for truth in (False, True))
    yield from _overflow(entry, wrong)
    if not named:
        yield from precision(candidate, wrong)
    yield from _heads(entry, wrong)
    trials = [*(each.trial for each in wrong), *failed]
    yield from _only_where(trials, [each.trial for each in right])
    yield from _manners(lines)
    yield from _laws(lines)


def _exact(entry: Entry, each: Tried) -> list[Any]:
    return results_of(entry.function, each.trial.arguments)[: len(each.got)]


def _overflow(entry: Entry, wrong: Sequence[Tried]) -> Iterator[Finding]:
    def overflows(each: Tried) -> bool:
        pairs = zip(each.got, _exact(entry, each), strict=True)
        return any(
            x.shape == y.shape and bool(np.any(np.isfinite(y) & ~np.isfinite(x))) for x, y in pairs
        )

    if wrong and all(each.trial.values in _LARGE and overflows(each) for each in wrong):
        says = "right for numbers of usual size; large ones give infinities or NaN."
        yield Finding("exponentials overflow", says, "subtract the largest score of each row first")


def precision(candidate: Candidate, wrong: Sequence[Tried]) -> Iterator[Finding]:
    """See whether all would be right if a lower precision were meant, and whether it shows."""
    usual = [each for each in wrong if each.trial.values not in _LARGE]
    dtypes = dict.fromkeys(each.trial.dtype for each in usual)
    for lower in LOWER:
        coarser = all(EPS[dtype] < EPS[lower] for dtype in dtypes)
        if usual and coarser and all(_agrees(candidate.entry, each, lower) for each in usual):
            told = ", ".join(dtypes)
            if rounds(candidate, candidate.entry.function, usual[0].trial, lower):
                says = f"the errors in {told} are those of {lower}."
                mend = f"look for a conversion, a table or a sum in {lower}"
                yield Finding(f"computed in {lower}", says, mend)
            else:
                says = (
                    f"the errors in {told} are no larger than those of {lower}, yet results follow "
                    "their arguments smoothly: nothing is rounded."
                )
                yield Finding("off by little", says, "look for a constant that is slightly off")
            return


def rounds(candidate: Candidate, function: Function, trial: Trial, lower: str) -> bool:
    """Tell whether a candidate is a function, but for rounding to a lower precision on the way.

    Each of its arguments in turn is moved by less than that precision tells apart: what is rounded
    then stays where it is, or jumps.
    """
    real = [path for path, x in tree_leaves(dict(trial.arguments)) if x.dtype.kind == "f"]
    try:
        return any(_jumps(candidate, function, trial, lower, path) for path in real)
    except CandidateError:
        return False


def _jumps(candidate: Candidate, function: Function, trial: Trial, lower: str, path: str) -> bool:
    x = dict(tree_leaves(dict(trial.arguments)))[path]
    signs = np.random.default_rng(trial.seed).choice([-1.0, 1.0], x.shape)
    step = math.sqrt(EPS[trial.dtype] * EPS[lower]) * signs * x
    moved = rounded(moved_by(trial.arguments, path, step), trial.dtype)
    both = trial.arguments, moved
    theirs = (candidate(arguments, trial.dtype) for arguments in both)
    ours = (results_of(function, arguments) for arguments in both)
    return any(
        float(np.max(np.abs((b - a) - (y - x)), initial=0.0)) > _JUMP * largest(y - x) > 0.0
        for a, b, x, y in zip(*theirs, *ours, strict=False)
        if x.dtype.kind == "f"
    )


def _agrees(entry: Entry, each: Tried, dtype: str) -> bool:
    return agrees(entry.function, each.trial.arguments, each.got, dtype)


def _heads(entry: Entry, wrong: Sequence[Tried]) -> Iterator[Finding]:
    """See whether some heads are always right."""
    axes = [each.shape.after for each in entry.signature.returns]
    if len(axes) != 1 or "heads" not in axes[0] or not wrong:
        return
    axis = axes[0].index("heads") - len(axes[0])
    always: set[int] | None = None
    for each in wrong:
        exact = _exact(entry, each)
        if each.got[0].shape != exact[0].shape or exact[0].shape[axis] < 2:
            return
        tolerance = 64 * EPS[each.trial.dtype] * float(np.max(np.abs(exact[0]), initial=0.0))
        error = np.moveaxis(np.abs(each.got[0] - exact[0]), axis, 0)
        right = {h for h in range(len(error)) if np.all(error[h] <= tolerance)}
        always = right if always is None else always & right
    if always:
        heads = ", ".join(map(str, sorted(always)))
        yield Finding(f"right in head {heads} only", "the other heads have other numbers.")


_TRAITS: dict[str, Callable[[Trial], Any]] = {
    "sizes": lambda trial: trial.sizing,
    "values": lambda trial: trial.values,
    "dtype": lambda trial: trial.dtype,
    "batch axes": lambda trial: len(trial.batch),
}


def _only_where(wrong: Sequence[Trial], right: Sequence[Trial]) -> Iterator[Finding]:
    """Tell by which trait the wrong trials differ from the right ones, if one alone does."""
    # Of what hypothesis has drawn the sizes are of all kinds.
    wrong, right = ([each for each in some if each.sizing != DRAWN] for some in (wrong, right))
    if not (wrong and right):
        return
    for name, of in _TRAITS.items():
        bad, good = {of(trial) for trial in wrong}, {of(trial) for trial in right}
        if not bad & good:
            words = [", ".join(sorted(map(str, values))) for values in (good, bad)]
            yield Finding(f"right for {name} {words[0]} only", f"wrong for {name} {words[1]}.")


def _manners(lines: Sequence[Line]) -> Iterator[Finding]:
    for line in lines:
        if line.kind == "rule" and not line.holds and line.note:
            yield Finding(line.note, "a formula leaves its arguments as they are and keeps dtypes.")


def _laws(lines: Sequence[Line]) -> Iterator[Finding]:
    laws = [line for line in lines if line.kind == "law"]
    broken = [line.what for line in laws if not line.holds]
    if broken:
        kept = ", ".join(line.what for line in laws if line.holds) or "none"
        yield Finding(f"breaks the laws {', '.join(broken)}", f"laws that hold: {kept}.")
