"""Official numbers: values and every gradient, to 1e-10 of the largest entry."""

from pathlib import Path

import numpy as np
import pytest
from autograd import elementwise_grad

from tests import mvit_weights
from tests.compare import assert_close
from vtnp._xp import namespace
from vtnp.encoder import head_projection
from vtnp.mvit import (
    multi_head_pooling_attention,
    multiscale_block,
    pooled_grid,
    pooled_tokens,
)

FOLDER = Path(__file__).parent / "data" / "vectors"
HEADS = 2


def vector(name):
    with np.load(FOLDER / f"{name}.npz") as arrays:
        return {key: arrays[key] for key in arrays.files}


def weights_of(tree):
    return {key[4:]: value for key, value in tree.items() if key.startswith("par.")}


def pooled(tree):
    """The operator P alone: a convolution on an odd grid, the class token beside it, a norm."""
    weights, grid = weights_of(tree), (3, 5, 7)
    kernel, norm = mvit_weights.kernel(weights, "pool"), mvit_weights.norm(weights, "norm")
    y = pooled_tokens(tree["in.x"], kernel, grid=grid, stride=(2, 2, 3), **norm, cls=True)
    return y, pooled_grid(grid, size=(3, 3, 3), stride=(2, 2, 3))


def attention(tree):
    return multi_head_pooling_attention(
        tree["in.x"],
        mvit_weights.attention(weights_of(tree), "", HEADS),
        grid=(2, 4, 4),
        stride_q=(1, 2, 2),
        stride_kv=(1, 2, 2),
        cls=True,
    )


def block(tree):
    """A block that shrinks an odd grid along all three axes, and widens its tokens."""
    return multiscale_block(
        tree["in.x"],
        mvit_weights.block(weights_of(tree), "", HEADS),
        grid=(3, 5, 5),
        stride_q=(2, 2, 2),
        stride_kv=(1, 4, 4),
        cls=True,
    )


VECTORS = {
    "mvit_pool_conv_cls_odd": pooled,
    "mvit_attention_conv_cls": attention,
    "mvit_block_qpool_odd_widen": block,
}


@pytest.mark.parametrize("name", VECTORS)
def test_values(name):
    tree = vector(name)
    y, grid = VECTORS[name](tree)
    assert [key for key in tree if key.startswith("out.")] == ["out.y"]
    assert_close(y, tree["out.y"], within=1e-10, what=name)
    assert list(grid) == tree["aux.out_thw"].tolist()


@pytest.mark.parametrize("name", VECTORS)
def test_gradients(name):
    tree = vector(name)
    wanted = [key for key in tree if key.startswith(("gin.", "gpar."))]
    assert wanted
    for gradient in wanted:
        key = gradient[1:]

        def loss(x, key=key):
            y, _ = VECTORS[name]({**tree, key: x})
            return namespace(y).sum(y * tree["cot.y"])

        actual = elementwise_grad(loss)(tree[key])
        assert_close(actual, tree[gradient], within=1e-10, what=f"{name} {gradient}")


@pytest.mark.parametrize("letter", ["q", "k", "v"])
def test_pooled_queries_keys_and_values(letter):
    tree = vector("mvit_attention_conv_cls")
    params = mvit_weights.attention(weights_of(tree), "", HEADS)
    y = head_projection(tree["in.x"], params[f"W_{letter}"], bias=params[f"b_{letter}"])
    y = pooled_tokens(
        y,
        params[f"kernel_{letter}"],
        grid=(2, 4, 4),
        stride=(1, 2, 2),
        **params[f"norm_{letter}"],
        cls=True,
    )
    assert_close(y, tree[f"aux.{letter}_pooled"], within=1e-10)
