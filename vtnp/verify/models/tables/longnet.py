"""LongNet: the layers of torchscale's encoder."""

from collections.abc import Mapping

_TORCHSCALE = """
layers.{i}.self_attn_layer_norm:in = layers.{i}.norm_1.input
layers.{i}.self_attn_layer_norm    = layers.{i}.norm_1
layers.{i}.self_attn.q_proj        = layers.{i}.q : b n (heads d_h) -> b heads n d_h
layers.{i}.self_attn.k_proj        = layers.{i}.k : b n (heads d_h) -> b heads n d_h
layers.{i}.self_attn.v_proj        = layers.{i}.v : b n (heads d_h) -> b heads n d_h
layers.{i}.self_attn.out_proj:in   = layers.{i}.context : b n (heads d_h) -> b heads n d_h
layers.{i}.self_attn.out_proj      = layers.{i}.attention_output
layers.{i}.final_layer_norm:in     = layers.{i}.norm_2.input
layers.{i}.final_layer_norm        = layers.{i}.norm_2
layers.{i}.ffn.fc1                 = layers.{i}.pre_activation
layers.{i}.ffn.fc2:in              = layers.{i}.hidden
layers.{i}.ffn.fc2                 = layers.{i}.feed_forward
"""

TABLES: Mapping[str, tuple[str, str]] = {"torchscale": (_TORCHSCALE, "encoder.")}
