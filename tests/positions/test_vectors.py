"""Positions against vectors from independent implementations, values and gradients."""

import numpy as np

import vtnp
from tests.support.compare import assert_close
from tests.support.vectors import WITHIN, assert_gradients, assert_results, load, named
from vtnp._array.xp import namespace


def test_sinusoidal_positions():
    """The Annotated Transformer's table, added to its input."""
    v = load("pe_sinusoidal")
    n, d = v["aux.table"].shape
    assert_close(vtnp.positions.sinusoidal_positions(n, d), v["aux.table"], within=WITHIN)
    tokens = v["in.x"].shape[-2]
    e = vtnp.positions.sinusoidal_positions(tokens, d)[None]

    def added(v):
        return {"out.y": vtnp.positions.learned_positions(v["in.x"][:, None], e)[:, 0]}

    assert_results(added, v)
    assert_gradients(added, v)


def test_sinusoidal_positions_in_two_and_three_dimensions():
    """SlowFast's tables; a zero row in front for the class token is the model's."""
    v = load("pe_sincos_2d_3d")
    plane = vtnp.positions.sinusoidal_positions_2d(3, 3, 16).reshape(9, 16)
    assert_close(plane, v["out.table_2d"], within=WITHIN)
    with_cls = np.concatenate([np.zeros((1, 16)), plane])
    assert_close(with_cls, v["out.table_2d_cls"], within=WITHIN)
    volume = vtnp.positions.sinusoidal_positions_3d(4, 3, 3, 32, split="quarter")
    assert_close(volume.reshape(36, 32), v["out.table_3d"], within=WITHIN)


def test_relative_attention():
    """Three heads that share their tables, with projections in front and behind."""
    heads = 3

    def layer(v):
        x, par = v["in.x"], named(v, "par")
        d, d_h = x.shape[-1], par["a_K"].shape[-1]
        Q, K, V = (
            vtnp.encoder.qkv_projection(x, namespace(W).moveaxis(W.reshape((d, heads, d_h)), 1, 0))
            for W in (par["W_Q"], par["W_K"], par["W_V"])
        )
        y = vtnp.positions.relative_attention(Q, K, V, par["a_K"], par["a_V"])
        return {"out.y": vtnp.encoder.output_projection(y, par["W_O"].reshape((heads, d_h, d)))}

    v = load("shaw_multi_head")
    assert_results(layer, v)
    assert_gradients(layer, v)
