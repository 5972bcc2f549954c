"""TimeSformer: its embedding, eq. (1), and its five schemes of attention, Fig. 4-5."""

from collections.abc import Callable, Mapping
from typing import Any, NotRequired, TypedDict

from vtnp._array.typing import Array, Float
from vtnp._array.xp import namespace, plus_bias
from vtnp._neighbourhoods import NAMES, ON_GRID, grouped, ungrouped
from vtnp._registry.errors import require
from vtnp._registry.params import AtLeast
from vtnp._registry.spec import spec
from vtnp.encoder import (
    FeedForwardParams,
    FeedForwardSublayerParams,
    LayerParams,
    NormParams,
    SelfAttentionSublayerParams,
    attention,
    feed_forward_sublayer,
    layer_norm,
    output_projection,
    qkv_projection,
)
from vtnp.positions import learned_positions
from vtnp.tokens import linear_embedding


@spec("space-time-embedding")
def space_time_embedding(
    x: Float[Array, "*b t s p"],
    E: Float[Array, "p d"],
    e_pos: Float[Array, "t s d"],
    *,
    bias: Float[Array, " d"] | None = None,
) -> Float[Array, "*b t s d"]:
    """Embed every patch and tell it where and when it is.

    z[t,s] = E^T x[t,s] + bias + e_pos[t,s]

    x: patches, flattened. E, bias: the embedding; without a bias, none is added. e_pos: one vector
    for each place of each frame.
    Raises ShapeError.
    Notes: published checkpoints have e_pos[t,s] = e_space[s] + e_time[t] (page, Deviations).
    """
    return learned_positions(linear_embedding(x, E, bias=bias), e_pos)


@spec("space-attention")
def space_attention(
    Q: Float[Array, "*b t s d_k"],
    K: Float[Array, "*b t s d_k"],
    V: Float[Array, "*b t s d_v"],
    *,
    K_cls: Float[Array, "*b 1 d_k"] | None = None,
    V_cls: Float[Array, "*b 1 d_v"] | None = None,
) -> Float[Array, "*b t s d_v"]:
    """Let every patch read the patches of its own frame.

    Y[t,s] = sum_s' softmax_s'(<Q[t,s], K[t,s']> / sqrt(d_k)) V[t,s']

    Q, K, V: queries, keys and values of the patches; heads ride in the batch axes. K_cls, V_cls:
    the class token's, one more key for every query; given both or neither.
    Raises ShapeError; FormulaError.
    """
    return _attention_within("space", Q, K, V, K_cls, V_cls)


@spec("time-attention")
def time_attention(
    Q: Float[Array, "*b t s d_k"],
    K: Float[Array, "*b t s d_k"],
    V: Float[Array, "*b t s d_v"],
    *,
    K_cls: Float[Array, "*b 1 d_k"] | None = None,
    V_cls: Float[Array, "*b 1 d_v"] | None = None,
) -> Float[Array, "*b t s d_v"]:
    """Let every patch read the patches at its own place in all frames.

    Y[t,s] = sum_t' softmax_t'(<Q[t,s], K[t',s]> / sqrt(d_k)) V[t',s]

    Q, K, V, K_cls, V_cls: as in space-attention.
    Raises ShapeError; FormulaError.
    Notes: the paper has the class token among the keys, the published models have not.
    """
    return _attention_within("time", Q, K, V, K_cls, V_cls)


@spec("joint-attention")
def joint_attention(
    Q: Float[Array, "*b t s d_k"],
    K: Float[Array, "*b t s d_k"],
    V: Float[Array, "*b t s d_v"],
    *,
    K_cls: Float[Array, "*b 1 d_k"] | None = None,
    V_cls: Float[Array, "*b 1 d_v"] | None = None,
) -> Float[Array, "*b t s d_v"]:
    """Let every patch read all patches of all frames.

    Y[t,s] = sum_t',s' softmax_t',s'(<Q[t,s], K[t',s']> / sqrt(d_k)) V[t',s']

    Q, K, V, K_cls, V_cls: as in space-attention.
    Raises ShapeError; FormulaError.
    """
    return _attention_within("joint", Q, K, V, K_cls, V_cls)


