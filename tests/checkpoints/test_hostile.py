"""Files that nobody should send: refused before they take time or memory, with a reason."""

import io
import os
import pickle
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import tarfile
import tracemalloc
import warnings
import zipfile
import zlib
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from numpy.lib import format as npy_format

from tests.fuzz.archives import DEFLATED, STORED, Member, archive, zeros
from tests.support.peers import installed, needs
from vtnp.checkpoints import (
    FileError,
    LayoutError,
    load,
    load_weights,
    mapping,
    read_header,
    save,
)
from vtnp.checkpoints.npz import MOST_UNPACKED, from_npz, refuse_large
from vtnp.checkpoints.opening import check_name, one_line, read_bytes
from vtnp.checkpoints.torch_files import from_torch
from vtnp.models.timesformer import CONFIGS

torch = installed("torch")
needs_torch = needs(torch, "vtnp[peers]")
MB = 10**6


def refused(read, path):
    """The reason for which a file is refused."""
    with pytest.raises(FileError) as error:
        read(path)
    shown, message = str(path).encode("unicode_escape").decode(), str(error.value)
    assert message.isprintable()
    assert len(message) <= 700
    assert message.startswith((f"{shown}: ", f"{path}: "))
    return message.partition(f"{path.suffix}: ")[2] or message.rpartition(": ")[2]


