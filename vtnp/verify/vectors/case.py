"""One case: a formula's arrays at one input, and how far those of others may lie off."""

import inspect
import math
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from vtnp._array.trees import tree_leaves
from vtnp._registry.pages import formula, front_matter
from vtnp._registry.shapes import Bound, bind
from vtnp._registry.spec import Entry
from vtnp.verify.functions.gradients import gradients_of, weights_for
from vtnp.verify.judge import (
    EPS,
    HALVES,
    figure,
    nudge,
    results_of,
    rounded,
    units_of,
)
from vtnp.verify.vectors.manifest import Arrays, key

Arguments = Mapping[str, Any]
Function = Callable[..., Any]
Tolerances = dict[str, dict[str, float]]

PYTHON = ("like", "rng")  # arguments that mean nothing to other languages
_KINDS = {"f": "F64", "i": "I64", "b": "BOOL"}


class Case:
    """A formula at one input.

    arguments: numbers of float32. seed: of the weights that outputs are summed with.
    """

    def __init__(self, entry: Entry, arguments: Arguments, seed: int) -> None:
        self.entry, self.arguments, self.seed = entry, arguments, seed
        self.inputs = {path: np.asarray(x) for path, x in tree_leaves(_without_pythons(arguments))}

    @cached_property
    def outputs(self) -> Arrays:
        return self._outputs(self.arguments)

    @cached_property
    def weights(self) -> Arrays:
        """Numbers that every precision has, for outputs that have a gradient."""
        drawn = weights_for(list(self.outputs.values()), self.seed)
        for half in sorted(HALVES):
            drawn = list(rounded({"": drawn}, half)[""])
        named = zip(self.outputs.items(), drawn, strict=True)
        inputs = any(x.dtype.kind == "f" for x in self.inputs.values())
        return {name: w for (name, y), w in named if inputs and y.dtype.kind == "f"}

    @cached_property
    def gradients(self) -> Arrays:
        return self._gradients(self.arguments)

    @cached_property
    def tolerances(self) -> Tolerances:
        """The most that outputs may err by."""
        return self._tolerances(self.outputs, as_arrays(self.entry))

    @cached_property
    def gradient_tolerances(self) -> Tolerances:
        """The most that gradients may err by."""
        return self._tolerances(self.gradients, self._gradients_in_order) if self.weights else {}

    @cached_property
    def bound(self) -> Bound:
        """The sizes of the axes of arguments."""
        bound: Bound = {}
        for argument in self.entry.signature.arguments:
            x = self.arguments.get(argument.name)
            if x is not None and argument.name not in PYTHON:
                bind(argument.shape, x.shape, bound)
        return bound

    def is_fair(self) -> bool:
        """Tell whether a right implementation errs within the tolerances.

        It is as if it changed its inputs in the last place: results that this moves by more than
        half of a tolerance, such as differences that vanish, judge nobody. And whole numbers, such
        as what is chosen of near ties, must be the same in every precision.
        """
        bounds = [*self.tolerances.values(), *self.gradient_tolerances.values()]
        if not all(np.isfinite(x) for each in bounds for x in each.values()):
            return False
        others = [self._outputs(self.arguments, "float32")] if self._whole else []
        others += [self._outputs(rounded(self.arguments, x)) for x in HALVES if self._whole]
        if any(not np.array_equal(y[k], self.outputs[k]) for y in others for k in self._whole):
            return False
        nudged = nudge(self.arguments, "float32", 0)
        outputs, gradients = self._outputs(nudged), self._gradients(nudged)
        return _within(outputs, self.outputs, self.tolerances, "float32", 0.5) and _within(
            gradients, self.gradients, self.gradient_tolerances, "float32", 0.5
        )

    def shows(self, wrong: Function) -> bool:
        """Tell whether a wrong implementation has other outputs here."""
        other = Case(self.entry._replace(function=wrong), self.arguments, self.seed)
        try:
            found = other.outputs
        except Exception:  # noqa: BLE001 - nobody overlooks what raises
            return True
        return (
            any(found[name].shape != y.shape for name, y in self.outputs.items())
            or any(not np.array_equal(found[name], self.outputs[name]) for name in self._whole)
            or not _within(found, self.outputs, self.tolerances, "float64")
        )

    @property
    def _whole(self) -> list[str]:
        return [name for name, y in self.outputs.items() if y.dtype.kind != "f"]

    def arrays(self, case: str) -> Arrays:
        """Return all arrays by the names that they have in the file."""
        parts = {
            "inputs": self.inputs,
            "outputs": self.outputs,
            "weights": self.weights,
            "gradients": self.gradients,
        }
        return {key(case, part, name): x for part, xs in parts.items() for name, x in xs.items()}

    def described(self, case: str) -> dict[str, Any]:
        """Return what the manifest says of it."""
        bound = dict(self.bound)
        for result, y in zip(self.entry.signature.returns, self.outputs.values(), strict=False):
            bind(result.shape, y.shape, bound)
        rows = [list(row) for row in bound.values() if isinstance(row, tuple)]
        return {
            "name": case,
            "batch": rows[0] if rows else [],
            "sizes": {axis: size for axis, size in bound.items() if isinstance(size, int)},
            "options": self._options(),
            "inputs": _shapes(self.inputs, {}),
            "outputs": _shapes(self.outputs, self.tolerances),
            "weights": _shapes(self.weights, {}),
            "gradients": _shapes(self.gradients, self.gradient_tolerances),
        }

    def _options(self) -> dict[str, Any]:
        arrays = {each.name for each in self.entry.signature.arguments}
        held = {path.partition(".")[0] for path in self.inputs}
        return {
            name: _json_value(self.arguments.get(name, each.default))
            for name, each in inspect.signature(self.entry.function).parameters.items()
            if name not in arrays and name not in held and name not in PYTHON
        }

    def _outputs(self, arguments: Arguments, dtype: str = "float64") -> Arrays:
        names = [*front_matter(formula(self.entry.id).page)["returns"]]
        found = results_of(as_arrays(self.entry), arguments, dtype)
        names += [f"result_{i + 1}" for i in range(len(names), len(found))]
        return dict(zip(names, found, strict=True))

    def _gradients(self, arguments: Arguments) -> Arrays:
        if not self.weights:
            return {}
        names = [path for path, x in self.inputs.items() if x.dtype.kind == "f"]
        return dict(zip(names, self._gradients_in_order(**arguments), strict=True))

    def _gradients_in_order(self, **arguments: Any) -> tuple[Any, ...]:
        """Return the gradients of real inputs, in the precision that those have."""
        real = (x.dtype for _, x in tree_leaves(arguments) if x.dtype.kind == "f")
        weights = [self.weights.get(name, np.zeros(y.shape)) for name, y in self.outputs.items()]
        found = gradients_of(as_arrays(self.entry), arguments, weights, str(next(real)))
        return tuple(np.asarray(g) for g in found.values())

    def _tolerances(self, exact: Arrays, function: Function) -> Tolerances:
        """Return what the judge allows; and in half precision what rounding the inputs changes."""
        found: Tolerances = {name: {} for name, y in exact.items() if y.dtype.kind == "f"}
        for dtype in EPS:
            at = rounded(self.arguments, dtype)
            there = results_of(function, at)
            units = units_of(function, at, there, dtype)
            for (name, meant), y, unit in zip(exact.items(), there, units, strict=True):
                if name in found:
                    moved = figure(y, meant, unit, dtype).error
                    found[name][dtype] = figure(y, y, unit, dtype).bound + moved
        return found


