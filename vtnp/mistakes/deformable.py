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
def points_xy_swapped(h, w, *, like):
    return _swapped(reference_points(h, w, like=like))


@mistake("reference-points", "half-pixel")
def points_half_pixel(h, w, *, like):
    return reference_points(h, w, like=like) + 0.5


@mistake("reference-points", "column-by-column")
def column_by_column(h, w, *, like):
    return _swapped(reference_points(w, h, like=like))


@mistake("sampling-locations", "offset-subtracted")
def offset_subtracted(p, offsets):
    return sampling_locations(p, -offsets)


@mistake("sampling-locations", "reference-point-missing")
def reference_point_missing(p, offsets):
    return sampling_locations(p * 0.0, offsets)


@mistake("sampling-locations", "reference-points-xy-swapped")
def reference_points_xy_swapped(p, offsets):
    return sampling_locations(_swapped(p), offsets)


@mistake("weighted-sum-of-samples", "xy-swapped")
def locations_xy_swapped(v, locations, alpha, **options):
    return weighted_sum_of_samples(v, _swapped(locations), alpha, **options)


@mistake("weighted-sum-of-samples", "nearest")
def nearest(v, locations, alpha, **options):
    return weighted_sum_of_samples(v, namespace(locations).round(locations), alpha, **options)


@mistake("weighted-sum-of-samples", "half-pixel")
def half_pixel(v, locations, alpha, **options):
    return weighted_sum_of_samples(v, locations - 0.5, alpha, **options)


@mistake("weighted-sum-of-samples", "other-padding")
def sum_other_padding(v, locations, alpha, *, grid, padding="zeros"):
    return weighted_sum_of_samples(v, locations, alpha, grid=grid, padding=_OTHER[padding])


@mistake("weighted-sum-of-samples", "column-by-column")
def values_column_by_column(v, locations, alpha, *, grid, padding="zeros"):
    xp, (_, h, w) = namespace(v), grid
    columns = xp.reshape(v, (*v.shape[:-2], w, h, v.shape[-1]))
    v = xp.reshape(xp.moveaxis(columns, -3, -2), v.shape)
    return weighted_sum_of_samples(v, locations, alpha, grid=grid, padding=padding)


@mistake("weighted-sum-of-samples", "frames-averaged")
def frames_averaged(v, locations, alpha, **options):
    return weighted_sum_of_samples(v, locations, alpha, **options) / v.shape[-3]


@mistake("weighted-sum-of-samples", "next-frame")
def next_frame(v, locations, alpha, **options):
    return weighted_sum_of_samples(namespace(v).roll(v, 1, axis=-3), locations, alpha, **options)


def _attention(
    z, q, m, v, W_alpha, W_delta, b_alpha, b_delta, grid, padding,
    weights=deformable_weights, logits=deformable_logits, offsets=sampling_offsets,
):  # fmt: skip
    """Compute deformable attention with some of its formulas replaced."""
    alpha, (_, h, w) = weights(logits(q, m, W_alpha, bias=b_alpha)), grid
    p = reference_points(h, w, like=z)
    locations = sampling_locations(p, offsets(q, m, W_delta, bias=b_delta))
    return z + weighted_sum_of_samples(v, locations, alpha, grid=grid, padding=padding)


def _with(**replacements):
    def attention(
        z, q, m, v, W_alpha, W_delta, *, b_alpha=None, b_delta=None, grid, padding="zeros"
    ):
        arrays = z, q, m, v, W_alpha, W_delta, b_alpha, b_delta
        return _attention(*arrays, grid, padding, **replacements)

    return attention


_REPLACEMENTS: dict[str, dict[str, Callable[..., Any]]] = {
    "xy-swapped": {"offsets": offsets_xy_swapped},
    "other-layout": {"offsets": offsets_other_layout},
    "over-points": {"weights": over_points},
    "over-frames": {"weights": over_frames},
    "motion-in-weights-only": {"offsets": offsets_without_motion},
    "motion-in-offsets-only": {"logits": logits_without_motion},
}
for _name, _replacements in _REPLACEMENTS.items():
    mistake("deformable-attention", _name)(_with(**_replacements))


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
    xp, (_, h, w) = namespace(z, v), grid
    *batch, t, s, u, _ = m.shape
    offsets = sampling_offsets(q, m, W_delta, bias=b_delta)
    locations = sampling_locations(reference_points(h, w, like=z), offsets)
    flat = xp.moveaxis(locations, -3, -5)
    flat = xp.reshape(flat, (*batch, u, t * s * W_delta.shape[-2], 2))
    frames = xp.reshape(v, (*batch, u, h, w, v.shape[-1]))
    samples = bilinear_sample(frames, flat, padding=padding)
    samples = xp.reshape(samples, (*batch, u, t, s, W_delta.shape[-2], v.shape[-1]))
    logits = xp.moveaxis(xp.sum(samples * q[..., None, :, :, None, :], axis=-1), -4, -2)
    alpha = deformable_weights(logits / math.sqrt(q.shape[-1]))
    return z + weighted_sum_of_samples(v, locations, alpha, grid=grid, padding=padding)


@mistake("deformable-self-attention", "frames-swapped")
def frames_swapped(z, m, params, *, grid, clips=1, padding="zeros"):
    xp, (*batch, t, s, u, d) = namespace(m), m.shape
    cut = xp.reshape(m, (*batch, clips, u, s, u, d))
    cut = xp.moveaxis(xp.moveaxis(cut, -2, -4), -2, -3)
    m = xp.reshape(cut, (*batch, t, s, u, d))
    return deformable_self_attention(z, m, params, grid=grid, clips=clips, padding=padding)


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


@mistake("deformable-self-attention", "offsets-shared")
def offsets_shared(z, m, params, **options):
    xp = namespace(z, m)
    shared = {
        name: xp.concat([W[:1]] * W.shape[0], axis=0) if name.endswith("_delta") else W
        for name, W in params.items()
    }
    return deformable_self_attention(z, m, shared, **options)


@mistake("deformable-self-attention", "heads-averaged")
def heads_averaged(z, m, params, **options):
    averaged = {**params, "W_c": params["W_c"] / params["W_c"].shape[0]}
    return deformable_self_attention(z, m, averaged, **options)


@mistake("deformable-layer", "norm-missing")
def norm_missing(z, motion, params, *, eps=1e-6, activation="gelu", **options):
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
