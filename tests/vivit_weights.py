"""Published ViViT weights, under their own names, as params of vtnp.models.vivit.

Two sources: scenic's flax trees, whose levels are joined by "/", and HuggingFace's port. Every map
here only splits, reshapes and permutes, so that it carries gradients as well as weights.
"""

import re

from tests.torch_names import linear, network, norm, of_heads, permuted

# --- scenic ---------------------------------------------------------------------------------------

_LETTERS = {"q": "query", "k": "key", "v": "value"}


def _norm(weights, name):
    return {"gamma": weights[f"{name}/scale"], "beta": weights[f"{name}/bias"]}


def _attention(weights, name):
    """Its kernels are d heads d_h, and heads d_h d: output by output, like ours."""
    params = {}
    for letter, word in _LETTERS.items():
        params[f"W_{letter}"] = permuted(weights[f"{name}/{word}/kernel"], 1, 0, 2)
        params[f"b_{letter}"] = weights[f"{name}/{word}/bias"]
    return params | {"W_c": weights[f"{name}/out/kernel"], "b_c": weights[f"{name}/out/bias"]}


def _feed_forward(weights, name):
    return {
        f"{ours}_{i}": weights[f"{name}/Dense_{i - 1}/{theirs}"]
        for i in (1, 2)
        for ours, theirs in (("W", "kernel"), ("b", "bias"))
    }


def layer(weights, name):
    """One block of models 1, 2 and 4; `name` ends with a slash, or is empty."""
    return {
        "norm_1": _norm(weights, f"{name}LayerNorm_0"),
        "attention": _attention(weights, f"{name}MultiHeadDotProductAttention_0"),
        "norm_2": _norm(weights, f"{name}LayerNorm_1"),
        "feed_forward": _feed_forward(weights, f"{name}MlpBlock_0"),
    }


def self_attention_layer(weights, name):
    """One block of model 3."""
    return {
        axis: {
            "norm_1": _norm(weights, f"{name}LayerNorm_{axis}"),
            "attention": _attention(weights, f"{name}MultiHeadDotProductAttention_{axis}"),
        }
        for axis in ("time", "space")
    } | {
        "norm_2": _norm(weights, f"{name}LayerNorm_mlp"),
        "feed_forward": _feed_forward(weights, f"{name}MlpBlock"),
    }


def _depth(weights, prefix):
    """Count the layers whose names begin so."""
    return 1 + max(
        int(re.match(r"\d+", key.removeprefix(prefix))[0])
        for key in weights
        if key.startswith(prefix)
    )


def _encoder(weights, name, cls):
    blocks = f"{name}/encoderblock_"
    return {
        "cls": weights[cls][0, 0],
        "positions": weights[f"{name}/posembed_input/pos_embedding"][0],
        "layers": [layer(weights, f"{blocks}{i}/") for i in range(_depth(weights, blocks))],
        "norm": _norm(weights, f"{name}/encoder_norm"),
    }


def factorised_encoder_model(weights):
    """A whole model 2."""
    return {
        "embedding": {"E": weights["embedding/kernel"], "bias": weights["embedding/bias"]},
        "encoder": {
            ours: _encoder(weights, f"{theirs}Transformer", f"cls_{theirs}Transformer")
            for ours, theirs in (("space", "Spatial"), ("time", "Temporal"))
        },
        "head": {
            "W": weights["output_projection/kernel"],
            "b": weights["output_projection/bias"],
        },
    }


# --- HuggingFace ----------------------------------------------------------------------------------


def _torch_layer(weights, name, heads):
    """Columns of the three projections, and rows of the merge, go head after head."""
    attention = {}
    for letter in "qkv":
        projection = f"{name}.attention.{letter}_proj"
        attention[f"W_{letter}"] = of_heads(weights[f"{projection}.weight"], heads)
        attention[f"b_{letter}"] = weights[f"{projection}.bias"].reshape((heads, -1))
    merge = linear(weights, f"{name}.attention.o_proj")
    d = merge["W"].shape[0]
    attention |= {"W_c": merge["W"].reshape((heads, d // heads, d)), "b_c": merge["b"]}
    return {
        "norm_1": norm(weights, f"{name}.layernorm_before"),
        "attention": attention,
        "norm_2": norm(weights, f"{name}.layernorm_after"),
        "feed_forward": network(weights, f"{name}.mlp"),
    }


def huggingface_model(weights, heads):
    """A whole model 1, by the names of transformers 5; kernels are d C p_t p_h p_w there."""
    embedding, layers = "vivit.embeddings", "vivit.layers."
    kernel = weights[f"{embedding}.patch_embeddings.projection.weight"]
    return {
        "embedding": {
            "E": permuted(kernel, 2, 3, 4, 1, 0),
            "bias": weights[f"{embedding}.patch_embeddings.projection.bias"],
        },
        "encoder": {
            "cls": weights[f"{embedding}.cls_token"][0, 0],
            "positions": weights[f"{embedding}.position_embeddings"][0],
            "layers": [
                _torch_layer(weights, f"{layers}{i}", heads) for i in range(_depth(weights, layers))
            ],
            "norm": norm(weights, "vivit.layernorm"),
        },
        "head": linear(weights, "classifier"),
    }
