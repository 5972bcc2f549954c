"""The parameters of layers written in torch, by their names and layouts there, as ours.

Written in array-API functions, so that a gradient passes through: it then stands in torch's own
layout, and can be compared with torch's as it is.
"""

from typing import Any

from vtnp._array.xp import namespace, transposed

Arrays = dict[str, Any]


def linear(raw: Arrays, name: str) -> Arrays:
    """Return one torch.nn.Linear, y = x W^T + b."""
    return {"W": transposed(raw[f"{name}.weight"]), "b": raw[f"{name}.bias"]}


def of_heads(W: Any, heads: int) -> Any:
    """Turn [heads * d_h, d], head by head, into heads d d_h."""
    return transposed(namespace(W).reshape(W, (heads, W.shape[0] // heads, W.shape[1])))


def attention(raw: Arrays, name: str, heads: int) -> Arrays:
    """Return the weights of one torch.nn.MultiheadAttention."""
    W, W_out = raw[f"{name}.in_proj_weight"], raw[f"{name}.out_proj.weight"]
    xp = namespace(W)
    d = W.shape[1]
    thirds = [slice(0, d), slice(d, 2 * d), slice(2 * d, 3 * d)]
    ours = {
        key: of_heads(W[third, :], heads)
        for key, third in zip(("W_q", "W_k", "W_v"), thirds, strict=True)
    }
    ours["W_c"] = xp.reshape(transposed(W_out), (heads, d // heads, d))
    if f"{name}.in_proj_bias" in raw:
        bias = raw[f"{name}.in_proj_bias"]
        for key, third in zip(("b_q", "b_k", "b_v"), thirds, strict=True):
            ours[key] = xp.reshape(bias[third], (heads, d // heads))
        ours["b_c"] = raw[f"{name}.out_proj.bias"]
    return ours


def norm(raw: Arrays, name: str) -> Arrays:
    """Return one torch.nn.LayerNorm; without a bias its offset is 0."""
    gamma = raw[f"{name}.weight"]
    beta = raw[f"{name}.bias"] if f"{name}.bias" in raw else 0.0 * gamma
    return {"gamma": gamma, "beta": beta}


def feed_forward(raw: Arrays) -> Arrays:
    """Return linear1 and linear2."""
    ours = {"W_1": transposed(raw["linear1.weight"]), "W_2": transposed(raw["linear2.weight"])}
    if "linear1.bias" in raw:
        ours |= {"b_1": raw["linear1.bias"], "b_2": raw["linear2.bias"]}
    return ours


def encoder_layer(raw: Arrays, heads: int) -> Arrays:
    """Return one torch.nn.TransformerEncoderLayer."""
    return {
        "attention": attention(raw, "self_attn", heads),
        "norm_1": norm(raw, "norm1"),
        "feed_forward": feed_forward(raw),
        "norm_2": norm(raw, "norm2"),
    }


def decoder_layer(raw: Arrays, heads: int) -> Arrays:
    """Return one torch.nn.TransformerDecoderLayer."""
    return {
        "self_attention": attention(raw, "self_attn", heads),
        "norm_1": norm(raw, "norm1"),
        "cross_attention": attention(raw, "multihead_attn", heads),
        "norm_2": norm(raw, "norm2"),
        "feed_forward": feed_forward(raw),
        "norm_3": norm(raw, "norm3"),
    }
