"""Positions against vectors from independent implementations, values and gradients."""

from pathlib import Path

import numpy as np
from autograd import make_vjp

import vtnp
from tests.compare import assert_close

VECTORS = Path(__file__).parent / "data" / "vectors"
WITHIN = 1e-10


def vectors(name):
    with np.load(VECTORS / f"{name}.npz") as arrays:
        return dict(arrays)


def test_sinusoidal_positions():
    """The Annotated Transformer's table, added to its input."""
    v = vectors("pe_sinusoidal")
    n, d = v["aux.table"].shape
    assert_close(vtnp.sinusoidal_positions(n, d), v["aux.table"], within=WITHIN)
    tokens = v["in.x"].shape[-2]
    e = vtnp.sinusoidal_positions(tokens, d)[None]
    pull, y = make_vjp(lambda x: vtnp.learned_positions(x[:, None], e)[:, 0])(v["in.x"])
    assert_close(y, v["out.y"], within=WITHIN)
    assert_close(pull(v["cot.y"]), v["gin.x"], within=WITHIN)


def test_sinusoidal_positions_in_two_and_three_dimensions():
    """SlowFast's tables; a zero row in front for the class token is the model's."""
    v = vectors("pe_sincos_2d_3d")
    plane = vtnp.sinusoidal_positions_2d(3, 3, 16).reshape(9, 16)
    assert_close(plane, v["out.table_2d"], within=WITHIN)
    with_cls = np.concatenate([np.zeros((1, 16)), plane])
    assert_close(with_cls, v["out.table_2d_cls"], within=WITHIN)
    volume = vtnp.sinusoidal_positions_3d(4, 3, 3, 32, split="quarter")
    assert_close(volume.reshape(36, 32), v["out.table_3d"], within=WITHIN)


def test_relative_attention():
    """Three heads that share their tables, with projections in front and behind."""
    v = vectors("shaw_multi_head")
    heads = 3
    d, d_h = v["in.x"].shape[-1], v["par.a_K"].shape[-1]
    names = ["in.x", "par.W_Q", "par.W_K", "par.W_V", "par.W_O", "par.a_K", "par.a_V"]

    def layer(x, W_q, W_k, W_v, W_o, w_K, w_V):
        Q, K, V = (
            vtnp.head_projection(x, W.reshape(d, heads, d_h).swapaxes(0, 1))
            for W in (W_q, W_k, W_v)
        )
        y = vtnp.relative_attention(Q, K, V, w_K, w_V)
        return vtnp.head_merge(y, W_o.reshape(heads, d_h, d))

    inputs = [v[name] for name in names]
    assert_close(layer(*inputs), v["out.y"], within=WITHIN)
    for i, name in enumerate(names):
        pull, _ = make_vjp(layer, i)(*inputs)
        assert_close(pull(v["cot.y"]), v[f"g{name}"], within=WITHIN, what=name)
