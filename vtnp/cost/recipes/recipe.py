"""What a recipe is, and the default sizes that all formulas share."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

# The registry holds the formulas of the chapters that have been imported; recipes are of all.
from vtnp import (  # noqa: F401
    deformable,
    encoder,
    longnet,
    motionformer,
    mvit,
    nystromformer,
    positions,
    timesformer,
    tokens,
    vivit,
)
from vtnp._registry.errors import FormulaError
from vtnp.tokens import Grid

Sizes = Mapping[str, Any]
Rule = Callable[[Sizes], Any]


@dataclass(frozen=True)
class Recipe:
    """How sizes make the arguments of one formula, as far as its signature does not say.

    Attributes
    ----------
    sizes : Mapping[str, Any]
        For a name its default, or a rule that makes it from the other sizes.
    names : Mapping[str, Any]
        Names beyond the axes and options of the signature, each with its type.
    params : Mapping[str, Rule]
        For entries of params, by paths such as "attention.kernel_q", a rule in place of the
        signature's: it returns None or False to leave the entry out, True for the signature's
        shape, a tuple for another shape, and the length for a list. Without one, an optional array
        or table is there if the size of its name is true (for biases, the size `biases`), and a
        list has the length of its name.
    arguments : Rule, optional
        Further arguments by name. Lists of shapes become lists of arrays.
    letters : Rule, optional
        What else the closed form on the page names.
    """

    sizes: Mapping[str, Any] = field(default_factory=dict)
    names: Mapping[str, Any] = field(default_factory=dict)
    params: Mapping[str, Rule] = field(default_factory=dict)
    arguments: Callable[[Sizes], Mapping[str, Any]] | None = None
    letters: Callable[[Sizes], Mapping[str, Any]] | None = None


def equal_part(z: Sizes, name: str, count_name: str) -> int:
    """Return a size divided by another; raise FormulaError where a remainder is left."""
    n, count = z[name], z[count_name]
    if count < 1 or n % count:
        raise FormulaError(f"{name}: expected a multiple of {count_name} = {count}, got {n}")
    return int(n // count)


def multiple(name: str, factor: int) -> Rule:
    """Return the rule that makes a size a multiple of another."""
    return lambda z: factor * z[name]


def _head_width(z: Sizes) -> int:
    return equal_part(z, "d", "heads") if "d" in z and "heads" in z else 64


def _value_width(z: Sizes) -> int:
    for same in ("d_h", "d_k"):
        if same in z:
            return int(z[same])
    return _head_width(z) if "heads" in z or "d" not in z else int(z["d"])


def _spatial_positions(z: Sizes) -> int:
    return math.prod(z["grid"][-2:]) if z.get("grid") else 196


# The sizes of ViT-B/16 (Dosovitskiy et al. 2021) at 224 x 224 pixels, on which all systems of the
# survey but MViT and LongNet are built, and TimeSformer's clip of 8 frames; the norms' eps and the
# biases are those of the released code.
COMMON: dict[str, Any] = {
    "d": 768, "heads": 12, "d_h": _head_width, "d_k": 64, "d_v": _value_width,
    "d_f": multiple("d", 4), "n": 197, "m": lambda z: z["n"], "t": 8, "s": _spatial_positions,
    "u": lambda z: z["t"], "grid": lambda z: Grid(z["t"], 14, 14),
    "T": 8, "H": 224, "W": 224, "C": 3, "p": 16 * 16 * 3, "h": 14, "w": 14,
    "eps": 1e-6, "biases": True, "mask": False,
    "K_cls": False, "V_cls": lambda z: z["K_cls"], "gamma": False, "beta": lambda z: z["gamma"],
    "batch": (), "dtype": "float32",
}  # fmt: skip
