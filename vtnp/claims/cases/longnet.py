"""Inputs for the formulas of vtnp.longnet.

Lengths that no segment divides, segments longer than the sequence, dilations that do not divide
the segment and ones larger than the number of heads are all drawn.
"""

import math
from typing import Any

import numpy as np

from vtnp.claims.cases._draw import Draw, builds


def branch(draw: Draw) -> dict[str, Any]:
    dilation = int(draw.rng.integers(1, 6))
    segment = int(draw.rng.integers(dilation, 12))
    return {"segment": segment, "dilation": dilation, "offsets": rule(draw)}


def rule(draw: Draw) -> str:
    return "paper" if draw.chance() else "torchscale"


def sequence(draw: Draw, axis: str) -> int:
    """Draw a length under that letter, from short to longer than any segment."""
    return draw.sizes.setdefault(axis, int(draw.rng.choice([3, 7, 12, 13, 16, 19])))


def tokens(draw: Draw) -> dict[str, Any]:
    sequence(draw, "n")
    return {
        "Q": draw.array("*b heads n d_k"),
        "K": draw.array("*b heads n d_k"),
        "V": draw.array("*b heads n d_v"),
        "causal": draw.chance(),
        "zero_keys": draw.chance(),
    }


@builds("head-offsets")
def head_offsets(draw: Draw) -> dict[str, Any]:
    return {
        "heads": int(draw.rng.integers(1, 13)),
        "dilation": int(draw.rng.integers(1, 7)),
        "offsets": rule(draw),
        "like": draw.array("d"),
    }


@builds("valid-mask")
def valid_mask(draw: Draw) -> dict[str, Any]:
    n, heads = sequence(draw, "n"), draw.size("heads")
    return {"n": n, "heads": heads, **branch(draw), "like": draw.array("d")}


@builds("dense-to-sparse")
def dense_to_sparse(draw: Draw) -> dict[str, Any]:
    sequence(draw, "n")
    return {"x": draw.array("*b heads n d"), **branch(draw)}


@builds("sparse-to-dense")
def sparse_to_dense(draw: Draw) -> dict[str, Any]:
    n, options = sequence(draw, "n"), branch(draw)
    length = min(options["segment"], n)
    draw.sizes["segments"] = math.ceil(n / length)
    draw.sizes["kept"] = math.ceil(length / options["dilation"])
    fill = -math.inf if draw.chance() else 0.0
    return {"y": draw.array("*b heads segments kept d"), "n": n, **options, "fill": fill}


@builds("logsumexp")
def logsumexp(draw: Draw) -> dict[str, Any]:
    return {"x": 3.0 * draw.array("*b n")}


@builds("dilated-branch")
def dilated_branch(draw: Draw) -> dict[str, Any]:
    return {**tokens(draw), **branch(draw)}


@builds("mix-branches")
def mix_branches(draw: Draw) -> dict[str, Any]:
    shares = int(draw.rng.integers(2, 5))
    outputs = [draw.array("*b n d_v") for _ in range(shares)]
    log_denominators = [2.0 * draw.array("*b n") for _ in range(shares)]
    for y, l in zip(outputs[1:], log_denominators[1:], strict=True):
        absent = draw.rng.random(l.shape) < 0.3
        y[absent], l[absent] = 0.0, -np.inf
    return {"outputs": outputs, "log_denominators": log_denominators}


@builds("dilated-attention")
def dilated_attention(draw: Draw) -> dict[str, Any]:
    options = [branch(draw) for _ in range(int(draw.rng.integers(1, 4)))]
    return {
        **tokens(draw),
        "segments": [each["segment"] for each in options],
        "dilations": [each["dilation"] for each in options],
        "offsets": rule(draw),
    }
