"""MViT: the released code of SlowFast, pytorchvideo, and torchvision's mvit_v1_b."""

from collections.abc import Mapping
from dataclasses import dataclass

from vtnp.checkpoints.mapping import CheckpointLayout
from vtnp.checkpoints.tensors import (
    PublishedTensor,
    attention,
    feed_forward,
    linear,
    norm,
    prefixed,
    single,
)
from vtnp.models.mvit import MViTConfig


@dataclass(frozen=True)
class _Names:
    """What the three publishers call their modules; {x} is q, k or v."""

    stem: str
    cls: str
    e_cls: str
    e_space: str
    e_time: str
    attention: Mapping[str, str]
    kernel: str
    kernel_norm: str
    network: tuple[str, str]
    shortcut: str
    norm: str
    head: str
    # Axes of a single entry, which torchvision's tables lack.
    single_axes: str = "1 "
    # Where pytorchvideo has a copy of each pooling.
    pooling_copy: str = ""


def _tensors(names: _Names) -> tuple[PublishedTensor, ...]:
    one, layer = names.single_axes, "layers.{i}"
    return (
        single(f"{names.stem}.weight", "embedding.kernel", "d c t h w -> t h w c d"),
        single(f"{names.stem}.bias", "embedding.bias", "d -> d"),
        single(names.cls, "cls", f"{one}{one}d -> d"),
        single(names.e_cls, "e_cls", f"{one}{one}d -> d"),
        single(names.e_space, "e_space", f"{one}s d -> s d"),
        single(names.e_time, "e_time", f"{one}t d -> t d"),
        *prefixed(
            "blocks.{i}.",
            [
                *norm("norm1", f"{layer}.norm_1"),
                *attention(names.attention, f"{layer}.attention"),
                *(each for letter in "qkv" for each in _pooling(names, letter)),
                *norm("norm2", f"{layer}.norm_2"),
                *feed_forward(*names.network, f"{layer}.feed_forward"),
                *linear(names.shortcut, f"{layer}.shortcut"),
            ],
        ),
        *norm(names.norm, "norm"),
        *linear(names.head, "head"),
    )


def _pooling(names: _Names, letter: str) -> list[PublishedTensor]:
    """Return a depthwise convolution, which the heads share, and the norm after it."""
    path = "layers.{i}.attention"
    kernel, after = (name.format(x=letter) for name in (names.kernel, names.kernel_norm))
    tensors = [
        single(f"{kernel}.weight", f"{path}.kernel_{letter}", "d_h 1 t h w -> t h w d_h"),
        *norm(after, f"{path}.norm_{letter}"),
    ]
    if not names.pooling_copy:
        return tensors
    copy = names.pooling_copy.format(x=letter)
    names_of_copies = (f"{copy}.pool.weight", f"{copy}.norm.weight", f"{copy}.norm.bias")
    pairs = zip(tensors, names_of_copies, strict=True)
    return [each._replace(copies=(name,)) for each, name in pairs]


_OFFICIAL = _Names(
    stem="patch_embed.proj",
    cls="cls_token",
    e_cls="pos_embed_class",
    e_space="pos_embed_spatial",
    e_time="pos_embed_temporal",
    attention={"qkv": "attn.qkv", "c": "attn.proj"},
    kernel="attn.pool_{x}",
    kernel_norm="attn.norm_{x}",
    network=("mlp.fc1", "mlp.fc2"),
    shortcut="proj",
    norm="norm",
    head="head.projection",
)
_PYTORCHVIDEO = _Names(
    stem="patch_embed.patch_model",
    cls="cls_positional_encoding.cls_token",
    e_cls="cls_positional_encoding.pos_embed_class",
    e_space="cls_positional_encoding.pos_embed_spatial",
    e_time="cls_positional_encoding.pos_embed_temporal",
    attention={"q": "attn.q", "k": "attn.k", "v": "attn.v", "c": "attn.proj"},
    kernel="attn.pool_{x}",
    kernel_norm="attn.norm_{x}",
    network=("mlp.fc1", "mlp.fc2"),
    shortcut="proj",
    norm="norm_embed",
    head="head.proj",
    pooling_copy="attn._attention_pool_{x}",
)
_TORCHVISION = _Names(
    stem="conv_proj",
    cls="pos_encoding.class_token",
    e_cls="pos_encoding.class_pos",
    e_space="pos_encoding.spatial_pos",
    e_time="pos_encoding.temporal_pos",
    attention={"qkv": "attn.qkv", "c": "attn.project.0"},
    kernel="attn.pool_{x}.pool",
    kernel_norm="attn.pool_{x}.norm_act.0",
    network=("mlp.0", "mlp.3"),
    shortcut="project",
    norm="norm",
    head="head.1",
    single_axes="",
)
_OF_OFFICIAL, _OF_PYTORCHVIDEO, _OF_TORCHVISION = map(
    _tensors, (_OFFICIAL, _PYTORCHVIDEO, _TORCHVISION)
)


def official(_: MViTConfig) -> CheckpointLayout:
    """Return the layout of facebookresearch/SlowFast, queries, keys and values in one tensor."""
    return CheckpointLayout(_OF_OFFICIAL)


def pytorchvideo(_: MViTConfig) -> CheckpointLayout:
    """Return the layout of pytorchvideo.

    Since its last release its repository has every pooling under two names. Either is enough; where
    both are present, their numbers must agree. The first is the one that is written.
    """
    return CheckpointLayout(_OF_PYTORCHVIDEO)


def torchvision(_: MViTConfig) -> CheckpointLayout:
    """Return the layout of torchvision's mvit_v1_b."""
    return CheckpointLayout(_OF_TORCHVISION)


LAYOUTS = {"official": official, "pytorchvideo": pytorchvideo, "torchvision": torchvision}
