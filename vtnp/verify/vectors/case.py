"""One case: a formula's arrays for one input, and their tolerances."""

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
from vtnp.verify.gradients import gradients_of, random_cotangents
from vtnp.verify.judge import (
    EPS,
    HALF_PRECISIONS,
    deviation,
    own_error_units,
    perturbed,
    results_of,
    rounded,
)
from vtnp.verify.vectors.manifest import Arrays, key

Arguments = Mapping[str, Any]
Function = Callable[..., Any]
Tolerances = dict[str, dict[str, float]]

PYTHON_ONLY = ("like", "rng")  # arguments without meaning in other languages
_KINDS = {"f": "F64", "i": "I64", "b": "BOOL"}


class VectorCase:
    """A formula and one input.

    arguments: numbers that float32 has. seed: of the weights that outputs are summed with.
    """

    def __init__(self, entry: Entry, arguments: Arguments, seed: int) -> None:
        self.entry, self.arguments, self.seed = entry, arguments, seed
        self.inputs = {
            path: np.asarray(x) for path, x in tree_leaves(_without_python_only(arguments))
        }

    @cached_property
    def outputs(self) -> Arrays:
        return self._outputs(self.arguments)

    @cached_property
    def weights(self) -> Arrays:
        """Weights of the outputs that have a gradient, in numbers that every precision has."""
        drawn = random_cotangents(list(self.outputs.values()), self.seed)
        for half in sorted(HALF_PRECISIONS):
            drawn = list(rounded({"": drawn}, half)[""])
        named = zip(self.outputs.items(), drawn, strict=True)
        has_real_input = any(x.dtype.kind == "f" for x in self.inputs.values())
        return {name: w for (name, y), w in named if has_real_input and y.dtype.kind == "f"}

    @cached_property
    def gradients(self) -> Arrays:
        return self._gradients(self.arguments)

    @cached_property
    def tolerances(self) -> Tolerances:
        """How far outputs may lie off, in each precision."""
        return self._tolerances(self.outputs, as_arrays(self.entry))

    @cached_property
    def gradient_tolerances(self) -> Tolerances:
        """How far gradients may lie off, in each precision."""
        return self._tolerances(self.gradients, self._gradients_in_order) if self.weights else {}

    @cached_property
    def bound(self) -> Bound:
        """The sizes of the axes of arguments."""
        bound: Bound = {}
        for argument in self.entry.signature.arguments:
            x = self.arguments.get(argument.name)
            if x is not None and argument.name not in PYTHON_ONLY:
                bind(argument.shape, x.shape, bound)
        return bound

    def is_well_conditioned(self) -> bool:
        """Tell whether a right implementation is sure to stay within the tolerances.

        It may err in the last place of its inputs. Results that this moves by more than half of a
        tolerance, such as differences that vanish, judge nobody. And integers, such as indices
        chosen among near ties, must be the same in every precision.
        """
        bounds = [*self.tolerances.values(), *self.gradient_tolerances.values()]
        if not all(np.isfinite(x) for each in bounds for x in each.values()):
            return False
        others = [self._outputs(self.arguments, "float32")] if self._exact else []
        others += [
            self._outputs(rounded(self.arguments, x)) for x in HALF_PRECISIONS if self._exact
        ]
        if any(not np.array_equal(y[k], self.outputs[k]) for y in others for k in self._exact):
            return False
        moved = perturbed(self.arguments, "float32", 0)
        outputs, gradients = self._outputs(moved), self._gradients(moved)
        return _within(outputs, self.outputs, self.tolerances, "float32", 0.5) and _within(
            gradients, self.gradients, self.gradient_tolerances, "float32", 0.5
        )

    def exposes(self, mistake: Function) -> bool:
        """Tell whether a wrong implementation has other outputs here."""
        wrong = VectorCase(self.entry._replace(function=mistake), self.arguments, self.seed)
        try:
            outputs = wrong.outputs
        except Exception:  # noqa: BLE001 - an error is not overlooked
            return True
        return (
            any(outputs[name].shape != y.shape for name, y in self.outputs.items())
            or any(not np.array_equal(outputs[name], self.outputs[name]) for name in self._exact)
            or not _within(outputs, self.outputs, self.tolerances, "float64")
        )

    @property
    def _exact(self) -> list[str]:
        """The outputs that are not real numbers, and have no tolerance."""
        return [name for name, y in self.outputs.items() if y.dtype.kind != "f"]

    def arrays(self, case: str) -> Arrays:
        """Return all arrays by the names that they have in the file."""
        groups = {
            "inputs": self.inputs,
            "outputs": self.outputs,
            "weights": self.weights,
            "gradients": self.gradients,
        }
        return {
            key(case, group, name): x
            for group, arrays in groups.items()
            for name, x in arrays.items()
        }

    def description(self, case: str) -> dict[str, Any]:
        """Return its entry in the manifest."""
        bound = dict(self.bound)
        for result, y in zip(self.entry.signature.returns, self.outputs.values(), strict=False):
            bind(result.shape, y.shape, bound)
        batches = [list(sizes) for sizes in bound.values() if isinstance(sizes, tuple)]
        return {
            "name": case,
            "batch": batches[0] if batches else [],
            "sizes": {axis: size for axis, size in bound.items() if isinstance(size, int)},
            "options": self._options(),
            "inputs": _shapes(self.inputs, {}),
            "outputs": _shapes(self.outputs, self.tolerances),
            "weights": _shapes(self.weights, {}),
            "gradients": _shapes(self.gradients, self.gradient_tolerances),
        }

    def _options(self) -> dict[str, Any]:
        arrays = {each.name for each in self.entry.signature.arguments}
        tables = {path.partition(".")[0] for path in self.inputs}
        return {
            name: _json_value(self.arguments.get(name, each.default))
            for name, each in inspect.signature(self.entry.function).parameters.items()
            if name not in arrays and name not in tables and name not in PYTHON_ONLY
        }

    def _outputs(self, arguments: Arguments, dtype: str = "float64") -> Arrays:
        names = [*front_matter(formula(self.entry.id).page)["returns"]]
        results = results_of(as_arrays(self.entry), arguments, dtype)
        names += [f"result_{i + 1}" for i in range(len(names), len(results))]
        return dict(zip(names, results, strict=True))

    def _gradients(self, arguments: Arguments) -> Arrays:
        if not self.weights:
            return {}
        names = [path for path, x in self.inputs.items() if x.dtype.kind == "f"]
        return dict(zip(names, self._gradients_in_order(**arguments), strict=True))

    def _gradients_in_order(self, **arguments: Any) -> tuple[Any, ...]:
        """Return the gradients of real inputs, in the precision that those have."""
        real = (x.dtype for _, x in tree_leaves(arguments) if x.dtype.kind == "f")
        weights = [self.weights.get(name, np.zeros(y.shape)) for name, y in self.outputs.items()]
        gradients = gradients_of(as_arrays(self.entry), arguments, weights, str(next(real)))
        return tuple(np.asarray(g) for g in gradients.values())

    def _tolerances(self, exact: Arrays, function: Function) -> Tolerances:
        """Return the judge's bounds; in half precision, plus what rounding the inputs changes."""
        found: Tolerances = {name: {} for name, y in exact.items() if y.dtype.kind == "f"}
        for dtype in EPS:
            arguments = rounded(self.arguments, dtype)
            results = results_of(function, arguments)
            units = own_error_units(function, arguments, results, dtype)
            for (name, expected), y, unit in zip(exact.items(), results, units, strict=True):
                if name in found:
                    moved = deviation(y, expected, unit, dtype).error
                    found[name][dtype] = deviation(y, y, unit, dtype).bound + moved
        return found


def as_arrays(entry: Entry) -> Callable[..., tuple[Any, ...]]:
    """Return the formula with arrays in place of Python's integers among its results."""

    def function(**arguments: Any) -> tuple[Any, ...]:
        result = entry.function(**arguments)
        results = result if isinstance(result, tuple) and entry.signature.returns else (result,)
        return tuple(y if hasattr(y, "dtype") else np.asarray(y, dtype=np.int64) for y in results)

    return function


def _without_python_only(arguments: Arguments) -> Arguments:
    return {name: x for name, x in arguments.items() if name not in PYTHON_ONLY}


def _within(
    got: Arrays, expected: Arrays, tolerances: Tolerances, dtype: str, share: float = 1.0
) -> bool:
    return all(
        deviation(got[name], expected[name], 0.0, dtype).error <= share * tolerance[dtype]
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
