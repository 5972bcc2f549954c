"""safetensors files: what is written is read back, and what is broken is refused."""

import json
import re
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vtnp.checkpoints import FileError, load, read_header, replacing, save

DTYPES = ["?", "u1", "i1", "<u2", "<i2", "<f2", "<u4", "<i4", "<f4", "<u8", "<i8", "<f8"]


def encoded(header, data=b""):
    """The bytes of a safetensors file, as the format's documentation has it."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def one(shape=(2,), begin=0, end=8, dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


@given(
    hnp.arrays(
        st.sampled_from(DTYPES),
        hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
    ),
    st.dictionaries(st.text(max_size=5), st.text(max_size=20), max_size=3),
)
def test_arrays_of_any_shape_and_dtype_are_read_back(tmp_path_factory, array, metadata):
    path = tmp_path_factory.mktemp("files") / "x.safetensors"
    save(path, {"a": array, "b.0": np.float64(3)}, metadata)
    arrays, read = load(path)
    assert set(arrays) == {"a", "b.0"}
    assert arrays["a"].dtype == array.dtype
    assert arrays["a"].shape == array.shape
    assert arrays["a"].tobytes() == array.tobytes()
    assert read == metadata


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.T,
        lambda x: x[::2],
        lambda x: x[:, ::-1],
        lambda x: x[1:, 1:, 1:],
        np.asfortranarray,
        lambda x: np.broadcast_to(x[:1], (3, *x.shape[1:])),
        lambda x: x.astype(">f4"),
    ],
    ids=["transposed", "stepped", "reversed", "inner", "fortran", "broadcast", "big-endian"],
)
def test_views_are_read_back_as_they_look(tmp_path, view):
    array = view(np.random.default_rng(0).standard_normal((4, 5, 7)))
    save(tmp_path / "x", {"a": array})
    assert np.array_equal(load(tmp_path / "x")[0]["a"], array)


def test_another_reader_reads_the_same(tmp_path):
    from safetensors.numpy import load_file

    array = np.arange(6.0).reshape(2, 3).T
    save(tmp_path / "x", {"a": array}, {"k": "v"})
    assert np.array_equal(load_file(tmp_path / "x")["a"], array)


def test_the_header_has_names_shapes_and_metadata(tmp_path):
    save(tmp_path / "x", {"a": np.zeros((2, 3), np.float32)}, {"k": "v"})
    header = read_header(tmp_path / "x")
    assert header["__metadata__"] == {"k": "v"}
    assert header["a"] == one((2, 3), 0, 24)


GOOD = {"a": one(), "b": one((1,), 8, 12)}
BROKEN = {
    "empty": (b"", "truncated"),
    "header longer than the file": ((2**40).to_bytes(8, "little") + b"{}", "truncated"),
    "a header cut short": (encoded({"a": one()})[:-9], "not a safetensors file, or truncated"),
    "a length and no more": (bytes(8), "bad safetensors header"),
    "no JSON": (encoded(b"nonsense"), "bad safetensors header"),
    "no UTF-8": (encoded(b'{"\xff": 1}'), "bad safetensors header"),
    "a list": (encoded([]), "not an object"),
    "nested without end": (encoded(b"[" * 200_000), "bad safetensors header"),
    "metadata of numbers": (encoded({"__metadata__": {"k": 1}}), "__metadata__"),
    "duplicate array": (
        encoded(b'{"a":%s,"a":%s}' % ((json.dumps(one()).encode(),) * 2), bytes(8)),
        "'a' occurs twice",
    ),
    "duplicate shape": (
        encoded(b'{"a":{"dtype":"F32","shape":[2],"shape":[2],"data_offsets":[0,8]}}', bytes(8)),
        "'shape' occurs twice",
    ),
    "data cut short": (encoded(GOOD, bytes(11)), "the file holds 11"),
    "data left over": (encoded(GOOD, bytes(13)), "the file holds 13"),
    "overlap": (encoded({"a": one(), "b": one((1,), 4, 8)}, bytes(8)), "'b' begins at byte 4"),
    "hole": (encoded({"a": one(), "b": one((1,), 12, 16)}, bytes(16)), "'b' begins at byte 12"),
    "wrong size": (encoded({"a": one((3,))}, bytes(8)), "has 8 bytes"),
    "backwards": (encoded({"a": one((0,), 8, 0)}, bytes(8)), "has -8 bytes"),
    "negative": (encoded({"a": one((-1, -2))}, bytes(8)), "not lists of integers >= 0"),
    "true for 1": (encoded({"a": one((True,), 0, 4)}, bytes(4)), "not lists of integers >= 0"),
    "three offsets": (
        encoded({"a": one() | {"data_offsets": [0, 4, 8]}}, bytes(8)),
        "not lists of integers",
    ),
    "unknown dtype": (encoded({"a": one(dtype="C64")}, bytes(8)), "unknown dtype 'C64'"),
    "entry without shape": (encoded({"a": {"dtype": "F32"}}), "does not describe an array"),
    "header cut short": (encoded(GOOD, bytes(12))[:40], "truncated"),
    "too many axes": (encoded({"a": one((1,) * 65, 0, 4)}, bytes(4)), "65 axes"),
    "too large a shape without data": (encoded({"a": one((0, 2**63), 0, 0)}), "x.safetensors: "),
}


@pytest.mark.parametrize(("content", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_files_are_refused_in_one_line(tmp_path, content, message):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(FileError, match=re.escape(message)) as error:
        load(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_huge_header_is_not_read(tmp_path):
    path = tmp_path / "x.safetensors"
    length = 2 * 10**8
    with path.open("wb") as file:
        file.write(length.to_bytes(8, "little"))
        file.truncate(8 + length)
    with pytest.raises(FileError, match="not a safetensors file, or truncated"):
        load(path)


def test_many_names_are_read_in_no_time(tmp_path):
    """Two hundred thousand names: comparing all pairs would take minutes."""
    path = tmp_path / "x.safetensors"
    empty = one((0,), 0, 0)
    path.write_bytes(encoded({f"a{i}": empty for i in range(200_000)}))
    assert len(read_header(path)) == 200_000


def test_bfloat16_becomes_float32_with_a_warning(tmp_path):
    """Its numbers are the upper halves of float32."""
    path = tmp_path / "x.safetensors"
    numbers = np.array([[1.0, -0.0, 2.0**-133], [np.inf, -3.140625, 2.0**127]], np.float32)
    upper = (numbers.view(np.uint32) >> 16).astype("<u2")
    header = {"a": one((1,), 0, 4), "b": one((2, 3), 4, 16, dtype="BF16")}
    path.write_bytes(encoded(header, np.float32(7).tobytes() + upper.tobytes()))
    with pytest.warns(UserWarning, match="bfloat16, which NumPy does not have, is read as float32"):
        arrays, _ = load(path)
    assert arrays["a"] == 7
    assert arrays["b"].dtype == np.float32
    assert arrays["b"].tobytes() == numbers.tobytes()


@given(st.data())
def test_a_file_cut_anywhere_is_refused(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("files") / "x"
    save(path, {"a": np.arange(3.0), "b": np.zeros((0, 2))}, {"k": "v"})
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(FileError):
        load(path)


@pytest.mark.parametrize("name", ["missing", "."])
def test_a_missing_file_and_a_folder_are_refused(tmp_path, name):
    with pytest.raises(FileError, match=r"No such file|Is a directory"):
        load(tmp_path / name)


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(FileError, match="No such file"):
        save(tmp_path / "none" / "x", {"a": np.zeros(1)})


def test_writing_that_fails_leaves_the_old_file_alone(tmp_path, monkeypatch):
    path = tmp_path / "x"
    save(path, {"a": np.zeros(2)})
    before = path.read_bytes()
    # A writer that is wrong like safetensors 0.8.0 for strided views.
    from safetensors.numpy import save as save_right

    monkeypatch.setattr(
        "safetensors.numpy.save",
        lambda arrays, **options: save_right({"a": arrays["a"][::-1].copy()}),
    )
    with pytest.raises(FileError, match="a does not read back"):
        save(path, {"a": np.arange(2.0)})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_nan_and_signed_zero_read_back(tmp_path):
    array = np.array([np.nan, -0.0, np.inf])
    save(tmp_path / "x", {"a": array})
    assert load(tmp_path / "x")[0]["a"].tobytes() == array.tobytes()


def test_a_process_killed_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "x"
    path.write_text("old")
    program = (
        "import os, signal, sys\n"
        "from vtnp.checkpoints import replacing\n"
        "with replacing(sys.argv[1]) as temporary:\n"
        "    temporary.write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, path], check=False)
    assert done.returncode == -9
    assert path.read_text() == "old"


def test_replacing_leaves_nothing_of_what_failed(tmp_path):
    def fail():
        with replacing(tmp_path / "x") as temporary:
            temporary.write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arrays", "metadata", "reason"),
    [
        ({"a": np.ones(2, complex)}, None, "complex128"),
        ({"a": np.array(["x"])}, None, "str32"),
        ({"__metadata__": np.ones(2)}, None, "no array can have the name __metadata__"),
        ({1: np.ones(2)}, None, "'int' object"),
        ({"\ud800": np.ones(2)}, None, "surrogates not allowed"),
        ({"a": np.ones(2)}, {"k": 1}, "'int' object"),
    ],
)
def test_what_the_format_cannot_hold_is_refused(tmp_path, arrays, metadata, reason):
    path = tmp_path / "x.safetensors"
    with pytest.raises(FileError, match=re.escape(str(path)) + ": .*" + re.escape(reason)):
        save(path, arrays, metadata)
    assert not list(tmp_path.iterdir())


def test_no_arrays_are_read_back_as_none(tmp_path):
    path = tmp_path / "x.safetensors"
    save(path, {})
    assert load(path) == ({}, {})


def test_two_threads_do_not_write_into_one_file(tmp_path):
    path = tmp_path / "x"
    with replacing(path) as temporary, ThreadPoolExecutor(1) as pool:
        temporary.write_text("first thread")
        pool.submit(_replace, path, "second thread").result(timeout=60)
        assert path.read_text() == "second thread"
        assert temporary.read_text() == "first thread"
    assert path.read_text() == "first thread"


def _replace(path, text):
    with replacing(path) as temporary:
        temporary.write_text(text)


def test_each_dtype_of_the_format_is_read(tmp_path):
    """One number of each, written by hand."""
    numbers = {
        "U8": ("B", 200), "I8": ("b", -3), "U16": ("<H", 60000), "I16": ("<h", -300),
        "U32": ("<I", 4_000_000_000), "I32": ("<i", -70000), "F32": ("<f", 1.5),
        "U64": ("<Q", 2**63), "I64": ("<q", -(2**40)), "F64": ("<d", -0.1), "F16": ("<e", 0.5),
    }  # fmt: skip
    for kind, (code, number) in numbers.items():
        data = struct.pack(code, number)
        path = tmp_path / "one.safetensors"
        path.write_bytes(encoded({"x": one((1,), 0, len(data), kind)}, data))
        (x,) = load(path)[0]["x"]
        assert x == number, kind
        assert x.dtype == np.dtype(code), kind
