"""Clips that have been through H.264, with the motion that its encoder has found.

Every clip is encoded, decoded again, and gets channels behind its own: for each frame of its
sub-clip the motion from each token to there, (x, y) in token cells, the same in all of the token's
pixels. So a clip with its motion is a clip, and whatever trains on clips trains on it.
"""

import dataclasses
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from tiny.task import Clips, Task, Video

import vtnp.deformable as formulas
from vtnp._array.xp import namespace
from vtnp.models import deformable
from vtnp.tokens import patch_tokens
from vtnp.video import encoded, token_motion

PATCH = 4
# Each pixel is this many on a side when it is encoded: vectors are those of blocks of 8 pixels, and
# a patch is to be one.
_ENLARGED = 2


def with_motion(task: Task, clips: int, *, still: bool = False) -> Task:
    """Return the task with all its clips encoded, decoded, and given their motion.

    clips: how many sub-clips a clip is cut into. still: give 0 for every motion.
    """
    low, high = (float(f(task.held_out[0])) for f in (np.min, np.max))

    def through(drawn: Clips) -> Clips:
        video, labels = drawn
        bytes_ = np.rint(255 * np.clip((video - low) / (high - low), 0, 1)).astype(np.uint8)
        decoded, motion = _coded(bytes_, clips)
        channels = [low + (high - low) / 255 * decoded, 0 * motion if still else motion]
        return np.concatenate(channels, axis=-1), labels

    def draw(rng: np.random.Generator, n: int) -> Clips:
        return through(task.draw(rng, n))

    name = f"{task.name}, through H.264"
    return dataclasses.replace(task, name=name, draw=draw, held_out=through(task.held_out))


def _coded(video: NDArray[np.uint8], clips: int) -> tuple[Video, Video]:
    """Return clips as they come out of H.264, and their motion as further channels."""
    batch, frames, height, width, channels = video.shape
    large = video.repeat(_ENLARGED, axis=2).repeat(_ENLARGED, axis=3)
    coded = encoded(large)
    pixels = (batch, frames, height, _ENLARGED, width, _ENLARGED, channels)
    small = coded.frames.reshape(pixels).mean(axis=(3, 5))
    grid = height // PATCH, width // PATCH
    motion = token_motion(coded, range(frames), grid, clips=clips).motion
    images = motion.reshape(batch, frames, *grid, -1)
    return small, images.repeat(PATCH, axis=2).repeat(PATCH, axis=3)


def split(clips: Any, own: int) -> tuple[Any, Any]:
    """Return clips without their motion, so many channels, and the motion, `*b t s u 2`."""
    video, images = clips[..., :own], clips[..., own:]
    tokens = patch_tokens(images, size=(1, PATCH, PATCH))
    channels = images.shape[-1]
    motion = tokens[..., :channels]  # of the upper left pixel; the others have the same
    return video, namespace(motion).reshape(motion, (*motion.shape[:-1], channels // 2, 2))


def apply(params: Any, clips: Any, config: deformable.DeformableConfig) -> Any:
    """Return the logits of clips with their motion."""
    video, motion = split(clips, config.channels)
    return deformable.apply(params, video, config, motion)


def of_samples(
    params: Any, clip: NDArray[Any], config: deformable.DeformableConfig
) -> NDArray[Any]:
    """Return the share of each patch in what all tokens sample in the last layer, `t h w`.

    What is missing from a sum of 1 has been sampled outside.
    """
    with patch.object(
        formulas, "weighted_sum_of_samples", wraps=formulas.weighted_sum_of_samples
    ) as watched:
        apply(params, clip, config)
    (v, positions, alpha), options = watched.call_args
    u, s = v.shape[-3:-1]
    # Where each patch's value is its own name, what is read is the weight of each patch.
    names = np.eye(u * s, dtype=v.dtype).reshape(u, s, u * s)
    names = np.broadcast_to(names, (*v.shape[:-3], *names.shape))
    shares = formulas.weighted_sum_of_samples(names, positions, alpha, **options)
    return shares.mean(axis=(1, 2, 3)).reshape(config.grid) / config.clips
