"""Check a candidate: values, then gradients, laws and contract; and say what is wrong."""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vtnp._registry.errors import UsageError
from vtnp._registry.pages import formula
from vtnp._registry.spec import Entry, registry
from vtnp.claims.cases import axes
from vtnp.verify.errors import CandidateError, RaisedError
from vtnp.verify.functions.advice import no_verdict, printed
from vtnp.verify.functions.axis_layout import AxisLayout, read_patterns
from vtnp.verify.functions.candidate import Candidate
from vtnp.verify.functions.conditioning import chooses, reference
from vtnp.verify.functions.contract import (
    DETERMINISTIC,
    check_laws,
    check_repeated,
    check_strided,
    watched_call,
)
from vtnp.verify.functions.diagnose import (
    Tried,
    mistakes_in_gradients,
    mixed_mistakes,
    named_mistakes,
    named_pairs,
    stopped_gradients,
    swapped_axes,
)
from vtnp.verify.functions.faults import faults
from vtnp.verify.functions.gradient_check import check_gradients
from vtnp.verify.functions.libraries import library_of
from vtnp.verify.functions.reproduction import reproduction
from vtnp.verify.functions.search import smallest_failure
from vtnp.verify.functions.symptoms import LOWER_PRECISIONS, lower_precision, rounds, symptoms
from vtnp.verify.functions.trials import Trial, trials
from vtnp.verify.judge import EPS, HALF_PRECISIONS, Deviation, agrees, deviations
from vtnp.verify.report import Finding, Line, Report

Batches = tuple[tuple[int, ...], ...]
EXAMPLES = 50
_BATCHES = ((), (2,), (2, 3))
_GRADIENT_TRIALS = 2  # of each dtype
_LAW_SEEDS = 2
_DIAGNOSED = 12  # trials
_RANDOM = Finding(
    "random: two calls with the same input differ",
    "the results of one input vary from call to call; nothing else was judged.",
    "switch dropout off, such as by eval mode, or fix the generator",
)


def check(
    candidate: Callable[..., Any],
    name: str | int,
    *,
    layout: str | Mapping[str, str] = "",
    names: Mapping[str, str] | None = None,
    extra: Mapping[str, Any] | None = None,
    sizes: Mapping[str, int] | None = None,
    options: Mapping[str, Any] | None = None,
    library: str = "",
    device: str = "",
    dtypes: Sequence[str] = (),
    seed: int = 0,
    examples: int = EXAMPLES,
    gradients: bool = True,
    on_case: Callable[[str], None] = lambda _: None,
    on_running: Callable[[bool], None] = lambda _: None,
) -> Report:
    """Check somebody's implementation of a formula, and name its mistake.

    Parameters
    ----------
    candidate : Callable
        Takes and returns arrays of its own library.
    name : str or int
        The formula: its id, "eq2" or 2.
    layout : str or mapping, optional
        The order of the candidate's axes, as in einops: ``"Q=b h (t s) d; result=b h t s t' d"``.
    names : mapping, optional
        The formula's argument -> the candidate's parameter. Others are matched by name, then in
        order.
    extra : mapping, optional
        Further keyword arguments of every call.
    sizes : mapping, optional
        Sizes of axes that the candidate has fixed, by letter.
    options : mapping, optional
        Options of the formula that the candidate has fixed, such as eps, by name.
    library : {"numpy", "autograd", "torch", "jax", "cupy"}, optional
        Left out, the library that the candidate's module imports.
    device : str, optional
        As the library names it.
    dtypes : sequence of str, optional
        Left out, all that the candidate takes.
    seed : int
        Of the cases.
    examples : int
        How many further cases hypothesis draws; with 0, no failure is shrunk either.
    gradients : bool
        False for a candidate that has none.
    on_case : Callable
        Is called with the name of each case before the candidate is.
    on_running : Callable
        Is called with True when the candidate begins to run, and with False when it has ended.

    Returns
    -------
    Report
        The verdict, every line that was checked, and what is wrong.

    Raises
    ------
    UsageError, UnknownFormulaError
        If the check cannot be run as asked.

    Notes
    -----
    An optional argument is passed if the candidate has a parameter of its name; where it takes
    ``**kwargs``, if `names` has it.
    """
    entry = registry[formula(name).id]
    own_library = library_of(candidate, library, device)
    patterns = read_patterns(layout) if isinstance(layout, str) else dict(layout)
    axis_layout = AxisLayout(entry.signature, patterns)
    fixed_sizes = dict(sizes or {})
    known = {*axes(entry.id), *(axis_layout.batch or ())}
    unknown = [axis for axis in fixed_sizes if axis not in known]
    if unknown:
        has = ", ".join(sorted(known))
        raise UsageError(f"sizes: {entry.id} has no axis {', '.join(unknown)}; it has {has}")
    if examples < 0:
        raise UsageError(f"examples {examples}: expected a number >= 0")
    unknown = [dtype for dtype in dtypes if dtype not in own_library.dtypes]
    if unknown:
        has = ", ".join(own_library.dtypes)
        raise UsageError(f"dtypes {', '.join(unknown)}: {own_library.name} is tried with {has}")
    checked = Candidate(
        candidate,
        entry,
        own_library,
        axis_layout,
        names=names,
        extra=extra,
        options=options,
        on_running=on_running,
    )
    every_dtype = tuple(dtypes) or own_library.dtypes
    with np.errstate(all="ignore"):
        run = _Check(checked, every_dtype, fixed_sizes, seed, examples, gradients, on_case)
        return run.report()


