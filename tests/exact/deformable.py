"""The pages of spec/deformable, with 50 digits."""

import numpy as np

from tests.exact.encoder import feed_forward_sublayer, layer_norm, softmax
from tests.exact.inputs import never, sizes
from tests.exact.numbers import exact
from tests.exact.tokens import bilinear_sample

for _id in (
    "weighted-sum-of-samples",
    "deformable-attention",
    "deformable-self-attention",
    "deformable-layer",
):
    sizes(_id, h=1, w=3, s=3)
for _id in ("deformable-self-attention", "deformable-layer"):
    sizes(_id, t=None, u=None)  # their cases have sub-clips

# Their sums have been rounded; see the pages, and test_sums.py.
for _id in ("deformable-attention", "deformable-self-attention"):
    never(_id, "far apart")


def _linear(x, W, bias):
    return x @ W if bias is None else x @ W + bias


def motion_embedding(motion, E, *, bias=None):
    return _linear(motion, E, bias)


def deformable_logits(q, m, W_alpha, *, bias=None):
    return _linear(q[..., None, :] + m, W_alpha, bias)


def deformable_weights(logits):
    *front, u, points = logits.shape
    return softmax(logits.reshape(*front, u * points)).reshape(logits.shape)


def sampling_offsets(q, m, W_delta, *, bias=None):
    query_and_motion = q[..., None, :] + m
    x, y = (query_and_motion @ W_delta[:, :, axis] for axis in (0, 1))
    offsets = np.stack([x, y], axis=-1)
    return offsets if bias is None else offsets + bias


def reference_points(h, w, *, like):
    return exact([[x, y] for y in range(h) for x in range(w)])


def sampling_locations(p, offsets):
    s = offsets.shape[-4]
    locations = offsets.copy()
    for i in range(s):
        locations[..., i, :, :, :] = offsets[..., i, :, :, :] + p[i]
    return locations


def weighted_sum_of_samples(v, locations, alpha, *, grid, padding="zeros"):
    *batch, u, s, d = v.shape
    _, h, w = grid
    t, points = alpha.shape[-4], alpha.shape[-1]
    y = 0
    for frame in range(u):
        where = locations[..., frame, :, :].reshape(*batch, t * s * points, 2)
        grid_of_values = v[..., frame, :, :].reshape(*batch, h, w, d)
        samples = bilinear_sample(grid_of_values, where, padding=padding)
        samples = samples.reshape(*batch, t, s, points, d)
        y = y + (alpha[..., frame, :, None] * samples).sum(axis=-2)
    return y


def deformable_attention(
    z, q, m, v, W_alpha, W_delta, *, b_alpha=None, b_delta=None, grid, padding="zeros"
):
    alpha = deformable_weights(deformable_logits(q, m, W_alpha, bias=b_alpha))
    p = reference_points(grid[1], grid[2], like=z)
    locations = sampling_locations(p, sampling_offsets(q, m, W_delta, bias=b_delta))
    return z + weighted_sum_of_samples(v, locations, alpha, grid=grid, padding=padding)


def deformable_self_attention(z, m, params, *, grid, clips=1, padding="zeros"):
    length = z.shape[-3] // clips
    updates = []
    for clip in range(clips):
        frames = slice(clip * length, (clip + 1) * length)
        x, motion = z[..., frames, :, :], m[..., frames, :, :, :]
        q = _linear(x, params["W_q"], params.get("b_q"))
        update = 0
        for h, W_c in enumerate(params["W_c"]):
            head = {name: W[h] for name, W in params.items() if W is not None and name in _HEADS}
            values = _linear(x, head["W_v"], head.get("b_v"))
            y = deformable_attention(
                0 * values,  # without the residual
                q,
                motion,
                values,
                head["W_alpha"],
                head["W_delta"],
                b_alpha=head.get("b_alpha"),
                b_delta=head.get("b_delta"),
                grid=(length, *grid[1:]),
                padding=padding,
            )
            update = update + y @ W_c
        updates.append(update)
    update = np.concatenate(updates, axis=-3)
    return update if params.get("b_c") is None else update + params["b_c"]


_HEADS = {"W_v", "b_v", "W_alpha", "b_alpha", "W_delta", "b_delta"}


def deformable_layer(
    z, motion, params, *, grid, clips=1, padding="zeros", eps=1e-6, activation="gelu"
):
    x = layer_norm(z, **params["norm_1"], eps=eps)
    m = motion_embedding(motion, params["motion"]["E"], bias=params["motion"].get("bias"))
    y = z + deformable_self_attention(
        x, m, params["attention"], grid=grid, clips=clips, padding=padding
    )
    *batch, t, s, d = y.shape
    tokens = y.reshape(*batch, t * s, d)
    return feed_forward_sublayer(tokens, params, eps=eps, activation=activation).reshape(y.shape)
