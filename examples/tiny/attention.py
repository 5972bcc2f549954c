"""What a trained model looks at."""

from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

import vtnp.timesformer as formulas
from vtnp.models import timesformer


def of_class_token(
    params: Any, clip: NDArray[Any], config: timesformer.TimeSformerConfig
) -> NDArray[Any]:
    """Return the share of the class token's attention that each patch gets in the last layer.

    clip: one clip, `T H W C`. The result is `t h w`, averaged over the heads; what is missing
    from a sum of 1 is what the class token gives to itself.
    """
    with patch.object(formulas, "class_attention", wraps=formulas.class_attention) as watched:
        timesformer.apply(params, clip, config)
    (Q_cls, K, _), options = watched.call_args
    t, s = K.shape[-3:-1]
    # A reading is linear in the values. Where each patch's value is its own name, the reading is
    # the weight of each patch, whatever the scheme's neighbourhoods are.
    names = np.eye(t * s, dtype=K.dtype).reshape(t, s, t * s)
    options["V_cls"] = np.zeros((*options["V_cls"].shape[:-1], t * s), K.dtype)
    shares = formulas.class_attention(
        Q_cls, K, np.broadcast_to(names, (*K.shape[:-1], t * s)), **options
    )
    # With the scheme "space" every frame has a class token of its own: an axis before the heads.
    shares = shares.mean(axis=-3) / (config.frames if config.scheme == "space" else 1)
    return shares.reshape(config.frames, *config.grid)
