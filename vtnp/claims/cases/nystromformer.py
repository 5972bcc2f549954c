"""Inputs for the formulas of vtnp.nystromformer."""

from typing import Any

import numpy as np

from vtnp.claims.cases._draw import Draw, builds
from vtnp.claims.cases.encoder import projections
from vtnp.encoder import attention_weights, qkv_projection
from vtnp.nystromformer import segment_means

# A pseudo-inverse multiplies every rounding error by up to the condition number of its matrix, so
# comparisons to 1e-12 need a small one. tests/nystromformer/test_nystromformer.py has large ones.
WELL_CONDITIONED = 30.0


def segments(draw: Draw) -> int:
    """Draw a number of segments, and a number of tokens that it divides or does not divide."""
    count = draw.size("l")
    if "n" in draw.sizes:
        return count
    lengths = (2, 3) if count < 5 else (2,)
    tokens = count * draw.choice(lengths)
    if draw.chance():
        tokens += draw.integer(1, count - 1)
    draw.sizes["n"] = tokens
    return count


def token_mask(draw: Draw) -> np.ndarray:
    """Draw which tokens are real, for the whole batch or for each element; the first always is."""
    return draw.mask("n") if draw.chance() else draw.mask("*b n")


def condition(Q: np.ndarray, K: np.ndarray) -> float:
    """Return the condition number of the landmarks' softmax matrix, the largest of the batch.

    Singular values of 0 do not count: all segments without a real token have the landmark 0.
    """
    sigma = np.linalg.svd(attention_weights(Q, K), compute_uv=False)
    return float(np.max(sigma[..., :1] / np.where(sigma > 5e-16, sigma, 1.0)))


def near(draw: Draw, anchors: np.ndarray, text: str) -> np.ndarray:
    """Draw an array whose rows lie around one anchor for each segment."""
    noise = draw.array(text)
    rows = noise.shape[-2]
    return 0.5 * noise + np.repeat(anchors, -(-rows // max(1, len(anchors))), axis=0)[:rows]


@builds("softmax-blocks")
def softmax_blocks(draw: Draw) -> dict[str, Any]:
    count = segments(draw)
    return {"Q": draw.array("*b n d"), "K": draw.array("*b n d"), "l": count}


def well_conditioned(draw: Draw) -> np.ndarray:
    """Draw square matrices of small condition numbers."""
    draw = draw.generic()
    A = draw.array("*b l l")
    while np.max(np.linalg.cond(A), initial=0.0) > WELL_CONDITIONED:
        A = draw.array("*b l l")
    return A


@builds("pseudo-inverse")
def pseudo_inverse(draw: Draw) -> dict[str, Any]:
    args = {"A": well_conditioned(draw)}
    if draw.chance():
        args["times"] = draw.array("*b l m")
    return args


@builds("nystrom-approximation")
def nystrom_approximation(draw: Draw) -> dict[str, Any]:
    A = well_conditioned(draw)
    return {"A": A, "B": draw.array("*b l k"), "F": draw.array("*b k l")}


@builds("segment-means")
def means(draw: Draw) -> dict[str, Any]:
    args: dict[str, Any] = {"l": segments(draw)}
    args["X"] = draw.array("*b n d")
    if draw.chance():
        args["mask"] = token_mask(draw)
        args["divisor"] = "tokens" if draw.chance() else "segment"
    return args


@builds("iterative-pinv")
def iterative_pinv(draw: Draw) -> dict[str, Any]:
    # A softmax matrix would have equal row sums, and where these tie the start value "paper" has no
    # derivative.
    A = np.exp(draw.array("*b l l")) / 3.0
    start = draw.choice(["paper", "exact", "original"])
    if start != "paper":
        A = A / A.sum(axis=-1, keepdims=True)
    return {"A": A, "iterations": draw.integer(1, 6), "start": start}


def inverse(draw: Draw) -> dict[str, Any]:
    """Draw how the landmarks' matrix is inverted."""
    if draw.chance():
        return {"pinv": "exact"}
    start = draw.choice(["paper", "exact", "original"])
    return {"pinv": "iterative", "iterations": draw.integer(1, 6), "start": start}


@builds("nystrom-attention")
def nystrom_attention(draw: Draw) -> dict[str, Any]:
    count = segments(draw)
    args = {"V": draw.array("*b n d_v"), **inverse(draw)}
    if draw.chance():
        args["mask"] = token_mask(draw)
    if draw.chance():
        args["scale"] = 0.7
    as_arrays, far = draw.chance(), 1.0
    draw = draw.generic()
    while True:
        anchors = far * draw.array("l d")
        Q, K = near(draw, anchors, "*b n d"), near(draw, anchors, "*b n d")
        Q_tilde, K_tilde = near(draw, anchors, "*b l d"), near(draw, anchors, "*b l d")
        if not as_arrays:
            mask = args.get("mask", np.ones(Q.shape[:-1], bool))
            Q_tilde, K_tilde = (segment_means(X, count, mask=mask) for X in (Q, K))
        if args["pinv"] == "iterative" or condition(Q_tilde, K_tilde) < WELL_CONDITIONED:
            break
        far *= 1.05
    args |= {"Q_tilde": Q_tilde, "K_tilde": K_tilde} if as_arrays else {"landmarks": count}
    return {"Q": Q, "K": K, **args}


@builds("sequence-convolution")
def sequence_convolution(draw: Draw) -> dict[str, Any]:
    draw.sizes["k"] = draw.choice([1, 3, 5, 7])
    return {"V": draw.array("*b heads n d_v"), "kernel": draw.array("heads k")}


@builds("nystrom-self-attention")
def nystrom_self_attention(draw: Draw) -> dict[str, Any]:
    count = segments(draw)
    args: dict[str, Any] = {"landmarks": count, **inverse(draw)}
    if draw.chance():
        draw.sizes["k"] = draw.choice([1, 3, 5])
        args["kernel"] = draw.array("heads k")
    if draw.chance():
        args["mask"] = token_mask(draw)
    chosen, far = draw, 1.0
    draw = draw.generic()
    while True:
        x = near(draw, far * draw.array("l d"), "*b n d")
        args |= projections(draw, bias=chosen.chance())
        # Similar queries and keys, so that the landmarks attend to themselves.
        args["W_k"] = args["W_q"] + 0.3 * args["W_k"]
        mask = args.get("mask", np.ones(x.shape[:-1], bool))[..., None, :]
        Q, K = (
            segment_means(X, count, mask=np.broadcast_to(mask, X.shape[:-1]))
            for X in (
                qkv_projection(x, args["W_q"], bias=args.get("b_q")),
                qkv_projection(x, args["W_k"], bias=args.get("b_k")),
            )
        )
        if args["pinv"] == "iterative" or condition(Q, K) < WELL_CONDITIONED:
            # A mask may lack batch axes, so it comes after the arrays that have them.
            return {"x": x, **args}
        far *= 1.05
