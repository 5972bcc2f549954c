"""Inputs for the formulas of vtnp.timesformer: few tokens, for loops are slow."""

from typing import Any

from vtnp.claims.cases._draw import Draw, builds
from vtnp.claims.cases.encoder import network, norm, projections

ON_GRID = ("local", "global", "width", "height")
EVEN = ((2, 4, 6), (2, 2, 4), (4, 2, 2))


def grid_of(draw: Draw, attend: str) -> dict[str, Any]:
    """Draw t and s, and the grid where the neighbourhood needs one."""
    sizes = draw.rng.choice(EVEN) if attend in {"local", "global"} else (2, 3, 4)
    t, h, w = (int(size) for size in draw.rng.permutation(sizes))
    if attend not in ON_GRID:
        draw.sizes |= {"t": t, "s": h}
        return {}
    draw.sizes |= {"t": t, "h": h, "w": w, "s": h * w}
    return {"grid": (h, w)}


@builds("space-time-embedding")
def space_time_embedding(draw: Draw) -> dict[str, Any]:
    args = {"x": draw.array("*b t s p"), "E": draw.array("p d"), "e_pos": draw.array("t s d")}
    return {**args, "bias": draw.array("d")} if draw.chance() else args


def _tokens(draw: Draw) -> dict[str, Any]:
    arrays = {"K": draw.array("*b t s d_k"), "V": draw.array("*b t s d_v")}
    if draw.chance():
        arrays |= {"K_cls": draw.array("*b 1 d_k"), "V_cls": draw.array("*b 1 d_v")}
    return arrays


def _attention(attend: str) -> None:
    @builds(f"{attend}-attention")
    def build(draw: Draw) -> dict[str, Any]:
        return {**grid_of(draw, attend), "Q": draw.array("*b t s d_k"), **_tokens(draw)}


for _attend in ("space", "time", "joint", *ON_GRID):
    _attention(_attend)


@builds("class-attention")
def class_attention(draw: Draw) -> dict[str, Any]:
    over = str(draw.rng.choice(["space", "time", "joint", *ON_GRID]))
    grid = grid_of(draw, over)
    return {"Q_cls": draw.array("*b 1 d_k"), **_tokens(draw), "over": over, **grid}


def widths_of(draw: Draw) -> None:
    """Draw small widths, all different; norms of few channels bend too sharply to differentiate."""
    widths = (int(size) for size in draw.rng.permutation([3, 4, 5]))
    draw.sizes |= dict(zip(("d_h", "d_v", "d_f"), widths, strict=True)) | {"d": 7, "heads": 2}


def step(draw: Draw, *, fc: bool) -> dict[str, Any]:
    """Draw the params of one step."""
    params = {"norm_1": norm(draw), "attention": moderate(projections(draw))}
    if fc:
        params["fc"] = {"W": 0.4 * draw.array("d d")}
        if draw.chance():
            params["fc"]["b"] = draw.array("d")
    return params


def moderate(weights: dict[str, Any]) -> dict[str, Any]:
    """Shrink weights so that three steps in a row do not saturate every softmax."""
    return {name: 0.4 * weight for name, weight in weights.items()}


@builds("attention-sublayer")
def attention_sublayer(draw: Draw) -> dict[str, Any]:
    attend = str(draw.rng.choice(["space", "time", "joint", *ON_GRID]))
    class_token = str(draw.rng.choice(["out", "key", "mean", "all"]))
    grid = grid_of(draw, attend)
    widths_of(draw)
    args = {"z": draw.array("*b t s d"), "cls": draw.array("*b d")}
    params = step(draw, fc=draw.chance())
    return {**args, "params": params, "attend": attend, "class_token": class_token, **grid}


def layer(draw: Draw, *steps: str) -> dict[str, Any]:
    """Draw z, cls and the params of a layer: every step but the last has its extra linear map."""
    widths_of(draw)
    if "t" not in draw.sizes:
        grid_of(draw, steps[0])
    *extra, last = steps
    params = {attend: step(draw, fc=True) for attend in extra}
    final = step(draw, fc=False)
    params |= {last: final} if extra else final
    params |= {"norm_2": norm(draw), "feed_forward": moderate(network(draw))}
    return {"z": draw.array("*b t s d"), "cls": draw.array("*b d"), "params": params}


@builds("space-layer")
def space_layer(draw: Draw) -> dict[str, Any]:
    return layer(draw, "space")


@builds("joint-layer")
def joint_layer(draw: Draw) -> dict[str, Any]:
    return layer(draw, "joint")


@builds("divided-layer")
def divided_layer(draw: Draw) -> dict[str, Any]:
    return layer(draw, "time", "space")


@builds("local-global-layer")
def local_global_layer(draw: Draw) -> dict[str, Any]:
    return {**grid_of(draw, "global"), **layer(draw, "local", "global")}


@builds("axial-layer")
def axial_layer(draw: Draw) -> dict[str, Any]:
    return {**grid_of(draw, "width"), **layer(draw, "time", "width", "height")}