@spec("local-attention")
def local_attention(
    Q: Float[Array, "*b t s d_k"],
    K: Float[Array, "*b t s d_k"],
    V: Float[Array, "*b t s d_v"],
    *,
    grid: tuple[int, int],
    K_cls: Float[Array, "*b 1 d_k"] | None = None,
    V_cls: Float[Array, "*b 1 d_v"] | None = None,
) -> Float[Array, "*b t s d_v"]:
    """Let every patch read the patches of its own quarter of the image, in all frames.

    Y[t,s] = sum_t',s' softmax_t',s'(<Q[t,s], K[t',s']> / sqrt(d_k)) V[t',s'], s' in s's quarter

    Q, K, V, K_cls, V_cls: as in space-attention. grid: rows and columns of patches (h, w), both
    even, h w = s; place s is in row s // w and column s % w.
    Raises ShapeError; FormulaError.
    Notes: the paper leaves open which patches are near (page, Deviations).
    """
    return _attention_within("local", Q, K, V, K_cls, V_cls, grid)


@spec("global-attention")
def global_attention(
    Q: Float[Array, "*b t s d_k"],
    K: Float[Array, "*b t s d_k"],
    V: Float[Array, "*b t s d_v"],
    *,
    grid: tuple[int, int],
    K_cls: Float[Array, "*b 1 d_k"] | None = None,
    V_cls: Float[Array, "*b 1 d_v"] | None = None,
) -> Float[Array, "*b t s d_v"]:
    """Let every patch read every second patch along time, height and width, itself included.

    Y[t,s] = sum_t',s' softmax_t',s'(<Q[t,s], K[t',s']> / sqrt(d_k)) V[t',s'], all distances even

    Q, K, V, K_cls, V_cls: as in space-attention. grid: as in local-attention; t, h, w even.
    Raises ShapeError; FormulaError.
    Notes: the paper leaves open where the stride starts (page, Deviations).
    """
    return _attention_within("global", Q, K, V, K_cls, V_cls, grid)


@spec("width-attention")
def width_attention(
    Q: Float[Array, "*b t s d_k"],
    K: Float[Array, "*b t s d_k"],
    V: Float[Array, "*b t s d_v"],
    *,
    grid: tuple[int, int],
    K_cls: Float[Array, "*b 1 d_k"] | None = None,
    V_cls: Float[Array, "*b 1 d_v"] | None = None,
) -> Float[Array, "*b t s d_v"]:
    """Let every patch read the patches of its own row of its own frame.

    Y[t,y,x] = sum_x' softmax_x'(<Q[t,y,x], K[t,y,x']> / sqrt(d_k)) V[t,y,x']

    Q, K, V, K_cls, V_cls: as in space-attention. grid: (h, w), h w = s; place s is in row
    y = s // w and column x = s % w.
    Raises ShapeError; FormulaError.
    """
    return _attention_within("width", Q, K, V, K_cls, V_cls, grid)


@spec("height-attention")
def height_attention(
    Q: Float[Array, "*b t s d_k"],
    K: Float[Array, "*b t s d_k"],
    V: Float[Array, "*b t s d_v"],
    *,
    grid: tuple[int, int],
    K_cls: Float[Array, "*b 1 d_k"] | None = None,
    V_cls: Float[Array, "*b 1 d_v"] | None = None,
) -> Float[Array, "*b t s d_v"]:
    """Let every patch read the patches of its own column of its own frame.

    Y[t,y,x] = sum_y' softmax_y'(<Q[t,y,x], K[t,y',x]> / sqrt(d_k)) V[t,y',x]

    Q, K, V, K_cls, V_cls, grid: as in width-attention.
    Raises ShapeError; FormulaError.
    """
    return _attention_within("height", Q, K, V, K_cls, V_cls, grid)


@spec("class-attention")
def class_attention(
    Q_cls: Float[Array, "*b 1 d_k"],
    K: Float[Array, "*b t s d_k"],
    V: Float[Array, "*b t s d_v"],
    *,
    K_cls: Float[Array, "*b 1 d_k"] | None = None,
    V_cls: Float[Array, "*b 1 d_v"] | None = None,
    over: str = "space",
    grid: tuple[int, int] | None = None,
) -> Float[Array, "*b 1 d_v"]:
    """Let the class token read itself and each frame, and average over the frames.

    y = mean_t sum_j softmax_j(<Q_cls, K[t,j]> / sqrt(d_k)) V[t,j], j: the class token, the places

    Q_cls: the class token's query. K, V, K_cls, V_cls: as in space-attention. over: what is read
    piece by piece: "space" for frames, "joint" for all at once, or another neighbourhood's name.
    grid: needed where that neighbourhood needs it.
    Raises ShapeError; FormulaError, among others for no frames to average over.
    Notes: no masked softmax over all patches equals it, unless there is one frame.
    """
    require(over in NAMES, "class-attention", "over", f"one of {NAMES}", over)
    _require_both("class-attention", K_cls, V_cls)
    shape = tuple(K.shape)
    K, V = grouped(K, over, grid), grouped(V, over, grid)
    require(K.shape[-3] >= 1, "class-attention", "K", "at least one group of patches", shape)
    y = _attention_in_groups(_of_every_group(Q_cls, K), K, V, K_cls, V_cls)
    return namespace(y).mean(y, axis=-3)


