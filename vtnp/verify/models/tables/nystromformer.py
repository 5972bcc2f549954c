"""Nyströmformer: the layers of HuggingFace's port and of the released code."""

from collections.abc import Mapping

from vtnp.verify.models.tables.filled import filled

_BLOCK = """
{attn}{q}  = {here}.q : b n (heads d_h) -> b heads n d_h
{attn}{k}  = {here}.k : b n (heads d_h) -> b heads n d_h
{attn}{v}  = {here}.v : b n (heads d_h) -> b heads n d_h
{proj}:in  = {here}.context : b n (heads d_h) -> b heads n d_h
{proj}     = {here}.attention_output
{norm1}:in = {here}.norm_1.input
{norm1}    = {here}.norm_1
{fc1}      = {here}.pre_activation
{fc2}:in   = {here}.hidden
{fc2}      = {here}.feed_forward
{norm2}:in = {here}.norm_2.input
{norm2}    = {here}.norm_2
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
        "here": "layers.{i}",
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
        "here": "layers.{i}",
    },
)

TABLES: Mapping[str, tuple[str, str]] = {
    "huggingface": (_HUGGINGFACE, "nystromformer."),
    "official": (_OFFICIAL, "model."),
}
