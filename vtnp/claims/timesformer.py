"""Laws and special cases of spec/timesformer/."""

from dataclasses import replace

import numpy as np

from vtnp import encoder, timesformer
from vtnp._array.trees import tree_map
from vtnp.claims._registry import law, special
from vtnp.claims.common import needs_generic, passed_on
from vtnp.claims.compare import assert_at_most, assert_close, difference, refused
from vtnp.tokens import Grid

TOKENS = ("Q", "K", "V")


# --- What the laws are made of --------------------------------------------------------------------


def allowed(attend, grid, t, s):
    """Return which patch may attend to which, `t s t s`: those alike in all that the page names."""
    t, h, w = grid or (t, 1, s)
    frame, row, column = (axis.reshape(t, s) for axis in np.indices((t, h, w)))
    alike = {
        "space": (frame,),
        "time": (row, column),
        "joint": (),
        "local": (row < h / 2, column < w / 2),
        "global": (frame % 2, row % 2, column % 2),
        "width": (frame, row),
        "height": (frame, column),
    }
    mask = np.ones((t, s, t, s), bool)
    for of_patch in alike[attend]:
        mask &= of_patch[:, :, None, None] == of_patch
    return mask


def flat(x):
    """`*b t s d` as `*b (t s) d`."""
    return x.reshape(*x.shape[:-3], -1, x.shape[-1])


def on_grid(x, grid):
    """`*b t s d` as `*b t h w d`."""
    return x.reshape(*x.shape[:-2], grid.h, grid.w, x.shape[-1])


def off_grid(x):
    """`*b t h w d` as `*b t s d`."""
    return x.reshape(*x.shape[:-3], -1, x.shape[-1])


def changed(case, f, names=TOKENS):
    """Return the arguments of these names after f."""
    return {name: f(case[name]) for name in names}


def resized(case, t, s, **others):
    """Return new queries, keys and values of other sizes, without a class token."""
    shapes = {name: (*case[name].shape[:-3], t, s, case[name].shape[-1]) for name in TOKENS}
    tokens = {name: case.numbers(shape) for name, shape in shapes.items()}
    return {**tokens, "K_cls": None, "V_cls": None, **others}


def permuted(x, order, axis):
    return np.take(x, order, axis=axis)


def own_orders(case, x, axis):
    """Return a function that permutes one axis of `t s`, differently at each index of the other."""
    shape = x.shape[-3], x.shape[-2]
    order = np.argsort(case.rng.random(shape), axis=axis + 1)

    def reorder(x):
        where = np.broadcast_to(order[..., None], x.shape)
        return np.take_along_axis(x, where, axis=axis)

    return reorder


def without_fc(params):
    """Return a sublayer's params with fc multiplied into the output projection."""
    weights, fc = params["attention"], params["fc"]
    folded = {"W_c": weights["W_c"] @ fc["W"]}
    b = weights["b_c"] @ fc["W"] if "b_c" in weights else np.zeros(fc["W"].shape[1])
    folded["b_c"] = b + fc.get("b", 0.0)
    return {"norm_1": params["norm_1"], "attention": weights | folded}


def zeroed(params, *names):
    """Return params with the named parts all 0."""
    zeros = {name: tree_map(np.zeros_like, params[name]) for name in names}
    return {**params, **zeros}


def projected_to_zero(sublayer):
    """Return a sublayer's params with which it adds 0."""
    weights = sublayer["attention"]
    zeros = {name: 0.0 * x for name, x in weights.items() if name in {"W_c", "b_c"}}
    sublayer = {**sublayer, "attention": {**weights, **zeros}}
    return zeroed(sublayer, "fc") if "fc" in sublayer else sublayer


def with_zero_sublayers(params):
    """Return a layer's params with which every sublayer adds 0."""
    network = tree_map(np.zeros_like, params["feed_forward"])
    if "attention" in params:
        return {**projected_to_zero(params), "feed_forward": network}
    sublayers = {k: projected_to_zero(v) for k, v in params.items() if "attention" in v}
    return {**params, **sublayers, "feed_forward": network}


