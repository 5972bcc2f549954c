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

# isort: split
from vtnp.timesformer import (
    attention_step,
    axial_layer,
    class_attention,
    divided_layer,
    global_attention,
    height_attention,
    joint_attention,
    joint_layer,
    local_attention,
    local_global_layer,
    space_attention,
    space_layer,
    space_time_embedding,
    time_attention,
    width_attention,
)

# isort: split
from vtnp.motionformer import (
    orthogonal_prototypes,
    prototype_attention,
    prototype_trajectory_tokens,
    trajectory_attention,
    trajectory_layer,
    trajectory_prototypes,
    trajectory_self_attention,
    trajectory_tokens,
)

# isort: split
from vtnp.nystromformer import (
    iterative_pinv,
    nystrom_approximation,
    nystrom_attention,
    nystrom_self_attention,
    segment_means,
    sequence_convolution,
    softmax_blocks,
)

# isort: split
from vtnp.longnet import (
    dilated_attention,
    dilated_branch,
    dilated_segments,
    head_offsets,
    kept_places,
    log_sum_exp,
    mix_branches,
    scatter_back,
)

__version__ = "0.1.0"

__all__ = [
    "Formula",
    "FormulaError",
    "ShapeError",
    "UnknownFormulaError",
    "add_and_norm",
    "attention",
    "attention_step",
    "attention_weights",
    "axial_layer",
    "bilinear_sample",
    "causal_mask",
    "class_attention",
    "clip_tokens",
    "cross_attention",
    "decoder_layer",
    "dilated_attention",
    "dilated_branch",
    "dilated_segments",
    "divided_layer",
    "encoder_layer",
    "feed_forward",
    "feed_forward_step",
    "formula",
    "formulas",
    "frame_tokens",
    "gelu",
    "global_attention",
    "head_merge",
    "head_offsets",
    "head_projection",
    "height_attention",
    "instance_tokens",
    "iterative_pinv",
    "joint_attention",
    "joint_layer",
    "kept_places",
    "layer_norm",
    "learned_positions",
    "linear_embedding",
    "local_attention",
    "local_global_layer",
    "log_sum_exp",
    "mix_branches",
    "multi_head_self_attention",
    "nystrom_approximation",
    "nystrom_attention",
    "nystrom_self_attention",
    "orthogonal_prototypes",
    "patch_tokens",
    "pre_norm_layer",
    "prototype_attention",
    "prototype_trajectory_tokens",
    "relative_attention",
    "relu",
    "scatter_back",
    "segment_means",
    "separable_positions",
    "sequence_convolution",
    "sinusoidal_positions",
    "sinusoidal_positions_2d",
    "sinusoidal_positions_3d",
    "softmax",
    "softmax_blocks",
    "space_attention",
    "space_layer",
    "space_time_embedding",
    "spatial_embedding",
    "spatio_temporal_embedding",
    "time_attention",
    "trajectory_attention",
    "trajectory_layer",
    "trajectory_prototypes",
    "trajectory_self_attention",
    "trajectory_tokens",
    "unchecked",
    "width_attention",
    "windows",
]
