"""Dilated attention chunk by chunk: vtnp's formulas on the blocks of Dask arrays.

A chunk of the sequence is what a device holds in LongNet's distributed algorithm. A branch whose
segments lie inside a chunk is computed there, and no data move. A longer segment is that of several
chunks: each keeps its dilated keys and values, as it would if the chunk were the segment, and those
alone go to the others, whose queries stay where they are.

`vtnp.longnet.dilated_attention` itself takes Dask arrays too, but there each operation is a task, of which
every chunk gets hundreds, and all scores lie in memory between them.
"""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph
from numpy.typing import NDArray

import vtnp

Block = NDArray[np.float32]
Pair = tuple[int, int]  # segment and dilation of a branch


class Plan(NamedTuple):
    """An output that is not computed yet, and all arrays that stand in its task graph."""

    output: da.Array
    arrays: list[da.Array]


def on_disk(path: Path, chunk: int) -> da.Array:
    """Plan to read an array of (heads, tokens, width), each chunk where it is needed."""
    x = np.load(path, mmap_mode="r")
    heads, tokens, width = x.shape
    chunks = (heads,), _lengths(tokens, chunk), (width,)
    return da.map_blocks(
        read_chunk, path=str(path), chunk=chunk, chunks=chunks, meta=np.empty((0, 0, 0), x.dtype)
    )


def _lengths(tokens: int, chunk: int) -> tuple[int, ...]:
    whole, rest = divmod(tokens, chunk)
    return (chunk,) * whole + ((rest,) if rest else ())


def read_chunk(path: str, chunk: int, block_id: tuple[int, ...] = ()) -> Block:
    """Read a chunk into memory."""
    place = block_id[1] * chunk
    # Opened for each chunk: a worker need not live through the whole run, and its memory is not
    # counted as filled by what it has read before.
    return np.array(np.load(path, mmap_mode="r")[:, place : place + chunk])


def written(x: da.Array, path: Path) -> da.Array:
    """Plan to write each chunk into the array that is on disk already; count the tokens."""
    ones = (1,), (1,) * x.numblocks[1], (1,)
    return da.map_blocks(
        write_chunk, x, path=str(path), chunk=x.chunks[1][0],
        chunks=ones, meta=np.empty((0, 0, 0), np.int64),
    )  # fmt: skip


def write_chunk(x: Block, path: str, chunk: int, block_id: tuple[int, ...] = ()) -> NDArray[Any]:
    """Write a chunk; done twice, it is the same."""
    place, tokens = block_id[1] * chunk, x.shape[1]
    np.load(path, mmap_mode="r+")[:, place : place + tokens] = x
    return np.full((1, 1, 1), tokens)


def misfit(pairs: Sequence[Pair], tokens: int, chunk: int) -> str | None:
    """Tell what keeps the branches from being computed in chunks; None where nothing does."""
    for w, r in pairs if chunk < tokens else ():
        if w <= chunk and chunk % w:
            return f"segments of {w} tokens do not divide chunks of {chunk}"
        if w > chunk and w < tokens and w % chunk:
            return f"chunks of {chunk} tokens do not divide segments of {w}"
        if w > chunk and chunk % r:
            return (
                f"a dilation of {r} does not divide chunks of {chunk} tokens, as it must where "
                f"segments are longer ({w})"
            )
    return None


