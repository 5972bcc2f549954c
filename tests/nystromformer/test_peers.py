"""Nyström self-attention against HuggingFace's port and the PyPI package nystrom-attention.

Without masks both compute the same values and gradients: six steps from the start value
"original", plus the convolution. Each difference is by design, and has a test that says what they
compute instead:

- HuggingFace masks the last factor only, so that padding enters the landmarks and the
  convolution; it computes softmax attention where landmarks are as many as tokens; its option for
  the start value "exact" raises a TypeError.
- nystrom-attention pads with zeros at the front, which count as real tokens unless there is a mask;
  it divides by the number of real tokens plus 1e-8.
"""

import numpy as np
import pytest

import vtnp
from tests.support.compare import assert_close, difference
from tests.support.peers import installed, needs
from tests.support.torch_sides import (
    arrays_of,
    assert_same_side,
    autograd_side,
    gradients_of,
    randomised,
)
from vtnp._array.xp import namespace
from vtnp.checkpoints import from_published
from vtnp.mistakes.nystromformer import mask_only_in_the_last_factor
from vtnp.models.nystromformer import NystromformerConfig, init

torch = installed("torch")
transformers = installed("transformers")
package = installed("nystrom_attention")
pytestmark = needs(torch, "vtnp[peers]")
needs_transformers = needs(transformers, "vtnp[peers]")
needs_package = needs(package, "vtnp[peers]")

HEADS, D_H, N, LANDMARKS, K_SIZE = 3, 4, 12, 4, 5
D = HEADS * D_H
WITHIN = 1e-12
RELEASED = {"landmarks": LANDMARKS, "pinv": "iterative", "start": "original"}


def tokens(n=N):
    x, cotangent = np.random.default_rng(1).standard_normal((2, 2, n, D))
    return x, cotangent


def by_head(weight):
    """Return a weight of shape (out, in), rows sorted by head, as (heads, in, out of one head)."""
    return namespace(weight).matrix_transpose(weight.reshape((HEADS, D_H, D)))


def their_side(module, x, cotangent, **options):
    """Return the peer's value, and its gradients by parameter and for x."""
    x = torch.tensor(x, requires_grad=True)
    y = module(x, **options)
    y = y[0] if isinstance(y, tuple) else y
    y.backward(torch.tensor(cotangent))
    return y.detach().numpy(), gradients_of(module) | {"x": x.grad.numpy()}


# --- HuggingFace ----------------------------------------------------------------------------------


def hugging_face(landmarks=LANDMARKS, n=N):
    from transformers.models.nystromformer import modeling_nystromformer as modeling

    config = transformers.NystromformerConfig(
        hidden_size=D,
        num_attention_heads=HEADS,
        num_landmarks=landmarks,
        segment_means_seq_len=n,
        conv_kernel_size=K_SIZE,
    )
    return randomised(modeling.NystromformerSelfAttention(config))


def projections(tree):
    """Return weights and biases of nystrom-self-attention; W_c only puts the heads side by side."""
    weights = {}
    for letter, name in (("q", "query"), ("k", "key"), ("v", "value")):
        weights[f"W_{letter}"] = by_head(tree[f"{name}.weight"])
        weights[f"b_{letter}"] = tree[f"{name}.bias"].reshape((HEADS, D_H))
    return weights | {"W_c": np.eye(D).reshape((HEADS, D_H, D))}


def as_hugging_face(tree):
    kernel = tree["conv.weight"][:, 0, :, 0]
    return vtnp.nystromformer.nystrom_self_attention(
        tree["x"], **projections(tree), kernel=kernel, **RELEASED
    )


def heads_of(tree):
    """Return queries, keys and values of every head."""
    weights = projections(tree)
    return [
        vtnp.encoder.qkv_projection(tree["x"], weights[f"W_{each}"], bias=weights[f"b_{each}"])
        for each in "qkv"
    ]


def merged(y):
    return np.moveaxis(y, -3, -2).reshape((*y.shape[:-3], y.shape[-2], D))


