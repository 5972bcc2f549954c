"""Laws and special cases of spec/vivit/."""

from fractions import Fraction
from typing import Any

import autograd.numpy as anp
import numpy as np
from autograd import grad

from vtnp import encoder, vivit
from vtnp import tokens as token_formulas
from vtnp._array.trees import tree_leaves, tree_map
from vtnp.claims._registry import law, special
from vtnp.claims.common import needs_generic, passed_on, permutation
from vtnp.claims.compare import assert_close

# --- Frames and tubelets --------------------------------------------------------------------------


@law("uniform-frame-sampling", "even-steps")
def sampling_even_steps(case):
    T, k = case["T"], case["k"]
    chosen = np.array(case())
    assert chosen.shape == (k,)
    assert np.all((chosen >= 0) & (chosen < T))
    step = Fraction(T, k + 1) if k < T else Fraction(1)
    steps = set(np.diff(chosen).tolist())
    assert steps <= {step.__floor__(), step.__ceil__()}
    assert 0 not in steps


@law("uniform-frame-sampling", "nearest")
def sampling_nearest(case):
    T, k = case["T"], case["k"]
    if k < T:
        for i, index in enumerate(case().tolist(), start=1):
            off = abs(Fraction(i * T, k + 1) - index)
            assert off < Fraction(1, 2) or (off == Fraction(1, 2) and index % 2 == 0)


@law("uniform-frame-sampling", "first-frame-left-out")
def sampling_first_frame_left_out(case):
    assert (0 in case().tolist()) == (case["k"] == case["T"])


@special("uniform-frame-sampling", "all-frames")
def sampling_all_frames(case):
    assert np.array_equal(case(k=case["T"]), np.arange(case["T"]))


@special("uniform-frame-sampling", "one-frame")
def sampling_one_frame(case):
    if case["T"] > 1:
        assert case(k=1).tolist() == [round(Fraction(case["T"], 2))]


