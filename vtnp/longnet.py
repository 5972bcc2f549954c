"""Dilated attention (LongNet): attention at a cost linear in the length of the sequence."""

import math
from collections.abc import Sequence
from functools import partial

from vtnp._array.typing import Array, Bool, Float, Int
from vtnp._array.xp import constant, device, namespace, transposed
from vtnp._registry.errors import require
from vtnp._registry.spec import spec
from vtnp.encoder import causal_mask, softmax

OFFSETS = ("paper", "torchscale")


def _sizes(formula: str, n: int, segment: int, dilation: int) -> tuple[int, int, int]:
    """Return the length of a segment, how many there are, and how many rows each keeps."""
    require(n >= 1, formula, "n", "at least one token", n)
    require(dilation >= 1, formula, "dilation", "a number >= 1", dilation)
    fits = segment >= dilation
    require(fits, formula, "segment", f"a number >= the dilation, {dilation}", segment)
    length = min(segment, n)
    return length, -(-n // length), -(-length // dilation)


@spec("head-offsets")
def head_offsets(
    heads: int, dilation: int, *, offsets: str = "paper", like: Array
) -> Int[Array, " heads"]:
    """Choose for each head the first token that it keeps of every segment.

    s[h] = h mod r

    heads: how many, >= 1. dilation: r, >= 1. offsets: "paper", or "torchscale" for
    floor(h / ceil(heads / r)). like: an array whose library and device the offsets are made for.
    Raises FormulaError.
    Notes: the two rules are no permutation of each other where branches are mixed (page).
    """
    known = f"one of {sorted(OFFSETS)}"
    require(offsets in OFFSETS, "head-offsets", "offsets", known, offsets)
    require(heads >= 1, "head-offsets", "heads", "a number >= 1", heads)
    require(dilation >= 1, "head-offsets", "dilation", "a number >= 1", dilation)
    xp = namespace(like)
    h = xp.arange(heads, device=device(like))
    if offsets == "paper":
        return xp.remainder(h, dilation)
    return xp.floor_divide(h, -(-heads // dilation))


def _chosen(heads: int, dilation: int, offsets: str, like: Array) -> Array:
    """Tell which of `dilation` neighbours a head keeps, as (heads, 1, 1, dilation, 1)."""
    xp = namespace(like)
    first = head_offsets(heads, dilation, offsets=offsets, like=like)
    neighbour = xp.arange(dilation, device=device(like))
    return xp.reshape(xp.expand_dims(first, axis=1) == neighbour, (heads, 1, 1, dilation, 1))


def _padded(x: Array, rows: int) -> Array:
    """Append rows of zeros."""
    if rows == 0:
        return x
    xp = namespace(x)
    zeros = xp.zeros((*x.shape[:-2], rows, x.shape[-1]), dtype=x.dtype, device=device(x))
    return xp.concat([x, zeros], axis=-2)


@spec("dense-to-sparse")
def dense_to_sparse(
    x: Float[Array, "*b heads n d"], *, segment: int, dilation: int, offsets: str = "paper"
) -> Float[Array, "*b heads segments kept d"]:
    """Cut the sequence into segments and keep every r-th row of each, from the head's offset on.

    y[h,i,j] = x[h, i w + j r + s[h]], 0 beyond the segment or the sequence

    x: the queries, keys or values of each head. segment: w, cut down to n. dilation: r.
    offsets: s, as in head-offsets.
    Raises ShapeError; FormulaError for no tokens, a dilation < 1 or a segment < the dilation.
    Notes: kept = ceil(w / r), the same for all heads; valid-mask tells tokens from padding.
    """
    *batch, heads, n, d = x.shape
    length, segments, kept = _sizes("dense-to-sparse", n, segment, dilation)
    xp = namespace(x)
    x = xp.reshape(_padded(x, segments * length - n), (*batch, heads, segments, length, d))
    x = _padded(x, kept * dilation - length)
    x = xp.reshape(x, (*batch, heads, segments, kept, dilation, d))
    # One of the r neighbours and zeros: the sum selects, exactly, without a gather.
    return xp.sum(xp.where(_chosen(heads, dilation, offsets, x), x, 0.0), axis=-2)


@spec("sparse-to-dense")
def sparse_to_dense(
    y: Float[Array, "*b heads segments kept d"],
    n: int,
    *,
    segment: int,
    dilation: int,
    offsets: str = "paper",
    fill: float = 0.0,
) -> Float[Array, "*b heads n d"]:
    """Put the rows that were kept back to where they came from.

    x[h, i w + j r + s[h]] = y[h,i,j], fill elsewhere

    y: one row for each row that dense-to-sparse keeps. n: length of the sequence. segment,
    dilation, offsets: as in dense-to-sparse. fill: what a token gets that the head has not kept.
    Raises ShapeError; FormulaError as dense-to-sparse does, and where y is not of its shape.
    """
    *batch, heads, segments, kept, d = y.shape
    length, *meant = _sizes("sparse-to-dense", n, segment, dilation)
    fits, what = [segments, kept] == meant, f"{meant[0]} segments of {meant[1]} kept rows"
    require(fits, "sparse-to-dense", "y", what, tuple(y.shape))
    xp = namespace(y)
    x = xp.where(_chosen(heads, dilation, offsets, y), xp.expand_dims(y, axis=-2), fill)
    x = xp.reshape(x, (*batch, heads, segments, kept * dilation, d))[..., :length, :]
    return xp.reshape(x, (*batch, heads, segments * length, d))[..., :n, :]


@spec("valid-mask")
def valid_mask(
    n: int, heads: int, *, segment: int, dilation: int, offsets: str = "paper", like: Array
) -> Bool[Array, "heads segments kept"]:
    """Tell which rows of dense-to-sparse are tokens and which are padding.

    kept[h,i,j] = (j r + s[h] < w) and (i w + j r + s[h] < n)

    n: length of the sequence. heads: how many. segment, dilation, offsets: as in dense-to-sparse.
    like: an array whose library and device the answer is made for.
    Raises FormulaError as dense-to-sparse does.
    """
    length, segments, kept = _sizes("valid-mask", n, segment, dilation)
    xp, there = namespace(like), device(like)
    first = head_offsets(heads, dilation, offsets=offsets, like=like)
    place = xp.reshape(first, (heads, 1, 1)) + xp.arange(kept, device=there) * dilation
    start = xp.reshape(xp.arange(segments, device=there), (segments, 1)) * length
    return xp.logical_and(place < length, start + place < n)


@spec("logsumexp")
def logsumexp(x: Float[Array, "*b n"]) -> Float[Array, "*b"]:
    """Take the logarithm of the denominator that a softmax over the row has.

    l = log sum_j exp(x[j])

    x: scores; -inf contributes nothing; n >= 1.
    Raises ShapeError; FormulaError for an empty row.
    Notes: a row of nothing but -inf has l = -inf. Shifted by the row's maximum, so that no finite
    score overflows.
    """
    require(x.shape[-1] >= 1, "logsumexp", "x", "at least one score per row", tuple(x.shape))
    xp = namespace(x)
    # log sum exp(x - c) + c is the same for any c, so the shift needs no gradient of its own.
    largest = xp.max(constant(x), axis=-1, keepdims=True)
    shift = xp.where(largest == -math.inf, 0.0, largest)
    total = xp.sum(xp.exp(x - shift), axis=-1)
    absent = total == 0.0
    return xp.where(absent, -math.inf, xp.log(xp.where(absent, 1.0, total)) + shift[..., 0])


@spec("dilated-branch")
def dilated_branch(
    Q: Float[Array, "*b heads n d_k"],
    K: Float[Array, "*b heads n d_k"],
    V: Float[Array, "*b heads n d_v"],
    *,
    segment: int,
    dilation: int,
    offsets: str = "paper",
    causal: bool = False,
    zero_keys: bool = False,
) -> tuple[Float[Array, "*b heads n d_v"], Float[Array, "*b heads n"]]:
    """Attend within each segment, among every r-th token, and report the softmax's denominator.

    y[p] = sum_q exp(x[p,q] - l[p]) V[q], l[p] = log sum_q exp(x[p,q]), x = Q K^T / sqrt(d_k)

    Q, K, V: of each head. segment, dilation, offsets: as in dense-to-sparse; p and q run over the
    tokens that a head keeps of one segment. causal: only q <= p. zero_keys: let the zero rows that
    pad a segment take part as keys, as torchscale does.
    Raises ShapeError; FormulaError as dense-to-sparse does, and for keys of width 0.
    Notes: a token that its head has not kept gets y = 0 and l = -inf.
    """
    require(K.shape[-1] >= 1, "dilated-branch", "K", "a width of at least 1", tuple(K.shape))
    n, xp = K.shape[-2], namespace(Q, K, V)
    take = partial(dense_to_sparse, segment=segment, dilation=dilation, offsets=offsets)
    back = partial(sparse_to_dense, n=n, segment=segment, dilation=dilation, offsets=offsets)
    mask = _readable(K, segment, dilation, offsets, causal=causal, zero_keys=zero_keys)
    scores = take(Q) @ transposed(take(K)) * (1.0 / math.sqrt(K.shape[-1]))
    scores = xp.where(mask, scores, -math.inf)
    l = xp.expand_dims(logsumexp(scores), axis=-1)
    return back(softmax(scores) @ take(V)), back(l, fill=-math.inf)[..., 0]


def _readable(
    K: Array, segment: int, dilation: int, offsets: str, *, causal: bool, zero_keys: bool
) -> Array:
    """Tell which kept key each kept query may read, as (heads, segments, 1 or kept, kept)."""
    heads, n = K.shape[-3:-1]
    xp = namespace(K)
    places = valid_mask(n, heads, segment=segment, dilation=dilation, offsets=offsets, like=K)
    mask = xp.expand_dims(xp.ones_like(places) if zero_keys else places, axis=-2)
    # Queries and keys are kept at the same places, so their order is that of the tokens.
    return xp.logical_and(mask, causal_mask(mask.shape[-1], like=K)) if causal else mask


@spec("mix-branches")
def mix_branches(
    outputs: Sequence[Array], log_denominators: Sequence[Array]
) -> Float[Array, "*b n d_v"]:
    """Average the branches, each token weighing them by their softmax denominators.

    o[p] = sum_i alpha[i,p] y[i,p], alpha[i,p] = softmax_i(l[i,p])

    outputs: y, one array of axes "*b n d_v" for each branch. log_denominators: l, one of "*b n"
    for each; -inf where a branch has not kept the token.
    Raises FormulaError for no branches, different numbers of them, or shapes that do not fit.
    Notes: equals one softmax over the keys of all branches, counted as often as they occur. A
    token that no branch has kept gets 0.
    """
    shapes = [tuple(y.shape) for y in outputs]
    alike = "one array or more, all of one shape"
    require(len(set(shapes)) == 1, "mix-branches", "outputs", alike, shapes)
    wanted, got = [shape[:-1] for shape in shapes], [tuple(l.shape) for l in log_denominators]
    require(got == wanted, "mix-branches", "log_denominators", f"shapes {wanted}", got)
    xp = namespace(*outputs, *log_denominators)
    alpha = xp.unstack(softmax(xp.stack(log_denominators, axis=-1)), axis=-1)
    return sum(xp.expand_dims(a, axis=-1) * y for a, y in zip(alpha, outputs, strict=True))


@spec("dilated-attention")
def dilated_attention(
    Q: Float[Array, "*b heads n d_k"],
    K: Float[Array, "*b heads n d_k"],
    V: Float[Array, "*b heads n d_v"],
    *,
    segments: Sequence[int],
    dilations: Sequence[int],
    offsets: str = "paper",
    causal: bool = False,
    zero_keys: bool = False,
) -> Float[Array, "*b heads n d_v"]:
    """Read near tokens densely and far ones sparsely, at a cost linear in the sequence.

    o[p] = sum_q m[p,q] exp(x[p,q]) V[q] / sum_q m[p,q] exp(x[p,q]), x = Q K^T / sqrt(d_k)

    Q, K, V: of each head. segments, dilations: w and r of each branch, 1 and more of them. offsets,
    causal, zero_keys: as in dilated-branch. m[p,q]: in how many branches the head keeps both p
    and q in the same segment.
    Raises ShapeError; FormulaError for no branches, different numbers of segments and dilations,
    and as dilated-branch does.
    Notes: a token that no branch keeps gets 0; with a dilation of 1 among them there is none.
    """
    some, many = len(segments) >= 1, f"one for each of the {len(segments)} segments"
    require(some, "dilated-attention", "segments", "at least one branch", segments)
    fits = len(dilations) == len(segments)
    require(fits, "dilated-attention", "dilations", many, dilations)
    branch = partial(dilated_branch, offsets=offsets, causal=causal, zero_keys=zero_keys)
    pairs = zip(segments, dilations, strict=True)
    each = [branch(Q, K, V, segment=w, dilation=r) for w, r in pairs]
    return mix_branches(*zip(*each, strict=True))
