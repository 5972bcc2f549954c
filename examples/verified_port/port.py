"""Motionformer's trajectory tokens as a project of its own may have them: torch, frames in a row.

Tokens are b h (t s) d: batch, heads, frame after frame, width.
"""

from torch import Tensor


def weights(q: Tensor, k: Tensor) -> Tensor:
    """How much each query reads of each key."""
    return (q @ k.mT * q.shape[-1] ** -0.5).softmax(dim=-1)


def trajectory_tokens(q: Tensor, k: Tensor, v: Tensor, *, t: int) -> Tensor:
    """Pool each of t frames into one token per query: b h (t s) d -> b h (t s) t d."""
    keys, values = (x.unflatten(-2, (t, -1)) for x in (k, v))
    pooled = weights(q[..., None, :, :], keys) @ values
    return pooled.transpose(-3, -2)
