"""Laws and special cases of spec/deformable/."""

import numpy as np

from vtnp.claims._registry import law, special
from vtnp.claims.common import needs_generic
from vtnp.claims.compare import assert_at_most, assert_close
from vtnp.claims.errors import needs
from vtnp.deformable import deformable_attention, deformable_weights, reference_points
from vtnp.tokens import bilinear_sample


def order_of(case, n):
    return case.rng.permutation(n)


# --- motion-embedding -----------------------------------------------------------------------------


@law("motion-embedding", "linear")
def embedding_is_linear(case):
    other = case.numbers(case["motion"].shape)
    together = case(motion=2.0 * case["motion"] - other, bias=None)
    assert_close(together, 2.0 * case(bias=None) - case(motion=other, bias=None))


@special("motion-embedding", "no-motion")
def embedding_of_no_motion(case):
    m = case(motion=np.zeros_like(case["motion"]))
    assert np.array_equal(m, np.zeros_like(m) + case.args.get("bias", 0.0))


# --- deformable-logits and sampling-offsets -------------------------------------------------------


def moved_to_motion(case):
    """Return the arguments after a vector has moved from every query to its motion."""
    c = case.numbers(case["q"].shape)
    return {"q": case["q"] - c, "m": case["m"] + c[..., None, :]}


@law("deformable-logits", "query-and-motion")
def logits_see_the_sum(case):
    assert_close(case(**moved_to_motion(case)), case())


@law("deformable-logits", "permute-points")
def logits_permute_points(case):
    order = order_of(case, case["W_alpha"].shape[-1])
    changed = {"W_alpha": case["W_alpha"][:, order]}
    if "bias" in case.args:
        changed["bias"] = case["bias"][order]
    assert_close(case(**changed), case()[..., order])


@special("deformable-logits", "same-motion")
def logits_of_the_same_motion(case):
    m = np.broadcast_to(case["m"][..., :1, :], case["m"].shape).copy()
    logits = case(m=m)
    assert_close(logits, np.broadcast_to(logits[..., :1, :], logits.shape))


@law("sampling-offsets", "query-and-motion")
def offsets_see_the_sum(case):
    assert_close(case(**moved_to_motion(case)), case())


@law("sampling-offsets", "permute-points")
def offsets_permute_points(case):
    order = order_of(case, case["W_delta"].shape[-2])
    changed = {"W_delta": case["W_delta"][:, order]}
    if "bias" in case.args:
        changed["bias"] = case["bias"][order]
    assert_close(case(**changed), case()[..., order, :])


@law("sampling-offsets", "swap-axes")
def offsets_swap_axes(case):
    changed = {"W_delta": case["W_delta"][..., ::-1].copy()}
    if "bias" in case.args:
        changed["bias"] = case["bias"][..., ::-1].copy()
    assert_close(case(**changed), case()[..., ::-1])


@special("sampling-offsets", "follows-motion")
def offsets_follow_motion(case):
    d, points, _ = case["W_delta"].shape
    needs(d >= 2, "two channels")
    E = case.numbers((2, d))
    motion = case.numbers((*case["m"].shape[:-1], 2))
    W_delta = np.stack([np.linalg.pinv(E)] * points, axis=1)
    offsets = case(q=np.zeros_like(case["q"]), m=motion @ E, W_delta=W_delta, bias=None)
    assert_close(offsets, np.broadcast_to(motion[..., None, :], offsets.shape))


@special("sampling-offsets", "zero-weights")
def offsets_of_zero_weights(case):
    offsets = case(W_delta=np.zeros_like(case["W_delta"]))
    assert np.array_equal(offsets, np.zeros_like(offsets) + case.args.get("bias", 0.0))


# --- deformable-weights ---------------------------------------------------------------------------


@law("deformable-weights", "sum-to-one")
def weights_sum_to_one(case):
    alpha = case()
    assert np.all(alpha >= 0)
    assert_close(alpha.sum(axis=(-2, -1)), np.ones(alpha.shape[:-2]))


@law("deformable-weights", "shift")
def weights_shift(case):
    c = case.numbers((*case["logits"].shape[:-2], 1, 1))
    assert_close(case(logits=case["logits"] + c), case())