@contextmanager
def little_memory(most=2 * MB):
    """Assert that a block never takes more."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


# --- What is not a regular file -------------------------------------------------------------------

READERS = {
    ".safetensors": load,
    ".npz": from_npz,
    ".pt": pytest.param(from_torch, marks=needs_torch),
    ".header": read_header,
    ".json": lambda path: read_bytes(path, 100),
}


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(path))


SPECIAL = {
    "pipe": (os.mkfifo, "a named pipe, expected a regular file"),
    "socket": (make_socket, "a socket, expected a regular file"),
    "endless device": (lambda path: path.symlink_to("/dev/zero"), "a device, expected a regular"),
    "link to a pipe": (
        lambda path: (os.mkfifo("p"), path.symlink_to(Path("p").absolute())),
        "a named",
    ),
    "folder": (Path.mkdir, "Is a directory"),
    "loop": (lambda path: path.symlink_to(path.name), "Too many levels of symbolic links"),
    "nothing": (lambda path: None, "No such file or directory"),
}


@pytest.fixture
def _not_for_ever():
    """End a test that waits."""
    signal.alarm(20)
    yield
    signal.alarm(0)


@pytest.mark.usefixtures("_not_for_ever")
@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize("kind", SPECIAL)
def test_only_regular_files_are_opened(tmp_path, monkeypatch, read, kind):
    monkeypatch.chdir(tmp_path)
    make, reason = SPECIAL[kind]
    path = tmp_path / "x.npz"
    make(path)
    assert refused(read, path).startswith(reason)


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_a_name_that_no_file_can_have(tmp_path, read):
    assert "null" in refused(read, tmp_path / "a\0b.npz")


@pytest.mark.usefixtures("_not_for_ever")
def test_a_pipe_that_takes_the_place_of_a_file_is_not_waited_for(tmp_path, monkeypatch):
    path = tmp_path / "x.npz"
    path.touch()
    right, calls = os.open, []

    def after_it(opened, *arguments, **options):
        if str(opened) == str(path) and not calls:
            calls.append(opened)
            path.unlink()
            os.mkfifo(path)
        return right(opened, *arguments, **options)

    monkeypatch.setattr(os, "open", after_it)
    assert refused(load, path) == "a named pipe, expected a regular file"
    assert calls


def test_a_file_that_cannot_be_read_to_its_end(tmp_path):
    """An error of the disk while it is read."""
    path = tmp_path / "x.npz"
    path.symlink_to("/proc/self/mem")
    assert refused(lambda path: read_bytes(path, 10), path) == "Input/output error"


def test_a_text_is_read_up_to_a_limit(tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(bytes(100))
    assert read_bytes(path, 100) == bytes(100)
    assert refused(lambda path: read_bytes(path, 99), path) == "longer than 99 bytes"


# --- Messages -------------------------------------------------------------------------------------

NAMES = ["a\nb", "\x1b[31mred", "\u202egpj", "\udcff\udcfe", "[red]", "é", "名", "a b"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("suffix", [".safetensors", ".npz", pytest.param(".pt", marks=needs_torch)])
def test_a_file_of_any_name_is_named_on_one_line_that_can_be_printed(tmp_path, suffix, name):
    path = tmp_path / f"{name}{suffix}"
    path.write_bytes(b"nonsense")
    with pytest.raises(FileError) as error:
        load_weights(
            path, "timesformer", CONFIGS["timesformer-tiny"], layout="official", torch=True
        )
    message = str(error.value)
    assert message.isprintable()
    assert message.encode()
    assert name.encode("unicode_escape").decode().isascii()
    assert (name if name.isprintable() else name.encode("unicode_escape").decode()) in message


def test_a_long_message_keeps_its_beginning_and_its_end(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, **{"A" * 60_000: np.array(["text"])})
    reason = refused(from_npz, path)
    assert reason.startswith("bad .npz: 'AAAA")
    assert "A...A" in reason
    assert reason.endswith("AA' has the dtype <U4, which is not numeric")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(2, "No such file or directory", "x"), "No such file or directory"),
        (ValueError("two\n  lines"), "two lines"),
        (EOFError(), "it ends too early"),
        (RecursionError("maximum depth"), "nested too deeply"),
        (MemoryError(), "more than fits into memory"),
        (KeyError(), "KeyError"),
        (OSError("short read"), "short read"),
    ],
)
def test_every_error_has_a_reason_on_one_line(error, line):
    assert one_line(error) == line


def test_names_of_arrays():
    for name in ("", "a.b", "名前", "\x1b", "\U0010ffff", "a b"):
        check_name(name)
    for name in ("a\0b", "\ud800", "x\udfff", 3, None, b"a"):
        with pytest.raises(ValueError, match=re.escape(f"{name!r}")):
            check_name(name)


def test_what_does_not_fit_names_the_file_and_shortens_names(tmp_path):
    path = tmp_path / "x\x1b.npz"
    np.savez(path, **{"B" * 60_000: np.zeros(1), "\x1b[31m": np.zeros(1)})
    with pytest.raises(LayoutError) as error:
        load_weights(path, "timesformer", CONFIGS["timesformer-tiny"], layout="official")
    first, *lines = str(error.value).split("\n")
    assert first.startswith(f"{tmp_path}/x\\x1b.npz: timesformer, layout official: ")
    assert all(line.isprintable() and len(line) <= 502 for line in lines)
    assert any(r"unknown '\x1b[31m'" in line for line in lines)
    assert {each.name for each in error.value.problems} > {"B" * 60_000, "\x1b[31m"}


@pytest.mark.timeout(60)
def test_many_unknown_names_take_no_time(tmp_path):
    """To look for the nearest name of each would take minutes."""
    path = tmp_path / "x.safetensors"
    rng = random.Random(0)
    letters = "abcdefghij._"
    arrays = {"".join(rng.choices(letters, k=80)) + f"{i}": np.zeros(0) for i in range(3000)}
    arrays["blocks.0.attn.qkw.weight"] = np.zeros(0)
    save(path, dict(reversed(arrays.items())))
    with pytest.raises(LayoutError) as error:
        load_weights(path, "timesformer", CONFIGS["timesformer-tiny"], layout="official")
    assert len(error.value.problems) > 3000
    save(path, {"blocks.0.attn.qkw.weight": np.zeros(0)})
    with pytest.raises(LayoutError, match=r"near 'blocks\.0\.attn\.qkv\.weight'"):
        load_weights(path, "timesformer", CONFIGS["timesformer-tiny"], layout="official")


# --- npz ------------------------------------------------------------------------------------------


def npy(array, version=(1, 0)):
    file = io.BytesIO()
    npy_format.write_array(file, array, version=version)
    return file.getvalue()


def headed(text, data=b"", version=b"\1\0"):
    """An .npy file with a header of that text."""
    header = text.encode() + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header + data


ONE = npy(np.arange(3.0))


def written(tmp_path, *members, **options):
    path = tmp_path / "x.npz"
    path.write_bytes(archive(list(members), **options))
    return path


def test_a_megabyte_that_becomes_a_gigabyte_is_refused_before_it_is_unpacked(tmp_path):
    size = 10**9
    header = headed(f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({size},), }}")
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    start = packer.compress(header) + packer.flush(zlib.Z_FULL_FLUSH)
    lies = {(where, "size"): size + len(header) for where in ("local", "central")}
    path = written(
        tmp_path, Member("a.npy", b"", DEFLATED, start + zeros(100 * MB) * 10, lies=lies)
    )
    assert path.stat().st_size < 1.1 * MB
    with little_memory():
        assert refused(from_npz, path) == (
            f"bad .npz: {size + len(header)} bytes when unpacked, more than {MOST_UNPACKED} and 20 "
            "times its size: store it without packing"
        )


@pytest.mark.parametrize("said", [ONE[:-1], ONE, ONE + b"\0"], ids=["less", "as much", "more"])
def test_what_is_said_to_be_small_is_not_unpacked_further(tmp_path, said):
    """The directory lies about a member that has 100 MB more than it says."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(ONE) + packer.flush(zlib.Z_FULL_FLUSH) + zeros(100 * MB)
    lies = {(where, "size"): len(said) for where in ("local", "central")}
    lies |= {(where, "crc"): zlib.crc32(said) for where in ("local", "central")}
    path = written(tmp_path, Member("a.npy", b"", DEFLATED, packed, lies=lies))
    with little_memory():
        if said == ONE:
            assert np.array_equal(from_npz(path)["a"], np.arange(3.0))
        else:
            assert f"'a' has {len(said) - 128} bytes for a float64 array" in refused(from_npz, path)


