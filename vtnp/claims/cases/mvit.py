"""Inputs for the formulas of vtnp.mvit.

Besides the axis letters, sizes holds what the costs on the pages are written in: n_q and n_k, the
numbers of queries and keys after pooling; taps_q and taps_kv, the weights that a pooling kernel has
for each channel, 0 where there is none.
"""

import math
from typing import Any

import numpy as np

from vtnp.claims.cases._draw import Draw, builds
from vtnp.claims.cases.encoder import network, norm
from vtnp.claims.cases.tokens import shuffled
from vtnp.encoder import layer_norm, qkv_projection
from vtnp.mvit import Pooling, pooled_grid
from vtnp.tokens import Grid, sliding_windows

GAP = 0.002  # between a maximum and the next number: further than any finite difference steps


def mode_of(draw: Draw) -> Any:
    return draw.choice(["conv", "max", "avg"])


def grid_of(draw: Draw) -> Grid:
    """Draw a small grid, odd and even axes in any order."""
    return Grid(*shuffled(draw, 2, 3, 4))


def distinct(draw: Draw, shape: tuple[int, ...]) -> np.ndarray:
    """Draw numbers in [-2, 2] of which no two are near each other: no maximum is a close call."""
    count = math.prod(shape)
    steps = draw.rng.permutation(count) + draw.rng.uniform(-0.2, 0.2, count)
    return (steps * (4.0 / max(count, 1)) - 2.0).reshape(shape)


