"""Official Motionformer weights, under their official names, as params of vtnp.motionformer.

Every map here only splits, reshapes and permutes, so that it carries gradients as well as weights.
"""


def heads_of(weights, name, heads, parts):
    """Cut a linear layer's rows into equal parts, and each part into heads: (W, b) of each."""
    W, b = weights[f"{name}.weight"], weights[f"{name}.bias"]
    d = W.shape[1]
    width = W.shape[0] // (parts * heads)
    W, b = W.reshape(parts, heads, width, d), b.reshape(parts, heads, width)
    return [(W[i].transpose(0, 2, 1), b[i]) for i in range(parts)]


def attention(weights, heads):
    """qkv, then proj over all heads side by side."""
    params = {}
    for letter, (W, b) in zip("qkv", heads_of(weights, "qkv", heads, 3), strict=True):
        params |= {f"W_{letter}": W, f"b_{letter}": b}
    W_c = weights["proj.weight"].T
    d = W_c.shape[1]
    return params | {"W_c": W_c.reshape(heads, -1, d), "b_c": weights["proj.bias"]}


def trajectory(weights, heads):
    """proj_q, then proj_kv: keys, then values."""
    ((W_q, b_q),) = heads_of(weights, "proj_q", heads, 1)
    (W_k, b_k), (W_v, b_v) = heads_of(weights, "proj_kv", heads, 2)
    return {"W_q": W_q, "b_q": b_q, "W_k": W_k, "b_k": b_k, "W_v": W_v, "b_v": b_v}


def params_of(weights, heads):
    """The params of trajectory-self-attention."""
    return {"attention": attention(weights, heads), "trajectory": trajectory(weights, heads)}
