"""TimeSformer: the names of the released code, and those of HuggingFace's port."""

from vtnp.checkpoints.mapping import CheckpointLayout
from vtnp.checkpoints.tensors import (
    Part,
    PublishedTensor,
    attention,
    feed_forward,
    linear,
    norm,
    single,
)
from vtnp.models.timesformer import TimeSformerConfig

_EMBEDDING = "d c p_h p_w -> (p_h p_w c) d"


def _positions(name: str) -> PublishedTensor:
    """Return a table whose first row is the class token's."""
    return PublishedTensor(
        name, (Part("e_cls", "1 1 d -> d"), Part("e_space", "1 s d -> s d")), axis=1
    )


# The released code has the schemes space, joint and divided only. In divided layers norm1 and attn
# are the sublayer in space; in the others they belong to the layer itself.
_OFFICIAL = (
    single("cls_token", "cls", "1 1 d -> d"),
    _positions("pos_embed"),
    single("time_embed", "e_time", "1 t d -> t d"),
    single("patch_embed.proj.weight", "embedding.E", _EMBEDDING),
    single("patch_embed.proj.bias", "embedding.bias", "d -> d"),
    *norm("blocks.{i}.temporal_norm1", "layers.{i}.time.norm_1"),
    *attention(
        {"qkv": "blocks.{i}.temporal_attn.qkv", "c": "blocks.{i}.temporal_attn.proj"},
        "layers.{i}.time.attention",
    ),
    *linear("blocks.{i}.temporal_fc", "layers.{i}.time.fc"),
    *(
        each
        for sublayer in ("layers.{i}", "layers.{i}.space")
        for each in (
            *norm("blocks.{i}.norm1", f"{sublayer}.norm_1"),
            *attention(
                {"qkv": "blocks.{i}.attn.qkv", "c": "blocks.{i}.attn.proj"}, f"{sublayer}.attention"
            ),
        )
    ),
    *norm("blocks.{i}.norm2", "layers.{i}.norm_2"),
    *feed_forward("blocks.{i}.mlp.fc1", "blocks.{i}.mlp.fc2", "layers.{i}.feed_forward"),
    *norm("norm", "norm"),
    *linear("head", "head"),
)

# HuggingFace's port renames the tensors and changes none.
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
    f"blocks.{{i}}.{official}": f"timesformer.encoder.layer.{{i}}.{renamed}"
    for official, renamed in _RENAMED_IN_LAYERS.items()
}


def _renamed(name: str) -> str:
    if name in _NAMES:
        return _NAMES[name]
    front, _, kind = name.rpartition(".")
    return f"{_NAMES[front]}.{kind}"


_HUGGINGFACE = tuple(each._replace(name=_renamed(each.name)) for each in _OFFICIAL)


def _sizes(config: TimeSformerConfig) -> dict[str, int]:
    return {"c": config.channels, "p_h": config.patch, "p_w": config.patch}


def official(config: TimeSformerConfig) -> CheckpointLayout:
    """Return the layout of facebookresearch/TimeSformer, files .pyth with the prefix "model."."""
    return CheckpointLayout(_OFFICIAL, _sizes(config), prefixes=("model.",))


def huggingface(config: TimeSformerConfig) -> CheckpointLayout:
    """Return the layout of transformers' TimesformerForVideoClassification."""
    return CheckpointLayout(_HUGGINGFACE, _sizes(config))


LAYOUTS = {"official": official, "huggingface": huggingface}
