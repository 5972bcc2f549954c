"""The pages of spec/timesformer, with 50 digits.

An attention within neighbourhoods is a partition of the patches: those of equal label attend to
each other.
"""

from collections.abc import Iterator

import numpy as np

from tests.exact.encoder import attention, feed_forward_sublayer, layer_norm
from tests.exact.inputs import sizes

# Their cases have a grid.
for _id in ("local", "global", "class"):
    sizes(f"{_id}-attention", t=2, h=2, w=4, s=None)
for _id in ("attention-sublayer", "local-global-layer"):
    sizes(_id, t=2, h=2, w=4, s=None)
for _id in ("width-attention", "height-attention", "axial-layer"):
    sizes(_id, t=2, h=2, w=3, s=None)


def space_time_embedding(x, E, e_pos, *, bias=None):
    z = x @ E + e_pos
    return z if bias is None else z + bias


def _neighbourhoods(kind: str, frames: int, positions: int, grid=None) -> Iterator[list[int]]:
    """Yield the patches of each neighbourhood, counted frame by frame."""
    _, h, w = grid or (frames, 1, positions)
    labels = {
        "space": lambda t, y, x: t,
        "time": lambda t, y, x: (y, x),
        "joint": lambda t, y, x: None,
        "local": lambda t, y, x: (2 * y >= h, 2 * x >= w),
        "global": lambda t, y, x: (t % 2, y % 2, x % 2),
        "width": lambda t, y, x: (t, y),
        "height": lambda t, y, x: (t, x),
    }
    label_of = [labels[kind](t, *divmod(s, w)) for t in range(frames) for s in range(positions)]
    for label in dict.fromkeys(label_of):
        yield [patch for patch, other in enumerate(label_of) if other == label]


def _patches(x):
    """Count `*b t s d` frame by frame."""
    *batch, t, s, d = x.shape
    return x.reshape(*batch, t * s, d)


def _with_class_token(x_cls, x):
    return x if x_cls is None else np.concatenate([x_cls, x], axis=-2)


def _attention(kind, Q, K, V, K_cls, V_cls, grid=None):
    """Let each patch attend to its neighbourhood, and to the class token if there is one."""
    t, s = Q.shape[-3:-1]
    Q, K, V = map(_patches, (Q, K, V))
    Y = np.empty((*Q.shape[:-1], V.shape[-1]), dtype=object)
    for near in _neighbourhoods(kind, t, s, grid):
        keys = _with_class_token(K_cls, K[..., near, :])
        Y[..., near, :] = attention(
            Q[..., near, :], keys, _with_class_token(V_cls, V[..., near, :])
        )
    return Y.reshape(*Y.shape[:-2], t, s, Y.shape[-1])


def space_attention(Q, K, V, *, K_cls=None, V_cls=None):
    return _attention("space", Q, K, V, K_cls, V_cls)


def time_attention(Q, K, V, *, K_cls=None, V_cls=None):
    return _attention("time", Q, K, V, K_cls, V_cls)


def joint_attention(Q, K, V, *, K_cls=None, V_cls=None):
    return _attention("joint", Q, K, V, K_cls, V_cls)


def local_attention(Q, K, V, *, grid, K_cls=None, V_cls=None):
    return _attention("local", Q, K, V, K_cls, V_cls, grid)


def global_attention(Q, K, V, *, grid, K_cls=None, V_cls=None):
    return _attention("global", Q, K, V, K_cls, V_cls, grid)


def width_attention(Q, K, V, *, grid, K_cls=None, V_cls=None):
    return _attention("width", Q, K, V, K_cls, V_cls, grid)


def height_attention(Q, K, V, *, grid, K_cls=None, V_cls=None):
    return _attention("height", Q, K, V, K_cls, V_cls, grid)


def class_attention(Q_cls, K, V, *, K_cls=None, V_cls=None, over="space", grid=None):
    t, s = K.shape[-3:-1]
    K, V = _patches(K), _patches(V)
    of_each = [
        attention(
            Q_cls,
            _with_class_token(K_cls, K[..., near, :]),
            _with_class_token(V_cls, V[..., near, :]),
        )
        for near in _neighbourhoods(over, t, s, grid)
    ]
    return sum(of_each) / len(of_each)


