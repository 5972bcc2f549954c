"""Random sizes for every formula, small and huge, as vtnp.cost.sized_call takes them.

Every name of a formula is drawn by its type or by what it is called; where sizes have to fit each
other, a rule of the formula draws them together. Names that are left out follow from the others.
"""

import typing
from collections.abc import Callable
from typing import Any, Literal

from hypothesis import strategies as st

from vtnp.cost.sizes import size_names
from vtnp.longnet import Branch
from vtnp.motionformer import Prototypes
from vtnp.mvit import Pooling
from vtnp.tokens import Grid

SMALL, HUGE = st.integers(1, 7), st.integers(1, 10**6)
# Numbers of iterations, not sizes of arrays.
LOOPED = {
    "u", "r", "layers", "p_t", "k_t", "k_h", "k_w", "p_h", "p_w", "iterations", "branches",
    "length", "k",
}  # fmt: skip
DRAWN: dict[str, Any] = {
    "batch": st.lists(st.integers(0, 3), max_size=2).map(tuple),
    "time_layers": st.none() | st.integers(0, 2),
    "layers": st.integers(0, 2),
    "scale": st.none() | st.just(0.5),
    "activation": st.sampled_from(["relu", "gelu", "gelu_tanh"]),
    "first": st.sampled_from(["time", "space"]),
    "offsets": st.sampled_from(["paper", "torchscale"]),
    "candidates": st.sampled_from(["queries", "keys", "both"]),
}
Rule = Callable[[Any, dict[str, Any]], None]
RULES: dict[str, Rule] = {}


@st.composite
def sizes(draw: Any, id: str) -> dict[str, Any]:
    """Draw sizes and options of a formula, all of which fit each other."""
    given = {}
    for name, kind in size_names(id).items():
        if name in DRAWN:
            given[name] = draw(DRAWN[name])
        elif typing.get_origin(kind) is Literal:
            given[name] = draw(st.sampled_from(typing.get_args(kind)))
        elif kind is bool:
            given[name] = draw(st.booleans())
        elif kind is int:
            given[name] = draw(SMALL if name in LOOPED else SMALL | HUGE)
    # As K_cls, Q_tilde and gamma; the first; the width of all heads.
    for name in ("V_cls", "K_tilde", "beta", "start", "e"):
        given.pop(name, None)
    if id in RULES:
        RULES[id](draw, given)
    return given


