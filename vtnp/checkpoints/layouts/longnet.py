"""LongNet: the layers of torchscale's encoder, which normalise before like our video encoder's.

Dilated attention adds no weights: any encoder of torchscale has these names. Here is a video
encoder of such layers, which shares nothing else with a language model: what is before and behind
them has to come from elsewhere.
"""

from vtnp.checkpoints.layouts import sequence
from vtnp.checkpoints.mapping import Layout
from vtnp.checkpoints.rows import attention, feed_forward, norm, under
from vtnp.models.longnet import LongNetConfig

_HERE = "layers.{i}"
_NAMES = {letter: f"self_attn.{letter}_proj" for letter in "qkv"} | {"c": "self_attn.out_proj"}
_ROWS = tuple(
    under(
        "layers.{i}.",
        [
            *norm("self_attn_layer_norm", f"{_HERE}.norm_1"),
            *attention(_NAMES, f"{_HERE}.attention"),
            *norm("final_layer_norm", f"{_HERE}.norm_2"),
            *feed_forward("ffn.fc1", "ffn.fc2", f"{_HERE}.feed_forward"),
        ],
    )
)
_IGNORED = {
    "embed_tokens.*": "embeds words",
    "embed_positions.*": "the positions of a text",
    "output_projection.*": "makes words of tokens",
    "layer_norm.*": "normalises each token behind the last layer, here the mean of all is",
}
_SUBLN = "a norm within the layer (subln), which this model's layers do not have"
_REFUSED = {
    "layers.*.self_attn.inner_attn_ln.*": _SUBLN,
    "layers.*.ffn.ffn_layernorm.*": _SUBLN,
    "layers.*.self_attn.xpos.scale": "rotates queries and keys (xPos), which this model does not",
    "*.A.*": "one of two sets of weights (multiway), of which this model has one",
    "*.B.*": "one of two sets of weights (multiway), of which this model has one",
}


def torchscale(_: LongNetConfig) -> Layout:
    """Return the layout of torchscale's LongNetEncoder, made with subln and multiway off."""
    return Layout(_ROWS, ignored=_IGNORED, refused=_REFUSED, alone=sequence.ALONE)


LAYOUTS = {"torchscale": torchscale}
