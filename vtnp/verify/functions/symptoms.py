"""What can be said of a wrong candidate whose mistake has no name."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from vtnp._array.trees import tree_leaves
from vtnp._registry.spec import Entry
from vtnp.verify.errors import CandidateError
from vtnp.verify.functions.candidate import Candidate
from vtnp.verify.functions.diagnose import Tried
from vtnp.verify.functions.gradient_check import moved_along
from vtnp.verify.functions.trials import DRAWN, NO_KEY, Trial
from vtnp.verify.handlers import Function
from vtnp.verify.judge import EPS, agrees, largest, results_of, rounded
from vtnp.verify.report import Finding, Line

LOWER_PRECISIONS = ("float32", "float16", "bfloat16")
_CHANCE = 0.01  # that so many wrong trials would have a trait in common by accident
_JUMP = 0.5  # of what the formula's results move by
_LARGE = frozenset({"large", "huge", "uneven", "far offset"})  # values


def symptoms(
    candidate: Candidate,
    tried: Sequence[Tried],
    failed: Sequence[Trial],
    lines: Sequence[Line],
    *,
    is_named: bool,
) -> Iterator[Finding]:
    """Yield what the wrong trials have in common; is_named: whether their mistake has a name."""
    entry = candidate.entry
    wrong, right = ([each for each in tried if each.right is truth] for truth in (False, True))
    yield from _overflow(entry, wrong)
    if not is_named:
        yield from lower_precision(candidate, wrong)
    yield from _right_heads(entry, wrong)
    yield from _masked(wrong)
    trials = [*(each.trial for each in wrong), *failed]
    yield from _common_trait(trials, [each.trial for each in right])
    yield from _broken_contract(lines)
    yield from _broken_laws(lines)


def _exact(entry: Entry, each: Tried) -> list[Any]:
    return results_of(entry.function, each.trial.arguments)[: len(each.got)]


def _overflow(entry: Entry, wrong: Sequence[Tried]) -> Iterator[Finding]:
    def overflows(each: Tried) -> bool:
        pairs = zip(each.got, _exact(entry, each), strict=True)
        return any(
            x.shape == y.shape and bool(np.any(np.isfinite(y) & ~np.isfinite(x))) for x, y in pairs
        )

    if wrong and all(each.trial.values in _LARGE and overflows(each) for each in wrong):
        explanation = "right for numbers of typical size; large ones give infinities or NaN."
        fix = "subtract the largest score of each row first"
        yield Finding("exponentials overflow", explanation, fix)


def _masked(wrong: Sequence[Tried]) -> Iterator[Finding]:
    """Tell whether all that is wrong has a special mask."""
    masks = {each.trial.mask for each in wrong}
    if masks == {NO_KEY}:
        nan = any(np.any(np.isnan(y)) for each in wrong for y in each.got)
        what = "NaN" if nan else "wrong"
        yield Finding(
            f"{what} for {NO_KEY}",
            "right elsewhere. The softmax of a row of -inf is 0/0; the formula gives zeros.",
            "replace the weights of such a row by zeros, or its scores by finite numbers first",
        )
    elif wrong and "" not in masks:
        yield Finding(f"wrong only for {', '.join(sorted(masks))}", "right for other masks.")


# --- Lower precision ------------------------------------------------------------------------------


def lower_precision(candidate: Candidate, wrong: Sequence[Tried]) -> Iterator[Finding]:
    """Tell whether the errors are those of a lower precision, and whether anything is rounded."""
    typical = [each for each in wrong if each.trial.values not in _LARGE]
    dtypes = dict.fromkeys(each.trial.dtype for each in typical)
    for lower in LOWER_PRECISIONS:
        is_lower = all(EPS[dtype] < EPS[lower] for dtype in dtypes)
        if typical and is_lower and all(_agrees(candidate.entry, x, lower) for x in typical):
            names = ", ".join(dtypes)
            if rounds(candidate, candidate.entry.function, typical[0].trial, lower):
                explanation = f"the errors in {names} are those of {lower}."
                fix = f"look for a conversion to {lower}, or a table or a sum in it"
                yield Finding(f"computed in {lower}", explanation, fix)
            else:
                explanation = (
                    f"the errors in {names} are no larger than those of {lower}, but results vary "
                    "smoothly with the arguments: nothing is rounded."
                )
                yield Finding("slightly off", explanation, "look for an inexact constant")
            return


def rounds(candidate: Candidate, function: Function, trial: Trial, lower: str) -> bool:
    """Tell whether a candidate is a function, but for rounding to a lower precision within.

    Each of its arguments in turn is moved by less than that precision resolves: what is rounded
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
    moved = rounded(moved_along(trial.arguments, path, step), trial.dtype)
    points = trial.arguments, moved
    of_candidate = (candidate(arguments, trial.dtype) for arguments in points)
    of_function = (results_of(function, arguments) for arguments in points)
    return any(
        float(np.max(np.abs((b - a) - (y - x)), initial=0.0)) > _JUMP * largest(y - x) > 0.0
        for a, b, x, y in zip(*of_candidate, *of_function, strict=False)
        if x.dtype.kind == "f"
    )


