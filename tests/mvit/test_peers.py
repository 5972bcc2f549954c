"""pytorchvideo's layers with random weights: the same blocks, grids, positions and gradients.

Its models import torchvision, its layers do not: here the layers are put together by hand. Two
properties of theirs are not copied. The norms after the pooling have torch's eps of 1e-5, whatever
norm is passed to the block. And a maximum that two tokens share gives its gradient to the first.
"""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from autograd import make_vjp

import vtnp
from tests.support.compare import assert_close, difference
from tests.support.layouts import params_of_block
from tests.support.peers import installed, needs
from tests.support.torch_sides import (
    arrays_of,
    assert_runs_on_tensors,
    assert_same_side,
    autograd_side,
    gradients_of,
    randomised,
)
from vtnp.checkpoints import from_published
from vtnp.models.mvit import Block, MViTConfig, apply
from vtnp.mvit import Pooling

torch = installed("torch")
package = installed("pytorchvideo")
pytestmark = [needs(torch, "vtnp[peers]"), needs(package, "vtnp[peers]")]
ONE, CUBE = (1, 1, 1), (3, 3, 3)


def peer_block(*, eps=1e-6, **options):
    """A block; eps is that of the norms after the pooling."""
    from pytorchvideo.layers.attention import MultiScaleBlock

    norm = partial(torch.nn.LayerNorm, eps=1e-6)
    block = MultiScaleBlock(**options, norm_layer=norm)
    for letter in "qkv":
        pooled_norm = getattr(block.attn, f"norm_{letter}", None)
        if pooled_norm is not None:
            assert pooled_norm.eps == 1e-5
            pooled_norm.eps = eps
    return randomised(block)


BLOCKS = {
    "plain": {},
    "keys": {"kernel_kv": CUBE, "stride_kv": (1, 2, 2)},
    "queries": {"kernel_q": CUBE, "stride_q": (1, 2, 2), "kernel_kv": CUBE},
    "uneven": {"kernel_q": CUBE, "stride_q": (2, 2, 1), "kernel_kv": (1, 3, 3), "stride_kv": ONE},
    "wide": {"kernel_q": CUBE, "stride_q": (1, 2, 2), "kernel_kv": CUBE, "dim_out": 10},
    "max": {"kernel_q": (1, 3, 3), "stride_q": (1, 2, 2), "kernel_kv": CUBE, "pool_mode": "max"},
    "avg": {"kernel_kv": CUBE, "stride_kv": (1, 4, 4), "pool_mode": "avg"},
}


def pooling_of(options, letters, *, has_size):
    """Read the pooling of queries or of keys and values off the options of a peer's block."""
    stride, mode = options.get(f"stride_{letters}", ONE), options.get("pool_mode", "conv")
    size = options.get(f"kernel_{letters}") if has_size else None
    return Pooling(stride, size, mode=mode)


@pytest.mark.parametrize("has_cls", [True, False], ids=["cls", "no-cls"])
@pytest.mark.parametrize("name", BLOCKS)
def test_block_value_and_gradients(name, has_cls):
    options = {"dim": 6, "dim_out": 6, "num_heads": 2, "mlp_ratio": 2.0, "qkv_bias": True}
    options |= BLOCKS[name] | {"has_cls_embed": has_cls}
    block, grid = peer_block(**options), (3, 5, 4)
    rng = np.random.default_rng(1)
    x = rng.standard_normal((2, has_cls + 60, 6))
    tensor = torch.tensor(x, requires_grad=True)
    peer_y, peer_grid = block(tensor, list(grid))
    cotangent = rng.standard_normal(peer_y.shape)
    peer_y.backward(torch.tensor(cotangent))

    mode = options.get("pool_mode", "conv")
    windows = (pooling_of(options, letters, has_size=True) for letters in ("q", "kv"))
    described = Block(6, options["dim_out"], 2, *windows)
    poolings = {
        f"pool_{letters}": pooling_of(options, letters, has_size=mode != "conv")
        for letters in ("q", "kv")
    }

    def value(tree):
        weights = {name: each for name, each in tree.items() if name != "x"}
        params = params_of_block(described, "pytorchvideo", weights, mode=mode)
        y, pooled = vtnp.mvit.multiscale_block(
            tree["x"], params, grid=grid, **poolings, has_cls=has_cls
        )
        assert list(pooled) == list(peer_grid)
        return y

    vtnp_side = autograd_side(value, arrays_of(block) | {"x": x}, cotangent)
    peer_gradients = gradients_of(block) | {"x": tensor.grad.numpy()}
    assert_same_side(vtnp_side, (peer_y.detach().numpy(), peer_gradients))


