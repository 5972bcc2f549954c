"""Hypothesis strategies of a formula's inputs, for property tests of any implementation.

    from hypothesis import given
    from vtnp.claims import strategies

    @given(strategies.cases("attention"))
    def test_my_attention(case):
        assert_close(my_attention(**case.args), case())

Hypothesis draws sizes, options, which optional arrays there are, masks and numbers: in small arrays
number by number or by a seed, in large ones by a seed. Both are then made into a family of
`vtnp.claims.families`, and rounded to a precision. A case that fails shrinks to small sizes, few
options and small integers; `vtnp.claims.statement` writes it as a line of Python.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from vtnp._array.trees import tree_map
from vtnp._registry.errors import FormulaError
from vtnp._registry.pages import formula
from vtnp._registry.shapes import parse
from vtnp._registry.spec import registry
from vtnp.claims.cases import Case, Draw, Sizing, build
from vtnp.claims.families import families_for, in_family

BATCHES = ((), (2,), (3, 1))
SIZINGS: tuple[Sizing, ...] = ("distinct", "equal", "one", "odd")
DTYPES = ("float64", "float32", "float16")
_BY_NUMBER = 32  # the most numbers of an array that are drawn one by one
_INTEGERS = np.array([0.0, 1.0, -1.0, 2.0, -2.0, 3.0, -3.0])
_EIGHTHS = np.array(sorted(np.arange(-24, 25) / 8, key=lambda x: (x % 1 != 0, abs(x), x < 0)))
# What each byte stands for: the simpler the lower, and integers, which make ties, more often.
_OF_BYTE = np.concatenate([_EIGHTHS, np.resize(_INTEGERS, 256 - _EIGHTHS.size)])

__all__ = ["BATCHES", "DTYPES", "SIZINGS", "arguments", "cases"]


def cases(
    id: str | int,
    *,
    dtypes: Sequence[str] = ("float64",),
    batches: Sequence[tuple[int, ...]] = BATCHES,
    sizings: Sequence[Sizing] = SIZINGS,
    families: Sequence[str] | None = None,
    sizes: Mapping[str, int] | None = None,
) -> st.SearchStrategy[Case]:
    """Return the strategy of a formula's cases.

    Parameters
    ----------
    id : str or int
        The formula: its id, "eq2" or 2.
    dtypes : sequence of str
        Precisions to round the numbers to: "float64", "float32", "float16". The arrays stay
        float64; `case.dtype` names the precision.
    batches : sequence of tuple of int
        Batch axes. They come before all others.
    sizings : sequence of str
        How sizes are drawn: "distinct" primes, all "equal", all "one", distinct and "odd", "any"
        from 1 to 4, "empty" for some axes of size 0 where the formula allows it.
    families : sequence of str, optional
        Names of `vtnp.claims.families.FAMILIES`; left out, all that a formula can be judged on.
    sizes : mapping, optional
        Sizes of axes that are not drawn, by letter.

    Returns
    -------
    SearchStrategy
        Of `Case`: `case.args` holds the arguments, `case()` is the formula's own result, and
        `case.rng` a generator for what a test draws besides.
    """
    entry = registry[formula(id).id]
    choices = [
        (dtype, [x for x in families_for(entry, dtype) if families is None or x in families])
        for dtype in dtypes
    ]
    return _drawn(entry.id, choices, sizings, batches, dict(sizes or {}))


def arguments(id: str | int, **options: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Return the strategy of a formula's keyword arguments alone; options as in `cases`."""
    return cases(id, **options).map(lambda case: case.args)


@st.composite
def _drawn(
    draw: st.DrawFn,
    id: str,
    choices: Sequence[tuple[str, Sequence[str]]],
    sizings: Sequence[Sizing],
    batches: Sequence[tuple[int, ...]],
    sizes: Mapping[str, int],
) -> Case:
    """Draw a case. choices: dtypes, each with its families; one may occur twice, to weigh more."""
    dtype, names = draw(st.sampled_from(choices))
    typical = "typical" in names and draw(st.integers(0, 2)) == 0
    family = "typical" if typical else draw(st.sampled_from(names))
    sizing, batch = draw(st.sampled_from(sizings)), draw(st.sampled_from(batches))
    seed = draw(st.integers(0, 2**16))
    by_seed = draw(st.booleans())
    rng = np.random.default_rng(seed)
    source = Drawn(rng, batch, dict(sizes), sizing, draw=draw, by_seed=by_seed)
    try:
        case = build(id, source)
    except ValueError:  # sizes that this formula cannot have
        assume(condition=False)
        raise
    args = in_family(registry[id], case.args, family)
    args = {name: tree_map(lambda x: _rounded(x, dtype), x) for name, x in args.items()}
    if dtype == "float16" and "eps" in args:
        args["eps"] = max(args["eps"], 1e-3)  # 1e-12 is 0 there
    # What a claim draws besides does not depend on how its arguments were made.
    rng = np.random.default_rng(seed)
    case = replace(case, args=args, rng=rng, dtype=dtype, family=family, seed=seed)
    if sizing in {"one", "empty"}:
        assume(_is_accepted(case))
    return case


def _is_accepted(case: Case) -> bool:
    with np.errstate(all="ignore"):
        try:
            case()
        except FormulaError:
            return False
    return True


def _rounded(x: Any, dtype: str) -> Any:
    if x.dtype.kind != "f" or dtype == "float64":
        return x
    with np.errstate(over="ignore"):
        return x.astype(dtype).astype(np.float64)


@dataclass
class Drawn(Draw):
    """What builders choose, chosen by hypothesis; numbers of large arrays by a generator.

    by_seed: those of small arrays, too. No two of them are equal then.
    """

    draw: st.DrawFn = field(kw_only=True)
    by_seed: bool = False

    def numbers(self, shape: int | tuple[int, ...]) -> np.ndarray:
        if self.by_seed or np.prod(shape) > _BY_NUMBER:
            return self.rng.standard_normal(shape)
        size = int(np.prod(shape))
        drawn = self.draw(st.binary(min_size=size, max_size=size))
        return _OF_BYTE[np.frombuffer(drawn, np.uint8)].reshape(shape)

    smooth: ClassVar[bool] = False

    def mask(self, text: str) -> np.ndarray:
        """Return a mask of a kind: any, one key for each query, none for some, broadcast."""
        shape = self.shape(text)
        kind = self.choice(["usual", "usual", "one", "none", "broadcast", "all"])
        mask = super().mask(text)
        if kind == "one" and shape[-1]:
            mask = np.arange(shape[-1]) == self.rng.integers(shape[-1], size=(*shape[:-1], 1))
        elif kind == "none" and len(parse(text).after) > 1:
            mask[..., :1, :] = False
        elif kind == "broadcast" and self.batch and parse(text).row:
            mask = mask[(slice(0, 1),) * len(self.batch)]
        elif kind == "all":
            mask[...] = True
        return mask

    def integer(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high)) if low <= high else super().integer(low, high)

    def chance(self, probability: float = 0.5) -> bool:
        return self.draw(st.integers(1, 20)) <= 20 * probability

    def choice(self, options: Sequence[Any]) -> Any:
        return self.draw(st.sampled_from(options))

    def shuffled(self, values: Sequence[Any]) -> list[Any]:
        return list(self.draw(st.permutations(values)))

    def generic(self) -> Draw:
        return Draw(self.rng, self.batch, self.sizes, self.sizing)
