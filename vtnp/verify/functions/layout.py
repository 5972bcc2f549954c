"""Where a candidate's axes lie: patterns as in einops, "Q=b h (t s) d".

A pattern names the axes of an array as the candidate has them, with the formula's own letters.
Letters that the formula does not know are its batch axes, the `*b` of its shapes, in the order in
which they first occur. Where an array has an axis twice, as "*b t s t d_v", the second is t'.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from vtnp._registry.checks import Signature
from vtnp._registry.errors import UsageError
from vtnp._registry.shapes import Argument
from vtnp.verify.errors import CandidateError

Sizes = Mapping[str, int]
_PRIME = "_prime"


def read_patterns(text: str) -> dict[str, str]:
    """Read "Q=b h (t s) d; result=b h n d"."""
    patterns = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        name, equals, pattern = (piece.strip() for piece in part.partition("="))
        if not (name and equals and pattern):
            raise UsageError(f"layout {part!r}: ARRAY=PATTERN is meant, as in Q=b h (t s) d")
        patterns[name] = pattern
    return patterns


class Layout:
    """The patterns of one candidate for one formula.

    batch: the names of the batch axes; None where no pattern tells, and any number may do.
    Raises UsageError for a pattern that misses an axis of its array, or for an unknown array.
    """

    def __init__(self, signature: Signature, patterns: Mapping[str, str]) -> None:
        arrays = {each.name: each for each in (*signature.arguments, *signature.returns)}
        unknown = [name for name in patterns if name not in arrays]
        if unknown:
            raise UsageError(f"layout of {', '.join(unknown)}: the arrays are {', '.join(arrays)}")
        self._patterns = {name: _spelt(pattern) for name, pattern in patterns.items()}
        self._shapes = {name: each.shape for name, each in arrays.items()}
        letters = {axis for each in arrays.values() for axis in _axes(each)}
        found = (axis for pattern in self._patterns.values() for axis in _names(pattern))
        known = dict.fromkeys(axis for axis in found if axis not in letters)
        self.batch = tuple(known) if patterns else None
        for name, pattern in self._patterns.items():
            self._complain_of_missing(name, pattern)

    def _complain_of_missing(self, name: str, pattern: str) -> None:
        ours, theirs = self._ours(name).split(), _names(pattern)
        if sorted(ours) != sorted(theirs):
            raise UsageError(
                f"layout {name}={pattern}: the axes of {name} are "
                f'"{self._shapes[name].text}", each of which is named once (a second t as t\')'
            )

    def _ours(self, name: str) -> str:
        shape = self._shapes[name]
        row = [] if shape.row is None else list(self.batch or ())
        before, after = _told_apart(shape.before), _told_apart(shape.after)
        return " ".join([*before, *row, *after])

    def there(self, name: str, x: NDArray[Any]) -> NDArray[Any]:
        """Bring an array of the formula to how the candidate has it."""
        if name not in self._patterns:
            return x
        return _rearranged(x, f"{self._ours(name)} -> {self._patterns[name]}", {})

    def back(self, name: str, y: NDArray[Any], sizes: Sizes) -> NDArray[Any]:
        """Bring a result of the candidate to how the formula has it."""
        if name not in self._patterns:
            return y
        grouped = re.findall(r"\(([^)]*)\)", self._patterns[name])
        needed = {axis for group in grouped for axis in group.split()}
        told = {
            axis: sizes[each] for axis in needed if (each := axis.removesuffix(_PRIME)) in sizes
        }
        return _rearranged(y, f"{self._patterns[name]} -> {self._ours(name)}", told)


def _rearranged(x: NDArray[Any], pattern: str, sizes: Sizes) -> NDArray[Any]:
    try:
        import einops
    except ImportError:
        raise UsageError("einops not found: pip install 'vtnp[verify]'") from None
    try:
        moved: NDArray[Any] = einops.rearrange(x, pattern, **sizes)
    except einops.EinopsError:
        raise CandidateError(f"shape {x.shape} does not fit the layout {pattern}") from None
    return moved


def _axes(argument: Argument) -> Iterable[str]:
    return [*_told_apart(argument.shape.before), *_told_apart(argument.shape.after)]


def _told_apart(axes: Sequence[str]) -> list[str]:
    """Name axes as patterns do, a second one of the same letter by a prime."""
    letters = list(map(_letter, axes))
    return [x + _PRIME * letters[:i].count(x) for i, x in enumerate(letters)]


def _letter(axis: str) -> str:
    """Name an axis of fixed size, which einops does not know."""
    return f"axis{axis}" if axis.isdigit() and axis != "1" else axis


def _spelt(pattern: str) -> str:
    words = " ".join(pattern.split()).replace("'", _PRIME)
    return re.sub(r"\b[2-9]\b|\b\d\d+\b", lambda found: f"axis{found[0]}", words)


def _names(pattern: str) -> list[str]:
    return re.findall(r"[A-Za-z_]\w*|\b1\b", pattern)
