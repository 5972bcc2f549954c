"""Every equation of a survey on video transformers, as one small NumPy function each."""

from vtnp._errors import FormulaError, ShapeError
from vtnp._pages import Formula, UnknownFormulaError, formula, formulas
from vtnp._spec import unchecked
from vtnp.encoder import (
    add_and_norm,
    attention,
    attention_weights,
    causal_mask,
    cross_attention,
    decoder_layer,
    encoder_layer,
    feed_forward,
    feed_forward_step,
    gelu,
    head_merge,
    head_projection,
    layer_norm,
    multi_head_self_attention,
    pre_norm_layer,
    relu,
    softmax,
)

__version__ = "0.1.0"

__all__ = [
    "Formula",
    "FormulaError",
    "ShapeError",
    "UnknownFormulaError",
    "add_and_norm",
    "attention",
    "attention_weights",
    "causal_mask",
    "cross_attention",
    "decoder_layer",
    "encoder_layer",
    "feed_forward",
    "feed_forward_step",
    "formula",
    "formulas",
    "gelu",
    "head_merge",
    "head_projection",
    "layer_norm",
    "multi_head_self_attention",
    "pre_norm_layer",
    "relu",
    "softmax",
    "unchecked",
]