def dilated_attention(Q: da.Array, K: da.Array, V: da.Array, pairs: Sequence[Pair]) -> Plan:
    """Plan what vtnp.longnet.dilated_attention computes, for arrays in chunks along the tokens alone."""
    arrays, branches = [Q, K, V], []
    for w, r in pairs:
        if w <= Q.chunks[1][0] or Q.numblocks[1] == 1:
            branch = _each(inside, Q, K, V, width=V.shape[2] + 1, segment=w, dilation=r)
        else:
            rows = tuple(-(-n // r) for n in Q.chunks[1])
            keep = partial(_each, sparsified, rows=rows, chunk=Q.chunks[1][0], dilation=r)
            kept = [keep(x, width=x.shape[2]) for x in (K, V)]
            branch = _gathered(Q, *kept, segment=w, dilation=r)
            arrays += kept
        branches.append(branch)
    output = _each(mixed, *branches, width=V.shape[2])
    return Plan(output, [*arrays, *branches, output])


def _each(
    function: Any,
    *arrays: da.Array,
    width: int,
    rows: tuple[int, ...] | None = None,
    **options: int,
) -> da.Array:
    """Apply a function to each chunk."""
    heads, tokens = arrays[0].chunks[:2]
    chunks = heads, rows or tokens, (width,)
    return da.map_blocks(function, *arrays, chunks=chunks, meta=_like(arrays[0]), **options)


def _like(x: da.Array) -> Block:
    return np.empty((0, 0, 0), x.dtype)


def _gathered(Q: da.Array, K: da.Array, V: da.Array, *, segment: int, dilation: int) -> da.Array:
    """Give each chunk of queries the kept keys and values of all chunks of its segment."""
    tokens, (chunk, *_) = Q.chunks[1], Q.chunks[1]
    name = f"gathered-{tokenize(Q.name, K.name, V.name, segment, dilation)}"
    layer: dict[Any, Any] = {}
    for i in range(len(tokens)):
        first = i * chunk // segment * segment // chunk
        group = range(first, min(first + -(-segment // chunk), len(tokens)))
        lengths = [tokens[j] for j in group]
        attend = partial(across, lengths=lengths, chunk=chunk, dilation=dilation)
        keys, values = ([(x.name, 0, j, 0) for j in group] for x in (K, V))
        layer[name, 0, i, 0] = (attend, (Q.name, 0, i, 0), keys, values)
    graph = HighLevelGraph.from_collections(name, layer, dependencies=[Q, K, V])
    return da.Array(graph, name, (*Q.chunks[:2], (V.shape[2] + 1,)), meta=_like(Q))


def inside(Q: Block, K: Block, V: Block, *, segment: int, dilation: int) -> Block:
    """Compute a branch whose segments lie inside the chunk: y, and l as one more column."""
    branch = partial(vtnp.longnet.dilated_branch, segment=segment, dilation=dilation)
    # One segment after the other, so that its scores stay in the processor's cache.
    slices = [np.s_[:, i : i + segment] for i in range(0, Q.shape[1], segment)]
    return np.concatenate([_packed(*branch(Q[s], K[s], V[s])) for s in slices], axis=1)


def sparsified(x: Block, *, chunk: int, dilation: int) -> Block:
    """Keep the rows that each head keeps of a chunk."""
    return vtnp.longnet.dense_to_sparse(x, segment=chunk, dilation=dilation)[:, 0]


def across(
    Q: Block, K: Sequence[Block], V: Sequence[Block],
    *, lengths: Sequence[int], chunk: int, dilation: int,
) -> Block:  # fmt: skip
    """Compute a branch for a chunk's queries, and the kept keys and values of its segment.

    lengths: tokens of each chunk of the segment; only the sequence's last chunk is shorter.
    """
    heads, n, width = Q.shape
    places = [
        vtnp.longnet.valid_mask(m, heads, segment=chunk, dilation=dilation, like=Q) for m in lengths
    ]
    mask = np.concatenate(places, axis=-1)
    scores = sparsified(Q, chunk=chunk, dilation=dilation) @ np.concatenate(K, axis=1).mT
    scores = np.where(mask, scores * (1.0 / math.sqrt(width)), -math.inf)[:, None]
    y = vtnp.encoder.softmax(scores) @ np.concatenate(V, axis=1)[:, None]
    l = vtnp.longnet.logsumexp(scores)[..., None]
    back = partial(vtnp.longnet.sparse_to_dense, n=n, segment=chunk, dilation=dilation)
    return _packed(back(y), back(l, fill=-math.inf)[..., 0])


def mixed(*branches: Block) -> Block:
    """Mix the branches."""
    return vtnp.longnet.mix_branches(
        [x[..., :-1] for x in branches], [x[..., -1] for x in branches]
    )


def _packed(y: Block, l: Block) -> Block:
    return np.concatenate([y, l[..., None]], axis=-1)


def bytes_moved(plan: Plan) -> int:
    """Count, in the task graph, the bytes that tasks take from tasks of other chunks."""
    named = {x.name: x for x in plan.arrays}
    graph = plan.output.__dask_graph__()
    total = 0
    for (_, *place), sources in graph.get_all_dependencies().items():
        for name, *source in sources:
            if source[1] != place[1]:
                x = named[name]
                total += math.prod(c[i] for c, i in zip(x.chunks, source, strict=True)) * x.itemsize
    return total


def bytes_of_paper(
    pairs: Sequence[Pair], tokens: int, chunk: int, *, heads: int, width: int, itemsize: int
) -> int:
    """Count what LongNet's all-gather brings to the devices, each holding one chunk.

    Of a segment of m tokens in g chunks, every one of the ceil(m / r) kept rows of keys and values,
    together `width` wide, goes to g - 1 other devices. A branch that is asked for twice is computed
    once.
    """
    total = 0
    for w, r in set(pairs):
        whole, rest = divmod(tokens, w)
        for m, times in ((w, whole), (rest, 1)):
            others = max(-(-m // chunk) - 1, 0) if w > chunk else 0
            total += times * others * -(-m // r) * heads * width * itemsize
    return total