def test_eps_of_the_norms_after_the_pooling():
    """As it comes, the package mixes 1e-6 and 1e-5; vtnp's formulas can be put together so, too."""
    options = {"dim": 6, "dim_out": 6, "num_heads": 2, "qkv_bias": True, "mlp_ratio": 2.0}
    options |= BLOCKS["queries"]
    block, grid = peer_block(**options, eps=1e-5), (3, 5, 4)
    x = np.random.default_rng(1).standard_normal((2, 61, 6))
    peer_y = block(torch.tensor(x), list(grid))[0].detach().numpy()
    described = Block(6, 6, 2, Pooling((1, 2, 2), CUBE), Pooling(size=CUBE))
    params = params_of_block(described, "pytorchvideo", arrays_of(block))
    options = {"grid": grid, "pool_q": Pooling((1, 2, 2)), "has_cls": True}
    one_eps = vtnp.mvit.multiscale_block(x, params, **options)[0]
    normalised = vtnp.encoder.layer_norm(x, **params["norm_1"], eps=1e-6)
    update, _ = vtnp.mvit.multi_head_pooling_attention(
        normalised, params["attention"], **options, eps=1e-5
    )
    y = vtnp.mvit.pooled_residual(x, grid=grid, stride=(1, 2, 2), has_cls=True) + update
    assert_close(vtnp.encoder.feed_forward_sublayer(y, params, eps=1e-6), peer_y)
    assert difference(one_eps, peer_y) > 1e-7


def test_a_shared_maximum():
    tensor = torch.ones((1, 1, 1, 1, 2), dtype=torch.float64, requires_grad=True)
    torch.nn.MaxPool3d((1, 1, 2))(tensor).sum().backward()
    assert tensor.grad.ravel().tolist() == [1.0, 0.0]
    window = Pooling((1, 1, 2), (1, 1, 2), (0, 0, 0), "max")
    pull, _ = make_vjp(partial(vtnp.mvit.pool, pooling=window))(np.ones((1, 1, 2, 1)))
    assert pull(np.ones((1, 1, 1, 1))).ravel().tolist() == [0.5, 0.5]


# --- A whole model --------------------------------------------------------------------------------

CONFIG = MViTConfig(
    frames=5, image=(12, 8), stem=(3, 3, 3), stem_stride=(1, 2, 2), stem_padding=(1, 1, 1), d=4,
    stages=(1, 2, 1), stride_kv=(1, 4, 4), mlp_ratio=2, classes=3,
)  # fmt: skip


def whole():
    """Stem, positions, blocks, norm and head, under the names of the package's own model."""
    from pytorchvideo.layers.positional_encoding import SpatioTemporalClsPositionalEncoding

    stem = torch.nn.Conv3d(
        CONFIG.channels, CONFIG.d, CONFIG.stem, CONFIG.stem_stride, CONFIG.stem_padding
    )
    positions = SpatioTemporalClsPositionalEncoding(CONFIG.d, CONFIG.grid, sep_pos_embed=True)
    blocks = torch.nn.ModuleList(
        peer_block(
            dim=block.d,
            dim_out=block.d_out,
            num_heads=block.heads,
            mlp_ratio=CONFIG.mlp_ratio,
            qkv_bias=True,
            kernel_q=block.pool_q.size or ONE,
            kernel_kv=block.pool_kv.size,
            stride_q=block.pool_q.stride,
            stride_kv=block.pool_kv.stride,
        )
        for block in CONFIG.blocks
    )
    last = CONFIG.blocks[-1].d_out
    norm, head = torch.nn.LayerNorm(last, eps=1e-6), torch.nn.Linear(last, CONFIG.classes)
    modules = {
        "patch_embed": torch.nn.ModuleDict({"patch_model": stem}),
        "cls_positional_encoding": positions,
        "blocks": blocks,
        "norm_embed": norm,
        "head": torch.nn.ModuleDict({"proj": head}),
    }
    return randomised(torch.nn.ModuleDict(modules))