def as_arrays(entry: Entry) -> Callable[..., tuple[Any, ...]]:
    """Make the whole numbers of Python among a formula's results arrays, too."""

    def function(**arguments: Any) -> tuple[Any, ...]:
        found = entry.function(**arguments)
        several = found if isinstance(found, tuple) and entry.signature.returns else (found,)
        return tuple(y if hasattr(y, "dtype") else np.asarray(y, dtype=np.int64) for y in several)

    return function


def _without_pythons(arguments: Arguments) -> Arguments:
    return {name: x for name, x in arguments.items() if name not in PYTHON}


def _within(
    got: Arrays, meant: Arrays, tolerances: Tolerances, dtype: str, part: float = 1.0
) -> bool:
    return all(
        figure(got[name], meant[name], 0.0, dtype).error <= part * tolerance[dtype]
        for name, tolerance in tolerances.items()
    )


def _shapes(arrays: Arrays, tolerances: Tolerances) -> dict[str, Any]:
    return {
        name: {"dtype": _KINDS[x.dtype.kind], "shape": list(x.shape)}
        | ({"tolerance": tolerances[name]} if name in tolerances else {})
        for name, x in arrays.items()
    }


def _json_value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _json_value(x) for name, x in value.items()}
    if isinstance(value, list | tuple):
        return [_json_value(x) for x in value]
    return str(value) if isinstance(value, float) and math.isinf(value) else value