def is_clear(on_grid: np.ndarray, pooling: Pooling) -> bool:
    """Tell whether the maximum of every window is larger than the next number by a gap."""
    size: Any = pooling.size
    edges = [(p, p) for p in pooling.padding or [k // 2 for k in size]]
    front = [(0, 0)] * (on_grid.ndim - 4)
    padded = np.pad(on_grid, [*front, *edges, (0, 0)], constant_values=-np.inf)
    windows = sliding_windows(padded, size=size, stride=pooling.stride)
    windows = windows.reshape((*windows.shape[:-4], -1, windows.shape[-1]))
    windows = np.sort(windows, axis=-2)
    if windows.shape[-2] == 1:
        return True
    return bool(np.all(windows[..., -1, :] - windows[..., -2, :] > GAP))


def set_sizes(draw: Draw, names: str, values: tuple[int, ...]) -> None:
    draw.sizes |= dict(zip(names.split(), values, strict=True))


def window(draw: Draw, width: str, grid: Grid) -> tuple[dict[str, Any], Pooling]:
    """Draw a pooling, and its kernel in the mode "conv"; return the pooling with its size, too."""
    mode, size = mode_of(draw), shuffled(draw, 1, 2, 3)
    set_sizes(draw, "k_t k_h k_w", size)
    pooling = Pooling(shuffled(draw, 1, 2, 3), size, padding_of(draw, size, grid), mode)
    if mode != "conv":
        return {"pooling": pooling}, pooling
    kernel = draw.array(f"k_t k_h k_w {width}")
    if draw.chance(0.2):
        return {"kernel": kernel}, Pooling(size=size)
    return {"kernel": kernel, "pooling": pooling._replace(size=None)}, pooling


def padding_of(draw: Draw, size: tuple[int, ...], grid: Grid) -> Any:
    """Draw a padding less than the size with which the window fits, or none."""
    least = [max(0, (k - n + 1) // 2) for k, n in zip(size, grid, strict=True)]
    padding = tuple(draw.integer(low, k - 1) for low, k in zip(least, size, strict=True))
    return padding if draw.chance() else None


@builds("pooled-grid")
def build_pooled_grid(draw: Draw) -> dict[str, Any]:
    grid, size, stride = (shuffled(draw, *each) for each in ((3, 5, 8), (1, 2, 3), (1, 2, 3)))
    padding = shuffled(draw, 0, 1, 2) if draw.chance() else None
    return {"grid": Grid(*grid), "pooling": Pooling(stride, size, padding, mode_of(draw))}


@builds("pool")
def pool(draw: Draw) -> dict[str, Any]:
    grid = Grid(*shuffled(draw, 3, 4, 5))
    args, pooling = window(draw, "d", grid)
    x = distinct(draw, (*draw.batch, *grid, draw.size("d")))
    set_sizes(draw, "T H W t h w", (*grid, *pooled_grid(grid, pooling=pooling)))
    return {"x": x, **args}


def pooling_of(draw: Draw, width: str) -> tuple[dict[str, Any], Pooling]:
    """Draw the options and weights of pooled-tokens; return the pooling with its size, too."""
    grid, has_cls, pooling = grid_of(draw), draw.chance(), Pooling()
    args: dict[str, Any] = {"grid": grid, "has_cls": has_cls}
    if draw.chance(0.9):
        more, pooling = window(draw, width, grid)
        args |= more
    counts = (math.prod(grid), math.prod(pooled_grid(grid, pooling=pooling)))
    set_sizes(draw, "n m", tuple(has_cls + count for count in counts))
    if draw.chance():
        args |= {"gamma": draw.array(width), "beta": draw.array(width)}
    return args, pooling


@builds("pooled-tokens")
def pooled_tokens(draw: Draw) -> dict[str, Any]:
    draw.sizes["d"] = 7
    args, _ = pooling_of(draw, "d")
    return {"x": distinct(draw, draw.shape("*b n d")), **args}


@builds("pooled-projection")
def pooled_projection(draw: Draw) -> dict[str, Any]:
    draw.sizes |= {"d": 5, "d_h": 7}
    args, pooling = pooling_of(draw, "d_h")
    if draw.chance():
        args["bias"] = draw.array("d_h")
    while True:
        X, W = draw.array("*b n d"), draw.array("d d_h")
        projected = (X @ W)[..., args["has_cls"] :, :].reshape((*draw.batch, *args["grid"], 7))
        if pooling.mode != "max" or is_clear(projected, pooling):
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


def attention_of(draw: Draw, *, residual: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Draw params and options of multi-head-pooling-attention, the tokens left out.

    residual: whether the queries' window must pool to the grid of a pooled residual.
    """
    draw.sizes |= {"heads": 2, "d": 5, "d_h": 6, "d_v": 7}
    params, grid = heads(draw), grid_of(draw)
    mode: Any = draw.choice(["conv", "conv", "max", "avg"])
    args: dict[str, Any] = {"grid": grid, "has_cls": draw.chance()}
    poolings = {"q": Pooling(), "kv": Pooling()}
    if draw.chance():
        size = (3, 3, 3) if residual else shuffled(draw, 1, 2, 3)
        stride = shuffled(draw, 1, 2, 2) if residual else shuffled(draw, 1, 2, 3)
        poolings["q"] = Pooling(stride, size, None if residual else padding_of(draw, size, grid))
    if poolings["q"].size is None or draw.chance():
        size = shuffled(draw, 1, 2, 3)
        poolings["kv"] = Pooling(shuffled(draw, 1, 2, 3), size, padding_of(draw, size, grid))
    draw.sizes |= {"taps_q": 0, "taps_kv": 0}
    for letters, pooling in poolings.items():
        if pooling.size is None:
            continue
        args[f"pool_{letters}"] = pooling._replace(mode=mode)
        if mode != "conv":
            continue
        args[f"pool_{letters}"] = pooling._replace(size=None)
        draw.sizes[f"taps_{letters}"] = math.prod(pooling.size)
        for letter in letters:
            width = draw.sizes[_WIDTHS[letter]]
            params[f"kernel_{letter}"] = draw.numbers((*pooling.size, width))
            if draw.chance():
                gamma, beta = draw.numbers((2, width))
                params[f"norm_{letter}"] = {"gamma": gamma, "beta": beta}
    grids = (grid, *(pooled_grid(grid, pooling=each) for each in poolings.values()))
    set_sizes(draw, "n n_q n_k", tuple(args["has_cls"] + math.prod(each) for each in grids))
    return params, args


def is_smooth(x: np.ndarray, params: dict[str, Any], args: dict[str, Any]) -> bool:
    """Tell whether no maximum of the pooled projections is a close call."""
    for letter, letters in (("q", "q"), ("k", "kv"), ("v", "kv")):
        pooling = args.get(f"pool_{letters}", Pooling())
        if pooling.mode != "max":
            continue
        y = qkv_projection(x, params[f"W_{letter}"], bias=params.get(f"b_{letter}"))
        y = y[..., args["has_cls"] :, :].reshape((*y.shape[:-2], *args["grid"], y.shape[-1]))
        if not is_clear(y, pooling):
            return False
    return True


@builds("multi-head-pooling-attention")
def multi_head_pooling_attention(draw: Draw) -> dict[str, Any]:
    params, args = attention_of(draw, residual=False)
    while True:
        x = draw.array("*b n d")
        if is_smooth(x, params, args):
            return {"x": x, "params": params, **args}
        params |= heads(draw)


@builds("pooled-residual")
def pooled_residual(draw: Draw) -> dict[str, Any]:
    args: dict[str, Any] = {"grid": grid_of(draw)}
    args |= {"stride": shuffled(draw, 1, 2, 3), "has_cls": draw.chance()}
    draw.sizes["n"] = args["has_cls"] + math.prod(args["grid"])
    return {"x": distinct(draw, draw.shape("*b n d")), **args}


def widening(draw: Draw) -> dict[str, Any]:
    """Draw the second sublayer of a block that widens."""
    layers = network(draw)
    layers["W_2"] = draw.array("d_f d_out")
    if "b_2" in layers:
        layers["b_2"] = draw.array("d_out")
    shortcut = {"W": draw.array("d d_out")}
    if draw.chance():
        shortcut["b"] = draw.array("d_out")
    return {"norm_2": norm(draw), "feed_forward": layers, "shortcut": shortcut}


@builds("widening-mlp")
def widening_mlp(draw: Draw) -> dict[str, Any]:
    draw.sizes |= {"d": 5, "d_out": 7}
    activation = draw.choice(["relu", "gelu", "gelu_tanh"])
    args = {"y": draw.array("*b n d"), "params": widening(draw)}
    return {**args, "eps": 1e-6, "activation": activation}


@builds("multiscale-block")
def multiscale_block(draw: Draw) -> dict[str, Any]:
    params, args = attention_of(draw, residual=True)
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
    blocks = draw.integer(0, 4)
    strides = [tuple(draw.choice([1, 1, 2, 3]) for _ in range(3)) for _ in range(blocks)]
    return {"stride_kv": shuffled(draw, 1, 5, 8), "strides_q": strides}
