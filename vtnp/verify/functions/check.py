"""Check a candidate: values, then gradients, then laws, then manners; and say what is wrong."""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtnp._registry.errors import UsageError
from vtnp._registry.pages import formula
from vtnp._registry.spec import Entry, registry
from vtnp.claims.cases import axes
from vtnp.verify.errors import CandidateError, RaisedError
from vtnp.verify.functions import contract, derivatives, diagnose, partial, search
from vtnp.verify.functions.candidate import Candidate
from vtnp.verify.functions.conditioning import chooses, meant
from vtnp.verify.functions.example import reproduction
from vtnp.verify.functions.layout import Layout, read_patterns
from vtnp.verify.functions.libraries import Library, library_of
from vtnp.verify.functions.trials import Trial, trials
from vtnp.verify.judge import (
    EPS,
    HALVES,
    Figure,
    agrees,
    figures,
)
from vtnp.verify.report import Finding, Line, Report

Results = list[NDArray[Any]]
EXAMPLES = 50
_BATCHES = ((), (2,), (2, 3))
_GRADIENTS = 2  # trials of each dtype
_LAWS = 2  # seeds


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
    progress: Callable[[str], None] = lambda _: None,
    calls: Callable[[bool], None] = lambda _: None,
) -> Report:
    """Check somebody's implementation of a formula, and name its mistake.

    candidate: takes and returns arrays of its own library. name: the formula's id, "eq2" or 2.
    layout: patterns such as "Q=b h (t s) d; result=b h t s t' d". names: the formula's argument ->
    the candidate's parameter; left out, they are matched by name, then in order. extra: further
    keyword arguments of every call. sizes: of axes that the candidate has fixed, by letter.
    options: of the formula, that the candidate has fixed, such as eps, by name. library: "numpy",
    "autograd", "torch", "jax" or "cupy"; left out, what the candidate's module imports. device: as
    that library calls it. dtypes: left out, all that the candidate takes. examples: how many
    further cases hypothesis draws; with 0, no failure is shrunk either. gradients: False for a
    candidate that has none. progress: is told each case before the candidate is called with it.
    calls: is told True when the candidate begins to work, False when it has ended.
    Notes: an optional argument is put to the candidate where it has a parameter of that name;
    behind **kwargs, where names tell so.
    Raises UsageError, UnknownFormulaError: it could not be asked.
    """
    entry = registry[formula(name).id]
    where = library_of(candidate, library, device)
    patterns = read_patterns(layout) if isinstance(layout, str) else dict(layout)
    arranged = Layout(entry.signature, patterns)
    fixed = dict(sizes or {})
    known = {*axes(entry.id), *(arranged.batch or ())}
    strange = [axis for axis in fixed if axis not in known]
    if strange:
        there = ", ".join(sorted(known))
        raise UsageError(f"sizes: {entry.id} has no axis {', '.join(strange)}; it has {there}")
    if examples < 0:
        raise UsageError(f"examples {examples}: a number >= 0 is meant")
    unknown = [dtype for dtype in dtypes if dtype not in where.dtypes]
    if unknown:
        raise UsageError(f"dtypes {unknown}: {where.name} is tried with {', '.join(where.dtypes)}")
    asked = Candidate(
        candidate, entry, where, arranged, names=names, extra=extra, options=options, calls=calls
    )
    every = tuple(dtypes) or where.dtypes
    with np.errstate(all="ignore"):
        return _Check(asked, every, fixed, seed, examples, gradients, progress).run()


