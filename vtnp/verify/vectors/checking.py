"""Checks of results that some program has computed from vectors."""

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vtnp._registry.errors import UsageError, did_you_mean
from vtnp._registry.pages import formula
from vtnp.checkpoints.files import load, read_header
from vtnp.checkpoints.npz import from_npz
from vtnp.checkpoints.opening import FileError, one_line
from vtnp.verify.judge import EPS, MULTIPLE, Deviation, deviation
from vtnp.verify.report import Kind, Line, Report
from vtnp.verify.vectors.manifest import edition, key, read_manifest, read_vectors

_SUFFIXES = (".safetensors", ".npz")
_NAMES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_EXPECTED = {"F64": f"one of {', '.join(EPS)}", "I64": "integers", "BOOL": "truth values"}
_MOST_BYTES = 1_000_000_000  # of the arrays of one file


class _Result(NamedTuple):
    """An array of results. dtype: as the file names it; "float64" and such for real numbers."""

    array: NDArray[Any]
    dtype: str


def check(
    folder: str | os.PathLike[str],
    results: str | os.PathLike[str],
    ids: Sequence[str | int] = (),
) -> Report:
    """Judge the results that a program has computed from the vectors in a folder.

    results: a folder of files named like those of the vectors, or .npz, with arrays of the same
    names: CASE/outputs/NAME, and CASE/gradients/PATH if the program has gradients. Each is judged
    in its own precision. ids: formulas whose results must be there, while others are ignored; left
    out, those are judged whose results are there.
    Raises FileError for invalid files, UsageError, UnknownFormulaError.
    """
    folder, results = Path(folder), Path(results)
    manifest = read_manifest(folder)
    by_id = {each["id"]: each for each in manifest["formulas"]}
    wanted = [_known(id, by_id) for id in ids]
    files = _files(folder, results)
    notes = []
    if manifest["edition"] != edition():
        version = manifest["vtnp"]
        notes.append(f"the vectors are of another edition of the pages, of vtnp {version}")
    lines: list[Line] = []
    left_out: dict[str, list[str]] = {"no gradients": [], "no results": []}
    for id, each in by_id.items():
        if wanted and id not in wanted:
            continue
        if path := files.get(id):
            vectors, found = read_vectors(folder, each), _read(path)
            lines += _judged(each, vectors, found)
            has_any = any(case["gradients"] for case in each["cases"])
            if has_any and not any("/gradients/" in name for name in found):
                left_out["no gradients"].append(id)
        elif wanted:
            note = f"no file {id}.safetensors or {id}.npz"
            lines.append(Line("value", "all", id, holds=False, note=note))
        else:
            left_out["no results"].append(id)
    if not wanted:
        for id in sorted(files.keys() - by_id.keys()):
            note = f"{files[id].name}: the vectors have no formula of that name"
            lines.append(Line("value", "all", id, holds=False, note=note))
    notes += [f"{what}: {', '.join(each)}" for what, each in left_out.items() if each]
    return Report("vectors", str(results), "", manifest["seed"], tuple(lines), notes=tuple(notes))


def _known(id: str | int, by_id: Mapping[str, Any]) -> str:
    found = str(id) if str(id) in by_id else formula(id).id
    if found not in by_id:
        raise UsageError(f"the vectors have no {found}{did_you_mean(found, by_id)}")
    return found


def _files(folder: Path, results: Path) -> dict[str, Path]:
    """Return the files of results by their formulas."""
    try:
        if folder.samefile(results):
            raise UsageError(f"{results}: the vectors themselves; results go into another folder")
        paths = sorted(path for path in results.iterdir() if path.suffix in _SUFFIXES)
    except OSError as error:
        raise FileError(f"{results}: {one_line(error)}") from None
    found: dict[str, Path] = {}
    for path in paths:
        if path.stem in found:
            other = found[path.stem].name
            raise FileError(f"{path}: there is also {other}; expected one of the two")
        found[path.stem] = path
    return found


def _read(path: Path) -> dict[str, _Result]:
    if path.suffix == ".npz":
        arrays = from_npz(path, _MOST_BYTES)
        return {name: _Result(x, str(x.dtype)) for name, x in arrays.items()}
    header = read_header(path)
    with warnings.catch_warnings():  # bfloat16 is widened, and judged as what it was
        warnings.simplefilter("ignore")
        arrays, _ = load(path)
    dtypes = {name: header[name]["dtype"] for name in arrays}
    return {name: _Result(x, _NAMES.get(dtypes[name], dtypes[name])) for name, x in arrays.items()}


# --- One formula ----------------------------------------------------------------------------------


def _judged(
    formula: Mapping[str, Any], vectors: Mapping[str, NDArray[Any]], found: Mapping[str, _Result]
) -> Iterator[Line]:
    """Yield a line for each array that is expected, and for each other one."""
    id, known = formula["id"], set()
    differentiates = any("/gradients/" in name for name in found)
    groups: Mapping[str, Kind] = {"outputs": "value", "gradients": "gradient"}
    for case in formula["cases"]:
        for group, kind in groups.items():
            for name, described in case[group].items():
                what = key(case["name"], group, name)
                known.add(what)
                if what in found:
                    yield _line(kind, what, id, vectors[what], found[what], described)
                elif group == "outputs" or differentiates:
                    yield Line(kind, what, id, holds=False, note="missing")
    for what in sorted(found.keys() - known):
        note = "the vectors have no output or gradient of that name"
        yield Line("value", what, id, holds=False, note=note)


def _line(
    kind: Kind,
    what: str,
    id: str,
    expected: NDArray[Any],
    result: _Result,
    described: Mapping[str, Any],
) -> Line:
    case, got = f"{id}, {result.dtype}", result.array
    if got.shape != expected.shape:
        note = f"shape {list(got.shape)}, expected {list(expected.shape)}"
        return Line(kind, what, case, holds=False, note=note)
    tolerance = described.get("tolerance")
    if (result.dtype in EPS) != (tolerance is not None) or got.dtype.kind not in "fiub":
        note = f"{result.dtype}, expected {_EXPECTED[described['dtype']]}"
        return Line(kind, what, case, holds=False, note=note)
    dtype = result.dtype if tolerance else "float64"
    found = _deviation(got, expected, tolerance, dtype)
    note = found.note
    magnitude = np.max(np.abs(expected), initial=0.0, where=np.isfinite(expected))
    if found.holds and 0.0 < magnitude < found.bound:
        note = "says little: rounding alone may change these numbers by their own size"
    is_double = dtype == "float64" and tolerance
    if not found.holds and is_double and _deviation(got, expected, tolerance, "float32").holds:
        note += "; within the tolerance of float32: was it computed in that?"
    return Line(kind, what, case, found.holds, found.error, found.bound, note)


def _deviation(
    got: NDArray[Any], expected: NDArray[Any], tolerance: Mapping[str, float] | None, dtype: str
) -> Deviation:
    # The judge multiplies by powers of two, and so returns the tolerance unchanged as the bound.
    units = tolerance[dtype] / (MULTIPLE * EPS[dtype]) if tolerance else 0.0
    return deviation(got, expected, units, dtype)
