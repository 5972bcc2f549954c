"""Targets: folders of test vectors and of results, and checkpoints of the tiny trainer."""

import hashlib
import json
import random
import sys
import tempfile
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
from rich.console import Console

from tests.fuzz import Case, WrongError, target
from tests.fuzz.archives import DEFLATED, STORED, Member, changed_archive
from tests.fuzz.arrays import BFLOAT16, bomb, changed_npy, changed_safetensors, described, npy
from tests.fuzz.mutations import (
    as_json,
    changed_bytes,
    changed_json,
    hostile_name,
    special_file,
    string,
)
from vtnp._registry.errors import UnknownFormulaError, UsageError
from vtnp.checkpoints import FileError, load, save
from vtnp.verify.junit import as_xml
from vtnp.verify.report import Report
from vtnp.verify.text import print_report
from vtnp.verify.vectors import check, export

sys.path.append(str(Path(__file__).parents[2] / "examples"))

from tiny import runs, training

IDS = ("softmax", "causal-mask", "orthogonal-prototypes")
MANIFEST = "manifest.json"


# --- Vectors --------------------------------------------------------------------------------------


@cache
def vectors() -> dict[str, bytes]:
    """Return the files of an export of a few formulas."""
    with tempfile.TemporaryDirectory() as folder:
        found = export(Path(folder) / "vectors", IDS)
        return {path.name: path.read_bytes() for path in sorted(found.iterdir())}


