"""Clips that the tiny trainer encodes to H.264: their motion is that of the digits."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[2] / "examples"))

from tiny import coded, digits

import vtnp
from vtnp.models import deformable


def few_digits():
    task = digits.moving_digits()
    return dataclasses.replace(task, held_out=tuple(x[:16] for x in task.held_out))


@pytest.fixture(scope="module")
def plain():
    return few_digits()


@pytest.fixture(scope="module", params=[1, 2])
def clips(request):
    return request.param


@pytest.fixture(scope="module")
def moving(plain, clips):
    return coded.with_motion(plain, clips)


def test_clips_come_back_with_their_motion_behind_them(plain, moving, clips):
    (sent, labels), (got, same) = plain.held_out, moving.held_out
    assert np.array_equal(labels, same)
    video, motion = coded.split(got, 1)
    assert motion.shape == (16, 8, 16, 8 // clips, 2)
    assert np.abs(video - sent).mean() < 0.05 * sent.std()
    # Every pixel of a token has the token's motion.
    tokens = got[..., 1:].reshape(16, 8, 4, 4, 4, 4, -1)
    assert np.array_equal(np.ptp(tokens, axis=(3, 5)), np.zeros_like(tokens[:, :, :, 0, :, 0]))


def test_motion_leads_back_along_the_flight(plain, moving):
    """The mean motion of the bright tokens, one frame back, is against the label's direction."""
    velocities = np.array([(x, y) for y, x in digits.DIRECTIONS.values()], float)
    video, motion = coded.split(moving.held_out[0], 1)
    bright = video.reshape(16, 8, 4, 4, 4, 4).mean(axis=(3, 5)).reshape(16, 8, 16)
    bright = np.clip(bright - bright.min(), 0, None)[:, 1:4, :, None]
    back = np.stack([motion[:, t, :, t - 1] for t in (1, 2, 3)], axis=1)
    flown = -4 * (back * bright).sum(axis=(1, 2)) / bright.sum(axis=(1, 2))
    straight = velocities / np.linalg.norm(velocities, axis=1, keepdims=True)
    assert np.array_equal((flown @ straight.T).argmax(axis=1), plain.held_out[1])


def test_frames_that_weights_by_motion_prefer_tell_the_direction(plain, moving):
    """Motion to the right makes a token that prefers the right read late frames, left early ones.

    This is what attention can tell a flight by: the mean time of what is read, e_time's part in
    the values, by heads that prefer each of the four sides.
    """
    velocities = np.array([(x, y) for y, x in digits.DIRECTIONS.values()], float)
    _, motion = coded.split(moving.held_out[0], 1)
    q = np.zeros((*motion.shape[:3], 2))
    when = np.arange(motion.shape[3])

    def lateness(side):
        logits = vtnp.deformable.deformable_logits(q, motion, np.array(side, float)[:, None])
        return (vtnp.deformable.deformable_weights(logits)[..., 0] @ when).mean(axis=(1, 2))

    flown = np.stack([
        lateness((1, 0)) - lateness((-1, 0)), lateness((0, 1)) - lateness((0, -1))
    ], axis=-1)  # fmt: skip
    straight = velocities / np.linalg.norm(velocities, axis=1, keepdims=True)
    assert np.array_equal((flown @ straight.T).argmax(axis=1), plain.held_out[1])


def test_the_same_generator_draws_the_same_clips(moving):
    (one, labels), (other, same) = (moving.draw(np.random.default_rng(3), 4) for _ in range(2))
    assert np.array_equal(one, other)
    assert np.array_equal(labels, same)


def test_still_clips_have_no_motion(plain, moving, clips):
    still = coded.with_motion(plain, clips, still=True).held_out[0]
    assert not still[..., 1:].any()
    assert np.array_equal(still[..., :1], moving.held_out[0][..., :1])


def test_samples_that_prefer_nothing_are_shared(moving, clips):
    """All samples of a token at its own place, of equal weight: every patch has the same share."""
    config = deformable.DeformableConfig(
        frames=8, image=(16, 16), patch=4, channels=1, d=12, heads=2, d_f=8, layers=2, points=3,
        clips=clips, classes=8,
    )  # fmt: skip
    params = deformable.init(np.random.default_rng(0), config)
    for layer in params["layers"]:
        layer["attention"]["W_delta"] *= 0.0
        layer["attention"]["b_delta"] *= 0.0
    shares = coded.of_samples(params, moving.held_out[0][0], config)
    assert np.allclose(shares, 1 / 128, rtol=0, atol=1e-12)
    logits = coded.apply(params, moving.held_out[0], config)
    assert logits.shape == (16, 8)
