"""What CuPy's functions take: read out of an installed CuPy, written for its stand-in.

    pip install --target /tmp/cupy --no-deps "cupy-cuda12x==14.*" cuda-pathfinder
    PYTHONPATH=/tmp/cupy python -m tests.support.cupy_signatures

CuPy imports without a GPU. The file has the signature of every public function of `cupy`,
`cupy.linalg` and `cupy.fft` and of every method of `ndarray` and `ufunc`; the loops of every ufunc
and of the reductions, in the order in which CuPy tries them (a loop that ends in `!` is an error);
the names of everything else that is public; and the classes whose instances have no hash.
"""

import importlib
import inspect
import json
import operator
import re
from pathlib import Path
from typing import Any

PATH = Path(__file__).with_suffix(".json")
_MODULES = ("cupy", "cupy.linalg", "cupy.fft")
_CLASSES = ("ndarray", "cuda.Device")
_PLAIN = (bool, int, float, str, type(None))
# Reductions whose kernel has a name, by the function that calls it.
_KERNELS = {
    "cupy.sum": "_routines_math.sum_auto_dtype",
    "cupy.prod": "_routines_math.prod_auto_dtype",
    "cupy.max": "_routines_statistics.amax",
    "cupy.min": "_routines_statistics.amin",
    "cupy.all": "_routines_logic.all",
    "cupy.any": "_routines_logic.any",
}


def read() -> dict[str, Any]:
    """Read the CuPy that is installed."""
    cupy = importlib.import_module("cupy")
    search = importlib.import_module("cupy._sorting.search")
    special = importlib.import_module("cupyx.scipy.special")
    found: dict[str, Any] = {"version": cupy.__version__}
    functions, ufuncs, others = {}, {}, {}
    for module in _MODULES:
        home = importlib.import_module(module)
        for name in sorted(n for n in dir(home) if not n.startswith("_")):
            value, key = getattr(home, name), f"{module}.{name}"
            if isinstance(value, cupy.ufunc):
                ufuncs[key] = _loops(value)
            elif (signature := signature_of(value)) is not None:
                functions[key] = signature
            else:
                others[key] = type(value).__name__
    for name in sorted(n for n in dir(special) if n.startswith("erf")):
        ufuncs[f"cupyx.scipy.special.{name}"] = _loops(getattr(special, name))
    ufuncs["cupy.where"] = _loops(search._where_ufunc)
    functions["cupyx.scatter_add"] = signature_of(importlib.import_module("cupyx").scatter_add)
    for owner in (cupy.ndarray, cupy.ufunc):
        functions |= _methods(owner)
    scatters = {key: each.pop("at") for key, each in ufuncs.items() if "at" in each}
    return found | {
        "functions": functions,
        "ufuncs": {key: " ".join(each["loops"]) for key, each in ufuncs.items()},
        "scatters": scatters,
        "reductions": {key: " ".join(_types(_kernel(name))) for key, name in _KERNELS.items()},
        "others": others,
        "unhashable": [
            name for name in _CLASSES if operator.attrgetter(name)(cupy).__hash__ is None
        ],
    }


def _kernel(name: str) -> Any:
    module, attribute = name.split(".")
    return getattr(importlib.import_module(f"cupy._core.{module}"), attribute)


def _loops(ufunc: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"loops": _types(ufunc)}
    return found | ({"at": ufunc._scatter_op} if ufunc._scatter_op else {})


def _types(kernel: Any) -> list[str]:
    """Return the loops of a ufunc or of a reduction as CuPy writes them."""

    def chars(dtypes: Any) -> str:
        return "".join(getattr(dtype, "char", None) or str(dtype) for dtype in dtypes)

    found = []
    for op in kernel._ops.ops:
        of_error = re.search(r"error_func=(?!None)", repr(op))
        found.append(f"{chars(op.in_types)}->{chars(op.out_types)}{'!' if of_error else ''}")
    return found


def signature_of(function: Any) -> str | None:
    """Return a function's signature without annotations; None for what has none.

    A default that is not a plain value is written `...`.
    """
    if inspect.isclass(function) or not callable(function):
        return None
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return _documented(function)
    return str(
        signature.replace(
            parameters=[
                each.replace(annotation=each.empty, default=_plain(each.default))
                for each in signature.parameters.values()
            ],
            return_annotation=signature.empty,
        )
    ).replace("Ellipsis", "...")


def _plain(default: Any) -> Any:
    return default if default is inspect.Parameter.empty or isinstance(default, _PLAIN) else ...


def _documented(function: Any) -> str | None:
    """Return the signature that Cython writes as the first line of the documentation."""
    first = (function.__doc__ or "").strip().split("\n")[0]
    found = re.match(r"(?:\w+\.)?\w+(\(.*\))(?: -> .*)?$", first)
    if found is None:
        return None
    # Cython's own types stand before names: `Py_ssize_t axis1`, `tuple max_version=None`.
    typed = re.compile(r"(?<=[(,] )?\b(?:Py_ssize_t|int|bool|tuple|_ndarray_base|\w+_t) (?=\w)")
    return typed.sub("", found[1])


def _methods(owner: Any) -> dict[str, str]:
    found = {}
    for name in sorted(dir(owner)):
        method = getattr(owner, name)
        hidden = name.startswith("_") and name not in {"__array__", "__call__"}
        if hidden or not callable(method) or inspect.isclass(method):
            continue
        signature = signature_of(method)
        if signature is not None:
            found[f"cupy.{owner.__name__}.{name}"] = signature
    return found


if __name__ == "__main__":
    PATH.write_text(json.dumps(read(), indent=1) + "\n", encoding="utf-8")
    print(f"wrote {PATH}")
