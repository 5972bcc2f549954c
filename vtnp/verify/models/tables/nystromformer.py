"""Nyströmformer: the layers of HuggingFace's port and of the released code."""

from collections.abc import Mapping

from vtnp.verify.models.tables.template import filled

_BLOCK = """
{attn}{q}  = {block}.q : b n (heads d_h) -> b heads n d_h
{attn}{k}  = {block}.k : b n (heads d_h) -> b heads n d_h
{attn}{v}  = {block}.v : b n (heads d_h) -> b heads n d_h
{proj}:in  = {block}.context : b n (heads d_h) -> b heads n d_h
{proj}     = {block}.attention_output
{norm1}:in = {block}.norm_1.input
{norm1}    = {block}.norm_1
{fc1}      = {block}.pre_activation
{fc2}:in   = {block}.hidden
{fc2}      = {block}.feed_forward
{norm2}:in = {block}.norm_2.input
{norm2}    = {block}.norm_2
"""

_HUGGINGFACE = "call = encoder" + filled(
    _BLOCK,
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
        "block": "layers.{i}",
    },
)
_OFFICIAL = filled(
    _BLOCK,
    {
        "attn": "{layer}.mha.",
        "q": "W_q",
        "k": "W_k",
        "v": "W_v",
        "proj": "{layer}.mha.ff",
        "norm1": "{layer}.norm1",
        "fc1": "{layer}.ff1",
        "fc2": "{layer}.ff2",
        "norm2": "{layer}.norm2",
        "layer": "transformer_{i}",
        "block": "layers.{i}",
    },
)

TABLES: Mapping[str, tuple[str, str]] = {
    "huggingface": (_HUGGINGFACE, "nystromformer."),
    "official": (_OFFICIAL, "model."),
}
