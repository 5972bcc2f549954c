"""Compute dilated attention over a sequence that does not fit in memory, chunk by chunk, from disk.

    python examples/long_sequence.py --tokens 2**24                16 million tokens
    python examples/long_sequence.py --tokens 2**24 --cluster      the same in two processes
    python examples/long_sequence.py --cluster tcp://host:8786     the same on your own cluster
    python examples/long_sequence.py --folder data                 your own queries, keys and values

The folder has Q.npy, K.npy and V.npy, float32 of shape (heads, tokens, width). If it has none of
them, all three are written with random numbers. The output is O.npy in the same folder. Without
--folder all files are temporary.

Each chunk corresponds to a device of LongNet's distributed algorithm: segments within a chunk move
no data, and longer ones gather only their dilated keys and values. The bytes that this moves are
counted in the task graph and compared with the paper's formula, and a random sample of the output
is compared with the formula in memory.

By default the segments and dilations of the branches grow by factors of four. Those of the paper,
--branches 2048x1 4096x2 8192x4 16384x6 32768x12, take six times as long, and need --chunk 32768: a
smaller chunk does not fit both their segments and the dilations 6 and 12.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from command_line import BadInputError, Parser, integer, report, require_installed
from long import arrays
from numpy.lib.format import open_memmap

from vtnp.checkpoints import FileError, replacing
from vtnp.cost.option_text import integer_of
from vtnp.longnet import Branch

_NAMES = ("Q", "K", "V")
_REQUIRED = ("dask", "distributed", "threadpoolctl")
_BRANCHES = [Branch(512 * 4**i, 4**i) for i in range(5)]
_MAX_TOKENS = 2**48
_MAX_SCORE_BYTES = 2**29  # of one segment and all heads, in double precision
_ERROR_FACTOR = 2.0  # by which the error may exceed that of the formula in memory


class WrongResultError(Exception):
    """A result is not what it must be; the message is one line."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    try:
        options = parsed(arguments)
        require_installed(_REQUIRED, "scale")
        from threadpoolctl import threadpool_limits

        # Dask uses all cores. Threads of BLAS would compete for them, and would add up in another
        # order than the workers of a cluster do.
        with folder_of(options) as folder, threadpool_limits(1):
            run(options, Path(folder))
    except (BadInputError, FileError) as error:
        return report("long_sequence.py", error)
    except WrongResultError as error:
        report("long_sequence.py", error)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; no output was written", file=sys.stderr)
        return 130
    return 0


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(__doc__ or "")
    add, positive = parser.add_argument, integer(1, below=_MAX_TOKENS)
    add("--tokens", type=positive, help="length of the sequence (default: 2**20, or the files')")
    add("--heads", type=positive, help="number of heads (default: 2, or the files')")
    add("--width", type=positive, help="width of a head (default: 16, or the files')")
    add(
        "--branches", type=branch, nargs="+", metavar="WxR", default=_BRANCHES,
        help="segment length and dilation of each branch "
        f"(default: {' '.join(f'{w}x{r}' for w, r in _BRANCHES)})",
    )  # fmt: skip
    add("--chunk", type=positive, default=2**14, help="tokens of a chunk (default: 2**14)")
    add("--folder", type=Path, metavar="DIR", help="folder of the arrays (default: temporary)")
    add("--workers", type=positive, default=2, help="number of threads or processes (default: 2)")
    add("--cluster", nargs="?", const="", metavar="ADDRESS",
        help="run on dask.distributed: in local processes, or with this scheduler")  # fmt: skip
    add("--kill-worker", action="store_true",
        help="kill a worker of the cluster midway, which must not change the result")  # fmt: skip
    add("--sample", type=positive, default=16, help="number of outputs to check (default: 16)")
    add("--seed", type=int, default=0, help="of random arrays and of the sample (default: 0)")
    options = parser.parse_args(arguments)
    if options.kill_worker and options.cluster is None:
        raise BadInputError("--kill-worker requires --cluster")
    return options


