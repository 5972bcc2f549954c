"""Nyströmformer: the layers of the released language models and of HuggingFace's port.

The video encoder shares its layers with a language model and nothing else; what comes before and
after them is published nowhere. The released layers are post-norm, norm(x + f(x)), those of the
video encoder pre-norm, x + f(norm(x)). The params of a released layer therefore give its results
where nystrom-self-attention, add-and-norm and feed-forward are composed as in the released code;
in the video encoder they are a starting point for training.
"""

from vtnp.checkpoints.layouts import sequence
from vtnp.checkpoints.mapping import CheckpointLayout
from vtnp.checkpoints.tensors import (
    PublishedTensor,
    attention,
    feed_forward,
    norm,
    prefixed,
    single,
)
from vtnp.models.nystromformer import NystromformerConfig

_PATH = "layers.{i}"
_TEXT = "embeds words and their positions, which a video does not have"
_TASK = "belongs to a language task"


def _layer(
    prefix: str, projections: str, output: str, conv: str, norms: tuple[str, str],
    network: tuple[str, str],
) -> tuple[PublishedTensor, ...]:  # fmt: skip
    q, k, v = projections.split()
    return tuple(
        prefixed(
            prefix,
            [
                *attention({"q": q, "k": k, "v": v, "c": output}, f"{_PATH}.attention"),
                single(f"{conv}.weight", f"{_PATH}.attention.kernel", "heads 1 k 1 -> heads k"),
                *norm(norms[0], f"{_PATH}.norm_1"),
                *feed_forward(*network, f"{_PATH}.feed_forward"),
                *norm(norms[1], f"{_PATH}.norm_2"),
            ],
        )
    )


_OFFICIAL = _layer(
    "transformer_{i}.",
    "mha.W_q mha.W_k mha.W_v",
    "mha.ff",
    "mha.attn.conv",
    ("norm1", "norm2"),
    ("ff1", "ff2"),
)
_HUGGINGFACE = _layer(
    "encoder.layer.{i}.",
    "attention.self.query attention.self.key attention.self.value",
    "attention.output.dense",
    "attention.self.conv",
    ("attention.output.LayerNorm", "output.LayerNorm"),
    ("intermediate.dense", "output.dense"),
)


def official(_: NystromformerConfig) -> CheckpointLayout:
    """Return the layout of mlpen/Nystromformer."""
    ignored = {
        "embeddings.*": _TEXT,
        "*.conv.bias": "left over in old files; the convolution has no bias",
    }
    return CheckpointLayout(_OFFICIAL, ignored=ignored, unpublished=sequence.UNPUBLISHED)


def huggingface(_: NystromformerConfig) -> CheckpointLayout:
    """Return the layout of transformers' NystromformerModel, alone or within a model for a task."""
    ignored = {"embeddings.*": _TEXT} | {
        f"{head}.*": _TASK for head in ("cls", "classifier", "qa_outputs")
    }
    return CheckpointLayout(
        _HUGGINGFACE,
        ignored=ignored,
        unpublished=sequence.UNPUBLISHED,
        prefixes=("nystromformer.",),
    )


LAYOUTS = {"official": official, "huggingface": huggingface}
