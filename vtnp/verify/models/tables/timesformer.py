"""TimeSformer: HuggingFace's port and the released code.

The sublayers in time and space are those of divided attention; the norm_1 and the attention of the
layer itself are those of joint attention, whose tokens the candidate orders differently.
"""

from collections.abc import Mapping

from vtnp.verify.models.tables.template import filled

_BLOCK = """
{temporal_norm}:in    = layers.{i}.time.norm_1.input : (b s) t d -> b t s d
{temporal_norm}       = layers.{i}.time.norm_1       : (b s) t d -> b t s d
{temporal_attn}{qkv}  = layers.{i}.time.q : (b s) t (three[0] heads d_h) -> b heads (t s) d_h
{temporal_attn}{qkv}  = layers.{i}.time.k : (b s) t (three[1] heads d_h) -> b heads (t s) d_h
{temporal_attn}{qkv}  = layers.{i}.time.v : (b s) t (three[2] heads d_h) -> b heads (t s) d_h
{temporal_attn}{drop}:in = layers.{i}.time.weights : (b s) heads t u -> b heads s t u
{temporal_attn}{proj}:in = layers.{i}.time.context : (b s) t (heads d_h) -> b heads (t s) d_h
{temporal_attn}{proj} = layers.{i}.time.attention_output : (b s) t d -> b (t s) d
{temporal_fc}         = layers.{i}.time.fc : b (s t) d -> b t s d
{norm1}:in            = layers.{i}.space.norm_1.input : (b t) s[1:] d -> b t s d
{norm1}               = layers.{i}.space.norm_1       : (b t) s[1:] d -> b t s d
{norm1}:in            = layers.{i}.space.norm_1.input.cls : (b t[0]) n[0] d -> b 1 d
{norm1}               = layers.{i}.space.norm_1.cls       : (b t[0]) n[0] d -> b 1 d
{attn}{qkv}     = layers.{i}.space.q : (b t) s[1:] (three[0] heads d_h) -> b heads (t s) d_h
{attn}{qkv}     = layers.{i}.space.k : (b t) s[1:] (three[1] heads d_h) -> b heads (t s) d_h
{attn}{qkv}     = layers.{i}.space.v : (b t) s[1:] (three[2] heads d_h) -> b heads (t s) d_h
{attn}{qkv}     = layers.{i}.space.q.cls : (b t[0]) n[0] (three[0] heads d_h) -> b heads 1 d_h
{attn}{qkv}     = layers.{i}.space.k.cls : (b t[0]) n[0] (three[1] heads d_h) -> b heads 1 d_h
{attn}{qkv}     = layers.{i}.space.v.cls : (b t[0]) n[0] (three[2] heads d_h) -> b heads 1 d_h
{attn}{drop}:in = layers.{i}.space.weights : (b t) heads s[1:] m -> b heads t s m
{attn}{drop}:in = layers.{i}.space.weights.cls : (b t) heads s[0] m -> b heads t 1 m
{attn}{proj}:in = layers.{i}.space.context : (b t) s[1:] (heads d_h) -> b heads (t s) d_h
{attn}{proj}:in = layers.{i}.space.context.cls : (b t[mean]) n[0] (heads d_h) -> b heads 1 d_h
{attn}{proj}    = layers.{i}.space.attention_output : (b t) s[1:] d -> b (t s) d
{attn}{proj}    = layers.{i}.space.attention_output.cls : (b t[mean]) n[0] d -> b 1 d
{norm1}:in      = layers.{i}.norm_1.input : b (s t)[1:] d -> b t s d
{norm1}         = layers.{i}.norm_1       : b (s t)[1:] d -> b t s d
{norm1}:in      = layers.{i}.norm_1.input.cls : b n[0] d -> b 1 d
{norm1}         = layers.{i}.norm_1.cls       : b n[0] d -> b 1 d
{attn}{qkv}     = layers.{i}.q : b (s t)[1:] (three[0] heads d_h) -> b heads (t s) d_h
{attn}{qkv}     = layers.{i}.k : b (s t)[1:] (three[1] heads d_h) -> b heads (t s) d_h
{attn}{qkv}     = layers.{i}.v : b (s t)[1:] (three[2] heads d_h) -> b heads (t s) d_h
{attn}{qkv}     = layers.{i}.q.cls : b n[0] (three[0] heads d_h) -> b heads 1 d_h
{attn}{qkv}     = layers.{i}.k.cls : b n[0] (three[1] heads d_h) -> b heads 1 d_h
{attn}{qkv}     = layers.{i}.v.cls : b n[0] (three[2] heads d_h) -> b heads 1 d_h
{attn}{proj}:in = layers.{i}.context : b (s t)[1:] (heads d_h) -> b heads (t s) d_h
{attn}{proj}:in = layers.{i}.context.cls : b n[0] (heads d_h) -> b heads 1 d_h
{attn}{proj}    = layers.{i}.attention_output : b (s t)[1:] d -> b (t s) d
{attn}{proj}    = layers.{i}.attention_output.cls : b n[0] d -> b 1 d
{norm2}:in      = layers.{i}.norm_2.input : b (s t)[1:] d -> b t s d
{norm2}         = layers.{i}.norm_2       : b (s t)[1:] d -> b t s d
{norm2}:in      = layers.{i}.norm_2.input.cls : b n[0] d -> b 1 d
{norm2}         = layers.{i}.norm_2.cls       : b n[0] d -> b 1 d
{fc1}           = layers.{i}.pre_activation      : b (s t)[1:] d -> b t s d
{fc1}           = layers.{i}.pre_activation.cls  : b n[0] d -> b 1 d
{fc2}:in        = layers.{i}.hidden       : b (s t)[1:] d -> b t s d
{fc2}:in        = layers.{i}.hidden.cls   : b n[0] d -> b 1 d
{fc2}           = layers.{i}.feed_forward : b (s t)[1:] d -> b t s d
{fc2}           = layers.{i}.feed_forward.cls : b n[0] d -> b 1 d
"""

