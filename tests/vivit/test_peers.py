"""HuggingFace's port of model 1 with random weights: the same logits, hidden states and gradients.

Three of its choices are not copied. Its default activation, "gelu_fast", has only ten digits of
sqrt(2/pi). Its eager attention computes every softmax in float32, whatever the dtype. Its resized
positions treat the tokens of all frames as one square image.
"""

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import grad

import vtnp
from tests.support.compare import assert_close, difference
from tests.support.peers import installed, needs
from tests.support.torch_sides import assert_runs_on_tensors, channels_first
from tests.support.trees import leaves
from vtnp.checkpoints import from_published, load_weights, save, to_published
from vtnp.models.vivit import ViViTConfig, apply

torch = installed("torch")
transformers = installed("transformers")
pytestmark = [needs(torch, "vtnp[peers]"), needs(transformers, "vtnp[peers]")]

WITHIN = 1e-12
CONFIG = ViViTConfig(
    frames=4, image=(8, 12), patch=(2, 4, 4), d=12, heads=2, d_f=20, layers=2, classes=5
)


def peer_of(config, attention="sdpa", activation="gelu_pytorch_tanh"):
    """Return HuggingFace's model of the same sizes, with all weights random."""
    torch.manual_seed(0)
    peer = transformers.VivitForVideoClassification(
        transformers.VivitConfig(
            image_size=list(config.image),
            num_frames=config.frames,
            tubelet_size=list(config.patch),
            num_channels=config.channels,
            hidden_size=config.d,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            intermediate_size=config.d_f,
            hidden_act=activation,
            num_labels=config.classes,
            attn_implementation=attention,
        )
    )
    for weight in peer.parameters():
        torch.nn.init.normal_(weight, std=0.4)
    return peer.double().eval()


def params_of(named_tensors):
    tensors = {name: x.detach().numpy() for name, x in named_tensors}
    return from_published("vivit", CONFIG, "huggingface", tensors)


def videos(config):
    shape = (2, config.frames, *config.image, config.channels)
    return np.random.default_rng(1).standard_normal(shape)


def largest_differences(peer, activation="gelu_tanh"):
    """Return the largest difference of the logits, and that of all gradients."""
    config, video = CONFIG, videos(CONFIG)
    params = params_of(peer.state_dict().items())
    cotangent = np.random.default_rng(2).standard_normal((2, config.classes))
    pixels = channels_first(video).requires_grad_()
    logits = peer(pixels).logits
    logits.backward(torch.from_numpy(cotangent))

    def f(arguments):
        return anp.sum(apply(*arguments, config) * cotangent)

    by_params, by_video = grad(f)([params, video])
    expected = dict(leaves(params_of((name, w.grad) for name, w in peer.named_parameters())))
    gradients = dict(leaves(by_params))
    assert gradients.keys() == expected.keys()
    differences = [difference(gradients[path], value) for path, value in expected.items()]
    differences.append(difference(by_video, np.moveaxis(pixels.grad.numpy(), -3, -1)))
    return difference(apply(params, video, config), logits.detach().numpy()), max(differences)


def test_logits_and_every_gradient():
    of_logits, of_gradients = largest_differences(peer_of(CONFIG))
    assert of_logits <= WITHIN
    assert of_gradients <= WITHIN


def test_fast_gelu_has_ten_digits():
    """The peer's default: the same function but for the last digits of the constant."""
    x = np.linspace(-6.0, 6.0, 1001)
    fast = transformers.activations.ACT2FN["gelu_fast"](torch.from_numpy(x)).numpy()
    exact = np.sqrt(2.0 / np.pi)
    truncated = 0.5 * x * (1.0 + np.tanh(0.7978845608 * (x + 0.044715 * x**3)))
    assert abs(0.7978845608 - exact) > 2e-12
    assert_close(fast, truncated, within=1e-15)
    assert 1e-13 < difference(fast, vtnp.encoder.gelu(x, approximate="tanh")) < 1e-11
    of_logits, of_gradients = largest_differences(peer_of(CONFIG, activation="gelu_fast"))
    assert of_logits < 1e-11
    assert of_gradients < 1e-11


def test_eager_attention_has_softmax_in_float32():
    of_logits, of_gradients = largest_differences(peer_of(CONFIG, attention="eager"))
    assert 1e-10 < of_logits < 1e-6
    assert 1e-10 < of_gradients < 1e-5


def test_every_hidden_state():
    peer, video = peer_of(CONFIG), videos(CONFIG)
    params = params_of(peer.state_dict().items())
    output = peer.vivit(channels_first(video), output_hidden_states=True)
    tokens = vtnp.vivit.tubelet_embedding(video, **params["embedding"]).reshape(2, -1, CONFIG.d)
    encoder = params["encoder"]
    cls = np.broadcast_to(encoder["cls"], (2, 1, CONFIG.d))
    states = [np.concatenate([cls, tokens], axis=1) + encoder["positions"]]
    for layer in encoder["layers"]:
        states.append(
            vtnp.encoder.pre_norm_layer(
                states[-1], layer, eps=CONFIG.eps, activation=CONFIG.activation
            )
        )
    assert len(output.hidden_states) == len(states)
    for state, expected in zip(states, output.hidden_states, strict=True):
        assert_close(state, expected.detach().numpy(), within=WITHIN)
    final = vtnp.encoder.layer_norm(states[-1], **encoder["norm"], eps=CONFIG.eps)
    assert_close(final, output.last_hidden_state.detach().numpy(), within=WITHIN)


def test_the_peers_resized_positions_do_not_fit():
    """They are resized as one square image that includes all frames of the video."""
    square = ViViTConfig(
        frames=8, image=(8, 8), patch=(2, 4, 4), d=12, heads=2, d_f=20, layers=1, classes=5
    )
    peer = peer_of(square)
    larger = torch.zeros((1, 8, 3, 16, 16), dtype=torch.float64)
    with pytest.raises(RuntimeError, match="must match the size"):
        peer(larger, interpolate_pos_encoding=True)


def test_files_with_the_names_of_version_4(tmp_path):
    """The port reads files with those names: it renames the entries of older files."""
    peer, video = peer_of(CONFIG), videos(CONFIG)
    params = params_of(peer.state_dict().items())
    peer.config.dtype = "float64"
    peer.config.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    save(path, to_published("vivit", CONFIG, "huggingface-4", params), {"format": "pt"})
    again = transformers.VivitForVideoClassification.from_pretrained(tmp_path).eval()
    logits = again(channels_first(video)).logits.detach().numpy()
    loaded = load_weights(path, "vivit", CONFIG, layout="huggingface-4")
    assert_close(apply(loaded, video, CONFIG), logits, within=WITHIN)
    assert_close(logits, peer(channels_first(video)).logits.detach().numpy(), within=WITHIN)


def test_our_model_on_torch_tensors():
    params = params_of(peer_of(CONFIG).state_dict().items())
    assert_runs_on_tensors(apply, params, videos(CONFIG), CONFIG)
