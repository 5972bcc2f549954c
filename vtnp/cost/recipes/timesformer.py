"""Sizes of vtnp.timesformer's formulas: TimeSformer, 8 frames of 14 x 14 patches, width 768.

As in its released code every step but a layer's last has a further linear map, `fc`.
"""

from collections.abc import Callable

from vtnp.cost.recipes.tables import (
    HEADS,
    LAYER,
    Recipe,
    Sizes,
    Table,
    attention_half,
    feed_forward_half,
    layer,
    plus_bias,
)


def _step(z: Sizes) -> Table:
    fc = {"W": "d d", "b": plus_bias(z, "d")} if z["fc"] else None
    return {**attention_half(z), "fc": fc}


def _layer(*attend: str) -> Callable[[Sizes], Table]:
    *extra, last = attend

    def params(z: Sizes) -> Table:
        steps = {name: _step(z) for name in extra}
        return {**steps, last: attention_half(z), **feed_forward_half(z)}

    return params


_FC = {**LAYER, "fc": bool}
SIZES: Table = {"fc": True}
RECIPES = {
    "attention-sublayer": Recipe(
        {"attend": "time", "class_token": "out", "grid": (14, 14)},
        {**HEADS, "fc": bool},
        _step,
    ),
    "space-layer": Recipe(names=LAYER, params=layer),
    "joint-layer": Recipe(names=LAYER, params=layer),
    "divided-layer": Recipe(names=_FC, params=_layer("time", "space")),
    "local-global-layer": Recipe(names=_FC, params=_layer("local", "global")),
    "axial-layer": Recipe(names=_FC, params=_layer("time", "width", "height")),
}
