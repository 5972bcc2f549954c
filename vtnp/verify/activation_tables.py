"""Where published implementations have our quantities: the tables that vtnp brings along."""

from collections.abc import Mapping

from vtnp.verify.activation_names import Names, read

# The steps in time and space are those of the divided scheme; norm_1 and attention that stand in
# the layer itself are the joint one's, whose tokens theirs are in another order.
_TIMESFORMER_BLOCK = """
{temporal_norm}:in    = layers.{i}.time.norm_1.input : (b s) t d -> b t s d
{temporal_norm}       = layers.{i}.time.norm_1       : (b s) t d -> b t s d
{temporal_attn}{qkv}  = layers.{i}.time.q : (b s) t (three[0] heads d_h) -> b heads (t s) d_h
{temporal_attn}{qkv}  = layers.{i}.time.k : (b s) t (three[1] heads d_h) -> b heads (t s) d_h
{temporal_attn}{qkv}  = layers.{i}.time.v : (b s) t (three[2] heads d_h) -> b heads (t s) d_h
{temporal_attn}{drop}:in = layers.{i}.time.weights : (b s) heads t u -> b heads s t u
{temporal_attn}{proj}:in = layers.{i}.time.read : (b s) t (heads d_h) -> b heads (t s) d_h
{temporal_attn}{proj} = layers.{i}.time.merged : (b s) t d -> b (t s) d
{temporal_fc}         = layers.{i}.time.fc : b (s t) d -> b (t s) d
{norm1}:in            = layers.{i}.space.norm_1.input : (b t) s[1:] d -> b t s d
{norm1}               = layers.{i}.space.norm_1       : (b t) s[1:] d -> b t s d
{norm1}:in            = layers.{i}.space.norm_1.input.cls : (b t[0]) n[0] d -> b 1 1 d
{norm1}               = layers.{i}.space.norm_1.cls       : (b t[0]) n[0] d -> b 1 1 d
{attn}{qkv}     = layers.{i}.space.q : (b t) s[1:] (three[0] heads d_h) -> b heads (t s) d_h
{attn}{qkv}     = layers.{i}.space.k : (b t) s[1:] (three[1] heads d_h) -> b heads (t s) d_h
{attn}{qkv}     = layers.{i}.space.v : (b t) s[1:] (three[2] heads d_h) -> b heads (t s) d_h
{attn}{qkv}     = layers.{i}.space.q.cls : (b t[0]) n[0] (three[0] heads d_h) -> b heads 1 d_h
{attn}{qkv}     = layers.{i}.space.k.cls : (b t[0]) n[0] (three[1] heads d_h) -> b heads 1 d_h
{attn}{qkv}     = layers.{i}.space.v.cls : (b t[0]) n[0] (three[2] heads d_h) -> b heads 1 d_h
{attn}{drop}:in = layers.{i}.space.weights : (b t) heads s[1:] m -> b heads t s m
{attn}{drop}:in = layers.{i}.space.weights.cls : (b t) heads s[0] m -> b heads t 1 m
{attn}{proj}:in = layers.{i}.space.read : (b t) s[1:] (heads d_h) -> b heads (t s) d_h
{attn}{proj}:in = layers.{i}.space.read.cls : (b t[mean]) n[0] (heads d_h) -> b heads 1 d_h
{attn}{proj}    = layers.{i}.space.merged : (b t) s[1:] d -> b (t s) d
{attn}{proj}    = layers.{i}.space.merged.cls : (b t[mean]) n[0] d -> b 1 d
{norm1}:in      = layers.{i}.norm_1.input : b (s t)[1:] d -> b t s d
{norm1}         = layers.{i}.norm_1       : b (s t)[1:] d -> b t s d
{norm1}:in      = layers.{i}.norm_1.input.cls : b n[0] d -> b 1 1 d
{norm1}         = layers.{i}.norm_1.cls       : b n[0] d -> b 1 1 d
{attn}{qkv}     = layers.{i}.q : b (s t)[1:] (three[0] heads d_h) -> b heads (t s) d_h
{attn}{qkv}     = layers.{i}.k : b (s t)[1:] (three[1] heads d_h) -> b heads (t s) d_h
{attn}{qkv}     = layers.{i}.v : b (s t)[1:] (three[2] heads d_h) -> b heads (t s) d_h
{attn}{qkv}     = layers.{i}.q.cls : b n[0] (three[0] heads d_h) -> b heads 1 d_h
{attn}{qkv}     = layers.{i}.k.cls : b n[0] (three[1] heads d_h) -> b heads 1 d_h
{attn}{qkv}     = layers.{i}.v.cls : b n[0] (three[2] heads d_h) -> b heads 1 d_h
{attn}{proj}:in = layers.{i}.read : b (s t)[1:] (heads d_h) -> b heads (t s) d_h
{attn}{proj}:in = layers.{i}.read.cls : b n[0] (heads d_h) -> b heads 1 d_h
{attn}{proj}    = layers.{i}.merged : b (s t)[1:] d -> b (t s) d
{attn}{proj}    = layers.{i}.merged.cls : b n[0] d -> b 1 d
{norm2}:in      = layers.{i}.norm_2.input : b (s t)[1:] d -> b t s d
{norm2}         = layers.{i}.norm_2       : b (s t)[1:] d -> b t s d
{norm2}:in      = layers.{i}.norm_2.input.cls : b n[0] d -> b 1 d
{norm2}         = layers.{i}.norm_2.cls       : b n[0] d -> b 1 d
{fc1}           = layers.{i}.widened      : b (s t)[1:] d -> b t s d
{fc1}           = layers.{i}.widened.cls  : b n[0] d -> b 1 d
{fc2}:in        = layers.{i}.hidden       : b (s t)[1:] d -> b t s d
{fc2}:in        = layers.{i}.hidden.cls   : b n[0] d -> b 1 d
{fc2}           = layers.{i}.feed_forward : b (s t)[1:] d -> b t s d
{fc2}           = layers.{i}.feed_forward.cls : b n[0] d -> b 1 d
"""

