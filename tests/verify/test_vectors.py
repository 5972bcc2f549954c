"""Vectors for programs in any language: what is exported, and how their results are judged."""

import inspect
import json
import os
import shutil
import stat
import struct
import subprocess
import sys
import zipfile
from importlib import import_module
from pathlib import Path

import jsonschema
import numpy as np
import pytest

import vtnp
from tests.support.exports import WrittenOnce
from tests.support.steps import stopped_at_each_step
from vtnp._registry.errors import UsageError
from vtnp._registry.spec import registry
from vtnp.checkpoints import replacement
from vtnp.checkpoints.files import load, save
from vtnp.checkpoints.opening import FileError
from vtnp.cli import main
from vtnp.mistakes import mistakes
from vtnp.verify.report import NOT_RUN, RIGHT, WRONG
from vtnp.verify.vectors import check, export
from vtnp.verify.vectors import exporting as exporting_module
from vtnp.verify.vectors.manifest import read_manifest, read_vectors

ROOT = Path(__file__).parents[2]
READER = ROOT / "examples" / "read_vectors.py"
IDS = ("softmax", "attention", "layer-norm", "orthogonal-prototypes", "causal-mask")
BY_READER = ("softmax", "attention", "layer-norm")


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    return export(tmp_path_factory.mktemp("few") / "vectors", IDS)


@pytest.fixture
def copied(vectors, tmp_path):
    """Vectors that may be harmed."""
    folder = tmp_path / "vectors"
    folder.mkdir()
    for path in vectors.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def manifest_of(folder):
    return json.loads((folder / "manifest.json").read_text(encoding="utf-8"))


def answers(folder, id):
    """Return the outputs and gradients of a file."""
    arrays, _ = load(folder / f"{id}.safetensors")
    return {k: x for k, x in arrays.items() if k.split("/")[1] in ("outputs", "gradients")}


def copy_answers(folder, results, *, of=IDS, change=lambda x: x):
    results.mkdir(exist_ok=True)
    for id in of:
        arrays = {key: change(x) for key, x in answers(folder, id).items()}
        save(results / f"{id}.safetensors", arrays)
    return results


def failures(report):
    return {(line.case.split(",")[0], line.what): line.note for line in report.failures()}


# --- What is exported -----------------------------------------------------------------------------


