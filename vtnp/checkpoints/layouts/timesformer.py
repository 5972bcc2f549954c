"""TimeSformer: the released code's names, and those of HuggingFace's port."""

from vtnp.checkpoints.mapping import Layout
from vtnp.checkpoints.rows import Part, Row, attention, feed_forward, linear, norm, row
from vtnp.models.timesformer import TimeSformerConfig

_EMBEDDING = "d c p_h p_w -> (p_h p_w c) d"


def _positions(name: str) -> Row:
    """Write a table whose first row is the class token's."""
    return Row(name, (Part("e_cls", "1 1 d -> d"), Part("e_space", "1 s d -> s d")), axis=1)


# The released code has the steps of these schemes only. Of the divided one norm1 and attn are the
# step in space; in the others they stand in the layer itself.
_OFFICIAL = (
    row("cls_token", "cls", "1 1 d -> d"),
    _positions("pos_embed"),
    row("time_embed", "e_time", "1 t d -> t d"),
    row("patch_embed.proj.weight", "embedding.E", _EMBEDDING),
    row("patch_embed.proj.bias", "embedding.bias", "d -> d"),
    *norm("blocks.{i}.temporal_norm1", "layers.{i}.time.norm_1"),
    *attention(
        {"qkv": "blocks.{i}.temporal_attn.qkv", "c": "blocks.{i}.temporal_attn.proj"},
        "layers.{i}.time.attention",
    ),
    *linear("blocks.{i}.temporal_fc", "layers.{i}.time.fc"),
    *(
        each
        for step in ("layers.{i}", "layers.{i}.space")
        for each in (
            *norm("blocks.{i}.norm1", f"{step}.norm_1"),
            *attention(
                {"qkv": "blocks.{i}.attn.qkv", "c": "blocks.{i}.attn.proj"}, f"{step}.attention"
            ),
        )
    ),
    *norm("blocks.{i}.norm2", "layers.{i}.norm_2"),
    *feed_forward("blocks.{i}.mlp.fc1", "blocks.{i}.mlp.fc2", "layers.{i}.feed_forward"),
    *norm("norm", "norm"),
    *linear("head", "head"),
)

# HuggingFace's port keeps every tensor as it is and renames them.
_RENAMED = {
    "cls_token": "timesformer.embeddings.cls_token",
    "pos_embed": "timesformer.embeddings.position_embeddings",
    "time_embed": "timesformer.embeddings.time_embeddings",
    "patch_embed.proj": "timesformer.embeddings.patch_embeddings.projection",
    "norm": "timesformer.layernorm",
    "head": "classifier",
}
_RENAMED_IN_LAYERS = {
    "norm1": "layernorm_before",
    "attn.qkv": "attention.attention.qkv",
    "attn.proj": "attention.output.dense",
    "temporal_norm1": "temporal_layernorm",
    "temporal_attn.qkv": "temporal_attention.attention.qkv",
    "temporal_attn.proj": "temporal_attention.output.dense",
    "temporal_fc": "temporal_dense",
    "norm2": "layernorm_after",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}
_NAMES = _RENAMED | {
    f"blocks.{{i}}.{theirs}": f"timesformer.encoder.layer.{{i}}.{new}"
    for theirs, new in _RENAMED_IN_LAYERS.items()
}


def _renamed(name: str) -> str:
    if name in _NAMES:
        return _NAMES[name]
    front, _, kind = name.rpartition(".")
    return f"{_NAMES[front]}.{kind}"


_HUGGINGFACE = tuple(each._replace(name=_renamed(each.name)) for each in _OFFICIAL)


def _sizes(config: TimeSformerConfig) -> dict[str, int]:
    return {"c": config.channels, "p_h": config.patch, "p_w": config.patch}


def official(config: TimeSformerConfig) -> Layout:
    """Return the layout of facebookresearch/TimeSformer, files .pyth with names after "model."."""
    return Layout(_OFFICIAL, _sizes(config), prefixes=("model.",))


def huggingface(config: TimeSformerConfig) -> Layout:
    """Return the layout of transformers' TimesformerForVideoClassification."""
    return Layout(_HUGGINGFACE, _sizes(config))


LAYOUTS = {"official": official, "huggingface": huggingface}
