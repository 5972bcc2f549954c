"""Motionformer's trajectory tokens as another project may have them, in torch.

Tokens are b h (t s) d: batch, heads, frame after frame, width.
"""

from torch import Tensor


def weights(q: Tensor, k: Tensor) -> Tensor:
    """Return the attention weights of each query."""
    return (q @ k.mT * q.shape[-1] ** -0.5).softmax(dim=-1)


def trajectory_tokens(q: Tensor, k: Tensor, v: Tensor, *, t: int) -> Tensor:
    """Average each of t frames, weighted by each query: b h (t s) d -> b h (t s) t d."""
    keys, values = (x.unflatten(-2, (t, -1)) for x in (k, v))
    pooled = weights(q[..., None, :, :], keys) @ values
    return pooled.transpose(-3, -2)
