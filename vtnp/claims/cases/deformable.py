"""Inputs for the formulas of vtnp.deformable.

Samples lie within the grid, half outside and far outside of it, and never so close to a row or a
column that a difference quotient would straddle it: there the interpolation has a kink.
"""

from typing import Any

import numpy as np

from vtnp.claims.cases._draw import Draw, builds
from vtnp.claims.cases.encoder import network, norm
from vtnp.tokens import Grid

GRIDS = ((2, 3), (3, 2), (1, 4))
_MARGIN = 0.01


def draw_positions(draw: Draw) -> str:
    """Draw the rows and columns, and return the padding."""
    h, w = draw.choice(GRIDS)
    draw.sizes |= {"h": h, "w": w, "s": h * w}
    return "zeros" if draw.chance() else "border"


def draw_frames(draw: Draw) -> None:
    t, u = (2, 3) if draw.chance() else (3, 2)
    draw.sizes |= {"t": t, "u": u, "points": 5 if u == 2 else 2}


def grid_of(draw: Draw) -> Grid:
    return Grid(draw.size("t"), draw.size("h"), draw.size("w"))


def off_kinks(draw: Draw, motion: np.ndarray, offsets_of: Any) -> np.ndarray:
    """Redraw the motion of the pairs of frames whose offsets, `pairs n`, are nearly integers."""
    if not draw.smooth:
        return motion
    for _ in range(1000):
        offsets = offsets_of(motion)
        near = (np.abs(offsets - np.round(offsets)) < _MARGIN).any(axis=-1)
        if not near.any():
            return motion
        motion = np.where(near[..., None], draw.numbers(motion.shape), motion)
    raise ValueError("these weights make every offset nearly an integer")


def flat(W: np.ndarray, first: int) -> np.ndarray:
    """Join all axes from `first` on."""
    return W.reshape(*W.shape[:first], -1)


@builds("motion-embedding")
def motion_embedding(draw: Draw) -> dict[str, Any]:
    args = {"motion": draw.array("*b t s u 2"), "E": draw.array("2 d")}
    return {**args, "bias": draw.array("d")} if draw.chance() else args


@builds("deformable-logits")
def deformable_logits(draw: Draw) -> dict[str, Any]:
    args = {"q": draw.array("*b t s d"), "m": draw.array("*b t s u d")}
    args["W_alpha"] = draw.array("d points")
    return {**args, "bias": draw.array("points")} if draw.chance() else args


@builds("deformable-weights")
def deformable_weights(draw: Draw) -> dict[str, Any]:
    return {"logits": 2.0 * draw.array("*b t s u points")}


@builds("sampling-offsets")
def sampling_offsets(draw: Draw) -> dict[str, Any]:
    args = {"q": draw.array("*b t s d"), "m": draw.array("*b t s u d")}
    args["W_delta"] = draw.array("d points 2")
    return {**args, "bias": draw.array("points 2")} if draw.chance() else args


@builds("reference-points")
def reference_points(draw: Draw) -> dict[str, Any]:
    return {"h": draw.size("h"), "w": draw.size("w"), "like": draw.array("d")}


@builds("weighted-sum-of-samples")
def weighted_sum_of_samples(draw: Draw) -> dict[str, Any]:
    padding = draw_positions(draw)
    draw_frames(draw)
    shape, grid = draw.shape("*b t s u points 2"), grid_of(draw)
    cells = np.floor(draw.uniform(-2, (grid.w + 1, grid.h + 1), shape))
    return {
        "v": draw.array("*b u s d"),
        "locations": cells + draw.uniform(_MARGIN, 1 - _MARGIN, shape),
        "alpha": draw.array("*b t s u points"),
        "grid": grid,
        "padding": padding,
    }


