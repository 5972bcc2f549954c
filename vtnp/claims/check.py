"""Put a claim to a case, and write a case down as a line of Python."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from vtnp._registry.errors import UsageError
from vtnp._registry.spec import registry
from vtnp.claims._registry import Claim, claims
from vtnp.claims.cases import Case
from vtnp.claims.rounding import Comparisons, Judged, Pair, Recorded, comparisons, in_precision


def check(
    kind: Literal["law", "special"],
    id: str,
    name: str,
    arguments: Mapping[str, Any],
    *,
    function: Callable[..., Any] | None = None,
    dtype: str = "float64",
    seed: int = 0,
) -> None:
    """Check one law or special case of a page on one input.

    Parameters
    ----------
    kind, id, name : str
        Whether it is a law or a special case, the formula, and its name on the page.
    arguments : mapping
        The formula's arguments by name, arrays of float64.
    function : Callable, optional
        Another implementation; left out, vtnp's own.
    dtype : {"float64", "float32", "float16"}
        In which the function computes.
    seed : int
        Of what the claim draws besides, such as a permutation.

    Raises
    ------
    AssertionError
        If it does not hold.
    UsageError
        If there is no such claim.

    Examples
    --------
    >>> import numpy as np, vtnp.claims
    >>> vtnp.claims.check("law", "softmax", "sums-to-one", {"x": np.array([0.0, 3.0])})
    """
    if (kind, id, name) not in claims:
        raise UsageError(f"{kind} {name!r} of {id!r} not found")
    own = registry[id].function
    rng = np.random.default_rng(seed)
    case = Case(id, dict(arguments), rng, function or own, dtype=dtype, seed=seed)
    check_claim(claims[kind, id, name], case, moved=own)


def check_claim(claim: Claim, case: Case, *, moved: Callable[..., Any] | None = None) -> None:
    """Check a claim on a case, in the case's precision, as often as it is asked the same.

    moved: what shows how far rounding its inputs moves a result; left out, the case's function.
    Raises AssertionError where the claim does not hold.
    """

    def run(comparing: Comparisons, function: Callable[..., Any]) -> None:
        token = comparisons.set(comparing)
        try:
            claim.check(replace(case, function=function, rng=deepcopy(case.rng)))
        finally:
            comparisons.reset(token)

    def pairs(k: int | None) -> list[Pair]:
        recorded = Recorded()
        rng = None if k is None else np.random.default_rng(k)
        # Another statement of the claim may not hold; what it compared up to there counts.
        with suppress(AssertionError):
            run(recorded, in_precision(moved or case.function, case.dtype, rng))
        return recorded.pairs

    run(Judged(case.dtype, pairs), in_precision(case.function, case.dtype))


def statement(claim: Claim, case: Case) -> str:
    """Return a line of Python that checks a claim on a case."""
    written = f"{claim.kind!r}, {claim.id!r}, {claim.name!r}, {as_code(case.args)}"
    options = f"dtype={case.dtype!r}, seed={case.seed}"
    return f"from numpy import *; import vtnp.claims; vtnp.claims.check({written}, {options})"


def as_code(value: Any) -> str:
    """Write arguments as Python reads them, with the names of NumPy."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {as_code(x)}" for key, x in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_code, value)) + "]"
    if isinstance(value, tuple):  # of a NamedTuple the numbers alone: a formula takes both
        return "(" + "".join(f"{as_code(x)}, " for x in value) + ")"
    if isinstance(value, np.random.Generator):
        return "random.default_rng()"
    if hasattr(value, "dtype"):
        x = np.asarray(value)
        shape = f".reshape({x.shape})" if x.size == 0 else ""
        dtype = "" if x.dtype.kind in "fb" and x.size else f", {x.dtype.name!r}"
        return f"array({x.tolist()!r}{dtype}){shape}"
    return repr(value)
