"""Inputs for the formulas of vtnp.motionformer.

Besides the axis letters, sizes holds what the costs on the pages are written in: g sets of
prototypes, and candidates, how many a set is chosen from.
"""

from typing import Any

from vtnp._array.trees import tree_map
from vtnp.claims.cases._draw import Draw, builds
from vtnp.claims.cases.encoder import network, norm, projections


@builds("trajectory-attention")
def trajectory_attention(draw: Draw) -> dict[str, Any]:
    args = {
        "Y_tilde": draw.array("*b t s t d"),
        "W_q": draw.array("d d_k"),
        "W_k": draw.array("d d_k"),
        "value_projection": draw.chance(),
    }
    if args["value_projection"]:
        args["W_v"] = draw.array("d d_v")
    else:
        draw.sizes["d_v"] = draw.sizes["d"]
    if draw.chance():
        args |= {"b_q": draw.array("d_k"), "b_k": draw.array("d_k")}
        if args["value_projection"]:
            args["b_v"] = draw.array("d_v")
    return args


@builds("orthogonal-prototypes")
def orthogonal_prototypes(draw: Draw) -> dict[str, Any]:
    """One candidate may be zero, which every other candidate is orthogonal to."""
    candidates = draw.array("*b n d")
    n = draw.sizes["n"]
    if draw.chance():
        candidates[..., int(draw.rng.integers(n)), :] = 0.0
    draw.sizes["r"] = int(draw.rng.integers(1, n + 1))
    return {
        "candidates": candidates,
        "r": draw.sizes["r"],
        "start": int(draw.rng.integers(n)),
    }


def choice(draw: Draw, sources: int = 1) -> dict[str, Any]:
    """Draw the options of trajectory-prototypes, with the gradient that differences show."""
    t, s = draw.size("t"), draw.size("s")
    shared = draw.chance()
    count = sources * s * (t if shared else 1)
    r, start = (int(draw.rng.integers(low, low + min(count, 6))) for low in (1, 0))
    draw.sizes |= {"g": 1 if shared else t, "r": r, "candidates": count}
    return {"r": r, "shared": shared, "start": start, "gradient": True}


@builds("trajectory-prototypes")
def trajectory_prototypes(draw: Draw) -> dict[str, Any]:
    return {"candidates": draw.array("*b t s d"), **choice(draw)}


@builds("prototype-trajectory-tokens")
def prototype_trajectory_tokens(draw: Draw) -> dict[str, Any]:
    tokens = {
        "Q": draw.array("*b t s d"),
        "K": draw.array("*b t s d"),
        "V": draw.array("*b t s d_v"),
    }
    draw.sizes["g"] = 1 if draw.chance() else draw.sizes["t"]
    return {**tokens, "P": draw.array("*b g r d")}


def layer_sizes(draw: Draw) -> None:
    """Draw sizes that are distinct and small: tokens times widths grow fast."""
    axes = {"t s": (2, 3), "heads d_v": (4, 5), "d d_h d_k": (6, 7, 8)}
    for letters, sizes in axes.items():
        drawn = map(int, draw.rng.permutation(sizes))
        draw.sizes |= dict(zip(letters.split(), drawn, strict=True))
    draw.sizes["d_f"] = 9


def second(draw: Draw, *, value_projection: bool) -> dict[str, Any]:
    """Draw the projections of trajectory tokens, all heads of which lie side by side."""
    heads, d_v, d_k = (draw.size(axis) for axis in ("heads", "d_v", "d_k"))
    widths = {"q": d_k, "k": d_k} | ({"v": d_v} if value_projection else {})
    plus_bias = draw.chance()
    params = {}
    for letter, width in widths.items():
        params[f"W_{letter}"] = draw.rng.standard_normal((heads, heads * d_v, width))
        if plus_bias:
            params[f"b_{letter}"] = draw.rng.standard_normal((heads, width))
    return params


def choice_among(draw: Draw) -> dict[str, Any]:
    candidates = str(draw.rng.choice(["queries", "keys", "both"]))
    return {"candidates": candidates, **choice(draw, 2 if candidates == "both" else 1)}


@builds("trajectory-self-attention")
def trajectory_self_attention(draw: Draw) -> dict[str, Any]:
    layer_sizes(draw)
    value_projection = draw.chance()
    # Small weights: where every softmax has nearly decided, differences see nothing but curvature.
    params = {
        "attention": projections(draw),
        "trajectory": second(draw, value_projection=value_projection),
    }
    return {
        "z": draw.array("*b t s d"),
        "cls": draw.array("*b d"),
        "params": tree_map(lambda W: 0.4 * W, params),
        "value_projection": value_projection,
        "prototypes": choice_among(draw) if draw.chance() else None,
    }


@builds("trajectory-layer")
def trajectory_layer(draw: Draw) -> dict[str, Any]:
    args = trajectory_self_attention(draw)
    rest = {"norm_1": norm(draw), "norm_2": norm(draw), "feed_forward": network(draw)}
    args["params"] |= tree_map(lambda W: 0.4 * W, rest)
    return args
