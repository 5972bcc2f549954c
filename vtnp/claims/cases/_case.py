"""A formula with arguments drawn for it."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Self

import numpy as np

from vtnp._registry.spec import registry
from vtnp.claims.cases._draw import Builder, Draw, Sizing, builders
from vtnp.claims.cases._options import varied

_SEEDS = 16  # enough to meet every optional argument


@dataclass(frozen=True)
class Case:
    """One formula, or another implementation of it, with arguments drawn for it.

    dtype: in which a claim has the function compute. family: of its numbers, see
    `vtnp.claims.families`. seed: of rng. batch: the batch axes.
    """

    id: str
    args: dict[str, Any]
    rng: np.random.Generator
    function: Callable[..., Any]
    dtype: str = "float64"
    family: str = "typical"
    seed: int = 0
    batch: tuple[int, ...] = ()

    def __call__(self, **changed: Any) -> Any:
        """Evaluate, with some arguments changed."""
        return self.function(**{**self.args, **changed})

    def __getitem__(self, name: str) -> Any:
        """Return an argument; the formula's default of an option that is left out."""
        if name in self.args:
            return self.args[name]
        return inspect.signature(registry[self.id].function).parameters[name].default

    def numbers(self, shape: int | tuple[int, ...] = ()) -> Any:
        """Draw standard-normal numbers, rounded to the case's precision."""
        return self.rounded(self.rng.standard_normal(shape))

    def rounded(self, x: Any) -> Any:
        """Round numbers to the case's precision."""
        return x if self.dtype == "float64" else np.asarray(x, self.dtype).astype(np.float64)

    @property
    def ulp(self) -> float:
        """The unit in the last place of 1 in the case's precision."""
        return float(np.finfo(self.dtype).eps)

    def with_args(self, **changed: Any) -> Self:
        return replace(self, args={**self.args, **changed})


def _from_signature(id: str) -> Builder:
    arguments = registry[id].signature.arguments

    def build(draw: Draw) -> dict[str, Any]:
        return {
            argument.name: draw.mask(argument.shape.text)
            if argument.kind == "bool"
            else draw.array(argument.shape.text)
            for argument in arguments
        }

    return build


def make(
    id: str,
    seed: int,
    batch: tuple[int, ...] = (),
    *,
    sizing: Sizing = "distinct",
    sizes: Mapping[str, int] | None = None,
) -> Case:
    """Build one case of a formula. sizes: of axes that are not drawn."""
    return build(id, Draw(np.random.default_rng(seed), batch, dict(sizes or {}), sizing=sizing))


def build(id: str, draw: Draw) -> Case:
    """Build one case of a formula out of what is drawn."""
    args = varied(draw, id, builders.get(id, _from_signature(id))(draw))
    return Case(id, args, draw.rng, registry[id].function, batch=draw.batch)


@cache
def axes(id: str) -> frozenset[str]:
    """Return the letters of the axes that cases of a formula have."""
    found: set[str] = set()
    for seed in range(_SEEDS):
        draw = Draw(np.random.default_rng(seed))
        build(id, draw)
        found |= draw.sizes.keys()
    return frozenset(found)
