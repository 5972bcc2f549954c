"""Axes of arrays in another order, by patterns of einops."""

from typing import Any

from numpy.typing import NDArray

from vtnp._registry.errors import UsageError


def rearranged(x: NDArray[Any], pattern: str, **sizes: int) -> NDArray[Any]:
    """Return einops.rearrange of an array. Raises ValueError where the pattern does not fit."""
    try:
        import einops
    except ImportError:
        raise UsageError("einops not found: pip install 'vtnp[verify]'") from None
    try:
        moved: NDArray[Any] = einops.rearrange(x, pattern, **sizes)
    except einops.EinopsError as error:
        raise ValueError(str(error).strip().splitlines()[-1].strip()) from None
    return moved
