"""Inputs for the formulas of vtnp.timesformer: few tokens, for the oracles are slow."""

import typing
from typing import Any

from vtnp.claims.cases._draw import Draw, builds
from vtnp.claims.cases.encoder import network, norm, projections
from vtnp.timesformer import ClassToken, Neighbourhood
from vtnp.tokens import Grid

ATTENTIONS = typing.get_args(Neighbourhood)
ON_GRID = ("local", "global", "width", "height")
EVEN = ((2, 4, 6), (2, 2, 4), (4, 2, 2))


def grid_of(draw: Draw, attend: str) -> dict[str, Any]:
    """Draw t and s, and the grid where the neighbourhood needs one."""
    sizes = draw.choice(EVEN) if attend in {"local", "global"} else (2, 3, 4)
    t, h, w = draw.shuffled(sizes)
    if attend not in ON_GRID:
        draw.sizes |= {"t": t, "s": h}
        return {}
    draw.sizes |= {"t": t, "h": h, "w": w}
    grid = Grid(*(draw.size(axis) for axis in "thw"))
    draw.sizes["s"] = grid.h * grid.w
    return {"grid": grid}


@builds("space-time-embedding")
def space_time_embedding(draw: Draw) -> dict[str, Any]:
    args = {"x": draw.array("*b t s p"), "E": draw.array("p d"), "e_pos": draw.array("t s d")}
    return {**args, "bias": draw.array("d")} if draw.chance() else args


def keys_and_values(draw: Draw) -> dict[str, Any]:
    """Draw those of the patches, and half of the time those of the class token."""
    arrays = {"K": draw.array("*b t s d_k"), "V": draw.array("*b t s d_v")}
    if draw.chance():
        arrays |= {"K_cls": draw.array("*b 1 d_k"), "V_cls": draw.array("*b 1 d_v")}
    return arrays


def _attention(attend: str) -> None:
    @builds(f"{attend}-attention")
    def build(draw: Draw) -> dict[str, Any]:
        return {**grid_of(draw, attend), "Q": draw.array("*b t s d_k"), **keys_and_values(draw)}


for _attend in ATTENTIONS:
    _attention(_attend)


@builds("class-attention")
def class_attention(draw: Draw) -> dict[str, Any]:
    over = draw.choice(ATTENTIONS)
    grid = grid_of(draw, over)
    return {"Q_cls": draw.array("*b 1 d_k"), **keys_and_values(draw), "over": over, **grid}


def draw_widths(draw: Draw) -> None:
    """Draw small, distinct widths; d is larger, as norms of few channels are sharply curved."""
    widths = draw.shuffled([3, 4, 5])
    draw.sizes |= dict(zip(("d_h", "d_v", "d_f"), widths, strict=True)) | {"d": 7, "heads": 2}


def sublayer(draw: Draw, *, fc: bool) -> dict[str, Any]:
    """Draw the params of one attention sublayer."""
    params = {"norm_1": norm(draw), "attention": moderate(projections(draw))}
    if fc:
        params["fc"] = {"W": 0.4 * draw.array("d d")}
        if draw.chance():
            params["fc"]["b"] = draw.array("d")
    return params


def moderate(weights: dict[str, Any]) -> dict[str, Any]:
    """Shrink weights so that three sublayers in a row do not saturate every softmax."""
    return {name: 0.4 * weight for name, weight in weights.items()}


@builds("attention-sublayer")
def attention_sublayer(draw: Draw) -> dict[str, Any]:
    attend = draw.choice(ATTENTIONS)
    class_token = draw.choice(typing.get_args(ClassToken))
    grid = grid_of(draw, attend)
    draw_widths(draw)
    args = {"z": draw.array("*b t s d"), "cls": draw.array("*b d")}
    params = sublayer(draw, fc=draw.chance())
    return {**args, "params": params, "attend": attend, "class_token": class_token, **grid}


def layer(draw: Draw, *attentions: str) -> dict[str, Any]:
    """Draw z, cls and the params of a layer: every sublayer but the last has an `fc`."""
    draw_widths(draw)
    if "t" not in draw.sizes:
        grid_of(draw, attentions[0])
    *others, last = attentions
    params = {attend: sublayer(draw, fc=True) for attend in others}
    final = sublayer(draw, fc=False)
    params |= {last: final} if others else final
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
