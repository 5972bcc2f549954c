"""Targets: torch's files, which are pickles: archives, what torch wrote before 1.6, and others."""

import io
import pickle
import pickletools
import random
import struct
import tarfile
import warnings
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import torch

from tests.fuzz import HARM, Case, target
from tests.fuzz.archives import DEFLATED, Member, archive, changed_archive, zeros
from tests.fuzz.arrays import BFLOAT16, BOMB, Harm, reading, weights
from tests.fuzz.mutations import changed_bytes, hostile_name, integer, special_file, string
from vtnp.checkpoints import FileError, LayoutError

_SUFFIXES = (".pt", ".pth", ".pyth", ".bin")
_GLOBALS = (
    b"os\nsystem", b"builtins\neval", b"posix\nsystem", b"torch\nload", b"pathlib\nPosixPath",
    b"torch._utils\n_rebuild_tensor", b"torch._utils\n_rebuild_parameter", b"torch\nFloatStorage",
    b"torch\nTensor", b"torch.nn.parameter\nParameter", b"collections\nOrderedDict", b"torch\nSize",
    b"numpy._core.multiarray\n_reconstruct", b"builtins\nset", b"no_such_module\nx", b"torch\n",
    b"collections\nCounter", b"torch\nfloat32", b"builtins\nbytearray", b"torch\ndevice",
    b"torch._utils\n_rebuild_sparse_tensor", b"torch._utils\n_rebuild_meta_tensor_no_storage",
    b"\x1b[31mred\nx", b"vtnp\nx",
)  # fmt: skip

_OPERATIONS = (
    b"N", b"}", b"]", b")", b"(", b"0", b"\x88", b"R", b"s", b"t", b"b", b"Q", b"\x81", b"\x82\1",
    b"\x8b\xff\xff\xff\x7f", b"B\xff\xff\xff\x7f", b"\x8e" + b"\xff" * 8, b"\x95" + b"\xff" * 8,
    b"\x80\x05", b"I" + b"9" * 5000 + b"\n", b"F1e999\n", b"(" * 3000, b"j\xff\xff\xff\xff",
    b"r\xff\xff\xff\x7f", b"Vx\\ud800\n", b"cos\nsystem\n",
)  # fmt: skip


@target("torch", errors=(FileError, LayoutError), warnings=(BFLOAT16,), share=2.0)
def torch_file(rng: random.Random, folder: Path) -> Case:
    """Write a file of torch."""
    path = folder / hostile_name(rng, rng.choice(_SUFFIXES))
    if rng.randrange(24) == 0:
        special_file(rng, path)
    else:
        path.write_bytes(rng.choice(_WRITERS)(rng, folder))
    return reading(path)


