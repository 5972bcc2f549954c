"""MViT as a whole: logits, gradients."""

from dataclasses import replace

import numpy as np
import pytest

import vtnp
from tests.support.compare import assert_close, difference
from tests.support.whole_models import (
    SMALL,
    assert_every_param_has_a_gradient_and_a_step_along_it_helps,
    drawn,
    videos,
)
from vtnp.models import mvit as model

B, TINY = model.CONFIGS["mvit-b"], model.CONFIGS["mvit-tiny"]
ODD = SMALL["mvit-odd"].config


def test_the_grid_is_pooled_as_the_width_grows():
    blocks = B.blocks
    assert [i for i, block in enumerate(blocks) if block.d_out != block.d] == [0, 2, 13]
    assert [i for i, block in enumerate(blocks) if block.pool_q.size is not None] == [1, 3, 14]
    assert {block.d // block.heads for block in blocks} == {96}
    assert all(block.pool_kv.size == (3, 3, 3) for block in blocks)
    assert blocks[-1].d_out == 768


def test_the_last_queries_of_the_grid_do_not_matter():
    """The class token is what is classified: the pooled queries of the last block are not used."""
    config = replace(TINY, stages=(1, 1))
    params, video = drawn(model, config), videos(config, (2,))
    moved = params["layers"][1]["attention"]
    moved = {**moved, "kernel_q": moved["kernel_q"] + 1.0}
    layers = [params["layers"][0], {**params["layers"][1], "attention": moved}]
    same = model.apply({**params, "layers": layers}, video, config)
    assert_close(same, model.apply(params, video, config), within=1e-14)
    moved["kernel_k"] = moved["kernel_k"] + 1.0
    assert difference(model.apply({**params, "layers": layers}, video, config), same) > 1e-9


def test_positions_in_space_and_time():
    """One row for each spatial position and one for each frame: only their sum matters."""
    config = ODD
    params, video = drawn(model, config), videos(config, (2,))
    t, h, w = config.grid
    z = vtnp.tokens.spatio_temporal_embedding(
        video, **params["embedding"], stride=config.stem_stride, padding=config.stem_padding
    )
    assert z.shape[1:4] == (t, h, w)
    moved = {**params, "e_space": params["e_space"] + 1.0, "e_time": params["e_time"] - 1.0}
    assert_close(model.apply(moved, video, config), model.apply(params, video, config))


def test_a_video_of_another_size_is_refused():
    params, video = drawn(model, TINY), videos(TINY, (2,))
    with pytest.raises(vtnp.ShapeError, match="mvit: argument video"):
        model.apply(params, video[:, :, :12], TINY)


def test_every_param_has_a_gradient_and_a_step_along_it_helps():
    """The offset of the keys' norm cancels."""
    assert_every_param_has_a_gradient_and_a_step_along_it_helps(
        model, TINY, cancels="norm_k.beta", least=1e-14
    )


def test_the_position_of_the_class_token_is_added_to_it():
    params, video = drawn(model, TINY), videos(TINY, (2,))
    change = np.linspace(-1.0, 1.0, TINY.d) ** 3
    moved = params["cls"] + change
    other = params | {"cls": moved, "e_cls": params["e_cls"] - change}
    logits = model.apply(params, video, TINY)
    assert_close(model.apply(other, video, TINY), logits, within=1e-12)
    assert difference(model.apply(params | {"cls": moved}, video, TINY), logits) > 1e-9


def test_each_kernel_comes_with_a_norm():
    pooled = 0
    for layer in model.init(np.random.default_rng(0), TINY)["layers"]:
        attention = layer["attention"]
        kernels = {name[-1] for name in attention if name.startswith("kernel_")}
        assert kernels == {name[-1] for name in attention if name.startswith("norm_")}
        pooled += len(kernels)
    assert pooled > 0
