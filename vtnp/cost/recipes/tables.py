"""What a recipe is, and the params tables that systems share.

A table is written as the formulas' signatures write arrays, by axis letters. Those of attention,
feed-forward network and norm are read off the signatures of the formulas that take them as
arguments.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from vtnp import (  # noqa: F401  (the registry holds the formulas of the chapters imported)
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
from vtnp._registry.spec import registry

Sizes = Mapping[str, Any]
Table = dict[str, Any]
Grid = tuple[int, int, int]


@dataclass(frozen=True)
class Recipe:
    """How the arguments of one formula are made from sizes, as far as its signature does not say.

    sizes: a default for each name, or a rule that makes it from the other sizes. names: letters and
    switches beyond those of the signature. params: the table of the argument params, of shape
    strings and tuples; what is None is left out. arguments: further arguments. letters: what else
    the page's cost names, from the sizes.
    """

    sizes: Mapping[str, Any] = field(default_factory=dict)
    names: Mapping[str, Any] = field(default_factory=dict)
    params: Callable[[Sizes], Table] | None = None
    arguments: Callable[[Sizes], Table] | None = None
    letters: Callable[[Sizes], Table] | None = None


def letters(text: str, **others: Any) -> dict[str, Any]:
    """Write names of sizes, and others with their type."""
    return {**dict.fromkeys(text.split(), int), **others}


def share(z: Sizes, whole: str, parts: str) -> int:
    """Return one of so many equal parts of a size."""
    n, count = z[whole], z[parts]
    if count < 1 or n % count:
        raise FormulaError(f"{whole}: expected a multiple of {parts} = {count}, got {n}")
    return int(n // count)


def times(name: str, factor: int) -> Callable[[Sizes], int]:
    """Return the rule that makes a size a multiple of another."""
    return lambda z: factor * z[name]


def _rows(id: str, wanted: Iterable[str] | None = None) -> Callable[[Sizes], Table]:
    arguments = [a for a in registry[id].signature.arguments if wanted is None or a.name in wanted]

    def table(z: Sizes) -> Table:
        return {a.name: a.shape.text for a in arguments if not a.optional or z["biases"]}

    return table


attention = _rows("multi-head-self-attention", "W_q W_k W_v W_c b_q b_k b_v b_c".split())
feed_forward = _rows("feed-forward", "W_1 W_2 b_1 b_2".split())
norm = _rows("layer-norm", "gamma beta".split())


def attention_half(z: Sizes) -> Table:
    """The tables of self-attention-sublayer."""
    return {"norm_1": norm(z), "attention": attention(z)}


def feed_forward_half(z: Sizes) -> Table:
    """The tables of feed-forward-sublayer."""
    return {"norm_2": norm(z), "feed_forward": feed_forward(z)}


def layer(z: Sizes) -> Table:
    """The tables of pre-norm-layer."""
    return attention_half(z) | feed_forward_half(z)


def plus_bias(z: Sizes, shape: str) -> str | None:
    """A bias, where there are any."""
    return shape if z["biases"] else None


HEADS = letters("heads d_h d_v", biases=bool)
LAYER = {**HEADS, **letters("d_f")}


def _head_width(z: Sizes) -> int:
    return share(z, "d", "heads") if "d" in z and "heads" in z else 64


def _value_width(z: Sizes) -> int:
    for same in ("d_h", "d_k"):
        if same in z:
            return int(z[same])
    return _head_width(z) if "heads" in z or "d" not in z else int(z["d"])


def _places(z: Sizes) -> int:
    return math.prod(z["grid"]) if z.get("grid") else 196


# The sizes of ViT-B/16 (Dosovitskiy et al. 2021) at 224 x 224 pixels, on which all systems of the
# survey but MViT and LongNet are built, and TimeSformer's clip of 8 frames; the norms' eps and the
# biases are those of the released code.
COMMON: dict[str, Any] = {
    "d": 768, "heads": 12, "d_h": _head_width, "d_k": 64, "d_v": _value_width, "d_f": times("d", 4),
    "n": 197, "m": lambda z: z["n"], "t": 8, "s": _places, "u": lambda z: z["t"], "grid": (14, 14),
    "T": 8, "H": 224, "W": 224, "C": 3, "p": 16 * 16 * 3, "h": 14, "w": 14,
    "eps": 1e-6, "biases": True, "mask": False,
    "K_cls": False, "V_cls": lambda z: z["K_cls"], "gamma": False, "beta": lambda z: z["gamma"],
    "batch": (), "dtype": "float32",
}  # fmt: skip
