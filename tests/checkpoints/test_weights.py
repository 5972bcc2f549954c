"""Files of published weights: three kinds, what wraps them, and malicious files."""

import io
import pickle
import re
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.peers import installed, needs
from vtnp.checkpoints import (
    FileError,
    LayoutError,
    from_published,
    load_weights,
    save,
    tensor_shapes,
)
from vtnp.models import tree_leaves
from vtnp.models.timesformer import TimeSformerConfig

torch = installed("torch")
needs_torch = needs(torch, "vtnp[peers]")

CONFIG = TimeSformerConfig(
    frames=2, image=(4, 4), patch=2, channels=1, d=4, heads=2, d_f=3, layers=1, classes=3
)
OFFICIAL = tensor_shapes("timesformer", CONFIG, "official")


def tensors(dtype=np.float32):
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(shape).astype(dtype) for name, shape in OFFICIAL.items()}


def read(path, **options):
    return load_weights(path, "timesformer", CONFIG, layout="official", **options)


def assert_read(path, arrays, **options):
    params = dict(tree_leaves(read(path, **options)))
    expected = dict(tree_leaves(from_published("timesformer", CONFIG, "official", arrays)))
    assert params.keys() == expected.keys()
    for name, x in expected.items():
        assert params[name].dtype == x.dtype
        assert np.array_equal(params[name], x)


def refused(path, **options):
    """The line with which a file is refused; it names the file."""
    with pytest.raises(FileError) as error:
        read(path, **options)
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


def as_torch(arrays):
    return {name: torch.from_numpy(x) for name, x in arrays.items()}


# --- The three kinds ------------------------------------------------------------------------------

DTYPES = [np.float16, np.float32, np.float64]


@pytest.mark.parametrize("dtype", DTYPES)
def test_safetensors(tmp_path, dtype):
    path = tmp_path / "x.safetensors"
    save(path, tensors(dtype))
    assert_read(path, tensors(dtype))


@pytest.mark.parametrize("dtype", [*DTYPES, ">f4"])
@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_npz(tmp_path, write, dtype):
    path = tmp_path / "x.npz"
    write(path, **tensors(dtype))
    assert_read(path, tensors(np.dtype(dtype).newbyteorder("=")))


def test_npz_of_columns_first(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, **{name: np.asfortranarray(x) for name, x in tensors().items()})
    assert_read(path, tensors())