@pytest.mark.deep
def test_all_formulas(tmp_path):
    """Small, as the schema has it, and right by its own judgement, in single precision, too."""
    folder = export(tmp_path / "vectors")
    manifest = manifest_of(folder)
    assert [each["id"] for each in manifest["formulas"]] == list(registry)
    files = {each["file"] for each in manifest["formulas"]}
    assert {path.name for path in folder.iterdir()} == files | {
        "manifest.json",
        "vectors.schema.json",
    }
    assert sum(path.stat().st_size for path in folder.iterdir()) < 8_000_000
    schema = json.loads((folder / "vectors.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(manifest)
    exact = copy_answers(folder, tmp_path / "exact", of=registry)
    report = check(folder, exact)
    assert report.status == RIGHT
    assert report.notes == ()
    single = tmp_path / "single"
    copy_answers(folder, single, of=registry, change=lambda x: in_dtype(x, "float32"))
    assert check(folder, single).status == RIGHT
    assert sum(len(each["undetected"]) for each in manifest["formulas"]) < 0.05 * len(mistakes)
    by_loops(folder, manifest, tmp_path / "loops")
    report = check(folder, tmp_path / "loops")
    assert report.failures() == ()
    assert "no results" not in "".join(report.notes)
    unsaid = [
        (each["id"], option)
        for each in manifest["formulas"]
        for option, entry in each["options"].items()
        if not entry["description"]
    ]
    assert unsaid == []


def in_dtype(x, dtype):
    return x.astype(dtype) if x.dtype.kind == "f" else x


def by_loops(folder, manifest, results):
    """Answer all formulas by the oracles, from what the files say and nothing else."""
    results.mkdir()
    for formula in manifest["formulas"]:
        module = import_module(f"tests.oracles.{formula['page'].split('/')[1]}")
        oracle = getattr(module, formula["id"].replace("-", "_"))
        arrays, _ = load(folder / formula["file"])
        like = {"like": np.zeros(1)} if "like" in inspect.signature(oracle).parameters else {}
        found = {}
        for case in formula["cases"]:
            front = f"{case['name']}/inputs/"
            inputs = {key.removeprefix(front): x for key, x in arrays.items() if front in key}
            options = {k: -np.inf if x == "-inf" else x for k, x in case["options"].items()}
            made = oracle(**nested(inputs), **options, **like)
            whole = len(formula["results"]) == 1
            for described, y in zip(formula["results"], (made,) if whole else made, strict=True):
                found[f"{case['name']}/outputs/{described['name']}"] = np.asarray(y)
        save(results / formula["file"], found)


def nested(by_path):
    """Make trees of paths: params.attention.W_q, outputs.0."""
    tree = {}
    for path, x in by_path.items():
        *folders, last = path.split(".")
        table = tree
        for folder in folders:
            table = table.setdefault(folder, {})
        table[last] = x
    return lists(tree)


def lists(tree):
    if not isinstance(tree, dict):
        return tree
    if tree and all(name.isdigit() for name in tree):
        return [lists(tree[str(i)]) for i in range(len(tree))]
    return {name: lists(x) for name, x in tree.items()}


def test_inputs_are_numbers_of_float32(vectors):
    arrays, _ = load(vectors / "attention.safetensors")
    inputs = {key: x for key, x in arrays.items() if "/inputs/" in key}
    assert any(x.dtype == np.float64 for x in inputs.values())
    for x in inputs.values():
        assert np.array_equal(in_dtype(x, "float32"), x)


def test_the_manifest_says_what_a_port_needs(vectors):
    formulas = {each["id"]: each for each in manifest_of(vectors)["formulas"]}
    attention = formulas["attention"]
    assert attention["plain"] == vtnp.formula("attention").plain
    shapes = {each["name"]: each["shape"] for each in attention["arguments"]}
    assert shapes == {"Q": "*b n d_k", "K": "*b m d_k", "V": "*b m d_v", "mask": "*#b n m"}
    masked = {"mask" in case["inputs"] for case in attention["cases"]}
    assert masked == {True, False}
    assert [2] in [case["batch"] for case in attention["cases"]]
    for case in attention["cases"]:
        n, d_k = case["sizes"]["n"], case["sizes"]["d_k"]
        assert case["inputs"]["Q"]["shape"] == [*case["batch"], n, d_k]
        assert set(case["gradients"]) == {"Q", "K", "V"}
        assert case["options"].keys() == {"scale"}
    assert formulas["orthogonal-prototypes"]["results"][0]["kind"] == "int"
    assert "like" not in str(formulas["causal-mask"])


def test_words_are_explained_by_the_page(tmp_path):
    folder = export(tmp_path / "vectors", ["attention-sublayer"])
    (sublayer,) = manifest_of(folder)["formulas"]
    option = sublayer["options"]["class_token"]
    used = {case["options"]["class_token"] for case in sublayer["cases"]}
    assert used == option["values"].keys()
    assert len(used) > 1
    words = {"out": "nothing", "key": "literally", "mean": "averaged", "all": "all patches at once"}
    for word in used:
        assert words[word] in option["values"][word]


def test_integers_among_results(tmp_path):
    """What only Python would return as a tuple is an array of integers."""
    folder = export(tmp_path / "vectors", ["pooled-grid", "multiscale-block"])
    grid, block = manifest_of(folder)["formulas"]
    assert [each["name"] for each in grid["results"]] == ["result_1"]
    assert [each["name"] for each in block["results"]] == ["z", "result_2"]
    arrays, _ = load(folder / "multiscale-block.safetensors")
    assert arrays["case0/outputs/result_2"].shape == (3,)


def test_same_seed_same_bytes(vectors, tmp_path):
    again = export(tmp_path / "again", IDS)
    for path in vectors.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes()
    other = export(tmp_path / "other", ["softmax"], seed=1)
    assert (other / "softmax.safetensors").read_bytes() != (
        vectors / "softmax.safetensors"
    ).read_bytes()


def test_an_older_export_gives_way_whole_or_not_at_all(copied, monkeypatch):
    before = {path.name: path.read_bytes() for path in copied.iterdir()}

    def full(*_):
        raise FileError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(exporting_module, "save", full)
        with pytest.raises(FileError, match="disk full"):
            export(copied, ["softmax"])
    assert {path.name: path.read_bytes() for path in copied.iterdir()} == before
    assert [path.name for path in copied.parent.iterdir()] == ["vectors"]
    export(copied, ["softmax"])
    assert {path.name for path in copied.iterdir()} == {
        "manifest.json",
        "softmax.safetensors",
        "vectors.schema.json",
    }
    assert [path.name for path in copied.parent.iterdir()] == ["vectors"]


@pytest.fixture
def _quick_export(monkeypatch):
    """Let an export compute each formula once, and then write the same bytes again."""
    monkeypatch.setattr(exporting_module, "_write", WrittenOnce(exporting_module._write))


def whole(folder):
    """The seed of an export, and its formulas, whose files are as the manifest describes them."""
    manifest = read_manifest(folder)
    for each in manifest["formulas"]:
        assert read_vectors(folder, each)
    ids = {each["id"] for each in manifest["formulas"]}
    files = {f"{id}.safetensors" for id in ids} | {"manifest.json", "vectors.schema.json"}
    assert {path.name for path in folder.iterdir()} == files
    return manifest["seed"], ids


OLD, NEW = (0, {"softmax", "causal-mask"}), (1, {"relu"})


@pytest.mark.parametrize(("exists", "steps"), [(True, "one"), (True, "two"), (False, "one")])
@pytest.mark.parametrize("how", ["kill", "fail"])
@pytest.mark.usefixtures("_quick_export")
def test_an_export_is_old_or_new_whatever_happens(tmp_path, monkeypatch, how, exists, steps):
    """Killed at each step, or with a disk that is full there; with an exchange in one step or two.

    The next reader finds a whole export, the next export leaves nothing beside it.
    """
    if steps == "two":
        monkeypatch.setattr(replacement, "exchanged", lambda *_: False)
    folder, found, missing = tmp_path / "vectors", set(), []
    export(folder, OLD[1], OLD[0])
    export(folder, NEW[1], NEW[0])  # computed once

    def prepare():
        if exists:
            export(folder, OLD[1], OLD[0])
        else:
            shutil.rmtree(folder)

    for _, outcome, step in stopped_at_each_step(
        prepare, lambda _: export(folder, NEW[1], NEW[0]), (FileError,), how=how
    ):
        if exists and not folder.exists():
            missing.append(step)
        if exists or folder.exists():
            found.add((*whole(folder)[:1], *sorted(whole(folder)[1])))
        assert outcome in ("finished", {"kill": "stopped", "fail": "raised"}[how])
        export(folder, NEW[1], NEW[0])
        assert whole(folder) == NEW
        assert [path.name for path in tmp_path.iterdir()] == ["vectors"]
    assert found == {(1, "relu")} | ({(0, "causal-mask", "softmax")} if exists else set())
    # Without an exchange there is one moment without a folder, which the next reader ends.
    expected = 1 if exists and (steps, how) == ("two", "kill") else 0
    assert len(missing) == expected


@pytest.mark.usefixtures("_quick_export")
def test_an_export_keeps_the_permissions_of_the_folder(tmp_path):
    folder = export(tmp_path / "vectors", ["relu"])
    folder.chmod(0o750)
    export(folder, ["relu"], 1)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o750
    assert whole(folder) == (1, {"relu"})


@pytest.mark.usefixtures("_quick_export")
def test_an_export_is_left_alone_while_it_cannot_be_read(copied):
    """A manifest that is not an export's says nothing of the files that may be replaced."""
    (copied / "manifest.json").write_text("{}")
    before = {path.name: path.read_bytes() for path in copied.iterdir()}
    with pytest.raises(FileError, match="not a manifest of vectors"):
        export(copied, ["relu"])
    assert {path.name: path.read_bytes() for path in copied.iterdir()} == before


@pytest.mark.usefixtures("_quick_export")
def test_no_link_is_followed_and_no_pipe_waited_for(tmp_path):
    export(tmp_path / "vectors", ["relu"])
    (tmp_path / "link").symlink_to("vectors")
    with pytest.raises(FileError, match="not a folder"):
        export(tmp_path / "link", ["relu"])
    manifest = tmp_path / "vectors" / "manifest.json"
    manifest.unlink()
    os.mkfifo(manifest)
    with pytest.raises(FileError, match="a named pipe, expected a regular file"):
        export(tmp_path / "vectors", ["relu"])
    with pytest.raises(FileError, match="a named pipe, expected a regular file"):
        check(tmp_path / "vectors", tmp_path)


def test_what_is_no_export_is_left_alone(copied, tmp_path):
    (copied / "mine.txt").write_text("mine")
    with pytest.raises(FileError, match=r"'mine\.txt' is not part of an export"):
        export(copied, ["softmax"])
    assert (copied / "mine.txt").read_text() == "mine"
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileError, match="not a folder"):
        export(tmp_path / "file", ["softmax"])
    with pytest.raises(UsageError, match="seed -1"):
        export(tmp_path / "new", ["softmax"], seed=-1)


# --- A program that has no vtnp -------------------------------------------------------------------


@pytest.fixture
def read(vectors, tmp_path):
    """Results of the plain reader, which sees no package at all."""
    results = tmp_path / "results"
    subprocess.run(
        [sys.executable, "-I", "-S", READER, vectors, results],
        check=True,
        capture_output=True,
        timeout=60,
    )
    return results


def test_the_plain_reader_is_right(vectors, read, capsys):
    assert {path.stem for path in read.iterdir()} == set(BY_READER)
    report = check(vectors, read)
    assert report.status == RIGHT
    judged = {(line.case, line.kind) for line in report.lines}
    assert judged == {(f"{id}, float64", "value") for id in BY_READER} | {
        ("softmax, float64", "gradient")
    }
    assert report.notes == (
        "no gradients: attention, layer-norm",
        "no results: orthogonal-prototypes, causal-mask",
    )
    assert main(["vectors", "check", str(vectors), str(read)]) == RIGHT
    assert "right" in capsys.readouterr().out


def test_a_planted_fault_is_found_where_it_is(vectors, read, capsys):
    path = read / "attention.safetensors"
    arrays, _ = load(path)
    key = "case1/outputs/y"
    arrays[key].reshape(-1)[-1] += 1e-9
    save(path, arrays)
    report = check(vectors, read)
    assert report.status == WRONG
    last = [n - 1 for n in arrays[key].shape]
    assert failures(report).keys() == {("attention", key)}
    assert f"worst at {last}:" in failures(report)["attention", key]
    assert main(["vectors", "check", str(vectors), str(read), "--json"]) == WRONG
    report = json.loads(capsys.readouterr().out)
    assert report["verdict"] == "wrong"
    assert [line["what"] for line in report["lines"] if not line["holds"]] == [key]
    assert main(["vectors", "check", str(vectors), str(read), "--formula", "softmax"]) == RIGHT


# --- Precisions -----------------------------------------------------------------------------------


def computed(vectors, id, dtype, function=None):
    """Compute the outputs of a file in a precision."""
    arrays, _ = load(vectors / f"{id}.safetensors")
    (described,) = (each for each in manifest_of(vectors)["formulas"] if each["id"] == id)
    found = {}
    for case in described["cases"]:
        inputs = {name: in_dtype(arrays[f"{case['name']}/inputs/{name}"], dtype)
                  for name in case["inputs"]}  # fmt: skip
        y = (function or registry[id].function)(**inputs, **case["options"])
        found[f"{case['name']}/outputs/{described['results'][0]['name']}"] = y
    return found


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("id", ["softmax", "attention", "layer-norm"])
def test_each_precision_by_its_own_rule(vectors, tmp_path, id, dtype):
    arrays = computed(vectors, id, dtype)
    assert {str(x.dtype) for x in arrays.values()} == {dtype}
    save(tmp_path / f"{id}.safetensors", arrays)
    report = check(vectors, tmp_path)
    assert report.status == RIGHT
    assert {line.case for line in report.lines} == {f"{id}, {dtype}"}


def test_bfloat16(vectors, tmp_path):
    """The upper halves of float32, which NumPy does not have."""
    for by, status in ((0, RIGHT), (1 << 21, WRONG)):  # 1 << 21 is an eighth to a quarter
        header, data = {}, b""
        for key, x in computed(vectors, "softmax", "float32").items():
            halves = ((x.view(np.uint32) + 0x8000 + by) >> 16).astype("<u2").tobytes()
            offsets = [len(data), len(data) + len(halves)]
            header[key] = {"dtype": "BF16", "shape": x.shape, "data_offsets": offsets}
            data += halves
        text = json.dumps(header).encode()
        (tmp_path / "softmax.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
        report = check(vectors, tmp_path)
        assert {line.case for line in report.lines} == {"softmax, bfloat16"}
        assert report.status == status


def test_single_precision_stored_in_float64_is_noted(vectors, tmp_path):
    arrays = {k: x.astype(np.float64) for k, x in computed(vectors, "softmax", "float32").items()}
    save(tmp_path / "softmax.safetensors", arrays)
    report = check(vectors, tmp_path)
    assert report.status == WRONG
    assert any("within the tolerance of float32" in note for note in failures(report).values())


@pytest.mark.parametrize("id", BY_READER)
def test_mistakes_are_wrong(vectors, tmp_path, id):
    """Those that the manifest lists as undetected excepted, and no others."""
    (described,) = (each for each in manifest_of(vectors)["formulas"] if each["id"] == id)
    wrong = {name: function for (of, name), function in mistakes.items() if of == id}
    status = {}
    for name, function in wrong.items():
        arrays = computed(vectors, id, "float64", function)
        save(tmp_path / f"{id}.safetensors", arrays)
        status[name] = check(vectors, tmp_path).status
    assert {name for name in wrong if status[name] == RIGHT} == set(described["undetected"])
    assert WRONG in status.values()


# --- Results that are not as they should be -------------------------------------------------------


def test_nothing_is_skipped(vectors, tmp_path):
    arrays = answers(vectors, "softmax")
    arrays["case0/outputs/z"] = arrays.pop("case0/outputs/y")
    arrays["case1/outputs/y"] = arrays["case1/outputs/y"][..., None]
    arrays["case0/gradients/x"] = np.zeros(arrays["case0/gradients/x"].shape, np.int64)
    del arrays["case1/gradients/x"]
    save(tmp_path / "softmax.safetensors", arrays)
    save(tmp_path / "soft-max.safetensors", arrays)
    index = answers(vectors, "orthogonal-prototypes")
    save(
        tmp_path / "orthogonal-prototypes.safetensors",
        {key: x.astype(np.float64) for key, x in index.items()},
    )
    report = check(vectors, tmp_path)
    assert report.status == WRONG
    found = failures(report)
    assert found["softmax", "case0/outputs/y"] == "missing"
    no_such_name = "the vectors have no output or gradient of that name"
    assert found["softmax", "case0/outputs/z"] == no_such_name
    assert found["softmax", "case1/outputs/y"] == "shape [2, 3, 1], expected [2, 3]"
    assert found["softmax", "case0/gradients/x"].startswith("I64, expected one of float64")
    assert found["softmax", "case1/gradients/x"] == "missing"
    assert "the vectors have no formula" in found["soft-max", "all"]
    for key in index:
        assert found["orthogonal-prototypes", key] == "float64, expected integers"


def test_integers_and_truth_values_of_any_kind(vectors, tmp_path):
    for id, dtype in (("orthogonal-prototypes", np.int32), ("causal-mask", np.uint8)):
        arrays = {key: x.astype(dtype) for key, x in answers(vectors, id).items()}
        save(tmp_path / f"{id}.safetensors", arrays)
        assert check(vectors, tmp_path, [id]).status == RIGHT
        key = next(iter(arrays))
        arrays[key].reshape(-1)[0] += 1
        save(tmp_path / f"{id}.safetensors", arrays)
        assert failures(check(vectors, tmp_path, [id])).keys() == {(id, key)}


def test_not_a_number_is_wrong(vectors, tmp_path):
    copy_answers(vectors, tmp_path, of=["softmax"], change=lambda x: x + np.nan)
    assert check(vectors, tmp_path).status == WRONG
    assert not any(line.holds for line in check(vectors, tmp_path).lines)


def test_what_is_asked_for_must_be_there(vectors, tmp_path):
    assert check(vectors, tmp_path).status == NOT_RUN
    copy_answers(vectors, tmp_path, of=["softmax"])
    assert check(vectors, tmp_path).status == RIGHT
    report = check(vectors, tmp_path, ["attention"])
    assert report.status == WRONG
    assert "no file attention.safetensors" in failures(report)["attention", "all"]
    with pytest.raises(UsageError, match="the vectors have no relu"):
        check(vectors, tmp_path, ["relu"])
    with pytest.raises(UsageError, match="the vectors themselves"):
        check(vectors, vectors)
    with pytest.raises(FileError, match="No such file"):
        check(vectors, tmp_path / "nowhere")


def test_npz(vectors, tmp_path):
    np.savez(tmp_path / "softmax.npz", **answers(vectors, "softmax"))
    assert check(vectors, tmp_path).status == RIGHT
    copy_answers(vectors, tmp_path, of=["softmax"])
    with pytest.raises(FileError, match=r"there is also softmax\.npz"):
        check(vectors, tmp_path)


def test_another_edition_is_noted(copied, tmp_path):
    manifest = manifest_of(copied)
    manifest["edition"] = "0" * 64
    (copied / "manifest.json").write_text(json.dumps(manifest))
    report = check(copied, copy_answers(copied, tmp_path / "results"))
    assert report.status == RIGHT
    assert "another edition" in report.notes[0]


# --- Hostile files --------------------------------------------------------------------------------


def refused(folder, results, capsys):
    """Assert that the command ends in one line, and return it."""
    assert main(["vectors", "check", str(folder), str(results)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("vtnp: ")
    assert len(line) < 700
    return line


HOSTILE = {
    "above the folder": (lambda m: m["formulas"][0].update(file="../x.safetensors"), "file"),
    "an absolute path": (lambda m: m["formulas"][0].update(file="/etc/passwd"), "file"),
    "a file of another": (lambda m: m["formulas"][0].update(file="x.safetensors"), "its file is"),
    "an id that is a path": (lambda m: m["formulas"][0].update(id="../softmax"), "id"),
    "a formula twice": (lambda m: m["formulas"].append(m["formulas"][0]), "occurs twice"),
    "a case twice": (
        lambda m: m["formulas"][0]["cases"].append(m["formulas"][0]["cases"][0]),
        "a case occurs twice",
    ),
    "a case that is a path": (lambda m: m["formulas"][0]["cases"][0].update(name=".."), "name"),
    "no formulas": (lambda m: m.pop("formulas"), "required"),
    "formulas that are a number": (lambda m: m.update(formulas=3), "formulas"),
    "more than there is": (lambda m: m.update(more=1), "more"),
    "another format": (lambda m: m.update(format=3), "format"),
    "a size beyond all": (lambda m: y_of(m).update(shape=[10**30]), "shape"),
    "a size below none": (lambda m: y_of(m).update(shape=[-1]), "shape"),
    "another shape": (lambda m: y_of(m).update(shape=[7, 7, 7]), "not as manifest.json describes"),
    "another dtype": (lambda m: y_of(m).update(dtype="O"), "dtype"),
    "a tolerance below 0": (lambda m: y_of(m)["tolerance"].update(float64=-1.0), "tolerance"),
    "a tolerance beyond all": (lambda m: y_of(m)["tolerance"].update(float64=1e300), "tolerance"),
    "no tolerance": (lambda m: y_of(m).pop("tolerance"), "tolerance"),
    "a digest that is none": (lambda m: m["formulas"][0].update(sha256="x"), "sha256"),
    "another digest": (lambda m: m["formulas"][0].update(sha256="0" * 64), "SHA-256 differs"),
}


def y_of(manifest):
    return manifest["formulas"][0]["cases"][0]["outputs"]["y"]


@pytest.mark.parametrize("harm", HOSTILE)
def test_hostile_manifests(copied, tmp_path, capsys, harm):
    results = copy_answers(copied, tmp_path / "results", of=["softmax"])
    change, says = HOSTILE[harm]
    manifest = manifest_of(copied)
    assert manifest["formulas"][0]["id"] == "softmax"
    change(manifest)
    (copied / "manifest.json").write_text(json.dumps(manifest))
    assert says in refused(copied, results, capsys)


TEXTS = {
    "nothing": b"",
    "not JSON": b"{",
    "not UTF-8": b'{"a": "\xff"}',
    "a name twice": b'{"format": 2, "format": 2}',
    "a number that is none": b'{"format": NaN}',
    "a number too large": b'{"seed": 1e999}',
    "a number too long": b'{"seed": ' + b"9" * 10_000 + b"}",
    "too deep": b"[" * 100_000,
}


@pytest.mark.parametrize("harm", TEXTS)
def test_manifests_that_are_none(copied, tmp_path, capsys, harm):
    (copied / "manifest.json").write_bytes(TEXTS[harm])
    assert "not a manifest of vectors" in refused(copied, tmp_path, capsys)


def test_no_manifest_at_all(tmp_path, capsys):
    assert "manifest.json: No such file" in refused(tmp_path, tmp_path, capsys)


def with_header(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


ENTRY = {"dtype": "F64", "shape": [1], "data_offsets": [0, 8]}
FILES = {
    "nothing": b"",
    "a length beyond the file": struct.pack("<Q", 2**63) + b"{}",
    "not JSON": with_header(b"{{{{"),
    "numbers beyond the file": with_header({"a": {**ENTRY, "data_offsets": [0, 2**62]}}, b"." * 8),
    "a shape beyond its numbers": with_header({"a": {**ENTRY, "shape": [2**40, 2**40]}}, b"." * 8),
    "a dtype that is none": with_header({"a": {**ENTRY, "dtype": "pickle"}}, b"." * 8),
    "numbers that overlap": with_header({"a": ENTRY, "b": ENTRY}, b"." * 8),
    "a name twice": with_header(b'{"a": %b, "a": %b}' % ((json.dumps(ENTRY).encode(),) * 2)),
}


@pytest.mark.parametrize("harm", FILES)
def test_hostile_results(vectors, tmp_path, capsys, harm):
    (tmp_path / "softmax.safetensors").write_bytes(FILES[harm])
    assert str(tmp_path / "softmax.safetensors") in refused(vectors, tmp_path, capsys)


@pytest.mark.parametrize("where", ["vectors", "results"])
def test_files_cut_short(copied, tmp_path, capsys, where):
    results = copy_answers(copied, tmp_path / "results", of=["softmax"])
    path = {"vectors": copied, "results": results}[where] / "softmax.safetensors"
    whole = path.read_bytes()
    for length in (4, 20, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert str(path) in refused(copied, results, capsys)


def test_hostile_archives(vectors, tmp_path, capsys):
    path = tmp_path / "softmax.npz"
    np.savez(path, **{"case0/outputs/y": np.array([{}], dtype=object)})
    assert "not numeric" in refused(vectors, tmp_path, capsys)
    path.write_bytes(path.read_bytes()[:100])
    assert "bad .npz" in refused(vectors, tmp_path, capsys)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("case0/outputs/y.npy", b"\0" * 10**6)
    text = bytearray(path.read_bytes())
    size = struct.pack("<I", 10**6)
    text[text.rindex(size) : text.rindex(size) + 4] = struct.pack("<I", 2 * 10**9)
    path.write_bytes(bytes(text))
    assert "when unpacked" in refused(vectors, tmp_path, capsys)