@dataclass
class _Check:
    candidate: Candidate
    dtypes: tuple[str, ...]
    sizes: Mapping[str, int]
    seed: int
    examples: int
    gradients: bool
    on_case: Callable[[str], None]
    lines: list[Line] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    tried: list[Tried] = field(default_factory=list)
    failed: list[tuple[Trial, CandidateError]] = field(default_factory=list)
    left_out: dict[str, None] = field(default_factory=dict)

    @property
    def entry(self) -> Entry:
        return self.candidate.entry

    def report(self) -> Report:
        self.check_values()
        if self.tried and self.right:
            if self.gradients:
                self.check_gradients()
            self.check_laws()
            self.lines += check_strided(self.candidate, self.tried[0].trial)
        elif self.tried and self.repeats:
            self.check_laws()
        if any(line.counts and not line.holds for line in self.lines):
            self.find_mistakes()
        wrong = [each.trial for each in self.tried if not each.right]
        smallest = min(wrong, key=lambda trial: trial.size, default=None)
        self.notes += printed(self.candidate)
        return Report(
            formula=self.entry.id,
            candidate=_name(self.candidate.function),
            library=self.candidate.library.name,
            seed=self.seed,
            lines=tuple(self.lines),
            findings=tuple(self.findings),
            notes=tuple(self.notes),
            example=reproduction(self.candidate, smallest) if smallest else "",
        )

    @property
    def right(self) -> bool:
        return all(line.holds for line in self.lines)

    # --- Values -----------------------------------------------------------------------------------

    def check_values(self) -> None:
        batch = self.candidate.layout.batch
        batches: Batches = _BATCHES
        if batch is not None:
            batches = (tuple(self.sizes.get(axis, 2 + i) for i, axis in enumerate(batch)),)
        for trial in trials(self.entry, self.dtypes, batches, self.seed, self.sizes, self.select):
            is_first = not self.tried
            self.check_value(trial)
            if is_first and self.tried:
                self.lines.append(check_repeated(self.candidate, trial))
                if not self.repeats:  # the rest would be an accident
                    return
        if self.tried and self.examples:
            self.search()
        self.judge_failed()
        self.note_what_is_not_checked()

    @property
    def repeats(self) -> bool:
        return all(line.holds for line in self.lines if line.what == DETERMINISTIC)

    def select(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments that the candidate takes, and remember those it does not."""
        selected = self.candidate.select(arguments)
        self.left_out |= dict.fromkeys(name for name in arguments if name not in selected)
        return selected

    def check_value(self, trial: Trial) -> None:
        exact, units, is_well_conditioned = reference(self.entry.id, trial)
        if not is_well_conditioned:
            return
        self.on_case(trial.name)
        try:
            got, broken = watched_call(self.candidate, trial)
        except CandidateError as error:
            self.failed.append((trial, error))
            return
        noted = {line.note for line in self.lines}
        for rule, note in dict.fromkeys(broken):
            if note not in noted:
                self.lines.append(Line("contract", rule, trial.name, holds=False, note=note))
        exact, units = exact[: len(got)], units[: len(got)]
        shapes = [(x.shape, y.shape) for x, y in zip(got, exact, strict=True) if x.shape != y.shape]
        for i, (shape, expected) in enumerate(shapes):
            note = f"shape {shape}, expected {expected}"
            self.lines.append(Line("value", f"result {i}", trial.name, holds=False, note=note))
        judged: list[Deviation] = []
        if not shapes:
            judged = deviations(got, exact, units, trial.dtype)
            self.lines += [self.line(i, trial.name, each) for i, each in enumerate(judged)]
        holds = not shapes and all(each.holds for each in judged)
        self.tried.append(Tried(trial, got, holds))

    def line(self, i: int, case: str, found: Deviation) -> Line:
        returns = self.entry.signature.returns
        name = returns[i].name if i < len(returns) else "sizes"
        return Line("value", name, case, found.holds, found.error, found.bound, found.note)

    def search(self) -> None:
        """Let hypothesis look for a failure, or for a smaller one than those there are."""
        wrong = [each.trial for each in self.tried if not each.right]
        dtypes = [trial.dtype for trial in wrong] + [each.trial.dtype for each in self.tried]
        found = smallest_failure(
            self.entry,
            dtypes[0],
            self.smaller_batches(),
            self.seed,
            self.sizes,
            self.candidate.select,
            self.fails,
            examples=self.examples,
        )
        if found is not None:
            self.check_value(found)

    def fails(self, trial: Trial) -> bool:
        """Tell whether the candidate is wrong on a well-conditioned trial."""
        self.on_case(trial.name)
        try:
            got = self.candidate(trial.arguments, trial.dtype)
            if agrees(self.entry.function, trial.arguments, got, trial.dtype):
                return False
        except CandidateError:
            pass
        if chooses(self.entry.id, trial.arguments):
            return False
        return reference(self.entry.id, trial).is_well_conditioned

    def batches(self) -> Batches:
        """Return the batch axes that the candidate takes."""
        return tuple(dict.fromkeys(each.trial.batch for each in self.tried))

    def smaller_batches(self) -> Batches:
        """Return the batch axes that the candidate takes, and smaller ones of a layout."""
        batch = self.candidate.layout.batch
        if batch is None:
            return self.batches()
        most = zip(batch, self.batches()[0], strict=True)
        sizes = ([n] if axis in self.sizes else range(1, n + 1) for axis, n in most)
        return tuple(itertools.product(*sizes))

    def judge_failed(self) -> None:
        """Note dtypes and batch axes that always raise as not supported; count other failures."""
        for word, of in (("dtype", _dtype), ("batch axes", _batch)):
            worked = {of(each.trial) for each in self.tried}
            for value in dict.fromkeys(of(trial) for trial, _ in self.failed):
                errors = [error for trial, error in self.failed if of(trial) == value]
                if not all(isinstance(error, RaisedError) for error in errors):
                    continue
                if worked and value not in worked:
                    self.notes.append(f"not supported: {word} {value} ({errors[0]})")
                    self.failed = [each for each in self.failed if of(each[0]) != value]
        if self.failed and not self.tried:
            self.notes += no_verdict(self.candidate, self.failed[0][1])
            self.failed = []
        for trial, error in self.failed:
            self.lines.append(Line("value", "call", trial.name, holds=False, note=str(error)))

    def note_what_is_not_checked(self) -> None:
        if not self.tried:
            return
        judged = {each.trial.dtype for each in self.tried}
        judged |= {trial.dtype for trial, _ in self.failed}
        noted = " ".join(self.notes)
        self.notes += [
            f"not judged: dtype {dtype}, in which no case of the formula is well conditioned"
            for dtype in self.dtypes
            if dtype not in judged and f"dtype {dtype} " not in noted
        ]
        if self.left_out:
            names = ", ".join(self.left_out)
            self.notes.append(f"not checked: {names}, for which the candidate has no parameter")
        always = [name for name, value in self.candidate.required.items() if value is None]
        if always:
            self.notes.append(f"never left out: {', '.join(always)}, which the candidate requires")
        if self.candidate.options:
            fixed = ", ".join(f"{name}={x!r}" for name, x in self.candidate.options.items())
            self.notes.append(f"checked only with {fixed}")

    # --- Gradients and laws -----------------------------------------------------------------------

    def check_gradients(self) -> None:
        typical = [each.trial for each in self.tried if each.trial.values == "typical"]
        for dtype in ("float64", "float32"):
            chosen = [trial for trial in typical if trial.dtype == dtype and trial.sizing != "one"]
            for trial in chosen[:_GRADIENT_TRIALS]:
                self.check_gradient(trial)

    def check_gradient(self, trial: Trial) -> None:
        self.on_case(f"gradients, {trial.name}")
        found = check_gradients(self.candidate, trial)
        self.lines += found.lines
        if found.got and not (self.right or self.findings):
            wrong = self.entry.id, trial, found.cotangents, found.got
            self.findings += mistakes_in_gradients(*wrong)
            self.findings += stopped_gradients(*wrong)

    def check_laws(self) -> None:
        if "float64" not in {each.trial.dtype for each in self.tried}:
            self.notes.append("laws were not checked: the candidate does not support float64")
            return
        self.on_case("laws")
        self.lines += check_laws(self.candidate, self.seed, _LAW_SEEDS, self.batches(), self.sizes)

    # --- Diagnosis --------------------------------------------------------------------------------

    def find_mistakes(self) -> None:
        wrong = [each for each in self.tried if not each.right]
        if not self.repeats:
            self.findings.append(_RANDOM)
            return
        if wrong:
            chosen = _representative(wrong)
            chosen += _representative(each for each in self.tried if each.right)
            self.findings += named_mistakes(self.entry.id, chosen)
            self.findings = self.findings or faults(self.entry, chosen)
            self.findings = self.findings or named_pairs(self.entry.id, chosen)
            self.findings = self.findings or swapped_axes(self.entry.function, wrong)
            if not (self.findings or any(lower_precision(self.candidate, wrong))):
                self.find_mixed_mistakes(chosen, wrong)
        failed = [trial for trial, _ in self.failed]
        is_named = bool(self.findings)
        found = symptoms(self.candidate, self.tried, failed, self.lines, is_named=is_named)
        self.findings += dict.fromkeys(found)

    def find_mixed_mistakes(self, chosen: Sequence[Tried], wrong: Sequence[Tried]) -> None:
        first = wrong[0].trial
        lower = [dtype for dtype in LOWER_PRECISIONS if EPS[first.dtype] < EPS[dtype]]

        def rounds_to(alternative: Callable[..., Any], dtype: str) -> bool:
            return rounds(self.candidate, alternative, first, dtype)

        self.findings += mixed_mistakes(self.entry.id, chosen, wrong, lower, rounds_to)


def _representative(tried: Iterable[Tried]) -> list[Tried]:
    """Choose a few small trials, of different kinds, to tell mistakes apart by."""
    of_kind: dict[tuple[str, ...], Tried] = {}
    for each in sorted(tried, key=lambda each: each.trial.size):
        trial = each.trial
        kind = (trial.dtype, trial.values, trial.sizing, str(len(trial.batch) > 0))
        of_kind.setdefault(kind, each)
    every = list(of_kind.values())
    exact = [each for each in every if each.trial.dtype not in HALF_PRECISIONS]
    return (exact or every)[:_DIAGNOSED]


def _dtype(trial: Trial) -> str:
    return trial.dtype


def _batch(trial: Trial) -> str:
    return str(trial.batch)


def _name(candidate: Any) -> str:
    module = getattr(candidate, "__module__", type(candidate).__module__)
    name = getattr(candidate, "__qualname__", type(candidate).__qualname__)
    return f"{module}:{name}"
