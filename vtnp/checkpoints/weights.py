"""Published weights out of their files: safetensors, .npz, and torch's pickles where allowed."""

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
from vtnp.checkpoints.layouts import from_theirs, layout_of

Tensors = dict[str, NDArray[Any]]

# Under which a training run's file may keep the weights, beside what else it has.
WRAPPERS = ("model_state", "model_state_dict", "state_dict", "model")
_TORCH = (".pt", ".pth", ".pyth", ".bin")


def load_weights(
    path: str | os.PathLike[str],
    model: str,
    config: Any,
    *,
    layout: str,
    torch: bool = False,
    beside: Any = None,
) -> Any:
    """Read the params of a model out of a file of published weights.

    path: ends in .safetensors, .npz, or .pt, .pth, .pyth or .bin. model, config, layout, beside: as
    in from_theirs. torch: True to read a torch file. It is a pickle, read by torch with
    weights_only=True, so that it can make tensors and plain containers only; still, name only files
    whose origin you know. Nothing else is ever unpickled.
    Raises FileError, a single line, for a file that cannot be read or believed; LayoutError, which
    lists all keys that do not fit; ValueError for a model or layout that there is not.
    Notes: arrays keep their dtypes, but for bfloat16, which NumPy does not have: it becomes
    float32, exactly, with a warning. Of a torch file that holds more than tensors the weights are
    what stands under "model_state", "model_state_dict", "state_dict" or "model"; the rest, such as
    an optimizer's state, is left aside. "module." and the layout's own prefixes are taken off
    names, for instance "model." of TimeSformer.
    """
    table = layout_of(model, config, layout)
    tensors = _read(Path(path), torch=torch)
    for prefix in ("module.", *table.prefixes):
        tensors = _without(prefix, tensors, path)
    return from_theirs(model, config, layout, tensors, beside=beside)


def _read(path: Path, *, torch: bool) -> Tensors:
    kind = path.suffix.lower()
    if kind == ".safetensors":
        return load(path)[0]
    if kind == ".npz":
        return from_npz(path)
    if kind not in _TORCH:
        known = ", ".join((".safetensors", ".npz", *_TORCH))
        raise FileError(f"{path}: its name ends in none of {known}")
    if not torch:
        raise FileError(f"{path}: a torch file is a pickle, which is read with torch=True only")
    return _from_torch(path)


def _without(prefix: str, tensors: Tensors, path: Any) -> Tensors:
    """Take a prefix off the names that have it."""
    short = {name.removeprefix(prefix): x for name, x in tensors.items()}
    if len(short) < len(tensors):
        twice = next(name for name in short if name in tensors and prefix + name in tensors)
        raise FileError(f"{path}: it has both {prefix + twice!r} and {twice!r}")
    return short


# --- npz ------------------------------------------------------------------------------------------


def from_npz(path: Path) -> Tensors:
    """Read an archive array by array, each header before its data; np.load trusts the headers."""
    with _told(path, "bad .npz"), zipfile.ZipFile(path) as archive:
        tensors: Tensors = {}
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if name == member.filename:
                raise ValueError(f"{member.filename!r} is no array")
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
        raise ValueError(f"{name!r} is of version {version} of the format")
    shape, columns_first, dtype = _HEADERS[version](file)
    if dtype.kind not in "biufc":
        raise ValueError(f"{name!r} has the dtype {dtype}, which is no number")
    data, described = size - file.tell(), math.prod(shape) * dtype.itemsize
    if data != described or min(shape, default=0) < 0:
        raise ValueError(f"{name!r} has {data} bytes for a {dtype} array of shape {shape}")
    # What was read tells its own length: the archive's directory may be wrong, too.
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

    with _told(path, "bad torch file"):
        state = _unwrapped(load_torch(path, map_location="cpu", weights_only=True))
        tensors: Tensors = {}
        for name, x in state.items():
            if not (isinstance(name, str) and isinstance(x, Tensor)):
                raise TypeError(f"{name!r} is no tensor but a {type(x).__name__}")
            tensors[name] = (x.to(float32) if x.dtype == bfloat16 else x).detach().numpy()
    if any(x.dtype == bfloat16 for x in state.values()):
        warn_of_bfloat16(path)
    return tensors


def _unwrapped(content: Any) -> Mapping[Any, Any]:
    """Return the table of weights within what a training run has written."""
    if not isinstance(content, Mapping):
        raise TypeError(f"no table of tensors but a {type(content).__name__}")
    inner = [key for key in WRAPPERS if isinstance(content.get(key), Mapping)]
    if len(inner) > 1:
        raise ValueError(f"weights under more than one name: {', '.join(inner)}")
    return _unwrapped(content[inner[0]]) if inner else content


@contextmanager
def _told(path: Path, what: str) -> Iterator[None]:
    """Turn whatever a reader of other people's files raises into one line."""
    try:
        yield
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or error}") from None
    # zipfile, zlib, struct, tokenize, pickle and torch each have errors of their own.
    except Exception as error:  # noqa: BLE001
        raise FileError(f"{path}: {what}: {one_line(error)}") from None
