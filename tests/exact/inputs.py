"""Inputs at which errors are measured: a formula's own cases, and hard ones.

A chapter's module in this folder adds hard inputs of a formula with `@hard(id, name)`, leaves out
families with `never(id, ...)`, and sets sizes of its cases with `sizes(id, n=...)`.
"""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from tests.support.trees import leaves, replaced
from vtnp._registry.spec import registry
from vtnp.claims.cases import axes, make

# Small, since each operation on numbers of 50 digits takes a microsecond.
SMALL = {"n": 3, "m": 2, "d": 4, "heads": 2, "d_f": 3, "t": 2, "s": 3, "k": 3, "l": 2, "p": 5}
SMALL |= {"d_k": 3, "d_h": 3, "d_v": 2, "points": 2, "u": 2}

Maker = Callable[[np.random.Generator, Any], dict[str, Any]]
_hard: dict[str, dict[str, Maker]] = {}
_never: dict[str, set[str]] = {}
_sizes: dict[str, dict[str, int | None]] = {}


class Input(NamedTuple):
    """Arguments whose arrays are float64, and which inputs they are."""

    name: str
    is_hard: bool
    args: dict[str, Any]


def hard(id: str, name: str) -> Callable[[Maker], Maker]:
    """Register a function (rng, dtype) that makes hard arguments of a formula."""

    def register(make_args: Maker) -> Maker:
        _hard.setdefault(id, {})[name] = make_args
        return make_args

    return register


def never(id: str, *families: str) -> None:
    """Leave out families of numbers that a formula refuses, or that say nothing of it."""
    _never.setdefault(id, set()).update(families)


def sizes(id: str, **of_axes: int | None) -> None:
    """Set the sizes of axes in a formula's cases; None leaves a size to the case."""
    _sizes.setdefault(id, {}).update(of_axes)


def case_args(id: str, seed: int) -> dict[str, Any]:
    """Return the arguments of one of the formula's cases, small."""
    set_here = {**SMALL, **_sizes.get(id, {})}.items()
    known = {axis: size for axis, size in set_here if size is not None}
    return make(id, seed, sizes={a: known[a] for a in axes(id) & known.keys()}).args


def inputs(id: str, dtype: Any, *, seeds: int = 1) -> Iterator[Input]:
    """Yield the inputs of a formula: its own cases, families of numbers, and its hard inputs.

    Half precision has too few numbers for hard ones: most overflow or vanish when squared.
    """
    for seed in range(seeds):
        yield Input(f"case {seed}", False, case_args(id, seed))
        if dtype == "float16":
            continue
        families = [name for name in FAMILIES if name not in _never.get(id, ())]
        for name in families if arguments(id) else ():
            rng = np.random.default_rng(seed)
            yield Input(f"{name}, seed {seed}", True, in_family(id, name, rng, dtype))
        if (masked := _masked(id, seed)) is not None:
            yield Input(f"masked rows, seed {seed}", True, masked)
        for name, make_args in _hard.get(id, {}).items():
            rng = np.random.default_rng(seed)
            yield Input(f"{name}, seed {seed}", True, make_args(rng, dtype))


def arguments(id: str) -> list[str]:
    """Return the arguments that a family changes: the data, or the weights if there are none."""
    of_floats = [a for a in registry[id].signature.arguments if a.kind == "float"]
    data = [a.name for a in of_floats if a.shape.row]
    return data or [a.name for a in of_floats if a.name != "like"]


def in_family(id: str, name: str, rng: np.random.Generator, dtype: Any) -> dict[str, Any]:
    """Return a case whose data are drawn from a family of numbers."""
    args = case_args(id, int(rng.integers(16)))
    for argument in arguments(id):
        for path, x in list(leaves(args.get(argument), (argument,))):
            if x.dtype.kind == "f":
                args = replaced(args, path, FAMILIES[name](x, rng, np.finfo(dtype)))
    return args


def _large(x: np.ndarray, rng: np.random.Generator, info: Any) -> np.ndarray:
    return 20.0 * x  # scores of some hundreds, which no exponential survives without a shift


def _tiny(x: np.ndarray, rng: np.random.Generator, info: Any) -> np.ndarray:
    return x * float(info.tiny) ** 0.6  # squares underflow


def _offset(x: np.ndarray, rng: np.random.Generator, info: Any) -> np.ndarray:
    return x + float(info.eps) ** -0.4  # 1.8e6 in double, 600 in single precision


def _tied(x: np.ndarray, rng: np.random.Generator, info: Any) -> np.ndarray:
    first = x[..., :1] if x.ndim == 1 else x[..., :1, :]
    return first + float(info.eps) ** 0.7 * x  # rows that differ in their last digits


def _far_apart(x: np.ndarray, rng: np.random.Generator, info: Any) -> np.ndarray:
    shape = x.shape if x.ndim == 1 else (*x.shape[:-1], 1)
    return x * 10.0 ** rng.uniform(-4.0, 1.5, shape)  # rows of very different lengths


FAMILIES: dict[str, Callable[..., np.ndarray]] = {
    "large": _large,
    "tiny": _tiny,
    "offset": _offset,
    "nearly tied": _tied,
    "far apart": _far_apart,
}


@cache
def _seed_of_mask(id: str) -> int | None:
    """Return a seed whose case has a mask."""
    for seed in range(16):
        if any(x.dtype.kind == "b" and x.ndim for _, x in leaves(case_args(id, seed))):
            return seed
    return None


def _masked(id: str, seed: int) -> dict[str, Any] | None:
    """Return a case whose masks allow nothing in their first row, and one entry in the others."""
    with_mask = _seed_of_mask(id)
    if with_mask is None:
        return None
    rng, args = np.random.default_rng(seed), case_args(id, with_mask)
    for path, x in list(leaves(args)):
        if x.dtype.kind == "b" and x.ndim:
            mask = np.arange(x.shape[-1]) == rng.integers(x.shape[-1], size=(*x.shape[:-1], 1))
            if x.ndim > 1:
                mask[..., 0, :] = False
            args = replaced(args, path, mask)
    return args
