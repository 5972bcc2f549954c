"""Dilated attention chunk by chunk: vtnp's formulas on the blocks of Dask arrays.

A chunk of the sequence corresponds to a device of LongNet's distributed algorithm. A branch whose
segments lie within chunks is computed there, without moving data. A longer segment consists of
several chunks: each selects its dilated keys and values, as if the chunk were the segment, and only
these are sent to the other chunks; queries are not moved.

`vtnp.longnet.dilated_attention` itself takes Dask arrays too, but then each operation is a task.
Every chunk would have hundreds of tasks, with all scores in memory between them.
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
from vtnp.longnet import Branch

Block = NDArray[np.float32]


class Plan(NamedTuple):
    """An output that is not computed yet, and all arrays of its task graph."""

    output: da.Array
    arrays: list[da.Array]


def on_disk(path: Path, chunk: int) -> da.Array:
    """Plan to read an array of shape (heads, tokens, width), each chunk where it is needed."""
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
    start = block_id[1] * chunk
    # Opened for each chunk: a worker may be replaced during the run, and pages that were read
    # before do not count as its memory.
    return np.array(np.load(path, mmap_mode="r")[:, start : start + chunk])


def written(x: da.Array, path: Path) -> da.Array:
    """Plan to write each chunk into the existing array on disk, and to count the tokens."""
    ones = (1,), (1,) * x.numblocks[1], (1,)
    return da.map_blocks(
        write_chunk, x, path=str(path), chunk=x.chunks[1][0],
        chunks=ones, meta=np.empty((0, 0, 0), np.int64),
    )  # fmt: skip


def write_chunk(x: Block, path: str, chunk: int, block_id: tuple[int, ...] = ()) -> NDArray[Any]:
    """Write a chunk; writing it twice gives the same file."""
    start, tokens = block_id[1] * chunk, x.shape[1]
    np.load(path, mmap_mode="r+")[:, start : start + tokens] = x
    return np.full((1, 1, 1), tokens)


def misfit(branches: Sequence[Branch], tokens: int, chunk: int) -> str | None:
    """Return why the branches cannot be computed in chunks; None if they can."""
    for w, r in branches if chunk < tokens else ():
        if w <= chunk and chunk % w:
            return f"segments of {w} tokens do not divide chunks of {chunk}"
        if w > chunk and w < tokens and w % chunk:
            return f"chunks of {chunk} tokens do not divide segments of {w}"
        if w > chunk and chunk % r:
            return (
                f"a dilation of {r} does not divide chunks of {chunk} tokens, as it must for "
                f"longer segments ({w})"
            )
    return None


def dilated_attention(Q: da.Array, K: da.Array, V: da.Array, branches: Sequence[Branch]) -> Plan:
    """Plan dilated attention for arrays in chunks along the tokens."""
    arrays, outputs = [Q, K, V], []
    for branch in map(Branch._make, branches):
        if branch.segment <= Q.chunks[1][0] or Q.numblocks[1] == 1:
            output = _each(within, Q, K, V, width=V.shape[2] + 1, branch=branch)
        else:
            in_chunk = Branch(Q.chunks[1][0], branch.dilation)
            rows = tuple(-(-n // branch.dilation) for n in Q.chunks[1])
            select = partial(_each, selected, rows=rows, branch=in_chunk)
            keys, values = (select(x, width=x.shape[2]) for x in (K, V))
            output = _gathered(Q, keys, values, branch)
            arrays += [keys, values]
        outputs.append(output)
    mixture = _each(mixed, *outputs, width=V.shape[2])
    return Plan(mixture, [*arrays, *outputs, mixture])


def _each(
    function: Any,
    *arrays: da.Array,
    width: int,
    rows: tuple[int, ...] | None = None,
    **options: Branch,
) -> da.Array:
    """Apply a function to each chunk."""
    heads, tokens = arrays[0].chunks[:2]
    chunks = heads, rows or tokens, (width,)
    return da.map_blocks(function, *arrays, chunks=chunks, meta=_like(arrays[0]), **options)


def _like(x: da.Array) -> Block:
    return np.empty((0, 0, 0), x.dtype)


def _gathered(Q: da.Array, K: da.Array, V: da.Array, branch: Branch) -> da.Array:
    """Give each chunk of queries the selected keys and values of all chunks of its segment."""
    tokens, (chunk, *_), (segment, dilation) = Q.chunks[1], Q.chunks[1], branch
    name = f"gathered-{tokenize(Q.name, K.name, V.name, segment, dilation)}"
    layer: dict[Any, Any] = {}
    for i in range(len(tokens)):
        first = i * chunk // segment * segment // chunk
        group = range(first, min(first + -(-segment // chunk), len(tokens)))
        lengths = [tokens[j] for j in group]
        attend = partial(across, lengths=lengths, branch=Branch(chunk, dilation))
        keys, values = ([(x.name, 0, j, 0) for j in group] for x in (K, V))
        layer[name, 0, i, 0] = (attend, (Q.name, 0, i, 0), keys, values)
    graph = HighLevelGraph.from_collections(name, layer, dependencies=[Q, K, V])
    return da.Array(graph, name, (*Q.chunks[:2], (V.shape[2] + 1,)), meta=_like(Q))


def within(Q: Block, K: Block, V: Block, *, branch: Branch) -> Block:
    """Compute a branch whose segments lie within the chunk: y, and l as one more column."""
    attend = partial(vtnp.longnet.dilated_branch, branch=branch)
    # One segment after the other, so that its scores stay in the processor's cache.
    slices = [np.s_[:, i : i + branch.segment] for i in range(0, Q.shape[1], branch.segment)]
    return np.concatenate([_packed(*attend(Q[s], K[s], V[s])) for s in slices], axis=1)


def selected(x: Block, *, branch: Branch) -> Block:
    """Select the rows of a chunk, whose length is the segment of the branch."""
    return vtnp.longnet.dense_to_sparse(x, branch=branch)[:, 0]


def across(
    Q: Block, K: Sequence[Block], V: Sequence[Block], *, lengths: Sequence[int], branch: Branch
) -> Block:
    """Compute a branch for the queries of a chunk, and the selected keys and values of its segment.

    lengths: tokens of each chunk of the segment; only the last chunk of the sequence is shorter.
    branch: its segment is the length of a chunk.
    """
    heads, n, width = Q.shape
    valid = [vtnp.longnet.valid_mask(m, heads, branch=branch, like=Q) for m in lengths]
    scores = selected(Q, branch=branch) @ np.concatenate(K, axis=1).mT * (1.0 / math.sqrt(width))
    scores = np.where(np.concatenate(valid, axis=-1), scores, -math.inf)[:, None]
    y = vtnp.encoder.softmax(scores) @ np.concatenate(V, axis=1)[:, None]
    l = vtnp.longnet.logsumexp(scores)[..., None]
    scatter = partial(vtnp.longnet.sparse_to_dense, n=n, branch=branch)
    return _packed(scatter(y), scatter(l, fill=-math.inf)[..., 0])


def mixed(*packed: Block) -> Block:
    """Mix the branches, of which each has y and l side by side."""
    return vtnp.longnet.mix_branches([x[..., :-1] for x in packed], [x[..., -1] for x in packed])


def _packed(y: Block, l: Block) -> Block:
    return np.concatenate([y, l[..., None]], axis=-1)


def bytes_moved(plan: Plan) -> int:
    """Count in the task graph the bytes that tasks take from tasks of other chunks."""
    by_name = {x.name: x for x in plan.arrays}
    graph = plan.output.__dask_graph__()
    total = 0
    for (_, *block), sources in graph.get_all_dependencies().items():
        for name, *source in sources:
            if source[1] != block[1]:
                x = by_name[name]
                total += math.prod(c[i] for c, i in zip(x.chunks, source, strict=True)) * x.itemsize
    return total


def bytes_of_paper(
    branches: Sequence[Branch], tokens: int, chunk: int, *, heads: int, width: int, itemsize: int
) -> int:
    """Count the bytes that LongNet's all-gather sends between devices, with one chunk on each.

    Of a segment of m tokens in g chunks, each of the ceil(m / r) selected rows of keys and values,
    together `width` wide, is sent to g - 1 other devices. A branch that occurs twice is computed
    once.
    """
    total = 0
    for w, r in set(branches):
        whole, rest = divmod(tokens, w)
        for m, times in ((w, whole), (rest, 1)):
            others = max(-(-m // chunk) - 1, 0) if w > chunk else 0
            total += times * others * -(-m // r) * heads * width * itemsize
    return total