def attention_sublayer(z, cls, params, *, attend, class_token, grid=None, eps=1e-6):
    x = layer_norm(z, **params["norm_1"], eps=eps)
    x_cls = layer_norm(cls[..., None, :], **params["norm_1"], eps=eps)
    update, update_cls = 0, 0
    for h in range(len(params["attention"]["W_q"])):
        Q, K, V = (_projected(x, params["attention"], letter, h) for letter in "qkv")
        own = [_projected(x_cls, params["attention"], letter, h) for letter in "qkv"]
        W_c = params["attention"]["W_c"][h]
        Q_cls, K_cls, V_cls = own
        as_key = (None, None) if class_token == "out" else (K_cls, V_cls)
        update = update + _attention(attend, Q, K, V, *as_key, grid) @ W_c
        over = {"mean": attend, "all": "joint"}.get(class_token)
        if over is not None:
            y = class_attention(Q_cls, K, V, K_cls=K_cls, V_cls=V_cls, over=over, grid=grid)
            update_cls = update_cls + y[..., 0, :] @ W_c
    z = z + _mapped(update, params)
    return z, cls + _mapped(update_cls, params) if class_token in {"mean", "all"} else cls


def _projected(x, params, letter, h):
    bias = params.get(f"b_{letter}")
    y = x @ params[f"W_{letter}"][h]
    return y if bias is None else y + bias[h]


def _mapped(update, params):
    """Apply what follows the heads: the bias of their output projection, and `fc`."""
    b_c, fc = params["attention"].get("b_c"), params.get("fc")
    update = update if b_c is None else update + b_c
    if fc is None:
        return update
    return update @ fc["W"] + (0 if fc.get("b") is None else fc["b"])


def _layer(z, cls, params, sublayers, grid, eps, activation):
    """Pass tokens through attention sublayers, (params, attend, class_token), and the network."""
    for of_one, attend, class_token in sublayers:
        z, cls = attention_sublayer(
            z, cls, of_one, attend=attend, class_token=class_token, grid=grid, eps=eps
        )
    z, cls = (
        feed_forward_sublayer(y, params, eps=eps, activation=activation)
        for y in (_patches(z), cls[..., None, :])
    )
    return z, cls[..., 0, :]


def _in_grid(result, shape):
    z, cls = result
    return z.reshape(shape), cls


def space_layer(z, cls, params, *, cls_in_space="mean", eps=1e-6, activation="gelu"):
    sublayers = [(params, "space", cls_in_space)]
    return _in_grid(_layer(z, cls, params, sublayers, None, eps, activation), z.shape)


def joint_layer(z, cls, params, *, eps=1e-6, activation="gelu"):
    sublayers = [(params, "joint", "all")]
    return _in_grid(_layer(z, cls, params, sublayers, None, eps, activation), z.shape)


def divided_layer(
    z,
    cls,
    params,
    *,
    order="time-space",
    cls_in_time="out",
    cls_in_space="mean",
    eps=1e-6,
    activation="gelu",
):
    class_token = {"time": cls_in_time, "space": cls_in_space}
    sublayers = [(params[axis], axis, class_token[axis]) for axis in order.split("-")]
    return _in_grid(_layer(z, cls, params, sublayers, None, eps, activation), z.shape)


def local_global_layer(
    z,
    cls,
    params,
    *,
    grid,
    cls_in_local="out",
    cls_in_global="mean",
    eps=1e-6,
    activation="gelu",
):
    sublayers = [
        (params["local"], "local", cls_in_local),
        (params["global"], "global", cls_in_global),
    ]
    return _in_grid(_layer(z, cls, params, sublayers, grid, eps, activation), z.shape)


def axial_layer(
    z,
    cls,
    params,
    *,
    grid,
    cls_in_time="out",
    cls_in_width="out",
    cls_in_height="mean",
    eps=1e-6,
    activation="gelu",
):
    sublayers = [
        (params["time"], "time", cls_in_time),
        (params["width"], "width", cls_in_width),
        (params["height"], "height", cls_in_height),
    ]
    return _in_grid(_layer(z, cls, params, sublayers, grid, eps, activation), z.shape)
