"""Inputs for the formulas of vtnp.positions."""

from typing import Any

from vtnp.claims.cases._draw import Draw, builds


def width(draw: Draw, unit: int) -> int:
    """Draw a width that is a multiple of the unit."""
    return unit * draw.choice([1, 2, 3, 4])


@builds("sinusoidal-positions")
def sinusoidal_positions(draw: Draw) -> dict[str, Any]:
    return {
        "n": draw.size("n"),
        "d": width(draw, 2),
        "layout": "halves" if draw.chance() else "interleaved",
        "like": draw.numbers(2),
    }


@builds("sinusoidal-positions-2d")
def sinusoidal_positions_2d(draw: Draw) -> dict[str, Any]:
    h, w = draw.size("h"), draw.size("w")
    return {"h": h, "w": w, "d": width(draw, 4), "like": draw.numbers(2)}


@builds("sinusoidal-positions-3d")
def sinusoidal_positions_3d(draw: Draw) -> dict[str, Any]:
    split, unit = ("quarter", 16) if draw.chance() else ("thirds", 6)
    return {
        "t": draw.size("t"),
        "h": draw.size("h"),
        "w": draw.size("w"),
        "d": width(draw, unit),
        "split": split,
        "like": draw.numbers(2),
    }


@builds("relative-attention")
def relative_attention(draw: Draw) -> dict[str, Any]:
    draw.sizes["r"] = draw.choice([1, 3, 5, 7])
    args = {
        "Q": draw.array("*b n d_h"),
        "K": draw.array("*b n d_h"),
        "V": draw.array("*b n d_v"),
        "w_K": draw.array("r d_h"),
        "w_V": draw.array("r d_v"),
    }
    if draw.chance():
        args["mask"] = draw.mask("n n")
    return args