def saved(content: Any, *, new: bool = True) -> bytes:
    """Return what torch.save writes."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(content, file, _use_new_zipfile_serialization=new)
    return file.getvalue()


@cache
def ordinary(*, new: bool) -> bytes:
    """Return a valid file of the weights of a small model."""
    return saved({name: torch.from_numpy(x) for name, x in weights().items()}, new=new)


def _other_content(rng: random.Random) -> Any:
    tensors = {name: torch.from_numpy(x) for name, x in weights().items()}
    one = torch.ones(2)
    last = list(tensors)[-1]
    make = rng.choice((
        lambda: list(tensors.values()),
        lambda: {**tensors, 3: one},
        lambda: {**tensors, string(rng): one},
        lambda: {**tensors, last: string(rng)},
        lambda: {**tensors, last: None},
        lambda: {"model": tensors, "state_dict": tensors},
        lambda: {"model": {"model": {"model": tensors}}, string(rng): 3},
        lambda: {**tensors, last: torch.ones(3).to_sparse()},
        lambda: {**tensors, last: torch.quantize_per_tensor(one, 0.1, 0, torch.qint8)},
        lambda: {**tensors, last: torch.ones(()).expand(10**6, 10**6)},
        lambda: {**tensors, last: torch.ones((), dtype=torch.bfloat16).expand(10**6, 10**6)},
        lambda: {**tensors, last: torch.ones((), dtype=torch.bfloat16).expand(2 * 10**8)},
        lambda: {**tensors, last: torch.ones(3, dtype=torch.complex64)},
        lambda: {**tensors, last: torch.ones(3, device="meta")},
        lambda: {**tensors, last: torch.ones(3, requires_grad=True)},
        lambda: {**tensors, last: torch.ones(3).to(torch.float8_e4m3fn)},
        lambda: {**tensors, last: torch.complex(one, one).conj()},
        lambda: {name: x.bfloat16() for name, x in tensors.items()},
        lambda: torch.nn.Linear(2, 2),
        lambda: one,
        lambda: 3,
        _cycle,
    ))  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is hostile may be deprecated
        return make()


def _cycle() -> dict[str, Any]:
    inner: dict[str, Any] = {}
    inner["model"] = inner
    return inner


# --- Pickles --------------------------------------------------------------------------------------


def changed_pickle(rng: random.Random, data: bytes) -> bytes:
    """Return a pickle of which some operations are others, are missing, or occur twice."""
    found = list(pickletools.genops(data))
    ends = [position for *_, position in found[1:]] + [len(data)]
    ops = [
        (op.name, arg, data[begin:end]) for (op, arg, begin), end in zip(found, ends, strict=True)
    ]
    for _ in range(rng.choice((1, 1, 2, 4))):
        kind = rng.randrange(8)
        if not ops:
            break
        names = {2: "BININT", 3: "BININT", 4: "BINUNICODE", 5: "GLOBAL"}
        wanted = names.get(kind, "")
        at = [i for i, (name, _, _) in enumerate(ops) if name.startswith(wanted)] or [0]
        i = rng.choice(at)
        name, arg, text = ops[i]
        if kind == 0:
            del ops[i]
        elif kind == 1:
            ops.insert(rng.randrange(len(ops)), ops[i])
        elif name.startswith("BININT"):
            ops[i] = (name, arg, _integer(integer(rng, arg or 0)))
        elif name == "BINUNICODE":
            other = string(rng, arg or "").encode("utf-8", "surrogatepass")
            ops[i] = (name, arg, b"X" + struct.pack("<I", len(other)) + other)
        elif name == "GLOBAL":
            ops[i] = (name, arg, b"c" + rng.choice(_GLOBALS) + b"\n")
        elif kind == 6:
            ops[i] = (name, arg, rng.choice(_OPERATIONS))
        else:
            ops[i] = (name, arg, changed_bytes(rng, text))
    return b"".join(text for *_, text in ops)


def _integer(n: int) -> bytes:
    if 0 <= n < 256:
        return b"K" + bytes([n])
    if -(2**31) <= n < 2**31:
        return b"J" + struct.pack("<i", n)
    data = n.to_bytes(n.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data if len(data) < 256 else b"K\1"


# --- Whole files ----------------------------------------------------------------------------------


def _harmful(rng: random.Random, folder: Path) -> bytes:
    content = {"norm.bias": Harm(folder / HARM)}
    if rng.random() < 0.5:
        return pickle.dumps(content, rng.randrange(5))
    return saved(content, new=rng.random() < 0.5)


def _of_other_content(rng: random.Random, _: Path) -> bytes:
    return saved(_other_content(rng), new=rng.random() < 0.8)


def _nonsense(rng: random.Random, _: Path) -> bytes:
    return rng.choice((b"", b"nonsense", b"\x80", b"\x80\x02.", b"PK\3\4", b"\x93NUMPY"))


def _changed(rng: random.Random, _: Path) -> bytes:
    return changed_bytes(rng, ordinary(new=rng.random() < 0.5))


def _members() -> list[Member]:
    with zipfile.ZipFile(io.BytesIO(ordinary(new=True))) as file:
        return [Member(name, file.read(name)) for name in file.namelist()]


def _changed_new(rng: random.Random, _: Path) -> bytes:
    members = _members()
    if rng.random() < 0.8:
        members[0].data = changed_pickle(rng, members[0].data)
    if rng.random() < 0.3:
        each = rng.choice(members)
        each.data = changed_bytes(rng, each.data)
    return changed_archive(rng, members) if rng.random() < 0.4 else archive(members)


def _changed_legacy(rng: random.Random, _: Path) -> bytes:
    """Change one of the pickles that a file of torch before 1.6 begins with."""
    content, pickles = ordinary(new=False), []
    file = io.BytesIO(content)
    for _ in range(5):  # magic number, protocol, system, content, keys
        begin = file.tell()
        for _ in pickletools.genops(file):
            pass
        pickles.append(content[begin : file.tell()])
    rest = content[file.tell() :]
    i = rng.choice((0, 1, 2, 3, 3, 3, 3, 4, 5))
    if i == 5:
        rest = changed_bytes(rng, rest)
    else:
        pickles[i] = changed_pickle(rng, pickles[i])
    return b"".join(pickles) + rest


def _tar(rng: random.Random, _: Path) -> bytes:
    """Return what torch wrote before 0.1.10."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name in ("sys_info", "storages", "tensors", "pickle"):
            data = pickle.dumps({} if name == "sys_info" else 0, 2)
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return file.getvalue() if rng.random() < 0.5 else changed_bytes(rng, file.getvalue())


def _script(rng: random.Random, _: Path) -> bytes:
    """Return an archive of TorchScript, or one that looks like it."""
    members = _members()
    front = members[0].name.partition("/")[0]
    members.insert(rng.randrange(3), Member(f"{front}/constants.pkl", pickle.dumps((), 2)))
    if rng.random() < 0.5:
        members.append(Member(f"{front}/code/__torch__.py", b"op_version_set = 1\n"))
    return archive(members)


def _bomb(rng: random.Random, _: Path) -> bytes:
    """Return a small archive whose numbers are large when unpacked."""
    pickled = saved({"norm.bias": torch.zeros(BOMB // 4)}) if rng.random() < 0.1 else None
    if pickled is None:  # the same, without making it
        members = _members()
        old, new = _integer(4), _integer(BOMB // 4)
        members[0].data = members[0].data.replace(old + b"tq", new + b"tq")
        members[0].data = members[0].data.replace(old + b"\x85q", new + b"\x85q")
    else:
        with zipfile.ZipFile(io.BytesIO(pickled)) as file:
            members = [Member(name, file.read(name)) for name in file.namelist()]
    for each in members:
        if "/data/" in each.name and (len(each.data) in (16, BOMB)):
            each.data, each.method, each.packed = b"", DEFLATED, zeros(BOMB)
            for where in ("local", "central"):
                each.lies[where, "size"] = BOMB
    return archive(members)


_WRITERS = (
    _harmful, _harmful, _of_other_content, _nonsense, _tar, _changed, _script, _bomb,
    *[_changed_legacy] * 8, *[_changed_new] * 8,
)  # fmt: skip
