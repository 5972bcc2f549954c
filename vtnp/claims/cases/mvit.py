"""Inputs for the formulas of vtnp.mvit.

Besides the axis letters, sizes holds what the costs on the pages are written in: n_q and n_k, the
queries and the keys after pooling; taps_q and taps_kv, the weights that a pooling kernel has for
each channel, 0 where there is none.
"""

import math
from typing import Any

import numpy as np

from vtnp.claims.cases._draw import Draw, builds
from vtnp.claims.cases.encoder import network, norm
from vtnp.claims.cases.tokens import shuffled
from vtnp.encoder import layer_norm, qkv_projection
from vtnp.mvit import pooled_grid
from vtnp.tokens import sliding_windows

CLEAR = 0.002  # by how much a maximum stands out: further than any finite difference steps


def options(draw: Draw) -> dict[str, Any]:
    """Draw a window's mode, stride and, but for "conv", its size."""
    mode = str(draw.rng.choice(["conv", "max", "avg"]))
    return {"size": shuffled(draw, 1, 2, 3), "stride": shuffled(draw, 1, 2, 3), "mode": mode}


def grid_of(draw: Draw) -> tuple[int, int, int]:
    """Draw a small grid, odd and even axes in any order."""
    return shuffled(draw, 2, 3, 4)


def distinct(draw: Draw, shape: tuple[int, ...]) -> np.ndarray:
    """Draw numbers in [-2, 2] of which no two are near each other: no maximum is a close call."""
    count = math.prod(shape)
    steps = draw.rng.permutation(count) + draw.rng.uniform(-0.2, 0.2, count)
    return (steps * (4.0 / max(count, 1)) - 2.0).reshape(shape)


