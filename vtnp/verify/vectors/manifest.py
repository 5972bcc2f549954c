"""manifest.json: what is in the files beside it. It is read as untrusted input."""

import hashlib
import json
import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from vtnp._registry.pages import formulas
from vtnp._registry.spec import registry
from vtnp.checkpoints.files import load, read_header
from vtnp.checkpoints.opening import FileError, one_line, read_bytes, reading
from vtnp.checkpoints.replacement import recover

MANIFEST = "manifest.json"
SCHEMA = "vectors.schema.json"
FORMAT = 2
_AT_MOST = 100_000_000  # bytes
_GROUPS = ("inputs", "outputs", "weights", "gradients")

Arrays = dict[str, NDArray[Any]]


@cache
def schema() -> str:
    """Return the JSON schema of manifests."""
    return (Path(__file__).parents[1] / SCHEMA).read_text(encoding="utf-8")


@cache
def edition() -> str:
    """Return the edition of the pages: a digest of their names and texts."""
    digest = hashlib.sha256()
    for formula in sorted(formulas(), key=lambda each: each.id):
        for text in (registry[formula.id].page_path, formula.page):
            data = text.encode()
            digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def key(case: str, group: str, name: str) -> str:
    """Return the name of an array in its file."""
    return f"{case}/{group}/{name}"


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read a folder's manifest and validate it against the schema.

    A folder that an export has renamed away before it was killed is put back first.
    Raises FileError.
    """
    from jsonschema import Draft202012Validator

    path = folder / MANIFEST
    recover(folder)
    text = read_bytes(path, _AT_MOST)
    try:
        found = json.loads(
            text.decode("utf-8"),
            object_pairs_hook=_without_duplicates,
            parse_constant=_refused,
            parse_float=_finite,
        )
        wrong = next(Draft202012Validator(json.loads(schema())).iter_errors(found), None)
    except (MemoryError, RecursionError, ValueError) as error:
        raise FileError(f"{path}: not a manifest of vectors: {_short(one_line(error))}") from None
    if wrong is not None:
        where, why = _short(wrong.json_path), _short(" ".join(wrong.message.split()))
        raise FileError(f"{path}: not a manifest of vectors: {where}: {why}")
    _check_names(path, found)
    return dict(found)


def _check_names(path: Path, found: Mapping[str, Any]) -> None:
    seen = set()
    for formula in found["formulas"]:
        id, names = formula["id"], [case["name"] for case in formula["cases"]]
        if id in seen:
            raise FileError(f"{path}: {id} occurs twice")
        if len(set(names)) < len(names):
            raise FileError(f"{path}: {id}: a case occurs twice")
        # No other name, which could be of a file outside the folder.
        if formula["file"] != f"{id}.safetensors":
            raise FileError(f"{path}: {id}: its file is {id}.safetensors, not {formula['file']}")
        seen.add(id)


def read_vectors(folder: Path, formula: Mapping[str, Any]) -> Arrays:
    """Read a formula's file, which must be the one that the manifest describes.

    Raises FileError.
    """
    path = folder / formula["file"]
    header = read_header(path)
    header.pop("__metadata__", None)
    with reading(path) as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    if digest != formula["sha256"]:
        raise FileError(f"{path}: not the file that {MANIFEST} describes: its SHA-256 differs")
    described = {
        key(case["name"], group, name): (entry["dtype"], entry["shape"])
        for case in formula["cases"]
        for group in _GROUPS
        for name, entry in case[group].items()
    }
    present = {name: (entry["dtype"], entry["shape"]) for name, entry in header.items()}
    for name in sorted({*described, *present}):
        if described.get(name) != present.get(name):
            raise FileError(f"{path}: {name} is not as {MANIFEST} describes it")
    return load(path)[0]


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} occurs twice")
    return table


def _refused(word: str) -> Any:
    raise ValueError(f"{word} is not a JSON number")


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{_short(text)} is too large")
    return number


def _short(text: str) -> str:
    return text if len(text) <= 160 else f"{text[:157]}..."
