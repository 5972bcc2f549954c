"""The usual mistakes of the pages in spec/timesformer/."""

import math

from vtnp import timesformer as right
from vtnp._array.xp import namespace
from vtnp.encoder import attention, feed_forward_sublayer
from vtnp.mistakes._registry import mistake
from vtnp.tokens import Grid

_ON_GRID = {"local", "global", "width", "height"}

# --- eq. (1) --------------------------------------------------------------------------------------


@mistake("space-time-embedding", "positions-missing")
def positions_missing(x, E, e_pos, *, bias=None):
    return right.space_time_embedding(x, E, 0.0 * e_pos, bias=bias)


@mistake("space-time-embedding", "positions-of-the-first-frame")
def positions_of_the_first_frame(x, E, e_pos, *, bias=None):
    first = namespace(e_pos).broadcast_to(e_pos[:1, ...], e_pos.shape)
    return right.space_time_embedding(x, E, first, bias=bias)


@mistake("space-time-embedding", "table-position-major")
def table_position_major(x, E, e_pos, *, bias=None):
    xp, (t, s, d) = namespace(e_pos), e_pos.shape
    table = xp.permute_dims(xp.reshape(e_pos, (s, t, d)), (1, 0, 2))
    return right.space_time_embedding(x, E, table, bias=bias)


@mistake("space-time-embedding", "bias-missing")
def bias_missing(x, E, e_pos, *, bias=None):
    return right.space_time_embedding(x, E, e_pos)


# --- Neighbourhoods -------------------------------------------------------------------------------


def _transposed(grid):
    t, h, w = grid
    return Grid(t, w, h)


def _within(other):
    """Attend within another neighbourhood."""

    def wrong(Q, K, V, *, K_cls=None, V_cls=None, grid=None):
        on_grid = {"grid": grid} if other in _ON_GRID else {}
        return right.ATTENTIONS[other](Q, K, V, K_cls=K_cls, V_cls=V_cls, **on_grid)

    return wrong


def _on_transposed_grid(attend):
    """Take rows for columns."""

    def wrong(Q, K, V, *, grid, K_cls=None, V_cls=None):
        grid = _transposed(grid)
        return right.ATTENTIONS[attend](Q, K, V, K_cls=K_cls, V_cls=V_cls, grid=grid)

    return wrong


def _class_key_missing(attend):
    def wrong(Q, K, V, *, K_cls=None, V_cls=None, **grid):
        return right.ATTENTIONS[attend](Q, K, V, **grid)

    return wrong


for _attend in right.ATTENTIONS:
    mistake(f"{_attend}-attention", "class-key-missing")(_class_key_missing(_attend))
for _attend in sorted(_ON_GRID):
    mistake(f"{_attend}-attention", "grid-transposed")(_on_transposed_grid(_attend))
mistake("space-attention", "time-for-space")(_within("time"))
mistake("time-attention", "space-for-time")(_within("space"))
mistake("joint-attention", "within-frames")(_within("space"))
mistake("global-attention", "local-for-global")(_within("local"))
mistake("width-attention", "height-for-width")(_within("height"))
mistake("height-attention", "width-for-height")(_within("width"))


def _attention_within(groups, Q, K, V, K_cls, V_cls):
    """Attend within groups, `*b groups n d`, that another rule has made of the patches."""
    Q, K, V = (groups(x) for x in (Q, K, V))
    if K_cls is None:
        return attention(Q, K, V)
    xp = namespace(Q, K, V, K_cls, V_cls)
    front = (*K.shape[:-2], 1)
    K_cls = xp.broadcast_to(K_cls[..., None, :, :], (*front, K.shape[-1]))
    V_cls = xp.broadcast_to(V_cls[..., None, :, :], (*front, V.shape[-1]))
    return attention(Q, xp.concat([K_cls, K], axis=-2), xp.concat([V_cls, V], axis=-2))


