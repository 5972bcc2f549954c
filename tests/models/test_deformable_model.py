"""The Deformable Video Transformer as a model: sizes, init, motion, learning."""

from dataclasses import replace

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import value_and_grad

import vtnp
from tests.support.compare import assert_close
from vtnp._array import trees
from vtnp.models import deformable as model
from vtnp.models import parts

TINY = model.CONFIGS["deformable-tiny"]
_, *GRID = TINY.grid


def inputs(seed=1, batch=(2,), config=TINY):
    rng = np.random.default_rng(seed)
    video = rng.standard_normal((*batch, config.frames, *config.image, config.channels))
    t, h, w = config.grid
    shape = (*batch, t, h * w, t // config.clips, 2)
    return video, rng.standard_normal(shape)


def drawn(config=TINY, seed=0):
    """Params none of which is at its initial value."""
    rng = np.random.default_rng(seed)
    params = model.init(rng, config)
    return trees.tree_map(lambda x: x + 0.1 * rng.standard_normal(x.shape), params)


def test_the_number_of_parameters_is_that_of_its_matrices():
    """There is none published: counted by hand, for layers of ViT-B."""
    config = model.CONFIGS["deformable"]
    d, d_f, samples = config.d, config.d_f, config.heads * config.points
    layer = 3 * (d * d + d) + 3 * samples * (d + 1) + 3 * d + 4 * d + 2 * d * d_f + d_f + d
    rest = 16 * 16 * 3 * d + d + (196 + 16) * d + 2 * d + 400 * d + 400
    none, one = (
        parts.size(model.init(np.random.default_rng(0), replace(config, layers=n), dtype="f2"))
        for n in (0, 1)
    )
    assert (none, one - none) == (rest, layer)


def test_motion_left_out_is_no_motion():
    video, motion = inputs()
    still = model.apply(drawn(), video, TINY, np.zeros_like(motion))
    assert np.array_equal(model.apply(drawn(), video, TINY), still)
    assert np.abs(model.apply(drawn(), video, TINY, motion) - still).max() > 1e-3


def test_a_batch_is_its_clips():
    video, motion = inputs(batch=(3,))
    params = drawn()
    whole = model.apply(params, video, TINY, motion)
    assert whole.shape == (3, TINY.classes)
    for i in range(3):
        assert_close(model.apply(params, video[i], TINY, motion[i]), whole[i])


def test_sub_clips_meet_only_at_the_end(monkeypatch):
    """The mean feature is a sum of what the sub-clips give: mixed differences vanish."""
    monkeypatch.setattr(parts, "logits", lambda feature, *_: feature)
    params, half = drawn(), TINY.frames // TINY.clips
    (one, motion), (other, _) = inputs(seed=1), inputs(seed=2)

    def feature(first, second):
        video = np.concatenate([first[:, :half], second[:, half:]], axis=1)
        return model.apply(params, video, TINY, motion)

    change = feature(one, one) - feature(one, other)
    assert_close(feature(other, one) - feature(other, other), change)
    assert np.abs(change).max() > 1e-3


def test_at_first_samples_follow_motion(monkeypatch):
    """With queries of 0, the first sample of every head is where the motion leads to."""
    params = model.init(np.random.default_rng(3), TINY)
    seen = []
    original = vtnp.deformable.weighted_sum_of_samples
    monkeypatch.setattr(
        "vtnp.deformable.weighted_sum_of_samples",
        lambda v, positions, alpha, **options: (
            seen.append((positions, alpha)) or original(v, positions, alpha, **options)
        ),
    )
    for layer in params["layers"]:
        layer["attention"]["W_q"] *= 0.0
    video, motion = inputs()
    model.apply(params, video, TINY, motion)
    u = TINY.frames // TINY.clips
    cut = motion.reshape(2, TINY.clips, 1, u, 16, u, 2)
    expected = vtnp.deformable.reference_points(*GRID, like=motion)[:, None, :] + cut
    for positions, alpha in seen:
        assert_close(positions[..., 0, :], np.broadcast_to(expected, positions[..., 0, :].shape))
        assert_close(np.hypot(*np.moveaxis(positions[..., 1:, :] - positions[..., :1, :], -1, 0)),
                     np.ones_like(positions[..., 1:, 0]))  # fmt: skip
        assert_close(alpha, np.full_like(alpha, 1 / (u * TINY.points)))


def test_motion_of_another_size_is_refused():
    video, motion = inputs()
    with pytest.raises(vtnp.ShapeError, match="motion"):
        model.apply(drawn(), video, TINY, motion[..., :1])
    with pytest.raises(vtnp.FormulaError, match="clips"):
        model.apply(drawn(), video, TINY, motion[..., :2, :])


@pytest.mark.parametrize("wrong", [{"image": (18, 16)}, {"clips": 3}, {"heads": 5}])
def test_sizes_that_do_not_fit(wrong):
    with pytest.raises(ValueError, match="not a multiple"):
        replace(TINY, **wrong)


def test_float32_stays_float32():
    params = model.init(np.random.default_rng(0), TINY, dtype=np.float32)
    assert {x.dtype for _, x in trees.tree_leaves(params)} == {np.dtype("f4")}
    video, motion = (x.astype("f4") for x in inputs())
    assert model.apply(params, video, TINY, motion).dtype == np.float32


def test_every_weight_has_a_gradient_and_a_step_lowers_the_loss():
    video, motion = inputs(batch=(4,))
    target = np.eye(4)

    def loss(params):
        y = model.apply(params, video, TINY, motion)
        return -anp.sum(target * (y - anp.log(anp.sum(anp.exp(y), axis=-1, keepdims=True))))

    params = drawn()
    before, gradient = value_and_grad(loss)(params)
    for name, g in trees.tree_leaves(gradient):
        assert np.abs(g).max() > 0, name
    gradients = dict(trees.tree_leaves(gradient))
    names = iter(gradients)
    stepped = trees.tree_map(lambda x: x - 1e-3 * gradients[next(names)], params)
    assert loss(stepped) < before


def test_offsets_take_the_motion_as_it_is_at_first():
    """What the embedding of motion puts into the queries, the offsets read out again, unchanged."""
    config = model.CONFIGS["deformable-tiny"]
    layer = model.init(np.random.default_rng(0), config)["layers"][0]
    E, W_delta = layer["motion"]["E"], layer["attention"]["W_delta"]
    passed_on = np.einsum("xd,hdpy->hpxy", E, W_delta)
    assert_close(passed_on, np.broadcast_to(np.eye(2), passed_on.shape))
    np.testing.assert_allclose(np.linalg.norm(E, axis=-1), 4.0)


def test_at_first_a_point_is_the_place_itself_and_the_others_lie_around_it():
    config = replace(model.CONFIGS["deformable-tiny"], points=5)
    layer = model.init(np.random.default_rng(0), config)["layers"][0]
    around = [[0, 0], [1, 0], [0, 1], [-1, 0], [0, -1]]
    for of_head in layer["attention"]["b_delta"]:
        np.testing.assert_allclose(of_head, around, atol=1e-15)
