"""MViT: the released code of SlowFast, pytorchvideo, and torchvision's mvit_v1_b."""

from collections.abc import Mapping
from dataclasses import dataclass

from vtnp.checkpoints.mapping import Layout
from vtnp.checkpoints.rows import Row, attention, feed_forward, linear, norm, row, under
from vtnp.models.mvit import MViTConfig


@dataclass(frozen=True)
class _Names:
    """What the three call their modules; {x} is q, k or v."""

    stem: str
    cls: str
    e_cls: str
    e_space: str
    e_time: str
    attention: Mapping[str, str]
    kernel: str
    kernel_norm: str
    network: tuple[str, str]
    widening: str
    norm: str
    head: str
    # torchvision's tables have no axes of a single entry.
    axes: str = "1 "
    # Where pytorchvideo has each pooling once more.
    twice: str = ""


def _rows(names: _Names) -> tuple[Row, ...]:
    one, here = names.axes, "layers.{i}"
    return (
        row(f"{names.stem}.weight", "embedding.kernel", "d c t h w -> t h w c d"),
        row(f"{names.stem}.bias", "embedding.bias", "d -> d"),
        row(names.cls, "cls", f"{one}{one}d -> d"),
        row(names.e_cls, "e_cls", f"{one}{one}d -> d"),
        row(names.e_space, "e_space", f"{one}s d -> s d"),
        row(names.e_time, "e_time", f"{one}t d -> t d"),
        *under(
            "blocks.{i}.",
            [
                *norm("norm1", f"{here}.norm_1"),
                *attention(names.attention, f"{here}.attention"),
                *(each for letter in "qkv" for each in _pooling(names, letter)),
                *norm("norm2", f"{here}.norm_2"),
                *feed_forward(*names.network, f"{here}.feed_forward"),
                *linear(names.widening, f"{here}.shortcut"),
            ],
        ),
        *norm(names.norm, "norm"),
        *linear(names.head, "head"),
    )


def _pooling(names: _Names, letter: str) -> list[Row]:
    """Write a depthwise convolution, which the heads share, and the norm behind it."""
    here = "layers.{i}.attention"
    kernel, behind = (name.format(x=letter) for name in (names.kernel, names.kernel_norm))
    rows = [
        row(f"{kernel}.weight", f"{here}.kernel_{letter}", "d_h 1 t h w -> t h w d_h"),
        *norm(behind, f"{here}.norm_{letter}"),
    ]
    if not names.twice:
        return rows
    again = names.twice.format(x=letter)
    second = (f"{again}.pool.weight", f"{again}.norm.weight", f"{again}.norm.bias")
    return [each._replace(copies=(copy,)) for each, copy in zip(rows, second, strict=True)]


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
    widening="proj",
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
    widening="proj",
    norm="norm_embed",
    head="head.proj",
    twice="attn._attention_pool_{x}",
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
    widening="project",
    norm="norm",
    head="head.1",
    axes="",
)
_ROWS_OFFICIAL, _ROWS_PYTORCHVIDEO, _ROWS_TORCHVISION = map(
    _rows, (_OFFICIAL, _PYTORCHVIDEO, _TORCHVISION)
)


def official(_: MViTConfig) -> Layout:
    """Return the layout of facebookresearch/SlowFast, queries, keys and values in one tensor."""
    return Layout(_ROWS_OFFICIAL)


def pytorchvideo(_: MViTConfig) -> Layout:
    """Return the layout of pytorchvideo.

    Notes: since its last release its repository has every pooling under a second name. Either will
    do; where both are there they must be the same numbers. The first is what is written.
    """
    return Layout(_ROWS_PYTORCHVIDEO)


def torchvision(_: MViTConfig) -> Layout:
    """Return the layout of torchvision's mvit_v1_b."""
    return Layout(_ROWS_TORCHVISION)


LAYOUTS = {"official": official, "pytorchvideo": pytorchvideo, "torchvision": torchvision}