@law("tubelet-embedding", "remainder-ignored")
def tubelets_remainder_ignored(case):
    lengths, size = case["video"].shape[-4:-1], case["E"].shape[:3]
    t, h, w = (n // p * p for n, p in zip(lengths, size, strict=True))
    assert_close(case(video=case["video"][..., :t, :h, :w, :]), case())


@law("tubelet-embedding", "shift-by-a-tubelet")
def tubelets_shift_by_a_tubelet(case):
    p_t = case["E"].shape[0]
    later = case["video"][..., p_t:, :, :, :]
    assert_close(case(video=later), case()[..., 1:, :, :])


@law("tubelet-embedding", "positions-row-by-row")
def tubelets_positions_row_by_row(case):
    """Without its first row of tubelets, the video lacks the first row of positions."""
    p_h, w = case["E"].shape[1], case["video"].shape[-2] // case["E"].shape[2]
    assert_close(case(video=case["video"][..., p_h:, :, :]), case()[..., w:, :])


@law("tubelet-embedding", "linear-in-the-kernel")
def tubelets_linear_in_the_kernel(case):
    other = case.numbers(case["E"].shape)
    both = case(E=case["E"] + other)
    assert_close(both, case() + case(E=other, bias=None))


@special("tubelet-embedding", "one-frame-tubelets")
def tubelets_of_one_frame(case):
    E = case["E"][:1]
    video = case["video"]
    p_h, p_w = E.shape[1:3]
    h, w = video.shape[-3] // p_h, video.shape[-2] // p_w
    cut = video[..., : h * p_h, : w * p_w, :]
    patches = token_formulas.patch_tokens(cut, size=(1, p_h, p_w))
    expected = token_formulas.linear_embedding(
        patches, E.reshape(-1, E.shape[-1]), bias=case.args.get("bias")
    )
    assert_close(case(E=E), expected)


def clip_of_tubelets(case, frames):
    p_h, p_w, C, _ = case["E_image"].shape
    return case.numbers((frames, p_h, p_w, C))


def image_embedding(case, frame):
    return vivit.tubelet_embedding(frame[None], case["E_image"][None])[0]


@law("inflated-kernel", "mean-of-the-frames")
def inflated_mean_of_the_frames(case):
    p_t = case["p_t"]
    video = clip_of_tubelets(case, p_t)
    expected = sum(image_embedding(case, frame) for frame in video) / p_t
    assert_close(vivit.tubelet_embedding(video, case())[0], expected)


@law("inflated-kernel", "sums-to-the-image-kernel")
def inflated_sums_to_the_image_kernel(case):
    assert_close(case().sum(axis=0), case["E_image"])


@law("inflated-kernel", "frame-order-ignored")
def inflated_frame_order_ignored(case):
    video, kernel = clip_of_tubelets(case, case["p_t"]), case()
    order = permutation(case, case["p_t"])
    moved = vivit.tubelet_embedding(video[order], kernel)
    assert_close(moved, vivit.tubelet_embedding(video, kernel))


@special("inflated-kernel", "one-frame")
def inflated_one_frame(case):
    assert np.array_equal(case(p_t=1)[0], case["E_image"])


@law("central-frame-kernel", "central-frame-only")
def central_frame_only(case):
    p_t = case["p_t"]
    video = clip_of_tubelets(case, p_t)
    expected = image_embedding(case, video[p_t // 2])
    assert_close(vivit.tubelet_embedding(video, case())[0], expected)


@law("central-frame-kernel", "static-video")
def central_frame_static_video(case):
    """On a video of equal frames the two initialisations agree."""
    p_t = case["p_t"]
    video = np.repeat(clip_of_tubelets(case, 1), p_t, axis=0)
    inflated = vivit.inflated_kernel(case["E_image"], p_t)
    assert_close(vivit.tubelet_embedding(video, case()), vivit.tubelet_embedding(video, inflated))


@special("central-frame-kernel", "second-of-two")
def central_frame_second_of_two(case):
    kernel = case(p_t=2)
    assert np.array_equal(kernel[1], case["E_image"])
    assert not np.any(kernel[0])


# --- Encoders -------------------------------------------------------------------------------------


def with_constant_positions(params):
    """Give every token the same position vector; the class token keeps its own."""
    rows = params["positions"].copy()
    start = 1 if "cls" in params else 0
    rows[start:] = rows[start]
    return {**params, "positions": rows}


@law("sequence-encoder", "order-is-in-the-positions")
def encoder_order_is_in_the_positions(case):
    order = permutation(case, case["x"].shape[-2])
    params = with_constant_positions(case["params"])
    shuffled_x = case["x"][..., order, :]
    assert_close(case(x=shuffled_x, params=params), case(params=params), within=1e-10)


@law("sequence-encoder", "position-is-added-first")
def encoder_position_is_added_first(case):
    """Positions may as well be added to the tokens beforehand."""
    params, start = case["params"], 1 if "cls" in case["params"] else 0
    moved = {**params, "positions": np.zeros_like(params["positions"])}
    if "cls" in params:
        moved["cls"] = params["cls"] + params["positions"][0]
    assert_close(case(x=case["x"] + params["positions"][start:], params=moved), case())


@special("sequence-encoder", "no-layers")
def encoder_no_layers(case):
    params = {**case["params"], "layers": []}
    if "cls" in params:
        only = (params["cls"] + params["positions"][0])[None]
        expected = encoder.layer_norm(only, **params["norm"], eps=case["eps"])[0]
        expected = np.broadcast_to(expected, case(params=params).shape)
    else:
        tokens = case["x"] + params["positions"]
        each = encoder.layer_norm(tokens, **params["norm"], eps=case["eps"])
        expected = each.mean(axis=-2)
    assert_close(case(params=params), expected)


@law("spatio-temporal-encoder", "any-order")
def joint_encoder_any_order(case):
    """Reordering tokens together with their positions changes nothing."""
    *batch, t, s, d = case["z"].shape
    order = permutation(case, t * s)
    z = case["z"].reshape(*batch, t * s, d)[..., order, :].reshape(case["z"].shape)
    rows = case["params"]["positions"]
    start = len(rows) - t * s
    rows = np.concatenate([rows[:start], rows[start:][order]])
    assert_close(case(z=z, params={**case["params"], "positions": rows}), case(), within=1e-10)


@special("spatio-temporal-encoder", "one-frame")
def joint_encoder_one_frame(case):
    *batch, t, s, d = case["z"].shape
    z = case["z"].reshape(*batch, 1, t * s, d)
    options = {k: v for k, v in case.args.items() if k != "z"}
    assert_close(case(z=z), vivit.sequence_encoder(z[..., 0, :, :], **options))


@law("factorised-encoder", "average-of-the-frames")
def factorised_encoder_average_of_the_frames(case):
    params = {"space": case["params"]["space"]}
    frames = np.moveaxis(case["z"], -3, 0)
    options = passed_on(case)
    each = [vivit.sequence_encoder(frame, params["space"], **options) for frame in frames]
    assert_close(case(params=params), sum(each) / len(each))


@law("factorised-encoder", "order-of-frames-is-in-the-positions")
def factorised_encoder_order_of_frames(case):
    params = dict(case["params"])
    if "time" in params:
        params["time"] = with_constant_positions(params["time"])
    order = permutation(case, case["z"].shape[-3])
    assert_close(
        case(z=case["z"][..., order, :, :], params=params), case(params=params), within=1e-10
    )


@law("factorised-encoder", "space-then-time")
def factorised_encoder_space_then_time(case):
    if "time" in case["params"]:
        options = passed_on(case)
        h = vivit.sequence_encoder(case["z"], case["params"]["space"], **options)
        assert_close(case(), vivit.sequence_encoder(h, case["params"]["time"], **options))


@special("factorised-encoder", "one-frame")
def factorised_encoder_one_frame(case):
    params = {"space": case["params"]["space"]}
    z = case["z"][..., :1, :, :]
    expected = vivit.sequence_encoder(z[..., 0, :, :], params["space"], **passed_on(case))
    assert_close(case(z=z, params=params), expected)


# --- Layers ---------------------------------------------------------------------------------------


def with_zero_output(params):
    """Set the output projection of attention to 0."""
    weights = dict(params["attention"])
    for name in ("W_c", "b_c"):
        if name in weights:
            weights[name] = np.zeros_like(weights[name])
    return {**params, "attention": weights}


@law("factorised-self-attention-layer", "zero-time-output")
def self_attention_layer_zero_time_output(case):
    """While attention along time adds nothing, it is a layer on each frame, in either order."""
    params = case["params"]
    initial = {**params, "time": with_zero_output(params["time"])}
    spatial: Any = {
        **params["space"],
        "norm_2": params["norm_2"],
        "feed_forward": params["feed_forward"],
    }
    expected = encoder.pre_norm_layer(case["z"], spatial, **passed_on(case))
    for order in ("time-space", "space-time"):
        assert_close(case(params=initial, order=order), expected)


def assert_permutes_frames_and_positions(case):
    t, s = case["z"].shape[-3:-1]
    frames, positions = permutation(case, t), permutation(case, s)
    reordered = case["z"][..., frames, :, :][..., positions, :]
    assert_close(case(z=reordered), case()[..., frames, :, :][..., positions, :], within=1e-10)


@law("factorised-self-attention-layer", "permute-frames-and-positions")
def self_attention_layer_permutes(case):
    assert_permutes_frames_and_positions(case)


def changed_by_one_token(case):
    """Return which tokens, `t s`, of one video change with its first token."""
    needs_generic(case)
    z = case["z"][(0,) * (case["z"].ndim - 3)]
    other = z.copy()
    other[0, 0] *= -1.0
    return np.any(case(z=other) != case(z=z), axis=-1)


@law("factorised-self-attention-layer", "global-receptive-field")
def self_attention_layer_is_global(case):
    assert np.all(changed_by_one_token(case))


@law("factorised-self-attention-layer", "zero-time-never-learns", differentiates=True)
def self_attention_layer_zero_time_never_learns(case):
    """If all weights of an attention are 0, only the bias of the output has a gradient."""
    needs_generic(case)
    zeros = tree_map(np.zeros_like, {**case["params"]["time"]["attention"]})
    cotangent = case.numbers(case["z"].shape)

    def loss(weights):
        time = {**case["params"]["time"], "attention": weights}
        params = {**case["params"], "time": time}
        return anp.sum(case.function(**{**case.args, "params": params}) * cotangent)

    for path, gradient in tree_leaves(grad(loss)(zeros)):
        assert np.any(gradient != 0.0) == (path == "b_c"), path


@special("factorised-self-attention-layer", "one-frame")
def self_attention_layer_one_frame(case):
    """With a single key the weights do not depend on queries and keys."""
    z = case["z"][..., :1, :, :]
    weights = dict(case["params"]["time"]["attention"])
    weights["W_q"] = 5.0 * weights["W_q"]
    weights["W_k"] = case.numbers(weights["W_k"].shape)
    other = {**case["params"], "time": {**case["params"]["time"], "attention": weights}}
    assert_close(case(z=z, params=other), case(z=z))


def same_position_and_same_frame(t, s):
    """Return which tokens share their position, and which their frame, each `t s` by `t s`."""
    frame, position = np.divmod(np.arange(t * s), s)
    return position[:, None] == position, frame[:, None] == frame


@law("factorised-dot-product-attention", "masked-heads")
def dot_product_masked_heads(case):
    """Each head is joint attention, masked to one position or to one frame."""
    *batch, heads, t, s, _ = case["Q"].shape
    masks = [mask for mask in same_position_and_same_frame(t, s) for _ in range(heads // 2)]
    mask = np.stack(masks if case["first"] == "time" else masks[::-1])
    Q, K, V = (case[name].reshape(*batch, heads, t * s, -1) for name in ("Q", "K", "V"))
    expected = encoder.attention(Q, K, V, mask=mask)
    assert_close(case(), expected.reshape(*batch, heads, t, s, -1))


@law("factorised-dot-product-attention", "static-video")
def dot_product_static_video(case):
    """If all frames are equal, time returns the values, and space what joint attention does."""
    arrays = {name: case[name] for name in ("Q", "K", "V")}
    still = {name: np.broadcast_to(x[..., :1, :, :], x.shape) for name, x in arrays.items()}
    half = case["Q"].shape[-4] // 2
    y = case(**still)
    in_time = slice(None, half) if case["first"] == "time" else slice(half, None)
    in_space = slice(half, None) if case["first"] == "time" else slice(None, half)
    assert_close(y[..., in_time, :, :, :], still["V"][..., in_time, :, :, :])
    *batch, heads, t, s, _ = case["Q"].shape
    Q, K, V = (x.reshape(*batch, heads, t * s, -1) for x in still.values())
    joint = encoder.attention(Q, K, V).reshape(y.shape)
    assert_close(y[..., in_space, :, :, :], joint[..., in_space, :, :, :])


@special("factorised-dot-product-attention", "one-frame-one-position")
def dot_product_one_frame_one_position(case):
    single = {name: case[name][..., :1, :1, :] for name in ("Q", "K", "V")}
    assert_close(case(**single), single["V"])


@law("factorised-dot-product-layer", "permute-frames-and-positions")
def dot_product_layer_permutes(case):
    assert_permutes_frames_and_positions(case)


@law("factorised-dot-product-layer", "masked-layer")
def dot_product_layer_is_a_masked_layer(case):
    """Its update is that of joint attention with a mask for each head."""
    params, (*batch, t, s, d) = case["params"], case["z"].shape
    weights = params["attention"]
    x = encoder.layer_norm(case["z"].reshape(*batch, t * s, d), **params["norm_1"], eps=case["eps"])
    Q, K, V = (
        encoder.qkv_projection(x, weights[f"W_{c}"], bias=weights.get(f"b_{c}")) for c in "qkv"
    )
    masks = same_position_and_same_frame(t, s)
    mask = np.stack(masks if case["first"] == "time" else masks[::-1])
    update = encoder.output_projection(
        encoder.attention(Q, K, V, mask=mask), weights["W_c"], bias=weights.get("b_c")
    )
    y = case["z"] + update.reshape(case["z"].shape)
    expected = encoder.feed_forward_sublayer(y, params, **passed_on(case))
    assert_close(case(), expected, within=1e-11)


@law("factorised-dot-product-layer", "receptive-field-is-a-cross")
def dot_product_layer_receptive_field_is_a_cross(case):
    """A token changes its position in all frames and its own frame, and nothing else."""
    changed = changed_by_one_token(case)
    assert np.all(changed[0])
    assert np.all(changed[:, 0])
    assert not np.any(changed[1:, 1:])


@special("factorised-dot-product-layer", "zero-attention-output")
def dot_product_layer_zero_attention_output(case):
    expected = encoder.feed_forward_sublayer(case["z"], case["params"], **passed_on(case))
    assert_close(case(params=with_zero_output(case["params"])), expected)
