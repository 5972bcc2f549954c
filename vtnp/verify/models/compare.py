"""Compare a whole model with another implementation, quantity by quantity, on the same weights.

Twice. First both run end to end on one clip, and each of the candidate's quantities may lie off
ours as far as our own float32 run does there, times judge.MULTIPLE: that tells where the two
diverge. Then our model runs again, and each of its quantities, once computed, is replaced by the
candidate's: so each is computed from the candidate's own inputs, in isolation, and what diverges
now is at fault itself and not because of what comes before it.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtnp._array.trees import tree_leaves, tree_map
from vtnp._registry.calls import Handler
from vtnp._registry.errors import UsageError, did_you_mean
from vtnp.checkpoints import FileError, load
from vtnp.checkpoints.npz import from_npz
from vtnp.checkpoints.opening import read_bytes
from vtnp.verify.judge import EPS, Deviation, deviation, error_units, largest, rounded
from vtnp.verify.models.activations import StopRecording, record
from vtnp.verify.models.axes import arranged
from vtnp.verify.models.causes import Cause, find_cause, likely_cause
from vtnp.verify.models.name_table import NameLine, NameTable, read_table
from vtnp.verify.models.subjects import Subject, is_pickled, subject, weights
from vtnp.verify.models.tables import table_of_layout
from vtnp.verify.models.torch_module import TorchModule, clip_for
from vtnp.verify.report import Finding, Kind, Line, Report

Arrays = dict[str, NDArray[Any]]

_EXPLAINED = 3  # findings; what is wrong in the first blocks mostly is in all
_MOST_NAMES = 1_000_000  # bytes of a table of names
_CLIPS = 2  # a single one hides what mixes up clips
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

    candidate: makes a torch module; without arguments, the weights are loaded into the module, with
    one, it is passed the file. activations: instead of it, a file of a clip and of what a candidate
    has computed from it. names: a file of lines as in name_table; left out, the layout's own.
    dtype: in which the candidate computes. seed: of the clip.
    Raises UsageError, FileError; CandidateError where the candidate raises.
    """
    if (candidate is None) == (activations is None):
        raise UsageError("expected either a candidate or a file of its activations")
    if dtype not in EPS:
        raise UsageError(f"dtype {dtype!r}: expected one of {', '.join(EPS)}")
    table = _table(table_of_layout(model, config, layout), names)
    params, tensors = weights(model, config, layout, file)
    ours = subject(model, config)
    params = tree_map(lambda x: rounded({"": x}, dtype)[""].astype(np.float64, copy=False), params)
    if candidate is not None:
        if not table.lines:
            raise UsageError(f"vtnp has no names for {model}, layout {layout}: pass --names FILE")
        module = TorchModule(candidate, file, tensors, table)
        module.convert_to(dtype)
        drawn = np.random.default_rng(seed).standard_normal((_CLIPS, *ours.shape))
        x = rounded({_INPUT: drawn}, dtype)[_INPUT]
        comparison = _Comparison(ours, params, x, dtype, refuses_unknown=names is not None)
        module.run(clip_for(x, table), comparison.add)
        notes, name = module.notes, getattr(candidate, "__name__", "candidate")
    else:
        assert activations is not None
        x, quantities = _from_file(activations, table, ours)
        comparison = _Comparison(ours, params, x, dtype, refuses_unknown=True)
        for line, value in quantities:
            comparison.add(line, value)
        notes, name = [], activations.name
    comparison.judge()
    if is_pickled(file):
        notes = [*notes, f"{file} was unpickled by torch.load with weights_only"]
    return Report(
        formula=model,
        candidate=name,
        library="torch" if candidate else "",
        seed=seed,
        lines=tuple(comparison.lines()),
        findings=tuple(comparison.findings()),
        notes=(*notes, *comparison.notes()),
    )


def _table(default: NameTable, names: Path | None) -> NameTable:
    if names is None:
        return default
    try:
        text = read_bytes(names, _MOST_NAMES).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{names}: {error}") from None
    return read_table(text, str(names), default)


