"""Dilated attention (LongNet): attention at a cost linear in the length of the sequence."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Literal, NamedTuple

from vtnp._array.typing import Array, Bool, Float, Int
from vtnp._array.xp import constant, device, namespace, transposed
from vtnp._registry.spec import spec
from vtnp.encoder import causal_mask, softmax

Offsets = Literal["paper", "torchscale"]


class Branch(NamedTuple):
    """One branch of dilated attention: how the sequence is cut, and what is selected of it.

    Attributes
    ----------
    segment : int
        The length w of a segment. A segment longer than the sequence is as long as the sequence.
    dilation : int
        The interval r between the tokens that a head selects of each segment, 1 <= r <= w.
    """

    segment: int
    dilation: int


@spec("head-offsets", requires=("heads >= 1", "dilation >= 1"))
def head_offsets(
    heads: int, dilation: int, *, offsets: Offsets = "paper", like: Array
) -> Int[Array, " heads"]:
    """Choose for each head the first token that it selects of every segment.

    s[h] = h mod r

    Parameters
    ----------
    heads : int
        Number of heads, >= 1.
    dilation : int
        The interval r between selected tokens, >= 1.
    offsets : {"paper", "torchscale"}
        "torchscale" stands for floor(h / ceil(heads / r)).
    like : array
        An array whose library and device the offsets are made for.

    Returns
    -------
    array
        One index for each head, 0 <= s[h] < r.

    Raises
    ------
    FormulaError
        If heads or dilation is less than 1, or offsets is another string.

    Notes
    -----
    Where several branches are mixed, the two rules differ by more than the order of the heads.

    References
    ----------
    spec/longnet/head-offsets.md; survey, section 4-2.
    """
    xp = namespace(like)
    h = xp.arange(heads, device=device(like))
    if offsets == "paper":
        return xp.remainder(h, dilation)
    return xp.floor_divide(h, -(-heads // dilation))


@spec("dense-to-sparse", requires=("n >= 1", "1 <= branch.dilation <= branch.segment"))
def dense_to_sparse(
    x: Float[Array, "*b heads n d"], *, branch: Branch, offsets: Offsets = "paper"
) -> Float[Array, "*b heads segments rows d"]:
    """Cut the sequence into segments and select every r-th row of each, from the offset on.

    y[h,i,j] = x[h, i w + j r + s[h]], 0 beyond the segment or the sequence

    Parameters
    ----------
    x : array
        Queries, keys or values of each head.
    branch : Branch
        Segment length w and dilation r, 1 <= r <= w. A w greater than n counts as n.
    offsets : {"paper", "torchscale"}
        Offset s[h] of head h: h mod r, or floor(h / ceil(heads / r)).

    Returns
    -------
    array
        The selected rows of each head: ceil(w / r) of each of ceil(n / w) segments.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If there are no tokens or no heads, the dilation is less than 1 or greater than the segment,
        or offsets is another string.

    Notes
    -----
    `valid_mask` distinguishes tokens from padding.

    References
    ----------
    spec/longnet/dense-to-sparse.md; survey, Fig. 17.
    """
    *batch, heads, n, d = x.shape
    length, segments, rows = _sizes(n, branch)
    xp = namespace(x)
    x = xp.reshape(_padded(x, segments * length - n), (*batch, heads, segments, length, d))
    x = _padded(x, rows * branch.dilation - length)
    x = xp.reshape(x, (*batch, heads, segments, rows, branch.dilation, d))
    # The sum of one of r neighbours and of zeros selects it exactly, and needs no indexing.
    return xp.sum(xp.where(_is_selected(heads, branch, offsets, x), x, 0.0), axis=-2)


def _sizes(n: int, branch: Branch) -> tuple[int, int, int]:
    """Return the length of a segment, the number of segments, and that of rows in each."""
    length = min(branch.segment, n)
    return length, -(-n // length), -(-length // branch.dilation)


def _padded(x: Array, rows: int) -> Array:
    """Append rows of zeros."""
    if rows == 0:
        return x
    xp = namespace(x)
    zeros = xp.zeros((*x.shape[:-2], rows, x.shape[-1]), dtype=x.dtype, device=device(x))
    return xp.concat([x, zeros], axis=-2)


def _is_selected(heads: int, branch: Branch, offsets: Offsets, like: Array) -> Array:
    """Return which of r neighbours each head selects, as (heads, 1, 1, r, 1)."""
    xp = namespace(like)
    first = head_offsets(heads, branch.dilation, offsets=offsets, like=like)
    neighbour = xp.arange(branch.dilation, device=device(like))
    selected = xp.expand_dims(first, axis=1) == neighbour
    return xp.reshape(selected, (heads, 1, 1, branch.dilation, 1))


@spec(
    "sparse-to-dense",
    requires=(
        "n >= 1",
        "1 <= branch.dilation <= branch.segment",
        "segments == -(-n // min(branch.segment, n))",
        "rows == -(-min(branch.segment, n) // branch.dilation)",
    ),
)
def sparse_to_dense(
    y: Float[Array, "*b heads segments rows d"],
    n: int,
    *,
    branch: Branch,
    offsets: Offsets = "paper",
    fill: float = 0.0,
) -> Float[Array, "*b heads n d"]:
    """Move the selected rows back to the positions that they were selected from.

    x[h, i w + j r + s[h]] = y[h,i,j], fill elsewhere

    Parameters
    ----------
    y : array
        One row for each row that `dense_to_sparse` selects, padding included.
    n : int
        Length of the sequence, >= 1.
    branch : Branch
        Segment length w and dilation r, 1 <= r <= w. A w greater than n counts as n.
    offsets : {"paper", "torchscale"}
        Offset s[h] of head h: h mod r, or floor(h / ceil(heads / r)).
    fill : float
        The value of tokens that a head does not select.

    Returns
    -------
    array
        One row for each token and head.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If n is less than 1, the dilation is less than 1 or greater than the segment, y has another
        number of segments or of rows, there are no heads, or offsets is another string.

    References
    ----------
    spec/longnet/sparse-to-dense.md; survey, Fig. 17.
    """
    *batch, heads, segments, rows, d = y.shape
    length = min(branch.segment, n)
    xp = namespace(y)
    x = xp.where(_is_selected(heads, branch, offsets, y), xp.expand_dims(y, axis=-2), fill)
    x = xp.reshape(x, (*batch, heads, segments, rows * branch.dilation, d))[..., :length, :]
    return xp.reshape(x, (*batch, heads, segments * length, d))[..., :n, :]


@spec("valid-mask", requires=("n >= 1", "1 <= branch.dilation <= branch.segment"))
def valid_mask(
    n: int, heads: int, *, branch: Branch, offsets: Offsets = "paper", like: Array
) -> Bool[Array, "heads segments rows"]:
    """Distinguish the rows of dense-to-sparse that are tokens from those that are padding.

    valid[h,i,j] = (j r + s[h] < w) and (i w + j r + s[h] < n)

    Parameters
    ----------
    n : int
        Length of the sequence, >= 1.
    heads : int
        Number of heads, >= 1.
    branch : Branch
        Segment length w and dilation r, 1 <= r <= w. A w greater than n counts as n.
    offsets : {"paper", "torchscale"}
        Offset s[h] of head h: h mod r, or floor(h / ceil(heads / r)).
    like : array
        An array whose library and device the mask is made for.

    Returns
    -------
    array
        True for tokens.

    Raises
    ------
    FormulaError
        If n or heads is less than 1, the dilation is less than 1 or greater than the segment, or
        offsets is another string.

    References
    ----------
    spec/longnet/valid-mask.md; survey, section 4-2.
    """
    length, segments, rows = _sizes(n, branch)
    xp = namespace(like)
    first = head_offsets(heads, branch.dilation, offsets=offsets, like=like)
    step = xp.arange(rows, device=device(like)) * branch.dilation
    position = xp.reshape(first, (heads, 1, 1)) + step
    start = xp.reshape(xp.arange(segments, device=device(like)), (segments, 1)) * length
    return xp.logical_and(position < length, start + position < n)


@spec("logsumexp", requires=("n >= 1",))
def logsumexp(x: Float[Array, "*b n"]) -> Float[Array, "*b"]:
    """Take the logarithm of the denominator that a softmax over the row has.

    l = log sum_j exp(x[j])

    Parameters
    ----------
    x : array
        Scores. -inf contributes nothing.

    Returns
    -------
    array
        One number for each row.

    Raises
    ------
    ShapeError
        If x has no axes.
    FormulaError
        If a row is empty.

    Notes
    -----
    A row of nothing but -inf has l = -inf. Each row is shifted by its maximum, so that no finite
    score overflows.

    References
    ----------
    spec/longnet/logsumexp.md; survey, section 4-2.
    """
    xp = namespace(x)
    # log sum exp(x - c) + c is the same for any c, so the shift needs no gradient of its own.
    shift = xp.max(constant(x), axis=-1, keepdims=True)
    is_empty = shift == -math.inf
    shift = xp.where(is_empty, 0.0, shift)
    # The exponentials of the largest scores are 1. All but one of these ones count, and log1p
    # keeps the digits of whatever comes on top.
    ones = xp.astype(constant(x) == shift, x.dtype)
    rest = xp.sum(xp.exp(x - shift) - ones, axis=-1, keepdims=True)
    l = xp.log1p(rest + xp.maximum(xp.sum(ones, axis=-1, keepdims=True) - 1.0, 0.0)) + shift
    return xp.where(is_empty, -math.inf, l)[..., 0]


@spec("dilated-branch", requires=("d_k >= 1",))
def dilated_branch(
    Q: Float[Array, "*b heads n d_k"],
    K: Float[Array, "*b heads n d_k"],
    V: Float[Array, "*b heads n d_v"],
    *,
    branch: Branch,
    offsets: Offsets = "paper",
    causal: bool = False,
    zero_keys: bool = False,
) -> tuple[Float[Array, "*b heads n d_v"], Float[Array, "*b heads n"]]:
    """Attend within each segment, among every r-th token, and return the softmax's denominators.

    y[p] = sum_q exp(x[p,q] - l[p]) V[q], l[p] = log sum_q exp(x[p,q]), x = Q K^T / sqrt(d_k)

    Parameters
    ----------
    Q, K, V : array
        Queries, keys and values of each head.
    branch : Branch
        Segment length w and dilation r, 1 <= r <= w; p and q run over the tokens that a head
        selects of one segment. A w greater than n counts as n.
    offsets : {"paper", "torchscale"}
        Offset s[h] of head h: h mod r, or floor(h / ceil(heads / r)).
    causal : bool
        Let queries attend to keys q <= p only.
    zero_keys : bool
        Attend to the zero rows that pad a segment as keys, as torchscale does.

    Returns
    -------
    y : array
        One output for each token and head; 0 where the head does not select the token.
    l : array
        The logarithms of the denominators; -inf where the head does not select the token.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If there are no tokens or no heads, keys have width 0, the dilation is less than 1 or
        greater than the segment, or offsets is another string.

    References
    ----------
    spec/longnet/dilated-branch.md; survey, Fig. 17.
    """
    xp, (n, d_k) = namespace(Q, K, V), K.shape[-2:]
    select = partial(dense_to_sparse, branch=branch, offsets=offsets)
    scatter = partial(sparse_to_dense, n=n, branch=branch, offsets=offsets)
    mask = _key_mask(K, branch, offsets, causal=causal, zero_keys=zero_keys)
    scores = select(Q) @ transposed(select(K)) * (1.0 / math.sqrt(d_k))
    scores = xp.where(mask, scores, -math.inf)
    l = xp.expand_dims(logsumexp(scores), axis=-1)
    return scatter(softmax(scores) @ select(V)), scatter(l, fill=-math.inf)[..., 0]


def _key_mask(
    K: Array, branch: Branch, offsets: Offsets, *, causal: bool, zero_keys: bool
) -> Array:
    """Return which row each row may attend to, as (heads, segments, 1 or rows, rows)."""
    heads, n = K.shape[-3:-1]
    xp = namespace(K)
    valid = valid_mask(n, heads, branch=branch, offsets=offsets, like=K)
    mask = xp.expand_dims(xp.ones_like(valid) if zero_keys else valid, axis=-2)
    # A head selects the same tokens as queries and as keys, so their order is that of the rows.
    return xp.logical_and(mask, causal_mask(mask.shape[-1], like=K)) if causal else mask


@spec("mix-branches", requires=("1 <= len(outputs) == len(log_denominators)",))
def mix_branches(
    outputs: Sequence[Float[Array, "*b n d_v"]], log_denominators: Sequence[Float[Array, "*b n"]]
) -> Float[Array, "*b n d_v"]:
    """Average the outputs of the branches, weighted by their softmax denominators.

    o[p] = sum_i alpha[i,p] y[i,p], alpha[i,p] = softmax_i(l[i,p])

    Parameters
    ----------
    outputs : list or tuple of arrays
        The output y of each branch, of axes ``*b n d_v``.
    log_denominators : list or tuple of arrays
        The logarithm l of the denominators of each branch, of axes ``*b n``; -inf where a branch
        does not select the token.

    Returns
    -------
    array
        One average for each token.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If there are no branches, or different numbers of outputs and denominators.

    Notes
    -----
    Equal to one softmax over the keys of all branches, each counted as often as it occurs. A token
    that no branch selects gets 0.

    References
    ----------
    spec/longnet/mix-branches.md; survey, Fig. 17.
    """
    xp = namespace(*outputs, *log_denominators)
    alpha = xp.unstack(softmax(xp.stack(log_denominators, axis=-1)), axis=-1)
    return sum(xp.expand_dims(a, axis=-1) * y for a, y in zip(alpha, outputs, strict=True))


@spec("dilated-attention", requires=("len(branches) >= 1",))
def dilated_attention(
    Q: Float[Array, "*b heads n d_k"],
    K: Float[Array, "*b heads n d_k"],
    V: Float[Array, "*b heads n d_v"],
    *,
    branches: Sequence[Branch],
    offsets: Offsets = "paper",
    causal: bool = False,
    zero_keys: bool = False,
) -> Float[Array, "*b heads n d_v"]:
    """Attend to near tokens densely and to far ones sparsely, at a cost linear in the sequence.

    o[p] = sum_q m[p,q] exp(x[p,q]) V[q] / sum_q m[p,q] exp(x[p,q]), x = Q K^T / sqrt(d_k)

    Parameters
    ----------
    Q, K, V : array
        Queries, keys and values of each head.
    branches : sequence of Branch
        Segment length w and dilation r of each branch, 1 <= r <= w; m[p,q] counts the branches in
        which the head selects both p and q of one segment. A w greater than n counts as n.
    offsets : {"paper", "torchscale"}
        Offset s[h] of head h: h mod r, or floor(h / ceil(heads / r)).
    causal : bool
        Let queries attend to keys q <= p only.
    zero_keys : bool
        Attend to the zero rows that pad a segment as keys, as torchscale does.

    Returns
    -------
    array
        One output for each token and head.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If there are no branches, no tokens or no heads, keys have width 0, a dilation is less than
        1 or greater than its segment, or offsets is another string.

    Notes
    -----
    A token that no branch selects gets 0; with a dilation of 1 among the branches there is none.

    References
    ----------
    spec/longnet/dilated-attention.md; survey, Fig. 17.
    """
    attend = partial(dilated_branch, offsets=offsets, causal=causal, zero_keys=zero_keys)
    each = [attend(Q, K, V, branch=branch) for branch in branches]
    return mix_branches(*zip(*each, strict=True))
