"""ViViT: scenic's trees, whose levels are joined by "/", and HuggingFace's port of model 1.

Scenic's models 1 and 4 have the same names and shapes but for the class token: the config says
which one it is.
"""

from collections.abc import Mapping

from vtnp.checkpoints.mapping import Layout
from vtnp.checkpoints.rows import Row, attention, feed_forward, linear, norm, row, under
from vtnp.models.vivit import ViViTConfig

# --- Scenic ---------------------------------------------------------------------------------------

_WORDS = {"q": "query", "k": "key", "v": "value"}


def _norm(there: str, here: str) -> list[Row]:
    return norm(there, here, weight="/scale", bias="/bias")


def _attention(there: str, here: str) -> list[Row]:
    rows = []
    for letter, word in _WORDS.items():
        kernel = row(f"{there}/{word}/kernel", f"{here}.W_{letter}", "d heads d_h -> heads d d_h")
        bias = row(f"{there}/{word}/bias", f"{here}.b_{letter}", "heads d_h -> heads d_h")
        rows += [kernel, bias]
    return [
        *rows,
        row(f"{there}/out/kernel", f"{here}.W_c", "heads d_h d -> heads d_h d"),
        row(f"{there}/out/bias", f"{here}.b_c", "d -> d"),
    ]


def _dense(there: str, here: str, number: str = "") -> list[Row]:
    return [
        row(f"{there}/kernel", f"{here}.W{number}", "d_in d_out -> d_in d_out"),
        row(f"{there}/bias", f"{here}.b{number}", "d_out -> d_out"),
    ]


def _feed_forward(there: str, here: str) -> list[Row]:
    return [*_dense(f"{there}/Dense_0", here, "_1"), *_dense(f"{there}/Dense_1", here, "_2")]


def _block(there: str, here: str) -> list[Row]:
    """Write a block of models 1, 2 and 4."""
    return [
        *_norm(f"{there}/LayerNorm_0", f"{here}.norm_1"),
        *_attention(f"{there}/MultiHeadDotProductAttention_0", f"{here}.attention"),
        *_norm(f"{there}/LayerNorm_1", f"{here}.norm_2"),
        *_feed_forward(f"{there}/MlpBlock_0", f"{here}.feed_forward"),
    ]


def _two_step_block(there: str, here: str) -> list[Row]:
    """Write a block of model 3."""
    rows = []
    for axis in ("time", "space"):
        rows += _norm(f"{there}/LayerNorm_{axis}", f"{here}.{axis}.norm_1")
        name = f"{there}/MultiHeadDotProductAttention_{axis}"
        rows += _attention(name, f"{here}.{axis}.attention")
    return [
        *rows,
        *_norm(f"{there}/LayerNorm_mlp", f"{here}.norm_2"),
        *_feed_forward(f"{there}/MlpBlock", f"{here}.feed_forward"),
    ]


def _encoder(there: str, here: str, cls: str) -> list[Row]:
    block, layer = f"{there}/encoderblock_{{i}}", f"{here}.layers.{{i}}"
    return [
        row(cls, f"{here}.cls", "1 1 d -> d"),
        row(f"{there}/posembed_input/pos_embedding", f"{here}.positions", "1 n d -> n d"),
        *_block(block, layer),
        *_norm(f"{there}/encoder_norm", f"{here}.norm"),
    ]


_OFFICIAL = (
    row("embedding/kernel", "embedding.E", "t h w c d -> t h w c d"),
    row("embedding/bias", "embedding.bias", "d -> d"),
    *_encoder("Transformer", "encoder", "cls"),
    *_dense("output_projection", "head"),
)
_OFFICIAL_TWO_STEPS = (
    *(each for each in _OFFICIAL if "encoderblock" not in each.name),
    *_two_step_block("Transformer/encoderblock_{i}", "encoder.layers.{i}"),
)
_OFFICIAL_FACTORISED = (
    *(each for each in _OFFICIAL if not each.name.startswith(("Transformer", "cls"))),
    *_encoder("SpatialTransformer", "encoder.space", "cls_SpatialTransformer"),
    *_encoder("TemporalTransformer", "encoder.time", "cls_TemporalTransformer"),
)
_OF_MODEL: Mapping[str, tuple[Row, ...]] = {
    "spatio-temporal": _OFFICIAL,
    "factorised-encoder": _OFFICIAL_FACTORISED,
    "factorised-self-attention": _OFFICIAL_TWO_STEPS,
    "factorised-dot-product": _OFFICIAL,
}

# --- HuggingFace ----------------------------------------------------------------------------------


def _huggingface(layer: str, names: Mapping[str, str], network: tuple[str, str]) -> tuple[Row, ...]:
    here = "encoder.layers.{i}"
    first, second = network
    return (
        row("vivit.embeddings.cls_token", "encoder.cls", "1 1 d -> d"),
        row("vivit.embeddings.position_embeddings", "encoder.positions", "1 n d -> n d"),
        *under(
            "vivit.embeddings.patch_embeddings.projection.",
            [
                row("weight", "embedding.E", "d c t h w -> t h w c d"),
                row("bias", "embedding.bias", "d -> d"),
            ],
        ),
        *under(
            f"{layer}.",
            [
                *norm("layernorm_before", f"{here}.norm_1"),
                *attention(names, f"{here}.attention"),
                *norm("layernorm_after", f"{here}.norm_2"),
                *feed_forward(first, second, f"{here}.feed_forward"),
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


def official(config: ViViTConfig) -> Layout:
    """Return the layout of scenic, whose older checkpoints have names after "optimizer/target/"."""
    return Layout(_OF_MODEL[config.model], prefixes=("optimizer/target/",))


def _ported(config: ViViTConfig) -> bool:
    """Tell whether the port has such a model."""
    return config.model == "spatio-temporal" and config.class_token


def huggingface(config: ViViTConfig) -> Layout:
    """Return the layout of VivitForVideoClassification as transformers 5 names it."""
    return Layout(_HUGGINGFACE if _ported(config) else ())


def huggingface_4(config: ViViTConfig) -> Layout:
    """Return the layout that transformers 4 had, and files on its hub have."""
    return Layout(_HUGGINGFACE_4 if _ported(config) else ())


LAYOUTS = {"official": official, "huggingface": huggingface, "huggingface-4": huggingface_4}
