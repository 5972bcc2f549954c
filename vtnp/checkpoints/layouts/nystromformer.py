"""Nyströmformer: the layers of the released language models and of HuggingFace's port.

Here is a video encoder of such layers, which shares nothing else with a language model: what is
before and behind them has to come from elsewhere. The released layers normalise the sum,
norm(x + f(x)); the video encoder normalises before, x + f(norm(x)). So the params of a layer are
those of a released one, exactly, where nystrom-self-attention, add-and-norm and feed-forward are
put together as there; for the video encoder they are a start for training.
"""

from vtnp.checkpoints.layouts import sequence
from vtnp.checkpoints.mapping import Layout
from vtnp.checkpoints.rows import Row, attention, feed_forward, norm, row, under
from vtnp.models.nystromformer import NystromformerConfig

_HERE = "layers.{i}"
_TEXT = "embeds words and their positions, which a video has not"
_TASK = "belongs to a task of language"


def _layer(
    prefix: str, projections: str, merge: str, conv: str, norms: tuple[str, str],
    network: tuple[str, str],
) -> tuple[Row, ...]:  # fmt: skip
    q, k, v = projections.split()
    return tuple(
        under(
            prefix,
            [
                *attention({"q": q, "k": k, "v": v, "c": merge}, f"{_HERE}.attention"),
                row(f"{conv}.weight", f"{_HERE}.attention.kernel", "heads 1 k 1 -> heads k"),
                *norm(norms[0], f"{_HERE}.norm_1"),
                *feed_forward(*network, f"{_HERE}.feed_forward"),
                *norm(norms[1], f"{_HERE}.norm_2"),
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


def official(_: NystromformerConfig) -> Layout:
    """Return the layout of mlpen/Nystromformer."""
    ignored = {
        "embeddings.*": _TEXT,
        "*.conv.bias": "left over in old files; the convolution has no bias",
    }
    return Layout(_OFFICIAL, ignored=ignored, alone=sequence.ALONE)


def huggingface(_: NystromformerConfig) -> Layout:
    """Return the layout of transformers' NystromformerModel, alone or within a model of a task."""
    ignored = {"embeddings.*": _TEXT} | {
        f"{head}.*": _TASK for head in ("cls", "classifier", "qa_outputs")
    }
    return Layout(_HUGGINGFACE, ignored=ignored, alone=sequence.ALONE, prefixes=("nystromformer.",))


LAYOUTS = {"official": official, "huggingface": huggingface}