def sequence(z, cls):
    """Return the class token and all patches as one sequence."""
    return np.concatenate([cls[..., None, :], flat(z)], axis=-2)


def split_sequence(tokens, like):
    """Return patches and class token of such a sequence."""
    return tokens[..., 1:, :].reshape(like.shape), tokens[..., 0, :]


# --- eq. (1) --------------------------------------------------------------------------------------


@law("space-time-embedding", "positions-add")
def embedding_positions_add(case):
    assert_close(
        case() - case(e_pos=0 * case["e_pos"]), np.broadcast_to(case["e_pos"], case().shape)
    )


@law("space-time-embedding", "each-patch-alone")
def embedding_each_patch_alone(case):
    x = case["x"].copy()
    x[..., 1:, :, :] = case.numbers(x[..., 1:, :, :].shape)
    x[..., 1:, :] = case.numbers(x[..., 1:, :].shape)
    assert_close(case(x=x)[..., 0, 0, :], case()[..., 0, 0, :])


@law("space-time-embedding", "bias-is-a-position")
def embedding_bias_is_a_position(case):
    bias = case.numbers(case["E"].shape[1])
    assert_close(case(bias=bias), case(bias=None, e_pos=case["e_pos"] + bias))


@special("space-time-embedding", "black-patches")
def embedding_black_patches(case):
    z = case(x=0 * case["x"], bias=None)
    assert np.array_equal(z, np.broadcast_to(case["e_pos"], z.shape))


# --- Neighbourhoods -------------------------------------------------------------------------------


@law("space-attention", "masked-joint")
@law("time-attention", "masked-joint")
@law("joint-attention", "masked-joint")
@law("local-attention", "masked-joint")
@law("global-attention", "masked-joint")
@law("width-attention", "masked-joint")
@law("height-attention", "masked-joint")
def masked_joint(case):
    attend, (t, s) = case.id.removesuffix("-attention"), case["Q"].shape[-3:-1]
    mask = allowed(attend, case.args.get("grid"), t, s).reshape(t * s, t * s)
    K, V = flat(case["K"]), flat(case["V"])
    if "K_cls" in case.args:
        K = np.concatenate([case["K_cls"], K], axis=-2)
        V = np.concatenate([case["V_cls"], V], axis=-2)
        mask = np.concatenate([np.ones((t * s, 1), bool), mask], axis=-1)
    Y = encoder.attention(flat(case["Q"]), K, V, mask=mask)
    assert_close(flat(case()), Y)


@law("space-attention", "others-do-not-matter")
@law("time-attention", "others-do-not-matter")
@law("local-attention", "others-do-not-matter")
@law("global-attention", "others-do-not-matter")
@law("width-attention", "others-do-not-matter")
@law("height-attention", "others-do-not-matter")
def others_do_not_matter(case):
    attend, (t, s) = case.id.removesuffix("-attention"), case["Q"].shape[-3:-1]
    i, j = case.rng.integers(t), case.rng.integers(s)
    mine = allowed(attend, case.args.get("grid"), t, s)[i, j][..., None]
    other = changed(case, lambda x: np.where(mine, x, case.numbers(x.shape)), "KV")
    assert_close(case(**other)[..., i, j, :], case()[..., i, j, :])


@law("space-attention", "within-values")
@law("time-attention", "within-values")
@law("joint-attention", "within-values")
@law("local-attention", "within-values")
@law("global-attention", "within-values")
@law("width-attention", "within-values")
@law("height-attention", "within-values")
def within_values(case):
    attend, (t, s) = case.id.removesuffix("-attention"), case["Q"].shape[-3:-1]
    mask, V, Y = allowed(attend, case.args.get("grid"), t, s), case["V"], case()
    for i, j in np.ndindex(t, s):
        values = V[..., mask[i, j], :]
        if "V_cls" in case.args:
            values = np.concatenate([values, case["V_cls"]], axis=-2)
        assert_at_most(values.min(axis=-2), Y[..., i, j, :])
        assert_at_most(Y[..., i, j, :], values.max(axis=-2))


