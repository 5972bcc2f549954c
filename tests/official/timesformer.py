"""TimeSformer, with divided attention."""

from tests.official.parts import Module, Network, torch


class Attention(Module):
    def __init__(self, d, heads):
        super().__init__()
        self.heads, self.scale = heads, (d // heads) ** -0.5
        self.qkv = torch.nn.Linear(d, 3 * d)
        self.attn_drop = torch.nn.Dropout(0.1)
        self.proj = torch.nn.Linear(d, d)

    def forward(self, x):
        parts = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k, v = parts.unbind(0)
        weights = self.attn_drop(torch.softmax(q @ k.mT * self.scale, dim=-1))
        return self.proj((weights @ v).transpose(1, 2).flatten(2))


class Block(Module):
    """Tokens stand behind the class token, place by place, time fastest."""

    def __init__(self, config):
        super().__init__()
        d = config.d
        self.frames = config.frames
        self.temporal_norm1 = torch.nn.LayerNorm(d, eps=config.eps)
        self.temporal_attn = Attention(d, config.heads)
        self.temporal_fc = torch.nn.Linear(d, d)
        self.norm1 = torch.nn.LayerNorm(d, eps=config.eps)
        self.attn = Attention(d, config.heads)
        self.norm2 = torch.nn.LayerNorm(d, eps=config.eps)
        self.mlp = Network(d, config.d_f)

    def forward(self, x):
        t, (b, _, d) = self.frames, x.shape
        cls, z = x[:, :1], x[:, 1:]
        along = z.reshape(-1, t, d)
        read = self.temporal_attn(self.temporal_norm1(along)).reshape(z.shape)
        z = z + self.temporal_fc(read)
        frames = z.reshape(b, -1, t, d).transpose(1, 2).flatten(0, 1)
        led = torch.cat([cls.repeat_interleave(t, dim=0), frames], dim=1)
        read = self.attn(self.norm1(led)).unflatten(0, (b, t))
        of_cls = read[:, :, :1].mean(dim=1)
        of_tokens = read[:, :, 1:].transpose(1, 2).reshape(z.shape)
        x = torch.cat([cls + of_cls, z + of_tokens], dim=1)
        return x + self.mlp(self.norm2(x))


class Patches(Module):
    def __init__(self, config):
        super().__init__()
        self.proj = torch.nn.Conv2d(config.channels, config.d, config.patch, config.patch)

    def forward(self, frames):
        return self.proj(frames).flatten(2).transpose(1, 2)


class TimeSformer(Module):
    def __init__(self, config):
        super().__init__()
        d, (_, h, w) = config.d, config.grid
        self.patch_embed = Patches(config)
        self.cls_token = torch.nn.Parameter(torch.zeros(1, 1, d))
        self.pos_embed = torch.nn.Parameter(torch.zeros(1, 1 + h * w, d))
        self.time_embed = torch.nn.Parameter(torch.zeros(1, config.frames, d))
        self.time_drop = torch.nn.Dropout(0.1)
        self.blocks = torch.nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = torch.nn.LayerNorm(d, eps=config.eps)
        self.head = torch.nn.Linear(d, config.classes)

    def forward(self, video):
        b, _, t, _, _ = video.shape
        x = self.patch_embed(video.transpose(1, 2).flatten(0, 1)) + self.pos_embed[:, 1:]
        along = x.unflatten(0, (b, t)).transpose(1, 2).flatten(0, 1) + self.time_embed
        z = self.time_drop(along).reshape(b, -1, x.shape[-1])
        z = torch.cat([(self.cls_token + self.pos_embed[:, :1]).expand(b, -1, -1), z], dim=1)
        for block in self.blocks:
            z = block(z)
        return self.head(self.norm(z)[:, 0])
