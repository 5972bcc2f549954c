"""Dilated attention against torch and against the one package that offers it.

The official package, torchscale, has no dilated attention in its last release on PyPI, 0.3.0; the
numbers of its repository are in test_vectors_longnet.py. dilated-attention-pytorch 0.2.0 is
unofficial and differs by design: heads are dealt out to the branches, each branch's output is
divided by its sum over the sequence, and nothing is mixed. Put together from our branches in that
way, its values and gradients come out the same; so the branches agree and the mixture does not.
It asks for releases of torch and xformers that are long gone, hence is no extra of vtnp:
`pip install --no-deps dilated-attention-pytorch einops` runs its tests. xformers' kernel is
replaced by torch's own attention.
"""

import sys
from importlib.util import find_spec
from types import ModuleType

import numpy as np
import pytest

from tests.oracles.longnet import kept_of
from tests.support.compare import difference
from tests.support.peers import installed, needs
from tests.support.torch_sides import assert_same_side, autograd_side, torch_side
from vtnp._array.xp import namespace
from vtnp.longnet import dilated_attention, dilated_branch

torch = installed("torch")
pytestmark = needs(torch, "vtnp[peers]")

HEADS, N, D = 4, 24, 3
BRANCHES = {"segments": [6, 24], "dilations": [1, 3]}
RAGGED = {"segments": [5, 7, 40], "dilations": [1, 3, 4]}


def drawn(seed=0):
    Q, K, V, cotangent = np.random.default_rng(seed).standard_normal((4, 2, HEADS, N, D))
    return {"Q": Q, "K": K, "V": V}, cotangent


# --- torch ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("offsets", ["paper", "torchscale"])
@pytest.mark.parametrize("branches", [BRANCHES, RAGGED], ids=["whole", "ragged"])
def test_torch_attention_over_the_multiset(branches, offsets, causal):
    """torch's attention with log m added to its scores, m how often a key occurs."""
    m = np.zeros((HEADS, N, N))
    for w, r in zip(*branches.values(), strict=True):
        for h in range(HEADS):
            for row in kept_of(h, HEADS, N, w, r, offsets):
                tokens = [token for token in row if token is not None]
                m[h][np.ix_(tokens, tokens)] += 1
    bias = torch.log(torch.tensor(np.tril(m) if causal else m))
    attend = torch.nn.functional.scaled_dot_product_attention
    inputs, cotangent = drawn()
    theirs = torch_side(lambda x: attend(*x.values(), attn_mask=bias), inputs, cotangent)

    def ours(x):
        return dilated_attention(**x, **branches, offsets=offsets, causal=causal)

    assert_same_side(autograd_side(ours, inputs, cotangent), theirs)
    assert_same_side(torch_side(ours, inputs, cotangent), theirs)


# --- dilated-attention-pytorch --------------------------------------------------------------------


def kernel(query, key, value, op=None, attn_bias=None):
    """What xformers computes, by torch; heads stand behind the tokens there."""
    q, k, v = (x.transpose(1, 2) for x in (query, key, value))
    attend = torch.nn.functional.scaled_dot_product_attention
    return attend(q, k, v, is_causal=attn_bias is not None).transpose(1, 2)


@pytest.fixture
def their_module(monkeypatch):
    """Return the package's class, imported with its kernel replaced."""
    ops = ModuleType("xformers.ops")
    ops.AttentionOp, ops.LowerTriangularMask = object, object
    ops.memory_efficient_attention = kernel
    root = ModuleType("xformers")
    root.ops = ops
    monkeypatch.setitem(sys.modules, "xformers", root)
    monkeypatch.setitem(sys.modules, "xformers.ops", ops)
    return installed("dilated_attention_pytorch.dilated_attention").DilatedAttention


def with_offset(Q, K, V, offset, *, segment, dilation, causal):
    """A branch in which every head has the same offset: head number `offset` of `dilation`."""

    def repeated(x):
        x = namespace(x).expand_dims(x, axis=-3)
        return namespace(x).broadcast_to(x, (*x.shape[:-3], dilation, *x.shape[-2:]))

    y, _ = dilated_branch(
        *map(repeated, (Q, K, V)), segment=segment, dilation=dilation, causal=causal
    )
    return y[..., offset, :, :]


def as_they_do(Q, K, V, *, segments, dilations, causal):
    """Give each branch its share of the heads, divide by the sum over the sequence, mix nothing."""
    share, parts = HEADS // len(segments), []
    for i, (w, r) in enumerate(zip(segments, dilations, strict=True)):
        mine = [x[..., i * share : (i + 1) * share, :, :] for x in (Q, K, V)]
        y = with_offset(*mine, i % r, segment=w, dilation=r, causal=causal)
        parts.append(y / namespace(y).sum(y, axis=-2, keepdims=True) / len(segments))
    return namespace(*parts).concat(parts, axis=-3)


# It cannot be imported to see whether it is there: it would import xformers.
@needs(find_spec("dilated_attention_pytorch"), "dilated-attention-pytorch")
@needs(installed("einops"), "einops")
@pytest.mark.parametrize("causal", [False, True])
def test_dilated_attention_pytorch_has_our_branches(their_module, causal):
    module = their_module(BRANCHES["segments"], BRANCHES["dilations"])

    def theirs(x):
        return module(*(a.transpose(1, 2) for a in x.values()), is_causal=causal).transpose(1, 2)

    def ours(x):
        return as_they_do(**x, **BRANCHES, causal=causal)

    inputs, cotangent = drawn(1)
    expected = torch_side(theirs, inputs, cotangent)
    assert_same_side(autograd_side(ours, inputs, cotangent), expected)

    def mixed(x):
        return dilated_attention(**x, **BRANCHES, causal=causal)

    value, gradients = autograd_side(mixed, inputs, cotangent)
    assert difference(expected[0], value) > 0.1
    assert all(difference(gradients[name], g) > 0.1 for name, g in expected[1].items())