def branch(text: str) -> Branch:
    """Read a branch that is written as 2048x4."""
    segment, _, dilation = text.partition("x")
    try:
        found = Branch(integer_of(segment), integer_of(dilation))
    except ValueError:
        found = Branch(0, 0)
    if not 1 <= found.dilation <= found.segment < _MAX_TOKENS:
        expected = "expected SEGMENTxDILATION, such as 2048x4, with 1 <= dilation <= segment"
        raise argparse.ArgumentTypeError(f"{expected}, got {text!r}")
    return found


def folder_of(options: argparse.Namespace) -> AbstractContextManager[Any]:
    """Return the folder of the arrays; a temporary one is removed at the end."""
    if options.folder is None:
        return tempfile.TemporaryDirectory(prefix="long_sequence-")
    if not options.folder.is_dir():
        raise BadInputError(f"{options.folder}: no such folder")
    return nullcontext(options.folder.resolve())


def run(options: argparse.Namespace, folder: Path) -> None:
    """Compute the output, check it, and print time and memory."""
    from long import chunked

    begin = time.perf_counter()
    complete(options, folder)
    check_memory(options)
    with connected(options, folder) as client:
        write_inputs(options, folder)
        Q, K, V = (chunked.on_disk(folder / f"{name}.npy", options.chunk) for name in _NAMES)
        plan = chunked.dilated_attention(Q, K, V, options.branches)
        print_plan(plan, options.branches)
        target = folder / "O.npy"
        start = time.perf_counter()
        with replacing(target) as temporary:
            # The file has its full size at once, so that chunks can be written in any order.
            open_memmap(temporary, "w+", np.float32, plan.output.shape)
            peaks = computed(options, chunked.written(plan.output, temporary), client)
            seconds = time.perf_counter() - start
            verdict = checked(options, folder, temporary)
    print(verdict)
    print(f"{target.name}: SHA-256 {arrays.digest(target)}")
    total = time.perf_counter() - begin
    peaks.insert(0, arrays.peak_memory())
    each = f" ({' + '.join(f'{peak / 1e9:.2f}' for peak in peaks)})" if len(peaks) > 1 else ""
    print(f"{seconds:.0f} s, {total:.0f} s in total; peak memory {sum(peaks) / 1e9:.2f} GB{each}")


def connected(options: argparse.Namespace, folder: Path) -> AbstractContextManager[Any]:
    """Connect to the cluster, if one is requested."""
    if options.cluster is None:
        return nullcontext()
    from long import cluster

    return cluster.connected(options.cluster, options.workers, folder)


def complete(options: argparse.Namespace, folder: Path) -> None:
    """Take sizes that were left out from the files, or from the defaults; check all of them."""
    from long import chunked

    paths = [folder / f"{name}.npy" for name in _NAMES]
    existing = [path for path in paths if path.exists()]
    shapes = [arrays.opened(path).shape for path in existing]
    if existing and len(existing) < len(paths):
        (missing, *_) = [path for path in paths if path not in existing]
        raise BadInputError(f"{missing}: no such file, although {existing[0].name} exists")
    if existing and (shapes[0] != shapes[1] or shapes[0][:2] != shapes[2][:2]):
        raise BadInputError(f"{folder}: Q, K and V do not fit: their shapes are {shapes}")
    defaults = shapes[0] if existing else (2, 2**20, 16)
    for name, default in zip(("heads", "tokens", "width"), defaults, strict=True):
        value = getattr(options, name)
        if existing and value not in {None, default}:
            raise BadInputError(f"--{name} {value}: the arrays in {folder} have {default}")
        setattr(options, name, value or default)
    output = options.heads * options.tokens * (shapes[2][2] if existing else options.width) * 4
    required, free = output * (1 if existing else 4), shutil.disk_usage(folder).free
    if required > free:
        raise BadInputError(
            f"{folder}: {required / 1e9:.1f} GB required, {free / 1e9:.1f} GB are free"
        )
    misfit = chunked.misfit(options.branches, options.tokens, options.chunk)
    if misfit:
        raise BadInputError(f"--chunk: {misfit}")


