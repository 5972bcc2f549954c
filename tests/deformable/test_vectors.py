"""Independent numbers: torch's grid_sample with corners aligned, in float64, one head.

No official code is public. Locations are (x, y) in token cells, and outside the grid is 0.
"""

from tests.support.compare import assert_close
from tests.support.vectors import WITHIN, assert_gradients, assert_results, load, named
from vtnp.deformable import (
    deformable_attention,
    deformable_logits,
    deformable_weights,
    reference_points,
    sampling_locations,
    sampling_offsets,
)

VECTORS = load("dvt_single_head_zeros")
H, W, POINTS = 4, 5, 4


def attention(vectors):
    z, m, par = vectors["in.z"], vectors["in.m"], named(vectors, "par")
    W_delta = par["W_delta"].reshape((-1, POINTS, 2))
    q, v = z @ par["W_q"], z @ par["W_v"]
    grid = z.shape[-3], H, W
    return {"out.y": deformable_attention(z, q, m, v, par["W_alpha"], W_delta, grid=grid)}


def test_values():
    assert_results(attention, VECTORS)


def test_weights_and_locations():
    par, aux = named(VECTORS, "par"), named(VECTORS, "aux")
    q, m = VECTORS["in.z"] @ par["W_q"], VECTORS["in.m"]
    alpha = deformable_weights(deformable_logits(q, m, par["W_alpha"]))
    assert_close(alpha, aux["alpha"][:, :, :, 0], within=WITHIN)
    W_delta = par["W_delta"].reshape((-1, POINTS, 2))
    locations = sampling_locations(reference_points(H, W, like=q), sampling_offsets(q, m, W_delta))
    assert_close(locations, aux["pos"][:, :, :, :, 0], within=WITHIN)


def test_gradients():
    assert_gradients(attention, VECTORS)
