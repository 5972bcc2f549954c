"""Targets: files of arrays, .npz and .safetensors, read as the weights of a model."""

import io
import random
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzz import HARM, Case, target
from tests.fuzz.archives import DEFLATED, STORED, Member, changed_archive, zeros
from tests.fuzz.mutations import (
    as_json,
    changed_bytes,
    changed_json,
    hostile_name,
    integer,
    special_file,
    string,
)
from vtnp.checkpoints import FileError, LayoutError, load_weights, tensor_shapes
from vtnp.models.timesformer import TimeSformerConfig

CONFIG = TimeSformerConfig(
    frames=2, image=(4, 4), patch=2, channels=1, d=4, heads=2, d_f=3, layers=1, classes=3
)
BFLOAT16 = "bfloat16, which NumPy does not have, is read as float32$"
BOMB = 100_000_000  # bytes


@cache
def weights() -> dict[str, Any]:
    """Return the weights of a small model."""
    rng = np.random.default_rng(0)
    shapes = tensor_shapes("timesformer", CONFIG, "official")
    return {name: rng.standard_normal(x).astype(np.float32) for name, x in shapes.items()}


def reading(path: Path) -> Case:
    """Return the case of a file of weights."""
    return Case(
        lambda: load_weights(path, "timesformer", CONFIG, layout="official", torch=True), (path,)
    )


# --- npz ------------------------------------------------------------------------------------------


@target("npz", errors=(FileError, LayoutError), share=2.0)
def npz(rng: random.Random, folder: Path) -> Case:
    """Write an .npz file."""
    path = folder / hostile_name(rng, ".npz")
    kind = rng.randrange(20)
    if kind == 0:
        special_file(rng, path)
        return reading(path)
    arrays = dict(weights())
    members = [Member(f"{name}.npy", npy(x)) for name, x in arrays.items()]
    for each in members:
        each.method = rng.choice((STORED, DEFLATED))
    if kind <= 2:
        content = changed_bytes(rng, changed_archive(random.Random(0), members))
    else:
        for _ in range(rng.choice((0, 1, 1, 2))):
            i = rng.randrange(len(members))
            members[i].data = changed_npy(rng, arrays[members[i].name.removesuffix(".npy")], folder)
        if kind == 3:
            members.append(bomb(rng))
        content = changed_archive(rng, members)
    path.write_bytes(content)
    return reading(path)


def npy(array: Any) -> bytes:
    """Return an array as an .npy file has it."""
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version=(1, 0))
    return file.getvalue()


