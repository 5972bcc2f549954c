"""Official numbers: values and all gradients, to 1e-10 of the largest entry."""

import numpy as np
import pytest

from tests.support.compare import assert_close
from tests.support.vectors import WITHIN, assert_gradients, assert_results, load
from vtnp._array.xp import namespace
from vtnp.encoder import attention_weights, output_projection, qkv_projection
from vtnp.nystromformer import (
    iterative_pinv,
    nystrom_attention,
    segment_means,
    sequence_convolution,
)


def exact(tree):
    """Eq. (14) with the exact pseudo-inverse; with V = I the result is S^ itself."""
    Q, K, V = tree["in.Q"], tree["in.K"], tree["in.V"]
    eye = np.broadcast_to(np.eye(Q.shape[-2]), (*Q.shape[:-1], Q.shape[-2]))
    y, S_hat = (nystrom_attention(Q, K, values, landmarks=4) for values in (V, eye))
    return {"out.y": y, "out.S_hat": S_hat}


def released(tree):
    """The released layer: six steps from one start value for the batch, plus the convolution."""
    mask = tree["const.mask"].astype(bool)[:, None, :]
    Q, K, V = tree["in.Q"], tree["in.K"], tree["in.V"]
    y = nystrom_attention(Q, K, V, landmarks=4, mask=mask, pinv="iterative", start="original")
    V = namespace(V).where(mask[..., None], V, 0.0)
    return {"out.y": y + sequence_convolution(V, tree["par.conv.weight"][:, 0, :, 0])}


def uneven(tree):
    """The layer of T2T-ViT: 13 tokens, 4 landmarks; the scale is that of the input's width."""
    x, d, width = tree["in.x"], tree["in.x"].shape[-1], tree["par.proj.weight"].shape[0]
    rows = tree["par.qkv.weight"].reshape((3, width, d))
    bias = tree["par.qkv.bias"].reshape((3, 1, width))
    xp = namespace(rows)
    Q, K, V = (
        qkv_projection(x, xp.matrix_transpose(rows[i])[None], bias=bias[i]) for i in range(3)
    )
    y = nystrom_attention(Q, K, V, landmarks=4, scale=d**-0.5, pinv="iterative", start="exact")
    y = y + sequence_convolution(V, tree["par.conv.weight"][:, 0, :, 0])
    W_c = namespace(tree["par.proj.weight"]).matrix_transpose(tree["par.proj.weight"])[None]
    # The peculiarity of T2T-ViT: the values themselves are the residual.
    return {"out.y": output_projection(y, W_c, bias=tree["par.proj.bias"]) + V[..., 0, :, :]}


VECTORS = {
    "nystrom_eq14_segment_means": exact,
    "nystrom_official_conv_original": released,
    "nystrom_t2t_uneven_exactinit": uneven,
}


each_vector = pytest.mark.parametrize("name", VECTORS)


@each_vector
def test_values(name):
    assert_results(VECTORS[name], load(name))


@each_vector
def test_gradients(name):
    assert_gradients(VECTORS[name], load(name))


def test_intermediate_results():
    tree = load("nystrom_official_conv_original")
    A = attention_weights(segment_means(tree["in.Q"], 4), segment_means(tree["in.K"], 4))
    assert_close(A, tree["aux.A"], within=WITHIN)
    assert_close(iterative_pinv(A, start="original"), tree["aux.Z"], within=WITHIN)
    plain = load("nystrom_eq14_segment_means")
    assert_close(attention_weights(plain["in.Q"], plain["in.K"]), plain["aux.S"], within=WITHIN)
