"""Nyströmformer's layers, on tokens."""

from tests.official.parts import Module, merged, of_heads, torch


def inverse(A, steps):
    """Approach it from A^T over the largest column sum of the batch."""
    Z = A.mT / A.abs().sum(dim=-2).max()
    identity = torch.eye(A.shape[-1], dtype=A.dtype)
    for _ in range(steps):
        AZ = A @ Z
        Z = Z @ (13 * identity - AZ @ (15 * identity - AZ @ (7 * identity - AZ))) / 4
    return Z


class Nystrom(Module):
    def __init__(self, config):
        super().__init__()
        self.landmarks, self.steps = config.landmarks, config.iterations
        self.conv = torch.nn.Conv2d(
            config.heads, config.heads, (config.kernel, 1), padding=(config.kernel // 2, 0),
            bias=False, groups=config.heads,
        )  # fmt: skip

    def forward(self, q, k, v):
        q, k = (x * q.shape[-1] ** -0.25 for x in (q, k))
        few = [x.unflatten(2, (self.landmarks, -1)).mean(dim=3) for x in (q, k)]
        F, A, B = (torch.softmax(x @ y.mT, dim=-1) for x, y in ((q, few[1]), few, (few[0], k)))
        return F @ inverse(A, self.steps) @ (B @ v) + self.conv(v)


class Attention(Module):
    def __init__(self, config):
        super().__init__()
        self.heads = config.heads
        for name in ("W_q", "W_k", "W_v", "ff"):
            self.add_module(name, torch.nn.Linear(config.d, config.d))
        self.attn = Nystrom(config)

    def forward(self, x):
        q, k, v = (of_heads(W(x), self.heads) for W in (self.W_q, self.W_k, self.W_v))
        return self.ff(merged(self.attn(q, k, v)))


class Layer(Module):
    def __init__(self, config):
        super().__init__()
        self.mha = Attention(config)
        self.norm1 = torch.nn.LayerNorm(config.d, eps=config.eps)
        self.ff1 = torch.nn.Linear(config.d, config.d_f)
        self.ff2 = torch.nn.Linear(config.d_f, config.d)
        self.norm2 = torch.nn.LayerNorm(config.d, eps=config.eps)

    def forward(self, x):
        y = self.norm1(x + self.mha(x))
        return self.norm2(y + self.ff2(torch.nn.functional.gelu(self.ff1(y))))


class Nystromformer(Module):
    def __init__(self, config):
        super().__init__()
        for i in range(config.layers):
            self.add_module(f"transformer_{i}", Layer(config))

    def forward(self, x):
        for layer in self.children():
            x = layer(x)
        return x
