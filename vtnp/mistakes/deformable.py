"""The usual mistakes of the pages in spec/deformable/."""

import math
from collections.abc import Callable
from typing import Any

from vtnp._array.xp import namespace
from vtnp.deformable import (
    deformable_attention,
    deformable_layer,
    deformable_logits,
    deformable_self_attention,
    deformable_weights,
    motion_embedding,
    reference_points,
    sampling_locations,
    sampling_offsets,
    weighted_sum_of_samples,
)
from vtnp.encoder import feed_forward_sublayer, layer_norm, softmax
from vtnp.mistakes._registry import mistake
from vtnp.tokens import bilinear_sample

_OTHER = {"zeros": "border", "border": "zeros"}


def _swapped(x):
    """Put y before x on the last axis."""
    return namespace(x).flip(x, axis=-1)


def _other_layout(W):
    """Read `d points 2` numbers as `d 2 points`."""
    xp, (d, points, _) = namespace(W), W.shape
    return xp.moveaxis(xp.reshape(W, (d, 2, points)), -2, -1)


@mistake("motion-embedding", "xy-swapped")
def embedding_xy_swapped(motion, E, *, bias=None):
    return motion_embedding(_swapped(motion), E, bias=bias)


@mistake("motion-embedding", "reversed-motion")
def embedding_reversed_motion(motion, E, *, bias=None):
    return motion_embedding(-motion, E, bias=bias)


@mistake("deformable-logits", "motion-left-out")
def logits_without_motion(q, m, W_alpha, *, bias=None):
    return deformable_logits(q, m * 0.0, W_alpha, bias=bias)


@mistake("deformable-logits", "query-left-out")
def logits_without_query(q, m, W_alpha, *, bias=None):
    return deformable_logits(q * 0.0, m, W_alpha, bias=bias)


@mistake("deformable-logits", "scaled")
def scaled(q, m, W_alpha, *, bias=None):
    return deformable_logits(q, m, W_alpha / math.sqrt(q.shape[-1]), bias=bias)


@mistake("deformable-weights", "over-points")
def over_points(logits):
    return softmax(logits)


@mistake("deformable-weights", "over-frames")
def over_frames(logits):
    xp = namespace(logits)
    return xp.moveaxis(softmax(xp.moveaxis(logits, -2, -1)), -1, -2)


@mistake("sampling-offsets", "xy-swapped")
def offsets_xy_swapped(q, m, W_delta, *, bias=None):
    return _swapped(sampling_offsets(q, m, W_delta, bias=bias))


@mistake("sampling-offsets", "other-layout")
def offsets_other_layout(q, m, W_delta, *, bias=None):
    return sampling_offsets(q, m, _other_layout(W_delta), bias=bias)


@mistake("sampling-offsets", "motion-left-out")
def offsets_without_motion(q, m, W_delta, *, bias=None):
    return sampling_offsets(q, m * 0.0, W_delta, bias=bias)


@mistake("sampling-offsets", "query-left-out")
def offsets_without_query(q, m, W_delta, *, bias=None):
    return sampling_offsets(q * 0.0, m, W_delta, bias=bias)


@mistake("sampling-offsets", "reversed-motion")
def offsets_of_reversed_motion(q, m, W_delta, *, bias=None):
    return sampling_offsets(q, -m, W_delta, bias=bias)


@mistake("reference-points", "xy-swapped")
def places_row_first(h, w, *, like):
    return _swapped(reference_points(h, w, like=like))


@mistake("reference-points", "half-pixel")
def places_of_corners(h, w, *, like):
    return reference_points(h, w, like=like) + 0.5


@mistake("reference-points", "column-by-column")
def column_by_column(h, w, *, like):
    return _swapped(reference_points(w, h, like=like))


@mistake("sampling-locations", "offset-subtracted")
def offset_subtracted(p, offsets):
    return sampling_locations(p, -offsets)


@mistake("sampling-locations", "own-place-left-out")
def own_place_left_out(p, offsets):
    return sampling_locations(p * 0.0, offsets)


