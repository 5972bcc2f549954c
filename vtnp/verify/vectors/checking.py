"""Judging results that some program has written, by what the vectors say."""

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile, ZipFile

import numpy as np
from numpy.typing import NDArray

from vtnp._registry.errors import UsageError
from vtnp._registry.pages import formula
from vtnp.checkpoints.files import FileError, load, one_line, read_header
from vtnp.checkpoints.weights import from_npz
from vtnp.verify.judge import EPS, MULTIPLE, Figure, figure
from vtnp.verify.report import Line, Report
from vtnp.verify.vectors.manifest import edition, key, read_manifest, read_vectors

_SUFFIXES = (".safetensors", ".npz")
_NAMES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_KINDS = {"F64": f"one of {', '.join(EPS)}", "I64": "whole numbers", "BOOL": "truths"}
_AT_MOST = 1_000_000_000  # bytes that the arrays of one file may have


class _Given(NamedTuple):
    """An array of results. dtype: as the file calls it, or "float64" and such for real numbers."""

    array: NDArray[Any]
    dtype: str


def check(
    folder: str | os.PathLike[str],
    results: str | os.PathLike[str],
    ids: Sequence[str | int] = (),
) -> Report:
    """Judge the results that a program has made of the vectors in a folder.

    results: a folder of files called as the vectors' own, or .npz, with arrays under the same
    names: CASE/outputs/NAME, and CASE/gradients/PATH of a program that has gradients. Each is
    judged in the precision that it has. ids: formulas whose results must be there, and nothing else
    is looked at; left out, those are judged whose results are there.
    Raises FileError for files that cannot be believed, UsageError, UnknownFormulaError.
    """
    folder, results = Path(folder), Path(results)
    manifest = read_manifest(folder)
    by_id = {each["id"]: each for each in manifest["formulas"]}
    wanted = [_known(id, by_id) for id in ids]
    files = _files(folder, results)
    notes = []
    if manifest["edition"] != edition():
        notes.append(f"the vectors are of another edition of the pages, by vtnp {manifest['vtnp']}")
    lines: list[Line] = []
    left_out: dict[str, list[str]] = {"no gradients": [], "not given": []}
    for id, each in by_id.items():
        if wanted and id not in wanted:
            continue
        if path := files.get(id):
            vectors, given = read_vectors(folder, each), _read(path)
            lines += _judged(each, vectors, given)
            has_any = any(case["gradients"] for case in each["cases"])
            if has_any and not any("/gradients/" in name for name in given):
                left_out["no gradients"].append(id)
        elif wanted:
            note = f"no file {id}.safetensors or {id}.npz"
            lines.append(Line("value", "all", id, holds=False, note=note))
        else:
            left_out["not given"].append(id)
    if not wanted:
        for id in sorted(files.keys() - by_id.keys()):
            note = f"{files[id].name}: no formula of the vectors is called so"
            lines.append(Line("value", "all", id, holds=False, note=note))
    notes += [f"{what}: {', '.join(each)}" for what, each in left_out.items() if each]
    return Report("vectors", str(results), "", manifest["seed"], tuple(lines), notes=tuple(notes))


def _known(id: str | int, by_id: Mapping[str, Any]) -> str:
    found = str(id) if str(id) in by_id else formula(id).id
    if found not in by_id:
        near = get_close_matches(found, list(by_id), n=3, cutoff=0.4)
        hint = f"; near it: {', '.join(near)}" if near else ""
        raise UsageError(f"the vectors have no {found}{hint}")
    return found


def _files(folder: Path, results: Path) -> dict[str, Path]:
    """Return the files of results by their formulas."""
    try:
        if folder.samefile(results):
            raise UsageError(f"{results}: the vectors themselves; results stand in another folder")
        paths = sorted(path for path in results.iterdir() if path.suffix in _SUFFIXES)
    except OSError as error:
        raise FileError(f"{results}: {one_line(error)}") from None
    found: dict[str, Path] = {}
    for path in paths:
        if path.stem in found:
            raise FileError(f"{path}: {found[path.stem].name} is there, too; one is meant")
        found[path.stem] = path
    return found


