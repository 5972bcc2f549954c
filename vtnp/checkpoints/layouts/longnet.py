"""LongNet: the layers of torchscale's encoder, which are pre-norm like those of the video encoder.

Dilated attention adds no weights: any encoder of torchscale has these names. The video encoder
shares its layers with a language model and nothing else; what comes before and after them is
published nowhere.
"""

from vtnp.checkpoints.layouts import sequence
from vtnp.checkpoints.mapping import CheckpointLayout
from vtnp.checkpoints.tensors import attention, feed_forward, norm, prefixed
from vtnp.models.longnet import LongNetConfig

_LAYER = "layers.{i}"
_NAMES = {letter: f"self_attn.{letter}_proj" for letter in "qkv"} | {"c": "self_attn.out_proj"}
_TENSORS = tuple(
    prefixed(
        "layers.{i}.",
        [
            *norm("self_attn_layer_norm", f"{_LAYER}.norm_1"),
            *attention(_NAMES, f"{_LAYER}.attention"),
            *norm("final_layer_norm", f"{_LAYER}.norm_2"),
            *feed_forward("ffn.fc1", "ffn.fc2", f"{_LAYER}.feed_forward"),
        ],
    )
)
_IGNORED = {
    "embed_tokens.*": "embeds words",
    "embed_positions.*": "the positions of a text",
    "output_projection.*": "maps tokens to words",
    "layer_norm.*": "normalises all tokens after the last layer; a video encoder their mean",
}
_SUBLN = "a norm within the layer (subln), which the layers of this model do not have"
_UNSUPPORTED = {
    "layers.*.self_attn.inner_attn_ln.*": _SUBLN,
    "layers.*.ffn.ffn_layernorm.*": _SUBLN,
    "layers.*.self_attn.xpos.scale": "rotates queries and keys (xPos), which this model does not",
    "*.A.*": "one of two sets of weights (multiway), where this model has one",
    "*.B.*": "one of two sets of weights (multiway), where this model has one",
}


def torchscale(_: LongNetConfig) -> CheckpointLayout:
    """Return the layout of torchscale's LongNetEncoder, built without subln and multiway."""
    return CheckpointLayout(
        _TENSORS, ignored=_IGNORED, unsupported=_UNSUPPORTED, unpublished=sequence.UNPUBLISHED
    )


LAYOUTS = {"torchscale": torchscale}
