"""What the models share: the params of their parts, and the head.

Params are nested dicts and lists of arrays; `vtnp.models.tree_map` brings them to another library.
Linear maps start as Glorot and Bengio (2010) have it, uniform, so that signals keep their scale at
any width; tables of tokens and positions, and the head, start small.
"""

import math
from collections.abc import Mapping
from typing import Any, Protocol

from vtnp._array.trees import tree_leaves
from vtnp._array.typing import Array
from vtnp._array.xp import namespace
from vtnp._registry.errors import FormulaError, ShapeError
from vtnp.encoder import layer_norm
from vtnp.models.initialisers import Initialiser, Shape
from vtnp.tokens import linear_embedding

Params = dict[str, Any]
_SMALL = 0.02  # the standard deviation of tables in ViT and its successors


def divides(part: int, *sizes: int) -> bool:
    """Return whether a part of at least 1 divides every size."""
    return part >= 1 and all(size % part == 0 for size in sizes)


# --- Params ---------------------------------------------------------------------------------------


def linear(new: Initialiser, shape: Shape, inputs: int, outputs: int) -> Any:
    """Return the weights of a linear map with so many inputs and outputs."""
    return new.uniform(shape, math.sqrt(6.0 / (inputs + outputs)))


def zeros(new: Initialiser, *shape: int) -> Any:
    """Return a bias, or another array that starts at 0."""
    return new.constant(shape, 0.0)


def table(new: Initialiser, *shape: int) -> Any:
    """Return a token, or the positions of tokens."""
    return new.normal(shape, _SMALL)


def norm(new: Initialiser, d: int) -> Params:
    """Return the params of a layer norm, which only normalises at first."""
    return {"gamma": new.constant((d,), 1.0), "beta": zeros(new, d)}


def attention(new: Initialiser, d: int, heads: int) -> Params:
    """Return the params of multi-head self-attention, with heads of width d / heads."""
    if not divides(heads, d):
        raise ValueError(f"width {d} is not a multiple of {heads} heads")
    d_h = d // heads
    projections = {f"W_{letter}": linear(new, (heads, d, d_h), d, d) for letter in "qkv"}
    biases = {f"b_{letter}": zeros(new, heads, d_h) for letter in "qkv"}
    output = {"W_c": linear(new, (heads, d_h, d), d, d), "b_c": zeros(new, d)}
    return projections | biases | output


def feed_forward(new: Initialiser, d: int, d_f: int) -> Params:
    """Return the params of a feed-forward network."""
    return {
        "W_1": linear(new, (d, d_f), d, d_f),
        "b_1": zeros(new, d_f),
        "W_2": linear(new, (d_f, d), d_f, d),
        "b_2": zeros(new, d),
    }


def self_attention_sublayer(new: Initialiser, d: int, heads: int) -> Params:
    """Return the params of self-attention-sublayer: norm and attention."""
    return {"norm_1": norm(new, d), "attention": attention(new, d, heads)}


def feed_forward_sublayer(new: Initialiser, d: int, d_f: int) -> Params:
    """Return the params of feed-forward-sublayer: norm and feed-forward network."""
    return {"norm_2": norm(new, d), "feed_forward": feed_forward(new, d, d_f)}


def layer(new: Initialiser, d: int, heads: int, d_f: int) -> Params:
    """Return the params of pre-norm-layer and of encoder-layer."""
    return self_attention_sublayer(new, d, heads) | feed_forward_sublayer(new, d, d_f)


def embedding(new: Initialiser, p: int, d: int) -> Params:
    """Return the params of a linear embedding of flattened patches."""
    return {"E": linear(new, (p, d), p, d), "bias": zeros(new, d)}


def head(new: Initialiser, d: int, classes: int) -> Params:
    """Return the params of a model's end: its last norm and the linear map to logits."""
    weights = {"W": table(new, d, classes), "b": zeros(new, classes)}
    return {"norm": norm(new, d), "head": weights}


# --- Whole models ---------------------------------------------------------------------------------


def require_keys(model: str, params: Mapping[str, Any], keys: str) -> None:
    """Raise FormulaError unless a model's params have all of these keys, separated by spaces."""
    for key in keys.split():
        if key not in params:
            raise FormulaError(
                f"{model}: argument params: expected a key {key!r}, got {list(params)}"
            )


class VideoSizes(Protocol):
    """A configuration, as far as it says which videos a model takes."""

    @property
    def frames(self) -> int: ...
    @property
    def image(self) -> tuple[int, int]: ...
    @property
    def channels(self) -> int: ...


def require_video(
    model: str, video: Array, config: VideoSizes, *, any_frames: bool = False
) -> None:
    """Raise ShapeError unless a video, `*b T H W C`, has the sizes of a configuration.

    Height and width that are exchanged would leave the number of patches as it is.
    any_frames: whether the number of frames is not looked at.
    """
    frames, image, channels = config.frames, config.image, config.channels
    sizes, expected = tuple(video.shape[-4:]), (frames, *image, channels)
    if sizes == expected or (any_frames and sizes[1:] == expected[1:]):
        return
    is_channels_first = sizes in {(frames, channels, *image), (channels, frames, *image)}
    why = "; its channels have to come last" if is_channels_first else ""
    raise ShapeError(f"{model}: argument video: expected *b {expected}, got {video.shape}{why}")


def logits(feature: Array, params: Mapping[str, Any], eps: float) -> Array:
    """Normalise a feature, `*b d`, and map it to one logit for each class."""
    return head_logits(layer_norm(feature, **params["norm"], eps=eps), params)


def head_logits(feature: Array, params: Mapping[str, Any]) -> Array:
    """Map a feature, `*b d`, to one logit for each class."""
    return linear_embedding(feature, params["head"]["W"], bias=params["head"]["b"])


def repeated(token: Array, batch: Shape) -> Array:
    """Repeat a learned token, `d`, for every element of a batch."""
    return namespace(token).broadcast_to(token, (*batch, *token.shape))


def size(params: Any) -> int:
    """Count the numbers in params."""
    return sum(math.prod(array.shape) for _, array in tree_leaves(params))
