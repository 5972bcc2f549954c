"""What of a model is compared: how it runs, on what, and on which params."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vtnp import encoder, models, nystromformer
from vtnp._usage import UsageError
from vtnp.checkpoints import LayoutError, layouts, load_weights, to_theirs
from vtnp.verify.activations import Run


class Subject(NamedTuple):
    """One model: run(params, x), and the shape of x without its batch axis.

    sizes: of axes that patterns may name.
    """

    run: Run
    shape: tuple[int, ...]
    sizes: Mapping[str, int]


def subject(model: str, config: Any) -> Subject:
    """Return what is compared of a model.

    Notes: of Nyströmformer the layers as released, which normalise sums, on tokens: the video
    encoder of vtnp.models shares their params, and nothing else is published.
    """
    sizes = {"heads": config.heads, "d_h": config.d // config.heads}
    if model == "nystromformer":
        t, s = config.grid
        return Subject(_released(config), (t * s, config.d), sizes)
    module = getattr(models, model)
    t, *places = (config.frames, *config.grid) if model == "timesformer" else config.grid
    shape = (config.frames, *config.image, config.channels)
    sizes |= {"t": t, "s": math.prod(places)}
    return Subject(lambda params, x: module.apply(params, x, config), shape, sizes)


def _released(config: Any) -> Run:
    def run(params: Any, x: Any) -> Any:
        known = {name: getattr(config, name) for name in _OPTIONS}
        for layer in params["layers"]:
            read = nystromformer.nystrom_self_attention(x, **layer["attention"], **known)
            y = encoder.add_and_norm(x, read, **layer["norm_1"], eps=config.eps)
            z = encoder.feed_forward(y, **layer["feed_forward"], activation=config.activation)
            x = encoder.add_and_norm(y, z, **layer["norm_2"], eps=config.eps)
        return x

    return run


_OPTIONS = ("landmarks", "pinv", "iterations", "start")


def weights(model: str, config: Any, layout: str, file: Path) -> tuple[Any, dict[str, Any]]:
    """Return our params out of a file, and the same weights by the layout's names.

    Raises UsageError, one line.
    """
    if model not in layouts():
        raise UsageError(f"no weights of {model} are published; of {', '.join(layouts())} they are")
    if layout not in layouts()[model]:
        raise UsageError(f"{model} has the layouts {', '.join(layouts()[model])}, not {layout!r}")
    torch, beside = is_of_torch(file), _unread(model, config)
    try:
        params = load_weights(file, model, config, layout=layout, torch=torch, beside=beside)
        return params, to_theirs(model, config, layout, params)
    except LayoutError as error:
        first, *more = error.problems
        others = f", and {len(more)} more such keys" if more else ""
        raise UsageError(f"{file} does not fit {model}, layout {layout}: {first}{others}") from None


def is_of_torch(file: Path) -> bool:
    """Tell whether a file is one that torch has written, which is unpickled."""
    return file.suffix in (".pt", ".pth", ".pyth", ".bin")


def _unread(model: str, config: Any) -> Any:
    """Return params that are not run, and that no released file has."""
    if model != "nystromformer":
        return None
    drawn = models.nystromformer.init(np.random.default_rng(0), config)
    return {name: x for name, x in drawn.items() if name != "layers"}