def bomb(rng: random.Random) -> Member:
    """Return a small member that is large when unpacked, whatever it says of its size."""
    header = npy(np.zeros((0,), np.float32)).replace(b"(0,)", b"(%d,)" % (BOMB // 4))[:128]
    packed = zeros(BOMB)
    size = rng.choice((BOMB, 16, 0, BOMB + len(header)))
    lies = {(where, "size"): size for where in ("local", "central")}
    name = rng.choice(("more.npy", "norm.bias.npy"))
    return Member(name, b"", DEFLATED, packed=packed, lies=lies)


class Harm:
    """Who unpickles it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def changed_npy(rng: random.Random, array: Any, folder: Path) -> bytes:
    """Return an .npy file whose header or numbers are not as they should be."""
    kind = rng.randrange(8)
    if kind == 0:
        return changed_bytes(rng, npy(array))
    if kind == 1:
        return npy(_other_array(rng, array, folder))
    shape = list(array.shape)
    if kind == 2 or not shape:
        shape.insert(rng.randrange(len(shape) + 1), integer(rng, 1) % 10**300)
    elif kind == 3:
        i = rng.randrange(len(shape))
        shape[i] = integer(rng, shape[i]) % 10**300
    descr = rng.choice((*['"<f4"'] * 6, "'<f4'", "'|O'", "'<f3'", "'a5'", "'V4'", "'S4'", "'M8[s]'",
        "'<f16'", "'?'", "'>c8'", "[('a', '<f4')]", "('<f4', (2,))", "{'names': []}", "None", "3",
        repr(string(rng, "<f4")), "'f'", "'=f4'", "'float32'", "'4f4'", "'f4,f4'"))  # fmt: skip
    text = rng.choice((
        f"{{'descr': {descr}, 'fortran_order': False, 'shape': {_tuple(shape)}, }}",
        f"{{'shape': {_tuple(shape)}, 'descr': {descr}, 'fortran_order': {rng.choice('012')}}}",
        f"{{'descr': {descr}, 'fortran_order': True, 'shape': {shape}, }}",
        f"{{'descr': {descr}, 'fortran_order': False, 'shape': ({shape[0]}L,), }}",
        f"{{'descr': {descr}, 'fortran_order': False, 'shape': {_tuple(shape)}, 'more': '\\d'}}",
        f"{{'descr': {descr}, 'fortran_order': False}}",
        f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({shape[0]}or 2,)}}",
        f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({'(' * 500}2{')' * 500},)}}",
        f"__import__('os').mknod({str(folder / HARM)!r})",
        "(" * rng.choice((90, 5000, 60_000)), "[" * 200, "-" * 9000 + "1", "{'a\\0': 1}", "\0" * 60,
        string(rng)[:60_000],
    ))  # fmt: skip
    header = text.encode("utf-8", "surrogatepass")
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    version = rng.choice((b"\1\0",) * 6 + (b"\2\0", b"\3\0", b"\0\0", b"\xff\xff"))
    width = 4 if version in (b"\2\0", b"\3\0") else 2
    length = rng.choice((len(header),) * 9 + (integer(rng, len(header)),)) % 256**width
    return b"\x93NUMPY" + version + length.to_bytes(width, "little") + header + array.tobytes()


def _tuple(shape: list[int]) -> str:
    return "(" + "".join(f"{n}, " for n in shape) + ")"


def _other_array(rng: random.Random, array: Any, folder: Path) -> Any:
    return rng.choice((
        lambda: np.array([Harm(folder / HARM)], dtype=object),
        lambda: np.array([("a", 1)], dtype=[("x", "U1"), ("y", "f4")]),
        lambda: np.array(["text"]),
        lambda: np.array(["2020-01-01"], dtype="M8[D]"),
        lambda: array.astype(np.complex64),
        lambda: array.astype(np.longdouble),
        lambda: array.astype(np.int8),
        lambda: array.astype(">f8"),
        lambda: array.astype(np.float16) + np.float16(np.nan),
        lambda: np.broadcast_to(array, (1, *array.shape)),
        lambda: array.T,
        lambda: array[..., :0],
        lambda: np.zeros((1,) * 64, np.float32),
    ))()  # fmt: skip


# --- safetensors ----------------------------------------------------------------------------------


@target("safetensors", errors=(FileError, LayoutError), warnings=(BFLOAT16,), share=2.0)
def safetensors(rng: random.Random, folder: Path) -> Case:
    """Write a .safetensors file."""
    path = folder / hostile_name(rng, ".safetensors")
    if rng.randrange(20) == 0:
        special_file(rng, path)
    else:
        path.write_bytes(changed_safetensors(rng, weights(), {"format": "pt"}))
    return reading(path)


def described(arrays: dict[str, Any], metadata: dict[str, str]) -> tuple[dict[str, Any], bytes]:
    """Return the header of a valid file and its numbers."""
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    data = b""
    for name, x in arrays.items():
        begin, data = len(data), data + x.tobytes()
        dtype, shape = f"F{8 * x.dtype.itemsize}", list(x.shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, len(data)]}
    return header, data


def changed_safetensors(
    rng: random.Random, arrays: dict[str, Any], metadata: dict[str, str]
) -> bytes:
    """Return a file whose header, length or numbers are not as they should be."""
    header, data = described(arrays, metadata)
    tree: Any = header
    if rng.random() < 0.4:
        _change_entries(rng, header, [name for name in arrays if name in header], len(data))
    elif rng.random() < 0.8:
        tree = changed_json(rng, header)
    text = as_json(tree).encode("utf-8", "surrogatepass")
    if rng.random() < 0.1:
        text = rng.choice((b" " + text, text + b" " * 99, text + b"{}", b"\xef\xbb\xbf" + text))
    length = len(text) if rng.random() < 0.9 else integer(rng, len(text)) % 2**64
    content = length.to_bytes(8, "little") + text + data
    return changed_bytes(rng, content) if rng.randrange(6) == 0 else content


def _change_entries(rng: random.Random, header: Any, names: list[str], size: int) -> None:
    kind, name = rng.randrange(5), rng.choice(names)
    if kind == 0:
        header[name]["dtype"] = rng.choice(
            ("BF16", "F16", "F8_E4M3", "F4", "C64", "I32", "U8", "BOOL", "NaN", "f32", "F32 ", "F0")
        )
    elif kind == 1:  # the same numbers, twice
        header[name]["data_offsets"] = header[names[0]]["data_offsets"]
    elif kind == 2:
        more = {f"{string(rng)[:99]}{i}" for i in range(rng.choice((1, 2000)))}
        header |= dict.fromkeys(more, header[name])
    elif kind == 3:
        header[string(rng)] = {
            "dtype": "F32", "shape": [0] * rng.choice((1, 65, 9999)) + [integer(rng)],
            "data_offsets": [size] * 2,
        }  # fmt: skip
    else:  # two halves of a float are two bfloat16
        for name in names:
            header[name] |= {"dtype": "BF16", "shape": [*header[name]["shape"], 2]}