def rule(*ids: str) -> Callable[[Rule], Rule]:
    """Register what makes the sizes of formulas fit each other."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(ids, function))
        return function

    return register


def triple(draw: Any, low: int = 1, high: int = 3) -> tuple[int, int, int]:
    return draw(st.tuples(*[st.integers(low, high)] * 3))


@rule("patch-tokens")
def patch_tokens(draw, given):
    given["size"] = triple(draw)
    for axis, part in zip("THW", given["size"], strict=True):
        given[axis] *= part
    given["order"] = draw(st.sampled_from(["thwc", "cthw"]))


@rule("clip-tokens")
def clip_tokens(draw, given):
    given["T"] *= given["length"]


@rule("instance-tokens")
def instance_tokens(draw, given):
    given["size"] = triple(draw)[:2]


@rule("bilinear-sample", "weighted-sum-of-samples", "deformable-attention")
def sampled(draw, given):
    given["padding"] = draw(st.sampled_from(["zeros", "border"]))
    if "s" in given:
        on_grid(draw, given)


def on_grid(draw, given, unit=1):
    """Draw a grid of those frames whose sides are multiples of a unit; s follows."""
    h, w = (unit * draw(SMALL | st.integers(1, 500)) for _ in range(2))
    given["grid"] = Grid(given["t"], h, w)
    del given["s"]


@rule("sliding-windows", "spatial-embedding", "spatio-temporal-embedding")
def embedded(draw, given):
    kernel = given.get("k_t", 1), given.get("k_h", 2), given.get("k_w", 3)
    flat = "k_t" not in given and "k_h" in given
    if "k_h" not in given:
        given["size"] = kernel
    for axis, k in zip("THW", kernel, strict=True):
        given[axis] += k
    given["stride"], given["padding"] = triple(draw), triple(draw, low=0)
    if flat:
        given["stride"], given["padding"] = given["stride"][1:], given["padding"][1:]


@rule("tubelet-embedding")
def tubelet_embedding(draw, given):
    for axis, part in {"T": "p_t", "H": "p_h", "W": "p_w"}.items():
        given[axis] += given[part]


@rule("uniform-frame-sampling")
def uniform_frame_sampling(draw, given):
    given["T"] += given["k"]


@rule("sinusoidal-positions", "sinusoidal-positions-2d", "sinusoidal-positions-3d")
def sinusoidal(draw, given):
    given["d"] = 48 * draw(SMALL)
    if "t" in given:
        given["split"] = draw(st.sampled_from(["thirds", "quarter"]))


@rule("relative-attention", "sequence-convolution", "nystrom-self-attention")
def odd(draw, given):
    letter = "r" if "r" in given else "k"
    given[letter] = 2 * given[letter] - 1
    if "landmarks" in given:
        landmarks(draw, given)


@rule("local-attention", "global-attention", "attention-sublayer", "class-attention")
@rule("local-global-layer")
def halved(draw, given):
    given["t"] *= 2
    on_grid(draw, given, unit=2)


@rule("width-attention", "height-attention", "axial-layer")
def by_rows(draw, given):
    on_grid(draw, given)


@rule("divided-layer", "factorised-self-attention-layer")
def ordered(draw, given):
    given["order"] = draw(st.sampled_from(["time-space", "space-time"]))


@rule("factorised-dot-product-attention", "factorised-dot-product-layer")
def shared_out(draw, given):
    given["heads"] *= 2


@rule("trajectory-attention")
def trajectory_attention(draw, given):
    given["W_v"] = given["value_projection"]
    if not given["value_projection"]:
        del given["d_v"]


@rule("orthogonal-prototypes")
def orthogonal_prototypes(draw, given):
    given["n"] += given["r"]


@rule("trajectory-prototypes")
def trajectory_prototypes(draw, given):
    given["s"] += given["r"]


@rule("prototype-trajectory-tokens")
def prototype_trajectory_tokens(draw, given):
    given["g"] = draw(st.sampled_from([1, given["t"]]))


@rule("trajectory-self-attention", "trajectory-layer")
def through_prototypes(draw, given):
    candidates = st.sampled_from(["queries", "keys", "both"])
    choices = st.tuples(st.integers(1, 5), candidates, st.booleans())
    given["prototypes"] = draw(st.none() | choices.map(lambda choice: Prototypes(*choice)))
    given["s"] += 5


@rule("deformable-self-attention", "deformable-layer")
def of_clips(draw, given):
    given["clips"] = draw(SMALL)
    given["t"] = given["clips"] * given.pop("u")
    sampled(draw, given)


@rule("pooled-grid")
def pooled_grid(draw, given):
    given["grid"], given["pooling"] = pooled(draw)


def pooled(draw):
    """Draw a grid and a pooling, its size included, whose window fits."""
    size = triple(draw)
    grid = Grid(*(k + draw(SMALL | st.integers(1, 300)) for k in size))
    mode = draw(st.sampled_from(["conv", "max", "avg"]))
    return grid, Pooling(triple(draw), size, mode=mode)


@rule("pool", "pooled-tokens", "pooled-projection")
def window(draw, given):
    grid, pooling = pooled(draw)
    given |= dict(zip(("k_t", "k_h", "k_w"), pooling.size, strict=True))
    padding = draw(st.none() | st.tuples(*(st.integers(0, k - 1) for k in pooling.size)))
    given["kernel"] = pooling.mode == "conv"
    size = None if given["kernel"] else pooling.size
    given["pooling"] = pooling._replace(size=size, padding=padding)
    if "T" in given:
        given |= dict(zip("THW", grid, strict=True))
        return
    given["grid"] = grid
    given.pop("n")
    given.pop("m", None)
    if given["kernel"] and draw(st.booleans()):  # nothing is pooled
        given |= {"kernel": False, "pooling": Pooling()}


@rule("pooled-residual")
def pooled_residual(draw, given):
    given["grid"], pooling = pooled(draw)
    given["stride"] = pooling.stride
    del given["n"]


@rule("multi-head-pooling-attention", "multiscale-block")
def poolings(draw, given):
    given["grid"], pooling = pooled(draw)
    del given["n"]
    for of in ("q", "kv"):
        given |= {f"pool_{of}": Pooling(), f"kernel_{of}": None}
        if draw(st.booleans()):
            # The window of the queries has to fit the residual beside it.
            beside = of == "q" and "d_out" in given
            size = (3, 3, 3) if beside else triple(draw)
            stride = triple(draw, high=2 if beside else 3)
            has_kernel = pooling.mode == "conv"
            given[f"pool_{of}"] = Pooling(stride, None if has_kernel else size, mode=pooling.mode)
            given[f"kernel_{of}"] = size if has_kernel else None
    if "d_out" in given and draw(st.booleans()):
        given["d_out"] = given["d"]


@rule("adaptive-strides")
def adaptive_strides(draw, given):
    given |= {"stride_kv": triple(draw), "strides_q": (triple(draw), triple(draw))}


@rule("softmax-blocks", "segment-means")
def blocks(draw, given):
    given["n"] += given["l"]


@rule("nystrom-attention")
def landmarks(draw, given):
    if not given.get("Q_tilde"):
        given["landmarks"] = draw(SMALL | HUGE)
        given["n"] += given["landmarks"]
    given["start"] = draw(st.sampled_from(["paper", "exact", "original"]))


@rule("iterative-pinv")
def iterative_pinv(draw, given):
    given["start"] = draw(st.sampled_from(["paper", "exact", "original"]))


def a_branch(draw):
    dilation = draw(SMALL | HUGE)
    return Branch(dilation + draw(SMALL | HUGE), dilation)


@rule("dense-to-sparse", "sparse-to-dense", "valid-mask", "dilated-branch")
def branch(draw, given):
    given["branch"] = a_branch(draw)
    given.pop("segments", None)
    given.pop("rows", None)


@rule("dilated-attention")
def branches(draw, given):
    given["branches"] = tuple(a_branch(draw) for _ in range(draw(st.integers(1, 3))))
