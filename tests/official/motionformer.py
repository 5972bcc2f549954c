"""Motionformer, whose values are not projected a second time, as released."""

from tests.official.parts import Module, Network, attend, merged, of_heads, torch


class Trajectories(Module):
    def __init__(self, d, heads):
        super().__init__()
        self.heads = heads
        self.qkv = torch.nn.Linear(d, 3 * d)
        self.proj_q = torch.nn.Linear(d, d)
        self.proj_kv = torch.nn.Linear(d, 2 * d)
        self.proj = torch.nn.Linear(d, d)

    def forward(self, x, t):
        q, k, v = (of_heads(y, self.heads) for y in self.qkv(x).chunk(3, dim=-1))
        of_cls = merged(attend(q[:, :, :1], k, v))
        frames = [y[:, :, 1:].unflatten(2, (t, -1)) for y in (k, v)]
        along = attend(q[:, :, None, 1:], *frames)  # b heads t' (t s) d_h
        along = along.permute(0, 3, 2, 1, 4).flatten(3)  # b (t s) t' d
        own = torch.arange(t).repeat_interleave(along.shape[1] // t)
        q = of_heads(self.proj_q(along[:, torch.arange(len(own)), own]), self.heads)[..., None, :]
        k = self.proj_kv(along).chunk(2, dim=-1)[0]
        k, v = (y.unflatten(-1, (self.heads, -1)).permute(0, 3, 1, 2, 4) for y in (k, along))
        y = merged(attend(q, k, v)[..., 0, :])
        return self.proj(torch.cat([of_cls, y], dim=1))


class Block(Module):
    def __init__(self, config):
        super().__init__()
        self.norm1 = torch.nn.LayerNorm(config.d, eps=config.eps)
        self.attn = Trajectories(config.d, config.heads)
        self.norm2 = torch.nn.LayerNorm(config.d, eps=config.eps)
        self.mlp = Network(config.d, config.d_f)

    def forward(self, x, t):
        x = x + self.attn(self.norm1(x), t)
        return x + self.mlp(self.norm2(x))


class Tubelets(Module):
    def __init__(self, config):
        super().__init__()
        size = (config.tubelet, config.patch, config.patch)
        self.proj = torch.nn.Conv3d(config.channels, config.d, size, size)

    def forward(self, video):
        return self.proj(video).flatten(2).transpose(1, 2)


class Images(Module):
    """Released models have it beside the tubelets, and do not call it."""

    def __init__(self, config):
        super().__init__()
        self.proj = torch.nn.Conv2d(config.channels, config.d, config.patch, config.patch)


class Motionformer(Module):
    """Takes a list of one batch of clips, and returns probabilities."""

    def __init__(self, config):
        super().__init__()
        d, (_, h, w) = config.d, config.grid
        self.t = config.frames // config.tubelet
        self.patch_embed, self.patch_embed_3d = Images(config), Tubelets(config)
        self.cls_token = torch.nn.Parameter(torch.zeros(1, 1, d))
        self.pos_embed = torch.nn.Parameter(torch.zeros(1, 1 + h * w, d))
        self.temp_embed = torch.nn.Parameter(torch.zeros(1, self.t, d))
        self.pos_drop = torch.nn.Dropout(0.1)
        self.blocks = torch.nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = torch.nn.LayerNorm(d, eps=config.eps)
        self.pre_logits = torch.nn.Sequential()
        self.pre_logits.add_module("fc", torch.nn.Linear(d, d))
        self.pre_logits.add_module("act", torch.nn.Tanh())
        self.head = torch.nn.Linear(d, config.classes)

    def forward(self, videos):
        (video,) = videos
        x = self.patch_embed_3d(video).unflatten(1, (self.t, -1))
        x = (x + self.pos_embed[:, None, 1:] + self.temp_embed[:, :, None]).flatten(1, 2)
        cls = (self.cls_token + self.pos_embed[:, :1]).expand(len(x), -1, -1)
        x = self.pos_drop(torch.cat([cls, x], dim=1))
        for block in self.blocks:
            x = block(x, self.t)
        return torch.softmax(self.head(self.pre_logits(self.norm(x)[:, 0])), dim=-1)
