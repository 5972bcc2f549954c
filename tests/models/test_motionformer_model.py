"""Motionformer as a whole: init, apply, positions of other grids."""

from dataclasses import replace

import numpy as np
import pytest

import vtnp
from tests.support.compare import assert_close, difference
from tests.support.peers import installed, needs
from tests.support.whole_models import (
    SMALL,
    assert_learns_which_way_a_bar_moves,
    drawn,
    new,
    spread_of_change,
    videos,
)
from vtnp.models import motionformer as model
from vtnp.motionformer import Prototypes

torch = installed("torch")

TINY = model.CONFIGS["motionformer-tiny"]
VARIANTS = {name: each.config for name, each in SMALL.items() if each.model is model}
each_variant = pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)


# --- init and apply -------------------------------------------------------------------------------


@each_variant
def test_both_stages_start_with_weights_of_their_own(config):
    layer = new(model, config)["layers"][0]
    assert not np.array_equal(layer["attention"]["W_q"], layer["trajectory"]["W_q"])


@each_variant
def test_a_new_model_learns(config):
    assert_learns_which_way_a_bar_moves(model, config, step=2)


def test_each_choice_matters():
    params, video = drawn(model, VARIANTS["motionformer-paper"]), videos(TINY)
    logits = [model.apply(params, video, config) for config in VARIANTS.values()]
    for i, one in enumerate(logits):
        assert all(difference(one, other) > 1e-3 for other in logits[:i])


def test_without_times_positions_tubelets_have_no_order():
    params, video = drawn(model, TINY), videos(TINY)
    order = [6, 7, 0, 1, 4, 5, 2, 3]
    logits = model.apply(params, video, TINY)
    assert difference(model.apply(params, video[:, order], TINY), logits) > 1e-4
    params["e_time"] = 0 * params["e_time"]
    assert_close(model.apply(params, video[:, order], TINY), model.apply(params, video, TINY))


@pytest.mark.parametrize(
    ("effect", "changed"),
    [("1.4", {"value_projection": True}), ("0.26", {"prototypes": Prototypes(16)})],
)
def test_choices_change_as_much_as_the_page_says(effect, changed):
    """Root mean square change of the logits over their spread between clips."""
    config = replace(TINY, image=(32, 32), patch=8, d=48, d_f=192, layers=4)
    params = drawn(model, replace(config, value_projection=True))
    video = videos(config, batch=(8,))
    before = model.apply(params, video, config)
    after = model.apply(params, video, replace(config, **changed))
    assert spread_of_change(before, after) == effect
    assert f"| {effect} |" in vtnp.formula("trajectory-self-attention").page


# --- Positions of another grid --------------------------------------------------------------------


def test_a_larger_grid_interpolates_the_table():
    larger = replace(TINY, image=(24, 28), table=TINY.grid[1:])
    params, video = drawn(model, larger), videos(larger)
    assert params["e_space"].shape == (16, TINY.d)
    down, across = model.bicubic(4, 6), model.bicubic(4, 7)
    table = np.einsum("ik,jl,kld->ijd", down, across, params["e_space"].reshape(4, 4, -1))
    own = replace(larger, table=None)
    expected = model.apply({**params, "e_space": table.reshape(42, -1)}, video, own)
    assert_close(model.apply(params, video, larger), expected)


@needs(torch, "vtnp[peers]")
@pytest.mark.parametrize(("n", "m"), [(14, 21), (4, 7), (5, 2), (3, 3)])
def test_bicubic_is_torchs(n, m):
    x = np.random.default_rng(0).standard_normal((n, n))
    interpolated = torch.nn.functional.interpolate(
        torch.from_numpy(x)[None, None], size=(m, m), mode="bicubic", align_corners=False
    )
    matrix = model.bicubic(n, m)
    assert_close(matrix @ x @ matrix.T, interpolated[0, 0].numpy())
    assert_close(matrix.sum(axis=1), np.ones(m))


def test_bicubic_at_its_own_positions_is_the_identity():
    assert_close(model.bicubic(5, 5), np.eye(5), within=0)


# --- What is refused ------------------------------------------------------------------------------


def test_wrong_sizes_are_refused():
    params = new(model, TINY)
    with pytest.raises(vtnp.ShapeError, match="motionformer: argument video"):
        model.apply(params, videos(replace(TINY, frames=6)), TINY)
    with pytest.raises(vtnp.ShapeError, match="motionformer: argument video"):
        model.apply(params, videos(replace(TINY, image=(16, 20))), TINY)
    with pytest.raises(vtnp.ShapeError, match="motionformer: argument video"):
        model.apply(params, videos(TINY)[:, :7], TINY)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"image": (16, 15)}, r"image \(16, 15\) is not a multiple of the patch 4"),
        ({"frames": 7}, "7 frames are not a multiple of the tubelet 2"),
        ({"heads": 5}, "width 24 is not a multiple of 5 heads"),
    ],
)
def test_impossible_configs_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        new(model, replace(TINY, **wrong))
