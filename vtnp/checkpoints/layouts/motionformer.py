"""Motionformer: the names of the released code; there is no port."""

from vtnp.checkpoints.mapping import CheckpointLayout
from vtnp.checkpoints.tensors import (
    Part,
    PublishedTensor,
    attention,
    feed_forward,
    linear,
    norm,
    prefixed,
    qkv_projections,
    single,
)
from vtnp.models.motionformer import MotionformerConfig

_LAYER = "layers.{i}"
_TRAJECTORY = f"{_LAYER}.trajectory"
_UNUSED = "the released models do not project the values a second time"
_TENSORS = (
    single("cls_token", "cls", "1 1 d -> d"),
    PublishedTensor(
        "pos_embed", (Part("e_cls", "1 1 d -> d"), Part("e_space", "1 s d -> s d")), axis=1
    ),
    single("temp_embed", "e_time", "1 t d -> t d"),
    *prefixed(
        "blocks.{i}.",
        [
            *norm("norm1", f"{_LAYER}.norm_1"),
            *attention({"qkv": "attn.qkv", "c": "attn.proj"}, f"{_LAYER}.attention"),
            *qkv_projections("attn.proj_q", _TRAJECTORY, "q"),
            *qkv_projections("attn.proj_kv", _TRAJECTORY, "kv", unused=_UNUSED),
            *norm("norm2", f"{_LAYER}.norm_2"),
            *feed_forward("mlp.fc1", "mlp.fc2", f"{_LAYER}.feed_forward"),
        ],
    ),
    *norm("norm", "norm"),
    *linear("pre_logits.fc", "pre_logits"),
    *linear("head", "head"),
)


def official(config: MotionformerConfig) -> CheckpointLayout:
    """Return the layout of facebookresearch/Motionformer.

    The half of proj_kv for the values is used where the config has a value projection. In the
    released files it is untrained.
    """
    images, tubelets = "patch_embed.proj", "patch_embed_3d.proj"
    if config.tubelet == 1:
        used, unused, axes = images, tubelets, "d c p_h p_w -> (p_h p_w c) d"
    else:
        used, unused, axes = tubelets, images, "d c p_t p_h p_w -> (p_t p_h p_w c) d"
    embedding = (
        single(f"{used}.weight", "embedding.E", axes),
        single(f"{used}.bias", "embedding.bias", "d -> d"),
    )
    sizes = {"c": config.channels, "p_t": config.tubelet, "p_h": config.patch, "p_w": config.patch}
    ignored = {f"{unused}.*": "the released model has two embeddings and uses the other one"}
    return CheckpointLayout((*embedding, *_TENSORS), sizes, ignored)


LAYOUTS = {"official": official}
