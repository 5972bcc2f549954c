"""Inputs for the formulas of vtnp.motionformer."""

from typing import Any

from vtnp._array.trees import tree_map
from vtnp.claims.cases._draw import Draw, builds
from vtnp.claims.cases.encoder import network, norm, projections
from vtnp.motionformer import Prototypes


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
    """One candidate may be zero, which counts as orthogonal to all others."""
    candidates = draw.array("*b n d")
    n = draw.sizes["n"]
    if draw.chance():
        candidates[..., draw.integer(0, n - 1), :] = 0.0
    draw.sizes["r"] = draw.integer(1, n)
    return {
        "candidates": candidates,
        "r": draw.sizes["r"],
        "start": draw.integer(0, n - 1),
    }


def prototypes(draw: Draw, *, candidates: str = "queries") -> Prototypes:
    """Draw how prototypes are chosen; with gradients, as central differences have them."""
    t, s = draw.size("t"), draw.size("s")
    shared = draw.chance()
    count = s * (t if shared else 1) * (2 if candidates == "both" else 1)
    r, start = (draw.integer(low, low + min(count, 6) - 1) for low in (1, 0))
    draw.sizes |= {"g": 1 if shared else t, "r": r}
    return Prototypes(r, candidates, shared, start, gradient=draw.smooth or draw.chance())  # type: ignore[arg-type]


@builds("trajectory-prototypes")
def trajectory_prototypes(draw: Draw) -> dict[str, Any]:
    candidates = draw.array("*b t s d")
    r, _, shared, start, gradient = prototypes(draw)
    options = {"shared": shared, "start": start, "gradient": gradient}
    return {"candidates": candidates, "r": r, **options}


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
    """Draw sizes that are distinct and small."""
    axes = {"t s": (2, 3), "heads d_v": (4, 5), "d d_h d_k": (6, 7, 8)}
    for letters, sizes in axes.items():
        order = draw.shuffled(sizes)
        draw.sizes |= dict(zip(letters.split(), order, strict=True))
    draw.sizes["d_f"] = 9


def second_projections(draw: Draw, *, value_projection: bool) -> dict[str, Any]:
    """Draw the projections of the tokens of all heads side by side."""
    heads, d_v, d_k = (draw.size(axis) for axis in ("heads", "d_v", "d_k"))
    widths = {"q": d_k, "k": d_k} | ({"v": d_v} if value_projection else {})
    plus_bias = draw.chance()
    params = {}
    for letter, width in widths.items():
        params[f"W_{letter}"] = draw.numbers((heads, heads * d_v, width))
        if plus_bias:
            params[f"b_{letter}"] = draw.numbers((heads, width))
    return params


def any_prototypes(draw: Draw) -> Prototypes:
    return prototypes(draw, candidates=draw.choice(["queries", "keys", "both"]))


@builds("trajectory-self-attention")
def trajectory_self_attention(draw: Draw) -> dict[str, Any]:
    layer_sizes(draw)
    value_projection = draw.chance()
    # Small weights: differences of a saturated softmax show nothing but its curvature.
    params = {
        "attention": projections(draw),
        "trajectory": second_projections(draw, value_projection=value_projection),
    }
    return {
        "z": draw.array("*b t s d"),
        "cls": draw.array("*b d"),
        "params": tree_map(lambda W: 0.4 * W, params),
        "value_projection": value_projection,
        "prototypes": any_prototypes(draw) if draw.chance() else None,
    }


@builds("trajectory-layer")
def trajectory_layer(draw: Draw) -> dict[str, Any]:
    args = trajectory_self_attention(draw)
    rest = {"norm_1": norm(draw), "norm_2": norm(draw), "feed_forward": network(draw)}
    args["params"] |= tree_map(lambda W: 0.4 * W, rest)
    return args
