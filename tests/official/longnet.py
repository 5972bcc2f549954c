"""LongNet's layers under torchscale's names, on tokens.

Its attention is dense, with as many copies of each key as there are branches with it, which equals
mixing the branches by their denominators.
"""

from tests.official.parts import Module, Network, merged, of_heads, torch


def copies(n, heads, branches):
    """Count, in each head, the branches with the key of a column for the query of a row."""
    position, found = torch.arange(n), torch.zeros(heads, n, n)
    for w, r in branches:
        group = -(-heads // r)  # neighbouring heads have one offset
        for head in range(heads):
            selected = (position % w) % r == head // group
            same = position[:, None] // w == position // w
            found[head] += same & selected & selected[:, None]
    return found


class Dilated(Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        for letter in ("q", "k", "v", "out"):
            self.add_module(f"{letter}_proj", torch.nn.Linear(config.d, config.d))

    def forward(self, x):
        config = self.config
        q, k, v = (of_heads(W(x), config.heads) for W in (self.q_proj, self.k_proj, self.v_proj))
        many = copies(x.shape[1], config.heads, config.branches).to(x.dtype)
        e = many * torch.exp(q @ k.mT * q.shape[-1] ** -0.5)
        return self.out_proj(merged(e / e.sum(dim=-1, keepdim=True) @ v))


class Layer(Module):
    def __init__(self, config):
        super().__init__()
        self.self_attn_layer_norm = torch.nn.LayerNorm(config.d, eps=config.eps)
        self.self_attn = Dilated(config)
        self.final_layer_norm = torch.nn.LayerNorm(config.d, eps=config.eps)
        self.ffn = Network(config.d, config.d_f)

    def forward(self, x):
        x = x + self.self_attn(self.self_attn_layer_norm(x))
        return x + self.ffn(self.final_layer_norm(x))


class LongNet(Module):
    def __init__(self, config):
        super().__init__()
        self.layers = torch.nn.ModuleList(Layer(config) for _ in range(config.layers))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x
