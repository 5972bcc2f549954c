"""Inputs for the formulas of vtnp.vivit."""

from typing import Any

from vtnp._array.trees import tree_map
from vtnp.claims.cases._draw import Draw, builds
from vtnp.claims.cases.encoder import layer, network, norm, projections


def tokens(draw: Draw, text: str) -> Any:
    """Draw tokens wide enough for their norm to be smooth: at width 2 it is nearly a sign."""
    draw.sizes["d"] = 5
    return draw.array(text)


def smooth_attention(draw: Draw) -> dict[str, Any]:
    """Draw attention of moderate scores: stacks of steep layers are badly conditioned."""
    return tree_map(lambda x: 0.3 * x, projections(draw))


def smooth_layer(draw: Draw) -> dict[str, Any]:
    return {**layer(draw), "attention": smooth_attention(draw)}


def encoder(draw: Draw, n: int) -> dict[str, Any]:
    """Draw the params of a sequence-encoder for n tokens, with or without a class token."""
    d = draw.size("d")
    params = {"layers": [smooth_layer(draw) for _ in range(2)], "norm": norm(draw)}
    if draw.chance():
        params["cls"] = draw.array("d")
    rows = n + ("cls" in params)
    return {**params, "positions": draw.numbers((rows, d))}


def activation(draw: Draw) -> str:
    return draw.choice(["gelu_tanh", "gelu"] if draw.smooth else ["gelu_tanh", "gelu", "relu"])


@builds("uniform-frame-sampling")
def uniform_frame_sampling(draw: Draw) -> dict[str, Any]:
    T = draw.integer(1, 39)
    return {"T": T, "k": draw.integer(1, T), "like": draw.array("d")}


@builds("tubelet-embedding")
def tubelet_embedding(draw: Draw) -> dict[str, Any]:
    # The tubelet is smaller than the video, and need not divide it.
    size = draw.shuffled([1, 2, 3])
    video = [2 * p + draw.integer(0, p - 1) for p in size]
    C, d = draw.size("C"), draw.size("d")
    args = {
        "video": draw.numbers((*draw.batch, *video, C)),
        "E": draw.numbers((*size, C, d)),
    }
    if draw.chance():
        args["bias"] = draw.array("d")
    return args


@builds("inflated-kernel")
def inflated_kernel(draw: Draw) -> dict[str, Any]:
    return {"E_image": draw.array("p_h p_w C d"), "p_t": draw.integer(1, 4)}


@builds("central-frame-kernel")
def central_frame_kernel(draw: Draw) -> dict[str, Any]:
    return inflated_kernel(draw)


@builds("sequence-encoder")
def sequence_encoder(draw: Draw) -> dict[str, Any]:
    x = tokens(draw, "*b n d")
    return {"x": x, "params": encoder(draw, x.shape[-2]), "activation": activation(draw)}


@builds("spatio-temporal-encoder")
def spatio_temporal_encoder(draw: Draw) -> dict[str, Any]:
    draw.sizes |= {"t": 2, "s": 3} if draw.chance() else {"t": 3, "s": 2}
    z = tokens(draw, "*b t s d")
    params = encoder(draw, z.shape[-3] * z.shape[-2])
    return {"z": z, "params": params, "activation": activation(draw)}


@builds("factorised-encoder")
def factorised_encoder(draw: Draw) -> dict[str, Any]:
    draw.sizes |= {"t": 2, "s": 3} if draw.chance() else {"t": 3, "s": 2}
    z = tokens(draw, "*b t s d")
    params = {"space": encoder(draw, z.shape[-2])}
    if draw.chance(0.8):
        # The temporal encoder has heads and widths of its own.
        temporal = draw.with_sizes({"d": z.shape[-1]})
        params["time"] = encoder(temporal, z.shape[-3])
    return {"z": z, "params": params}


@builds("factorised-self-attention-layer")
def factorised_self_attention_layer(draw: Draw) -> dict[str, Any]:
    draw.sizes |= {"t": 2, "s": 3, "heads": 2}
    z = tokens(draw, "*b t s d")
    params = {
        axis: {"norm_1": norm(draw), "attention": smooth_attention(draw)}
        for axis in ("time", "space")
    }
    params |= {"norm_2": norm(draw), "feed_forward": network(draw)}
    order = "time-space" if draw.chance() else "space-time"
    return {"z": z, "params": params, "order": order}


@builds("factorised-dot-product-attention")
def factorised_dot_product_attention(draw: Draw) -> dict[str, Any]:
    heads = draw.choice([2, 4])
    draw.sizes["heads"] = heads
    return {
        "Q": draw.array("*b heads t s d_h"),
        "K": draw.array("*b heads t s d_h"),
        "V": draw.array("*b heads t s d_v"),
        "first": "time" if draw.chance() else "space",
    }


@builds("factorised-dot-product-layer")
def factorised_dot_product_layer(draw: Draw) -> dict[str, Any]:
    draw.sizes |= {"t": 3, "s": 5, "heads": 2}
    first = "time" if draw.chance() else "space"
    z = tokens(draw, "*b t s d")
    return {"z": z, "params": smooth_layer(draw), "first": first}