def test_a_member_that_is_shorter_than_said(tmp_path):
    header = headed("{'descr': '<f8', 'fortran_order': False, 'shape': (9,), }")
    lies = {(where, "size"): len(header) + 72 for where in ("local", "central")}
    path = written(tmp_path, Member("a.npy", header + bytes(16), DEFLATED, lies=lies))
    assert refused(from_npz, path) == "bad .npz: 'a' ends after 16 of its 72 bytes"


def test_what_is_stored_without_packing_may_be_of_any_size(tmp_path, monkeypatch):
    monkeypatch.setattr("vtnp.checkpoints.npz.MOST_UNPACKED", 1000)
    path = tmp_path / "x.npz"
    np.savez(path, a=np.zeros(1000))
    assert from_npz(path)["a"].shape == (1000,)
    np.savez_compressed(path, a=np.random.default_rng(0).standard_normal(1000))
    assert from_npz(path)["a"].shape == (1000,)
    np.savez_compressed(path, a=np.zeros(1000))
    assert "when unpacked" in refused(from_npz, path)
    np.savez_compressed(path, a=np.zeros(100))
    assert from_npz(path)["a"].shape == (100,)
    assert refused(lambda path: from_npz(path, 927), path) == (
        "bad .npz: 928 bytes when unpacked, more than 927"
    )
    assert from_npz(path, 928)["a"].shape == (100,)


