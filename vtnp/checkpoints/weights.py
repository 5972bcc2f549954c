"""Published weights from their files: safetensors, .npz, and torch's pickles where allowed."""

import os
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from vtnp.checkpoints.files import load
from vtnp.checkpoints.layouts import from_published, layout_of
from vtnp.checkpoints.mapping import LayoutError
from vtnp.checkpoints.npz import from_npz
from vtnp.checkpoints.opening import FileError
from vtnp.checkpoints.torch_files import from_torch

Tensors = dict[str, NDArray[Any]]

_TORCH_SUFFIXES = (".pt", ".pth", ".pyth", ".bin")


def load_weights(
    path: str | os.PathLike[str],
    model: str,
    config: Any,
    *,
    layout: str,
    torch: bool = False,
    extra_params: Any = None,
) -> Any:
    """Read the params of a model from a file of published weights.

    Parameters
    ----------
    path : str or PathLike
        A file whose name ends in .safetensors, .npz, or .pt, .pth, .pyth or .bin.
    model : str
        One of `layouts`.
    config : dataclass
        A configuration of that model.
    layout : str
        One of the model's layouts.
    torch : bool
        Whether to read a torch file. It is a pickle, read by torch with weights_only=True, which
        makes only tensors and plain containers; still, read only files whose origin you know.
        Nothing else is ever unpickled.
    extra_params : tree of arrays, optional
        Params that do not come from the file, as in `from_published`.

    Returns
    -------
    dict
        Params as the model's `init` returns them. Arrays keep their dtype.

    Raises
    ------
    FileError
        If the file cannot be read or is not valid; the message is a single line.
    LayoutError
        If keys do not fit; it names the file and lists all of them.
    ValueError
        If there is no such model or layout.
    TypeError
        If the configuration is another model's.

    Warns
    -----
    UserWarning
        If arrays are bfloat16, which NumPy does not have: they become float32, exactly.

    Notes
    -----
    Of a torch file that holds more than tensors, the weights are those under "model_state",
    "model_state_dict", "state_dict" or "model"; the rest, such as an optimizer's state, is ignored.
    "module." and the layout's own prefixes are removed from names, for instance "model." of
    TimeSformer.

    Only regular files are read, no pipes or devices. What is packed, as np.savez_compressed does,
    may take 32 MiB when unpacked, or 20 times the size of its file if that is more; a file with
    more is refused before it is unpacked, and can be stored without packing instead.
    """
    prefixes = layout_of(model, config, layout).prefixes
    tensors = _read(Path(path), torch=torch)
    for prefix in ("module.", *prefixes):
        tensors = _without(prefix, tensors, path)
    try:
        return from_published(model, config, layout, tensors, extra_params=extra_params)
    except LayoutError as error:
        raise LayoutError(f"{path}: {model}, layout {layout}", error.problems) from None


def _read(path: Path, *, torch: bool) -> Tensors:
    kind = path.suffix.lower()
    if kind == ".safetensors":
        return load(path)[0]
    if kind == ".npz":
        return from_npz(path)
    if kind not in _TORCH_SUFFIXES:
        known = ", ".join((".safetensors", ".npz", *_TORCH_SUFFIXES))
        raise FileError(f"{path}: expected a name that ends in one of {known}")
    if not torch:
        raise FileError(f"{path}: a torch file is a pickle, which is only read with torch=True")
    return from_torch(path)


def _without(prefix: str, tensors: Tensors, path: Any) -> Tensors:
    """Remove a prefix from the names that have it."""
    short = {name.removeprefix(prefix): x for name, x in tensors.items()}
    if len(short) < len(tensors):
        twice = next(name for name in short if name in tensors and prefix + name in tensors)
        raise FileError(f"{path}: it has both {prefix + twice!r} and {twice!r}")
    return short
