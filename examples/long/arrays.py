"""Arrays of shape (heads, tokens, width) in .npy files, too large for memory."""

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
from vtnp.longnet import Branch

_AT_ONCE = 2**16  # tokens drawn at a time


def opened(path: Path) -> NDArray[Any]:
    """Open an array without reading it; raise FileError for one that cannot be used."""
    try:
        x = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        reason = getattr(error, "strerror", None) or "no .npy file, or a truncated one"
        raise FileError(f"{path}: {reason}") from None
    if x.ndim != 3 or 0 in x.shape or x.dtype != np.float32:
        raise FileError(
            f"{path}: expected float32 of shape (heads, tokens, width), "
            f"got {x.dtype} of shape {x.shape}"
        )
    return x


def write_random(path: Path, shape: tuple[int, int, int], seed: Sequence[int]) -> None:
    """Write an array of standard normal numbers."""
    rng = np.random.default_rng(seed)
    with replacing(path) as temporary:
        for i in range(0, shape[1], _AT_ONCE):
            # Opened again each time, so that written pages do not stay in memory.
            x = open_memmap(temporary, "r+" if i else "w+", np.float32, shape)
            part = x[:, i : i + _AT_ONCE]
            part[:] = rng.standard_normal(part.shape, np.float32)


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def in_memory(
    arrays: Sequence[NDArray[Any]], token: int, branches: Sequence[Branch], dtype: Any
) -> NDArray[Any]:
    """Compute the output for one token by the formula in memory.

    Each branch is computed on the segment of the token alone, which no other segment affects
    (spec/longnet/dilated-branch.md, independent-segments).
    """
    outputs, log_denominators = [], []
    for branch in branches:
        start = token // branch.segment * branch.segment
        Q, K, V = (x[:, start : start + branch.segment].astype(dtype) for x in arrays)
        y, l = vtnp.longnet.dilated_branch(Q, K, V, branch=branch)
        i = token - start
        outputs.append(y[:, i : i + 1])
        log_denominators.append(l[:, i : i + 1])
    return vtnp.longnet.mix_branches(outputs, log_denominators)


def peak_memory() -> int:
    """Return the peak memory of this process in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024)
