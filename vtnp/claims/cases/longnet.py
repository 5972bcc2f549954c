"""Inputs for the formulas of vtnp.longnet.

Among them are lengths that no segment divides, segments longer than the sequence, dilations that do
not divide the segment, and dilations greater than the number of heads.
"""

import math
from typing import Any

import numpy as np

from vtnp.claims.cases._draw import Draw, builds
from vtnp.longnet import Branch


def branch(draw: Draw) -> Branch:
    dilation = draw.integer(1, 5)
    return Branch(draw.integer(dilation, 11), dilation)


def offsets(draw: Draw) -> str:
    return "paper" if draw.chance() else "torchscale"


def length(draw: Draw) -> int:
    """Draw the length of the sequence, shorter than most segments to longer than any."""
    return draw.sizes.setdefault("n", draw.choice([3, 7, 12, 13, 16, 19]))


def tokens(draw: Draw) -> dict[str, Any]:
    length(draw)
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
        "heads": draw.integer(1, 12),
        "dilation": draw.integer(1, 6),
        "offsets": offsets(draw),
        "like": draw.array("d"),
    }


@builds("valid-mask")
def valid_mask(draw: Draw) -> dict[str, Any]:
    return {
        "n": length(draw),
        "heads": draw.size("heads"),
        "branch": branch(draw),
        "offsets": offsets(draw),
        "like": draw.array("d"),
    }


@builds("dense-to-sparse")
def dense_to_sparse(draw: Draw) -> dict[str, Any]:
    length(draw)
    return {"x": draw.array("*b heads n d"), "branch": branch(draw), "offsets": offsets(draw)}


@builds("sparse-to-dense")
def sparse_to_dense(draw: Draw) -> dict[str, Any]:
    n, (w, r) = length(draw), branch(draw)
    draw.sizes["segments"] = math.ceil(n / min(w, n))
    draw.sizes["rows"] = math.ceil(min(w, n) / r)
    return {
        "y": draw.array("*b heads segments rows d"),
        "n": n,
        "branch": Branch(w, r),
        "offsets": offsets(draw),
        "fill": -math.inf if draw.chance() else 0.0,
    }


@builds("logsumexp")
def logsumexp(draw: Draw) -> dict[str, Any]:
    return {"x": 3.0 * draw.array("*b n")}


@builds("dilated-branch")
def dilated_branch(draw: Draw) -> dict[str, Any]:
    return {**tokens(draw), "branch": branch(draw), "offsets": offsets(draw)}


@builds("mix-branches")
def mix_branches(draw: Draw) -> dict[str, Any]:
    count = draw.integer(2, 4)
    outputs = [draw.array("*b n d_v") for _ in range(count)]
    log_denominators = [2.0 * draw.array("*b n") for _ in range(count)]
    for y, l in zip(outputs[1:], log_denominators[1:], strict=True):
        absent = draw.uniform(0.0, 1.0, l.shape) < 0.3
        y[absent], l[absent] = 0.0, -np.inf
    return {"outputs": outputs, "log_denominators": log_denominators}


@builds("dilated-attention")
def dilated_attention(draw: Draw) -> dict[str, Any]:
    branches = [branch(draw) for _ in range(draw.integer(1, 3))]
    return {**tokens(draw), "branches": branches, "offsets": offsets(draw)}
