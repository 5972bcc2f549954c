"""Arrays of (heads, tokens, width) in .npy files, too large to be held in memory."""

import hashlib
import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

import vtnp
from vtnp.checkpoints import FileError, replacing

_AT_ONCE = 2**16  # tokens drawn at a time


def opened(path: Path) -> NDArray[Any]:
    """Open an array without reading it; complain of one that cannot be used."""
    try:
        x = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        told = getattr(error, "strerror", None) or "no .npy file, or one cut short"
        raise FileError(f"{path}: {told}") from None
    if x.ndim != 3 or 0 in x.shape or x.dtype != np.float32:
        got = f"got {x.dtype} of shape {x.shape}"
        raise FileError(f"{path}: expected float32 of (heads, tokens, width), {got}")
    return x


def make(path: Path, shape: tuple[int, int, int], seed: Sequence[int]) -> None:
    """Write standard normal numbers."""
    rng = np.random.default_rng(seed)
    with replacing(path) as temporary:
        for i in range(0, shape[1], _AT_ONCE):
            # Opened anew, so that what is written does not stay in memory.
            x = open_memmap(temporary, "r+" if i else "w+", np.float32, shape)
            part = x[:, i : i + _AT_ONCE]
            part[:] = rng.standard_normal(part.shape, np.float32)


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def in_memory(
    arrays: Sequence[NDArray[Any]], place: int, pairs: Sequence[tuple[int, int]], dtype: Any
) -> NDArray[Any]:
    """Compute the output of one token by the formula in memory.

    Each branch is computed on the segment that the token lies in: what is outside does not reach it
    (the page dilated-branch, segments-apart).
    """
    outputs, logs = [], []
    for w, r in pairs:
        start = place // w * w
        Q, K, V = (x[:, start : start + w].astype(dtype) for x in arrays)
        y, l = vtnp.longnet.dilated_branch(Q, K, V, segment=w, dilation=r)
        here = slice(place - start, place - start + 1)
        outputs.append(y[:, here])
        logs.append(l[:, here])
    return vtnp.longnet.mix_branches(outputs, logs)


def peak_memory() -> int:
    """Return the most bytes that this process has held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024)
