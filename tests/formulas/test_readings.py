"""Every formula on every array library: the same value, the same gradient, and both stay there."""

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest
from autograd import make_vjp

from tests.formulas.test_formulas import DIFFERENTIABLE_IDS, IDS, outputs, paired
from tests.support import readings
from tests.support.compare import assert_close
from tests.support.trees import floats, replaced, tree_map
from vtnp._registry.spec import registry
from vtnp.claims.cases import Case, make

OTHERS = [name for name in readings.NAMES if name != "numpy"]
REFUSES_BATCHES = "a library that decomposes batches of matrices, got 'array_api_compat.dask"
# What a library cannot do, and says so: formula -> library -> a word of its error.
MISSING: dict[tuple[str, str], str] = {
    ("pseudo-inverse", "dask"): REFUSES_BATCHES,
    ("nystrom-approximation", "dask"): REFUSES_BATCHES,
    ("nystrom-attention", "dask"): REFUSES_BATCHES,
    ("nystrom-self-attention", "dask"): REFUSES_BATCHES,
}
# Widths within a layer are small: lazy and compiled libraries take time for each task of a graph.
WITHIN = dict.fromkeys(("heads", "d_h", "d_k", "d_v", "d_f", "points"), 2)
OF_SAMPLES = {"deformable-attention", "weighted-sum-of-samples"}


def small(id: str, seed: int) -> Case:
    """Return a case of a formula, small where it takes params."""
    of_parts = registry[id].signature.tables or id in OF_SAMPLES
    return make(id, seed, (2,), sizes=WITHIN if of_parts else None)


@cache
def value_of_numpy(id: str) -> tuple[Case, list[np.ndarray]]:
    case = small(id, 8)
    return case, outputs(case())


# Dask says so where an index that is computed meets values in several chunks.
@pytest.mark.filterwarnings("ignore:Increasing number of chunks")
@pytest.mark.parametrize("id", IDS)
@pytest.mark.parametrize("name", OTHERS)
def test_value_is_numpys(id, name):
    reading, (case, numpys) = readings.reading(name), value_of_numpy(id)
    args = tree_map(reading.asarray, case.args)
    if (id, name) in MISSING:
        with pytest.raises(Exception, match=MISSING[id, name]):
            tree_map(reading.to_numpy, case.function(**args))
        return
    results = outputs(case.function(**args))
    kind = type(reading.asarray(np.ones(1)))
    for y, expected in zip(results, numpys, strict=True):
        assert type(y) is kind, f"{id} left {name}: {type(y)}"
        assert_close(reading.to_numpy(y), expected, within=1e-12, what=f"{id} on {name}")


# Dask takes long for the many small tasks of a formula that is made of others.
LONG = [("dask", id) for id in IDS if registry[id].signature.tables or id in OF_SAMPLES]
WITH_GRADIENT = [
    pytest.param(name, id, marks=[pytest.mark.deep] * ((name, id) in LONG))
    for name in OTHERS
    for id in DIFFERENTIABLE_IDS
    if (id, name) not in MISSING
]


class Expected(NamedTuple):
    """A case, a cotangent for each result, and NumPy's gradient of the arrays at the paths."""

    case: Case
    cotangents: list[np.ndarray]
    paths: list[tuple[Any, ...]]
    gradients: list[np.ndarray]


@cache
def gradient_of_numpy(id: str) -> Expected:
    case = small(id, 9)
    cotangents = [case.rng.standard_normal(np.shape(y)) for y in outputs(case())]
    paths = [path for path, _ in floats(case.args)]
    start = [at(case.args, path) for path in paths]
    found = gradients(case, paths, cotangents, np.asarray(1.0), start)
    return Expected(case, cotangents, paths, found)


@pytest.mark.filterwarnings("ignore:Increasing number of chunks")
@pytest.mark.parametrize(("name", "id"), WITH_GRADIENT)
def test_gradient_is_numpys(id, name):
    """Of all arguments at once, through our own rules; each gradient stays in the library."""
    reading, (case, cotangents, paths, expected) = readings.reading(name), gradient_of_numpy(id)
    foreign = case.with_args(**tree_map(reading.asarray, case.args))
    there = [reading.asarray(c) for c in cotangents]
    one = reading.asarray(np.asarray(1.0))
    start = [at(foreign.args, path) for path in paths]

    def f(arrays):
        found = gradients(foreign, paths, there, one, arrays)
        # Here and not outside: compiled code would turn another library's array into its own.
        for path, x, ours in zip(paths, arrays, found, strict=True):
            assert type(ours) is type(x), f"{id}: the gradient of {path} left {name}"
        return found

    actual = reading.compiled(f)(start)
    for path, ours, numpys in zip(paths, reading.all_to_numpy(actual), expected, strict=True):
        assert_close(ours, numpys, within=1e-11, what=f"{id} {path}")


def gradients(case, paths, cotangents, one, start):
    """Return the gradient of <results, cotangents> by every float array, at the start."""

    def f(arrays):
        args = case.args
        for i, path in enumerate(paths):
            args = replaced(args, path, arrays[i])
        results = outputs(case.function(**args))
        products = zip(results, cotangents, strict=True)
        return sum_of([paired(y, c) for y, c in products if c.dtype == cotangents[0].dtype])

    return make_vjp(f)(start)[0](one)


def sum_of(terms):
    return terms[0] if len(terms) == 1 else terms[0] + sum_of(terms[1:])


def at(tree, path):
    for key in path:
        tree = tree[key]
    return tree