@law("space-attention", "permute-positions")
def space_permute_positions(case):
    reorder = own_orders(case, case["Q"], -2)
    assert_close(case(**changed(case, reorder)), reorder(case()))


@law("space-attention", "permute-frames")
@law("local-attention", "permute-frames")
def permute_frames(case):
    order = case.rng.permutation(case["Q"].shape[-3])
    moved = changed(case, lambda x: permuted(x, order, -3))
    assert_close(case(**moved), permuted(case(), order, -3))


@law("time-attention", "permute-frames")
def time_permute_frames(case):
    reorder = own_orders(case, case["Q"], -3)
    assert_close(case(**changed(case, reorder)), reorder(case()))


@law("time-attention", "replicate-frames")
def time_replicate_frames(case):
    alone = case(K_cls=None, V_cls=None)
    twice = changed(case, lambda x: np.concatenate([x, x], axis=-3))
    again = case(**twice, K_cls=None, V_cls=None)
    assert_close(again, np.concatenate([alone, alone], axis=-3))


@law("joint-attention", "permute-patches")
def joint_permute_patches(case):
    t, s = case["Q"].shape[-3:-1]
    order = case.rng.permutation(t * s)

    def reorder(x):
        return flat(x)[..., order, :].reshape(x.shape)

    assert_close(case(**changed(case, reorder)), reorder(case()))


@law("local-attention", "mirrored")
@law("global-attention", "mirrored")
def mirrored(case):
    def mirror(x):
        return off_grid(on_grid(x, case["grid"])[..., ::-1, ::-1, ::-1, :])

    assert_close(case(**changed(case, mirror)), mirror(case()))


@law("global-attention", "shift-frames")
def global_shift_frames(case):
    shifted = changed(case, lambda x: np.roll(x, 1, axis=-3))
    assert_close(case(**shifted), np.roll(case(), 1, axis=-3))


@law("width-attention", "permute-columns")
def width_permute_columns(case):
    order = case.rng.permutation(case["grid"].w)

    def reorder(x):
        return off_grid(permuted(on_grid(x, case["grid"]), order, -2))

    assert_close(case(**changed(case, reorder)), reorder(case()))


@law("height-attention", "permute-rows")
def height_permute_rows(case):
    order = case.rng.permutation(case["grid"].h)

    def reorder(x):
        return off_grid(permuted(on_grid(x, case["grid"]), order, -3))

    assert_close(case(**changed(case, reorder)), reorder(case()))


def transposed(x, grid):
    """Swap rows and columns of patches `*b t s d`."""
    return off_grid(np.swapaxes(on_grid(x, grid), -3, -2))


def transposed_grid(grid):
    return Grid(grid.t, grid.w, grid.h)


@law("width-attention", "transposed-is-height")
def width_transposed(case):
    grid = case["grid"]
    tokens = changed(case, lambda x: transposed(x, grid))
    args = {**case.args, **tokens, "grid": transposed_grid(grid)}
    assert_close(transposed(case(), grid), timesformer.height_attention(**args))


@law("height-attention", "transposed-is-width")
def height_transposed(case):
    grid = case["grid"]
    tokens = changed(case, lambda x: transposed(x, grid))
    args = {**case.args, **tokens, "grid": transposed_grid(grid)}
    assert_close(transposed(case(), grid), timesformer.width_attention(**args))


def assert_attends_to_itself(case, t, s, **grid):
    """Alone in its neighbourhood, every patch gets its own value."""
    args = resized(case, t, s, **grid)
    assert np.array_equal(case(**args), args["V"])


@special("space-attention", "single-position")
def space_single_position(case):
    assert_attends_to_itself(case, 3, 1)


@special("time-attention", "single-frame")
def time_single_frame(case):
    assert_attends_to_itself(case, 1, 3)


@special("global-attention", "two-by-two-by-two")
def global_two_by_two_by_two(case):
    assert_attends_to_itself(case, 2, 4, grid=(2, 2, 2))


@special("width-attention", "single-column")
def width_single_column(case):
    assert_attends_to_itself(case, 2, 3, grid=(2, 3, 1))