@law("deformable-weights", "permute")
def weights_permute(case):
    frames, points = (order_of(case, n) for n in case["logits"].shape[-2:])
    permuted = case(logits=case["logits"][..., frames, :][..., points])
    assert_close(permuted, case()[..., frames, :][..., points])


@special("deformable-weights", "equal-scores")
def weights_of_equal_scores(case):
    u, points = case["logits"].shape[-2:]
    alpha = case(logits=np.full_like(case["logits"], 3.0))
    assert_close(alpha, np.full_like(alpha, 1 / (u * points)))


@special("deformable-weights", "single-sample")
def weight_of_a_single_sample(case):
    alpha = case(logits=case["logits"][..., :1, :1])
    assert np.array_equal(alpha, np.ones_like(alpha))


@special("deformable-weights", "minus-infinity")
def weights_of_minus_infinity(case):
    needs(case["logits"].shape[-2] >= 2, "two frames")
    logits = case["logits"].copy()
    logits[..., 0, :] = -np.inf
    assert not case(logits=logits)[..., 0, :].any()
    assert_close(case(logits=logits)[..., 1:, :], case(logits=logits[..., 1:, :]))
    assert not case(logits=np.full_like(logits, -np.inf)).any()


@special("deformable-weights", "huge-logits")
def weights_of_huge_logits(case):
    alpha = case(logits=1e4 * np.sign(case["logits"]))
    assert np.all(np.isfinite(alpha))
    assert_close(alpha.sum(axis=(-2, -1)), np.ones(alpha.shape[:-2]))


@special("deformable-weights", "frames-differ")
def weights_of_a_frame_do_not_sum_to_one(case):
    logits = np.log(np.array([[[[1.0, 1.0], [1.0, 3.0]]]]))
    assert_close(case(logits=logits).sum(axis=-1), np.array([[[1 / 3, 2 / 3]]]))


# --- reference-points and sampling-locations ------------------------------------------------------


@law("reference-points", "row-by-row")
def points_row_by_row(case):
    p, h, w = case(), case["h"], case["w"]
    assert np.array_equal(p[:, 1] * w + p[:, 0], np.arange(h * w))
    assert np.array_equal(p, np.floor(p))
    assert p.min() == 0
    assert p[:, 0].max() == w - 1
    assert p[:, 1].max() == h - 1


@special("reference-points", "single-row")
def points_of_a_single_row(case):
    w = case["w"]
    assert np.array_equal(case(h=1), np.stack([np.arange(w), np.zeros(w)], axis=-1))


@law("sampling-locations", "translate")
def locations_translate(case):
    c = np.array([2.5, -1.0])
    assert_close(case(p=case["p"] + c), case() + c)


@special("sampling-locations", "no-offset")
def locations_without_offsets(case):
    locations = case(offsets=np.zeros_like(case["offsets"]))
    expected = np.broadcast_to(case["p"][:, None, None, :], locations.shape)
    assert np.array_equal(locations, expected)


# --- weighted-sum-of-samples ----------------------------------------------------------------------


def within(case):
    """Return locations drawn within the grid."""
    _, h, w = case["grid"]
    return case.rng.uniform(0, 1, case["locations"].shape) * np.array([w - 1, h - 1])


@law("weighted-sum-of-samples", "linear-in-values")
def sum_is_linear_in_values(case):
    other = case.numbers(case["v"].shape)
    assert_close(case(v=2.0 * case["v"] - other), 2.0 * case() - case(v=other))


@law("weighted-sum-of-samples", "linear-in-weights")
def sum_is_linear_in_weights(case):
    other = case.numbers(case["alpha"].shape)
    assert_close(case(alpha=2.0 * case["alpha"] - other), 2.0 * case() - case(alpha=other))


@law("weighted-sum-of-samples", "permute-points")
def sum_permutes_points(case):
    order = order_of(case, case["alpha"].shape[-1])
    changed = case(locations=case["locations"][..., order, :], alpha=case["alpha"][..., order])
    assert_close(changed, case())


@law("weighted-sum-of-samples", "frame-by-frame")
def sum_frame_by_frame(case):
    frames = [
        case(
            v=case["v"][..., i : i + 1, :, :],
            locations=case["locations"][..., i : i + 1, :, :],
            alpha=case["alpha"][..., i : i + 1, :],
        )
        for i in range(case["v"].shape[-3])
    ]
    assert_close(case(), sum(frames))


