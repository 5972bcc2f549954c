"""HuggingFace's port with random weights: the same logits, hidden states and gradients.

In two points vtnp deviates from it. The port takes the number of frames from its config, whatever
the video has; and with "space_only" it does not average over the frames, so that one video of t
frames gives t rows of logits.
"""

from dataclasses import replace

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import grad

import vtnp
from tests.support.compare import assert_close, difference
from tests.support.peers import installed, needs
from tests.support.torch_sides import assert_runs_on_tensors, channels_first
from tests.support.trees import leaves
from vtnp.checkpoints import from_published
from vtnp.models.timesformer import TimeSformerConfig, apply

torch = installed("torch")
transformers = installed("transformers")
pytestmark = [needs(torch, "vtnp[peers]"), needs(transformers, "vtnp[peers]")]

SCHEMES = {
    "divided": "divided_space_time",
    "joint": "joint_space_time",
    "space": "space_only",
}
WITHIN = 1e-12


def config_of(scheme):
    return TimeSformerConfig(
        scheme, frames=3, image=(8, 8), patch=4, d=12, heads=2, d_f=20, layers=2, classes=5
    )


def peer_of(config):
    """HuggingFace's model of the same sizes, every weight random, none at its initial value."""
    torch.manual_seed(0)
    peer = transformers.TimesformerForVideoClassification(
        transformers.TimesformerConfig(
            image_size=config.image[0],
            patch_size=config.patch,
            num_channels=config.channels,
            num_frames=config.frames,
            hidden_size=config.d,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            intermediate_size=config.d_f,
            attention_type=SCHEMES[config.scheme],
            num_labels=config.classes,
        )
    )
    for weight in peer.parameters():
        torch.nn.init.normal_(weight, std=0.4)
    return peer.double().eval()


def params_of(named_tensors, config):
    tensors = {name: x.detach().numpy() for name, x in named_tensors}
    return from_published("timesformer", config, "huggingface", tensors)


def videos(config):
    shape = (2, config.frames, *config.image, config.channels)
    return np.random.default_rng(1).standard_normal(shape)


def averaged_over_frames(peer, pixels):
    """The mean of the class tokens before the last norm, which its "space_only" leaves out."""
    batch, frames = pixels.shape[:2]
    last = []
    handle = peer.timesformer.layernorm.register_forward_pre_hook(lambda _, x: last.append(x[0]))
    peer(pixels)
    handle.remove()
    feature = last[0][:, 0].reshape(batch, frames, -1).mean(dim=1)
    return peer.classifier(peer.timesformer.layernorm(feature))


def logits_of(peer, pixels, scheme):
    return averaged_over_frames(peer, pixels) if scheme == "space" else peer(pixels).logits


@pytest.mark.parametrize("scheme", SCHEMES)
def test_logits_and_every_gradient(scheme):
    config = config_of(scheme)
    peer, video = peer_of(config), videos(config)
    params = params_of(peer.state_dict().items(), config)
    cotangent = np.random.default_rng(2).standard_normal((2, config.classes))

    pixels = channels_first(video).requires_grad_()
    logits = logits_of(peer, pixels, scheme)
    logits.backward(torch.from_numpy(cotangent))
    assert_close(apply(params, video, config), logits.detach().numpy(), within=WITHIN)

    tree, of_video = grad(lambda arguments: anp.sum(apply(*arguments, config) * cotangent))(
        [params, video]
    )
    assert_close(of_video, np.moveaxis(pixels.grad.numpy(), -3, -1), within=WITHIN)
    gradients = dict(leaves(tree))
    expected = params_of(((name, w.grad) for name, w in peer.named_parameters()), config)
    for path, value in leaves(expected):
        assert_close(gradients[path], value, within=WITHIN, what=str(path))


@pytest.mark.parametrize(
    ("scheme", "layer"),
    [("divided", vtnp.timesformer.divided_layer), ("joint", vtnp.timesformer.joint_layer)],
)
def test_every_hidden_state(scheme, layer):
    """Its tokens are the class token, then position by position, time fastest."""
    config = config_of(scheme)
    peer, video = peer_of(config), videos(config)
    params = params_of(peer.state_dict().items(), config)
    output = peer.timesformer(channels_first(video), output_hidden_states=True)

    def in_its_order(z, cls):
        tokens = np.swapaxes(z, -3, -2).reshape(len(z), -1, config.d)
        return np.concatenate([cls[:, None], tokens], axis=1)

    x = vtnp.tokens.patch_tokens(video, size=(1, config.patch, config.patch))
    e_pos = params["e_space"] + params["e_time"][:, None]
    z = vtnp.timesformer.space_time_embedding(x, e_pos=e_pos, **params["embedding"])
    cls = np.broadcast_to(params["cls"] + params["e_cls"], (len(video), config.d))
    states = [(z, cls)]
    for weights in params["layers"]:
        states.append(layer(*states[-1], weights))
    assert len(output.hidden_states) == len(states)
    for state, peer_state in zip(states, output.hidden_states, strict=True):
        assert_close(in_its_order(*state), peer_state.detach().numpy(), within=WITHIN)
    final = vtnp.encoder.layer_norm(in_its_order(*states[-1]), **params["norm"], eps=config.eps)
    assert_close(final, output.last_hidden_state.detach().numpy(), within=WITHIN)


def test_twice_as_many_frames_as_its_config_says_run_and_are_wrong():
    config = config_of("divided")
    peer = peer_of(config)
    params = params_of(peer.state_dict().items(), config)
    video = videos(replace(config, frames=2 * config.frames))
    logits = peer(channels_first(video)).logits.detach().numpy()
    # Its positions in time are the nearest rows of its table, which by itself would be right.
    longer = {**params, "e_time": np.repeat(params["e_time"], 2, axis=0)}
    assert difference(logits, apply(longer, video, config)) > 1e-3


def test_space_only_without_the_mean_is_one_frame_at_a_time():
    config = config_of("space")
    peer, video = peer_of(config), videos(config)
    params = params_of(peer.state_dict().items(), config)
    logits = peer(channels_first(video)).logits.detach().numpy()
    frame_by_frame = video.reshape(-1, 1, *video.shape[2:])
    assert logits.shape == (2 * config.frames, config.classes)
    assert_close(apply(params, frame_by_frame, config), logits, within=WITHIN)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_our_model_on_their_tensors(scheme):
    config = config_of(scheme)
    params = params_of(peer_of(config).state_dict().items(), config)
    assert_runs_on_tensors(apply, params, videos(config), config)
