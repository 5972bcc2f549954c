"""Published weights from their files: safetensors, .npz, and torch's pickles where allowed."""

import math
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtnp.checkpoints.files import FileError, load, one_line, warn_of_bfloat16
from vtnp.checkpoints.layouts import from_published, layout_of

Tensors = dict[str, NDArray[Any]]

# Keys under which the file of a training run may keep the weights.
WRAPPERS = ("model_state", "model_state_dict", "state_dict", "model")
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
        If keys do not fit; it lists all of them.
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
    """
    prefixes = layout_of(model, config, layout).prefixes
    tensors = _read(Path(path), torch=torch)
    for prefix in ("module.", *prefixes):
        tensors = _without(prefix, tensors, path)
    return from_published(model, config, layout, tensors, extra_params=extra_params)


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
    return _from_torch(path)


def _without(prefix: str, tensors: Tensors, path: Any) -> Tensors:
    """Remove a prefix from the names that have it."""
    short = {name.removeprefix(prefix): x for name, x in tensors.items()}
    if len(short) < len(tensors):
        twice = next(name for name in short if name in tensors and prefix + name in tensors)
        raise FileError(f"{path}: it has both {prefix + twice!r} and {twice!r}")
    return short


# --- npz ------------------------------------------------------------------------------------------


def from_npz(path: Path) -> Tensors:
    """Read an archive array by array, checking each header first, which np.load trusts."""
    with _errors_as_file_errors(path, "bad .npz"), zipfile.ZipFile(path) as archive:
        tensors: Tensors = {}
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if name == member.filename:
                raise ValueError(f"{member.filename!r} is not an array")
            if name in tensors:
                raise ValueError(f"{name!r} occurs twice")
            with archive.open(member) as file:
                tensors[name] = _array(file, name, member.file_size)
        return tensors


_HEADERS: Mapping[tuple[int, int], Callable[[Any], Any]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def _array(file: Any, name: str, size: int) -> NDArray[Any]:
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"{name!r} has version {version} of the format")
    shape, columns_first, dtype = _HEADERS[version](file)
    if dtype.kind not in "biufc":
        raise ValueError(f"{name!r} has the dtype {dtype}, which is not numeric")
    data, described = size - file.tell(), math.prod(shape) * dtype.itemsize
    if data != described or min(shape, default=0) < 0:
        raise ValueError(f"{name!r} has {data} bytes for a {dtype} array of shape {shape}")
    # The archive's directory may be wrong about the length; what was read has its own.
    array = np.frombuffer(bytearray(file.read()), dtype).reshape(
        shape, order="F" if columns_first else "C"
    )
    return array.astype(dtype.newbyteorder("="), copy=False)


# --- torch ----------------------------------------------------------------------------------------


def _from_torch(path: Path) -> Tensors:
    try:
        from torch import Tensor, bfloat16, float32
        from torch import load as load_torch
    except ModuleNotFoundError:
        raise FileError(f"{path}: reading a torch file needs torch") from None

    with _errors_as_file_errors(path, "bad torch file"):
        state = _unwrapped(load_torch(path, map_location="cpu", weights_only=True))
        tensors: Tensors = {}
        for name, x in state.items():
            if not (isinstance(name, str) and isinstance(x, Tensor)):
                raise TypeError(f"expected a tensor for {name!r}, got {type(x).__name__}")
            tensors[name] = (x.to(float32) if x.dtype == bfloat16 else x).detach().numpy()
    if any(x.dtype == bfloat16 for x in state.values()):
        warn_of_bfloat16(path)
    return tensors


def _unwrapped(content: Any) -> Mapping[Any, Any]:
    """Return the weights within what a training run has written."""
    if not isinstance(content, Mapping):
        raise TypeError(f"expected a dict of tensors, got {type(content).__name__}")
    inner = [key for key in WRAPPERS if isinstance(content.get(key), Mapping)]
    if len(inner) > 1:
        raise ValueError(f"weights under more than one name: {', '.join(inner)}")
    return _unwrapped(content[inner[0]]) if inner else content


@contextmanager
def _errors_as_file_errors(path: Path, what: str) -> Iterator[None]:
    """Turn whatever a reader of untrusted files raises into a FileError."""
    try:
        yield
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or error}") from None
    # zipfile, zlib, struct, tokenize, pickle and torch each have errors of their own.
    except Exception as error:  # noqa: BLE001
        raise FileError(f"{path}: {what}: {one_line(error)}") from None
