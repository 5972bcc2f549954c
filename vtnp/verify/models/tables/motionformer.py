"""Motionformer: the released code, whose tokens are the class token, then frame after frame."""

from collections.abc import Mapping

_OFFICIAL = """
input = [b t h w c -> b c t h w]
patch_embed.proj      = embedding : (b t) d h w -> b t (h w) d
patch_embed_3d.proj   = embedding : b d t h w -> b t (h w) d
pos_drop              = tokens : b (t s)[1:] d -> b t s d
blocks.{i}.norm1:in   = layers.{i}.norm_1.input : b (t s)[1:] d -> b t s d
blocks.{i}.norm1      = layers.{i}.norm_1       : b (t s)[1:] d -> b t s d
blocks.{i}.norm1:in   = layers.{i}.norm_1.input.cls : b n[0] d -> b d
blocks.{i}.norm1      = layers.{i}.norm_1.cls       : b n[0] d -> b d
blocks.{i}.attn.qkv   = layers.{i}.q : b n[1:] (three[0] heads d_h) -> b heads n d_h
blocks.{i}.attn.qkv   = layers.{i}.k : b n[1:] (three[1] heads d_h) -> b heads n d_h
blocks.{i}.attn.qkv   = layers.{i}.v : b n[1:] (three[2] heads d_h) -> b heads n d_h
blocks.{i}.attn.qkv   = layers.{i}.q.cls : b n[0] (three[0] heads d_h) -> b heads 1 d_h
blocks.{i}.attn.qkv   = layers.{i}.k.cls : b n[0] (three[1] heads d_h) -> b heads 1 d_h
blocks.{i}.attn.qkv   = layers.{i}.v.cls : b n[0] (three[2] heads d_h) -> b heads 1 d_h
blocks.{i}.attn.proj_q  = layers.{i}.trajectory.q : b n (heads d_h) -> b heads n d_h
blocks.{i}.attn.proj_kv = layers.{i}.trajectory.k : b n u (two[0] heads d_h) -> b heads (n u) d_h
blocks.{i}.attn.proj_kv = layers.{i}.trajectory.v : b n u (two[1] heads d_h) -> b heads (n u) d_h
blocks.{i}.attn.proj:in = layers.{i}.context : b n[1:] (heads d_h) -> b heads n d_h
blocks.{i}.attn.proj:in = layers.{i}.context.cls : b n[0] (heads d_h) -> b heads 1 d_h
blocks.{i}.attn.proj  = layers.{i}.attention_output : b n[1:] d -> b n d
blocks.{i}.attn.proj  = layers.{i}.attention_output.cls : b n[0] d -> b 1 d
blocks.{i}.norm2:in   = layers.{i}.norm_2.input : b (t s)[1:] d -> b t s d
blocks.{i}.norm2      = layers.{i}.norm_2       : b (t s)[1:] d -> b t s d
blocks.{i}.norm2:in   = layers.{i}.norm_2.input.cls : b n[0] d -> b 1 d
blocks.{i}.norm2      = layers.{i}.norm_2.cls       : b n[0] d -> b 1 d
blocks.{i}.mlp.fc1    = layers.{i}.pre_activation      : b (t s)[1:] d -> b t s d
blocks.{i}.mlp.fc1    = layers.{i}.pre_activation.cls  : b n[0] d -> b 1 d
blocks.{i}.mlp.fc2:in = layers.{i}.hidden       : b (t s)[1:] d -> b t s d
blocks.{i}.mlp.fc2:in = layers.{i}.hidden.cls   : b n[0] d -> b 1 d
blocks.{i}.mlp.fc2    = layers.{i}.feed_forward : b (t s)[1:] d -> b t s d
blocks.{i}.mlp.fc2    = layers.{i}.feed_forward.cls : b n[0] d -> b 1 d
norm:in               = norm.input : b n[0] d -> b d
norm                  = norm : b n[0] d -> b d
pre_logits.fc         = pre_logits
head                  = logits
"""

TABLES: Mapping[str, tuple[str, str]] = {"official": (_OFFICIAL, "model.")}
