"""The PyPI package timesformer-pytorch with random weights: the same logits and gradients.

As in the paper, patches attend to the class token in both attentions, and no further linear map
comes before the residual. Where the package differs from paper and released code:

- the class token attends to all patches at once, in both attentions: class_token="all";
- its feed-forward network is gated, and is written out below;
- positions are learned for every position of every frame, and for the class token. Its default,
  rotary positions within the heads, is not a formula here and is switched off;
- queries, keys and values have no biases; the norms add 1e-5, torch's default.
"""

import warnings

import numpy as np
import pytest

import vtnp
from tests.support import torch_sides as sides
from tests.support.compare import assert_close, difference
from tests.support.peers import installed, needs
from tests.support.torch_names import linear, norm, of_heads
from vtnp._array.xp import namespace, plus_bias, transposed

torch = installed("torch")
with warnings.catch_warnings():
    warnings.simplefilter("ignore", SyntaxWarning)  # of its `is 0`, until it is compiled
    package = installed("timesformer_pytorch")
pytestmark = [needs(torch, "vtnp[peers]"), needs(package, "vtnp[peers]")]

FRAMES, H, W, PATCH, D, HEADS, LAYERS = 3, 8, 8, 4, 12, 2, 2
D_H = 5  # not D / HEADS
EPS = 1e-5
OPTIONS = {"class_token": "all", "eps": EPS}


@pytest.fixture(scope="module")
def peer():
    return sides.randomised(
        package.TimeSformer(
            dim=D, num_frames=FRAMES, num_classes=4, image_size=H, patch_size=PATCH, depth=LAYERS,
            heads=HEADS, dim_head=D_H, rotary_emb=False,
        )
    )  # fmt: skip


def drawn(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def sublayer_of(raw, name):
    """One PreNorm(Attention): rows of to_qkv are queries, keys, values, each head after head."""
    rows = raw[f"{name}.fn.to_qkv.weight"]
    n = HEADS * D_H
    W_q, W_k, W_v = (of_heads(rows[i * n : (i + 1) * n, :], HEADS) for i in range(3))
    W_c = transposed(raw[f"{name}.fn.to_out.0.weight"])
    W_c = namespace(W_c).reshape(W_c, (HEADS, D_H, D))
    weights = {"W_q": W_q, "W_k": W_k, "W_v": W_v, "W_c": W_c}
    weights["b_c"] = raw[f"{name}.fn.to_out.0.bias"]
    return {"norm_1": norm(raw, f"{name}.norm"), "attention": weights}


def gated_network(x, raw, name):
    """Their PreNorm(FeedForward), GEGLU: half of what the first map gives is gated by the rest."""
    y = vtnp.encoder.layer_norm(x, **norm(raw, f"{name}.norm"), eps=EPS)
    first, second = linear(raw, f"{name}.fn.net.0"), linear(raw, f"{name}.fn.net.3")
    y = plus_bias(y @ first["W"], first["b"])
    n = y.shape[-1] // 2
    return x + plus_bias((y[..., :n] * vtnp.encoder.gelu(y[..., n:])) @ second["W"], second["b"])


def logits_of(raw, **rule):
    """The whole model in vtnp's formulas, from the package's weights."""
    embedding, head = linear(raw, "to_patch_embedding"), linear(raw, "to_out.1")
    table = raw["pos_emb.weight"]
    x = vtnp.tokens.patch_tokens(raw["video"], size=(1, PATCH, PATCH))
    e_pos = namespace(table).reshape(table[1:], (*x.shape[-3:-1], D))
    z = vtnp.timesformer.space_time_embedding(x, embedding["W"], e_pos, bias=embedding["b"])
    cls = namespace(z).broadcast_to(raw["cls_token"][0] + table[0], (len(z), D))
    for i in range(LAYERS):
        for j, attend in enumerate(("time", "space")):
            params = sublayer_of(raw, f"layers.{i}.{j}")
            z, cls = vtnp.timesformer.attention_sublayer(
                z, cls, params, attend=attend, **(OPTIONS | rule)
            )
        z, cls = (gated_network(y, raw, f"layers.{i}.2") for y in (z, cls))
    return plus_bias(
        vtnp.encoder.layer_norm(cls, **norm(raw, "to_out.0"), eps=EPS) @ head["W"], head["b"]
    )


def test_logits_and_every_gradient(peer):
    video, cotangent = drawn(1, 2, FRAMES, H, W, 3), drawn(2, 2, 4)
    pixels = sides.channels_first(video).requires_grad_()
    peer.zero_grad()
    logits = peer(pixels)
    logits.backward(torch.from_numpy(cotangent))
    of_video = np.moveaxis(pixels.grad.numpy(), -3, -1)
    torch_side = logits.detach().numpy(), sides.gradients_of(peer) | {"video": of_video}
    arrays = sides.arrays_of(peer) | {"video": video}
    sides.assert_same_side(sides.autograd_side(logits_of, arrays, cotangent), torch_side)


@pytest.mark.parametrize(
    ("attend", "index", "axes"),
    [("time", 0, ("b (f n) d", "(b n) f d")), ("space", 1, ("b (f n) d", "(b f) n d"))],
)
def test_each_sublayer_and_its_gradients(peer, attend, index, axes):
    s = H * W // PATCH**2
    z, cls, cotangent = drawn(3, 2, FRAMES, s, D), drawn(4, 2, D), drawn(5, 2, 1 + FRAMES * s, D)

    def together(z, cls):
        xp = namespace(z, cls)
        return xp.concat([cls[:, None], xp.reshape(z, (len(z), FRAMES * s, D))], axis=1)

    module = peer.layers[0][index]
    x = torch.from_numpy(together(z, cls)).requires_grad_()
    module.zero_grad()
    y = x + module(x, *axes, **({"n": s} if attend == "time" else {"f": FRAMES}))
    y.backward(torch.from_numpy(cotangent))
    gradients = {f"sublayer.{name}": g for name, g in sides.gradients_of(module).items()}
    gradients |= {"cls": x.grad.numpy()[:, 0], "z": x.grad.numpy()[:, 1:].reshape(z.shape)}

    def sublayer(raw):
        params = sublayer_of(raw, "sublayer")
        return together(
            *vtnp.timesformer.attention_sublayer(
                raw["z"], raw["cls"], params, attend=attend, **OPTIONS
            )
        )

    arrays = {f"sublayer.{name}": x for name, x in sides.arrays_of(module).items()}
    autograd_side = sides.autograd_side(sublayer, arrays | {"z": z, "cls": cls}, cotangent)
    sides.assert_same_side(autograd_side, (y.detach().numpy(), gradients))


@pytest.mark.parametrize("rule", ["key", "mean"])
def test_with_the_papers_or_the_released_rule_it_is_another_model(peer, rule):
    video = drawn(1, 2, FRAMES, H, W, 3)
    logits = peer(sides.channels_first(video)).detach().numpy()
    raw = sides.arrays_of(peer) | {"video": video}
    assert_close(logits_of(raw), logits)
    assert difference(logits_of(raw, class_token=rule), logits) > 1e-3
