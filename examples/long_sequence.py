"""Run dilated attention over a sequence that memory does not hold, chunk by chunk, from disk.

    python examples/long_sequence.py --tokens 2**24                16 million tokens
    python examples/long_sequence.py --tokens 2**24 --cluster      the same on two processes
    python examples/long_sequence.py --cluster tcp://there:8786    the same on a cluster of yours
    python examples/long_sequence.py --folder here                 queries, keys, values of your own

In --folder lie Q.npy, K.npy and V.npy, float32 of (heads, tokens, width); where there is none of
them, all are made of random numbers. O.npy, the output, comes beside them. Without --folder all is
temporary.

Each chunk stands for a device of LongNet's distributed algorithm: segments that fit in a chunk move
nothing, longer ones gather their dilated keys and values alone. The bytes that this moves are
counted in the task graph and held against the paper's formula, and a random sample of the output
against the formula in memory.

Segments and dilations grow four-fold unless given. The paper's own, 2048 to 32768 tokens with
1, 2, 4, 6 and 12, run six times as long, and need --chunk 32768: 6 and 12 divide no smaller one.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from long import arrays
from long.errors import BadInputError, WrongError
from numpy.lib.format import open_memmap

from vtnp.checkpoints import FileError, replacing

_NAMES = ("Q", "K", "V")
_NEEDED = ("dask", "distributed", "threadpoolctl")
_SCORES_AT_MOST = 2**29  # bytes, of one segment and all heads, in double precision
_FACTOR = 2.0  # how much larger the error may be than that of the formula in memory


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise BadInputError(message)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    try:
        options = parsed(arguments)
        look_for_what_is_needed()
        from threadpoolctl import threadpool_limits

        # Dask keeps the cores busy; threads of BLAS would fight for them, and split sums otherwise
        # than a cluster's workers do.
        with workplace(options) as folder, threadpool_limits(1):
            run(options, Path(folder))
    except (BadInputError, FileError, WrongError) as error:
        print(f"long_sequence.py: {error}", file=sys.stderr)
        return 1 if isinstance(error, WrongError) else 2
    except KeyboardInterrupt:
        print("\nstopped; no output is left", file=sys.stderr)
        return 130
    return 0


def look_for_what_is_needed() -> None:
    """Complain of what is not installed."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise BadInputError(f"{', '.join(missing)} not found: pip install 'vtnp[scale]'")


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = _Parser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--tokens", type=_count, help="length of the sequence (default: 2**20, or the files')")
    add("--heads", type=_count, help="default: 2, or the files'")
    add("--width", type=_count, help="of a head (default: 16, or the files')")
    branches = {"type": _count, "nargs": "+", "metavar": "N"}
    add("--segments", **branches, default=[512, 2048, 8192, 32768, 131072],
        help="of each branch (default: 512 2048 8192 32768 131072)")  # fmt: skip
    add("--dilations", **branches, default=[1, 4, 16, 64, 256],
        help="of each branch (default: 1 4 16 64 256)")  # fmt: skip
    add("--chunk", type=_count, default=2**14, help="tokens of a chunk (default: 2**14)")
    add(
        "--folder", type=Path, metavar="DIR", help="where the arrays lie (default: a temporary one)"
    )
    add("--workers", type=_count, default=2, help="threads, or processes (default: 2)")
    add("--cluster", nargs="?", const="", metavar="ADDRESS",
        help="run on dask.distributed: on processes here, or on this scheduler's")  # fmt: skip
    add("--kill-worker", action="store_true",
        help="kill a worker of the cluster midway, which must not change the result")  # fmt: skip
    add("--sample", type=_count, default=16, help="outputs to check (default: 16)")
    add("--seed", type=int, default=0, help="of random arrays, and of the sample (default: 0)")
    options = parser.parse_args(arguments)
    if options.kill_worker and options.cluster is None:
        raise BadInputError("--kill-worker goes with --cluster")
    if len(options.segments) != len(options.dilations):
        counts = f"{len(options.segments)} and {len(options.dilations)}"
        raise BadInputError(f"--segments and --dilations: {counts} numbers, expected as many")
    return options


def _count(text: str) -> int:
    base, power, exponent = text.partition("**")
    number = int(base) ** (min(int(exponent), 64) if power else 1)
    if not 1 <= number < 2**48:
        raise ValueError
    return number


_count.__name__ = "whole number >= 1"  # argparse names a type by this when a text is not one


def workplace(options: argparse.Namespace) -> AbstractContextManager[Any]:
    """Choose the folder of the arrays; a temporary one is removed at the end."""
    if options.folder is None:
        return tempfile.TemporaryDirectory(prefix="long_sequence-")
    if not options.folder.is_dir():
        raise BadInputError(f"{options.folder}: no such folder")
    return nullcontext(options.folder.resolve())


def run(options: argparse.Namespace, folder: Path) -> None:
    """Compute the output, check it, and tell what it took."""
    from long import chunked

    begun = time.perf_counter()
    pairs = list(zip(options.segments, options.dilations, strict=True))
    fitting(options, folder, pairs)
    with connected(options, folder) as client:
        prepare(options, folder)
        Q, K, V = (chunked.on_disk(folder / f"{name}.npy", options.chunk) for name in _NAMES)
        plan = chunked.dilated_attention(Q, K, V, pairs)
        told(plan, pairs)
        target = folder / "O.npy"
        start = time.perf_counter()
        with replacing(target) as temporary:
            # The file is as long as it will be, so that chunks are written in any order.
            open_memmap(temporary, "w+", np.float32, plan.output.shape)
            peaks = computed(options, chunked.written(plan.output, temporary), client)
            seconds = time.perf_counter() - start
            verdict = checked(options, folder, temporary, pairs)
    print(verdict)
    print(f"{target.name}: SHA-256 {arrays.digest(target)}")
    whole = time.perf_counter() - begun
    peaks.insert(0, arrays.peak_memory())
    each = f" ({' + '.join(f'{peak / 1e9:.2f}' for peak in peaks)})" if len(peaks) > 1 else ""
    print(
        f"{seconds:.0f} s, {whole:.0f} s in all; at most {sum(peaks) / 1e9:.2f} GB{each} of memory"
    )


def connected(options: argparse.Namespace, folder: Path) -> AbstractContextManager[Any]:
    """Connect to the cluster, where one is asked for."""
    if options.cluster is None:
        return nullcontext()
    from long import cluster

    return cluster.connected(options.cluster, options.workers, folder)


def fitting(options: argparse.Namespace, folder: Path, pairs: list[tuple[int, int]]) -> None:
    """Hold files, options and the disk against each other; settle what was not given."""
    from long import chunked

    paths = [folder / f"{name}.npy" for name in _NAMES]
    there = [path for path in paths if path.exists()]
    shapes = [arrays.opened(path).shape for path in there]
    if there and len(there) < len(paths):
        (absent, *_) = [path for path in paths if path not in there]
        raise BadInputError(f"{absent}: No such file, but {there[0].name} is there")
    if there and (shapes[0] != shapes[1] or shapes[0][:2] != shapes[2][:2]):
        raise BadInputError(f"{folder}: Q, K and V do not fit: their shapes are {shapes}")
    defaults = shapes[0] if there else (2, 2**20, 16)
    for name, known in zip(("heads", "tokens", "width"), defaults, strict=True):
        given = getattr(options, name)
        if there and given not in {None, known}:
            raise BadInputError(f"--{name} {given}: the arrays in {folder} have {known}")
        setattr(options, name, given or known)
    out = options.heads * options.tokens * (shapes[2][2] if there else options.width) * 4
    needed, free = out * (1 if there else 4), shutil.disk_usage(folder).free
    if needed > free:
        raise BadInputError(f"{folder}: {needed / 1e9:.1f} GB needed, {free / 1e9:.1f} GB are free")
    for w, r in pairs:
        if r > w:
            raise BadInputError(f"--dilations: {r} is more than its segment of {w} tokens")
        length = min(w, options.tokens)
        scores = 8 * options.heads * (-(-length // r)) ** 2
        if scores > _SCORES_AT_MOST:
            what = f"a segment of {length} tokens with dilation {r} has {scores / 1e9:.1f} GB"
            raise BadInputError(f"--segments: {what} of scores, more than memory is meant to hold")
    wrong = chunked.misfit(pairs, options.tokens, options.chunk)
    if wrong:
        raise BadInputError(f"--chunk: {wrong}")


def prepare(options: argparse.Namespace, folder: Path) -> None:
    """Make the arrays where there are none."""
    shape = options.heads, options.tokens, options.width
    if not (folder / f"{_NAMES[0]}.npy").exists():
        for i, name in enumerate(_NAMES):
            arrays.make(folder / f"{name}.npy", shape, [options.seed, i])


def told(plan: Any, pairs: list[tuple[int, int]]) -> None:
    """Tell what is going to be computed, and what it moves."""
    from long import chunked

    Q, K, V = plan.arrays[:3]
    heads, tokens, width = Q.shape
    chunk, chunks = Q.chunks[1][0], Q.numblocks[1]
    print(f"{tokens} tokens, {heads} heads of width {width}; {chunks} chunks of {chunk} tokens")
    sizes = {"heads": heads, "width": K.shape[2] + V.shape[2], "itemsize": Q.itemsize}
    for w, r in pairs:
        moved = chunked.bytes_of_paper([(w, r)], tokens, chunk, **sizes)
        print(
            f"  segments of {w}, dilation {r}: " + (f"{moved} bytes" if moved else "move nothing")
        )
    counted = chunked.bytes_moved(plan)
    paper = chunked.bytes_of_paper(pairs, tokens, chunk, **sizes)
    print(
        f"moved between chunks: {counted} bytes in the task graph, {paper} by the paper's formula"
    )
    if counted != paper:
        raise WrongError("the task graph moves other bytes than the paper's formula says")
    sys.stdout.flush()


def computed(options: argparse.Namespace, counts: Any, client: Any) -> list[int]:
    """Compute the output into its file; return the most memory that each worker had."""
    peaks: list[int] = []
    if client is None:
        from dask.diagnostics import ProgressBar

        with ProgressBar(dt=0.5):
            done = counts.compute(scheduler="threads", num_workers=options.workers)
        written = int(np.sum(done))
    else:
        from long import cluster

        written = cluster.computed(client, counts, kill=options.kill_worker)
        peaks = cluster.peaks(client)
    if written != options.tokens:
        raise WrongError(f"{written} of {options.tokens} tokens were written")
    return peaks


def checked(
    options: argparse.Namespace, folder: Path, output: Path, pairs: list[tuple[int, int]]
) -> str:
    """Hold a random sample of outputs against the formula in memory, in double precision."""
    inputs = [arrays.opened(folder / f"{name}.npy") for name in _NAMES]
    O = arrays.opened(output)
    rng = np.random.default_rng([options.seed, len(_NAMES)])
    errors = []
    for place in rng.integers(options.tokens, size=options.sample):
        exact, single = (arrays.in_memory(inputs, int(place), pairs, t) for t in ("f8", "f4"))
        here = O[:, place : place + 1]
        errors.append([np.abs(x - exact).max() for x in (here, single)] + [np.abs(exact).max()])
    off, same, size = np.max(errors, axis=0)
    if not off <= max(_FACTOR * same, 4 * np.finfo(np.float32).eps * size):
        raise WrongError(
            f"sampled outputs are off by {off:.1e}, the formula in memory by {same:.1e}"
        )
    return (
        f"{options.sample} sampled outputs: largest error {off:.1e}, "
        f"{off / same if same else 1.0:.2f} times that of the formula in memory"
    )


if __name__ == "__main__":
    sys.exit(main())