@mistake("time-attention", "reshape-for-transpose")
def reshape_for_transpose(Q, K, V, *, K_cls=None, V_cls=None):
    t, s = Q.shape[-3:-1]

    def groups(x):
        return namespace(x).reshape(x, (*x.shape[:-3], s, t, x.shape[-1]))

    Y = _attention_within(groups, Q, K, V, K_cls, V_cls)
    return namespace(Y).reshape(Y, (*Y.shape[:-3], t, s, Y.shape[-1]))


@mistake("local-attention", "single-frame")
def local_single_frame(Q, K, V, *, grid, K_cls=None, V_cls=None):
    t, h, w = grid
    frames = [
        right.local_attention(
            *(x[..., i : i + 1, :, :] for x in (Q, K, V)),
            grid=Grid(1, h, w),
            K_cls=K_cls,
            V_cls=V_cls,
        )
        for i in range(t)
    ]
    return namespace(*frames).concat(frames, axis=-3)


@mistake("global-attention", "stride-in-space-only")
def stride_in_space_only(Q, K, V, *, grid, K_cls=None, V_cls=None):
    t, h, w = grid

    def groups(x):
        """Take every second row and column, but all frames."""
        xp, d = namespace(x), x.shape[-1]
        x = xp.reshape(x, (*x.shape[:-3], t, h // 2, 2, w // 2, 2, d))
        x = xp.moveaxis(xp.moveaxis(x, -4, -6), -2, -5)
        return xp.reshape(x, (*x.shape[:-6], 4, t * h * w // 4, d))

    Y = _attention_within(groups, Q, K, V, K_cls, V_cls)
    xp, d = namespace(Y), Y.shape[-1]
    Y = xp.reshape(Y, (*Y.shape[:-3], 2, 2, t, h // 2, w // 2, d))
    Y = xp.moveaxis(xp.moveaxis(Y, -5, -2), -6, -4)
    return xp.reshape(Y, (*Y.shape[:-6], t, h * w, d))


@mistake("width-attention", "all-frames")
def width_all_frames(Q, K, V, *, grid, K_cls=None, V_cls=None):
    t, h, w = grid

    def groups(x):
        xp, d = namespace(x), x.shape[-1]
        x = xp.moveaxis(xp.reshape(x, (*x.shape[:-3], t, h, w, d)), -4, -3)
        return xp.reshape(x, (*x.shape[:-4], h, t * w, d))

    Y = _attention_within(groups, Q, K, V, K_cls, V_cls)
    xp, d = namespace(Y), Y.shape[-1]
    Y = xp.moveaxis(xp.reshape(Y, (*Y.shape[:-3], h, t, w, d)), -4, -3)
    return xp.reshape(Y, (*Y.shape[:-4], t, h * w, d))


# --- Attention of the class token -----------------------------------------------------------------


def _as_frames(x, over, grid):
    """Return the sequences that the class token attends to in turn, as if each were a frame."""
    y = right.SEQUENCES[over](x, grid)
    *batch, _, _, d = x.shape
    sequences = math.prod(y.shape[len(batch) : -2])
    return namespace(y).reshape(y, (*batch, sequences, y.shape[-2], d))


@mistake("class-attention", "sum-over-frames")
def sum_over_frames(Q_cls, K, V, *, over="space", grid=None, **key):
    y = right.class_attention(Q_cls, K, V, over=over, grid=grid, **key)
    return _as_frames(K, over, grid).shape[-3] * y


@mistake("class-attention", "first-frame-only")
def first_frame_only(Q_cls, K, V, *, over="space", grid=None, **key):
    K, V = (_as_frames(x, over, grid)[..., :1, :, :] for x in (K, V))
    return right.class_attention(Q_cls, K, V, **key)


@mistake("class-attention", "one-softmax")
def one_softmax(Q_cls, K, V, *, over="space", grid=None, **key):
    return right.class_attention(Q_cls, K, V, over="joint", **key)


@mistake("class-attention", "class-key-missing")
def class_key_missing(Q_cls, K, V, *, over="space", grid=None, K_cls=None, V_cls=None):
    return right.class_attention(Q_cls, K, V, over=over, grid=grid)


# --- One sublayer ---------------------------------------------------------------------------------


def _without_fc(params):
    return {name: value for name, value in params.items() if name != "fc"}


def _through_fc(x, params):
    """Pass tokens through fc, where there is one."""
    if "fc" not in params:
        return x
    y = x @ params["fc"]["W"]
    return y + params["fc"]["b"] if "b" in params["fc"] else y


@mistake("attention-sublayer", "fc-missing")
def fc_missing(z, cls, params, **options):
    return right.attention_sublayer(z, cls, _without_fc(params), **options)


@mistake("attention-sublayer", "fc-on-the-sum")
def fc_on_the_sum(z, cls, params, **options):
    new_z, new_cls = right.attention_sublayer(z, cls, _without_fc(params), **options)
    is_fixed = options["class_token"] in {"out", "key"}
    return _through_fc(new_z, params), new_cls if is_fixed else _through_fc(new_cls, params)


@mistake("attention-sublayer", "residual-missing")
def residual_missing(z, cls, params, **options):
    new_z, new_cls = right.attention_sublayer(z, cls, params, **options)
    return new_z - z, new_cls - cls


@mistake("attention-sublayer", "class-token-always-a-key")
def class_token_always_a_key(z, cls, params, *, class_token, **options):
    rule = "key" if class_token == "out" else class_token
    return right.attention_sublayer(z, cls, params, class_token=rule, **options)


@mistake("attention-sublayer", "class-token-always-updated")
def class_token_always_updated(z, cls, params, *, class_token, **options):
    new_z, new_cls = right.attention_sublayer(z, cls, params, class_token=class_token, **options)
    if class_token in {"out", "key"}:
        _, new_cls = right.attention_sublayer(z, cls, params, class_token="mean", **options)
    return new_z, new_cls


@mistake("attention-sublayer", "one-softmax")
def one_softmax_in_the_sublayer(z, cls, params, *, class_token, **options):
    rule = "all" if class_token == "mean" else class_token
    return right.attention_sublayer(z, cls, params, class_token=rule, **options)


@mistake("attention-sublayer", "eps-of-torch")
def eps_of_torch(z, cls, params, **options):
    return right.attention_sublayer(z, cls, params, **{**options, "eps": 1e-5})


# --- Layers ---------------------------------------------------------------------------------------


def _attended(z, cls, sublayers, grid=None, eps=1e-6):
    """Pass tokens through sublayers, each (attend, class_token, params)."""
    for attend, class_token, params in sublayers:
        z, cls = right.attention_sublayer(
            z, cls, params, attend=attend, class_token=class_token, grid=grid, eps=eps
        )
    return z, cls


def _layer(z, cls, params, sublayers, grid=None, eps=1e-6, activation="gelu", **_):
    """Pass tokens through those sublayers and the feed-forward sublayer.

    Other options of a layer, its order and its rules for the class token, are those of sublayers.
    """
    z, cls = _attended(z, cls, sublayers, grid, eps)
    return _fed_forward(z, cls, params, eps, activation)


def _of_sublayers(options):
    """Return those options of a layer that all its attentions have."""
    return {name: value for name, value in options.items() if name in {"grid", "eps"}}


def _fed_forward(z, cls, params, eps=1e-6, activation="gelu", **_):
    cls = feed_forward_sublayer(cls[..., None, :], params, eps=eps, activation=activation)[
        ..., 0, :
    ]
    return feed_forward_sublayer(z, params, eps=eps, activation=activation), cls


def _other_activation(layer, activation):
    def wrong(z, cls, params, **options):
        return layer(z, cls, params, **{**options, "activation": activation})

    return wrong


for _id, _right in {
    "space-layer": right.space_layer,
    "joint-layer": right.joint_layer,
    "divided-layer": right.divided_layer,
    "local-global-layer": right.local_global_layer,
    "axial-layer": right.axial_layer,
}.items():
    mistake(_id, "relu-for-gelu")(_other_activation(_right, "relu"))
    mistake(_id, "tanh-for-erf")(_other_activation(_right, "gelu_tanh"))


def _not_fed_forward(*rules):
    """Leave the class token out of the feed-forward sublayer. rules: (attend, class_token)."""

    def wrong(z, cls, params, **options):
        sublayers = [(a, rule, params[a] if len(rules) > 1 else params) for a, rule in rules]
        new_z, _ = _layer(z, cls, params, sublayers, **options)
        return new_z, _attended(z, cls, sublayers, **_of_sublayers(options))[1]

    return wrong


mistake("space-layer", "class-token-not-fed-forward")(_not_fed_forward(("space", "mean")))
mistake("joint-layer", "class-token-not-fed-forward")(_not_fed_forward(("joint", "mean")))
mistake("divided-layer", "class-token-not-fed-forward")(
    _not_fed_forward(("time", "out"), ("space", "mean"))
)
mistake("local-global-layer", "class-token-not-fed-forward")(
    _not_fed_forward(("local", "out"), ("global", "mean"))
)
mistake("axial-layer", "class-token-not-fed-forward")(
    _not_fed_forward(("time", "out"), ("width", "out"), ("height", "mean"))
)


def _first_frame(z, cls, params, **options):
    """Space attention whose class token attends to the first frame only."""
    options = {"attend": "space", **_of_sublayers(options)}
    new_z, _ = right.attention_sublayer(z, cls, params, class_token="key", **options)
    first = z[..., :1, :, :]
    _, cls = right.attention_sublayer(first, cls, params, class_token="mean", **options)
    return new_z, cls


def _summed(z, cls, params, **options):
    """Space attention whose class token sums over the frames instead of averaging."""
    options = {"attend": "space", **_of_sublayers(options)}
    new_z, new = right.attention_sublayer(z, cls, params, class_token="mean", **options)
    return new_z, cls + z.shape[-3] * (new - cls)


@mistake("space-layer", "one-softmax")
def space_one_softmax(z, cls, params, **options):
    return right.space_layer(z, cls, params, **{**options, "cls_in_space": "all"})


@mistake("space-layer", "class-token-of-the-first-frame")
def space_first_frame(z, cls, params, **options):
    z, cls = _first_frame(z, cls, params, **options)
    return _fed_forward(z, cls, params, **options)


@mistake("space-layer", "class-token-summed")
def space_summed(z, cls, params, **options):
    z, cls = _summed(z, cls, params, **options)
    return _fed_forward(z, cls, params, **options)


@mistake("joint-layer", "within-frames")
def joint_within_frames(z, cls, params, **options):
    return right.space_layer(z, cls, params, **options)


@mistake("joint-layer", "class-token-not-a-key")
def joint_class_token_not_a_key(z, cls, params, **options):
    new_z, _ = _layer(z, cls, params, [("joint", "out", params)], **options)
    return new_z, right.joint_layer(z, cls, params, **options)[1]


def _divided(**changed):
    def wrong(z, cls, params, **options):
        return right.divided_layer(z, cls, params, **{**options, **changed})

    return wrong


mistake("divided-layer", "space-then-time")(_divided(order="space-time"))
mistake("divided-layer", "class-key-in-time")(_divided(cls_in_time="key"))
mistake("divided-layer", "class-token-updated-in-time")(_divided(cls_in_time="mean"))
mistake("divided-layer", "one-softmax")(_divided(cls_in_space="all"))


@mistake("divided-layer", "parallel")
def parallel(z, cls, params, **options):
    sublayer, of_both = right.attention_sublayer, _of_sublayers(options)
    x, _ = sublayer(z, cls, params["time"], attend="time", class_token="out", **of_both)
    y, cls = sublayer(z, cls, params["space"], attend="space", class_token="mean", **of_both)
    return _fed_forward(x + y - z, cls, params, **options)


@mistake("divided-layer", "fc-missing")
def divided_fc_missing(z, cls, params, **options):
    return right.divided_layer(z, cls, {**params, "time": _without_fc(params["time"])}, **options)


def _divided_with(*, time=right.attention_sublayer, space=None):
    """Divided attention with another sublayer in time, or in space."""

    def wrong(z, cls, params, **options):
        of_both = _of_sublayers(options)
        y = time(z, cls, params["time"], attend="time", class_token="out", **of_both)[0]
        if space is None:
            rest = [("space", "mean", params["space"])]
            return _layer(y, cls, params, rest, **options)
        y, cls = space(y, cls, params["space"], **of_both)
        return _fed_forward(y, cls, params, **options)

    return wrong


mistake("divided-layer", "fc-on-the-sum")(_divided_with(time=fc_on_the_sum))
mistake("divided-layer", "time-residual-missing")(_divided_with(time=residual_missing))
mistake("divided-layer", "class-token-of-the-first-frame")(_divided_with(space=_first_frame))
mistake("divided-layer", "class-token-summed")(_divided_with(space=_summed))


def _exchanged(params, one, other):
    """Exchange the weights of two sublayers; fc stays where it is."""
    swapped = {one: {**params[one]}, other: {**params[other]}}
    for name in ("norm_1", "attention"):
        swapped[one][name], swapped[other][name] = params[other][name], params[one][name]
    return {**params, **swapped}


@mistake("divided-layer", "weights-exchanged")
def divided_weights_exchanged(z, cls, params, **options):
    return right.divided_layer(z, cls, _exchanged(params, "time", "space"), **options)


@mistake("divided-layer", "norm-shared")
def norm_shared(z, cls, params, **options):
    shared = {**params["time"], "norm_1": params["space"]["norm_1"]}
    return right.divided_layer(z, cls, {**params, "time": shared}, **options)


@mistake("local-global-layer", "global-first")
def global_first(z, cls, params, *, grid, **options):
    sublayers = [("global", "mean", params["global"]), ("local", "out", params["local"])]
    return _layer(z, cls, params, sublayers, grid=grid, **options)


@mistake("local-global-layer", "fc-missing")
def local_global_fc_missing(z, cls, params, **options):
    bare = {**params, "local": _without_fc(params["local"])}
    return right.local_global_layer(z, cls, bare, **options)


@mistake("local-global-layer", "grid-transposed")
def local_global_grid_transposed(z, cls, params, *, grid, **options):
    return right.local_global_layer(z, cls, params, grid=_transposed(grid), **options)


@mistake("local-global-layer", "weights-exchanged")
def local_global_weights_exchanged(z, cls, params, **options):
    exchanged = _exchanged(params, "local", "global")
    return right.local_global_layer(z, cls, exchanged, **options)


@mistake("axial-layer", "height-before-width")
def height_before_width(z, cls, params, *, grid, **options):
    rules = {"time": "out", "height": "out", "width": "mean"}
    sublayers = [(attend, rule, params[attend]) for attend, rule in rules.items()]
    return _layer(z, cls, params, sublayers, grid=grid, **options)


@mistake("axial-layer", "axis-missing")
def axis_missing(z, cls, params, *, grid, **options):
    sublayers = [("time", "out", params["time"]), ("height", "mean", params["height"])]
    return _layer(z, cls, params, sublayers, grid=grid, **options)


@mistake("axial-layer", "grid-transposed")
def axial_grid_transposed(z, cls, params, *, grid, **options):
    return right.axial_layer(z, cls, params, grid=_transposed(grid), **options)


@mistake("axial-layer", "fc-missing")
def axial_fc_missing(z, cls, params, **options):
    bare = {attend: _without_fc(params[attend]) for attend in ("time", "width")}
    return right.axial_layer(z, cls, {**params, **bare}, **options)