def _read(path: Path) -> dict[str, _Given]:
    if path.suffix == ".npz":
        _refuse_what_swells(path)
        arrays = from_npz(path)
        return {name: _Given(x, str(x.dtype)) for name, x in arrays.items()}
    header = read_header(path)
    with warnings.catch_warnings():  # bfloat16 is widened, and judged as what it was
        warnings.simplefilter("ignore")
        arrays, _ = load(path)
    dtypes = {name: header[name]["dtype"] for name in arrays}
    return {name: _Given(x, _NAMES.get(dtypes[name], dtypes[name])) for name, x in arrays.items()}


def _refuse_what_swells(path: Path) -> None:
    """Raise FileError for an archive that is small only as long as it is packed."""
    try:
        with ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
    except (OSError, BadZipFile, ValueError, NotImplementedError) as error:
        raise FileError(f"{path}: bad .npz: {one_line(error)}") from None
    if size > _AT_MOST:
        raise FileError(f"{path}: {size} bytes when unpacked, more than {_AT_MOST}")


# --- One formula ----------------------------------------------------------------------------------


def _judged(
    formula: Mapping[str, Any], vectors: Mapping[str, NDArray[Any]], given: Mapping[str, _Given]
) -> Iterator[Line]:
    """Yield a line for each array that is meant, and for each that is not."""
    id, known = formula["id"], set()
    differentiates = any("/gradients/" in name for name in given)
    for case in formula["cases"]:
        parts = {"outputs": "value", "gradients": "gradient"}
        for part, kind in parts.items():
            for name, described in case[part].items():
                what = key(case["name"], part, name)
                known.add(what)
                if what in given:
                    yield _line(kind, what, id, vectors[what], given[what], described)
                elif part == "outputs" or differentiates:
                    yield Line(kind, what, id, holds=False, note="missing")
    for what in sorted(given.keys() - known):
        note = "no output or gradient is called so"
        yield Line("value", what, id, holds=False, note=note)


def _line(
    kind: str, what: str, id: str, meant: NDArray[Any], given: _Given, described: Mapping[str, Any]
) -> Line:
    case, got = f"{id}, {given.dtype}", given.array
    if got.shape != meant.shape:
        note = f"shape {list(got.shape)}, where {list(meant.shape)} is meant"
        return Line(kind, what, case, holds=False, note=note)
    tolerance = described.get("tolerance")
    if (given.dtype in EPS) != (tolerance is not None) or got.dtype.kind not in "fiub":
        note = f"{given.dtype}, where {_KINDS[described['dtype']]} are meant"
        return Line(kind, what, case, holds=False, note=note)
    dtype = given.dtype if tolerance else "float64"
    found = _figure(got, meant, tolerance, dtype)
    note = ""
    if (
        found.holds
        and 0.0 < np.max(np.abs(meant), initial=0.0, where=np.isfinite(meant)) < found.bound
    ):
        note = "tells little: rounding alone may move these numbers by their own size"
    if not found.holds:
        index = list(found.index or ())
        note = f"first at {index}: {found.got:.9g}, not {found.expected:.9g}"
        if dtype == "float64" and tolerance and _figure(got, meant, tolerance, "float32").holds:
            note += "; near enough for float32: was it computed in that?"
    return Line(kind, what, case, found.holds, found.error, found.bound, note)


def _figure(
    got: NDArray[Any], meant: NDArray[Any], tolerance: Mapping[str, float] | None, dtype: str
) -> Figure:
    # The judge multiplies by powers of two, and so gives the tolerance back as it is.
    units = tolerance[dtype] / (MULTIPLE * EPS[dtype]) if tolerance else 0.0
    return figure(got, meant, units, dtype)
