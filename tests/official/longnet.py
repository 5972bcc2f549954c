"""LongNet's layers under torchscale's names, on tokens.

Its attention is the dense one, with as many copies of each key as branches have it: that is what
mixing branches by their denominators comes to.
"""

from tests.official.parts import Module, Network, merged, of_heads, torch


def copies(n, heads, segments, dilations):
    """How many branches have the key of a column for the query of a row, in each head."""
    places, found = torch.arange(n), torch.zeros(heads, n, n)
    for w, r in zip(segments, dilations, strict=True):
        group = -(-heads // r)  # neighbouring heads have one offset
        for head in range(heads):
            kept = (places % w) % r == head // group
            same = places[:, None] // w == places // w
            found[head] += same & kept & kept[:, None]
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
        many = copies(x.shape[1], config.heads, config.segments, config.dilations).to(x.dtype)
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
