"""Compare a whole model with another implementation, quantity by quantity, on the same weights.

Twice over. On one clip both run from end to end, and each quantity of theirs may lie off ours as
far as our own float32 run does there, times judge.MULTIPLE: that tells where the two part. Then our
model runs once more and is handed, behind each quantity, theirs in its place: so each is made of
the candidate's own inputs, and what parts now is at fault itself, not by what went before.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtnp._array.trees import tree_leaves, tree_map
from vtnp._registry.calls import Handler
from vtnp._registry.errors import UsageError
from vtnp.checkpoints import FileError, load
from vtnp.checkpoints.weights import from_npz
from vtnp.verify.judge import EPS, Figure, figure, largest, rounded, slack
from vtnp.verify.models import causes, tables
from vtnp.verify.models import names as names_module
from vtnp.verify.models.activations import Enough, record
from vtnp.verify.models.axes import arranged
from vtnp.verify.models.hooks import Module, clip_for
from vtnp.verify.models.names import Name, Names
from vtnp.verify.models.subjects import Subject, is_of_torch, subject, weights
from vtnp.verify.report import Finding, Line, Report

Arrays = dict[str, NDArray[Any]]

_EXPLAINED = 3  # findings; what is wrong in the first blocks mostly is in all
_CLIPS = 2  # a single one hides what mixes them up
_INPUT = "clip"  # its name in a file of activations


def compare(
    model: str,
    config: Any,
    file: Path,
    *,
    layout: str,
    candidate: Callable[..., Any] | None = None,
    activations: Path | None = None,
    names: Path | None = None,
    dtype: str = "float64",
    seed: int = 0,
) -> Report:
    """Compare the model of a config with a candidate, both with the weights of a file.

    candidate: makes a torch module, which is given the weights, or takes the file and loads them.
    activations: instead of it, a file of what it has made of the clip that is in it, too. names: a
    file of lines as in activation_names; left out, the layout's own. dtype: which the candidate
    computes in. seed: of the clip.
    Raises UsageError, FileError; CandidateError where the candidate raises.
    """
    if (candidate is None) == (activations is None):
        raise UsageError("either a candidate or a file of its activations is compared")
    if dtype not in EPS:
        raise UsageError(f"dtype {dtype!r} is none of {', '.join(EPS)}")
    table = _table(tables.usual(model, config, layout), names)
    params, tensors = weights(model, config, layout, file)
    ours = subject(model, config)
    params = tree_map(lambda array: rounded({"x": array}, dtype)["x"].astype(np.float64), params)
    if candidate is not None:
        if not table.lines:
            raise UsageError(f"no names are known for {model}, layout {layout}: give --names FILE")
        module = Module(candidate, file, tensors, table)
        module.bring_to(dtype)
        drawn = np.random.default_rng(seed).standard_normal((_CLIPS, *ours.shape))
        x = rounded({_INPUT: drawn}, dtype)[_INPUT]
        comparison = _Comparison(ours, params, x, dtype, strict=names is not None)
        module.run(clip_for(x, table), comparison.take)
        notes, what = module.notes, getattr(candidate, "__name__", "candidate")
    else:
        assert activations is not None
        x, seen = _from_file(activations, table, ours)
        comparison = _Comparison(ours, params, x, dtype, strict=True)
        for name, value in seen:
            comparison.take(name, value)
        notes, what = [], activations.name
    comparison.judge()
    if is_of_torch(file):
        notes = [*notes, f"{file} was unpickled, by torch.load with weights_only"]
    return Report(
        formula=model,
        candidate=what,
        library="torch" if candidate else "",
        seed=seed,
        lines=tuple(comparison.lines()),
        findings=tuple(comparison.findings()),
        notes=(*notes, *comparison.notes()),
    )


def _table(usual: Names, names: Path | None) -> Names:
    if names is None:
        return usual
    try:
        text = names.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{names}: {getattr(error, 'strerror', '') or error}") from None
    return names_module.read(text, str(names), usual)


def _from_file(
    file: Path, table: Names, ours: Subject
) -> tuple[NDArray[Any], list[tuple[Name, NDArray[Any]]]]:
    """Read a clip, and what somebody has made of it, by our names or by those of a table."""
    arrays = from_npz(file) if file.suffix == ".npz" else load(file)[0]
    if _INPUT not in arrays:
        raise FileError(f"{file}: it has no {_INPUT!r}, the input that its activations are of")
    x = arrays.pop(_INPUT).astype(np.float64)
    if x.shape[1:] != ours.shape:
        raise FileError(f"{file}: {_INPUT!r} is {x.shape}, where (b, *{ours.shape}) is meant")
    seen: list[tuple[Name, NDArray[Any]]] = []
    for key, array in arrays.items():
        module, _, port = key.partition(":")
        lines = [
            line.at(i)
            for line in table.lines
            if line.port == port and (i := line.matches(table.short(module))) is not None
        ]
        lines = lines or [Name(key, "", key, "")]
        seen += [(line, array) for line in lines]
    return x, seen


@dataclass
class _Judged:
    """A quantity: from end to end, and made of the candidate's own inputs."""

    name: str
    whole: Figure
    own: Figure


