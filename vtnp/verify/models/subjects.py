"""What is compared of a model: how it runs, on which input, and with which params."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vtnp import encoder, models, nystromformer
from vtnp._registry.errors import UsageError
from vtnp.checkpoints import LayoutError, layouts, load_weights, to_published
from vtnp.verify.models.activations import Run


class Subject(NamedTuple):
    """One model: run(params, x), the shape of x without its batch axis, and the sizes of axes.

    sizes: by the names that patterns may have for the axes.
    """

    run: Run
    shape: tuple[int, ...]
    sizes: Mapping[str, int]


def subject(model: str, config: Any) -> Subject:
    """Return what is compared of a model.

    Notes: of Nyströmformer and LongNet the layers alone, on tokens: nothing else is published, and
    the video encoders of vtnp.models have the same params. Nyströmformer's layers are post-norm, as
    released.
    """
    sizes = {"d_h": config.d // config.heads, "three": 3, "two": 2}
    if model != "mvit":  # whose heads grow in number
        sizes["heads"] = config.heads
    if model in _LAYERS:
        return Subject(_LAYERS[model](config), (math.prod(config.grid), config.d), sizes)
    module = getattr(models, model)
    shape = (config.frames, *config.image, config.channels)
    t, h, w = config.grid
    sizes |= {"t": t, "s": h * w}
    return Subject(lambda params, x: module.apply(params, x, config), shape, sizes)


def _nystromformer(config: Any) -> Run:
    def run(params: Any, x: Any) -> Any:
        options = {name: getattr(config, name) for name in _OPTIONS}
        for layer in params["layers"]:
            update = nystromformer.nystrom_self_attention(x, **layer["attention"], **options)
            y = encoder.add_and_norm(x, update, **layer["norm_1"], eps=config.eps)
            z = encoder.feed_forward(y, **layer["feed_forward"], activation=config.activation)
            x = encoder.add_and_norm(y, z, **layer["norm_2"], eps=config.eps)
        return x

    return run


def _longnet(config: Any) -> Run:
    return lambda params, x: models.longnet.through_layers(params, x, config)


_OPTIONS = ("landmarks", "pinv", "iterations", "start")
_LAYERS = {"nystromformer": _nystromformer, "longnet": _longnet}


def weights(model: str, config: Any, layout: str, file: Path) -> tuple[Any, dict[str, Any]]:
    """Return our params from a file, and the same weights by the layout's names.

    Raises UsageError, of one line.
    """
    if model not in layouts():
        raise UsageError(f"no weights of {model} are published, only of {', '.join(layouts())}")
    if layout not in layouts()[model]:
        known = ", ".join(layouts()[model])
        raise UsageError(f"{model} has no layout {layout!r}; it has {known}")
    torch, extra_params = is_pickled(file), _not_run(model, config)
    try:
        params = load_weights(
            file, model, config, layout=layout, torch=torch, extra_params=extra_params
        )
        return params, to_published(model, config, layout, params)
    except LayoutError as error:
        first, *more = error.problems
        others = f", and {len(more)} more such keys" if more else ""
        raise UsageError(f"{file} does not fit {model}, layout {layout}: {first}{others}") from None


def is_pickled(file: Path) -> bool:
    """Tell whether torch has written a file, which is then a pickle."""
    return file.suffix in (".pt", ".pth", ".pyth", ".bin")


def _not_run(model: str, config: Any) -> Any:
    """Return params of the video encoder that the layers alone do not need, and no file has."""
    if model not in _LAYERS:
        return None
    drawn = getattr(models, model).init(np.random.default_rng(0), config)
    return {name: x for name, x in drawn.items() if name != "layers"}
