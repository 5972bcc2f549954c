"""Export of vectors: a few cases of each formula, with outputs and gradients in float64."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import vtnp
from vtnp._registry.errors import UsageError
from vtnp._registry.pages import formula
from vtnp._registry.spec import Entry, registry
from vtnp.checkpoints.files import save
from vtnp.checkpoints.opening import FileError
from vtnp.checkpoints.replacement import errors_of, recover, replacing_folder
from vtnp.verify.judge import EPS
from vtnp.verify.vectors.case import PYTHON_ONLY
from vtnp.verify.vectors.manifest import FORMAT, MANIFEST, SCHEMA, edition, read_manifest, schema
from vtnp.verify.vectors.option_descriptions import description, value_descriptions
from vtnp.verify.vectors.selection import cases_of

_SIZES = {"name": "", "kind": "int", "shape": None, "optional": False}  # integers, no array


def export(folder: str | os.PathLike[str], ids: Sequence[str | int] = (), seed: int = 0) -> Path:
    """Write the vectors of formulas into a folder, and return its path.

    ids: the formulas; left out, all. seed: the same seed gives the same bytes on one machine. On
    another one inputs are the same, and outputs may differ in the last bits, as its BLAS rounds.
    The folder is new, empty, or an older export, which is replaced at the very end.
    Raises FileError, UsageError, UnknownFormulaError.
    """
    if seed < 0:
        raise UsageError(f"seed {seed}: expected an integer >= 0")
    chosen = [registry[formula(id).id] for id in dict.fromkeys(ids)] or list(registry.values())
    with errors_of(folder):
        _refuse_other_folders(Path(folder))
    with replacing_folder(Path(folder)) as temporary:
        written = [_write(temporary, entry, seed) for entry in chosen]
        manifest = {
            "$schema": SCHEMA,
            "format": FORMAT,
            "vtnp": vtnp.__version__,
            "edition": edition(),
            "seed": seed,
            "precision": EPS,
            "formulas": written,
        }
        (temporary / MANIFEST).write_text(_in_json(manifest), encoding="utf-8")
        (temporary / SCHEMA).write_text(schema(), encoding="utf-8")
    return Path(folder)


def _in_json(manifest: Mapping[str, Any]) -> str:
    """Write each case on one line, so that two exports can be compared line by line."""
    formulas = [
        "{\n"
        + ",\n".join(
            f" {json.dumps(name)}: "
            + (
                "[\n  " + ",\n  ".join(map(_compact, value)) + "\n ]"
                if name == "cases"
                else _compact(value)
            )
            for name, value in each.items()
        )
        + "\n}"
        for each in manifest["formulas"]
    ]
    head = [f"{json.dumps(k)}: {_compact(x)}" for k, x in manifest.items() if k != "formulas"]
    return "{\n" + ",\n".join(head) + ',\n"formulas": [\n' + ",\n".join(formulas) + "\n]\n}\n"


def _compact(value: Any) -> str:
    return json.dumps(value, allow_nan=False)


# --- One formula ----------------------------------------------------------------------------------


def _write(folder: Path, entry: Entry, seed: int) -> dict[str, Any]:
    """Write a formula's file; return its entry in the manifest."""
    page, file = formula(entry.id), f"{entry.id}.safetensors"
    chosen, undetected = cases_of(entry, seed)
    cases = {f"case{i}": case for i, case in enumerate(chosen)}
    arrays = [case.arrays(name) for name, case in cases.items()]
    save(folder / file, {k: x for each in arrays for k, x in each.items()}, {"formula": entry.id})
    descriptions = [case.description(name) for name, case in cases.items()]
    arguments = [_argument(each.name, each) for each in entry.signature.arguments]
    returns = entry.signature.returns
    results = [
        _argument(name, returns[i]) if i < len(returns) else {**_SIZES, "name": name}
        for i, name in enumerate(cases["case0"].outputs)
    ]
    return {
        "id": entry.id,
        "survey": page.survey,
        "plain": page.plain,
        "page": entry.page_path,
        "file": file,
        "sha256": hashlib.sha256((folder / file).read_bytes()).hexdigest(),
        "arguments": [each for each in arguments if each["name"] not in PYTHON_ONLY],
        "results": results,
        "options": _options(entry.id, descriptions),
        "undetected": sorted(undetected),
        "cases": descriptions,
    }


def _argument(name: str, each: Any) -> dict[str, Any]:
    shape = {"kind": each.kind, "shape": each.shape.text, "optional": each.optional}
    return {"name": name, **shape}


def _options(id: str, cases: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    found = {}
    for name in cases[0]["options"]:
        strings = sorted({x for case in cases for x in _strings(case["options"][name])})
        found[name] = {
            "description": description(id, name),
            "values": value_descriptions(id, name, strings),
        }
    return found


def _strings(value: Any) -> Iterator[str]:
    """Yield the strings of an option, those of its fields included."""
    if isinstance(value, list):
        for each in value:
            yield from _strings(each)
    elif isinstance(value, str) and value not in {"inf", "-inf"}:
        yield value


# --- The folder -----------------------------------------------------------------------------------


def _refuse_other_folders(folder: Path) -> None:
    recover(folder)
    if not folder.exists() and not folder.is_symlink():
        return
    if folder.is_symlink() or not folder.is_dir():
        raise FileError(f"{folder}: not a folder")
    names = {path.name for path in folder.iterdir()}
    if not names:
        return
    files = (
        {each["file"] for each in read_manifest(folder)["formulas"]} if MANIFEST in names else set()
    )
    others = sorted(names - files - {MANIFEST, SCHEMA})
    if others:
        raise FileError(f"{folder}: not empty, and {others[0]!r} is not part of an export")