BAD_MEMBERS = {
    "NUL": (Member("a.npy\0b.npy", ONE), r"the name 'a.npy\x00b.npy' contains NUL"),
    "not UTF-8": (Member("\udcff.npy", ONE), "is not said to be UTF-8"),
    "wrong UTF-8": (Member("\ud800.npy", ONE, flags=0x800), "can't decode"),
    "bzip2": (Member("a.npy", ONE, method=12), "'a' is packed by method 12 of zip"),
    "lzma": (Member("a.npy", ONE, method=14), "'a' is packed by method 14 of zip"),
    "unknown": (Member("a.npy", ONE, method=93), "'a' is packed by method 93 of zip"),
    "encrypted": (Member("a.npy", ONE, flags=1), "encrypted"),
    "wrong sum": (Member("a.npy", ONE, lies={("central", "crc"): 3}), "Bad CRC-32"),
    "another name": (Member("a.npy", ONE, lies={("central", "offset"): 5}), "Bad magic number"),
    "no header": (Member("a.npy", b""), "'a' does not begin with the magic string"),
    "nothing more": (Member("a.npy", ONE[:9]), "'a' has a header that is not a dict"),
}


@pytest.mark.parametrize("kind", BAD_MEMBERS)
def test_bad_members(tmp_path, kind):
    member, reason = BAD_MEMBERS[kind]
    assert reason in refused(from_npz, written(tmp_path, member))


def test_a_name_that_is_said_to_be_utf_8(tmp_path):
    path = written(tmp_path, Member("名.npy", ONE, flags=0x800), Member("a.npy", ONE))
    assert set(from_npz(path)) == {"名", "a"}


HEADERS = {
    "spaces": " { 'descr' :'<f8','fortran_order':False , 'shape':( 3 , ) } ",
    "another order": "{'shape': (3,), 'fortran_order': False, 'descr': '<f8'}",
    "double quotes": '{"descr": "<f8", "fortran_order": False, "shape": (3,)}',
    "of Python 2": "{'descr': '<f8', 'fortran_order': False, 'shape': (3L,), }",
    "on lines": "{'descr': '<f8',\n 'fortran_order': False,\n 'shape': (3,), }",
    "of this machine": "{'descr': '=f8', 'fortran_order': False, 'shape': (3,), }",
}


@pytest.mark.parametrize("kind", HEADERS)
def test_headers_of_any_writer(tmp_path, kind):
    path = written(tmp_path, Member("a.npy", headed(HEADERS[kind], ONE[-24:])))
    assert np.array_equal(from_npz(path)["a"], np.arange(3.0))


def test_both_versions_and_orders(tmp_path):
    x = np.asfortranarray(np.arange(24, dtype=">i2").reshape(2, 3, 4))
    path = written(tmp_path, Member("a.npy", npy(x)), Member("b.npy", npy(x, (2, 0)), DEFLATED))
    for read in from_npz(path).values():
        assert read.dtype == np.int16
        assert np.array_equal(read, x)


BAD_HEADERS = {
    "a call": "print('harm')",
    "an escape": r"{'descr': '\d', 'fortran_order': False, 'shape': (3,)}",
    "a number and a word": "{'descr': '<f8', 'fortran_order': False, 'shape': (3or 2,)}",
    "more": "{'descr': '<f8', 'fortran_order': False, 'shape': (3,), 'more': 1}",
    "less": "{'descr': '<f8', 'shape': (3,)}",
    "a list": "{'descr': '<f8', 'fortran_order': False, 'shape': [3]}",
    "a float": "{'descr': '<f8', 'fortran_order': False, 'shape': ('3',)}",
    "a truth value": "{'descr': '<f8', 'fortran_order': False, 'shape': (True,)}",
    "a number": "{'descr': '<f8', 'fortran_order': 0, 'shape': (3,)}",
    "deep": "(" * 9000,
    "signs": "-" * 9000 + "1",
    "a set of lists": "{[]: 1}",
    "nothing": "",
}


@pytest.mark.parametrize("kind", BAD_HEADERS)
def test_headers_that_are_none(tmp_path, kind):
    path = written(tmp_path, Member("a.npy", headed(BAD_HEADERS[kind], ONE[-24:])))
    reason = "bad .npz: 'a' has a header that is not a dict of descr, fortran_order and shape"
    assert refused(from_npz, path) == reason