def check_memory(options: argparse.Namespace) -> None:
    """Raise BadInputError for a branch whose scores are too large for memory."""
    for segment, dilation in options.branches:
        length = min(segment, options.tokens)
        scores = 8 * options.heads * (-(-length // dilation)) ** 2
        if scores > _MAX_SCORE_BYTES:
            raise BadInputError(
                f"--branches: a segment of {length} tokens with dilation {dilation} has "
                f"{scores / 1e9:.1f} GB of scores, of at most {_MAX_SCORE_BYTES / 1e9:.1f} GB"
            )


def write_inputs(options: argparse.Namespace, folder: Path) -> None:
    """Write random queries, keys and values, unless the folder has some."""
    shape = options.heads, options.tokens, options.width
    if not (folder / f"{_NAMES[0]}.npy").exists():
        for i, name in enumerate(_NAMES):
            arrays.write_random(folder / f"{name}.npy", shape, [options.seed, i])


def print_plan(plan: Any, branches: Sequence[Branch]) -> None:
    """Print what will be computed, and the bytes that it moves."""
    from long import chunked

    Q, K, V = plan.arrays[:3]
    heads, tokens, width = Q.shape
    chunk, chunks = Q.chunks[1][0], Q.numblocks[1]
    print(f"{tokens} tokens, {heads} heads of width {width}; {chunks} chunks of {chunk} tokens")
    sizes = {"heads": heads, "width": K.shape[2] + V.shape[2], "itemsize": Q.itemsize}
    for each in branches:
        moved = chunked.bytes_of_paper([each], tokens, chunk, **sizes)
        what = f"segments of {each.segment}, dilation {each.dilation}"
        print(f"  {what}: {f'{moved} bytes' if moved else 'no data'} moved")
    counted = chunked.bytes_moved(plan)
    paper = chunked.bytes_of_paper(branches, tokens, chunk, **sizes)
    print(
        f"moved between chunks: {counted} bytes in the task graph, {paper} by the paper's formula"
    )
    if counted != paper:
        raise WrongResultError("the bytes moved in the task graph differ from the paper's formula")
    sys.stdout.flush()


def computed(options: argparse.Namespace, counts: Any, client: Any) -> list[int]:
    """Compute the output into its file; return the peak memory of each worker."""
    peaks: list[int] = []
    if client is None:
        from dask.diagnostics import ProgressBar

        with ProgressBar(dt=0.5):
            found = counts.compute(scheduler="threads", num_workers=options.workers)
        written = int(np.sum(found))
    else:
        from long import cluster

        written = cluster.computed(client, counts, kill=options.kill_worker)
        peaks = cluster.peaks(client)
    if written != options.tokens:
        raise WrongResultError(f"{written} of {options.tokens} tokens were written")
    return peaks


def checked(options: argparse.Namespace, folder: Path, output: Path) -> str:
    """Compare a random sample of outputs with the formula in memory, in double precision."""
    inputs = [arrays.opened(folder / f"{name}.npy") for name in _NAMES]
    O = arrays.opened(output)
    rng = np.random.default_rng([options.seed, len(_NAMES)])
    errors = []
    for token in rng.integers(options.tokens, size=options.sample):
        exact, single = (
            arrays.in_memory(inputs, int(token), options.branches, dtype) for dtype in ("f8", "f4")
        )
        ours = O[:, token : token + 1]
        errors.append([np.abs(x - exact).max() for x in (ours, single)] + [np.abs(exact).max()])
    error, expected, size = np.max(errors, axis=0)
    if not error <= max(_ERROR_FACTOR * expected, 4 * np.finfo(np.float32).eps * size):
        raise WrongResultError(
            f"the error of sampled outputs is {error:.1e}, that of the formula in memory "
            f"{expected:.1e}"
        )
    return (
        f"{options.sample} sampled outputs: largest error {error:.1e}, "
        f"{error / expected if expected else 1.0:.2f} times that of the formula in memory"
    )


if __name__ == "__main__":
    sys.exit(main())
