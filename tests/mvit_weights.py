"""Official MViT weights, under their official names, as params of vtnp.models.mvit.

Every map here only splits, reshapes and permutes, so that it carries gradients as well as weights.
"""

from vtnp._xp import namespace


def permuted(x, *axes):
    return namespace(x).permute_dims(x, axes)


def linear(weights, name):
    """A torch linear layer, y = x W^T + b."""
    return {"W": permuted(weights[f"{name}.weight"], 1, 0), "b": weights[f"{name}.bias"]}


def norm(weights, name):
    return {"gamma": weights[f"{name}.weight"], "beta": weights[f"{name}.bias"]}


def kernel(weights, name):
    """A depthwise convolution: (channel, 1, time, row, column) there, the channel last here."""
    return permuted(weights[f"{name}.weight"][:, 0], 1, 2, 3, 0)


def attention(weights, name, heads):
    """Rows of qkv: queries, keys, values; within each, head after head. Columns of proj: heads."""
    W, b = weights[f"{name}qkv.weight"], weights[f"{name}qkv.bias"]
    d = W.shape[1]
    params = {}
    for i, letter in enumerate("qkv"):
        rows = slice(i * d, (i + 1) * d)
        params[f"W_{letter}"] = permuted(W[rows].reshape((heads, d // heads, d)), 0, 2, 1)
        params[f"b_{letter}"] = b[rows].reshape((heads, d // heads))
        if f"{name}pool_{letter}.weight" in weights:
            params[f"kernel_{letter}"] = kernel(weights, f"{name}pool_{letter}")
            params[f"norm_{letter}"] = norm(weights, f"{name}norm_{letter}")
    merge = linear(weights, f"{name}proj")
    return params | {"W_c": merge["W"].reshape((heads, d // heads, d)), "b_c": merge["b"]}


def block(weights, name, heads):
    """One block; `name` ends with a dot, or is empty."""
    network = {
        f"{letter}_{i}": value
        for i in (1, 2)
        for letter, value in linear(weights, f"{name}mlp.fc{i}").items()
    }
    params = {
        "norm_1": norm(weights, f"{name}norm1"),
        "attention": attention(weights, f"{name}attn.", heads),
        "norm_2": norm(weights, f"{name}norm2"),
        "feed_forward": network,
    }
    if f"{name}proj.weight" in weights:
        params["widening"] = linear(weights, f"{name}proj")
    return params
