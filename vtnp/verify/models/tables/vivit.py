"""ViViT: HuggingFace's port, under both its names; and scenic, whose names flax joins by "/"."""

from collections.abc import Mapping
from typing import NamedTuple

from vtnp.verify.models.tables.template import filled

_BLOCK = """
{norm1}:in = {block}.norm_1.input
{norm1}    = {block}.norm_1
{attn}{q}  = {block}.q : b n (heads d_h) -> b heads n d_h
{attn}{k}  = {block}.k : b n (heads d_h) -> b heads n d_h
{attn}{v}  = {block}.v : b n (heads d_h) -> b heads n d_h
{attn}:1   = {block}.weights
{proj}:in  = {block}.context : b n (heads d_h) -> b heads n d_h
{proj}     = {block}.attention_output
{norm2}:in = {block}.norm_2.input
{norm2}    = {block}.norm_2
{fc1}      = {block}.pre_activation
{fc2}:in   = {block}.hidden
{fc2}      = {block}.feed_forward
"""


def _ported(layer: str, words: Mapping[str, str]) -> str:
    words = {word: f"{{layer}}.{name}" for word, name in words.items()}
    letters = {letter: f".{words.pop(letter).removeprefix('{layer}.')}" for letter in "qkv"}
    known = {**words, **letters, "layer": layer, "block": "encoder.layers.{i}"}
    return f"""
input = b t h w c -> b t c h w
vivit.embeddings.patch_embeddings.projection = embedding : b d t h w -> b t (h w) d
{filled(_BLOCK, known)}
vivit.layernorm:in = encoder.norm.input
vivit.layernorm = encoder.norm
classifier = logits
"""


_NORMS = {"norm1": "layernorm_before", "norm2": "layernorm_after"}
_HUGGINGFACE = _ported(
    "vivit.layers.{i}",
    _NORMS
    | {f"{letter}": f"{letter}_proj" for letter in "qkv"}
    | {"attn": "attention", "proj": "attention.o_proj", "fc1": "mlp.fc1", "fc2": "mlp.fc2"},
)
_HUGGINGFACE_4 = _ported(
    "vivit.encoder.layer.{i}",
    _NORMS
    | {"q": "query", "k": "key", "v": "value"}
    | {"attn": "attention.attention", "proj": "attention.output.dense"}
    | {"fc1": "intermediate.dense", "fc2": "output.dense"},
)

# --- Scenic ---------------------------------------------------------------------------------------

_ATTENTION = """
{norm} = {block}.norm_1 : {tokens} d -> {normed} d
{attn}/query = {block}.q : {tokens} heads d_h -> {heads} d_h
{attn}/key   = {block}.k : {tokens} heads d_h -> {heads} d_h
{attn}/value = {block}.v : {tokens} heads d_h -> {heads} d_h
{attn}/out   = {block}.attention_output : {tokens} d -> {ours} d
"""
_NETWORK = """
{norm}        = {block}.norm_2       : {tokens} d -> {ours} d
{mlp}/Dense_0 = {block}.pre_activation : {tokens} d -> {ours} d
{mlp}/Dense_1 = {block}.feed_forward : {tokens} d -> {ours} d
"""
_ENDS = """
embedding         = embedding : b t h w d -> b t (h w) d
output_projection = logits
"""


class _Axes(NamedTuple):
    """The axes of scenic's tokens, of ours, of our heads, and of our tokens after norm_1."""

    tokens: str = "b n"
    ours: str = "b n"
    heads: str = "b heads n"
    normed: str = "b n"


_SEQUENCE = _Axes()
_GRID = _Axes("b t s", "b t s")
_FLAT = _Axes("b (t s)", "b t s")


def _encoder(
    module: str, ours: str, of_attention: _Axes = _SEQUENCE, of_network: _Axes = _SEQUENCE
) -> str:
    """Write an encoder of models 1, 2 or 4; ours: the name of our encoder."""
    block, layer = f"{module}/encoderblock_{{i}}", f"{ours}.layers.{{i}}"
    attention = {
        "norm": f"{block}/LayerNorm_0", "attn": f"{block}/MultiHeadDotProductAttention_0"
    }  # fmt: skip
    network = {"norm": f"{block}/LayerNorm_1", "mlp": f"{block}/MlpBlock_0"}
    return (
        filled(_ATTENTION, {**attention, "block": layer, **of_attention._asdict()})
        + filled(_NETWORK, {**network, "block": layer, **of_network._asdict()})
        + f"{module}/encoder_norm = {ours}.norm\n"
    )


def _attention_along(axis: str, axes: _Axes) -> str:
    """Write the attention of one sublayer in model 3."""
    block = "Transformer/encoderblock_{i}"
    words = {
        "norm": f"{block}/LayerNorm_{axis}",
        "attn": f"{block}/MultiHeadDotProductAttention_{axis}",
        "block": f"encoder.layers.{{i}}.{axis}",
    }
    return filled(_ATTENTION, {**words, **axes._asdict()})


def _two_sublayers() -> str:
    """Write the encoder of model 3, which attends along time and along space."""
    words = {
        "norm": "Transformer/encoderblock_{i}/LayerNorm_mlp",
        "mlp": "Transformer/encoderblock_{i}/MlpBlock",
        "block": "encoder.layers.{i}",
    }
    return (
        _attention_along("time", _Axes("(b s) t", "b s t", "b s heads t", "b s t"))
        + _attention_along("space", _Axes("(b t) s", "b t s", "b t heads s", "b t s"))
        + filled(_NETWORK, {**words, **_FLAT._asdict()})
    )


_NORM_OF_GRID = "Transformer/encoder_norm = encoder.norm : b (t s) d -> b t s d\n"
_DOT_PRODUCT = _Axes("b t s", "b (t s)", "b heads (t s)", "b t s")
# The first encoder of model 2 runs under a vmap, where flax shows none of its values.
_OFFICIAL = {
    "spatio-temporal": _ENDS + _encoder("Transformer", "encoder"),
    "factorised-encoder": _ENDS + _encoder("TemporalTransformer", "encoder.time"),
    "factorised-self-attention": _ENDS + _two_sublayers() + _NORM_OF_GRID,
    "factorised-dot-product": _ENDS
    + _NORM_OF_GRID
    + _encoder("Transformer", "encoder", _DOT_PRODUCT, _GRID),
}

TABLES: Mapping[str, tuple[str | Mapping[str, str], str]] = {
    "huggingface": (_HUGGINGFACE, "vivit."),
    "huggingface-4": (_HUGGINGFACE_4, "vivit."),
    "official": (_OFFICIAL, ""),
}