ATTENTIONS: dict[str, Callable[..., Array]] = {
    "space": space_attention,
    "time": time_attention,
    "joint": joint_attention,
    "local": local_attention,
    "global": global_attention,
    "width": width_attention,
    "height": height_attention,
}


class LinearParams(TypedDict):
    """A linear map of tokens, and its bias."""

    W: Float[Array, "d d"]
    b: NotRequired[Float[Array, " d"]]


class AttentionSublayerParams(SelfAttentionSublayerParams):
    """One attention with its norm, and the extra linear map that published models have."""

    fc: NotRequired[LinearParams]


class DividedLayerParams(FeedForwardSublayerParams):
    """One layer of divided space-time attention."""

    time: AttentionSublayerParams
    space: AttentionSublayerParams


# `global` is no name that a class body may have.
LocalGlobalLayerParams = TypedDict(
    "LocalGlobalLayerParams",
    {
        "local": AttentionSublayerParams,
        "global": AttentionSublayerParams,
        "norm_2": NormParams,
        "feed_forward": FeedForwardParams,
    },
)


class AxialLayerParams(FeedForwardSublayerParams):
    """One layer of axial attention."""

    time: AttentionSublayerParams
    width: AttentionSublayerParams
    height: AttentionSublayerParams


CLASS_TOKEN_RULES = ("out", "key", "mean", "all")


@spec("attention-sublayer")
def attention_sublayer(
    z: Float[Array, "*b t s d"],
    cls: Float[Array, "*b d"],
    params: AtLeast[AttentionSublayerParams],
    *,
    attend: str,
    class_token: str,
    grid: tuple[int, int] | None = None,
    eps: float = 1e-6,
) -> tuple[Float[Array, "*b t s d"], Float[Array, "*b d"]]:
    """Add to every token what it reads, normalised, in its neighbourhood.

    z' = z + fc(MHA_attend(LN_1(z))), cls' = cls + fc(MHA_class(LN_1(cls)))

    z, cls: patches and class token. params: norm_1 {gamma, beta}, attention {W_q, W_k, W_v, W_c,
    b_q?, b_k?, b_v?, b_c?}, fc {W, b?}?; others are not looked at. attend: the neighbourhood,
    "space", "time", "joint", "local", "global", "width" or "height". class_token: "out" takes no
    part; "key" is read and stays as it is; "mean" is read, and reads as class-attention does, over
    the same neighbourhoods; "all" is read, and reads itself and all patches at once. grid: (h, w),
    where the neighbourhood needs it. eps: of the norm.
    Raises ShapeError; FormulaError.
    Notes: the first half of every layer here; feed-forward-sublayer is the second.
    """
    rules = CLASS_TOKEN_RULES
    require(attend in ATTENTIONS, "attention-sublayer", "attend", f"one of {[*ATTENTIONS]}", attend)
    require(
        class_token in rules, "attention-sublayer", "class_token", f"one of {rules}", class_token
    )
    on_grid: dict[str, Any] = {"grid": grid} if attend in ON_GRID else {}
    Q, K, V = _projected(z, params, eps)
    if class_token == "out":
        return z + _merged(ATTENTIONS[attend](Q, K, V, **on_grid), params), _copy(cls)
    lone = cls[..., None, None, :]
    Q_cls, K_cls, V_cls = (x[..., 0, :, :] for x in _projected(lone, params, eps))
    as_key = {"K_cls": K_cls, "V_cls": V_cls}
    z = z + _merged(ATTENTIONS[attend](Q, K, V, **as_key, **on_grid), params)
    if class_token == "key":
        return z, _copy(cls)
    over = attend if class_token == "mean" else "joint"
    y = class_attention(Q_cls, K, V, **as_key, over=over, grid=grid)
    return z, (lone + _merged(y[..., None, :], params))[..., 0, 0, :]