def _from_file(
    file: Path, table: NameTable, ours: Subject
) -> tuple[NDArray[Any], list[tuple[NameLine, NDArray[Any]]]]:
    """Read a clip, and what was computed from it, by our names or by those of a table."""
    arrays = from_npz(file) if file.suffix == ".npz" else load(file)[0]
    if _INPUT not in arrays:
        raise FileError(f"{file}: it has no {_INPUT!r}, the input of its activations")
    x = arrays.pop(_INPUT).astype(np.float64)
    if x.shape[1:] != ours.shape:
        raise FileError(f"{file}: {_INPUT!r} has shape {x.shape}, expected (b, *{ours.shape})")
    quantities: list[tuple[NameLine, NDArray[Any]]] = []
    for key, array in arrays.items():
        module, _, port = key.partition(":")
        lines = [
            line.at(i)
            for line in table.lines
            if line.port == port and (i := line.matches(table.without_prefix(module))) is not None
        ]
        lines = lines or [NameLine(key, "", key, "")]
        quantities += [(line, array) for line in lines]
    return x, quantities


@dataclass
class _Judged:
    """A quantity as the two compute it end to end, and from the candidate's own inputs."""

    name: str
    end_to_end: Deviation
    isolated: Deviation


class _Comparison:
    """Our model beside the candidate's quantities.

    refuses_unknown: whether a quantity that the model does not have is an error, as in a table of
    the user.
    """

    def __init__(
        self, ours: Subject, params: Any, x: NDArray[Any], dtype: str, *, refuses_unknown: bool
    ) -> None:
        self.ours, self.params, self.x, self.dtype = ours, params, x, dtype
        self.refuses_unknown = refuses_unknown
        self.params_in_single = tree_map(lambda array: array.astype(np.float32), params)
        self.candidate: Arrays = {}  # its quantities
        self.judged: list[_Judged] = []
        self.single = self.in_single()
        self.shapes = {name: y.shape for name, y in self.single.items()}
        lengths = [size for _, array in tree_leaves(params) for size in array.shape]
        lengths += [size for shape in self.shapes.values() for size in shape]
        self.longest_sum = max(lengths)

    def add(self, line: NameLine, x: NDArray[Any]) -> None:
        """Keep a quantity of the candidate, arranged as ours; of one computed twice, the first."""
        name = line.quantity
        if name in self.shapes:
            if name not in self.candidate:
                self.candidate[name] = self.as_ours(line, x)
        elif self.refuses_unknown:
            hint = did_you_mean(name, self.shapes)
            raise UsageError(f"the model has no quantity {name!r}{hint}")

    def as_ours(self, line: NameLine, x: NDArray[Any]) -> NDArray[Any]:
        expected, sizes = self.shapes[line.quantity], {"b": len(self.x), **self.ours.sizes}
        try:
            x = arranged(x, line.axes, sizes)
        except (ValueError, IndexError) as error:
            raise UsageError(f"{line.module} = {line.quantity} : {line.axes}: {error}") from None
        if x.shape != expected:
            raise UsageError(f"{line.module} = {line.quantity}: shape {x.shape}, ours {expected}")
        return x.copy()  # not a view of a larger array

    # --- The judgement ----------------------------------------------------------------------------

    def judge(self) -> None:
        """Judge the candidate's quantities, end to end and in isolation."""
        if not self.candidate:
            raise UsageError("no name is of a module that the candidate has run")
        end_to_end = self.deviations(self.single, {})
        self.single = {}  # the quantities of a large model take gigabytes
        isolated = self.deviations(self.in_single(self.candidate), self.candidate)
        self.judged = [_Judged(name, end_to_end[name], isolated[name]) for name in end_to_end]

    def in_single(self, replacements: Mapping[str, NDArray[Any]] | None = None) -> Arrays:
        single: Arrays = {}
        x = self.x.astype(np.float32)
        record(
            self.ours.run, self.params_in_single, x, single.__setitem__, replacements=replacements
        )  # fmt: skip
        return single

    def deviations(
        self, single: Mapping[str, NDArray[Any]], replacements: Mapping[str, NDArray[Any]]
    ) -> dict[str, Deviation]:
        """Judge the candidate's quantities by ours, some of which are replaced by its own."""
        found: dict[str, Deviation] = {}

        def note(name: str, exact: NDArray[Any]) -> None:
            if name in self.candidate:
                units = self.units(exact, single[name])
                found[name] = deviation(self.candidate[name], exact, units, self.dtype)

        record(self.ours.run, self.params, self.x, note, replacements=replacements)
        return found

    def units(self, exact: NDArray[Any], single: NDArray[Any]) -> float:
        """Return what a quantity errs by, in units of the eps of the dtype.

        That is its error in float32; and at least what the rounding of the longest sum may give:
        one library adds in blocks, another term by term, which differ by the root of their number.
        Sums of half precision are taken in float32.
        """
        eps = EPS[self.dtype]
        of_sums = largest(exact) * math.sqrt(self.longest_sum) * min(eps, EPS["float32"]) / eps
        return max(*error_units([exact], [single]), of_sums / 4.0)

    # --- The report -------------------------------------------------------------------------------

    def lines(self) -> list[Line]:
        """Return two lines for each quantity, in the order of computation."""
        lines = []
        for each in self.judged:
            both: tuple[tuple[Kind, Deviation, str], ...] = (
                ("value", each.end_to_end, "end to end"),
                ("isolated", each.isolated, "from its own inputs"),
            )
            for kind, x, inputs in both:
                case = f"{inputs}, {self.dtype}"
                lines.append(Line(kind, each.name, case, x.holds, x.error, x.bound, x.note))
        return lines

    def notes(self) -> list[str]:
        """Say which quantities the candidate does not expose."""
        hidden = [name for name in self.shapes if name not in self.candidate]
        kinds = dict.fromkeys(re.sub(r"\.\d+\.", ".{i}.", name) for name in hidden)
        return [f"not exposed, and so not compared: {', '.join(kinds)}"] if kinds else []

    def findings(self) -> list[Finding]:
        """Name what is at fault by itself, or else where the two first diverge."""
        diverging = [each for each in self.judged if not each.end_to_end.holds]
        faults = self._faults()
        if diverging and not faults:
            explanation = (
                "The first to diverge; but from the candidate's own inputs every quantity agrees: "
                "no single one is wrong, or the fault is where nothing is exposed."
            )
            return [Finding(_location(diverging[0].name), explanation)]
        first = (diverging or faults or self.judged)[0].name
        return [self._fault(x, first, explain=k < _EXPLAINED) for k, x in enumerate(faults)]

    def _faults(self) -> list[_Judged]:
        """Return what is wrong in isolation.

        Left out are residual sums that are wrong because an earlier one is, and a class token
        beside its tokens.
        """
        wrong = {each.name: each for each in self.judged if not each.isolated.holds}
        kept: dict[str, _Judged] = {}
        for name, each in wrong.items():
            bare = _without_cls(name)
            follows = bare.endswith(".input") and any(other.endswith(".input") for other in kept)
            if not follows and bare not in kept:
                kept[bare] = wrong.get(bare, each)
        return list(kept.values())

    def _fault(self, each: _Judged, first: str, *, explain: bool) -> Finding:
        is_first = _without_cls(each.name) == _without_cls(first)
        order = "The first to diverge" if is_first else f"After {first}, which diverges first"
        cause = Cause()
        if explain:
            heads = self.candidate[each.name].shape[1]  # where the quantity has heads
            cause = find_cause(each.name, self._explains, heads)
        likely = likely_cause(each.name, each.isolated, self.candidate[each.name], self.dtype)
        explanation = (
            f"{order}; wrong also from the candidate's own inputs (error "
            f"{each.isolated.error:.2g}, bound {each.isolated.bound:.2g}). "
            f"{cause.explanation or likely}"
        )
        return Finding(
            _location(each.name), explanation, cause.fix, cause.mistakes, cause.equivalents
        )

    def _explains(self, name: str, handler: Handler) -> bool:
        """Tell whether our model, under a handler, computes the candidate's quantity."""
        computed: list[NDArray[Any]] = []

        def note(noted: str, y: NDArray[Any]) -> None:
            if noted == name:
                computed.append(y)
                raise StopRecording

        for params, dtype in ((self.params, np.float64), (self.params_in_single, np.float32)):
            x = self.x.astype(dtype)
            try:
                record(
                    self.ours.run, params, x, note, replacements=self.candidate, handler=handler
                )  # fmt: skip
            except (ValueError, TypeError, IndexError, ArithmeticError):
                return False  # this model does not allow the change
        got = self.candidate[name]
        if [y.shape for y in computed] != [got.shape] * 2:
            return False
        exact, single = computed
        return deviation(got, exact, self.units(exact, single), self.dtype).holds


def _without_cls(name: str) -> str:
    """Return the name of the tokens' quantity, for that of the class token too."""
    return name.removesuffix(".cls")


def _location(name: str) -> str:
    """Write a name as a block and a quantity."""
    bare = _without_cls(name)
    of_cls = " of the class token" if bare != name else ""
    block, _, quantity = bare.removesuffix(".input").rpartition(".")
    input_of = "input of " if bare.endswith(".input") else ""
    return f"{block or 'outside the blocks'}: {input_of}{quantity}{of_cls}"