@needs_torch
@pytest.mark.parametrize("suffix", [".pt", ".pth", ".pyth", ".bin"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_torch(tmp_path, suffix, dtype):
    path = tmp_path / f"x{suffix}"
    torch.save(as_torch(tensors(dtype)), path)
    assert_read(path, tensors(dtype), torch=True)


@needs_torch
def test_a_state_dict_whose_tensors_share_and_stride(tmp_path):
    path = tmp_path / "x.pt"
    state = {name: x.mT.clone().mT if x.ndim > 1 else x for name, x in as_torch(tensors()).items()}
    whole = torch.stack([state["norm.weight"], state["norm.bias"]])
    state |= {"norm.weight": whole[0], "norm.bias": torch.nn.Parameter(whole[1])}
    torch.save(state, path)
    assert_read(path, tensors(), torch=True)


@needs_torch
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_bfloat16_becomes_float32_with_a_warning(tmp_path, suffix):
    from safetensors.torch import save_file

    path = tmp_path / f"x{suffix}"
    state = {name: x.bfloat16() for name, x in as_torch(tensors()).items()}
    (torch.save if suffix == ".pt" else save_file)(state, path)
    with pytest.warns(UserWarning, match="bfloat16, which NumPy does not have") as warned:
        params = read(path, torch=True)
    assert len(warned) == 1
    exact = from_published(
        "timesformer", CONFIG, "official", {name: x.float().numpy() for name, x in state.items()}
    )
    expected = dict(tree_leaves(exact))
    for name, x in tree_leaves(params):
        assert x.dtype == np.float32
        assert np.array_equal(x, expected[name])


# --- What wraps the weights -----------------------------------------------------------------------


@needs_torch
@pytest.mark.parametrize("key", ["model_state", "model_state_dict", "state_dict", "model"])
def test_what_training_writes_besides_the_weights_is_ignored(tmp_path, key):
    path = tmp_path / "x.pyth"
    state = as_torch(tensors())
    more = {"epoch": 3, "cfg": "TRAIN: no", "optimizer_state": {"state": {0: torch.zeros(2)}}}
    torch.save({key: state, **more}, path)
    assert_read(path, tensors(), torch=True)
    torch.save({"model": {key: state}}, path)
    assert_read(path, tensors(), torch=True)


@needs_torch
def test_two_tables_of_weights_are_too_many(tmp_path):
    path = tmp_path / "x.pyth"
    torch.save({"model": as_torch(tensors()), "state_dict": {}}, path)
    assert "weights under more than one name: state_dict, model" in refused(path, torch=True)


@pytest.mark.parametrize("prefix", ["module.", "model.", "module.model."])
def test_prefixes_are_removed(tmp_path, prefix):
    path = tmp_path / "x.npz"
    np.savez(path, **{prefix + name: x for name, x in tensors().items()})
    assert_read(path, tensors())


def test_names_that_differ_only_in_a_prefix_are_refused(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, **tensors(), **{"module.norm.bias": np.zeros(4)})
    assert refused(path) == "it has both 'module.norm.bias' and 'norm.bias'"


def test_what_does_not_fit_is_listed(tmp_path):
    path = tmp_path / "x.npz"
    arrays = tensors() | {"norm.bias": np.zeros(5), "more": np.zeros(1)}
    del arrays["cls_token"]
    np.savez(path, **arrays)
    with pytest.raises(LayoutError) as error:
        read(path)
    assert {(each.kind, each.name) for each in error.value.problems} == {
        ("missing", "cls_token"),
        ("wrong shape", "norm.bias"),
        ("unknown", "more"),
    }


def test_params_that_are_passed_are_used(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, **{name: x for name, x in tensors().items() if not name.startswith("head")})
    head = {"W": np.ones((4, 3)), "b": np.ones(3)}
    assert read(path, extra_params={"head": head})["head"] == head


# --- Files that are not valid, or malicious -------------------------------------------------------


@needs_torch
@pytest.mark.parametrize("suffix", [".pt", ".pth", ".pyth", ".bin"])
def test_a_torch_file_is_read_only_if_asked(tmp_path, suffix, monkeypatch):
    path = tmp_path / f"x{suffix}"
    torch.save(as_torch(tensors()), path)
    monkeypatch.setattr(torch, "load", None)
    assert refused(path) == "a torch file is a pickle, which is only read with torch=True"


def test_a_torch_file_without_torch(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert refused(tmp_path / "x.pt", torch=True) == "reading a torch file needs torch"


def test_nothing_is_imported_before_a_file_is_read():
    program = "import sys, vtnp.checkpoints; print({'torch', 'safetensors'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"


class Harm:
    """Whoever unpickles it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@needs_torch
@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_a_pickle_runs_nothing(tmp_path, how):
    path, harm = tmp_path / "x.pt", tmp_path / "harm"
    state = as_torch(tensors()) | {"norm.bias": Harm(harm)}
    if how == "torch":
        torch.save(state, path)
    else:
        path.write_bytes(pickle.dumps(state))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert refused(path, torch=True).startswith("bad torch file: ")
    assert not harm.exists()
    torch.load(path, weights_only=False) if how == "torch" else pickle.loads(path.read_bytes())
    assert harm.exists()


@pytest.mark.parametrize("member", ["norm.bias", "more"])
def test_an_npz_with_objects_is_refused_and_runs_nothing(tmp_path, member):
    path, harm = tmp_path / "x.npz", tmp_path / "harm"
    np.savez(path, **tensors() | {member: np.array([Harm(harm)], dtype=object)})
    assert refused(path) == f"bad .npz: {member!r} has the dtype object, which is not numeric"
    assert not harm.exists()


@needs_torch
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "expected a dict of tensors, got list"),
        ({"a": 1}, "expected a tensor for 'a', got int"),
        ({3: None}, "expected a tensor for 3, got NoneType"),
    ],
)
def test_a_torch_file_without_a_dict_of_tensors(tmp_path, content, message):
    path = tmp_path / "x.pt"
    torch.save(content, path)
    assert refused(path, torch=True) == f"bad torch file: {message}"


def npy(array):
    file = io.BytesIO()
    np.lib.format.write_array(file, array)
    return file.getvalue()


def headed(shape):
    """A header of doubles, and nothing after it."""
    file = io.BytesIO()
    header = {"descr": "<f8", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue()


ONE = npy(np.zeros(2))
BAD_NPZ = {
    "empty": ({}, None),
    "not an array": ({"readme.txt": b"text"}, "'readme.txt' is not an array"),
    "path": ({"../../x": ONE}, "'../../x' is not an array"),
    "cut short": ({"a.npy": ONE[:-1]}, "'a' has 15 bytes for a float64 array of shape (2,)"),
    "left over": ({"a.npy": ONE + b"0"}, "'a' has 17 bytes for a float64 array of shape (2,)"),
    "huge": (
        {"a.npy": headed((10**12,)) + bytes(16)},
        "'a' has 16 bytes for a float64 array of shape (1000000000000,)",
    ),
    "negative": (
        {"a.npy": headed((-1, -2)) + bytes(16)},
        "'a' has 16 bytes for a float64 array of shape (-1, -2)",
    ),
    "too many axes": ({"a.npy": headed((1,) * 65) + bytes(8)}, "maximum supported dimension"),
    "structured": (
        {"a.npy": npy(np.zeros(2, [("x", "f4"), ("y", "f4")]))},
        "'a' has the dtype [('x', '<f4'), ('y', '<f4')], which is not numeric",
    ),
    "text": ({"a.npy": npy(np.array(["x"]))}, "'a' has the dtype <U1, which is not numeric"),
    "version": (
        {"a.npy": ONE.replace(b"NUMPY\x01", b"NUMPY\x09")},
        "'a' has version (9, 0) of the format",
    ),
    "no magic": ({"a.npy": b"0" * 90}, "magic"),
    "a call as header": (
        {"a.npy": b"\x93NUMPY\x01\x00\x14\x00" + b"print('harm')      \n"},
        "a header that is not a dict of descr, fortran_order and shape",
    ),
}


@pytest.mark.parametrize(("members", "message"), BAD_NPZ.values(), ids=BAD_NPZ)
def test_bad_npz_files_are_refused_in_one_line(tmp_path, members, message, capsys):
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    if message is None:
        with pytest.raises(LayoutError, match="missing 'cls_token'"):
            read(path)
    else:
        assert message in refused(path)
    assert not capsys.readouterr().out


def test_an_npz_with_a_name_twice_is_refused(tmp_path):
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", ONE)
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a.npy", ONE)
    assert refused(path) == "bad .npz: 'a' occurs twice"


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", pytest.param(".pt", marks=needs_torch)])
@pytest.mark.parametrize("content", [b"", b"nonsense", bytes(100), b"PK\x03\x04" + bytes(50)])
def test_nonsense_is_refused_in_one_line(tmp_path, suffix, content):
    path = tmp_path / f"x{suffix}"
    path.write_bytes(content)
    assert refused(path, torch=True)


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_a_missing_file(tmp_path, suffix):
    assert refused(tmp_path / f"x{suffix}") == "No such file or directory"


def test_an_unknown_kind_of_file(tmp_path):
    expected = "expected a name that ends in one of .safetensors, .npz, .pt, .pth, .pyth, .bin"
    assert refused(tmp_path / "x.ckpt") == expected


def test_layouts_are_checked_before_the_file_is_opened(tmp_path):
    with pytest.raises(ValueError, match=re.escape("timesformer has no layout 'hugging'")):
        load_weights(tmp_path / "x.pt", "timesformer", CONFIG, layout="hugging", torch=True)


# --- Bytes that were changed ----------------------------------------------------------------------


@st.composite
def changes(draw):
    """Positions, as fractions of the file, with bytes to write there; and where the file is cut."""
    fraction = st.floats(0, 1, exclude_max=True)
    # Headers and directories are at the ends, and matter more than numbers.
    near = st.integers(-400, 400)
    edit = st.tuples(st.one_of(fraction, near), st.binary(min_size=1, max_size=4))
    edits = st.lists(edit, max_size=6)
    return draw(edits), draw(st.one_of(st.none(), fraction))


def changed(content, edits, cut):
    content = bytearray(content)
    for position, written in edits:
        in_file = int(position * len(content)) if isinstance(position, float) else position
        begin = in_file % len(content)
        content[begin : begin + len(written)] = written
    return bytes(content if cut is None else content[: int(cut * len(content))])


def whole(suffix):
    """The bytes of a good file."""
    if suffix == ".safetensors":
        from safetensors.numpy import save as encoded

        return encoded(tensors())
    file = io.BytesIO()
    if suffix == ".npz":
        np.savez_compressed(file, **tensors())
    else:
        torch.save(as_torch(tensors()), file)
    return file.getvalue()


def outcome(path):
    """What is read, or an error of vtnp's; any other error is raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return read(path, torch=True)
        except (FileError, LayoutError) as error:
            return error


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", pytest.param(".pt", marks=needs_torch)])
@given(change=changes())
@example(change=([], None))
def test_changed_bytes_end_in_a_file_or_layout_error(tmp_path_factory, suffix, change):
    path = tmp_path_factory.mktemp("files") / f"x{suffix}"
    path.write_bytes(changed(whole(suffix), *change))
    result = outcome(path)
    if isinstance(result, FileError):
        assert str(result).startswith(f"{path}: ")
        assert "\n" not in str(result)
    elif isinstance(result, LayoutError):
        assert result.problems
    else:
        shapes = {name: x.shape for name, x in tree_leaves(result)}
        good = from_published("timesformer", CONFIG, "official", tensors())
        assert shapes == {name: x.shape for name, x in tree_leaves(good)}
