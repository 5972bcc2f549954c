"""MViT under SlowFast's names, with queries, keys and values in one tensor."""

from tests.official.parts import Module, Network, attend, merged, of_heads, torch


class Pooling(Module):
    """Names of one attention's three poolings, all in the attention itself."""

    def __init__(self, config, block):
        super().__init__()
        d_h = block.d // block.heads
        for letter, pooling in (("q", block.pool_q), ("k", block.pool_kv), ("v", block.pool_kv)):
            stride, size, _, _ = pooling
            if size is None:
                continue
            padding = tuple(k // 2 for k in size)
            pool = torch.nn.Conv3d(d_h, d_h, size, stride, padding, groups=d_h, bias=False)
            self.add_module(f"pool_{letter}", pool)
            self.add_module(f"norm_{letter}", torch.nn.LayerNorm(d_h, eps=config.eps))

    def pooled(self, letter, x, grid):
        """Pool heads of tokens, the class token's row passing by."""
        if not hasattr(self, f"pool_{letter}"):
            return x, grid
        cells = x[:, :, 1:].flatten(0, 1).mT.unflatten(-1, grid)
        cells = getattr(self, f"pool_{letter}")(cells)
        tokens = cells.flatten(2).mT.unflatten(0, x.shape[:2])
        y = torch.cat([x[:, :, :1], tokens], dim=2)
        return getattr(self, f"norm_{letter}")(y), cells.shape[2:]


class Attention(Pooling):
    def __init__(self, config, block):
        super().__init__(config, block)
        self.heads = block.heads
        self.qkv = torch.nn.Linear(block.d, 3 * block.d)
        self.proj = torch.nn.Linear(block.d, block.d)

    def forward(self, x, grid):
        parts = zip("qkv", self.qkv(x).chunk(3, dim=-1), strict=True)
        pooled = [self.pooled(letter, of_heads(y, self.heads), grid) for letter, y in parts]
        return self.proj(merged(attend(*(y for y, _ in pooled)))), pooled[0][1]


class Block(Module):
    def __init__(self, config, block):
        super().__init__()
        self.stride = block.pool_q.stride
        self.norm1 = torch.nn.LayerNorm(block.d, eps=config.eps)
        self.attn = Attention(config, block)
        self.norm2 = torch.nn.LayerNorm(block.d, eps=config.eps)
        self.mlp = Network(block.d, config.mlp_ratio * block.d, block.d_out)
        if block.d_out != block.d:
            self.proj = torch.nn.Linear(block.d, block.d_out)

    def shrunk(self, x, grid):
        if max(self.stride) == 1:
            return x
        size = tuple(s + 1 if s > 1 else 1 for s in self.stride)
        cells = torch.nn.functional.max_pool3d(
            x[:, 1:].mT.unflatten(-1, grid), size, self.stride, tuple(k // 2 for k in size)
        )
        return torch.cat([x[:, :1], cells.flatten(2).mT], dim=1)

    def forward(self, x, grid):
        update, other = self.attn(self.norm1(x), grid)
        y = self.shrunk(x, grid) + update
        v = self.norm2(y)
        return (self.proj(v) if hasattr(self, "proj") else y) + self.mlp(v), other


class Stem(Module):
    def __init__(self, config):
        super().__init__()
        self.proj = torch.nn.Conv3d(
            config.channels, config.d, config.stem, config.stem_stride, config.stem_padding
        )

    def forward(self, video):
        return self.proj(video).flatten(2).mT


class Head(Module):
    def __init__(self, d, classes):
        super().__init__()
        self.projection = torch.nn.Linear(d, classes)

    def forward(self, x):
        return torch.softmax(self.projection(x), dim=-1)


class MViT(Module):
    """Takes a list of one batch of clips, and returns probabilities."""

    def __init__(self, config):
        super().__init__()
        self.grid = config.grid
        t, h, w = self.grid
        self.patch_embed = Stem(config)
        for name, n in (("token", 1), ("class", 1), ("spatial", h * w), ("temporal", t)):
            full = "cls_token" if name == "token" else f"pos_embed_{name}"
            self.register_parameter(full, torch.nn.Parameter(torch.zeros(1, n, config.d)))
        self.blocks = torch.nn.ModuleList(Block(config, block) for block in config.blocks)
        d = config.blocks[-1].d_out
        self.norm = torch.nn.LayerNorm(d, eps=config.eps)
        self.head = Head(d, config.classes)

    def forward(self, videos):
        (video,) = videos
        positions = self.pos_embed_spatial[:, None] + self.pos_embed_temporal[:, :, None]
        x = self.patch_embed(video) + positions.flatten(1, 2)
        cls = (self.cls_token + self.pos_embed_class).expand(len(x), -1, -1)
        x, grid = torch.cat([cls, x], dim=1), self.grid
        for block in self.blocks:
            x, grid = block(x, grid)
        return self.head(self.norm(x)[:, 0])
