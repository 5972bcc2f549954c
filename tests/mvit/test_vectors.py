"""Official numbers: values and every gradient, to 1e-10 of the largest entry."""

import pytest

from tests.support.compare import assert_close
from tests.support.layouts import params_of_block, prefixed
from tests.support.vectors import WITHIN, assert_gradients, assert_results, load, named
from vtnp.encoder import qkv_projection
from vtnp.models.mvit import Block
from vtnp.mvit import (
    Pooling,
    multi_head_pooling_attention,
    multiscale_block,
    pooled_grid,
    pooled_tokens,
)

CUBE = (3, 3, 3)
ATTENTION = Block(8, 8, 2, Pooling((1, 2, 2), CUBE), Pooling((1, 2, 2), CUBE))
WIDENING = Block(8, 12, 2, Pooling((2, 2, 2), CUBE), Pooling((1, 4, 4), CUBE))


def attention_params(tree):
    weights = prefixed("attn.", named(tree, "par"))
    return params_of_block(ATTENTION, "official", weights, "attention")["attention"]


def pooled(tree):
    """The operator P alone: a convolution on an odd grid, a class token, and a norm."""
    grid, weights = (3, 5, 7), named(tree, "par")
    weights = {name.replace(".", "_q.", 1): x for name, x in weights.items()}
    params = params_of_block(
        Block(5, 5, 1, Pooling((2, 2, 3), CUBE), Pooling()),
        "official",
        prefixed("attn.", weights),
        "attention.kernel_q",
        "attention.norm_q",
    )["attention"]
    kernel, norm = params["kernel_q"], params["norm_q"]
    pooling = Pooling((2, 2, 3))
    y = pooled_tokens(tree["in.x"], kernel, grid=grid, pooling=pooling, **norm, has_cls=True)
    return y, pooled_grid(grid, pooling=pooling._replace(size=CUBE))


def attention(tree):
    return multi_head_pooling_attention(
        tree["in.x"],
        attention_params(tree),
        grid=(2, 4, 4),
        pool_q=Pooling((1, 2, 2)),
        pool_kv=Pooling((1, 2, 2)),
        has_cls=True,
    )


def block(tree):
    """A block that pools an odd grid along all three axes, and widens its tokens."""
    return multiscale_block(
        tree["in.x"],
        params_of_block(WIDENING, "official", named(tree, "par")),
        grid=(3, 5, 5),
        pool_q=Pooling((2, 2, 2)),
        pool_kv=Pooling((1, 4, 4)),
        has_cls=True,
    )


VECTORS = {
    "mvit_pool_conv_cls_odd": pooled,
    "mvit_attention_conv_cls": attention,
    "mvit_block_qpool_odd_widen": block,
}


each_vector = pytest.mark.parametrize("name", VECTORS)


def tokens_of(name):
    return lambda tree: {"out.y": VECTORS[name](tree)[0]}


@each_vector
def test_values(name):
    assert_results(tokens_of(name), load(name))


@each_vector
def test_grids(name):
    tree = load(name)
    assert list(VECTORS[name](tree)[1]) == tree["aux.out_thw"].tolist()


@each_vector
def test_gradients(name):
    assert_gradients(tokens_of(name), load(name))


@pytest.mark.parametrize("letter", ["q", "k", "v"])
def test_pooled_queries_keys_and_values(letter):
    tree = load("mvit_attention_conv_cls")
    params = attention_params(tree)
    y = qkv_projection(tree["in.x"], params[f"W_{letter}"], bias=params[f"b_{letter}"])
    y = pooled_tokens(
        y,
        params[f"kernel_{letter}"],
        grid=(2, 4, 4),
        pooling=Pooling((1, 2, 2)),
        **params[f"norm_{letter}"],
        has_cls=True,
    )
    assert_close(y, tree[f"aux.{letter}_pooled"], within=WITHIN)
