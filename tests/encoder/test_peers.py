"""The encoder's formulas against torch, with the same weights: values and all gradients.

Three computations are compared: torch's own layer with torch's gradient; the formula on NumPy with
autograd's gradient; the formula on torch's tensors with torch's gradient.
"""

import numpy as np
import pytest

import vtnp
from tests.support import torch_names
from tests.support.compare import assert_close
from tests.support.peers import installed, needs
from tests.support.torch_sides import assert_same_side, autograd_side, tensors, torch_side
from vtnp._array.xp import namespace

torch = installed("torch")
pytestmark = needs(torch, "vtnp[peers]")


def assert_all_agree(in_torch, in_vtnp, arrays, seed=0):
    cotangent = np.random.default_rng(seed).standard_normal(in_vtnp(arrays).shape)
    expected = torch_side(in_torch, arrays, cotangent)
    for side in (autograd_side, torch_side):
        assert_same_side(side(in_vtnp, arrays, cotangent), expected, what=side.__name__)


def drawn(seed, **shapes):
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(shape) for name, shape in shapes.items()}


def parameters(module, seed):
    """Draw all parameters of a torch module, whose initial biases are 0 and gains 1."""
    shapes = {name: tuple(p.shape) for name, p in module.named_parameters()}
    return {name: 0.5 * x for name, x in drawn(seed, **shapes).items()}


def run(module, leaves, *args, **kwargs):
    """Call a torch module with the given parameters."""
    own = dict(module.named_parameters())
    return torch.func.functional_call(module, {n: leaves[n] for n in own}, args, kwargs)


# --- Layers ---------------------------------------------------------------------------------------

D, HEADS, D_F, N, M = 12, 3, 20, 7, 5


def settings(**changed):
    # Training mode without dropout: evaluation may take a fused path that has no gradient.
    return {
        "d_model": D,
        "nhead": HEADS,
        "dim_feedforward": D_F,
        "dropout": 0.0,
        "batch_first": True,
        "dtype": torch.float64,
        **changed,
    }


def mask_for(kind, n):
    """Return a mask in which True means may attend."""
    if kind == "none":
        return None
    if kind == "causal":
        return np.tril(np.ones((n, n), bool))
    mask = np.random.default_rng(1).random((n, n)) < 0.5
    return mask | np.eye(n, dtype=bool)


