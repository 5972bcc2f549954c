"""How a candidate orders its axes: patterns as in einops, "Q=b h (t s) d".

A pattern names the axes of an array in the candidate's order, by the formula's letters. Other
letters are its batch axes, the `*b` of its shapes, in the order in which they first occur. Where an
array has an axis twice, as "*b t s t d_v", the second is t'.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from vtnp._registry.checks import Signature
from vtnp._registry.errors import UsageError
from vtnp._registry.shapes import Argument
from vtnp.verify.errors import CandidateError
from vtnp.verify.rearrange import rearranged

Sizes = Mapping[str, int]
_PRIME = "_prime"


def read_patterns(text: str) -> dict[str, str]:
    """Read "Q=b h (t s) d; result=b h n d"."""
    patterns = {}
    for entry in filter(None, (entry.strip() for entry in text.split(";"))):
        name, _, pattern = (side.strip() for side in entry.partition("="))
        if not (name and pattern):
            raise UsageError(f"layout {entry!r}: expected ARRAY=PATTERN, as in Q=b h (t s) d")
        patterns[name] = pattern
    return patterns


class AxisLayout:
    """The patterns of one candidate for one formula.

    batch: the names of the batch axes; None without patterns, where any number of them is tried.
    Raises UsageError for a pattern that lacks an axis of its array, and for an unknown array.
    """

    def __init__(self, signature: Signature, patterns: Mapping[str, str]) -> None:
        arrays = {each.name: each for each in (*signature.arguments, *signature.returns)}
        unknown = [name for name in patterns if name not in arrays]
        if unknown:
            known = ", ".join(arrays)
            raise UsageError(f"layout of {', '.join(unknown)}: the arrays are {known}")
        self._patterns = {name: _normalised(pattern) for name, pattern in patterns.items()}
        self._shapes = {name: each.shape for name, each in arrays.items()}
        letters = {axis for each in arrays.values() for axis in _axes(each)}
        found = (axis for pattern in self._patterns.values() for axis in _names(pattern))
        batch = dict.fromkeys(axis for axis in found if axis not in letters)
        self.batch = tuple(batch) if patterns else None
        for name, pattern in self._patterns.items():
            self._refuse_other_axes(name, pattern)

    def _refuse_other_axes(self, name: str, pattern: str) -> None:
        if sorted(self._formula_pattern(name).split()) != sorted(_names(pattern)):
            raise UsageError(
                f"layout {name}={pattern}: expected each axis of "
                f'"{self._shapes[name].text}" once (a second t as t\')'
            )

    def _formula_pattern(self, name: str) -> str:
        shape = self._shapes[name]
        batch = [] if shape.row is None else list(self.batch or ())
        return " ".join([*_distinct(shape.before), *batch, *_distinct(shape.after)])

    def to_candidate(self, name: str, x: NDArray[Any]) -> NDArray[Any]:
        """Rearrange an array of the formula as the candidate has it."""
        if name not in self._patterns:
            return x
        return _rearranged(x, f"{self._formula_pattern(name)} -> {self._patterns[name]}", {})

    def to_formula(self, name: str, y: NDArray[Any], sizes: Sizes) -> NDArray[Any]:
        """Rearrange an array of the candidate as the formula has it."""
        if name not in self._patterns:
            return y
        groups = re.findall(r"\(([^)]*)\)", self._patterns[name])
        grouped = {axis for group in groups for axis in group.split()}
        known = {
            axis: sizes[each] for axis in grouped if (each := axis.removesuffix(_PRIME)) in sizes
        }
        return _rearranged(y, f"{self._patterns[name]} -> {self._formula_pattern(name)}", known)


def _rearranged(x: NDArray[Any], pattern: str, sizes: Sizes) -> NDArray[Any]:
    try:
        return rearranged(x, pattern, **sizes)
    except ValueError:
        raise CandidateError(f"shape {x.shape} does not fit the layout {pattern}") from None


def _axes(argument: Argument) -> Iterable[str]:
    return [*_distinct(argument.shape.before), *_distinct(argument.shape.after)]


def _distinct(axes: Sequence[str]) -> list[str]:
    """Name axes as patterns do, a second one of the same letter with a prime."""
    letters = list(map(_letter, axes))
    return [x + _PRIME * letters[:i].count(x) for i, x in enumerate(letters)]


def _letter(axis: str) -> str:
    """Give an axis of fixed size a name, which einops needs."""
    return f"axis{axis}" if axis.isdigit() and axis != "1" else axis


def _normalised(pattern: str) -> str:
    words = " ".join(pattern.split()).replace("'", _PRIME)
    return re.sub(r"\b[2-9]\b|\b\d\d+\b", lambda found: f"axis{found[0]}", words)


def _names(pattern: str) -> list[str]:
    return re.findall(r"[A-Za-z_]\w*|\b1\b", pattern)