class _Comparison:
    """strict: whether a quantity that the model has not is an error, as in a user's own table."""

    def __init__(
        self, ours: Subject, params: Any, x: NDArray[Any], dtype: str, *, strict: bool
    ) -> None:
        self.ours, self.params, self.x, self.dtype, self.strict = ours, params, x, dtype, strict
        self.single = tree_map(lambda array: array.astype(np.float32), params)
        self.theirs: Arrays = {}
        self.judged: list[_Judged] = []
        self.first = self.in_single()
        self.shapes = {name: y.shape for name, y in self.first.items()}
        sums = [size for _, array in tree_leaves(params) for size in array.shape]
        self.longest = max([*sums, *(size for shape in self.shapes.values() for size in shape)])

    def take(self, name: Name, x: NDArray[Any]) -> None:
        """Keep a quantity of theirs, as ours lies; of what has been computed twice the first."""
        if name.ours in self.shapes:
            if name.ours not in self.theirs:
                self.theirs[name.ours] = self.fitted(name, x)
        elif self.strict:
            near = get_close_matches(name.ours, self.shapes, n=2)
            hint = f"; near it: {', '.join(near)}" if near else ""
            raise UsageError(f"the model has no quantity {name.ours!r}{hint}")

    def judge(self) -> None:
        """Judge what has been taken."""
        if not self.theirs:
            raise UsageError("none of the names is of a module that the candidate has run")
        whole = self.figures(self.first, {})
        self.first = {}  # a large model's quantities are gigabytes
        own = self.figures(self.in_single(self.theirs), self.theirs)
        self.judged = [_Judged(name, whole[name], own[name]) for name in whole]

    def in_single(self, theirs: Mapping[str, NDArray[Any]] | None = None) -> Arrays:
        single: Arrays = {}
        x = self.x.astype(np.float32)
        record(self.ours.run, self.single, x, single.__setitem__, theirs=theirs)
        return single

    def figures(
        self, single: Mapping[str, NDArray[Any]], theirs: Mapping[str, NDArray[Any]]
    ) -> dict[str, Figure]:
        """Judge theirs by ours, made of some of theirs."""
        found: dict[str, Figure] = {}

        def note(name: str, exact: NDArray[Any]) -> None:
            if name in self.theirs:
                units = self.units(exact, single[name])
                found[name] = figure(self.theirs[name], exact, units, self.dtype)

        record(self.ours.run, self.params, self.x, note, theirs=theirs)
        return found

    def units(self, exact: NDArray[Any], single: NDArray[Any]) -> float:
        """Return what a quantity errs by, in units of the precision.

        That is what it does in float32, and what the longest sum may by its roundings alone: one
        library adds in blocks, another term by term, and those err by the root of their number.
        Half precision is summed in float32.
        """
        eps = EPS[self.dtype]
        of_sums = largest(exact) * math.sqrt(self.longest) * min(eps, EPS["float32"]) / eps
        return max(*slack([exact], [single]), of_sums / 4.0)

    def fitted(self, name: Name, x: NDArray[Any]) -> NDArray[Any]:
        expected, sizes = self.shapes[name.ours], {"b": len(self.x), **self.ours.sizes}
        try:
            x = arranged(x, name.axes, sizes)
        except (ValueError, IndexError) as error:
            raise UsageError(f"{name.theirs} as {name.ours} : {name.axes}: {error}") from None
        if x.shape != expected:
            raise UsageError(f"{name.theirs} as {name.ours}: {x.shape}, where ours is {expected}")
        return x.copy()  # and not a view of all that it was a part of

    # --- What is told -----------------------------------------------------------------------------

    def lines(self) -> list[Line]:
        """Return two lines for each quantity, in the order of computation."""
        told = []
        for each in self.judged:
            for kind, found, case in (
                ("value", each.whole, "from end to end"),
                ("step", each.own, "of its own inputs"),
            ):
                told.append(
                    Line(
                        kind, each.name, f"{case}, {self.dtype}", found.holds, found.error,
                        found.bound, found.note,
                    )
                )  # fmt: skip
        return told

    def notes(self) -> list[str]:
        """Tell which quantities the candidate does not expose."""
        hidden = [name for name in self.shapes if name not in self.theirs]
        kinds = dict.fromkeys(re.sub(r"\.\d+\.", ".{i}.", name) for name in hidden)
        return [f"not compared, as nothing exposes them: {', '.join(kinds)}"] if kinds else []

    def findings(self) -> list[Finding]:
        """Name what is at fault by itself, or else where the two part."""
        parted = [each for each in self.judged if not each.whole.holds]
        at_fault = self._without_what_follows()
        if parted and not at_fault:
            says = (
                "the first to part; made of the candidate's own inputs every quantity agrees: no "
                "single step is wrong, or what is wrong lies where nothing is exposed."
            )
            return [Finding(_place(parted[0].name), says)]
        first = (parted or at_fault or self.judged)[0].name
        return [self._fault(each, first, explain=k < _EXPLAINED) for k, each in enumerate(at_fault)]

    def _without_what_follows(self) -> list[_Judged]:
        """Leave out sums that are wrong as one before was, and a class token beside its tokens."""
        at_fault = {each.name: each for each in self.judged if not each.own.holds}
        kept: dict[str, _Judged] = {}
        for name, each in at_fault.items():
            bare = _bare(name)
            carried = bare.endswith(".input") and any(one.endswith(".input") for one in kept)
            if not carried and bare not in kept:
                kept[bare] = at_fault.get(bare, each)
        return list(kept.values())

    def _fault(self, each: _Judged, first: str, *, explain: bool) -> Finding:
        where = (
            "the first to part"
            if _bare(each.name) == _bare(first)
            else f"while {first} parts first"
        )
        why = causes.Explained()
        if explain:
            heads = self.theirs[each.name].shape[1]  # where these are of heads
            why = causes.explained(each.name, self._explains, heads)
        look = causes.likely(each.name, each.own, self.theirs[each.name], self.dtype)
        says = (
            f"{where}; made of the candidate's own inputs it is wrong, too (error "
            f"{each.own.error:.2g}, bound {each.own.bound:.2g}). {why.says or look}"
        )
        return Finding(_place(each.name), says, why.mend, why.mistakes, why.same)

    def _explains(self, name: str, handler: Handler) -> bool:
        """Tell whether our model makes theirs under a handler."""
        made: list[NDArray[Any]] = []

        def note(found: str, y: NDArray[Any]) -> None:
            if found == name:
                made.append(y)
                raise Enough

        for params, dtype in ((self.params, np.float64), (self.single, np.float32)):
            try:
                record(
                    self.ours.run, params, self.x.astype(dtype), note,
                    theirs=self.theirs, handler=handler,
                )  # fmt: skip
            except (ValueError, TypeError, IndexError, ArithmeticError):
                return False  # no change that this model lets happen
        got = self.theirs[name]
        if [y.shape for y in made] != [got.shape] * 2:
            return False
        exact, single = made
        return figure(got, exact, self.units(exact, single), self.dtype).holds


def _bare(name: str) -> str:
    """Return the name of the tokens' quantity, of that of the class token too."""
    return name.removesuffix(".cls")


def _place(name: str) -> str:
    """Say a name as a block and a quantity."""
    bare = _bare(name)
    of_cls = "the class token's " if bare != name else ""
    block, _, quantity = bare.removesuffix(".input").rpartition(".")
    of_sum = "the input of " if bare.endswith(".input") else ""
    return f"{block or 'outside the blocks'}: {of_cls}{of_sum}{quantity}"
