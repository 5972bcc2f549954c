"""Tensors of a published layout that are only a part of a model."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from vtnp import models
from vtnp._array import trees
from vtnp.checkpoints import from_published
from vtnp.checkpoints.layouts import layout_of
from vtnp.checkpoints.mapping import to_params
from vtnp.models import mvit
from vtnp.models.initialisers import RandomInitialiser


def prefixed(front: str, tensors: Mapping[str, Any]) -> dict[str, Any]:
    return {front + name: x for name, x in tensors.items()}


def params_of(model: str, config: Any, layout: str, tensors: Mapping[str, Any], path: str) -> Any:
    """Return the params at a path; the rest of the model is initialised and not used."""
    new = getattr(models, model).init(np.random.default_rng(0), config)
    others = {each: x for each, x in trees.tree_leaves(new) if not each.startswith(f"{path}.")}
    params = from_published(model, config, layout, tensors, extra_params=others)
    for word in path.split("."):
        params = params[int(word) if word.isdigit() else word]
    return params


def params_of_block(
    block: mvit.Block, layout: str, tensors: Mapping[str, Any], *paths: str, mode: str = "conv"
) -> Any:
    """Return the params of one block of MViT with an MLP ratio of 2, or those at paths only."""
    config = mvit.MViTConfig(mlp_ratio=2, mode=mode)
    initialiser = RandomInitialiser(np.random.default_rng(0), np.float64)
    new = mvit.layer_params(initialiser, block, config)
    others = {
        f"layers.0.{each}": x
        for each, x in trees.tree_leaves(new)
        if paths and not each.startswith(tuple(f"{path}." for path in paths)) and each not in paths
    }
    params = to_params(
        layout_of("mvit", config, layout),
        {"layers": [new]},
        prefixed("blocks.0.", tensors),
        extra_params=others,
    )
    return params["layers"][0]
