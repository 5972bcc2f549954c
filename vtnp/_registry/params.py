"""Params: which keys a formula's tables need, may have, and do not know."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from vtnp._array.xp import unboxed
from vtnp._registry.errors import require


class Keys(NamedTuple):
    """The keys of one table; those of the tables in it; whether others may be there."""

    needed: tuple[str, ...]
    known: frozenset[str]
    tables: Mapping[str, "Keys"]
    others: bool


def keys(arrays: str = "", /, **tables: Keys) -> Keys:
    """Write keys as docstrings do: "W b?" for arrays W and b, of which b may be left out.

    Tables within the table are named; "fc?" among the arrays says that the table fc may be left
    out, and "..." that the table may hold other keys.
    """
    words = arrays.split()
    optional = frozenset(word[:-1] for word in words if word.endswith("?"))
    named = [word for word in words if not word.endswith("?") and word != "..."]
    needed = (*named, *(name for name in tables if name not in optional))
    return Keys(needed, optional.union(needed), tables, "..." in words)


def check_params(params: Any, meant: Keys, formula: str, place: str = "params") -> None:
    """Raise FormulaError for a table that lacks a key, or has one that nobody would look at."""
    table = unboxed(params)
    # Not only Mapping: torch's ParameterDict is none.
    require(hasattr(table, "keys"), formula, place, "a mapping", params)
    for name in meant.needed:
        if name not in table:
            require(False, formula, place, f"a key {name!r}", list(table))
    if not (meant.others or meant.known.issuperset(table)):
        unknown = [name for name in table if name not in meant.known]
        require(False, formula, place, f"no keys but {sorted(meant.known)}", unknown)
    for name, inner in meant.tables.items():
        if name in table:
            check_params(table[name], inner, formula, f"{place}[{name!r}]")


NORM = keys("gamma beta")
ATTENTION = keys("W_q W_k W_v W_c b_q? b_k? b_v? b_c?")
FEED_FORWARD = keys("W_1 W_2 b_1? b_2?")
LAYER = keys(attention=ATTENTION, norm_1=NORM, feed_forward=FEED_FORWARD, norm_2=NORM)