@spec("space-layer")
def space_layer(
    z: Float[Array, "*b t s d"],
    cls: Float[Array, "*b d"],
    params: LayerParams,
    *,
    cls_in_space: str = "mean",
    eps: float = 1e-6,
    activation: str = "gelu",
) -> tuple[Float[Array, "*b t s d"], Float[Array, "*b d"]]:
    """Pass patches and class token through one layer of space attention (S).

    z' = y + FFN(LN_2(y)), y = z + MHA_space(LN_1(z)), cls alike

    z, cls: patches and class token. params: those of pre-norm-layer. cls_in_space: the rule for
    the class token, as class_token in attention-sublayer. eps: of both norms. activation: as in
    feed-forward.
    Raises ShapeError; FormulaError.
    Notes: the published model has a class token for each frame: let frames be batch axes (page).
    """
    z, cls = attention_sublayer(z, cls, params, attend="space", class_token=cls_in_space, eps=eps)
    return _fed_forward(z, cls, params, eps, activation)


@spec("joint-layer")
def joint_layer(
    z: Float[Array, "*b t s d"],
    cls: Float[Array, "*b d"],
    params: LayerParams,
    *,
    eps: float = 1e-6,
    activation: str = "gelu",
) -> tuple[Float[Array, "*b t s d"], Float[Array, "*b d"]]:
    """Pass patches and class token through one layer of joint space-time attention (ST).

    z' = y + FFN(LN_2(y)), y = z + MHA_joint(LN_1(z)), cls alike

    z, cls: patches and class token. params: those of pre-norm-layer. eps: of both norms.
    activation: as in feed-forward.
    Raises ShapeError; FormulaError.
    Notes: a pre-norm-layer over the class token and all patches.
    """
    z, cls = attention_sublayer(z, cls, params, attend="joint", class_token="mean", eps=eps)
    return _fed_forward(z, cls, params, eps, activation)


@spec("divided-layer")
def divided_layer(
    z: Float[Array, "*b t s d"],
    cls: Float[Array, "*b d"],
    params: DividedLayerParams,
    *,
    order: str = "time-space",
    cls_in_time: str = "out",
    cls_in_space: str = "mean",
    eps: float = 1e-6,
    activation: str = "gelu",
) -> tuple[Float[Array, "*b t s d"], Float[Array, "*b d"]]:
    """Pass patches and class token through one layer of divided space-time attention (T+S).

    z' = y + FFN(LN_2(y)), y = x + MHA_space(LN(x)), x = z + fc(MHA_time(LN(z)))

    z, cls: patches and class token. params: time and space, each as in attention-sublayer, norm_2 and
    feed_forward. order: "time-space" or "space-time". cls_in_time, cls_in_space: the rules for the
    class token, as class_token in attention-sublayer. eps: of all norms. activation: as in
    feed-forward.
    Raises ShapeError; FormulaError.
    Notes: the paper has cls_in_time="key" and no fc; published checkpoints need the defaults and
    params["time"]["fc"].
    """
    orders = ("time-space", "space-time")
    require(order in orders, "divided-layer", "order", f"one of {orders}", order)
    rules = {"time": cls_in_time, "space": cls_in_space}
    for attend in order.split("-"):
        rule = rules[attend]
        z, cls = attention_sublayer(
            z, cls, params[attend], attend=attend, class_token=rule, eps=eps
        )
    return _fed_forward(z, cls, params, eps, activation)


@spec("local-global-layer")
def local_global_layer(
    z: Float[Array, "*b t s d"],
    cls: Float[Array, "*b d"],
    params: LocalGlobalLayerParams,
    *,
    grid: tuple[int, int],
    cls_in_local: str = "out",
    cls_in_global: str = "mean",
    eps: float = 1e-6,
    activation: str = "gelu",
) -> tuple[Float[Array, "*b t s d"], Float[Array, "*b d"]]:
    """Pass patches and class token through one layer of sparse local-global attention (L+G).

    z' = y + FFN(LN_2(y)), y = x + MHA_global(LN(x)), x = z + fc(MHA_local(LN(z)))

    z, cls: patches and class token. params: local and global, each as in attention-sublayer, norm_2
    and feed_forward. grid: rows and columns of patches (h, w). cls_in_local, cls_in_global: the
    rules for the class token, as class_token in attention-sublayer. eps: of all norms. activation: as
    in feed-forward.
    Raises ShapeError; FormulaError where t, h or w is odd.
    Notes: neither equation nor code was published; the rules follow divided-layer (page).
    """
    rules = {"local": cls_in_local, "global": cls_in_global}
    for attend, rule in rules.items():
        z, cls = attention_sublayer(
            z, cls, params[attend], attend=attend, class_token=rule, grid=grid, eps=eps
        )
    return _fed_forward(z, cls, params, eps, activation)