def _agrees(entry: Entry, each: Tried, dtype: str) -> bool:
    return agrees(entry.function, each.trial.arguments, each.got, dtype)


# --- What wrong trials have in common -------------------------------------------------------------


def _right_heads(entry: Entry, wrong: Sequence[Tried]) -> Iterator[Finding]:
    """Tell whether some heads are always right."""
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
        yield Finding(f"right only in head {heads}", "the other heads are wrong.")


def _sizes(trial: Trial) -> str:
    return trial.sizes


def _values(trial: Trial) -> str:
    return f"{trial.values} values"


def _dtype(trial: Trial) -> str:
    return trial.dtype


def _batch_axes(trial: Trial) -> str:
    return f"{len(trial.batch)} batch axes"


_TRAITS: tuple[Callable[[Trial], str], ...] = _sizes, _values, _dtype, _batch_axes


def _common_trait(wrong: Sequence[Trial], right: Sequence[Trial]) -> Iterator[Finding]:
    """Tell by which trait the wrong trials differ from the right ones, if one alone does."""
    # What hypothesis has drawn is of all sizes.
    wrong, right = ([each for each in some if each.sizing != DRAWN] for some in (wrong, right))
    for trait in _TRAITS:
        # Where all sizes are 1, much is right that is wrong elsewhere.
        of_size = trait is _sizes
        kept = [[x for x in some if of_size or x.sizing != "one"] for some in (wrong, right)]
        bad, good = ({trait(trial) for trial in some} for some in kept)
        ways = math.comb(sum(map(len, kept)), len(kept[0]))
        if bad and good and not bad & good and ways * _CHANCE > 1.0:
            of_good, of_bad = (", ".join(sorted(each)) for each in (good, bad))
            fix = "look for an axis that is counted from the front" if trait is _batch_axes else ""
            yield Finding(f"right only for {of_good}", f"wrong for {of_bad}.", fix)


# --- Contract and laws ----------------------------------------------------------------------------


def _broken_contract(lines: Sequence[Line]) -> Iterator[Finding]:
    for line in lines:
        if line.kind == "contract" and not line.holds and line.note:
            explanation = (
                "an implementation leaves its arguments unchanged, keeps dtype and device, and "
                "depends on nothing but the numbers it is passed."
            )
            yield Finding(line.note, explanation)


def _broken_laws(lines: Sequence[Line]) -> Iterator[Finding]:
    laws = [line for line in lines if line.kind == "law"]
    broken = [line.what for line in laws if not line.holds]
    if broken:
        kept = ", ".join(line.what for line in laws if line.holds) or "none"
        yield Finding(f"breaks the laws {', '.join(broken)}", f"laws that hold: {kept}.")
