"""ViViT's four models: init, apply, and what holds of them."""

from dataclasses import replace

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import value_and_grad

import vtnp
from tests.support.compare import assert_close, difference
from tests.support.whole_models import (
    assert_every_param_has_a_gradient_and_a_step_along_it_helps,
    drawn,
    new,
    spread_of_change,
    videos,
)
from vtnp._array import trees
from vtnp.models import vivit as model

TINY = {
    "spatio-temporal": model.CONFIGS["vivit-tiny"],
    "factorised-encoder": model.CONFIGS["vivit-tiny-fe"],
    "factorised-self-attention": model.CONFIGS["vivit-tiny-fsa"],
    "factorised-dot-product": model.CONFIGS["vivit-tiny-fdp"],
}
each_model = pytest.mark.parametrize("config", TINY.values(), ids=TINY)


def test_tiny_configs_are_one_of_each_model():
    assert list(TINY) == list(model.MODELS)
    assert [config.model for config in TINY.values()] == list(model.MODELS)


# --- init -----------------------------------------------------------------------------------------


@each_model
def test_every_param_has_a_gradient_and_a_step_along_it_helps(config):
    before = assert_every_param_has_a_gradient_and_a_step_along_it_helps(model, config)
    assert abs(before - np.log(config.classes)) < 0.2, "a new model should not be sure of anything"


# --- apply ----------------------------------------------------------------------------------------


@each_model
def test_sampled_frames_are_all_that_is_seen(config):
    """A model of four of eight frames is one of a shorter video, and its gradient says so."""
    sampled = replace(config, sampled=4)
    params, video = drawn(model, sampled), videos(sampled)
    chosen = vtnp.vivit.uniform_frame_sampling(8, 4)
    shorter = replace(config, frames=4)
    assert_close(
        model.apply(params, video, sampled), model.apply(params, video[:, chosen], shorter)
    )
    _, of_video = value_and_grad(lambda x: anp.sum(model.apply(params, x, sampled) ** 2))(video)
    assert np.flatnonzero(np.any(of_video != 0.0, axis=(0, 2, 3, 4))).tolist() == chosen.tolist()


def image_config(config):
    """A model of one frame of tokens: ViT."""
    return replace(config, model="spatio-temporal", frames=config.patch[0])


def test_averaged_frames_are_the_mean_of_an_image_models_logits():
    config = replace(TINY["factorised-encoder"], time_layers=0)
    params, video = drawn(model, config), videos(config)
    frames = np.split(video, config.grid[0], axis=1)
    image = {**params, "encoder": params["encoder"]["space"]}
    each = [model.apply(image, frame, image_config(config)) for frame in frames]
    assert_close(model.apply(params, video, config), sum(each) / len(each))


def test_self_attention_without_updates_in_time_is_the_mean_of_an_image_models_logits():
    """And its order does not matter, exactly: what the paper says of its start."""
    config = TINY["factorised-self-attention"]
    params, video = drawn(model, config), videos(config)
    layers = [
        {
            **layer,
            "time": {**layer["time"], "attention": without_output(layer["time"]["attention"])},
        }
        for layer in params["encoder"]["layers"]
    ]
    without_time = {**params, "encoder": {**params["encoder"], "layers": layers}}
    logits = model.apply(without_time, video, config)
    reordered = replace(config, order="space-time")
    assert np.array_equal(model.apply(without_time, video, reordered), logits)

    t, h, w = config.grid
    positions = params["encoder"]["positions"].reshape(t, h * w, config.d)
    images = replace(image_config(config), class_token=False)
    each = []
    for frame, rows in zip(np.split(video, t, axis=1), positions, strict=True):
        alone = [
            {**layer["space"], "norm_2": layer["norm_2"], "feed_forward": layer["feed_forward"]}
            for layer in layers
        ]
        encoder = {"positions": rows, "layers": alone, "norm": params["encoder"]["norm"]}
        each.append(model.apply({**params, "encoder": encoder}, frame, images))
    assert_close(logits, sum(each) / len(each))


def without_output(attention):
    return {**attention, "W_c": 0.0 * attention["W_c"], "b_c": 0.0 * attention["b_c"]}


def test_model_4_and_model_1_share_their_params():
    """A checkpoint cannot tell them apart; the logits can."""
    config = TINY["factorised-dot-product"]
    params, video = drawn(model, config), videos(config)
    joint = replace(config, model="spatio-temporal", class_token=False)
    shapes = [
        {path: x.shape for path, x in trees.tree_leaves(drawn(model, c))} for c in (config, joint)
    ]
    assert shapes[0] == shapes[1]
    assert difference(model.apply(params, video, joint), model.apply(params, video, config)) > 1e-2


EFFECTS = {
    "2.1": (
        "factorised-self-attention",
        {"order": "space-time"},
        "factorised-self-attention-layer",
    ),
    "0.72": ("factorised-dot-product", {"first": "space"}, "factorised-dot-product-layer"),
    "0.00042": ("spatio-temporal", {"activation": "gelu"}, "sequence-encoder"),
}


@pytest.mark.parametrize(("effect", "of"), EFFECTS.items())
def test_choices_differ_by_what_the_page_says(effect, of):
    """Root mean square change of the logits over their spread."""
    name, options, id = of
    config = replace(TINY[name], image=(32, 32), patch=(2, 8, 8), d=48, d_f=192, layers=4)
    params, video = drawn(model, config), videos(config, batch=(8,))
    before = model.apply(params, video, config)
    after = model.apply(params, video, replace(config, **options))
    assert spread_of_change(before, after) == effect
    assert f" {effect} " in vtnp.formula(id).page


# --- Refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("changed", [{"frames": 10}, {"image": (16, 17)}, {"channels": 3}])
@each_model
def test_videos_of_other_sizes_are_refused(config, changed):
    """Tubelets drop what is left over: without a check 17 columns would pass for 16."""
    params = new(model, config)
    shape = {"frames": config.frames, "image": config.image, "channels": config.channels} | changed
    video = np.zeros((shape["frames"], *shape["image"], shape["channels"]))
    with pytest.raises(vtnp.ShapeError, match="vivit: argument video: expected"):
        model.apply(params, video, config)


@each_model
def test_params_of_a_longer_video_are_refused(config):
    longer = new(model, replace(config, frames=12))
    with pytest.raises(vtnp.FormulaError, match=r"positions|learned-positions"):
        model.apply(longer, videos(config), config)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"model": "joint"}, "model 'joint'"),
        ({"image": (16, 15)}, r"video \(8, 16, 15\) is not a multiple of the patch \(2, 4, 4\)"),
        ({"sampled": 5}, r"video \(5, 16, 16\) is not a multiple"),
        ({"heads": 5}, "width 24 is not a multiple of 5 heads"),
    ],
)
def test_impossible_configs_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        new(model, replace(TINY["spatio-temporal"], **wrong))


def test_odd_heads_cannot_share_out_time_and_space():
    config = replace(TINY["factorised-dot-product"], heads=3)
    with pytest.raises(
        vtnp.FormulaError,
        match=r"^factorised-dot-product-layer .*expected heads % 2 == 0, got heads = 3",
    ):
        model.apply(new(model, config), videos(config), config)


def test_the_default_config_is_the_papers_base_model():
    assert model.ViViTConfig() == model.CONFIGS["vivit-b"]
