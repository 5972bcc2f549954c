"""Independent numbers: torch's grid_sample with corners aligned, in float64, one head.

No official code is public. Positions are token cells, (x, y), and what is outside reads 0.
"""

from pathlib import Path

import numpy as np
from autograd import value_and_grad

from tests.compare import assert_close
from vtnp._xp import namespace
from vtnp.deformable import (
    deformable_attention,
    deformable_logits,
    deformable_weights,
    sampling_offsets,
    sampling_positions,
    token_places,
)

FILE = Path(__file__).parent / "data" / "vectors" / "dvt_single_head_zeros.npz"
GRID, POINTS = (4, 5), 4


def loaded(key: str) -> dict[str, np.ndarray]:
    """Return the arrays whose names begin with key, the rest of the name as the key."""
    with np.load(FILE) as arrays:
        return {k.removeprefix(key): arrays[k] for k in arrays.files if k.startswith(key)}


def attention(tree):
    z, m, par = tree["in"]["z"], tree["in"]["m"], tree["par"]
    W_delta = par["W_delta"].reshape((-1, POINTS, 2))
    q, v = z @ par["W_q"], z @ par["W_v"]
    return deformable_attention(z, q, m, v, par["W_alpha"], W_delta, grid=GRID)


def inputs():
    return {"in": loaded("in."), "par": loaded("par.")}


def test_values():
    assert_close(attention(inputs()), loaded("out.")["y"], within=1e-10)


def test_weights_and_positions():
    tree, aux = inputs(), loaded("aux.")
    q, m = tree["in"]["z"] @ tree["par"]["W_q"], tree["in"]["m"]
    alpha = deformable_weights(deformable_logits(q, m, tree["par"]["W_alpha"]))
    assert_close(alpha, aux["alpha"][:, :, :, 0], within=1e-10)
    W_delta = tree["par"]["W_delta"].reshape((-1, POINTS, 2))
    positions = sampling_positions(token_places(*GRID, like=q), sampling_offsets(q, m, W_delta))
    assert_close(positions, aux["pos"][:, :, :, :, 0], within=1e-10)


def test_gradients():
    cotangent = loaded("cot.")["y"]
    _, gradient = value_and_grad(
        lambda tree: namespace(tree["in"]["z"]).sum(attention(tree) * cotangent)
    )(inputs())
    for key in ("in", "par"):
        expected = loaded(f"g{key}.")
        assert expected.keys() == gradient[key].keys()
        for part, value in expected.items():
            assert_close(gradient[key][part], value, within=1e-10, what=part)