_VIVIT_BLOCK = """
{norm1}:in = {here}.norm_1.input
{norm1}    = {here}.norm_1
{attn}{q}  = {here}.q : b n (heads d_h) -> b heads n d_h
{attn}{k}  = {here}.k : b n (heads d_h) -> b heads n d_h
{attn}{v}  = {here}.v : b n (heads d_h) -> b heads n d_h
{attn}:1   = {here}.weights
{proj}:in  = {here}.read : b n (heads d_h) -> b heads n d_h
{proj}     = {here}.merged
{norm2}:in = {here}.norm_2.input
{norm2}    = {here}.norm_2
{fc1}      = {here}.widened
{fc2}:in   = {here}.hidden
{fc2}      = {here}.feed_forward
"""

_NYSTROMFORMER_BLOCK = """
{attn}{q}  = {here}.q : b n (heads d_h) -> b heads n d_h
{attn}{k}  = {here}.k : b n (heads d_h) -> b heads n d_h
{attn}{v}  = {here}.v : b n (heads d_h) -> b heads n d_h
{proj}:in  = {here}.read : b n (heads d_h) -> b heads n d_h
{proj}     = {here}.merged
{norm1}:in = {here}.norm_1.input
{norm1}    = {here}.norm_1
{fc1}      = {here}.widened
{fc2}:in   = {here}.hidden
{fc2}      = {here}.feed_forward
{norm2}:in = {here}.norm_2.input
{norm2}    = {here}.norm_2
"""


def _filled(text: str, words: Mapping[str, str]) -> str:
    for word, name in words.items():
        text = text.replace(f"{{{word}}}", name)
    return text


_TIMESFORMER = (
    """
input = b t h w c -> b t c h w
timesformer.embeddings.patch_embeddings.projection = embedding : (b t) d h w -> b t (h w) d
timesformer.embeddings = tokens : b (s t)[1:] d -> b t s d
"""
    + _filled(
        _TIMESFORMER_BLOCK,
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

_TIMESFORMER_OFFICIAL = (
    """
input = b t h w c -> b c t h w
patch_embed.proj = embedding : (b t) d h w -> b t (h w) d
time_drop = tokens : (b s) t d -> b t s d
"""
    + _filled(
        _TIMESFORMER_BLOCK,
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


def _vivit(layer: str, words: Mapping[str, str]) -> str:
    words = {word: f"{{layer}}.{name}" for word, name in words.items()}
    letters = {letter: f".{words.pop(letter).removeprefix('{layer}.')}" for letter in "qkv"}
    known = {**words, **letters, "layer": layer, "here": "encoder.layers.{i}"}
    return f"""
input = b t h w c -> b t c h w
vivit.embeddings.patch_embeddings.projection = embedding : b d t h w -> b t (h w) d
{_filled(_VIVIT_BLOCK, known)}
vivit.layernorm:in = encoder.norm.input
vivit.layernorm = encoder.norm
classifier = logits
"""


_NORMS = {"norm1": "layernorm_before", "norm2": "layernorm_after"}
_VIVIT = _vivit(
    "vivit.layers.{i}",
    _NORMS
    | {f"{letter}": f"{letter}_proj" for letter in "qkv"}
    | {"attn": "attention", "proj": "attention.o_proj", "fc1": "mlp.fc1", "fc2": "mlp.fc2"},
)
_VIVIT_4 = _vivit(
    "vivit.encoder.layer.{i}",
    _NORMS
    | {"q": "query", "k": "key", "v": "value"}
    | {"attn": "attention.attention", "proj": "attention.output.dense"}
    | {"fc1": "intermediate.dense", "fc2": "output.dense"},
)

_NYSTROMFORMER = "call = encoder" + _filled(
    _NYSTROMFORMER_BLOCK,
    {
        "attn": "{layer}.attention.self.",
        "q": "query",
        "k": "key",
        "v": "value",
        "proj": "{layer}.attention.output.dense",
        "norm1": "{layer}.attention.output.LayerNorm",
        "fc1": "{layer}.intermediate.dense",
        "fc2": "{layer}.output.dense",
        "norm2": "{layer}.output.LayerNorm",
        "layer": "encoder.layer.{i}",
        "here": "layers.{i}",
    },
)

_TABLES = {
    ("timesformer", "huggingface"): (_TIMESFORMER, "timesformer."),
    ("timesformer", "official"): (_TIMESFORMER_OFFICIAL, "model."),
    ("vivit", "huggingface"): (_VIVIT, "vivit."),
    ("vivit", "huggingface-4"): (_VIVIT_4, "vivit."),
    ("nystromformer", "huggingface"): (_NYSTROMFORMER, "nystromformer."),
}


def usual(model: str, layout: str) -> Names:
    """Return the table of a layout; without lines where vtnp brings none along."""
    if (model, layout) not in _TABLES:
        return Names(())
    text, prefix = _TABLES[model, layout]
    return read(text, f"{model}, {layout}", Names((), prefixes=(prefix,)))