@dataclass
class _Check:
    candidate: Candidate
    dtypes: tuple[str, ...]
    sizes: Mapping[str, int]
    seed: int
    examples: int
    gradients: bool
    progress: Callable[[str], None]
    lines: list[Line] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    tried: list[diagnose.Tried] = field(default_factory=list)
    failed: list[tuple[Trial, CandidateError]] = field(default_factory=list)
    left_out: dict[str, None] = field(default_factory=dict)

    @property
    def entry(self) -> Entry:
        return self.candidate.entry

    @property
    def library(self) -> Library:
        return self.candidate.library

    def run(self) -> Report:
        self.values()
        if self.tried and self.right:
            if self.gradients:
                self.check_gradients()
            self.check_laws()
            self.lines += contract.manners(self.candidate, self.tried[0].trial)
        elif self.tried:
            self.check_laws()
        if any(line.counts and not line.holds for line in self.lines):
            self.find_mistakes()
        wrong = [each.trial for each in self.tried if not each.right]
        smallest = min(wrong, key=lambda trial: trial.numbers, default=None)
        return Report(
            formula=self.entry.id,
            candidate=_name(self.candidate.function),
            library=self.library.name,
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

    def values(self) -> None:
        named = self.candidate.layout.batch
        batches: tuple[tuple[int, ...], ...] = _BATCHES
        if named is not None:
            batches = (tuple(self.sizes.get(axis, 2 + i) for i, axis in enumerate(named)),)
        for trial in trials(self.entry, self.dtypes, batches, self.seed, self.sizes, self.taken):
            self.value(trial)
        if self.tried and self.examples:
            self.search()
        self.tell_what_raises()
        judged = {each.trial.dtype for each in self.tried} | {
            trial.dtype for trial, _ in self.failed
        }
        unfair = [dtype for dtype in self.dtypes if dtype not in judged]
        told = " ".join(self.notes)
        self.notes += [
            f"not judged: dtype {dtype}, in which rounding decides as much as the formula"
            for dtype in unfair
            if f"dtype {dtype} " not in told
        ]
        if self.left_out:
            names = ", ".join(self.left_out)
            self.notes.append(f"not checked: {names}, for which the candidate has no place")
        always = [name for name, value in self.candidate.needed.items() if value is None]
        if always:
            self.notes.append(f"not tried without {', '.join(always)}, which the candidate needs")
        fixed = self.candidate.options
        if fixed:
            told = ", ".join(f"{name}={value!r}" for name, value in fixed.items())
            self.notes.append(f"judged with {told}")

    def taken(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return what is put to the candidate, and keep in mind what is not."""
        taken = self.candidate.taken(arguments)
        self.left_out |= dict.fromkeys(name for name in arguments if name not in taken)
        return taken

    def value(self, trial: Trial) -> None:
        exact, units, is_fair = meant(self.entry.id, trial)
        if not is_fair:
            return
        self.progress(trial.name)
        try:
            got, notes = contract.watched(self.candidate, trial)
        except CandidateError as error:
            self.failed.append((trial, error))
            return
        told = {line.note for line in self.lines}
        for note in dict.fromkeys(notes):
            if note not in told:
                self.lines.append(Line("rule", "manners", trial.name, holds=False, note=note))
        exact, units = exact[: len(got)], units[: len(got)]
        shapes = [(x.shape, y.shape) for x, y in zip(got, exact, strict=True) if x.shape != y.shape]
        for i, (given, right) in enumerate(shapes):
            note = f"shape {given}, where {right} is meant"
            self.lines.append(Line("value", f"result {i}", trial.name, holds=False, note=note))
        judged: list[Figure] = []
        if not shapes:
            judged = figures(got, exact, units, trial.dtype)
            self.lines += [self.line(i, trial.name, each) for i, each in enumerate(judged)]
        holds = not shapes and all(each.holds for each in judged)
        self.tried.append(diagnose.Tried(trial, got, holds))

    def search(self) -> None:
        """Let hypothesis look for a further failure, or for a smaller one than those there are."""
        wrong = [each.trial for each in self.tried if not each.right]
        dtypes = [trial.dtype for trial in wrong] + [each.trial.dtype for each in self.tried]
        found = search.smallest(
            self.entry,
            dtypes[0],
            self.smaller_batches(),
            self.seed,
            self.sizes,
            self.candidate.taken,
            self.fails,
            examples=self.examples,
        )
        if found is not None:
            self.value(found)

    def smaller_batches(self) -> tuple[tuple[int, ...], ...]:
        """Return the batch axes that the candidate takes, and where a layout names them, less."""
        named = self.candidate.layout.batch
        if named is None:
            return self.batches()
        most = zip(named, self.batches()[0], strict=True)
        sizes = ([n] if axis in self.sizes else range(1, n + 1) for axis, n in most)
        return tuple(itertools.product(*sizes))

    def fails(self, trial: Trial) -> bool:
        """Tell whether the candidate is wrong where a right one would not be."""
        self.progress(trial.name)
        try:
            got = self.candidate(trial.arguments, trial.dtype)
            if agrees(self.entry.function, trial.arguments, got, trial.dtype):
                return False
        except CandidateError:
            pass
        return not chooses(self.entry.id, trial.arguments) and meant(self.entry.id, trial).is_fair

    def line(self, what: int, case: str, found: Figure) -> Line:
        returns = self.entry.signature.returns
        name = returns[what].name if what < len(returns) else "sizes"
        return Line("value", name, case, found.holds, found.error, found.bound, found.note)

    def tell_what_raises(self) -> None:
        """What raises in every trial of one dtype or number of batch axes is not taken at all."""
        for word, of in (("dtype", _dtype), ("batch axes", _batch)):
            worked = {of(each.trial) for each in self.tried}
            for value in dict.fromkeys(of(trial) for trial, _ in self.failed):
                errors = [error for trial, error in self.failed if of(trial) == value]
                if not all(isinstance(error, RaisedError) for error in errors):
                    continue
                if worked and value not in worked:
                    self.notes.append(f"not taken: {word} {value} ({errors[0]})")
                    self.failed = [each for each in self.failed if of(each[0]) != value]
        for trial, error in self.failed:
            self.lines.append(Line("value", "call", trial.name, holds=False, note=str(error)))

    # --- Gradients --------------------------------------------------------------------------------

    def check_gradients(self) -> None:
        usual = [each.trial for each in self.tried if each.trial.values == "usual"]
        for dtype in ("float64", "float32"):
            chosen = [trial for trial in usual if trial.dtype == dtype and trial.sizing != "one"]
            for trial in chosen[:_GRADIENTS]:
                self.gradient(trial)

    def gradient(self, trial: Trial) -> None:
        self.progress(f"gradients, {trial.name}")
        found = derivatives.compared(self.candidate, trial)
        self.lines += found.lines
        if found.got and not (self.right or self.findings):
            told = self.entry.id, trial, found.weights, found.got
            self.findings += diagnose.named_by_gradients(*told)
            self.findings += diagnose.stopped(*told)

    # --- Laws and manners -------------------------------------------------------------------------

    def check_laws(self) -> None:
        if "float64" not in {each.trial.dtype for each in self.tried}:
            self.notes.append("laws were not put: the candidate does not take float64")
            return
        self.progress("laws")
        self.lines += contract.laws(self.candidate, self.seed, _LAWS, self.batches(), self.sizes)

    def batches(self) -> tuple[tuple[int, ...], ...]:
        """Return the batch axes that the candidate takes."""
        return tuple(dict.fromkeys(each.trial.batch for each in self.tried))

    # --- Diagnosis --------------------------------------------------------------------------------

    def find_mistakes(self) -> None:
        id, function = self.entry.id, self.entry.function
        wrong = [each for each in self.tried if not each.right]
        if wrong:
            chosen = _telling(wrong) + _telling([each for each in self.tried if each.right])
            self.findings += diagnose.named(id, chosen) or diagnose.swapped(function, wrong)
            if not (self.findings or any(partial.precision(self.candidate, wrong))):
                first = wrong[0].trial
                lower = [dtype for dtype in partial.LOWER if EPS[first.dtype] < EPS[dtype]]

                def rounds(alternative: Callable[..., Any], dtype: str) -> bool:
                    return partial.rounds(self.candidate, alternative, first, dtype)

                self.findings += diagnose.mixed(id, chosen, wrong, lower, rounds)
        failed = [trial for trial, _ in self.failed]
        named = bool(self.findings)
        found = partial.told(self.candidate, self.tried, failed, self.lines, named=named)
        self.findings += dict.fromkeys(found)


def _telling(tried: Iterable[diagnose.Tried]) -> list[diagnose.Tried]:
    """Choose a few small trials, of different kinds, to tell mistakes apart by."""
    of_kind: dict[tuple[str, ...], diagnose.Tried] = {}
    for each in sorted(tried, key=lambda each: each.trial.numbers):
        trial = each.trial
        kind = (trial.dtype, trial.values, trial.sizing, str(len(trial.batch) > 0))
        of_kind.setdefault(kind, each)
    every = list(of_kind.values())
    exact = [each for each in every if each.trial.dtype not in HALVES]
    return (exact or every)[:12]


def _dtype(trial: Trial) -> str:
    return trial.dtype


def _batch(trial: Trial) -> str:
    return str(trial.batch)


def _name(candidate: Any) -> str:
    module = getattr(candidate, "__module__", type(candidate).__module__)
    name = getattr(candidate, "__qualname__", type(candidate).__qualname__)
    return f"{module}:{name}"