@spec("axial-layer")
def axial_layer(
    z: Float[Array, "*b t s d"],
    cls: Float[Array, "*b d"],
    params: AxialLayerParams,
    *,
    grid: tuple[int, int],
    cls_in_time: str = "out",
    cls_in_width: str = "out",
    cls_in_height: str = "mean",
    eps: float = 1e-6,
    activation: str = "gelu",
) -> tuple[Float[Array, "*b t s d"], Float[Array, "*b d"]]:
    """Pass patches and class token through one layer of axial attention (T+W+H).

    z' = y + FFN(LN_2(y)), y = time, width, height step of z, each x + fc(MHA(LN(x)))

    z, cls: patches and class token. params: time, width and height, each as in attention-sublayer,
    norm_2 and feed_forward. grid: rows and columns of patches (h, w). cls_in_time, cls_in_width,
    cls_in_height: the rules for the class token, as class_token in attention-sublayer. eps: of all
    norms. activation: as in feed-forward.
    Raises ShapeError; FormulaError.
    Notes: neither equation nor code was published; the rules follow divided-layer (page).
    """
    rules = {"time": cls_in_time, "width": cls_in_width, "height": cls_in_height}
    for attend, rule in rules.items():
        z, cls = attention_sublayer(
            z, cls, params[attend], attend=attend, class_token=rule, grid=grid, eps=eps
        )
    return _fed_forward(z, cls, params, eps, activation)


def _fed_forward(
    z: Array, cls: Array, params: Mapping[str, Any], eps: float, activation: str
) -> tuple[Array, Array]:
    cls = feed_forward_sublayer(cls[..., None, :], params, eps=eps, activation=activation)
    return feed_forward_sublayer(z, params, eps=eps, activation=activation), cls[..., 0, :]


def _projected(z: Array, params: Mapping[str, Any], eps: float) -> list[Array]:
    """Return queries, keys and values of normalised tokens, `*b heads t s d_h`."""
    weights = params["attention"]
    *batch, t, s, d = z.shape
    x = layer_norm(z, **params["norm_1"], eps=eps)
    x = namespace(x).reshape(x, (*batch, t * s, d))
    heads = [
        qkv_projection(x, weights[f"W_{letter}"], bias=weights.get(f"b_{letter}"))
        for letter in ("q", "k", "v")
    ]
    return [namespace(y).reshape(y, (*y.shape[:-2], t, s, y.shape[-1])) for y in heads]


def _merged(y: Array, params: Mapping[str, Any]) -> Array:
    """Return what the heads have read, `*b heads t s d_v`, as an update of the tokens."""
    *front, t, s, d_v = y.shape
    weights = params["attention"]
    y = namespace(y).reshape(y, (*front, t * s, d_v))
    u = output_projection(y, weights["W_c"], bias=weights.get("b_c"))
    if "fc" in params:
        u = plus_bias(u @ params["fc"]["W"], params["fc"].get("b"))
    return namespace(u).reshape(u, (*u.shape[:-2], t, s, u.shape[-1]))


def _copy(x: Array) -> Array:
    """Return the same numbers in an array of their own: results never alias inputs."""
    return namespace(x).concat([x], axis=-1)


def _attention_within(
    attend: str,
    Q: Array,
    K: Array,
    V: Array,
    K_cls: Array | None,
    V_cls: Array | None,
    grid: tuple[int, int] | None = None,
) -> Array:
    """Attend within groups: the patches that see each other are brought together first."""
    _require_both(f"{attend}-attention", K_cls, V_cls)
    t, s = Q.shape[-3:-1]
    Q, K, V = (grouped(x, attend, grid) for x in (Q, K, V))
    return ungrouped(_attention_in_groups(Q, K, V, K_cls, V_cls), attend, grid, t, s)


def _require_both(id: str, K_cls: Array | None, V_cls: Array | None) -> None:
    both = (K_cls is None) == (V_cls is None)
    require(both, id, "V_cls", "both of K_cls and V_cls, or neither", "one of them")


def _attention_in_groups(
    Q: Array, K: Array, V: Array, K_cls: Array | None, V_cls: Array | None
) -> Array:
    if K_cls is None or V_cls is None:
        return attention(Q, K, V)
    xp = namespace(Q, K, V, K_cls, V_cls)
    K = xp.concat([_of_every_group(K_cls, K), K], axis=-2)
    return attention(Q, K, xp.concat([_of_every_group(V_cls, V), V], axis=-2))


def _of_every_group(x_cls: Array, x: Array) -> Array:
    """Repeat the class token's row, `*b 1 d`, for every group of x, `*b groups members d`."""
    every = (*x.shape[:-2], 1, x_cls.shape[-1])
    return namespace(x_cls).broadcast_to(x_cls[..., None, :, :], every)
