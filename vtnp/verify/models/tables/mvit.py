"""MViT: the released code of SlowFast, pytorchvideo, and torchvision's mvit_v1_b.

The class token is the first of the sequence in all of them, as in ours.
"""

from collections.abc import Mapping

from vtnp.verify.models.tables.template import filled

_FUSED = """
blocks.{i}.attn.qkv = layers.{i}.q : b n (three[0] heads d_h) -> b heads n d_h
blocks.{i}.attn.qkv = layers.{i}.k : b n (three[1] heads d_h) -> b heads n d_h
blocks.{i}.attn.qkv = layers.{i}.v : b n (three[2] heads d_h) -> b heads n d_h
"""
_APART = """
blocks.{i}.attn.q = layers.{i}.q : b n (heads d_h) -> b heads n d_h
blocks.{i}.attn.k = layers.{i}.k : b n (heads d_h) -> b heads n d_h
blocks.{i}.attn.v = layers.{i}.v : b n (heads d_h) -> b heads n d_h
"""
_POOLING = "".join(
    f"""
{{pooled_{x}}}:in = layers.{{i}}.attention.norm_{x}.input
{{pooled_{x}}}    = layers.{{i}}.attention.norm_{x}
"""
    for x in "qkv"
)
_MODEL = (
    """
input = {input}
{stem}      = embedding : b d t h w -> b t h w d
{positions} = tokens : b (t s)[1:] d -> b t s d
blocks.{i}.norm1:in = layers.{i}.norm_1.input
blocks.{i}.norm1    = layers.{i}.norm_1
{projections}
"""
    + _POOLING
    + """
{merge}:in          = layers.{i}.context : b n (heads d_h) -> b heads n d_h
{merge}             = layers.{i}.attention_output
blocks.{i}.norm2:in = layers.{i}.norm_2.input
blocks.{i}.norm2    = layers.{i}.norm_2
{fc1}               = layers.{i}.pre_activation
{fc2}:in            = layers.{i}.hidden
{fc2}               = layers.{i}.feed_forward
{widening}          = layers.{i}.shortcut
{norm}:in           = norm.input : b n[0] d -> b d
{norm}              = norm : b n[0] d -> b d
{head}              = logits
"""
)


def _table(projections: str, pooled: str, words: Mapping[str, str]) -> str:
    """Write a table. pooled: the norm behind the pooling of {x}."""
    of_each = {f"pooled_{x}": pooled.replace("{x}", x) for x in "qkv"}
    return filled(_MODEL, {"projections": projections, **of_each, **words})


_VIDEO = "b t h w c -> b c t h w"
_OF_SLOWFAST = {
    "merge": "blocks.{i}.attn.proj",
    "fc1": "blocks.{i}.mlp.fc1",
    "fc2": "blocks.{i}.mlp.fc2",
    "widening": "blocks.{i}.proj",
}
_OFFICIAL = _table(
    _FUSED,
    "blocks.{i}.attn.norm_{x}",
    _OF_SLOWFAST
    | {
        "input": f"[{_VIDEO}]",
        "stem": "patch_embed.proj",
        "positions": "pos_drop",
        "norm": "norm",
        "head": "head.projection",
    },
)
_PYTORCHVIDEO = _table(
    _APART,
    "blocks.{i}.attn.norm_{x}",
    _OF_SLOWFAST
    | {
        "input": _VIDEO,
        "stem": "patch_embed.patch_model",
        "positions": "cls_positional_encoding",
        "norm": "norm_embed",
        "head": "head.proj",
    },
)
_TORCHVISION = _table(
    _FUSED,
    "blocks.{i}.attn.pool_{x}.norm_act.0",
    {
        "input": _VIDEO,
        "stem": "conv_proj",
        "positions": "pos_encoding",
        "merge": "blocks.{i}.attn.project.0",
        "fc1": "blocks.{i}.mlp.0",
        "fc2": "blocks.{i}.mlp.3",
        "widening": "blocks.{i}.project",
        "norm": "norm",
        "head": "head.1",
    },
)

TABLES: Mapping[str, tuple[str, str]] = {
    "official": (_OFFICIAL, "model."),
    "pytorchvideo": (_PYTORCHVIDEO, "model."),
    "torchvision": (_TORCHVISION, "model."),
}