@needs_transformers
def test_hugging_face_value_and_gradients():
    module, (x, cotangent) = hugging_face(), tokens()
    theirs = their_side(module, x, cotangent)
    ours = autograd_side(as_hugging_face, arrays_of(module) | {"x": x}, cotangent)
    assert_same_side(ours, theirs)


@needs_transformers
def test_hugging_face_masks_the_last_factor_only():
    module, (x, cotangent) = hugging_face(), tokens()
    mask = np.arange(N) < 9
    added = torch.zeros(1, 1, 1, N, dtype=torch.float64)
    added[..., ~torch.tensor(mask)] = torch.finfo(torch.float64).min
    theirs, _ = their_side(module, x, cotangent, attention_mask=added)
    Q, K, V = heads_of(arrays_of(module) | {"x": x})
    convolved = vtnp.nystromformer.sequence_convolution(
        V, arrays_of(module)["conv.weight"][:, 0, :, 0]
    )
    wrong = mask_only_in_the_last_factor(Q, K, V, mask=mask, **RELEASED)
    assert_close(merged(wrong + convolved), theirs, within=WITHIN)
    right = vtnp.nystromformer.nystrom_attention(Q, K, V, mask=mask, **RELEASED)
    assert difference(right, wrong) > 1e-2


@needs_transformers
def test_hugging_face_with_all_landmarks_is_softmax_attention():
    """Its default config has 64 landmarks for 64 tokens."""
    default = transformers.NystromformerConfig()
    assert default.num_landmarks == default.segment_means_seq_len == 64
    module, (x, cotangent) = hugging_face(landmarks=N), tokens()
    theirs, _ = their_side(module, x, cotangent)
    Q, K, V = heads_of(arrays_of(module) | {"x": x})
    convolved = vtnp.nystromformer.sequence_convolution(
        V, arrays_of(module)["conv.weight"][:, 0, :, 0]
    )
    assert_close(merged(vtnp.encoder.attention(Q, K, V) + convolved), theirs, within=WITHIN)
    six_steps = vtnp.nystromformer.nystrom_attention(Q, K, V, **RELEASED | {"landmarks": N})
    assert difference(six_steps, vtnp.encoder.attention(Q, K, V)) > 1e-3


@needs_transformers
def test_hugging_face_has_no_other_start_value():
    from transformers.models.nystromformer import modeling_nystromformer as modeling

    config = transformers.NystromformerConfig(inv_coeff_init_option=True)
    with pytest.raises(TypeError, match="not subscriptable"):
        modeling.NystromformerSelfAttention(config)


@needs_transformers
@pytest.mark.parametrize("task", [False, True], ids=["alone", "in-a-task"])
def test_hugging_face_whole_layers(task):
    """A model of two post-norm layers, from the embeddings on."""
    sizes = {
        "hidden_size": D,
        "num_hidden_layers": 2,
        "num_attention_heads": HEADS,
        "intermediate_size": 20,
        "num_landmarks": LANDMARKS,
        "segment_means_seq_len": N,
        "conv_kernel_size": K_SIZE,
        "vocab_size": 11,
        "max_position_embeddings": N,
    }
    kind = "NystromformerForMaskedLM" if task else "NystromformerModel"
    peer = randomised(getattr(transformers, kind)(transformers.NystromformerConfig(**sizes)))
    model = peer.nystromformer if task else peer
    ids = torch.arange(2 * N).reshape(2, N) % 11
    theirs = model(ids).last_hidden_state.detach().numpy()

    config = NystromformerConfig(
        frames=N, image=(4, 4), patch=(1, 4, 4), d=D, heads=HEADS, d_f=20, layers=2, kernel=K_SIZE
    )
    initial = init(np.random.default_rng(0), config)
    extra_params = {name: x for name, x in initial.items() if name != "layers"}
    tensors = {
        name.removeprefix("nystromformer."): x.numpy() for name, x in peer.state_dict().items()
    }
    params = from_published(
        "nystromformer", config, "huggingface", tensors, extra_params=extra_params
    )
    x, eps = model.embeddings(ids).detach().numpy(), model.config.layer_norm_eps
    for layer in params["layers"]:
        update = vtnp.nystromformer.nystrom_self_attention(x, **layer["attention"], **RELEASED)
        y = vtnp.encoder.add_and_norm(x, update, **layer["norm_1"], eps=eps)
        z = vtnp.encoder.feed_forward(y, **layer["feed_forward"], activation="gelu_tanh")
        x = vtnp.encoder.add_and_norm(y, z, **layer["norm_2"], eps=eps)
    assert_close(x, theirs, within=WITHIN)


