"""Official TimeSformer weights, under their official names, as params of vtnp.models.timesformer.

Every map here only splits, reshapes and permutes, so that it carries gradients as well as weights.
"""

import re

from tests.torch_names import fused_attention, linear, network, norm, permuted


def layer(weights, name, heads):
    """One block; `name` ends with a dot, or is empty."""
    step = {
        "norm_1": norm(weights, f"{name}norm1"),
        "attention": fused_attention(weights, f"{name}attn.", heads),
    }
    rest = {
        "norm_2": norm(weights, f"{name}norm2"),
        "feed_forward": network(weights, f"{name}mlp"),
    }
    if f"{name}temporal_fc.weight" not in weights:
        return step | rest
    time = {
        "norm_1": norm(weights, f"{name}temporal_norm1"),
        "attention": fused_attention(weights, f"{name}temporal_attn.", heads),
        "fc": linear(weights, f"{name}temporal_fc"),
    }
    return {"time": time, "space": step} | rest


def model(weights, heads):
    """A whole model; patches are flattened (row, column, channel) here, (channel, ...) there."""
    kernel = weights["patch_embed.proj.weight"]
    d = kernel.shape[0]
    positions = weights["pos_embed"][0]
    in_time = {"e_time": weights["time_embed"][0]} if "time_embed" in weights else {}
    depth = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("blocks."))
    return {
        "embedding": {
            "E": permuted(kernel, 2, 3, 1, 0).reshape((-1, d)),
            "bias": weights["patch_embed.proj.bias"],
        },
        "cls": weights["cls_token"][0, 0],
        "e_cls": positions[0],
        "e_space": positions[1:],
        **in_time,
        "layers": [layer(weights, f"blocks.{i}.", heads) for i in range(depth)],
        "norm": norm(weights, "norm"),
        "head": linear(weights, "head"),
    }


# The names that HuggingFace's port gives to the official weights, longest first.
_HUGGINGFACE = {
    "timesformer.embeddings.patch_embeddings.projection": "patch_embed.proj",
    "timesformer.embeddings.position_embeddings": "pos_embed",
    "timesformer.embeddings.time_embeddings": "time_embed",
    "timesformer.embeddings.cls_token": "cls_token",
    "timesformer.encoder.layer": "blocks",
    "timesformer.layernorm": "norm",
    "temporal_attention.attention.qkv": "temporal_attn.qkv",
    "temporal_attention.output.dense": "temporal_attn.proj",
    "temporal_layernorm": "temporal_norm1",
    "temporal_dense": "temporal_fc",
    "attention.attention.qkv": "attn.qkv",
    "attention.output.dense": "attn.proj",
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
    "classifier": "head",
}


def official_names(weights):
    """Rename HuggingFace's weights to the official names."""
    pattern = re.compile("|".join(map(re.escape, _HUGGINGFACE)))
    return {
        pattern.sub(lambda found: _HUGGINGFACE[found[0]], name): value
        for name, value in weights.items()
    }