@special("height-attention", "single-row")
def height_single_row(case):
    assert_attends_to_itself(case, 2, 3, grid=(2, 1, 3))


@special("joint-attention", "single-frame")
def joint_single_frame(case):
    first = changed(case, lambda x: x[..., :1, :, :])
    expected = timesformer.space_attention(**{**case.args, **first})
    assert_close(case(**first), expected)


@special("local-attention", "two-by-two")
def local_two_by_two(case):
    args = resized(case, 3, 4)
    assert_close(case(**args, grid=(3, 2, 2)), timesformer.time_attention(**args))


@special("local-attention", "odd-grid", refuses=True)
def local_odd_grid(case):
    with refused(r"local-attention .*: expected grid\.h % 2 == grid\.w % 2 == 0"):
        case(**resized(case, 2, 6, grid=(2, 2, 3)))


@special("global-attention", "odd-sizes", refuses=True)
def global_odd_sizes(case):
    with refused(r"global-attention .*: expected grid\.t % 2 == grid\.h % 2 == grid\.w % 2 == 0"):
        case(**resized(case, 3, 4, grid=(3, 2, 2)))


# --- Attention of the class token -----------------------------------------------------------------


@law("class-attention", "within-values")
def class_within_values(case):
    values = flat(case["V"])
    if "V_cls" in case.args:
        values = np.concatenate([values, case["V_cls"]], axis=-2)
    y = case()
    assert_at_most(values.min(axis=-2, keepdims=True), y)
    assert_at_most(y, values.max(axis=-2, keepdims=True))


@law("class-attention", "average-of-frames")
def class_average_of_frames(case):
    t = case["K"].shape[-3]
    frames = [
        case(
            over="space",
            grid=None,
            K=case["K"][..., i : i + 1, :, :],
            V=case["V"][..., i : i + 1, :, :],
        )
        for i in range(t)
    ]
    assert_close(case(over="space", grid=None), sum(frames) / t)


@law("class-attention", "shift-frames")
def class_shift_frames(case):
    shifted = changed(case, lambda x: np.roll(x, 1, axis=-3), "KV")
    assert_close(case(**shifted), case())


@law("class-attention", "replicate-frames")
def class_replicate_frames(case):
    twice = changed(case, lambda x: np.concatenate([x, x], axis=-3), "KV")
    frames = {"over": "space", "grid": None}
    assert_close(case(**twice, **frames), case(**frames))


@special("class-attention", "joint")
def class_joint(case):
    K, V = flat(case["K"]), flat(case["V"])
    if "K_cls" in case.args:
        K = np.concatenate([case["K_cls"], K], axis=-2)
        V = np.concatenate([case["V_cls"], V], axis=-2)
    assert_close(case(over="joint", grid=None), encoder.attention(case["Q_cls"], K, V))


@special("class-attention", "single-frame")
def class_single_frame(case):
    first = changed(case, lambda x: x[..., :1, :, :], "KV")
    assert_close(case(**first, over="space", grid=None), case(**first, over="joint", grid=None))


# --- One sublayer ---------------------------------------------------------------------------------


@law("attention-sublayer", "fc-folds")
def sublayer_fc_folds(case):
    d = case["z"].shape[-1]
    fc = {"W": case.numbers((d, d)), "b": case.numbers(d)}
    params = {**case["params"], "fc": fc}
    assert_close(case(params=params), case(params=without_fc(params)), within=1e-11)


@law("attention-sublayer", "key-bias-is-invisible")
def sublayer_key_bias_is_invisible(case):
    weights = case["params"]["attention"]
    heads, _, d_h = weights["W_k"].shape
    b_k = case.numbers((heads, d_h))
    params = {**case["params"], "attention": {**weights, "b_k": b_k}}
    unbiased = {**case["params"], "attention": {**weights, "b_k": 0 * b_k}}
    assert_close(case(params=params), case(params=unbiased), within=1e-11)


@law("attention-sublayer", "rules-agree-on-patches")
def sublayer_rules_agree_on_patches(case):
    z, _ = case(class_token="key")
    for rule in ("mean", "all"):
        assert_close(case(class_token=rule)[0], z)