@builds("deformable-attention")
def deformable_attention(draw: Draw) -> dict[str, Any]:
    padding = draw_positions(draw)
    draw_frames(draw)
    args = {
        "z": draw.array("*b t s d"),
        "q": draw.array("*b t s d"),
        "v": draw.array("*b u s d"),
        "W_alpha": draw.array("d points"),
        "W_delta": 0.6 * draw.array("d points 2"),
    }
    if draw.chance():
        args |= {"b_alpha": draw.array("points"), "b_delta": draw.array("points 2")}
    bias = np.ravel(args.get("b_delta", 0.0))

    def offsets(m: np.ndarray) -> np.ndarray:
        return (args["q"][..., None, :] + m) @ flat(args["W_delta"], 1) + bias

    m = off_kinks(draw, draw.array("*b t s u d"), offsets)
    return {**args, "m": m, "grid": grid_of(draw), "padding": padding}


def options_of(draw: Draw) -> dict[str, Any]:
    """Draw small sizes that fit sub-clips, and return the options."""
    clips, u = draw.choice([(1, 3), (2, 2), (3, 1)])
    draw.sizes |= {"t": clips * u, "u": u, "heads": 2, "points": 3, "d": 7, "d_v": 5, "d_f": 4}
    padding = draw_positions(draw)
    return {"grid": grid_of(draw), "clips": clips, "padding": padding}


def weights(draw: Draw) -> dict[str, Any]:
    params = {
        "W_q": 0.4 * draw.array("d d"),
        "W_v": 0.4 * draw.array("heads d d_v"),
        "W_alpha": draw.array("heads d points"),
        "W_delta": 0.5 * draw.array("heads d points 2"),
        "W_c": 0.4 * draw.array("heads d_v d"),
    }
    if draw.chance():
        params |= {
            "b_q": draw.array("d"),
            "b_v": draw.array("heads d_v"),
            "b_alpha": draw.array("heads points"),
            "b_delta": draw.array("heads points 2"),
            "b_c": draw.array("d"),
        }
    return params


def offsets_of_heads(q: np.ndarray, m: np.ndarray, params: dict[str, Any]) -> np.ndarray:
    """Return the offsets of all heads for each pair of frames."""
    W_delta = flat(np.moveaxis(params["W_delta"], 0, 1), 1)
    return (q[..., None, :] + m) @ W_delta + np.ravel(params.get("b_delta", 0.0))


@builds("deformable-self-attention")
def deformable_self_attention(draw: Draw) -> dict[str, Any]:
    options, params = options_of(draw), weights(draw)
    z = draw.array("*b t s d")
    q = z @ params["W_q"] + params.get("b_q", 0.0)
    m = off_kinks(draw, draw.array("*b t s u d"), lambda m: offsets_of_heads(q, m, params))
    return {"z": z, "m": m, "params": params, **options}


@builds("deformable-layer")
def deformable_layer(draw: Draw) -> dict[str, Any]:
    options = options_of(draw)
    params = {
        "norm_1": norm(draw),
        "motion": {"E": draw.array("2 d")} | ({"bias": draw.array("d")} if draw.chance() else {}),
        "attention": weights(draw),
        "norm_2": norm(draw),
        "feed_forward": {name: 0.4 * W for name, W in network(draw).items()},
    }
    z, embedding, attention = draw.array("*b t s d"), params["motion"], params["attention"]
    centred = z - z.mean(axis=-1, keepdims=True)
    x = centred / np.sqrt(z.var(axis=-1, keepdims=True) + 1e-6)
    x = x * params["norm_1"]["gamma"] + params["norm_1"]["beta"]
    q = x @ attention["W_q"] + attention.get("b_q", 0.0)

    def offsets(motion: np.ndarray) -> np.ndarray:
        m = motion @ embedding["E"] + embedding.get("bias", 0.0)
        return offsets_of_heads(q, m, attention)

    motion = off_kinks(draw, draw.array("*b t s u 2"), offsets)
    return {"z": z, "motion": motion, "params": params, **options}
