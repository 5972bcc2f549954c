"""Official MViT weights, under their official names, as params of vtnp.models.mvit.

Every map here only splits, reshapes and permutes, so that it carries gradients as well as weights.
"""

from tests.torch_names import fused_attention, linear, network, norm, permuted


def kernel(weights, name):
    """A depthwise convolution: (channel, 1, time, row, column) there, the channel last here."""
    return permuted(weights[f"{name}.weight"][:, 0], 1, 2, 3, 0)


def attention(weights, name, heads):
    """With what pools queries, keys and values, where it is there."""
    params = fused_attention(weights, name, heads)
    for letter in "qkv":
        if f"{name}pool_{letter}.weight" in weights:
            params[f"kernel_{letter}"] = kernel(weights, f"{name}pool_{letter}")
            params[f"norm_{letter}"] = norm(weights, f"{name}norm_{letter}")
    return params


def block(weights, name, heads):
    """One block; `name` ends with a dot, or is empty."""
    params = {
        "norm_1": norm(weights, f"{name}norm1"),
        "attention": attention(weights, f"{name}attn.", heads),
        "norm_2": norm(weights, f"{name}norm2"),
        "feed_forward": network(weights, f"{name}mlp"),
    }
    if f"{name}proj.weight" in weights:
        params["widening"] = linear(weights, f"{name}proj")
    return params