@law("attention-sublayer", "others-do-not-matter")
def sublayer_others_do_not_matter(case):
    t, s = case["z"].shape[-3:-1]
    i, j = case.rng.integers(t), case.rng.integers(s)
    mine = allowed(case["attend"], case.args.get("grid"), t, s)[i, j][..., None]
    z = np.where(mine, case["z"], case.numbers(case["z"].shape))
    assert_close(case(z=z)[0][..., i, j, :], case()[0][..., i, j, :])


@law("attention-sublayer", "shift-frames")
def sublayer_shift_frames(case):
    z, cls = case()
    assert_close(case(z=np.roll(case["z"], 1, axis=-3)), (np.roll(z, 1, axis=-3), cls))


@special("attention-sublayer", "class-token-stays")
def sublayer_class_token_stays(case):
    for rule in ("out", "key"):
        assert np.array_equal(case(class_token=rule)[1], case["cls"])
    other = case.numbers(case["cls"].shape)
    assert np.array_equal(case(class_token="out", cls=other)[0], case(class_token="out")[0])


@special("attention-sublayer", "zero-output-projection")
def sublayer_zero_output_projection(case):
    z, cls = case(params=projected_to_zero(case["params"]))
    assert np.array_equal(z, case["z"])
    assert np.array_equal(cls, case["cls"])


@special("attention-sublayer", "single-frame")
def sublayer_single_frame(case):
    """With one frame, time attention returns each token's own value, whatever queries and keys."""
    z = case["z"][..., :1, :, :]
    weights = case["params"]["attention"]
    values = encoder.qkv_projection(
        encoder.layer_norm(flat(z), **case["params"]["norm_1"], eps=case["eps"]),
        weights["W_v"], bias=weights.get("b_v"),
    )  # fmt: skip
    update = encoder.output_projection(values, weights["W_c"], bias=weights.get("b_c"))
    if "fc" in case["params"]:
        update = update @ case["params"]["fc"]["W"] + case["params"]["fc"].get("b", 0.0)
    result, _ = case(z=z, attend="time", class_token="out", grid=None)
    assert_close(result, z + update.reshape(z.shape))


# --- Layers ---------------------------------------------------------------------------------------


def assert_equivariant(case, f, **others):
    """Assert that f of the patches makes f of the result and leaves the class token."""
    z, cls = case()
    assert_close(case(z=f(case["z"]), **others), (f(z), cls), within=1e-11)


@law("space-layer", "permute-frames")
@law("divided-layer", "permute-frames")
@law("axial-layer", "permute-frames")
def layer_permute_frames(case):
    order = case.rng.permutation(case["z"].shape[-3])
    assert_equivariant(case, lambda x: permuted(x, order, -3))


@law("divided-layer", "permute-positions")
def layer_permute_positions(case):
    order = case.rng.permutation(case["z"].shape[-2])
    assert_equivariant(case, lambda x: permuted(x, order, -2))


@law("space-layer", "permute-positions")
def space_layer_permute_positions(case):
    assert_equivariant(case, own_orders(case, case["z"], -2))


@law("joint-layer", "permute-patches")
def joint_layer_permute_patches(case):
    order = case.rng.permutation(flat(case["z"]).shape[-2])
    assert_equivariant(case, lambda x: flat(x)[..., order, :].reshape(x.shape))


@law("axial-layer", "permute-rows-and-columns")
def axial_layer_permute_rows_and_columns(case):
    rows, columns = (case.rng.permutation(n) for n in case["grid"][1:])

    def reorder(x):
        return off_grid(permuted(permuted(on_grid(x, case["grid"]), rows, -3), columns, -2))

    assert_equivariant(case, reorder)


@law("local-global-layer", "shift-frames")
def local_global_layer_shift_frames(case):
    assert_equivariant(case, lambda x: np.roll(x, 1, axis=-3))


@law("local-global-layer", "mirrored")
def local_global_layer_mirrored(case):
    assert_equivariant(case, lambda x: off_grid(on_grid(x, case["grid"])[..., ::-1, ::-1, ::-1, :]))