@law("weighted-sum-of-samples", "affine-values")
def sum_of_affine_values(case):
    u, d = case["v"].shape[-3], case["v"].shape[-1]
    a, b, c = case.numbers((3, u, 1, d))
    _, h, w = case["grid"]
    p = reference_points(h, w, like=case["v"])
    v = np.broadcast_to(a + b * p[:, :1] + c * p[:, 1:], case["v"].shape).copy()
    locations = within(case)
    samples = a + b * locations[..., :1] + c * locations[..., 1:]
    expected = (case["alpha"][..., None] * samples).sum(axis=(-3, -2))
    assert_close(case(v=v, locations=locations), expected)


@law("weighted-sum-of-samples", "within-values")
def sum_within_values(case):
    y = case(alpha=deformable_weights(case["alpha"]), padding="border")
    low = case["v"].min(axis=(-3, -2))[..., None, None, :]
    high = case["v"].max(axis=(-3, -2))[..., None, None, :]
    assert_at_most(low, y)
    assert_at_most(y, high)


@special("weighted-sum-of-samples", "integer-locations")
def sum_at_integer_locations(case):
    locations = np.round(within(case))
    index = (locations[..., 1] * case["grid"][-1] + locations[..., 0]).astype(int)
    expected = 0.0
    for i in range(case["v"].shape[-3]):
        frame, at = case["v"][..., i, :, :], index[..., i, :]
        flat = at.reshape(*at.shape[:-3], -1, 1)
        cells = np.take_along_axis(frame, flat, axis=-2).reshape(*at.shape, -1)
        expected = expected + (case["alpha"][..., i, :, None] * cells).sum(axis=-2)
    assert_close(case(locations=locations), expected, within=1e-15)


@special("weighted-sum-of-samples", "far-outside")
def sum_far_outside(case):
    _, h, w = case["grid"]
    far = np.where(case["locations"] < 0.5, -1.0, np.array([w, h]) + 0.0)
    assert not case(locations=far, padding="zeros").any()
    nearest = np.clip(far, 0, np.array([w - 1, h - 1]))
    assert np.array_equal(case(locations=far, padding="border"), case(locations=nearest))


@special("weighted-sum-of-samples", "constant-values")
def sum_of_constant_values(case):
    y = case(v=np.full_like(case["v"], 2.0), padding="border")
    expected = 2.0 * case["alpha"].sum(axis=(-2, -1))[..., None]
    assert_close(y, np.broadcast_to(expected, y.shape))


@special("weighted-sum-of-samples", "nan-location")
def sum_at_nan(case):
    locations = case["locations"].copy()
    locations[..., 0, 1, 0, 0, 0] = np.nan
    y = case(locations=locations)
    expected = case()
    expected[..., 0, 1, :] = np.nan
    assert np.array_equal(np.isnan(y), np.isnan(expected))
    assert_close(y[~np.isnan(y)], expected[~np.isnan(expected)], within=0)


# --- deformable-attention -------------------------------------------------------------------------


def weights_of_points(case, order):
    changed = {name: case[name][:, order] for name in ("W_alpha", "W_delta")}
    return changed | {
        name: case[name][order] for name in ("b_alpha", "b_delta") if name in case.args
    }


@law("deformable-attention", "linear-in-values")
def attention_is_linear_in_values(case):
    other = case.numbers(case["v"].shape)
    update = case(v=2.0 * case["v"] - other) - case["z"]
    assert_close(update, 2.0 * case() - case(v=other) - case["z"])


@law("deformable-attention", "permute-points")
def attention_permutes_points(case):
    order = order_of(case, case["W_alpha"].shape[-1])
    assert_close(case(**weights_of_points(case, order)), case())


@law("deformable-attention", "permute-frames")
def attention_permutes_frames(case):
    order = order_of(case, case["v"].shape[-3])
    assert_close(case(v=case["v"][..., order, :, :], m=case["m"][..., order, :]), case())


@law("deformable-attention", "common-score")
def attention_ignores_a_common_score(case):
    b_alpha = case.args.get("b_alpha", np.zeros(case["W_alpha"].shape[-1]))
    assert_close(case(b_alpha=b_alpha + 1.5), case())


