"""MViT as a whole: sizes and costs as published, logits, gradients."""

import math
from dataclasses import replace

import numpy as np
import pytest
from autograd import value_and_grad

import vtnp
from tests import readings
from tests.compare import assert_close, difference
from vtnp._xp import namespace
from vtnp.models import parts
from vtnp.models.mvit import CONFIGS, apply, init

B, TINY = CONFIGS["mvit-b"], CONFIGS["mvit-tiny"]
MAXIMA = replace(B, mode="max", size=None)
ODD = replace(TINY, frames=5, image=(10, 18), stem_stride=(1, 2, 2), stages=(1, 1), d=6)


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
        (CONFIGS["mvit-b-32x3"], 36_611_440),
        (CONFIGS["mvit-b-64x3"], 36_612_976),
        (CONFIGS["mvit-b-24"], 53_172_880),
        (replace(CONFIGS["mvit-b-24"], classes=600), 53_326_680),
        (MAXIMA, 36_513_232),
    ],
)
def test_published_models_have_their_number_of_parameters(config, published):
    assert parts.size(init(Shapes(), config)) == published


def test_the_small_model_has_about_as_many_as_printed():
    """26.1 million, the paper says, and not of how many heads."""
    assert parts.size(init(Shapes(), CONFIGS["mvit-s"])) == 26_038_032


def test_the_first_checkpoint_lacks_the_kernels_of_the_last_two_blocks():
    params = init(Shapes(), B)
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
        (CONFIGS["mvit-b-32x3"], 169.958),
        (CONFIGS["mvit-b-64x3"], 455.062),
        (CONFIGS["mvit-b-24"], 236.240),
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


def drawn(config, dtype=np.float64):
    rng = np.random.default_rng(0)
    shape = (2, config.frames, *config.image, config.channels)
    return init(rng, config, dtype=dtype), rng.standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "config", [TINY, ODD, replace(TINY, mode="max", size=None)], ids=["tiny", "odd", "max"]
)
def test_logits(config, dtype):
    params, video = drawn(config, dtype)
    logits = apply(params, video, config)
    assert logits.shape == (2, config.classes)
    assert logits.dtype == dtype
    within = 1e-5 if dtype == np.float32 else 1e-12
    assert_close(apply(params, video[1], config), logits[1], within=within)


def test_the_last_queries_of_the_grid_do_not_matter():
    """The class token is what is classified: pooled queries of the last block are in vain."""
    config = replace(TINY, stages=(1, 1))
    params, video = drawn(config)
    moved = params["layers"][1]["attention"]
    moved = {**moved, "kernel_q": moved["kernel_q"] + 1.0}
    layers = [params["layers"][0], {**params["layers"][1], "attention": moved}]
    same = apply({**params, "layers": layers}, video, config)
    assert_close(same, apply(params, video, config), within=1e-14)
    moved["kernel_k"] = moved["kernel_k"] + 1.0
    assert difference(apply({**params, "layers": layers}, video, config), same) > 1e-9


def test_positions_of_places_and_frames():
    """A row for each place and one for each frame: only their sum is seen."""
    config = ODD
    params, video = drawn(config)
    t, h, w = config.grid
    z = vtnp.spatio_temporal_embedding(
        video, **params["embedding"], stride=config.stem_stride, padding=config.stem_padding
    )
    assert z.shape[1:4] == (t, h, w)
    moved = {**params, "e_space": params["e_space"] + 1.0, "e_time": params["e_time"] - 1.0}
    assert_close(apply(moved, video, config), apply(params, video, config))


def test_a_video_of_another_size_is_refused():
    params, video = drawn(TINY)
    with pytest.raises(vtnp.ShapeError, match="separable-positions"):
        apply(params, video[:, :, :12], TINY)


def loss(params, video, label, config):
    weights = vtnp.softmax(apply(params, video, config))
    xp = namespace(weights)
    return -xp.mean(xp.log(xp.sum(weights * label, axis=-1)))


def test_every_param_has_a_gradient_and_a_step_along_it_helps():
    params, video = drawn(TINY)
    label = np.eye(TINY.classes)[[0, 3]]
    before, gradient = value_and_grad(loss)(params, video, label, TINY)
    for path, g in parts.leaves(gradient):
        # The offset of the keys' norm cancels in the softmax: its gradient is 0 but for rounding.
        assert np.any(np.abs(g) > 1e-14) or path.endswith("norm_k.beta"), path
    step = iter([0.02 * g for _, g in parts.leaves(gradient)])
    assert loss(parts.mapped(lambda x: x - next(step), params), video, label, TINY) < before


# The formulas are read on every library one by one; JAX and Dask would take long over a model.
@pytest.mark.parametrize("name", [name for name in readings.NAMES if name in {"strict", "torch"}])
def test_other_readings_agree(name):
    reading = readings.reading(name)
    params, video = drawn(ODD)
    there = apply(parts.mapped(reading.asarray, params), reading.asarray(video), ODD)
    assert_close(reading.to_numpy(there), apply(params, video, ODD))