@mistake("sampling-locations", "places-xy-swapped")
def places_xy_swapped(p, offsets):
    return sampling_locations(_swapped(p), offsets)


@mistake("weighted-sum-of-samples", "xy-swapped")
def positions_xy_swapped(v, positions, alpha, **options):
    return weighted_sum_of_samples(v, _swapped(positions), alpha, **options)


@mistake("weighted-sum-of-samples", "nearest")
def nearest(v, positions, alpha, **options):
    return weighted_sum_of_samples(v, namespace(positions).round(positions), alpha, **options)


@mistake("weighted-sum-of-samples", "half-pixel")
def half_pixel(v, positions, alpha, **options):
    return weighted_sum_of_samples(v, positions - 0.5, alpha, **options)


@mistake("weighted-sum-of-samples", "other-padding")
def sum_other_padding(v, positions, alpha, *, grid, padding="zeros"):
    return weighted_sum_of_samples(v, positions, alpha, grid=grid, padding=_OTHER[padding])


@mistake("weighted-sum-of-samples", "columns-first")
def columns_first(v, positions, alpha, *, grid, padding="zeros"):
    xp, (h, w) = namespace(v), grid
    turned = xp.reshape(v, (*v.shape[:-2], w, h, v.shape[-1]))
    turned = xp.reshape(xp.moveaxis(turned, -3, -2), v.shape)
    return weighted_sum_of_samples(turned, positions, alpha, grid=grid, padding=padding)


@mistake("weighted-sum-of-samples", "frames-averaged")
def frames_averaged(v, positions, alpha, **options):
    return weighted_sum_of_samples(v, positions, alpha, **options) / v.shape[-3]


@mistake("weighted-sum-of-samples", "next-frame")
def next_frame(v, positions, alpha, **options):
    return weighted_sum_of_samples(namespace(v).roll(v, 1, axis=-3), positions, alpha, **options)


def _attention(
    z, q, m, v, W_alpha, W_delta, b_alpha, b_delta, grid, padding,
    weights=deformable_weights, logits=deformable_logits, offsets=sampling_offsets,
):  # fmt: skip
    """Compute deformable attention with some of its steps exchanged."""
    alpha = weights(logits(q, m, W_alpha, bias=b_alpha))
    places = reference_points(*grid, like=z)
    positions = sampling_locations(places, offsets(q, m, W_delta, bias=b_delta))
    return z + weighted_sum_of_samples(v, positions, alpha, grid=grid, padding=padding)


def _with(**steps):
    def attention(
        z, q, m, v, W_alpha, W_delta, *, b_alpha=None, b_delta=None, grid, padding="zeros"
    ):
        return _attention(z, q, m, v, W_alpha, W_delta, b_alpha, b_delta, grid, padding, **steps)

    return attention


_EXCHANGED: dict[str, dict[str, Callable[..., Any]]] = {
    "xy-swapped": {"offsets": offsets_xy_swapped},
    "other-layout": {"offsets": offsets_other_layout},
    "over-points": {"weights": over_points},
    "over-frames": {"weights": over_frames},
    "motion-in-weights-only": {"offsets": offsets_without_motion},
    "motion-in-offsets-only": {"logits": logits_without_motion},
}
for _name, _steps in _EXCHANGED.items():
    mistake("deformable-attention", _name)(_with(**_steps))


@mistake("deformable-attention", "no-residual")
def no_residual(z, *arrays, **options):
    return deformable_attention(z, *arrays, **options) - z


@mistake("deformable-attention", "residual-twice")
def residual_twice(z, *arrays, **options):
    return deformable_attention(z, *arrays, **options) + z


@mistake("deformable-attention", "reversed-motion")
def reversed_motion(z, q, m, *arrays, **options):
    return deformable_attention(z, q, -m, *arrays, **options)


@mistake("deformable-attention", "other-padding")
def other_padding(*arrays, padding="zeros", **options):
    return deformable_attention(*arrays, padding=_OTHER[padding], **options)