@cache
def answers(id: str) -> dict[str, Any]:
    """Return the right results of a formula."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x"
        path.write_bytes(vectors()[f"{id}.safetensors"])
        arrays, _ = load(path)
    return {k: x for k, x in arrays.items() if k.split("/")[1] in ("outputs", "gradients")}


@target("vectors", errors=(FileError, UsageError, UnknownFormulaError), share=1.5)
def vectors_and_results(rng: random.Random, folder: Path) -> Case:
    """Write vectors and results, one of which is not as it should be."""
    given, results = folder / "vectors", folder / "results"
    given.mkdir()
    results.mkdir()
    for name, data in vectors().items():
        (given / name).write_bytes(data)
    for id in IDS:
        save(results / f"{id}.safetensors", answers(id))
    kind = rng.randrange(12)
    if kind < 5:
        _change_manifest(rng, given)
    elif kind == 5:
        path = rng.choice((given / MANIFEST, given / "softmax.safetensors"))
        path.write_bytes(changed_bytes(rng, path.read_bytes()))
    elif kind == 6:
        path = rng.choice([*given.iterdir(), *results.iterdir()])
        path.unlink()
        special_file(rng, path)
    elif kind == 7:
        (results / hostile_name(rng, rng.choice((".npz", ".safetensors")))).write_bytes(b"")
        special_file(rng, results / hostile_name(rng, "y.npz"))
    else:
        _change_results(rng, results, folder)
    ids = [] if rng.random() < 0.9 else [rng.choice((*IDS, "relu", string(rng), 2, -1))]

    def read() -> str:
        report = check(given, results, ids)
        _show(report)
        return report.verdict

    return Case(read, () if ids else (given, results))


def _change_manifest(rng: random.Random, folder: Path) -> None:
    tree = json.loads(vectors()[MANIFEST])
    if rng.random() < 0.3:  # a file is not as it should be, and the manifest has its digest
        path = folder / "softmax.safetensors"
        arrays, metadata = load(path)
        data = changed_safetensors(rng, arrays, metadata)
        path.write_bytes(data)
        tree["formulas"][0]["sha256"] = hashlib.sha256(data).hexdigest()
    else:
        part = rng.choice((tree, tree["formulas"][0], tree["formulas"][0]["cases"][0]))
        changed = changed_json(rng, part)
        if part is tree:
            tree = changed
        elif part is tree["formulas"][0]:
            tree["formulas"][0] = changed
        else:
            tree["formulas"][0]["cases"][0] = changed
    (folder / MANIFEST).write_bytes(as_json(tree).encode("utf-8", "surrogatepass"))


def _change_results(rng: random.Random, results: Path, folder: Path) -> None:
    id = rng.choice(IDS)
    path, arrays = results / f"{id}.safetensors", dict(answers(id))
    if rng.random() < 0.3:
        name = rng.choice(list(arrays))
        arrays[string(rng, name)[:200]] = arrays.pop(name)
    if rng.random() < 0.3:
        name = rng.choice(list(arrays))
        arrays[name] = rng.choice((
            lambda x: x.astype(np.complex128), lambda x: x.astype(np.longdouble),
            lambda x: x.astype(np.uint64), lambda x: x * np.nan, lambda x: x[..., None],
            lambda x: x[:0], lambda x: x.astype(bool), lambda x: x.astype(np.float16) + np.inf,
        ))(arrays[name])  # fmt: skip
    if rng.random() < 0.5:
        path.unlink()
        members = [Member(f"{name}.npy", npy(x)) for name, x in arrays.items()]
        for each in members:
            each.method = rng.choice((STORED, DEFLATED))
        if rng.random() < 0.3:
            members.append(bomb(rng))
        if rng.random() < 0.5:
            rng.choice(members).data = changed_npy(rng, np.ones(2), folder)
        path.with_suffix(".npz").write_bytes(changed_archive(rng, members))
    else:
        real = {name: x for name, x in arrays.items() if x.dtype.kind == "f"}
        path.write_bytes(changed_safetensors(rng, real or {"a": np.ones(2)}, {}))


def _show(report: Report) -> None:
    """Print a report in all its forms; raise WrongError if it has what a terminal would obey."""
    ET.fromstring(as_xml(report))
    text = StringIO()
    print_report(report, every_line=True, console=Console(file=text, width=100, color_system=None))
    for shown in (as_xml(report), text.getvalue(), json.dumps(report.as_dict(), allow_nan=False)):
        obeyed = next((x for x in shown if not (x.isprintable() or x == "\n")), "")
        if obeyed:
            raise WrongError(f"a report with {obeyed!r}")


@target("export", errors=(FileError, UsageError), share=0.2)
def export_over(rng: random.Random, folder: Path) -> Case:
    """Write what is at the place that vectors are exported to."""
    given = folder / rng.choice(("v", "v" * 250, "\udcff", "a\nb"))
    kind = rng.randrange(5)
    if kind == 0:
        special_file(rng, given)
    else:
        given.mkdir()
        for name, data in vectors().items():
            (given / name).write_bytes(data)
        if kind == 1:
            path = rng.choice(list(given.iterdir()))
            path.unlink()
            special_file(rng, path)
        elif kind == 2:
            special_file(rng, given / hostile_name(rng, ".safetensors"))
        elif kind == 3:
            _change_manifest(rng, given)
    return Case(lambda: str(bool(export(given, ["causal-mask"]))), (given,))


# --- Checkpoints ----------------------------------------------------------------------------------

_PARAMS = {"W": np.ones((2, 3), np.float32), "layers": [{"b": np.ones(3, np.float32)}]}


@cache
def _checkpoint() -> tuple[dict[str, Any], dict[str, str]]:
    settings = runs.Settings("timesformer", "divided", 4, 2, 0, "float32")
    state = runs.State(
        _PARAMS, training.fresh(_PARAMS), np.random.default_rng(0), [1.0], [(1, 0.5)], [0.1]
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / runs.CHECKPOINT
        runs.write(path, settings, None, "digest", state)
        return load(path)


@target("checkpoint", errors=(FileError,), warnings=(BFLOAT16,), share=0.7)
def checkpoint(rng: random.Random, folder: Path) -> Case:
    """Write a checkpoint of train_tiny.py whose settings, state or arrays are wrong."""
    path = folder / runs.CHECKPOINT
    arrays, metadata = _checkpoint()
    metadata, kind = dict(metadata), rng.randrange(10)
    if kind == 0:
        special_file(rng, path)
    elif kind == 1:
        path.write_bytes(changed_safetensors(rng, arrays, metadata))
    else:
        name = rng.choice((*metadata, "state"))
        metadata[name] = as_json(changed_json(rng, json.loads(metadata[name])))
        if kind == 2:
            metadata[name] = string(rng)
        if kind == 3:
            del metadata[name]
        header, data = described(arrays, metadata)
        text = json.dumps(header).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + data)

    location = rng.choice((path, folder))

    def read() -> object:
        found = runs.read(location)
        state = runs.resumed(found, _PARAMS)
        _check(found.settings, state)
        return state

    return Case(read, (path,))


def _check(settings: Any, state: Any) -> None:
    """Raise WrongError unless a run could go on from what was read."""
    numbers = [*state.losses, *state.clock, state.step_seconds, state.wall_seconds]
    numbers += [x for pair in state.accuracies for x in pair]
    if not all(type(x) in (int, float) and np.isfinite(x) for x in numbers):
        raise WrongError(f"a state of {numbers}"[:900])
    kinds = [type(getattr(settings, name)) for name in ("model", "scheme", "dtype")]
    kinds += [type(getattr(settings, name)) for name in ("steps", "batch", "seed")]
    if kinds != [str] * 3 + [int] * 3 or min(settings.steps, settings.batch) < 1:
        raise WrongError(f"settings {settings}"[:900])
    if len(state.clock) != len(state.accuracies) or len(state.losses) > settings.steps:
        raise WrongError(f"{len(state.clock)}, {len(state.accuracies)}, {len(state.losses)}")