@special("space-layer", "zero-sublayers")
@special("joint-layer", "zero-sublayers")
@special("divided-layer", "zero-sublayers")
@special("local-global-layer", "zero-sublayers")
@special("axial-layer", "zero-sublayers")
def layer_of_zero_sublayers(case):
    z, cls = case(params=with_zero_sublayers(case["params"]))
    assert np.array_equal(z, case["z"])
    assert np.array_equal(cls, case["cls"])


@law("divided-layer", "fc-folds")
@law("local-global-layer", "fc-folds")
@law("axial-layer", "fc-folds")
def extra_fc_folds(case):
    params = {k: without_fc(v) if "fc" in v else v for k, v in case["params"].items()}
    assert params != case["params"]
    assert_close(case(params=params), case(), within=1e-11)


def with_default_class_token(case):
    """Return the case with the formula's default rules for the class token."""
    rules = {k: v for k, v in case.args.items() if not k.startswith("cls_in_")}
    return replace(case, args=rules)


@law("divided-layer", "reaches-everything")
@law("axial-layer", "reaches-everything")
def reaches_everything(case):
    """Change one patch: every patch and the class token change."""
    needs_generic(case)
    case = with_default_class_token(case)
    z = case["z"].copy()
    i, j = case.rng.integers(z.shape[-3]), case.rng.integers(z.shape[-2])
    z[..., i, j, :] = case.numbers(z[..., i, j, :].shape)
    for after, before in zip(case(z=z), case(), strict=True):
        assert np.all(np.max(np.abs(after - before), axis=-1) > 0.0)


@law("local-global-layer", "reaches-everything")
def local_global_layer_reaches_everything(case):
    """Four rows and four columns: every quarter has even and odd ones of both."""
    *batch, _, _, d = case["z"].shape
    z = case.numbers((*batch, 2, 16, d))
    reaches_everything(case.with_args(z=z, grid=(2, 4, 4)))


@law("space-layer", "frames-independent")
def space_layer_frames_independent(case):
    z = case["z"].copy()
    z[..., 1:, :, :] = case.numbers(z[..., 1:, :, :].shape)
    assert_close(case(z=z)[0][..., 0, :, :], case()[0][..., 0, :, :])


@law("space-layer", "frames-as-batch")
def space_layer_frames_as_batch(case):
    z, cls = case["z"], case["cls"]
    each = np.broadcast_to(cls[..., None, :], (*z.shape[:-2], z.shape[-1]))
    frames = case(z=z[..., None, :, :], cls=each)[0]
    assert_close(frames[..., 0, :, :], case()[0])


def assert_is_pre_norm_layer(case, z):
    tokens = sequence(z, case["cls"])
    tokens = encoder.pre_norm_layer(tokens, case["params"], **passed_on(case))
    assert_close(case(z=z), split_sequence(tokens, z))


@law("joint-layer", "pre-norm-layer")
def joint_layer_is_pre_norm_layer(case):
    assert_is_pre_norm_layer(case, case["z"])


@special("space-layer", "single-frame")
def space_layer_single_frame(case):
    case = with_default_class_token(case)
    assert_is_pre_norm_layer(case, case["z"][..., :1, :, :])


# --- Divided space-time attention -----------------------------------------------------------------


def without_time(params):
    """fc = 0: time attention adds nothing, as when training starts from an image model."""
    return {**params, "time": zeroed(params["time"], "fc")}


def as_image(params):
    """Return the params of the image model's layer: those of the video model's without time."""
    return params["space"] | {name: params[name] for name in ("norm_2", "feed_forward")}


@law("divided-layer", "replicate-clip")
def divided_replicate_clip(case):
    case = with_default_class_token(case)
    z, cls = case()
    again = np.concatenate([case["z"], case["z"]], axis=-3)
    assert_close(case(z=again), (np.concatenate([z, z], axis=-3), cls), within=1e-11)


