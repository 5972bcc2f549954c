"""Clips encoded to H.264 and decoded again, with the motion that the encoder has found.

A clip gets further channels for its motion: for each frame of its sub-clip the motion from each
token to that frame, (x, y) in token cells, the same in all pixels of the token. So a clip with its
motion is still a clip, and can be trained on like any other.
"""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tiny.attention import last_call
from tiny.task import Clips, Task, Video

import vtnp
from vtnp._array.xp import namespace
from vtnp.models import deformable
from vtnp.tokens import patch_tokens
from vtnp.video import encoded, token_motion

PATCH = 4
# Clips are enlarged before they are encoded: motion vectors are of blocks of 8 x 8 pixels, and each
# patch of 4 x 4 should have its own.
_ENLARGED = 2


def with_motion(task: Task, clips: int, *, still: bool = False) -> Task:
    """Return the task with the motion of all its clips, which are encoded and decoded.

    clips: the number of sub-clips that a clip is divided into. still: whether all motion is set to
    0.
    """
    low, high = (float(f(task.held_out[0])) for f in (np.min, np.max))

    def coded(drawn: Clips) -> Clips:
        video, labels = drawn
        pixels = np.rint(255 * np.clip((video - low) / (high - low), 0, 1)).astype(np.uint8)
        decoded, motion = _decoded_with_motion(pixels, clips)
        channels = [low + (high - low) / 255 * decoded, 0 * motion if still else motion]
        return np.concatenate(channels, axis=-1), labels

    def draw(rng: np.random.Generator, n: int) -> Clips:
        return coded(task.draw(rng, n))

    name = f"{task.name}, through H.264"
    return dataclasses.replace(task, name=name, draw=draw, held_out=coded(task.held_out))


def _decoded_with_motion(video: NDArray[np.uint8], clips: int) -> tuple[Video, Video]:
    """Return clips encoded to H.264 and decoded again, and their motion as further channels."""
    batch, frames, height, width, channels = video.shape
    coded = encoded(video.repeat(_ENLARGED, axis=2).repeat(_ENLARGED, axis=3))
    enlarged_pixels = (batch, frames, height, _ENLARGED, width, _ENLARGED, channels)
    decoded = coded.frames.reshape(enlarged_pixels).mean(axis=(3, 5))
    grid = height // PATCH, width // PATCH
    motion = token_motion(coded, range(frames), grid, clips=clips).motion
    images = motion.reshape(batch, frames, *grid, -1)
    return decoded, images.repeat(PATCH, axis=2).repeat(PATCH, axis=3)


def split(clips: Any, channels: int) -> tuple[Any, Any]:
    """Split clips into video, of that many channels, and motion, `*b t s u 2`."""
    video, images = clips[..., :channels], clips[..., channels:]
    tokens = patch_tokens(images, size=(1, PATCH, PATCH))
    motion = tokens[..., : images.shape[-1]]  # of the upper left pixel; the others have the same
    return video, namespace(motion).reshape(motion, (*motion.shape[:-1], -1, 2))


def apply(params: Any, clips: Any, config: deformable.DeformableConfig) -> Any:
    """Return the logits of clips with their motion."""
    video, motion = split(clips, config.channels)
    return deformable.apply(params, video, config, motion)


def of_samples(
    params: Any, clip: NDArray[Any], config: deformable.DeformableConfig
) -> NDArray[Any]:
    """Return the share of each patch in the samples of all tokens in the last layer, `t h w`.

    What is missing from a sum of 1 is sampled outside of the frames.
    """
    arguments = last_call("weighted-sum-of-samples", apply, params, clip, config).arguments
    v = arguments["v"]
    u, s = v.shape[-3:-1]
    # Where each patch's value is a unit vector of its own, the output is the weight of each patch.
    units = np.eye(u * s, dtype=v.dtype).reshape(u, s, u * s)
    values = np.broadcast_to(units, (*v.shape[:-3], *units.shape))
    shares = vtnp.deformable.weighted_sum_of_samples(**{**arguments, "v": values})
    return shares.mean(axis=(1, 2, 3)).reshape(config.grid) / config.clips
