"""Tensors in torch's files, which are pickles that torch reads without running them."""

import os
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from numpy.typing import NDArray

from vtnp.checkpoints.files import warn_of_bfloat16
from vtnp.checkpoints.npz import (
    MOST_TIMES,
    MOST_UNPACKED,
    errors_as_file_errors,
    refuse_large,
)
from vtnp.checkpoints.opening import FileError, check_name, one_line, reading

# Keys under which the file of a training run may keep the weights.
WRAPPERS = ("model_state", "model_state_dict", "state_dict", "model")

# What torch says at length, and with the advice to run the file after all.
_REASONS = {
    r"GLOBAL (\S+) was not an allowed global|global: GLOBAL (\S+)|class (\S+) of":
        "it has more than tensors and plain containers: {}",
    r"whose module (\S+) is blocked": "it has more than tensors and plain containers: {}",
    r"legacy \.tar format": "a tar file of torch before 0.1.10, which cannot be read safely",
    r"TorchScript": "a TorchScript archive, which is a program",
    r"Invalid magic number": "not a file of torch: wrong magic number",
    r"Unsupported operand (\d+)": "a pickle with what no tensor needs: operation {}",
    r"WeightsUnpickler error: (.*)": "a damaged pickle: {}",
}  # fmt: skip
_ADVICE = re.compile(r"Check the documentation of|This is an internal miniz error|Exception raised")


def from_torch(path: Path) -> dict[str, NDArray[Any]]:
    """Read the tensors of a file of torch. Raises FileError."""
    try:
        import torch
    except ModuleNotFoundError:
        raise FileError(f"{path}: reading a torch file needs torch") from None

    with reading(path) as file, errors_as_file_errors(path, "bad torch file"):
        size = os.fstat(file.fileno()).st_size
        _refuse_hostile_archives(file, size)
        state = _unwrapped(_loaded(torch, file))
        limit = max(MOST_UNPACKED, MOST_TIMES * size)
        tensors: dict[str, NDArray[Any]] = {}
        for name, x in state.items():
            if not isinstance(x, torch.Tensor):
                raise TypeError(f"expected a tensor for {name!r}, got {type(x).__name__}")
            check_name(name)
            _refuse_odd(torch, name, x)
            limit -= x.numel() * x.element_size()
            if limit < 0:
                raise ValueError(f"{name!r} and those before it take more than the file holds")
            tensors[name] = (x.float() if x.dtype == torch.bfloat16 else x).detach().numpy()
    if any(x.dtype == torch.bfloat16 for x in state.values()):
        warn_of_bfloat16(path)
    return tensors


def _refuse_hostile_archives(file: BinaryIO, size: int) -> None:
    """Raise ValueError for an archive that is too large when unpacked, or not whole."""
    beginning = file.read(4)
    file.seek(0)
    if beginning == b"PK\3\4":
        try:
            with zipfile.ZipFile(file) as archive:
                refuse_large(archive.infolist(), size)
        except zipfile.BadZipFile as error:
            reason = f"a zip archive that is truncated or damaged: {one_line(error)}"
            raise ValueError(reason) from None
        file.seek(0)


def _loaded(torch: Any, file: BinaryIO) -> Any:
    """Return what torch reads; raise ValueError with a reason where it refuses."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # noqa: BLE001 - there are many kinds
            raise ValueError(_reason(error)) from None


def _reason(error: Exception) -> str:
    text = _ADVICE.split(one_line(error))[0].strip()
    for pattern, reason in _REASONS.items():
        if found := re.search(pattern, text):
            return reason.format(next(filter(None, found.groups()), ""))
    # What follows from operations in a wrong order: a stack that is empty, a list without methods.
    return text if isinstance(error, EOFError | RuntimeError) else f"a damaged pickle: {text}"


def _refuse_odd(torch: Any, name: str, x: Any) -> None:
    """Raise ValueError for a tensor without ordinary numbers in memory."""
    kinds = {
        "sparse": x.layout != torch.strided,
        "quantized": x.is_quantized,
        "without numbers": x.device.type != "cpu",
    }
    for kind, is_kind in kinds.items():
        if is_kind:
            raise ValueError(f"{name!r} is a tensor that is {kind}")


def _unwrapped(content: Any) -> Mapping[Any, Any]:
    """Return the weights within what a training run has written."""
    if not isinstance(content, Mapping):
        raise TypeError(f"expected a dict of tensors, got {type(content).__name__}")
    inner = [key for key in WRAPPERS if isinstance(content.get(key), Mapping)]
    if len(inner) > 1:
        raise ValueError(f"weights under more than one name: {', '.join(inner)}")
    return _unwrapped(content[inner[0]]) if inner else content