@law("divided-layer", "static-clip-is-image")
def divided_static_clip_is_image(case):
    case = with_default_class_token(case)
    frame = case["z"][..., :1, :, :]
    static = np.broadcast_to(frame, case["z"].shape)
    params = without_time(case["params"])
    options = passed_on(case)
    image = timesformer.space_layer(frame, case["cls"], as_image(params), **options)
    z, cls = case(z=static, params=params)
    assert_close(cls, image[1])
    assert_close(z, np.broadcast_to(image[0], z.shape))


@law("divided-layer", "class-token-is-mean-of-frames")
def divided_class_token_is_mean_of_frames(case):
    case = with_default_class_token(case)
    params, z = without_time(case["params"]), case["z"]
    of_frames = [
        timesformer.attention_sublayer(
            z[..., i : i + 1, :, :],
            case["cls"],
            params["space"],
            attend="space",
            class_token="mean",
            eps=case["eps"],
        )[1]
        for i in range(z.shape[-3])
    ]
    mean = sum(of_frames) / len(of_frames)
    expected = encoder.feed_forward_sublayer(mean[..., None, :], params, **passed_on(case))
    assert_close(case(params=params)[1], expected[..., 0, :])


@law("divided-layer", "two-masked-attentions")
def divided_two_masked_attentions(case):
    """Time and space attention of the patches as masked attention over all patches."""
    case = with_default_class_token(case).with_args(order="time-space")
    z, params, eps = case["z"], case["params"], case["eps"]
    t, s = z.shape[-3:-1]
    same = {name: allowed(name, None, t, s).reshape(t * s, t * s) for name in ("time", "space")}
    time, space = params["time"], params["space"]
    normalised = encoder.layer_norm(flat(z), **time["norm_1"], eps=eps)
    r = encoder.multi_head_self_attention(normalised, **time["attention"], mask=same["time"])
    y = flat(z) + r @ time["fc"]["W"] + time["fc"].get("b", 0.0)
    tokens = np.concatenate([case["cls"][..., None, :], y], axis=-2)
    normalised = encoder.layer_norm(tokens, **space["norm_1"], eps=eps)
    mask = np.concatenate([np.ones((t * s, 1), bool), same["space"]], axis=-1)
    y = y + encoder.cross_attention(
        normalised[..., 1:, :], normalised, **space["attention"], mask=mask
    )
    expected = encoder.feed_forward_sublayer(y, params, **passed_on(case))
    assert_close(flat(case()[0]), expected, within=1e-11)


@special("divided-layer", "single-frame")
def divided_single_frame(case):
    """With one frame, queries and keys of time attention do not matter, but its values do."""
    case = with_default_class_token(case)
    frame = case["z"][..., :1, :, :]
    time = case["params"]["time"]
    other = {
        name: case.numbers(x.shape) if name in {"W_q", "W_k", "b_q", "b_k"} else x
        for name, x in time["attention"].items()
    }
    params = {**case["params"], "time": {**time, "attention": other}}
    assert_close(case(z=frame, params=params), case(z=frame))
    needs_generic(case)
    assert difference(case(z=frame, params=without_time(params))[0], case(z=frame)[0]) > 1e-6


# --- Axial attention ------------------------------------------------------------------------------


@law("axial-layer", "transposed")
def axial_transposed(case):
    """On the transposed video: time, height, width, with the params of width and height swapped."""
    case = with_default_class_token(case)
    params, grid, eps = case["params"], transposed_grid(case["grid"]), case["eps"]
    z, cls = transposed(case["z"], case["grid"]), case["cls"]
    sublayer = timesformer.attention_sublayer
    z, cls = sublayer(z, cls, params["time"], attend="time", class_token="out", eps=eps)
    options = {"grid": grid, "eps": eps}
    z, cls = sublayer(z, cls, params["width"], attend="height", class_token="out", **options)
    z, cls = sublayer(z, cls, params["height"], attend="width", class_token="mean", **options)
    expected = (
        encoder.feed_forward_sublayer(z, params, **passed_on(case)),
        encoder.feed_forward_sublayer(cls[..., None, :], params, **passed_on(case))[..., 0, :],
    )
    z, cls = case()
    assert_close((transposed(z, case["grid"]), cls), expected, within=1e-11)
