"""MViT as a whole: sizes and costs as published, logits, gradients."""

import math
from dataclasses import replace

import numpy as np
import pytest

import vtnp
from tests.compare import assert_close, difference
from tests.whole_models import (
    SMALL,
    assert_every_param_has_a_gradient_and_a_step_along_it_helps,
    drawn,
    videos,
)
from vtnp.models import mvit as model
from vtnp.models import parts

B, TINY = model.CONFIGS["mvit-b"], model.CONFIGS["mvit-tiny"]
MAXIMA = replace(B, mode="max", size=None)
ODD = SMALL["mvit-odd"].config


class Shapes:
    """In the place of a generator: arrays of one zero, as large as they are asked to be."""

    def uniform(self, low, high, shape):
        return np.broadcast_to(np.float64(0.0), shape)

    def standard_normal(self, shape):
        return np.broadcast_to(np.float64(0.0), shape)


@pytest.mark.parametrize(
    ("config", "published"),
    [
        (B, 36_610_672),
        (replace(B, classes=600), 36_764_472),
        (model.CONFIGS["mvit-b-32x3"], 36_611_440),
        (model.CONFIGS["mvit-b-64x3"], 36_612_976),
        (model.CONFIGS["mvit-b-24"], 53_172_880),
        (replace(model.CONFIGS["mvit-b-24"], classes=600), 53_326_680),
        (MAXIMA, 36_513_232),
    ],
)
def test_published_models_have_their_number_of_parameters(config, published):
    assert parts.size(model.init(Shapes(), config)) == published


def test_the_small_model_has_about_as_many_as_printed():
    """26.1 million, the paper says, and not of how many heads."""
    assert parts.size(model.init(Shapes(), model.CONFIGS["mvit-s"])) == 26_038_032


def test_the_first_checkpoint_lacks_the_kernels_of_the_last_two_blocks():
    params = model.init(Shapes(), B)
    lacking = [params["layers"][i]["attention"][f"{what}_{c}"]
               for i in (14, 15) for what in ("kernel", "norm") for c in "kv"]  # fmt: skip
    assert parts.size(params) - parts.size(lacking) == 36_599_536


def multiply_adds(config):
    """Add up what the pages say of each step."""
    cost = vtnp.formula("multiscale-block").cost["multiply_adds"]
    total = math.prod(config.grid) * math.prod(config.stem) * config.channels * config.d
    grid = config.grid
    for block in config.blocks:
        shrunk = read = grid
        taps = {"q": 0, "kv": 0}
        if block.size_q is not None:
            shrunk = vtnp.pooled_grid(grid, size=block.size_q, stride=block.stride_q)
            taps["q"] = math.prod(block.size_q) * (config.mode == "conv")
        if block.size_kv is not None:
            read = vtnp.pooled_grid(grid, size=block.size_kv, stride=block.stride_kv)
            taps["kv"] = math.prod(block.size_kv) * (config.mode == "conv")
        d_h = block.d // block.heads
        total += eval(
            cost,
            {"cls": True, "heads": block.heads, "d": block.d, "d_h": d_h, "d_v": d_h}
            | {"n": 1 + math.prod(grid), "n_q": 1 + math.prod(shrunk), "n_k": 1 + math.prod(read)}
            | {"taps_q": taps["q"], "taps_kv": taps["kv"]}
            | {"d_f": config.widening * block.d, "d_out": block.d_out},
        )
        grid = shrunk
    return total + block.d_out * config.classes


@pytest.mark.parametrize(
    ("config", "giga"),
    [
        (B, 70.599),
        (model.CONFIGS["mvit-b-32x3"], 169.958),
        (model.CONFIGS["mvit-b-64x3"], 455.062),
        (model.CONFIGS["mvit-b-24"], 236.240),
        (MAXIMA, 70.325),
    ],
)
def test_published_models_have_their_cost(config, giga):
    """In the papers these multiply-adds are called FLOPs: 70.5, 170, 455 and 236 thousand million;
    torchvision counts 70.599.
    """
    assert round(multiply_adds(config) / 1e9, 3) == giga


def test_the_grid_shrinks_as_the_width_grows():
    blocks = B.blocks
    assert [i for i, block in enumerate(blocks) if block.d_out != block.d] == [0, 2, 13]
    assert [i for i, block in enumerate(blocks) if block.size_q is not None] == [1, 3, 14]
    assert {block.d // block.heads for block in blocks} == {96}
    assert all(block.size_kv == (3, 3, 3) for block in blocks)
    assert blocks[-1].d_out == 768


def test_the_last_queries_of_the_grid_do_not_matter():
    """The class token is what is classified: pooled queries of the last block are in vain."""
    config = replace(TINY, stages=(1, 1))
    params, video = drawn(model, config), videos(config, (2,))
    moved = params["layers"][1]["attention"]
    moved = {**moved, "kernel_q": moved["kernel_q"] + 1.0}
    layers = [params["layers"][0], {**params["layers"][1], "attention": moved}]
    same = model.apply({**params, "layers": layers}, video, config)
    assert_close(same, model.apply(params, video, config), within=1e-14)
    moved["kernel_k"] = moved["kernel_k"] + 1.0
    assert difference(model.apply({**params, "layers": layers}, video, config), same) > 1e-9


def test_positions_of_places_and_frames():
    """A row for each place and one for each frame: only their sum is seen."""
    config = ODD
    params, video = drawn(model, config), videos(config, (2,))
    t, h, w = config.grid
    z = vtnp.spatio_temporal_embedding(
        video, **params["embedding"], stride=config.stem_stride, padding=config.stem_padding
    )
    assert z.shape[1:4] == (t, h, w)
    moved = {**params, "e_space": params["e_space"] + 1.0, "e_time": params["e_time"] - 1.0}
    assert_close(model.apply(moved, video, config), model.apply(params, video, config))


def test_a_video_of_another_size_is_refused():
    params, video = drawn(model, TINY), videos(TINY, (2,))
    with pytest.raises(vtnp.ShapeError, match="separable-positions"):
        model.apply(params, video[:, :, :12], TINY)


def test_every_param_has_a_gradient_and_a_step_along_it_helps():
    """The offset of the keys' norm cancels."""
    assert_every_param_has_a_gradient_and_a_step_along_it_helps(
        model, TINY, cancels="norm_k.beta", least=1e-14
    )
