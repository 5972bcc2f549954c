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

# The survey's order is the order of registration.
# isort: split
from vtnp.tokens import (
    bilinear_sample,
    clip_tokens,
    frame_tokens,
    instance_tokens,
    linear_embedding,
    patch_tokens,
    spatial_embedding,
    spatio_temporal_embedding,
    windows,
)

# isort: split
from vtnp.positions import (
    learned_positions,
    relative_attention,
    separable_positions,
    sinusoidal_positions,
    sinusoidal_positions_2d,
    sinusoidal_positions_3d,
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
    "bilinear_sample",
    "causal_mask",
    "clip_tokens",
    "cross_attention",
    "decoder_layer",
    "encoder_layer",
    "feed_forward",
    "feed_forward_step",
    "formula",
    "formulas",
    "frame_tokens",
    "gelu",
    "head_merge",
    "head_projection",
    "instance_tokens",
    "layer_norm",
    "learned_positions",
    "linear_embedding",
    "multi_head_self_attention",
    "patch_tokens",
    "pre_norm_layer",
    "relative_attention",
    "relu",
    "separable_positions",
    "sinusoidal_positions",
    "sinusoidal_positions_2d",
    "sinusoidal_positions_3d",
    "softmax",
    "spatial_embedding",
    "spatio_temporal_embedding",
    "unchecked",
    "windows",
]