def test_a_header_is_at_most_as_long_as_numpys(tmp_path):
    text = HEADERS["spaces"].ljust(10_000)
    path = written(tmp_path, Member("a.npy", headed(text, ONE[-24:])))
    assert refused(from_npz, path) == "bad .npz: 'a' has a header of 10001 bytes, more than 10000"
    path = written(tmp_path, Member("a.npy", headed(text[:-1], ONE[-24:])))
    assert len(from_npz(path)["a"]) == 3


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_truth_values_are_0_or_1(tmp_path, suffix):
    """What NumPy computes with a truth value of 2 depends on how it computes."""
    path, right = tmp_path / f"x{suffix}", np.array([True, False, True])
    (np.savez if suffix == ".npz" else save_one)(path, a=right)
    read = (from_npz(path) if suffix == ".npz" else load(path)[0])["a"]
    assert read.dtype == np.bool
    assert np.array_equal(read, right)
    wrong = np.array([1, 0, 2], np.uint8).view(np.bool)
    if suffix == ".npz":
        np.savez(path, a=wrong)
        reason = refused(from_npz, path)
    else:
        path.write_bytes(path.read_bytes()[:-1] + b"\2")
        reason = refused(load, path)
    assert reason.endswith("'a' has truth values other than 0 and 1")


def save_one(path, **arrays):
    save(path, arrays)


# --- safetensors ----------------------------------------------------------------------------------


def with_header(text, data=b""):
    return struct.pack("<Q", len(text)) + text + data


BAD_NAMES = {
    "NUL": (rb'{"a\u0000b":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}', "contains NUL"),
    "half a pair": (rb'{"\ud800":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}', "Unicode"),
    "in the metadata": (rb'{"__metadata__":{"k":"\ud800"}}', "surrogates not allowed"),
    "in its names": (rb'{"__metadata__":{"\ud800":""}}', "surrogates not allowed"),
    "dtype NaN": (b'{"a":{"dtype":NaN,"shape":[0],"data_offsets":[0,0]}}', "unknown dtype nan"),
    "size NaN": (b'{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,0]}}', "not lists of"),
    "a long number": (b'{"a":{"shape":[%s]}}' % (b"9" * 5000), "limit"),
}


@pytest.mark.parametrize("kind", BAD_NAMES)
def test_bad_headers(tmp_path, kind):
    text, reason = BAD_NAMES[kind]
    path = tmp_path / "x.safetensors"
    path.write_bytes(with_header(text))
    assert reason in refused(load, path)


def test_long_numbers_are_shortened(tmp_path):
    path = tmp_path / "x.safetensors"
    shape = b",".join([b"9" * 4000] * 60)
    path.write_bytes(
        with_header(b'{"a":{"dtype":"F32","shape":[%s],"data_offsets":[0,0]}}' % shape)
    )
    assert "'a' has 0 bytes for a F32 array of shape [999" in refused(load, path)


@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
def test_names_that_are_not_read_are_not_written(tmp_path, name):
    path = tmp_path / "x.safetensors"
    with pytest.raises(FileError, match=r"NUL|surrogates"):
        save(path, {name: np.zeros(1)})
    assert not path.exists()