# --- nystrom-attention ----------------------------------------------------------------------------


def packaged(**options):
    return randomised(
        package.NystromAttention(
            dim=D,
            dim_head=D_H,
            heads=HEADS,
            num_landmarks=LANDMARKS,
            residual_conv_kernel=K_SIZE,
            **options,
        )
    )


def packaged_projections(tree):
    rows = tree["to_qkv.weight"]
    weights = {f"W_{each}": by_head(rows[i * D : (i + 1) * D]) for i, each in enumerate("qkv")}
    out = namespace(rows).matrix_transpose(tree["to_out.0.weight"]).reshape((HEADS, D_H, D))
    return weights | {"W_c": out, "b_c": tree["to_out.0.bias"]}


def as_packaged(tree):
    """Return the output of our layer, with zeros in front until the landmarks divide the length."""
    x, n = tree["x"], tree["x"].shape[-2]
    front = np.zeros((*x.shape[:-2], -n % LANDMARKS, D))
    x = namespace(x).concat([front, x], axis=-2)
    kernel = tree["res_conv.weight"][:, 0, :, 0]
    y = vtnp.nystromformer.nystrom_self_attention(
        x, **packaged_projections(tree), kernel=kernel, **RELEASED
    )
    return y[..., -n:, :]


@needs_package
@pytest.mark.parametrize("n", [N, N - 3], ids=["whole", "ragged"])
def test_package_value_and_gradients(n):
    module, (x, cotangent) = packaged(), tokens(n)
    theirs = their_side(module, x, cotangent)
    ours = autograd_side(as_packaged, arrays_of(module) | {"x": x}, cotangent)
    assert_same_side(ours, theirs)


@needs_package
def test_package_attends_to_its_padding_unless_it_has_a_mask():
    module, (x, cotangent) = packaged(), tokens(N - 3)
    all_real = torch.ones(2, N - 3, dtype=torch.bool)
    plain, _ = their_side(module, x, cotangent)
    masked, _ = their_side(module, x, cotangent, mask=all_real)
    assert difference(plain, masked) > 1e-3


@needs_package
@pytest.mark.parametrize(("eps", "within"), [(0.0, WITHIN), (1e-8, 1e-6)])
def test_package_divides_by_the_real_tokens(eps, within):
    """Results of real tokens are those with divisor="tokens", up to the 1e-8 added to it."""
    module, (x, cotangent) = packaged(eps=eps), tokens()
    mask = np.arange(N) != 4
    theirs, _ = their_side(
        module, x, cotangent, mask=torch.tensor(np.broadcast_to(mask, (2, N)).copy())
    )
    tree = arrays_of(module)
    weights = packaged_projections(tree)
    Q, K, V = (vtnp.encoder.qkv_projection(x, weights[f"W_{each}"]) for each in "qkv")
    tilde = {
        f"{name}_tilde": vtnp.nystromformer.segment_means(X, LANDMARKS, mask=mask, divisor="tokens")
        for name, X in (("Q", Q), ("K", K))
    }
    iterative = {"pinv": "iterative", "start": "original"}
    y = vtnp.nystromformer.nystrom_attention(Q, K, V, **tilde, mask=mask, **iterative)
    by_segment = vtnp.nystromformer.nystrom_attention(
        Q, K, V, landmarks=LANDMARKS, mask=mask, **iterative
    )
    assert difference(by_segment, y) > 1e-3
    real = np.where(mask[:, None], V, 0.0)
    y = y + vtnp.nystromformer.sequence_convolution(real, tree["res_conv.weight"][:, 0, :, 0])
    ours = vtnp.encoder.output_projection(y, weights["W_c"], bias=weights["b_c"])
    assert_close(ours[:, mask], theirs[:, mask], within=within)
