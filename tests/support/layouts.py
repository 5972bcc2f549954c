"""Tensors of a published layout that are not a whole model's."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from vtnp import models
from vtnp._array import trees
from vtnp.checkpoints import from_theirs
from vtnp.checkpoints.layouts import layout_of
from vtnp.checkpoints.mapping import to_params
from vtnp.models import mvit


def prefixed(front: str, tensors: Mapping[str, Any]) -> dict[str, Any]:
    return {front + name: x for name, x in tensors.items()}


def params_of(model: str, config: Any, layout: str, tensors: Mapping[str, Any], path: str) -> Any:
    """Return the params at a path; what else the model has are new params, and not looked at."""
    new = getattr(models, model).init(np.random.default_rng(0), config)
    others = {each: x for each, x in trees.tree_leaves(new) if not each.startswith(f"{path}.")}
    params = from_theirs(model, config, layout, tensors, beside=others)
    for word in path.split("."):
        params = params[int(word) if word.isdigit() else word]
    return params


def params_of_block(
    block: mvit.Block, layout: str, tensors: Mapping[str, Any], *paths: str, mode: str = "conv"
) -> Any:
    """Return the params of one block of MViT, twice as wide within, or what of them is at paths."""
    config = mvit.MViTConfig(mlp_ratio=2, mode=mode)
    new = mvit._layer(np.random.default_rng(0), block, config, np.float64)
    others = {
        f"layers.0.{each}": x
        for each, x in trees.tree_leaves(new)
        if paths and not each.startswith(tuple(f"{path}." for path in paths)) and each not in paths
    }
    params = to_params(
        layout_of("mvit", config, layout),
        {"layers": [new]},
        prefixed("blocks.0.", tensors),
        beside=others,
    )
    return params["layers"][0]