@law("deformable-attention", "same-motion")
def attention_of_the_same_motion(case):
    m = np.broadcast_to(case["m"][..., :1, :], case["m"].shape).copy()
    order = order_of(case, case["v"].shape[-3])
    assert_close(case(m=m, v=case["v"][..., order, :, :]), case(m=m))


@law("deformable-attention", "translate")
def attention_translates(case):
    """Moved down and right by one cell, queries whose samples stay within the grid get the same."""
    (h, w), rng = (6, 7), case.rng
    t, u, d = case["q"].shape[-3], case["v"].shape[-3], case["q"].shape[-1]

    def arrays(*shape):
        return rng.standard_normal(shape)

    q, m, v = arrays(t, h, w, d), arrays(t, h, w, u, d), arrays(u, h, w, d)
    options = {name: value for name, value in case.args.items() if name[:2] in {"W_", "b_"}}
    options = {name: 0.3 * value for name, value in options.items()}

    def update(q, m, v):
        flat = (q.reshape(t, h * w, d), m.reshape(t, h * w, u, d), v.reshape(u, h * w, d))
        z, grid = np.zeros((t, h * w, d)), (t, h, w)
        y = case(z=z, q=flat[0], m=flat[1], v=flat[2], grid=grid, **options)
        return y.reshape(t, h, w, d)

    def moved(x):
        return np.roll(x, (1, 1), (1, 2))

    before = update(q, m, v)
    after = update(moved(q), moved(m), moved(v))
    offsets = np.einsum("thwud,dnc->thwunc", q[..., None, :] + m, options["W_delta"])
    offsets = offsets + options.get("b_delta", 0.0)
    locations = reference_points(h, w, like=q).reshape(h, w, 1, 1, 2) + offsets
    # Within the grid before and after the move, which wraps the last row and column around.
    inside = (locations >= 0) & (locations <= np.array([w - 2, h - 2]))
    rows, columns = np.arange(h)[:, None] < h - 1, np.arange(w) < w - 1
    stays = inside.all(axis=(-3, -2, -1)) & rows & columns
    assert_close(after[moved(stays)], before[stays])


@special("deformable-attention", "zero-weights")
def attention_of_zero_weights(case):
    zero = {name: np.zeros_like(case[name]) for name in ("W_alpha", "W_delta")}
    mean = case["v"].mean(axis=-3, keepdims=True)
    assert_close(case(**zero, b_alpha=None, b_delta=None), case["z"] + mean)


@special("deformable-attention", "follows-motion")
def attention_follows_motion(case):
    """q = 0, W_alpha = 0, E W_delta = I: the mean of the values where the motion leads to."""
    d = case["q"].shape[-1]
    needs(d >= 2, "two channels")
    E = case.numbers((2, d))
    motion = 2.0 * case.numbers((*case["m"].shape[:-1], 2))
    y = case(
        z=np.zeros_like(case["z"]), q=np.zeros_like(case["q"]), m=motion @ E,
        W_alpha=np.zeros((d, 1)), W_delta=np.linalg.pinv(E)[:, None, :],
        b_alpha=None, b_delta=None,
    )  # fmt: skip
    u, (_, h, w) = case["v"].shape[-3], case["grid"]
    *batch, t, s, _, _ = motion.shape
    expected = 0.0
    for i in range(u):
        frame = case["v"][..., i, :, :].reshape(*batch, h, w, d)
        locations = reference_points(h, w, like=motion) + motion[..., i, :]
        locations = locations.reshape(*batch, t * s, 2)
        samples = bilinear_sample(frame, locations, padding=case["padding"])
        expected = expected + samples.reshape(*batch, t, s, d) / u
    assert_close(y, expected, within=1e-11)


@special("deformable-attention", "constant-values")
def attention_of_constant_values(case):
    y = case(v=np.full_like(case["v"], 2.0), padding="border")
    assert_close(y, case["z"] + 2.0)


@special("deformable-attention", "nan-motion")
def attention_of_nan_motion(case):
    m = case["m"].copy()
    m[..., 0, 1, 0, 0] = np.nan
    y, expected = case(m=m), case()
    expected[..., 0, 1, :] = np.nan
    assert np.array_equal(np.isnan(y), np.isnan(expected))
    assert_close(y[~np.isnan(y)], expected[~np.isnan(expected)], within=0)


