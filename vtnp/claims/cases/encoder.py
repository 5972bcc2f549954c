"""Inputs for the formulas of vtnp.encoder."""

from typing import Any

from vtnp.claims.cases._draw import Draw, builds


def norm(draw: Draw) -> dict[str, Any]:
    return {"gamma": draw.array("d"), "beta": draw.array("d")}


def projections(draw: Draw, *, bias: bool | None = None) -> dict[str, Any]:
    """Draw the weights of multi-head attention, with biases or without."""
    weights = {
        "W_q": draw.array("heads d d_h"),
        "W_k": draw.array("heads d d_h"),
        "W_v": draw.array("heads d d_v"),
        "W_c": draw.array("heads d_v d"),
    }
    if draw.chance() if bias is None else bias:
        weights |= {
            "b_q": draw.array("heads d_h"),
            "b_k": draw.array("heads d_h"),
            "b_v": draw.array("heads d_v"),
            "b_c": draw.array("d"),
        }
    return weights


def network(draw: Draw, *, bias: bool | None = None) -> dict[str, Any]:
    """Draw the weights of a feed-forward network, with biases or without."""
    weights = {"W_1": draw.array("d d_f"), "W_2": draw.array("d_f d")}
    if draw.chance() if bias is None else bias:
        weights |= {"b_1": draw.array("d_f"), "b_2": draw.array("d")}
    return weights


def layer(draw: Draw) -> dict[str, Any]:
    """Draw the params of one encoder layer."""
    return {
        "attention": projections(draw),
        "norm_1": norm(draw),
        "feed_forward": network(draw),
        "norm_2": norm(draw),
    }


@builds("qkv-projection")
def qkv_projection(draw: Draw) -> dict[str, Any]:
    args = {"x": draw.array("*b n d"), "W": draw.array("heads d d_h")}
    return {**args, "bias": draw.array("heads d_h")} if draw.chance() else args


@builds("output-projection")
def output_projection(draw: Draw) -> dict[str, Any]:
    args = {"y": draw.array("*b heads n d_h"), "W_c": draw.array("heads d_h d")}
    return {**args, "bias": draw.array("d")} if draw.chance() else args


@builds("attention-weights")
def attention_weights(draw: Draw) -> dict[str, Any]:
    args: dict[str, Any] = {"Q": draw.array("*b n d_k"), "K": draw.array("*b m d_k")}
    if draw.chance():
        args["mask"] = draw.mask("n m") if draw.chance() else draw.mask("*b n m")
    if draw.chance():
        args["scale"] = 0.3
    return args


@builds("attention")
def attention(draw: Draw) -> dict[str, Any]:
    return {**attention_weights(draw), "V": draw.array("*b m d_v")}


@builds("multi-head-self-attention")
def multi_head_self_attention(draw: Draw) -> dict[str, Any]:
    args = {"x": draw.array("*b n d"), **projections(draw)}
    if draw.chance():
        args["mask"] = draw.mask("n n")
    return args


@builds("cross-attention")
def cross_attention(draw: Draw) -> dict[str, Any]:
    args = {"x": draw.array("*b n d"), "memory": draw.array("*b m d"), **projections(draw)}
    if draw.chance():
        args["mask"] = draw.mask("n m")
    return args


@builds("causal-mask")
def causal_mask(draw: Draw) -> dict[str, Any]:
    return {"n": draw.size("n"), "like": draw.array("d")}


@builds("layer-norm")
def layer_norm(draw: Draw) -> dict[str, Any]:
    return {"x": draw.array("*b d"), **norm(draw), "eps": 1e-6}


@builds("add-and-norm")
def add_and_norm(draw: Draw) -> dict[str, Any]:
    return {"x": draw.array("*b n d"), "update": draw.array("*b n d"), **norm(draw), "eps": 1e-6}


@builds("gelu")
def gelu(draw: Draw) -> dict[str, Any]:
    approximate = "tanh" if draw.chance() else "none"
    return {"x": 2.0 * draw.array("*b n"), "approximate": approximate}


@builds("relu")
def relu(draw: Draw) -> dict[str, Any]:
    # Wide enough to exceed 6, where a capped ReLU differs.
    return {"x": 6.0 * draw.array("*b n")}


@builds("feed-forward")
def feed_forward(draw: Draw) -> dict[str, Any]:
    activation = draw.choice(["relu", "gelu", "gelu_tanh"])
    return {"u": draw.array("*b n d"), **network(draw), "activation": activation}


@builds("encoder-layer")
def encoder_layer(draw: Draw) -> dict[str, Any]:
    args = {"x": draw.array("*b n d"), "params": layer(draw), "eps": 1e-5}
    if draw.chance():
        args["mask"] = draw.mask("n n")
    return args


@builds("pre-norm-layer")
def pre_norm_layer(draw: Draw) -> dict[str, Any]:
    activation = draw.choice(["relu", "gelu", "gelu_tanh"])
    return {**encoder_layer(draw), "activation": activation}


@builds("self-attention-sublayer")
def self_attention_sublayer(draw: Draw) -> dict[str, Any]:
    params = {"norm_1": norm(draw), "attention": projections(draw)}
    args = {"x": draw.array("*b n d"), "params": params, "eps": 1e-6}
    if draw.chance():
        args["mask"] = draw.mask("n n")
    return args


@builds("feed-forward-sublayer")
def feed_forward_sublayer(draw: Draw) -> dict[str, Any]:
    params = {"norm_2": norm(draw), "feed_forward": network(draw)}
    activation = draw.choice(["relu", "gelu", "gelu_tanh"])
    return {"y": draw.array("*b n d"), "params": params, "eps": 1e-6, "activation": activation}


@builds("decoder-layer")
def decoder_layer(draw: Draw) -> dict[str, Any]:
    params = {
        "self_attention": projections(draw),
        "norm_1": norm(draw),
        "cross_attention": projections(draw),
        "norm_2": norm(draw),
        "feed_forward": network(draw),
        "norm_3": norm(draw),
    }
    tokens = {"x": draw.array("*b n d"), "memory": draw.array("*b m d")}
    return {**tokens, "params": params, "eps": 1e-5}