@pytest.mark.parametrize("mask", ["none", "random", "causal"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("norm_first", [False, True])
def test_encoder_layer(norm_first, bias, mask):
    activation = "gelu" if norm_first else "relu"
    options = settings(norm_first=norm_first, bias=bias, activation=activation, layer_norm_eps=1e-6)
    module = torch.nn.TransformerEncoderLayer(**options)
    arrays = {"x": drawn(2, x=(2, N, D))["x"], **parameters(module, 3)}
    allowed = mask_for(mask, N)

    def in_torch(leaves):
        # In torch's layers True means may not attend.
        forbidden = None if allowed is None else torch.tensor(~allowed)
        return run(module, leaves, leaves["x"], src_mask=forbidden)

    def in_vtnp(leaves):
        params = torch_names.encoder_layer(leaves, HEADS)
        same = None if allowed is None else namespace(leaves["x"]).asarray(allowed)
        if norm_first:
            return vtnp.encoder.pre_norm_layer(leaves["x"], params, mask=same, eps=1e-6)
        return vtnp.encoder.encoder_layer(leaves["x"], params, mask=same, eps=1e-6)

    assert_all_agree(in_torch, in_vtnp, arrays)


@pytest.mark.parametrize("bias", [True, False])
def test_decoder_layer(bias):
    module = torch.nn.TransformerDecoderLayer(**settings(bias=bias))
    arrays = {**drawn(4, x=(2, N, D), memory=(2, M, D)), **parameters(module, 5)}
    ahead = torch.nn.Transformer.generate_square_subsequent_mask(N, dtype=torch.float64)

    def in_torch(leaves):
        return run(module, leaves, leaves["x"], leaves["memory"], tgt_mask=ahead)

    def in_vtnp(leaves):
        params = torch_names.decoder_layer(leaves, HEADS)
        return vtnp.encoder.decoder_layer(leaves["x"], leaves["memory"], params, eps=1e-5)

    assert_all_agree(in_torch, in_vtnp, arrays)


def test_multi_head_attention():
    module = torch.nn.MultiheadAttention(D, HEADS, batch_first=True, dtype=torch.float64)
    arrays = {**drawn(6, x=(2, N, D), memory=(2, M, D)), **parameters(module, 7)}

    def in_torch(leaves):
        memory = leaves["memory"]
        return run(module, leaves, leaves["x"], memory, memory, need_weights=False)[0]

    def in_vtnp(leaves):
        named = {f"self_attn.{name}": x for name, x in leaves.items()}
        weights = torch_names.attention(named, "self_attn", HEADS)
        return vtnp.encoder.cross_attention(leaves["x"], leaves["memory"], **weights)

    assert_all_agree(in_torch, in_vtnp, arrays)


# --- Attention ------------------------------------------------------------------------------------


def attention_arrays(seed, n=N, m=M, scale=1.0):
    shapes = {"Q": (2, HEADS, n, 4), "K": (2, HEADS, m, 4), "V": (2, HEADS, m, 3)}
    arrays = drawn(seed, **shapes)
    return {**arrays, "Q": scale * arrays["Q"]}


def attends(mask=None, scale=None):
    def in_vtnp(leaves):
        allowed = None if mask is None else namespace(leaves["Q"]).asarray(mask)
        return vtnp.encoder.attention(
            leaves["Q"], leaves["K"], leaves["V"], mask=allowed, scale=scale
        )

    return in_vtnp


def fused(**options):
    def in_torch(leaves):
        function = torch.nn.functional.scaled_dot_product_attention
        return function(leaves["Q"], leaves["K"], leaves["V"], **options)

    return in_torch


@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize("mask", [None, (N, M), (2, 1, N, M), (2, HEADS, N, M)])
def test_scaled_dot_product_attention(mask, scale):
    arrays = attention_arrays(8)
    if mask is None:
        in_torch, in_vtnp = fused(scale=scale), attends(scale=scale)
    else:
        allowed = np.random.default_rng(9).random(mask) < 0.5
        allowed[..., 0] = True
        in_torch = fused(attn_mask=torch.tensor(allowed), scale=scale)
        in_vtnp = attends(allowed, scale)
    assert_all_agree(in_torch, in_vtnp, arrays)


def test_is_causal_is_the_causal_mask():
    mask = vtnp.encoder.causal_mask(N, like=np.zeros(1))
    assert_all_agree(fused(is_causal=True), attends(mask), attention_arrays(10, m=N))


def test_the_output_of_a_fully_masked_row_is_zero():
    allowed = np.random.default_rng(11).random((N, M)) < 0.5
    allowed[:, 0] = True
    allowed[2] = False
    arrays = attention_arrays(12)
    assert_all_agree(fused(attn_mask=torch.tensor(allowed)), attends(allowed), arrays)
    assert np.all(attends(allowed)(arrays)[..., 2, :] == 0.0)


def test_huge_logits():
    arrays = attention_arrays(13, scale=1e4)
    leaves = tensors(arrays)
    expected = fused()(leaves).detach().numpy()
    assert_close(attends()(arrays), expected)


def test_nan_where_it_is_masked():
    """In a value it makes both results NaN; in a key only torch's, which adds -inf to the score."""
    allowed = np.ones((N, M), bool)
    allowed[:, 1] = False
    for name, shows_here in (("K", False), ("V", True)):
        arrays = attention_arrays(14)
        arrays[name][..., 1, 0] = np.nan
        in_torch = fused(attn_mask=torch.tensor(allowed))(tensors(arrays)).detach().numpy()
        assert np.isnan(in_torch).any()
        assert np.isnan(attends(allowed)(arrays)).any() == shows_here


# --- Parts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (1e-3, 0.0), (1.0, 100.0)])
@pytest.mark.parametrize("eps", [1e-6, 1e-5])
def test_layer_norm(eps, scale, offset):
    arrays = drawn(15, x=(2, N, D), gamma=(D,), beta=(D,))
    arrays["x"] = offset + scale * arrays["x"]

    def in_torch(leaves):
        x, gamma, beta = leaves.values()
        return torch.nn.functional.layer_norm(x, (D,), gamma, beta, eps)

    assert_all_agree(in_torch, lambda leaves: vtnp.encoder.layer_norm(**leaves, eps=eps), arrays)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu(approximate):
    x = np.concatenate([np.linspace(-12, 12, 481), [-0.0, 1e-300, 40.0, -40.0]])
    assert_all_agree(
        lambda leaves: torch.nn.functional.gelu(leaves["x"], approximate=approximate),
        lambda leaves: vtnp.encoder.gelu(leaves["x"], approximate=approximate),
        {"x": x},
    )


def test_relu_and_its_gradient_at_zero():
    x = np.array([-2.0, -0.0, 0.0, 1e-300, 3.0, np.inf, -np.inf])
    assert_all_agree(
        lambda leaves: torch.relu(leaves["x"]),
        lambda leaves: vtnp.encoder.relu(leaves["x"]),
        {"x": x},
    )


def test_softmax():
    arrays = drawn(16, x=(3, 5, 7))
    arrays["x"] += 1000.0 * np.arange(5)[:, None]
    assert_all_agree(
        lambda leaves: torch.softmax(leaves["x"], -1),
        lambda leaves: vtnp.encoder.softmax(leaves["x"]),
        arrays,
    )


def test_softmax_of_minus_infinities_is_nan_in_torch_and_zero_here():
    row = np.full((1, 3), -np.inf)
    assert torch.softmax(torch.tensor(row), -1).isnan().all()
    assert np.all(vtnp.encoder.softmax(row) == 0.0)
    assert np.all(vtnp.encoder.softmax(torch.tensor(row)).numpy() == 0.0)
