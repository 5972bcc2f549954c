"""TimeSformer: its embedding, eq. (1), and its five schemes of attention, Fig. 4-5."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, NotRequired, TypedDict

from vtnp._array.typing import Array, Float
from vtnp._array.xp import namespace
from vtnp._registry.params import AtLeast
from vtnp._registry.spec import spec
from vtnp.encoder import (
    Activation,
    FeedForwardParams,
    FeedForwardSublayerParams,
    LayerParams,
    NormParams,
    SelfAttentionSublayerParams,
    attention,
    feed_forward_sublayer,
    layer_norm,
    merge_heads,
    project_heads,
)
from vtnp.positions import learned_positions
from vtnp.tokens import Grid, linear_embedding

Neighbourhood = Literal["space", "time", "joint", "local", "global", "width", "height"]
ClassToken = Literal["out", "key", "mean", "all"]

_CLASS_KEY = ("(K_cls is None) == (V_cls is None)",)
_ON_GRID = ("min(grid) >= 0", "grid.t == t", "grid.h * grid.w == s")
_IN_QUARTERS = "grid.h % 2 == grid.w % 2 == 0"
_EVERY_SECOND = "grid.t % 2 == grid.h % 2 == grid.w % 2 == 0"


class LinearParams(TypedDict):
    """A linear map of tokens, and its bias."""

    W: Float[Array, "d d"]
    b: NotRequired[Float[Array, " d"]]


class AttentionSublayerParams(SelfAttentionSublayerParams):
    """One attention with its norm, and the linear map after it that published models have."""

    fc: NotRequired[LinearParams]


class DividedLayerParams(FeedForwardSublayerParams):
    """One layer of divided space-time attention."""

    time: AttentionSublayerParams
    space: AttentionSublayerParams


# `global` is not a name that a class body may have.
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


@spec("space-time-embedding")
def space_time_embedding(
    x: Float[Array, "*b t s p"],
    E: Float[Array, "p d"],
    e_pos: Float[Array, "t s d"],
    *,
    bias: Float[Array, " d"] | None = None,
) -> Float[Array, "*b t s d"]:
    """Embed every patch, and add the embedding of its position in space and time.

    z[t,s] = E^T x[t,s] + bias + e_pos[t,s]

    Parameters
    ----------
    x : array
        Flattened patches.
    E : array
        The linear map of the embedding.
    e_pos : array
        One learned vector for each position of each frame.
    bias : array, optional
        Left out, none is added.

    Returns
    -------
    array
        Tokens.

    Raises
    ------
    ShapeError
        If axes do not fit.

    Notes
    -----
    Published checkpoints have e_pos[t,s] = e_space[s] + e_time[t].

    References
    ----------
    spec/timesformer/space-time-embedding.md; survey, eq. (1).
    """
    return learned_positions(linear_embedding(x, E, bias=bias), e_pos)


@spec("space-attention", requires=_CLASS_KEY)
def space_attention(
    Q: Float[Array, "*b t s d_k"],
    K: Float[Array, "*b t s d_k"],
    V: Float[Array, "*b t s d_v"],
    *,
    K_cls: Float[Array, "*b 1 d_k"] | None = None,
    V_cls: Float[Array, "*b 1 d_v"] | None = None,
) -> Float[Array, "*b t s d_v"]:
    """Let every patch attend to the patches of its own frame.

    Y[t,s] = sum_s' softmax_s'(<Q[t,s], K[t,s']> / sqrt(d_k)) V[t,s']

    Parameters
    ----------
    Q, K, V : array
        Queries, keys and values of the patches; heads are batch axes.
    K_cls, V_cls : array, optional
        Key and value of the class token, one more key for every query; both or neither.

    Returns
    -------
    array
        One average of values for each patch.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If there are no keys, or only one of ``K_cls`` and ``V_cls`` is given.

    References
    ----------
    spec/timesformer/space-attention.md; survey, Fig. 4.
    """
    return attention(Q, _prepended(K_cls, K), _prepended(V_cls, V))


@spec("time-attention", requires=_CLASS_KEY)
def time_attention(
    Q: Float[Array, "*b t s d_k"],
    K: Float[Array, "*b t s d_k"],
    V: Float[Array, "*b t s d_v"],
    *,
    K_cls: Float[Array, "*b 1 d_k"] | None = None,
    V_cls: Float[Array, "*b 1 d_v"] | None = None,
) -> Float[Array, "*b t s d_v"]:
    """Let every patch attend to the patches at its own position in all frames.

    Y[t,s] = sum_t' softmax_t'(<Q[t,s], K[t',s]> / sqrt(d_k)) V[t',s]

    Parameters
    ----------
    Q, K, V : array
        Queries, keys and values of the patches; heads are batch axes.
    K_cls, V_cls : array, optional
        Key and value of the class token, one more key for every query; both or neither.

    Returns
    -------
    array
        One average of values for each patch.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If there are no keys, or only one of ``K_cls`` and ``V_cls`` is given.

    Notes
    -----
    The paper has the class token among the keys, the published models have not.

    References
    ----------
    spec/timesformer/time-attention.md; survey, Fig. 4.
    """
    Q, K, V = (_swapped(x) for x in (Q, K, V))
    return _swapped(attention(Q, _prepended(K_cls, K), _prepended(V_cls, V)))


@spec("joint-attention", requires=_CLASS_KEY)
def joint_attention(
    Q: Float[Array, "*b t s d_k"],
    K: Float[Array, "*b t s d_k"],
    V: Float[Array, "*b t s d_v"],
    *,
    K_cls: Float[Array, "*b 1 d_k"] | None = None,
    V_cls: Float[Array, "*b 1 d_v"] | None = None,
) -> Float[Array, "*b t s d_v"]:
    """Let every patch attend to all patches of all frames.

    Y[t,s] = sum_t',s' softmax_t',s'(<Q[t,s], K[t',s']> / sqrt(d_k)) V[t',s']

    Parameters
    ----------
    Q, K, V : array
        Queries, keys and values of the patches; heads are batch axes.
    K_cls, V_cls : array, optional
        Key and value of the class token, one more key for every query; both or neither.

    Returns
    -------
    array
        One average of values for each patch.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If there are no keys, or only one of ``K_cls`` and ``V_cls`` is given.

    References
    ----------
    spec/timesformer/joint-attention.md; survey, Fig. 4.
    """
    t, s = Q.shape[-3:-1]
    Q, K, V = (_flattened(x) for x in (Q, K, V))
    Y = attention(Q, _prepended(K_cls, K), _prepended(V_cls, V))
    return namespace(Y).reshape(Y, (*Y.shape[:-3], t, s, Y.shape[-1]))


@spec("local-attention", requires=(*_ON_GRID, _IN_QUARTERS, *_CLASS_KEY))
def local_attention(
    Q: Float[Array, "*b t s d_k"],
    K: Float[Array, "*b t s d_k"],
    V: Float[Array, "*b t s d_v"],
    *,
    grid: Grid,
    K_cls: Float[Array, "*b 1 d_k"] | None = None,
    V_cls: Float[Array, "*b 1 d_v"] | None = None,
) -> Float[Array, "*b t s d_v"]:
    """Let every patch attend to the patches of its own quarter of the image, in all frames.

    Y[t,s] = sum_t',s' softmax_t',s'(<Q[t,s], K[t',s']> / sqrt(d_k)) V[t',s'], s' in s's quarter

    Parameters
    ----------
    Q, K, V : array
        Queries, keys and values of the patches; heads are batch axes.
    grid : Grid
        Frames, rows and columns (t, h, w) of the patches, h and w even; position s is in row s // w
        and column s % w.
    K_cls, V_cls : array, optional
        Key and value of the class token, one more key for every query; both or neither.

    Returns
    -------
    array
        One average of values for each patch.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If the grid does not fit or has an odd side, there are no keys, or only one of ``K_cls`` and
        ``V_cls`` is given.

    Notes
    -----
    The paper leaves open which patches are near each other; the page has the other interpretation.

    References
    ----------
    spec/timesformer/local-attention.md; survey, Fig. 5.
    """
    Q, K, V = (_quarters(x, grid) for x in (Q, K, V))
    return _from_quarters(attention(Q, _prepended(K_cls, K), _prepended(V_cls, V)), grid)


@spec("global-attention", requires=(*_ON_GRID, _EVERY_SECOND, *_CLASS_KEY))
def global_attention(
    Q: Float[Array, "*b t s d_k"],
    K: Float[Array, "*b t s d_k"],
    V: Float[Array, "*b t s d_v"],
    *,
    grid: Grid,
    K_cls: Float[Array, "*b 1 d_k"] | None = None,
    V_cls: Float[Array, "*b 1 d_v"] | None = None,
) -> Float[Array, "*b t s d_v"]:
    """Let every patch attend to every second patch along time, height and width.

    Y[t,s] = sum_t',s' softmax_t',s'(<Q[t,s], K[t',s']> / sqrt(d_k)) V[t',s'], all distances even

    Parameters
    ----------
    Q, K, V : array
        Queries, keys and values of the patches; heads are batch axes.
    grid : Grid
        Frames, rows and columns (t, h, w) of the patches, all even; position s is in row s // w and
        column s % w.
    K_cls, V_cls : array, optional
        Key and value of the class token, one more key for every query; both or neither.

    Returns
    -------
    array
        One average of values for each patch.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If the grid does not fit or has an odd side, there are no keys, or only one of ``K_cls`` and
        ``V_cls`` is given.

    Notes
    -----
    Each patch is among its own keys. The paper leaves open where the stride starts; the page has
    the other interpretation.

    References
    ----------
    spec/timesformer/global-attention.md; survey, Fig. 5.
    """
    Q, K, V = (_every_second(x, grid) for x in (Q, K, V))
    return _from_every_second(attention(Q, _prepended(K_cls, K), _prepended(V_cls, V)), grid)


@spec("width-attention", requires=(*_ON_GRID, *_CLASS_KEY))
def width_attention(
    Q: Float[Array, "*b t s d_k"],
    K: Float[Array, "*b t s d_k"],
    V: Float[Array, "*b t s d_v"],
    *,
    grid: Grid,
    K_cls: Float[Array, "*b 1 d_k"] | None = None,
    V_cls: Float[Array, "*b 1 d_v"] | None = None,
) -> Float[Array, "*b t s d_v"]:
    """Let every patch attend to the patches of its own row of its own frame.

    Y[t,y,x] = sum_x' softmax_x'(<Q[t,y,x], K[t,y,x']> / sqrt(d_k)) V[t,y,x']

    Parameters
    ----------
    Q, K, V : array
        Queries, keys and values of the patches; heads are batch axes.
    grid : Grid
        Frames, rows and columns (t, h, w) of the patches; position s is in row s // w and column
        s % w.
    K_cls, V_cls : array, optional
        Key and value of the class token, one more key for every query; both or neither.

    Returns
    -------
    array
        One average of values for each patch.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If the grid does not fit, there are no keys, or only one of ``K_cls`` and ``V_cls`` is
        given.

    References
    ----------
    spec/timesformer/width-attention.md; survey, Fig. 5.
    """
    Q, K, V = (_unfolded(x, grid) for x in (Q, K, V))
    return _folded(attention(Q, _prepended(K_cls, K), _prepended(V_cls, V)))


@spec("height-attention", requires=(*_ON_GRID, *_CLASS_KEY))
def height_attention(
    Q: Float[Array, "*b t s d_k"],
    K: Float[Array, "*b t s d_k"],
    V: Float[Array, "*b t s d_v"],
    *,
    grid: Grid,
    K_cls: Float[Array, "*b 1 d_k"] | None = None,
    V_cls: Float[Array, "*b 1 d_v"] | None = None,
) -> Float[Array, "*b t s d_v"]:
    """Let every patch attend to the patches of its own column of its own frame.

    Y[t,y,x] = sum_y' softmax_y'(<Q[t,y,x], K[t,y',x]> / sqrt(d_k)) V[t,y',x]

    Parameters
    ----------
    Q, K, V : array
        Queries, keys and values of the patches; heads are batch axes.
    grid : Grid
        Frames, rows and columns (t, h, w) of the patches; position s is in row s // w and column
        s % w.
    K_cls, V_cls : array, optional
        Key and value of the class token, one more key for every query; both or neither.

    Returns
    -------
    array
        One average of values for each patch.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If the grid does not fit, there are no keys, or only one of ``K_cls`` and ``V_cls`` is
        given.

    References
    ----------
    spec/timesformer/height-attention.md; survey, Fig. 5.
    """
    Q, K, V = (_swapped(_unfolded(x, grid)) for x in (Q, K, V))
    return _folded(_swapped(attention(Q, _prepended(K_cls, K), _prepended(V_cls, V))))


ATTENTIONS: Mapping[str, Callable[..., Array]] = {
    "space": space_attention,
    "time": time_attention,
    "joint": joint_attention,
    "local": local_attention,
    "global": global_attention,
    "width": width_attention,
    "height": height_attention,
}


@spec(
    "class-attention",
    requires=(
        "t * s >= 1",
        "grid is not None or over in ('space', 'time', 'joint')",
        "grid is None or min(grid) >= 0 and grid.t == t and grid.h * grid.w == s",
        "over != 'local' or grid.h % 2 == grid.w % 2 == 0",
        "over != 'global' or grid.t % 2 == grid.h % 2 == grid.w % 2 == 0",
        *_CLASS_KEY,
    ),
)
def class_attention(
    Q_cls: Float[Array, "*b 1 d_k"],
    K: Float[Array, "*b t s d_k"],
    V: Float[Array, "*b t s d_v"],
    *,
    K_cls: Float[Array, "*b 1 d_k"] | None = None,
    V_cls: Float[Array, "*b 1 d_v"] | None = None,
    over: Neighbourhood = "space",
    grid: Grid | None = None,
) -> Float[Array, "*b 1 d_v"]:
    """Let the class token attend to itself and each frame in turn, and average over the frames.

    y = mean_t sum_j softmax_j(<Q_cls, K[t,j]> / sqrt(d_k)) V[t,j], j: class token and patches of t

    Parameters
    ----------
    Q_cls : array
        The class token's query.
    K, V : array
        Keys and values of the patches; heads are batch axes.
    K_cls, V_cls : array, optional
        Key and value of the class token itself; both or neither.
    over : {"space", "time", "joint", "local", "global", "width", "height"}
        The neighbourhoods that it attends to in turn: "space" for frames, "joint" for all patches
        at once.
    grid : Grid, optional
        Frames, rows and columns (t, h, w) of the patches; needed for "local", "global", "width"
        and "height".

    Returns
    -------
    array
        The average over the neighbourhoods.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If over is another string, the grid is missing or does not fit, there are no patches, or
        only one of ``K_cls`` and ``V_cls`` is given.

    Notes
    -----
    Unless there is one neighbourhood only, no masked softmax over all patches equals it.

    References
    ----------
    spec/timesformer/class-attention.md; survey, Fig. 4.
    """
    K, V = (SEQUENCES[over](x, grid) for x in (K, V))
    y = attention(_repeated(Q_cls, K), _prepended(K_cls, K), _prepended(V_cls, V))
    return namespace(y).mean(y, axis=tuple(range(Q_cls.ndim - 2, y.ndim - 2)))


def _swapped(x: Array) -> Array:
    """Swap the two axes of the tokens: `*b t s d` to `*b s t d`."""
    return namespace(x).moveaxis(x, -3, -2)


def _flattened(x: Array) -> Array:
    """Put the patches of all frames into one sequence: `*b t s d` to `*b 1 (t s) d`."""
    *batch, t, s, d = x.shape
    return namespace(x).reshape(x, (*batch, 1, t * s, d))


def _unfolded(x: Array, grid: Grid) -> Array:
    """Lay the patches of each frame out in rows: `*b t (h w) d` to `*b t h w d`."""
    return namespace(x).reshape(x, (*x.shape[:-2], grid.h, grid.w, x.shape[-1]))


def _folded(x: Array) -> Array:
    """Put the rows of each frame after each other: `*b t h w d` to `*b t (h w) d`."""
    *front, h, w, d = x.shape
    return namespace(x).reshape(x, (*front, h * w, d))


def _quarters(x: Array, grid: Grid) -> Array:
    """Cut the image into quarters: `*b t s d` to `*b 2 2 (t h/2 w/2) d`."""
    xp, (*batch, t, s, d) = namespace(x), x.shape
    x = xp.reshape(x, (*batch, t, 2, grid.h // 2, 2, grid.w // 2, d))
    x = xp.moveaxis(x, (-5, -3), (-6, -5))
    return xp.reshape(x, (*batch, 2, 2, t * s // 4, d))


def _from_quarters(x: Array, grid: Grid) -> Array:
    """Reassemble the quarters of the image."""
    xp, (*batch, _, _, _, d) = namespace(x), x.shape
    x = xp.reshape(x, (*batch, 2, 2, grid.t, grid.h // 2, grid.w // 2, d))
    x = xp.moveaxis(x, (-6, -5), (-5, -3))
    return xp.reshape(x, (*batch, grid.t, grid.h * grid.w, d))


def _every_second(x: Array, grid: Grid) -> Array:
    """Take every second patch along each axis: `*b t s d` to `*b 2 2 2 (t/2 h/2 w/2) d`."""
    xp, (*batch, t, s, d) = namespace(x), x.shape
    x = xp.reshape(x, (*batch, t // 2, 2, grid.h // 2, 2, grid.w // 2, 2, d))
    x = xp.moveaxis(x, (-6, -4, -2), (-7, -6, -5))
    return xp.reshape(x, (*batch, 2, 2, 2, t * s // 8, d))


def _from_every_second(x: Array, grid: Grid) -> Array:
    """Interleave the patches again."""
    xp, (*batch, _, _, _, _, d) = namespace(x), x.shape
    x = xp.reshape(x, (*batch, 2, 2, 2, grid.t // 2, grid.h // 2, grid.w // 2, d))
    x = xp.moveaxis(x, (-7, -6, -5), (-6, -4, -2))
    return xp.reshape(x, (*batch, grid.t, grid.h * grid.w, d))


# The sequences within which patches attend to each other, `*b <sequences> n d`.
SEQUENCES: Mapping[str, Callable[[Array, Any], Array]] = {
    "space": lambda x, _: x,
    "time": lambda x, _: _swapped(x),
    "joint": lambda x, _: _flattened(x),
    "local": _quarters,
    "global": _every_second,
    "width": _unfolded,
    "height": lambda x, grid: _swapped(_unfolded(x, grid)),
}


def _prepended(x_cls: Array | None, x: Array) -> Array:
    """Put the class token's row, `*b 1 d`, before every sequence of x, `*b <sequences> n d`."""
    if x_cls is None:
        return x
    return namespace(x_cls, x).concat([_repeated(x_cls, x), x], axis=-2)


def _repeated(x_cls: Array, x: Array) -> Array:
    """Repeat the class token's row, `*b 1 d`, for every sequence of x, `*b <sequences> n d`."""
    xp, (*batch, _, d) = namespace(x_cls), x_cls.shape
    row = xp.reshape(x_cls, (*batch, *[1] * (x.ndim - x_cls.ndim), 1, d))
    return xp.broadcast_to(row, (*x.shape[:-2], 1, d))


@spec(
    "attention-sublayer",
    requires=(
        "grid is not None or attend in ('space', 'time', 'joint')",
        "grid is None or min(grid) >= 0 and grid.t == t and grid.h * grid.w == s",
    ),
)
def attention_sublayer(
    z: Float[Array, "*b t s d"],
    cls: Float[Array, "*b d"],
    params: AtLeast[AttentionSublayerParams],
    *,
    attend: Neighbourhood,
    class_token: ClassToken,
    grid: Grid | None = None,
    eps: float = 1e-6,
) -> tuple[Float[Array, "*b t s d"], Float[Array, "*b d"]]:
    """Normalise the tokens, let them attend within a neighbourhood, and add the result to them.

    z' = z + fc(MHA_attend(LN_1(z))), cls' = cls + fc(MHA_class(LN_1(cls)))

    Parameters
    ----------
    z, cls : array
        Patches and class token.
    params : AttentionSublayerParams
        ``norm_1``, ``attention`` and, optionally, the linear map ``fc`` with ``W`` and ``b``;
        further keys are ignored.
    attend : {"space", "time", "joint", "local", "global", "width", "height"}
        The neighbourhood that each patch attends to.
    class_token : {"out", "key", "mean", "all"}
        "out": the class token is left out. "key": patches attend to it, and it does not change.
        "mean": patches attend to it, and it attends to itself and each neighbourhood in turn, and
        averages. "all": patches attend to it, and it attends to itself and all patches at once.
    grid : Grid, optional
        Frames, rows and columns (t, h, w) of the patches; needed for "local", "global", "width"
        and "height".
    eps : float
        Added to the variance in the norm, finite and >= 0.

    Returns
    -------
    z, cls : array
        Patches and class token.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If params lack a key, attend or class_token is another string, or the grid is missing or
        does not fit.

    Notes
    -----
    Every layer of this chapter is one or more of these and a `feed_forward_sublayer`.

    References
    ----------
    spec/timesformer/attention-sublayer.md; survey, Fig. 4.
    """
    norm = params["norm_1"]
    Q, K, V = _heads(layer_norm(z, **norm, eps=eps), "qkv", params, token_axes=2)
    x_cls = None if class_token == "out" else layer_norm(cls[..., None, :], **norm, eps=eps)
    K_cls, V_cls = (None, None) if x_cls is None else _heads(x_cls, "kv", params, token_axes=1)
    on_grid = {"grid": grid} if attend in ("local", "global", "width", "height") else {}
    Y = ATTENTIONS[attend](Q, K, V, K_cls=K_cls, V_cls=V_cls, **on_grid)
    z = z + _update(Y, params, token_axes=2)
    if x_cls is None or class_token == "key":
        return z, _copy(cls)
    (Q_cls,) = _heads(x_cls, "q", params, token_axes=1)
    over = attend if class_token == "mean" else "joint"
    y = class_attention(Q_cls, K, V, K_cls=K_cls, V_cls=V_cls, over=over, grid=grid)
    return z, cls + _update(y, params, token_axes=1)[..., 0, :]


def _heads(x: Array, letters: str, params: Mapping[str, Any], *, token_axes: int) -> list[Array]:
    """Project normalised tokens, `*b <tokens> d`, to the queries, keys or values of every head."""
    weights = params["attention"]
    return [
        project_heads(x, weights[f"W_{i}"], weights.get(f"b_{i}"), token_axes=token_axes)
        for i in letters
    ]


def _update(Y: Array, params: Mapping[str, Any], *, token_axes: int) -> Array:
    """Merge the heads, `*b heads <tokens> d_v`, and pass them through `fc`, where there is one."""
    weights, fc = params["attention"], params.get("fc")
    update = merge_heads(Y, weights["W_c"], weights.get("b_c"), token_axes=token_axes)
    return update if fc is None else linear_embedding(update, fc["W"], bias=fc.get("b"))


def _copy(x: Array) -> Array:
    """Return the same numbers in an array of their own: results never alias inputs."""
    return namespace(x).concat([x], axis=-1)


@spec("space-layer")
def space_layer(
    z: Float[Array, "*b t s d"],
    cls: Float[Array, "*b d"],
    params: LayerParams,
    *,
    cls_in_space: ClassToken = "mean",
    eps: float = 1e-6,
    activation: Activation = "gelu",
) -> tuple[Float[Array, "*b t s d"], Float[Array, "*b d"]]:
    """Pass patches and class token through one layer of space attention (S).

    z' = y + FFN(LN_2(y)), y = z + MHA_space(LN_1(z)), cls alike

    Parameters
    ----------
    z, cls : array
        Patches and class token.
    params : LayerParams
        ``norm_1``, ``attention``, ``norm_2`` and ``feed_forward``.
    cls_in_space : {"out", "key", "mean", "all"}
        "out": the class token is left out; "key": patches attend to it, and it does not change;
        "mean": it also attends to each frame in turn, and averages; "all": it also attends to all
        patches at once.
    eps : float
        Added to the variance in both norms, finite and >= 0.
    activation : {"relu", "gelu", "gelu_tanh"}
        Of the feed-forward network.

    Returns
    -------
    z, cls : array
        Patches and class token.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If params lack a key or have an unknown one, or an option is another string.

    Notes
    -----
    The published model has a class token for each frame: make frames batch axes.

    References
    ----------
    spec/timesformer/space-layer.md; survey, Fig. 4.
    """
    first: AttentionSublayerParams = {
        "norm_1": params["norm_1"],
        "attention": params["attention"],
    }
    z, cls = attention_sublayer(z, cls, first, attend="space", class_token=cls_in_space, eps=eps)
    return _feed_forward_sublayer(z, cls, params, eps=eps, activation=activation)


@spec("joint-layer")
def joint_layer(
    z: Float[Array, "*b t s d"],
    cls: Float[Array, "*b d"],
    params: LayerParams,
    *,
    eps: float = 1e-6,
    activation: Activation = "gelu",
) -> tuple[Float[Array, "*b t s d"], Float[Array, "*b d"]]:
    """Pass patches and class token through one layer of joint space-time attention (ST).

    z' = y + FFN(LN_2(y)), y = z + MHA_joint(LN_1(z)), cls alike

    Parameters
    ----------
    z, cls : array
        Patches and class token.
    params : LayerParams
        ``norm_1``, ``attention``, ``norm_2`` and ``feed_forward``.
    eps : float
        Added to the variance in both norms, finite and >= 0.
    activation : {"relu", "gelu", "gelu_tanh"}
        Of the feed-forward network.

    Returns
    -------
    z, cls : array
        Patches and class token.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If params lack a key or have an unknown one, or activation is another string.

    Notes
    -----
    Equal to a `pre_norm_layer` over the class token and all patches.

    References
    ----------
    spec/timesformer/joint-layer.md; survey, Fig. 4.
    """
    first: AttentionSublayerParams = {
        "norm_1": params["norm_1"],
        "attention": params["attention"],
    }
    z, cls = attention_sublayer(z, cls, first, attend="joint", class_token="mean", eps=eps)
    return _feed_forward_sublayer(z, cls, params, eps=eps, activation=activation)


@spec("divided-layer")
def divided_layer(
    z: Float[Array, "*b t s d"],
    cls: Float[Array, "*b d"],
    params: DividedLayerParams,
    *,
    order: Literal["time-space", "space-time"] = "time-space",
    cls_in_time: ClassToken = "out",
    cls_in_space: ClassToken = "mean",
    eps: float = 1e-6,
    activation: Activation = "gelu",
) -> tuple[Float[Array, "*b t s d"], Float[Array, "*b d"]]:
    """Pass patches and class token through one layer of divided space-time attention (T+S).

    z' = y + FFN(LN_2(y)), y = x + MHA_space(LN(x)), x = z + fc(MHA_time(LN(z)))

    Parameters
    ----------
    z, cls : array
        Patches and class token.
    params : DividedLayerParams
        ``time`` and ``space``, each with ``norm_1``, ``attention`` and optionally ``fc``;
        ``norm_2`` and ``feed_forward``.
    order : {"time-space", "space-time"}
        Which attention comes first.
    cls_in_time, cls_in_space : {"out", "key", "mean", "all"}
        In that sublayer, "out": the class token is left out; "key": patches attend to it, and it
        does not change; "mean": it also attends to each neighbourhood in turn, and averages; "all":
        it also attends to all patches at once.
    eps : float
        Added to the variance in all norms, finite and >= 0.
    activation : {"relu", "gelu", "gelu_tanh"}
        Of the feed-forward network.

    Returns
    -------
    z, cls : array
        Patches and class token.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If params lack a key or have an unknown one, or an option is another string.

    Notes
    -----
    The paper has ``cls_in_time="key"`` and no ``fc``; published checkpoints need the defaults and
    ``params["time"]["fc"]``.

    References
    ----------
    spec/timesformer/divided-layer.md; survey, Fig. 4.
    """
    sublayer = partial(attention_sublayer, eps=eps)
    time = partial(sublayer, params=params["time"], attend="time", class_token=cls_in_time)
    space = partial(sublayer, params=params["space"], attend="space", class_token=cls_in_space)
    first, second = (time, space) if order == "time-space" else (space, time)
    z, cls = second(*first(z, cls))
    return _feed_forward_sublayer(z, cls, params, eps=eps, activation=activation)


@spec("local-global-layer", requires=(*_ON_GRID, _EVERY_SECOND))
def local_global_layer(
    z: Float[Array, "*b t s d"],
    cls: Float[Array, "*b d"],
    params: LocalGlobalLayerParams,
    *,
    grid: Grid,
    cls_in_local: ClassToken = "out",
    cls_in_global: ClassToken = "mean",
    eps: float = 1e-6,
    activation: Activation = "gelu",
) -> tuple[Float[Array, "*b t s d"], Float[Array, "*b d"]]:
    """Pass patches and class token through one layer of sparse local-global attention (L+G).

    z' = y + FFN(LN_2(y)), y = x + MHA_global(LN(x)), x = z + fc(MHA_local(LN(z)))

    Parameters
    ----------
    z, cls : array
        Patches and class token.
    params : LocalGlobalLayerParams
        ``local`` and ``global``, each with ``norm_1``, ``attention`` and optionally ``fc``;
        ``norm_2`` and ``feed_forward``.
    grid : Grid
        Frames, rows and columns (t, h, w) of the patches, all even; position s is in row s // w and
        column s % w.
    cls_in_local, cls_in_global : {"out", "key", "mean", "all"}
        In that sublayer, "out": the class token is left out; "key": patches attend to it, and it
        does not change; "mean": it also attends to each neighbourhood in turn, and averages; "all":
        it also attends to all patches at once.
    eps : float
        Added to the variance in all norms, finite and >= 0.
    activation : {"relu", "gelu", "gelu_tanh"}
        Of the feed-forward network.

    Returns
    -------
    z, cls : array
        Patches and class token.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If the grid does not fit or has an odd side, params lack a key or have an unknown one, or an
        option is another string.

    Notes
    -----
    Neither equation nor code was published; what is left open follows `divided_layer`.

    References
    ----------
    spec/timesformer/local-global-layer.md; survey, Fig. 4.
    """
    sublayer = partial(attention_sublayer, grid=grid, eps=eps)
    z, cls = sublayer(z, cls, params["local"], attend="local", class_token=cls_in_local)
    z, cls = sublayer(z, cls, params["global"], attend="global", class_token=cls_in_global)
    return _feed_forward_sublayer(z, cls, params, eps=eps, activation=activation)


@spec("axial-layer", requires=_ON_GRID)
def axial_layer(
    z: Float[Array, "*b t s d"],
    cls: Float[Array, "*b d"],
    params: AxialLayerParams,
    *,
    grid: Grid,
    cls_in_time: ClassToken = "out",
    cls_in_width: ClassToken = "out",
    cls_in_height: ClassToken = "mean",
    eps: float = 1e-6,
    activation: Activation = "gelu",
) -> tuple[Float[Array, "*b t s d"], Float[Array, "*b d"]]:
    """Pass patches and class token through one layer of axial attention (T+W+H).

    z' = y + FFN(LN_2(y)), y = A_height(A_width(A_time(z))), A(x) = x + fc(MHA(LN(x)))

    Parameters
    ----------
    z, cls : array
        Patches and class token.
    params : AxialLayerParams
        ``time``, ``width`` and ``height``, each with ``norm_1``, ``attention`` and optionally
        ``fc``; ``norm_2`` and ``feed_forward``.
    grid : Grid
        Frames, rows and columns (t, h, w) of the patches; position s is in row s // w and column
        s % w.
    cls_in_time, cls_in_width, cls_in_height : {"out", "key", "mean", "all"}
        In that sublayer, "out": the class token is left out; "key": patches attend to it, and it
        does not change; "mean": it also attends to each neighbourhood in turn, and averages; "all":
        it also attends to all patches at once.
    eps : float
        Added to the variance in all norms, finite and >= 0.
    activation : {"relu", "gelu", "gelu_tanh"}
        Of the feed-forward network.

    Returns
    -------
    z, cls : array
        Patches and class token.

    Raises
    ------
    ShapeError
        If axes do not fit.
    FormulaError
        If the grid does not fit, params lack a key or have an unknown one, or an option is another
        string.

    Notes
    -----
    Neither equation nor code was published; what is left open follows `divided_layer`.

    References
    ----------
    spec/timesformer/axial-layer.md; survey, Fig. 4.
    """
    sublayer = partial(attention_sublayer, grid=grid, eps=eps)
    z, cls = sublayer(z, cls, params["time"], attend="time", class_token=cls_in_time)
    z, cls = sublayer(z, cls, params["width"], attend="width", class_token=cls_in_width)
    z, cls = sublayer(z, cls, params["height"], attend="height", class_token=cls_in_height)
    return _feed_forward_sublayer(z, cls, params, eps=eps, activation=activation)


def _feed_forward_sublayer(
    z: Array, cls: Array, params: FeedForwardSublayerParams, *, eps: float, activation: Activation
) -> tuple[Array, Array]:
    """Pass patches and class token through the second half of a layer."""
    sublayer = partial(feed_forward_sublayer, params=params, eps=eps, activation=activation)
    return sublayer(z), sublayer(cls[..., None, :])[..., 0, :]
