"""What they share: a feed-forward network, and tokens of patches."""

from typing import Any

from tests.support.peers import installed

torch = installed("torch")
Module: Any = torch.nn.Module if torch else object


class Network(Module):
    def __init__(self, d, d_f, d_out=None):
        super().__init__()
        self.fc1, self.fc2 = torch.nn.Linear(d, d_f), torch.nn.Linear(d_f, d_out or d)

    def forward(self, x):
        return self.fc2(torch.nn.functional.gelu(self.fc1(x)))


def attend(q, k, v):
    """Read values, by the softmax over the axis before the last of the keys."""
    return torch.softmax(q @ k.mT * q.shape[-1] ** -0.5, dim=-1) @ v


def of_heads(x, heads):
    """b n (heads d_h) -> b heads n d_h."""
    return x.unflatten(-1, (heads, -1)).transpose(-2, -3)


def merged(y):
    """b heads n d_h -> b n (heads d_h)."""
    return y.transpose(-2, -3).flatten(-2)