@mistake("deformable-attention", "dot-product")
def dot_product(z, q, m, v, W_alpha, W_delta, *, b_alpha=None, b_delta=None, grid, padding="zeros"):
    xp, (h, w) = namespace(z, v), grid
    *batch, t, s, u, _ = m.shape
    offsets = sampling_offsets(q, m, W_delta, bias=b_delta)
    positions = sampling_locations(reference_points(h, w, like=z), offsets)
    places = xp.moveaxis(positions, -3, -5)
    frames = xp.reshape(v, (*batch, u, h, w, v.shape[-1]))
    places = xp.reshape(places, (*batch, u, t * s * W_delta.shape[-2], 2))
    samples = bilinear_sample(frames, places, padding=padding)
    samples = xp.reshape(samples, (*batch, u, t, s, W_delta.shape[-2], v.shape[-1]))
    logits = xp.moveaxis(xp.sum(samples * q[..., None, :, :, None, :], axis=-1), -4, -2)
    alpha = deformable_weights(logits / math.sqrt(q.shape[-1]))
    return z + weighted_sum_of_samples(v, positions, alpha, grid=grid, padding=padding)


@mistake("deformable-self-attention", "frames-swapped")
def frames_swapped(z, m, params, *, grid, clips=1, padding="zeros"):
    xp, (*batch, t, s, u, d) = namespace(m), m.shape
    cut = xp.reshape(m, (*batch, clips, u, s, u, d))
    cut = xp.moveaxis(xp.moveaxis(cut, -2, -4), -2, -3)
    turned = xp.reshape(cut, (*batch, t, s, u, d))
    return deformable_self_attention(z, turned, params, grid=grid, clips=clips, padding=padding)


@mistake("deformable-self-attention", "every-other-frame")
def every_other_frame(z, m, params, *, grid, clips=1, padding="zeros"):
    xp, t = namespace(z, m), z.shape[-3]
    order = [frame for first in range(clips) for frame in range(first, t, clips)]
    z, m = (
        xp.stack([x[(..., i, *[slice(None)] * after)] for i in order], axis=-after - 1)
        for x, after in ((z, 2), (m, 3))
    )
    y = deformable_self_attention(z, m, params, grid=grid, clips=clips, padding=padding)
    return xp.stack([y[..., order.index(i), :, :] for i in range(t)], axis=-3)


@mistake("deformable-self-attention", "one-head-samples")
def one_head_samples(z, m, params, **options):
    xp = namespace(z, m)
    shared = {
        name: xp.concat([W[:1]] * W.shape[0], axis=0) if name.endswith("_delta") else W
        for name, W in params.items()
    }
    return deformable_self_attention(z, m, shared, **options)


@mistake("deformable-self-attention", "heads-averaged")
def heads_averaged(z, m, params, **options):
    share = {**params, "W_c": params["W_c"] / params["W_c"].shape[0]}
    return deformable_self_attention(z, m, share, **options)


@mistake("deformable-layer", "norm-left-out")
def norm_left_out(z, motion, params, *, eps=1e-6, activation="gelu", **options):
    m = motion_embedding(motion, **params["motion"])
    y = z + deformable_self_attention(z, m, params["attention"], **options)
    return feed_forward_sublayer(y, params, eps=eps, activation=activation)


@mistake("deformable-layer", "no-residual")
def layer_without_residual(z, motion, params, *, eps=1e-6, activation="gelu", **options):
    x = layer_norm(z, **params["norm_1"], eps=eps)
    m = motion_embedding(motion, **params["motion"])
    y = deformable_self_attention(x, m, params["attention"], **options)
    return feed_forward_sublayer(y, params, eps=eps, activation=activation)


@mistake("deformable-layer", "reversed-motion")
def layer_of_reversed_motion(z, motion, params, **options):
    return deformable_layer(z, -motion, params, **options)


@mistake("deformable-layer", "pixels-for-cells")
def pixels_for_cells(z, motion, params, **options):
    return deformable_layer(z, 16.0 * motion, params, **options)