def is_clear(on_grid: np.ndarray, size: Any, stride: Any) -> bool:
    """Tell whether the largest number of every window stands out."""
    edges = [(k // 2, k // 2) for k in size]
    front = [(0, 0)] * (on_grid.ndim - 4)
    padded = np.pad(on_grid, [*front, *edges, (0, 0)], constant_values=-np.inf)
    seen = sliding_windows(padded, size=size, stride=stride)
    seen = np.sort(seen.reshape((*seen.shape[:-4], -1, seen.shape[-1])), axis=-2)
    return seen.shape[-2] == 1 or bool(np.all(seen[..., -1, :] - seen[..., -2, :] > CLEAR))


def set_sizes(draw: Draw, names: str, values: tuple[int, ...]) -> None:
    draw.sizes |= dict(zip(names.split(), values, strict=True))


def window(draw: Draw, width: str) -> dict[str, Any]:
    """Draw mode, stride, and a kernel or a size."""
    args = options(draw)
    set_sizes(draw, "k_t k_h k_w", args["size"])
    if args["mode"] == "conv":
        del args["size"]
        args["kernel"] = draw.array(f"k_t k_h k_w {width}")
    return args


@builds("pooled-grid")
def build_pooled_grid(draw: Draw) -> dict[str, Any]:
    args = {"grid": shuffled(draw, 3, 5, 8), "size": shuffled(draw, 1, 2, 3)}
    args["stride"] = shuffled(draw, 1, 2, 3)
    return {**args, "padding": shuffled(draw, 0, 1, 2)} if draw.chance() else args


@builds("pool")
def pool(draw: Draw) -> dict[str, Any]:
    args = window(draw, "d")
    grid = shuffled(draw, 3, 4, 5)
    x = distinct(draw, (*draw.batch, *grid, draw.size("d")))
    size = args.get("size", tuple(draw.sizes[axis] for axis in ("k_t", "k_h", "k_w")))
    if draw.chance():
        args["padding"] = tuple(int(draw.rng.integers(k)) for k in size)
    made = pooled_grid(grid, size=size, stride=args["stride"], padding=args.get("padding"))
    set_sizes(draw, "T H W t h w", (*grid, *made))
    return {"x": x, **args}


def pooling(draw: Draw, width: str) -> dict[str, Any]:
    """Draw everything but the tokens of pooled-tokens; set n and m."""
    args: dict[str, Any] = {"grid": grid_of(draw), "cls": draw.chance()}
    made = args["grid"]
    if draw.rng.random() < 0.9:
        args |= window(draw, width)
        size: Any = tuple(draw.sizes[axis] for axis in ("k_t", "k_h", "k_w"))
        made = pooled_grid(args["grid"], size=size, stride=args["stride"])
    set_sizes(draw, "n m", tuple(args["cls"] + math.prod(each) for each in (args["grid"], made)))
    if draw.chance():
        args |= {"gamma": draw.array(width), "beta": draw.array(width)}
    return args


@builds("pooled-tokens")
def pooled_tokens(draw: Draw) -> dict[str, Any]:
    draw.sizes["d"] = 7
    args = pooling(draw, "d")
    return {"x": distinct(draw, draw.shape("*b n d")), **args}


@builds("pooled-projection")
def pooled_projection(draw: Draw) -> dict[str, Any]:
    draw.sizes |= {"d": 5, "d_h": 7}
    args = pooling(draw, "d_h")
    if draw.chance():
        args["bias"] = draw.array("d_h")
    while True:
        X, W = draw.array("*b n d"), draw.array("d d_h")
        projected = (X @ W)[..., args["cls"] :, :].reshape((*draw.batch, *args["grid"], 7))
        if args.get("mode") != "max" or is_clear(projected, args["size"], args["stride"]):
            return {"X": X, "W": W, **args}


def heads(draw: Draw) -> dict[str, Any]:
    """Draw projections so moderate that no softmax saturates, with biases or without."""
    weights = {f"W_{c}": 0.5 * draw.array(f"heads d {w}") for c, w in _WIDTHS.items()}
    weights["W_c"] = 0.5 * draw.array("heads d_v d")
    if draw.chance():
        weights |= {f"b_{c}": draw.array(f"heads {w}") for c, w in _WIDTHS.items()}
        weights["b_c"] = draw.array("d")
    return weights


_WIDTHS = {"q": "d_h", "k": "d_h", "v": "d_v"}


def attention_of(draw: Draw, *, skip: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Draw params and options of multi-head-pooling-attention, the tokens left out.

    Where there is a skip beside it, the queries' window comes to the grid of the skip.
    """
    draw.sizes |= {"heads": 2, "d": 5, "d_h": 6, "d_v": 7}
    params, grid = heads(draw), grid_of(draw)
    mode = str(draw.rng.choice(["conv", "conv", "max", "avg"]))
    args: dict[str, Any] = {"grid": grid, "mode": mode, "cls": draw.chance()}
    shrinks = draw.chance()
    if shrinks:
        args["stride_q"] = shuffled(draw, 1, 2, 2) if skip else shuffled(draw, 1, 2, 3)
    reads = not shrinks or draw.chance()
    if reads:
        args["stride_kv"] = shuffled(draw, 1, 2, 3)
    made = {"q": grid, "kv": grid}
    draw.sizes |= {"taps_q": 0, "taps_kv": 0}
    for letters, pools in (("q", shrinks), ("kv", reads)):
        if not pools:
            continue
        size: tuple[Any, ...] = (3, 3, 3) if letters == "q" and skip else shuffled(draw, 1, 2, 3)
        made[letters] = pooled_grid(grid, size=size, stride=args[f"stride_{letters}"])
        if mode != "conv":
            args[f"size_{letters}"] = size
            continue
        draw.sizes[f"taps_{letters}"] = math.prod(size)
        for letter in letters:
            width = draw.sizes[_WIDTHS[letter]]
            params[f"kernel_{letter}"] = draw.rng.standard_normal((*size, width))
            if draw.chance():
                gamma, beta = draw.rng.standard_normal((2, width))
                params[f"norm_{letter}"] = {"gamma": gamma, "beta": beta}
    counts = [args["cls"] + math.prod(each) for each in (grid, made["q"], made["kv"])]
    set_sizes(draw, "n n_q n_k", tuple(counts))
    return params, args


def is_smooth(x: np.ndarray, params: dict[str, Any], args: dict[str, Any]) -> bool:
    """Tell whether no maximum of the pooled projections is a close call."""
    for letter, letters in (("q", "q"), ("k", "kv"), ("v", "kv")):
        if args.get(f"size_{letters}") is None or args["mode"] != "max":
            continue
        y = qkv_projection(x, params[f"W_{letter}"], bias=params.get(f"b_{letter}"))
        y = y[..., args["cls"] :, :].reshape((*y.shape[:-2], *args["grid"], y.shape[-1]))
        if not is_clear(y, args[f"size_{letters}"], args[f"stride_{letters}"]):
            return False
    return True


@builds("multi-head-pooling-attention")
def multi_head_pooling_attention(draw: Draw) -> dict[str, Any]:
    params, args = attention_of(draw, skip=False)
    while True:
        x = draw.array("*b n d")
        if is_smooth(x, params, args):
            return {"x": x, "params": params, **args}
        params |= heads(draw)


@builds("pooled-residual")
def pooled_residual(draw: Draw) -> dict[str, Any]:
    args: dict[str, Any] = {"grid": grid_of(draw)}
    args |= {"stride": shuffled(draw, 1, 2, 3), "cls": draw.chance()}
    draw.sizes["n"] = args["cls"] + math.prod(args["grid"])
    return {"x": distinct(draw, draw.shape("*b n d")), **args}


def widening(draw: Draw) -> dict[str, Any]:
    """Draw the second half of a block that widens."""
    layers = network(draw)
    layers["W_2"] = draw.array("d_f d_out")
    if "b_2" in layers:
        layers["b_2"] = draw.array("d_out")
    skip = {"W": draw.array("d d_out")}
    if draw.chance():
        skip["b"] = draw.array("d_out")
    return {"norm_2": norm(draw), "feed_forward": layers, "shortcut": skip}


@builds("widening-mlp")
def widening_mlp(draw: Draw) -> dict[str, Any]:
    draw.sizes |= {"d": 5, "d_out": 7}
    activation = str(draw.rng.choice(["relu", "gelu", "gelu_tanh"]))
    args = {"y": draw.array("*b n d"), "params": widening(draw)}
    return {**args, "eps": 1e-6, "activation": activation}


@builds("multiscale-block")
def multiscale_block(draw: Draw) -> dict[str, Any]:
    params, args = attention_of(draw, skip=True)
    draw.sizes |= {"d_f": 3, "d_out": 8 if draw.chance() else draw.sizes["d"]}
    rest = {"norm_2": norm(draw), "feed_forward": network(draw)}
    if draw.sizes["d_out"] != draw.sizes["d"]:
        rest = widening(draw)
    first = norm(draw)
    while True:
        x = distinct(draw, draw.shape("*b n d"))
        if is_smooth(layer_norm(x, **first, eps=1e-6), params, args):
            return {"x": x, "params": {"norm_1": first, "attention": params, **rest}, **args}
        params |= heads(draw)


@builds("adaptive-strides")
def adaptive_strides(draw: Draw) -> dict[str, Any]:
    blocks = int(draw.rng.integers(0, 5))
    strides = [tuple(map(int, draw.rng.choice([1, 1, 2, 3], 3))) for _ in range(blocks)]
    return {"stride_kv": shuffled(draw, 1, 5, 8), "strides_q": strides}
