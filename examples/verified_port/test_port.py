"""The port gives what the papers say: vtnp's formulas are the reference."""

from collections.abc import Callable
from typing import Any

import port
import pytest

LAYOUT = "Q=b h (t s) d; K=b h (t s) d; V=b h (t s) d_v; result=b h (t s) t' d_v"


@pytest.mark.vtnp("eq2", layout=LAYOUT)
def test_trajectory_tokens() -> Callable[..., Any]:
    return port.trajectory_tokens


def test_weights(vtnp_check: Callable[..., None]) -> None:
    vtnp_check(port.weights, "attention-weights", dtypes=("float64", "float32"))