def logits_of(peer, pixels):
    x = peer["patch_embed"]["patch_model"](pixels).flatten(2).transpose(1, 2)
    x, grid = peer["cls_positional_encoding"](x), list(CONFIG.grid)
    for block in peer["blocks"]:
        x, grid = block(x, grid)
    return peer["head"]["proj"](peer["norm_embed"](x)[:, 0])


def params_of(weights):
    return from_published("mvit", CONFIG, "pytorchvideo", weights)


def test_whole_model_and_every_gradient():
    peer, rng = whole(), np.random.default_rng(1)
    video = rng.standard_normal((2, CONFIG.frames, *CONFIG.image, CONFIG.channels))
    pixels = torch.tensor(np.moveaxis(video, -1, 1).copy(), requires_grad=True)
    logits = logits_of(peer, pixels)
    cotangent = rng.standard_normal(logits.shape)
    logits.backward(torch.tensor(cotangent))

    def value(tree):
        weights = {name: each for name, each in tree.items() if name != "x"}
        return apply(params_of(weights), tree["x"], CONFIG)

    vtnp_side = autograd_side(value, arrays_of(peer) | {"x": video}, cotangent)
    peer_gradients = gradients_of(peer) | {"x": np.moveaxis(pixels.grad.numpy(), 1, -1)}
    assert_same_side(vtnp_side, (logits.detach().numpy(), peer_gradients))


def test_the_model_on_tensors():
    peer, rng = whole(), np.random.default_rng(1)
    video = rng.standard_normal((2, CONFIG.frames, *CONFIG.image, CONFIG.channels))
    assert_runs_on_tensors(apply, params_of(arrays_of(peer)), video, CONFIG)


# --- torchvision's own ----------------------------------------------------------------------------

torchvision = installed("torchvision")


CONFIG_OF_TORCHVISION = replace(
    CONFIG,
    frames=6,
    image=(16, 16),
    stem=(3, 7, 7),
    stem_stride=(2, 4, 4),
    stem_padding=(1, 3, 3),
    mlp_ratio=4,
)


def whole_of_torchvision():
    from torchvision.models.video.mvit import MSBlockConfig, MViT

    config = CONFIG_OF_TORCHVISION
    blocks = [
        MSBlockConfig(
            num_heads=block.heads,
            input_channels=block.d,
            output_channels=block.d_out,
            kernel_q=list(block.pool_q.size or ()),
            kernel_kv=list(block.pool_kv.size),
            stride_q=list(block.pool_q.stride if block.pool_q.size else ()),
            stride_kv=list(block.pool_kv.stride),
        )
        for block in config.blocks
    ]
    peer = MViT(
        spatial_size=config.image,
        temporal_size=config.frames,
        block_setting=blocks,
        residual_pool=False,
        residual_with_cls_embed=True,
        rel_pos_embed=False,
        proj_after_attn=False,
        num_classes=config.classes,
    )
    return randomised(peer)


@needs(torchvision, "torchvision")
def test_torchvisions_whole_model():
    config, peer = CONFIG_OF_TORCHVISION, whole_of_torchvision()
    weights = {name: x.numpy() for name, x in peer.state_dict().items()}
    video = np.random.default_rng(1).standard_normal((2, config.frames, *config.image, 3))
    logits = peer(torch.tensor(np.moveaxis(video, -1, 1).copy())).detach().numpy()
    params = from_published("mvit", config, "torchvision", weights)
    assert_close(apply(params, video, config), logits)