_HUGGINGFACE = (
    """
input = b t h w c -> b t c h w
timesformer.embeddings.patch_embeddings.projection = embedding : (b t) d h w -> b t (h w) d
timesformer.embeddings = tokens : b (s t)[1:] d -> b t s d
"""
    + filled(
        _BLOCK,
        {
            "temporal_norm": "{layer}.temporal_layernorm",
            "temporal_attn": "{layer}.temporal_attention.",
            "temporal_fc": "{layer}.temporal_dense",
            "norm1": "{layer}.layernorm_before",
            "attn": "{layer}.attention.",
            "qkv": "attention.qkv",
            "drop": "attention.attn_drop",
            "proj": "output.dense",
            "norm2": "{layer}.layernorm_after",
            "fc1": "{layer}.intermediate.dense",
            "fc2": "{layer}.output.dense",
            "layer": "timesformer.encoder.layer.{i}",
        },
    )
    + """
timesformer.layernorm:in = norm.input : b n[0] d -> b d
timesformer.layernorm = norm : b n[0] d -> b d
classifier = logits
"""
)

_OFFICIAL = (
    """
input = b t h w c -> b c t h w
patch_embed.proj = embedding : (b t) d h w -> b t (h w) d
time_drop = tokens : (b s) t d -> b t s d
"""
    + filled(
        _BLOCK,
        {
            "temporal_norm": "{layer}.temporal_norm1",
            "temporal_attn": "{layer}.temporal_attn.",
            "temporal_fc": "{layer}.temporal_fc",
            "norm1": "{layer}.norm1",
            "attn": "{layer}.attn.",
            "qkv": "qkv",
            "drop": "attn_drop",
            "proj": "proj",
            "norm2": "{layer}.norm2",
            "fc1": "{layer}.mlp.fc1",
            "fc2": "{layer}.mlp.fc2",
            "layer": "blocks.{i}",
        },
    )
    + """
norm:in = norm.input : b n[0] d -> b d
norm = norm : b n[0] d -> b d
head = logits
"""
)

TABLES: Mapping[str, tuple[str, str]] = {
    "huggingface": (_HUGGINGFACE, "timesformer."),
    "official": (_OFFICIAL, "model."),
}