def test_a_file_that_loses_its_end_while_it_is_read(tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    save(path, {"a": np.arange(9.0)})
    size, right = path.stat().st_size, np.fromfile

    def after_it_is_cut(file, *arguments):
        os.truncate(path, size - 8)
        return right(file, *arguments)

    monkeypatch.setattr(np, "fromfile", after_it_is_cut)
    assert refused(load, path) == "'a' has lost some of its data while it was read"


def test_arrays_are_read_without_safetensors(tmp_path):
    """So that a file is opened once, and what is checked is what is read."""
    save(tmp_path / "x", {"a": np.arange(3.0)})
    program = (
        "import sys; sys.modules['safetensors'] = None\n"
        "from vtnp.checkpoints import load; print(load(sys.argv[1])[0]['a'].sum())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "x"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "3.0\n"


# --- torch ----------------------------------------------------------------------------------------


def torch_bytes(content, **options):
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(content, file, **options)
    return file.getvalue()


def members_of(content):
    with zipfile.ZipFile(io.BytesIO(torch_bytes(content))) as file:
        return [Member(name, file.read(name)) for name in file.namelist()]


class Calls:
    """A pickle of it calls a function when it is read."""

    def __init__(self, function):
        self.function = function

    def __reduce__(self):
        return self.function, ("true",)


def old_tar():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name in ("sys_info", "storages", "tensors", "pickle"):
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    return file.getvalue()


def script():
    members = members_of({"a": torch.ones(2)})
    members.append(Member("archive/constants.pkl", pickle.dumps(())))
    return archive(members)


def of_size(numbers):
    """A file whose pickle says that a tensor has so many numbers."""
    members = members_of({"a": torch.arange(4.0)})
    said = b"J" + struct.pack("<i", numbers)
    data = members[0].data.replace(b"K\4tq", said + b"tq").replace(b"K\4\x85q", said + b"\x85q")
    assert data != members[0].data
    members[0].data = data
    return members


def bomb():
    members = of_size(25 * MB)
    for each in members:
        if each.name.endswith("data/0"):
            each.data, each.method, each.packed = b"", DEFLATED, zeros(100 * MB)
            each.lies = {(where, "size"): 100 * MB for where in ("local", "central")}
    return archive(members)


TORCH = {
    "a global": (
        lambda: torch_bytes({"a": Calls(os.system)}),
        "more than tensors and plain contain",
    ),
    "its name": (lambda: torch_bytes({"a": Calls(os.system)}), "containers: posix"),
    "of the language": (lambda: torch_bytes({"a": Calls(eval)}), "containers: eval"),
    "a global, legacy": (
        lambda: torch_bytes({"a": Calls(os.system)}, _use_new_zipfile_serialization=False),
        "containers: posix",
    ),
    "a module": (lambda: torch_bytes(torch.nn.Linear(2, 2)), "torch.nn.modules.linear.Linear"),
    "no pickle": (lambda: b"nonsense", "bad torch file: a pickle with what no tensor needs"),
    "another pickle": (
        lambda: pickle.dumps({"a": 1}, 2),
        "not a file of torch: wrong magic number",
    ),
    "a new pickle": (lambda: pickle.dumps({"a": 1}, 4), "needs: operation 149"),
    "empty": (lambda: b"", "bad torch file: it ends too early"),
    "cut archive": (
        lambda: torch_bytes({"a": torch.ones(9)})[:-9],
        "zip archive that is truncated",
    ),
    "cut, legacy": (
        lambda: torch_bytes({"a": torch.ones(9)}, _use_new_zipfile_serialization=False)[:-9],
        "expected 9 more bytes",
    ),
    "tar": (old_tar, "a tar file of torch before 0.1.10, which cannot be read safely"),
    "script": (script, "a TorchScript archive, which is a program"),
    "numbers beyond the file": (lambda: archive(of_size(1 << 20)), "does not match expected size"),
    "numbers below none": (lambda: archive(of_size(-4)), "bad torch file: "),
    "bomb": (bomb, "when unpacked, more than"),
    "sparse": (
        lambda: torch_bytes({"a": torch.ones(2).to_sparse()}),
        "'a' is a tensor that is sparse",
    ),
    "meta": (
        lambda: torch_bytes({"a": torch.ones(2, device="meta")}),
        "tensor that is without numbers",
    ),
    "one number, many times": (
        lambda: torch_bytes({"a": torch.ones(()).expand(10**9)}),
        "'a' and those before it take more than the file holds",
    ),
    "and widened": (
        lambda: torch_bytes({"a": torch.ones((), dtype=torch.bfloat16).expand(10**9)}),
        "'a' and those before it take more than the file holds",
    ),
    "a name with NUL": (lambda: torch_bytes({"a\0b": torch.ones(2)}), "contains NUL"),
    "itself": (lambda: torch_bytes(within_itself()), "nested too deeply"),
    "a dtype of torch alone": (
        lambda: torch_bytes({"a": torch.ones(2).to(torch.float8_e4m3fn)}),
        "unsupported ScalarType",
    ),
}


def within_itself():
    table = {}
    table["model"] = table
    return table


@needs_torch
@pytest.mark.parametrize("kind", TORCH)
def test_every_error_of_torch_has_a_reason(tmp_path, kind):
    make, reason = TORCH[kind]
    path = tmp_path / "x.pt"
    path.write_bytes(make())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = refused(from_torch, path)
    assert re.search(re.escape(reason), found, re.IGNORECASE), found
    for advice in ("weights_only", "documentation", "miniz", "trust"):
        assert advice not in found


@needs_torch
def test_a_tensor_may_share_numbers_up_to_a_limit(tmp_path):
    path = tmp_path / "x.pt"
    path.write_bytes(
        torch_bytes({"a": torch.arange(3.0).expand(1000, 3), "b": torch.ones(2).conj()})
    )
    read = from_torch(path)
    assert read["a"].shape == (1000, 3)
    assert np.array_equal(read["a"][7], [0.0, 1.0, 2.0])


def test_stored_and_packed_archives_are_the_same(tmp_path):
    for method in (STORED, DEFLATED):
        path = written(tmp_path, Member("a.npy", ONE, method))
        assert np.array_equal(from_npz(path)["a"], np.arange(3.0))


def test_what_small_archives_may_take(tmp_path):
    """32 MiB, however well they are packed; what is larger may take 20 times its own size."""
    assert MOST_UNPACKED == 33_554_432
    refuse_large([zipfile.ZipInfo()], 1)
    member = zipfile.ZipInfo()
    member.file_size = MOST_UNPACKED
    refuse_large([member], 100)
    member.file_size += 1
    with pytest.raises(ValueError, match="33554433 bytes when unpacked, more than 33554432 and 20"):
        refuse_large([member], 100)
    refuse_large([member], 2**21)


@needs(torch, "torch")
def test_tensors_may_take_as_much_as_the_file_may_hold_and_no_more(tmp_path, monkeypatch):
    monkeypatch.setattr("vtnp.checkpoints.torch_files.MOST_UNPACKED", 1 << 16)
    monkeypatch.setattr("vtnp.checkpoints.torch_files.MOST_TIMES", 0)
    path = tmp_path / "x.pt"
    for size, is_read in ((1 << 16, True), ((1 << 16) + 1, False)):
        torch.save({"a": torch.zeros(1, dtype=torch.uint8).expand(size)}, path)
        if is_read:
            assert from_torch(path)["a"].nbytes == size
        else:
            assert "take more than the file holds" in refused(from_torch, path)


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (2, 0)])
def test_arrays_without_numbers_and_single_numbers_are_read(tmp_path, shape):
    np.savez(tmp_path / "x.npz", a=np.ones(shape))
    assert from_npz(tmp_path / "x.npz")["a"].shape == shape


def test_near_names_are_looked_for_a_limited_number_of_times():
    near = mapping._Near(["blocks.weight"])
    said = [
        near(f"blockz{letters}.weight") for letters in map("".join, product("abcdefg", repeat=3))
    ]
    assert said[0] == "; near 'blocks.weight'"
    assert said[201:] == [""] * len(said[201:])
    assert len(said) > 300


@needs_torch
def test_one_tensor_of_bfloat16_is_warned_of_beside_others(tmp_path):
    path = tmp_path / "x.pt"
    torch.save({"a": torch.ones(2), "b": torch.ones(2).bfloat16()}, path)
    with pytest.warns(UserWarning, match="bfloat16, which NumPy does not have"):
        assert from_torch(path)["b"].dtype == np.float32
