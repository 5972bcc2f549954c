"""Official Motionformer weights, under their official names, as params of vtnp.motionformer.

Every map here only splits, reshapes and permutes, so that it carries gradients as well as weights.
"""

from tests.torch_names import fused_attention, of_heads


def trajectory(weights, heads):
    """proj_q, then proj_kv: keys, then values."""
    W_kv, b_kv = weights["proj_kv.weight"], weights["proj_kv.bias"]
    d = W_kv.shape[0] // 2
    each = {
        "q": (weights["proj_q.weight"], weights["proj_q.bias"]),
        "k": (W_kv[:d, :], b_kv[:d]),
        "v": (W_kv[d:, :], b_kv[d:]),
    }
    params = {}
    for letter, (W, b) in each.items():
        params |= {f"W_{letter}": of_heads(W, heads), f"b_{letter}": b.reshape((heads, -1))}
    return params


def params_of(weights, heads):
    """The params of trajectory-self-attention."""
    attention = fused_attention(weights, "", heads)
    return {"attention": attention, "trajectory": trajectory(weights, heads)}
