"""TimeSformer as a whole: init, apply, and what holds of them."""

from dataclasses import replace

import numpy as np
import pytest

import vtnp
from tests.support.compare import assert_close, difference
from tests.support.whole_models import (
    assert_learns_which_way_a_bar_moves,
    drawn,
    new,
    spread_of_change,
    videos,
)
from vtnp.models import timesformer as model

TINY = model.CONFIGS["timesformer-tiny"]
SCHEMES = list(model.SCHEMES)


# --- TimeSformer: init ----------------------------------------------------------------------------


def test_params_of_a_new_model_share_no_memory():
    one = new(model, TINY)
    assert not np.shares_memory(one["layers"][0]["norm_2"]["gamma"], one["norm"]["gamma"])


def test_init_starts_without_time():
    """To a new model a clip in which nothing moves is one image, through all layers."""
    params = new(model, TINY)
    still = np.repeat(videos(TINY)[:, :1], TINY.frames, axis=1)
    one = {**params, "e_time": params["e_time"][:1]}
    assert_close(model.apply(params, still, TINY), model.apply(one, still[:, :1], TINY))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_new_model_learns(scheme):
    assert_learns_which_way_a_bar_moves(model, replace(TINY, scheme=scheme), step=4)


# --- TimeSformer: apply ---------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", [scheme for scheme in SCHEMES if scheme != "space"])
def test_a_clip_may_have_fewer_frames_than_the_config(scheme):
    """As many as the params have positions in time."""
    config = replace(TINY, scheme=scheme)
    params, video = drawn(model, config), videos(config)[:, :2]
    params["e_time"] = params["e_time"][:2]
    expected = model.apply(params, video, replace(config, frames=2))
    assert np.array_equal(model.apply(params, video, config), expected)


def test_divided_clip_repeated_is_the_same_clip():
    """Without positions in time: no class token in time attention, and a mean over frames."""
    config, video = replace(TINY, frames=4), videos(TINY)
    params = drawn(model, config)
    params["e_time"] = 0 * params["e_time"]
    twice = {**params, "e_time": np.concatenate([params["e_time"]] * 2)}
    again = np.concatenate([video, video], axis=1)
    logits = model.apply(params, video, config)
    assert_close(model.apply(twice, again, config), logits, within=1e-11)
    paper = replace(config, options={"cls_in_time": "key"})
    assert difference(model.apply(twice, again, paper), model.apply(params, video, paper)) > 1e-4


def test_space_averages_frames_before_the_last_norm():
    """logits = head(LN(mean_t c_t)) with a class token c_t of its own for each frame."""
    config = replace(TINY, scheme="space")
    params, video = drawn(model, config), videos(config, batch=())
    plain = {**params, "norm": {"gamma": np.ones(config.d), "beta": np.zeros(config.d)}}
    plain["head"] = {"W": np.eye(config.d), "b": np.zeros(config.d)}
    patches = vtnp.tokens.patch_tokens(video, size=(1, config.patch, config.patch))
    features = []
    for patch in patches:
        embedding, e_pos = params["embedding"], params["e_space"][None]
        z = vtnp.timesformer.space_time_embedding(patch[None], e_pos=e_pos, **embedding)
        cls = params["cls"] + params["e_cls"]
        for layer in params["layers"]:
            z, cls = vtnp.timesformer.space_layer(z, cls, layer)
        features.append(cls)
    mean = sum(features) / len(features)
    expected = vtnp.encoder.layer_norm(mean, **plain["norm"], eps=config.eps)
    assert_close(model.apply(plain, video, config), expected)
    after = sum(vtnp.encoder.layer_norm(c, **plain["norm"], eps=config.eps) for c in features)
    assert difference(after / len(features), expected) > 1e-3


def test_options_reach_every_layer():
    params, video = drawn(model, TINY), videos(TINY)
    other = replace(TINY, options={"order": "space-time"})
    assert difference(model.apply(params, video, other), model.apply(params, video, TINY)) > 1e-3


EFFECTS = {
    "0.4": {"cls_in_time": "key"},
    "4.1": {"cls_in_time": "all", "cls_in_space": "all"},
    "2.4": {"order": "space-time"},
    "2.8": {},
}


@pytest.mark.parametrize(("effect", "options"), EFFECTS.items())
def test_paper_and_code_differ_by_what_the_page_says(effect, options):
    """Root mean square change of the logits over their spread; without options, without fc."""
    config = replace(TINY, frames=8, image=(32, 32), patch=8, d=48, d_f=192, layers=4)
    params, video = drawn(model, config), videos(config, batch=(8,))
    before = model.apply(params, video, config)
    if not options:
        bare = [
            {**layer, "time": {k: v for k, v in layer["time"].items() if k != "fc"}}
            for layer in params["layers"]
        ]
        params = {**params, "layers": bare}
    after = model.apply(params, video, replace(config, options=options))
    assert spread_of_change(before, after) == effect
    assert f"| {effect} |" in vtnp.formula("divided-layer").page


def test_wrong_sizes_are_refused():
    params = new(model, TINY)
    longer = replace(TINY, frames=5)
    with pytest.raises(vtnp.ShapeError, match=r"space-time-embedding .* e_pos"):
        model.apply(params, videos(longer), TINY)
    wider = replace(TINY, image=(16, 20))
    with pytest.raises(vtnp.ShapeError, match="timesformer: argument video"):
        model.apply(params, videos(wider), TINY)
    with pytest.raises(vtnp.ShapeError, match="timesformer: argument video"):
        model.apply(params, videos(TINY)[..., :15, :], TINY)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"scheme": "cubic"}, "scheme 'cubic'"),
        ({"image": (16, 15)}, r"image \(16, 15\) is not a multiple of the patch 4"),
        ({"image": (16, 0), "patch": 0}, r"image \(16, 0\) is not a multiple of the patch 0"),
        ({"heads": 5}, "width 24 is not a multiple of 5 heads"),
        ({"heads": 0}, "width 24 is not a multiple of 0 heads"),
    ],
)
def test_impossible_configs_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        new(model, replace(TINY, **wrong))