@special("deformable-attention", "common-column")
def a_common_column_is_not_ignored(case):
    """Unless the motion is the same to all frames."""
    needs_generic(case)
    c = case.numbers((case["W_alpha"].shape[0], 1))
    assert np.abs(case(W_alpha=case["W_alpha"] + c) - case()).max() > 1e-6
    m = np.broadcast_to(case["m"][..., :1, :], case["m"].shape).copy()
    assert_close(case(m=m, W_alpha=case["W_alpha"] + c), case(m=m))


# --- deformable-self-attention --------------------------------------------------------------------


_SHARED = ("W_q", "b_q", "b_c")


def heads_of(params, chosen):
    """Return the params of some heads."""
    return {name: W if name in _SHARED else W[chosen] for name, W in params.items()}


def sub_clip(case, i, *names):
    """Return the arguments of sub-clip i alone: the named arrays, whose frames follow the batch."""
    t, h, w = case["grid"]
    u, batch = t // case["clips"], (slice(None),) * (case["z"].ndim - 3)
    arrays = {name: case[name][(*batch, slice(i * u, (i + 1) * u))] for name in names}
    return {**arrays, "grid": (u, h, w), "clips": 1}


@law("deformable-self-attention", "sum-of-heads")
def self_attention_is_the_sum_of_heads(case):
    params = {name: W for name, W in case["params"].items() if name != "b_c"}
    heads = [case(params=heads_of(params, slice(h, h + 1))) for h in range(2)]
    assert_close(case(params=params), sum(heads))


@law("deformable-self-attention", "permute-heads")
def self_attention_permutes_heads(case):
    assert_close(case(params=heads_of(case["params"], slice(None, None, -1))), case())


@law("deformable-self-attention", "clips-independent")
def self_attention_of_each_clip(case):
    clips = [case(**sub_clip(case, i, "z", "m")) for i in range(case["clips"])]
    assert_close(np.concatenate(clips, axis=-3), case())


@special("deformable-self-attention", "one-head")
def self_attention_of_one_head(case):
    d, params = case["z"].shape[-1], heads_of(case["params"], slice(0, 1))
    params = {name: W for name, W in params.items() if name.startswith("W_")}
    params |= {"W_v": np.eye(d)[None], "W_c": np.eye(d)[None]}
    args = sub_clip(case, 0, "z", "m")
    z, m = args["z"], args["m"]
    expected = deformable_attention(
        z, z @ params["W_q"], m, z, params["W_alpha"][0], params["W_delta"][0],
        grid=args["grid"], padding=case["padding"],
    )  # fmt: skip
    assert_close(case(**args, params=params) + z, expected)


@special("deformable-self-attention", "own-frame-only")
def self_attention_within_frames(case):
    t = case["z"].shape[-3]
    m, other = case["m"][..., :1, :], case["z"].copy()
    other[..., 0, :, :] += 1.0
    before, after = case(m=m, clips=t), case(z=other, m=m, clips=t)
    assert np.array_equal(before[..., 1:, :, :], after[..., 1:, :, :])


# --- deformable-layer -----------------------------------------------------------------------------


@law("deformable-layer", "clips-independent")
def layer_of_each_clip(case):
    clips = [case(**sub_clip(case, i, "z", "motion")) for i in range(case["clips"])]
    assert_close(np.concatenate(clips, axis=-3), case())


@law("deformable-layer", "still-frames")
def layer_of_still_frames(case):
    args = sub_clip(case, 0, "z", "motion")
    args["motion"] = np.zeros_like(args["motion"])
    order = order_of(case, args["z"].shape[-3])
    permuted = {**args, "z": args["z"][..., order, :, :]}
    assert_close(case(**permuted), case(**args)[..., order, :, :])


@special("deformable-layer", "zero-sublayers")
def layer_of_zero_sublayers(case):
    params = dict(case["params"])
    for table, names in (("attention", ("W_c", "b_c")), ("feed_forward", ("W_2", "b_2"))):
        params[table] = {
            name: np.zeros_like(W) if name in names else W for name, W in params[table].items()
        }
    assert np.array_equal(case(params=params), case["z"])
