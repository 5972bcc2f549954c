"""Deformable attention where the rounding of its sums matters: q + m and p(s) + Delta.

The sum of a query and a motion, eq. (6) and (9), and that of a coordinate and an offset, eq. (8),
are rounded. The first changes the weights of the frames by eps/2 of the scores, although what these
have in common cancels in the softmax; the second changes a sample by eps/2 of its coordinates,
although its offset is far more precise. In units of what rounding the inputs does this is a large
error for long queries, on wide grids, and between values of very different magnitudes. Where the
derivation rounds both sums as it rounds its inputs, it is none.
"""

from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from tests.exact import deformable
from tests.exact.error import Worst, derivation, in_dtype, worst
from tests.exact.inputs import in_family
from vtnp._registry.spec import registry
from vtnp.claims.cases import make

IDS = ["deformable-attention", "deformable-self-attention"]
FACTORS = 997  # of the sums, repeated
BOUND = 4


def far_apart(id: str, dtype: Any, seed: int) -> dict[str, Any]:
    return in_family(id, "far apart", np.random.default_rng(seed), dtype)


def row(id: str, width: int, seed: int) -> dict[str, Any]:
    """Return a case whose frames are rows of so many positions."""
    sizes = {"h": 1, "w": width, "s": width, "d": 2, "d_v": 2, "heads": 1, "points": 2}
    return make(id, seed, sizes=sizes).args


def with_rounded_sums(derived: Any) -> Any:
    """Return a derivation that multiplies both sums by factors, which are 1 until rounded."""
    logits_of, offsets_of = deformable.deformable_logits, deformable.sampling_offsets
    locations_of = deformable.sampling_locations

    def function(factors: Any, **args: Any) -> Any:
        def rounded(x: Any) -> Any:
            return x * np.resize(factors, x.shape)

        def logits(q: Any, m: Any, W_alpha: Any, **bias: Any) -> Any:
            return logits_of(0 * q, rounded(q[..., None, :] + m), W_alpha, **bias)

        def offsets(q: Any, m: Any, W_delta: Any, **bias: Any) -> Any:
            return offsets_of(0 * q, rounded(q[..., None, :] + m), W_delta, **bias)

        def locations(p: Any, offsets: Any) -> Any:
            return rounded(locations_of(p, offsets))

        with patch.multiple(
            deformable,
            deformable_logits=logits,
            sampling_offsets=offsets,
            sampling_locations=locations,
        ):
            return derived(**args)

    return function


def error(id: str, args: dict[str, Any], dtype: Any) -> Worst:
    """Return the error where the rounding of the sums counts."""

    def function(factors: Any, **args: Any) -> Any:
        return registry[id].function(**args)

    args = in_dtype({**args, "factors": np.ones(FACTORS)}, dtype)
    return worst(function, with_rounded_sums(derivation(id)), args)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("id", IDS)
def test_the_error_is_that_of_two_sums(id, dtype):
    for args in (far_apart(id, dtype, seed=0), row(id, 12, seed=0)):
        found = error(id, args, dtype)
        assert found.error <= BOUND, str(found)


@pytest.mark.deep
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("id", IDS)
def test_the_error_is_that_of_two_sums_at_more_inputs(id, dtype):
    cases = [far_apart(id, dtype, seed) for seed in range(20)] + [row(id, 60, seed=0)]
    for args in cases:
        found = error(id, args, dtype)
        assert found.error <= BOUND, str(found)
