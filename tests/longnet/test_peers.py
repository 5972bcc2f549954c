"""Dilated attention against torch and against the one package that offers it.

The official package, torchscale, has no dilated attention in its last release on PyPI, 0.3.0; the
numbers of its repository are in test_vectors.py. dilated-attention-pytorch 0.2.0 is unofficial and
differs by design: each branch has heads of its own, its output is divided by its sum over the
sequence, and nothing is mixed. Our branches, combined in this way, give its values and gradients,
so that the branches agree and the mixture does not. The package requires old releases of torch and
xformers and is therefore not among the extras of vtnp; its tests need
`pip install --no-deps dilated-attention-pytorch einops`. Here the attention of torch replaces the
kernel of xformers.
"""

import sys
from importlib.util import find_spec
from types import ModuleType

import numpy as np
import pytest

from tests.oracles.longnet import selected
from tests.support.compare import difference
from tests.support.peers import installed, needs
from tests.support.torch_sides import assert_same_side, autograd_side, torch_side
from vtnp._array.xp import namespace
from vtnp.longnet import dilated_attention, dilated_branch

torch = installed("torch")
pytestmark = needs(torch, "vtnp[peers]")

HEADS, N, D = 4, 24, 3
BRANCHES = [(6, 1), (24, 3)]
RAGGED = [(5, 1), (7, 3), (40, 4)]


def drawn(seed=0):
    Q, K, V, cotangent = np.random.default_rng(seed).standard_normal((4, 2, HEADS, N, D))
    return {"Q": Q, "K": K, "V": V}, cotangent


# --- torch ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("offsets", ["paper", "torchscale"])
@pytest.mark.parametrize("branches", [BRANCHES, RAGGED], ids=["whole", "ragged"])
def test_torch_attention_over_the_multiset(branches, offsets, causal):
    """The attention of torch with log m added to its scores, where m counts the keys."""
    m = np.zeros((HEADS, N, N))
    for branch in branches:
        for h in range(HEADS):
            for rows in selected(h, HEADS, N, branch, offsets):
                tokens = [token for token in rows if token is not None]
                m[h][np.ix_(tokens, tokens)] += 1
    bias = torch.log(torch.tensor(np.tril(m) if causal else m))
    attend = torch.nn.functional.scaled_dot_product_attention
    inputs, cotangent = drawn()
    theirs = torch_side(lambda x: attend(*x.values(), attn_mask=bias), inputs, cotangent)

    def ours(x):
        return dilated_attention(**x, branches=branches, offsets=offsets, causal=causal)

    assert_same_side(autograd_side(ours, inputs, cotangent), theirs)
    assert_same_side(torch_side(ours, inputs, cotangent), theirs)


# --- dilated-attention-pytorch --------------------------------------------------------------------


def kernel(query, key, value, op=None, attn_bias=None):
    """Compute by torch what xformers does; its heads come after the tokens."""
    q, k, v = (x.transpose(1, 2) for x in (query, key, value))
    attend = torch.nn.functional.scaled_dot_product_attention
    return attend(q, k, v, is_causal=attn_bias is not None).transpose(1, 2)


@pytest.fixture
def their_module(monkeypatch):
    """Return the class of the package, imported with its kernel replaced."""
    ops = ModuleType("xformers.ops")
    ops.AttentionOp, ops.LowerTriangularMask = object, object
    ops.memory_efficient_attention = kernel
    root = ModuleType("xformers")
    root.ops = ops
    monkeypatch.setitem(sys.modules, "xformers", root)
    monkeypatch.setitem(sys.modules, "xformers.ops", ops)
    return installed("dilated_attention_pytorch.dilated_attention").DilatedAttention


def with_offset(Q, K, V, offset, *, branch, causal):
    """Return the output of a branch in which every head has the same offset."""

    def repeated(x):
        x = namespace(x).expand_dims(x, axis=-3)
        return namespace(x).broadcast_to(x, (*x.shape[:-3], branch[1], *x.shape[-2:]))

    y, _ = dilated_branch(*map(repeated, (Q, K, V)), branch=branch, causal=causal)
    return y[..., offset, :, :]


def as_the_package_does(Q, K, V, *, branches, causal):
    """Give each branch heads of its own, divide by the sum over the sequence, mix nothing."""
    share, parts = HEADS // len(branches), []
    for i, branch in enumerate(branches):
        heads = [x[..., i * share : (i + 1) * share, :, :] for x in (Q, K, V)]
        y = with_offset(*heads, i % branch[1], branch=branch, causal=causal)
        parts.append(y / namespace(y).sum(y, axis=-2, keepdims=True) / len(branches))
    return namespace(*parts).concat(parts, axis=-3)


# Importing it to see whether it is installed would import xformers.
@needs(find_spec("dilated_attention_pytorch"), "dilated-attention-pytorch")
@needs(installed("einops"), "einops")
@pytest.mark.parametrize("causal", [False, True])
def test_dilated_attention_pytorch_has_our_branches(their_module, causal):
    module = their_module(*map(list, zip(*BRANCHES, strict=True)))

    def theirs(x):
        return module(*(a.transpose(1, 2) for a in x.values()), is_causal=causal).transpose(1, 2)

    def ours(x):
        return as_the_package_does(**x, branches=BRANCHES, causal=causal)

    inputs, cotangent = drawn(1)
    expected = torch_side(theirs, inputs, cotangent)
    assert_same_side(autograd_side(ours, inputs, cotangent), expected)

    def mixed(x):
        return dilated_attention(**x, branches=BRANCHES, causal=causal)

    value, gradients = autograd_side(mixed, inputs, cotangent)
    assert difference(expected[0], value) > 0.1
    assert all(difference(gradients[name], g) > 0.1 for name, g in expected[1].items())
