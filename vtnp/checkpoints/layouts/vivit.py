"""ViViT: scenic's trees, whose levels are joined by "/", and HuggingFace's port of model 1.

Scenic's models 1 and 4 have the same names and shapes except for the class token; the config says
which model it is.
"""

from collections.abc import Mapping

from vtnp.checkpoints.mapping import CheckpointLayout
from vtnp.checkpoints.tensors import (
    PublishedTensor,
    attention,
    feed_forward,
    linear,
    norm,
    prefixed,
    single,
)
from vtnp.models.vivit import ViViTConfig

# --- Scenic ---------------------------------------------------------------------------------------

_WORDS = {"q": "query", "k": "key", "v": "value"}


def _norm(module: str, path: str) -> list[PublishedTensor]:
    return norm(module, path, weight="/scale", bias="/bias")


def _attention(module: str, path: str) -> list[PublishedTensor]:
    tensors = []
    for letter, word in _WORDS.items():
        kernel = single(
            f"{module}/{word}/kernel", f"{path}.W_{letter}", "d heads d_h -> heads d d_h"
        )
        bias = single(f"{module}/{word}/bias", f"{path}.b_{letter}", "heads d_h -> heads d_h")
        tensors += [kernel, bias]
    return [
        *tensors,
        single(f"{module}/out/kernel", f"{path}.W_c", "heads d_h d -> heads d_h d"),
        single(f"{module}/out/bias", f"{path}.b_c", "d -> d"),
    ]


def _dense(module: str, path: str, number: str = "") -> list[PublishedTensor]:
    return [
        single(f"{module}/kernel", f"{path}.W{number}", "d_in d_out -> d_in d_out"),
        single(f"{module}/bias", f"{path}.b{number}", "d_out -> d_out"),
    ]


def _feed_forward(module: str, path: str) -> list[PublishedTensor]:
    return [*_dense(f"{module}/Dense_0", path, "_1"), *_dense(f"{module}/Dense_1", path, "_2")]


def _block(module: str, path: str) -> list[PublishedTensor]:
    """Return a block of models 1, 2 and 4."""
    return [
        *_norm(f"{module}/LayerNorm_0", f"{path}.norm_1"),
        *_attention(f"{module}/MultiHeadDotProductAttention_0", f"{path}.attention"),
        *_norm(f"{module}/LayerNorm_1", f"{path}.norm_2"),
        *_feed_forward(f"{module}/MlpBlock_0", f"{path}.feed_forward"),
    ]


def _two_attention_block(module: str, path: str) -> list[PublishedTensor]:
    """Return a block of model 3."""
    tensors = []
    for axis in ("time", "space"):
        tensors += _norm(f"{module}/LayerNorm_{axis}", f"{path}.{axis}.norm_1")
        name = f"{module}/MultiHeadDotProductAttention_{axis}"
        tensors += _attention(name, f"{path}.{axis}.attention")
    return [
        *tensors,
        *_norm(f"{module}/LayerNorm_mlp", f"{path}.norm_2"),
        *_feed_forward(f"{module}/MlpBlock", f"{path}.feed_forward"),
    ]


def _encoder(module: str, path: str, cls: str) -> list[PublishedTensor]:
    block, layer = f"{module}/encoderblock_{{i}}", f"{path}.layers.{{i}}"
    return [
        single(cls, f"{path}.cls", "1 1 d -> d"),
        single(f"{module}/posembed_input/pos_embedding", f"{path}.positions", "1 n d -> n d"),
        *_block(block, layer),
        *_norm(f"{module}/encoder_norm", f"{path}.norm"),
    ]


_OFFICIAL = (
    single("embedding/kernel", "embedding.E", "t h w c d -> t h w c d"),
    single("embedding/bias", "embedding.bias", "d -> d"),
    *_encoder("Transformer", "encoder", "cls"),
    *_dense("output_projection", "head"),
)
_OFFICIAL_TWO_ATTENTIONS = (
    *(each for each in _OFFICIAL if "encoderblock" not in each.name),
    *_two_attention_block("Transformer/encoderblock_{i}", "encoder.layers.{i}"),
)
_OFFICIAL_FACTORISED = (
    *(each for each in _OFFICIAL if not each.name.startswith(("Transformer", "cls"))),
    *_encoder("SpatialTransformer", "encoder.space", "cls_SpatialTransformer"),
    *_encoder("TemporalTransformer", "encoder.time", "cls_TemporalTransformer"),
)
_OF_MODEL: Mapping[str, tuple[PublishedTensor, ...]] = {
    "spatio-temporal": _OFFICIAL,
    "factorised-encoder": _OFFICIAL_FACTORISED,
    "factorised-self-attention": _OFFICIAL_TWO_ATTENTIONS,
    "factorised-dot-product": _OFFICIAL,
}

# --- HuggingFace ----------------------------------------------------------------------------------


def _huggingface(
    layer: str, names: Mapping[str, str], network: tuple[str, str]
) -> tuple[PublishedTensor, ...]:
    path = "encoder.layers.{i}"
    first, second = network
    return (
        single("vivit.embeddings.cls_token", "encoder.cls", "1 1 d -> d"),
        single("vivit.embeddings.position_embeddings", "encoder.positions", "1 n d -> n d"),
        *prefixed(
            "vivit.embeddings.patch_embeddings.projection.",
            [
                single("weight", "embedding.E", "d c t h w -> t h w c d"),
                single("bias", "embedding.bias", "d -> d"),
            ],
        ),
        *prefixed(
            f"{layer}.",
            [
                *norm("layernorm_before", f"{path}.norm_1"),
                *attention(names, f"{path}.attention"),
                *norm("layernorm_after", f"{path}.norm_2"),
                *feed_forward(first, second, f"{path}.feed_forward"),
            ],
        ),
        *norm("vivit.layernorm", "encoder.norm"),
        *linear("classifier", "head"),
    )


_HUGGINGFACE = _huggingface(
    "vivit.layers.{i}",
    {letter: f"attention.{letter}_proj" for letter in "qkv"} | {"c": "attention.o_proj"},
    ("mlp.fc1", "mlp.fc2"),
)
_HUGGINGFACE_4 = _huggingface(
    "vivit.encoder.layer.{i}",
    {letter: f"attention.attention.{word}" for letter, word in _WORDS.items()}
    | {"c": "attention.output.dense"},
    ("intermediate.dense", "output.dense"),
)


def official(config: ViViTConfig) -> CheckpointLayout:
    """Return the layout of scenic, whose older checkpoints have the prefix "optimizer/target/"."""
    return CheckpointLayout(_OF_MODEL[config.model], prefixes=("optimizer/target/",))


def _is_ported(config: ViViTConfig) -> bool:
    """Return whether the port has such a model."""
    return config.model == "spatio-temporal" and config.class_token


def huggingface(config: ViViTConfig) -> CheckpointLayout:
    """Return the layout of VivitForVideoClassification as transformers 5 names it."""
    return CheckpointLayout(_HUGGINGFACE if _is_ported(config) else ())


def huggingface_4(config: ViViTConfig) -> CheckpointLayout:
    """Return the layout of transformers 4, which files on its hub still have."""
    return CheckpointLayout(_HUGGINGFACE_4 if _is_ported(config) else ())


LAYOUTS = {"official": official, "huggingface": huggingface, "huggingface-4": huggingface_4}
