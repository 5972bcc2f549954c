"""Sums by index agree with NumPy's `add.at` on every library, and need no matrix of ones."""

import tracemalloc

import array_api_strict
import numpy as np
import pytest

from tests.support import readings
from vtnp._array.scatter import elements_at, slices_at
from vtnp._array.values import value_namespace

WITH_ELEMENTS = [name for name in readings.NAMES if name != "dask"]  # it cannot take them
CASES = {  # shape of what is summed, axis, n, indices
    "twice the same": ((4, 3), 0, 3, [2, 0, 2, 2]),
    "last axis": ((2, 4), -1, 5, [4, 4, 0, 1]),
    "middle axis": ((2, 7, 3), 1, 4, [3, 1, 1, 1, 0, 3, 1]),
    "from the end": ((3, 2), 0, 4, [-1, 3, -4]),
    "all one": ((33,), 0, 2, [1] * 33),
    "one": ((1, 2), 0, 1, [0]),
    "no index": ((0, 2), 0, 3, []),
    "no width": ((3, 0), 0, 3, [0, 1, 1]),
}


def numbers(shape, dtype=np.float64):
    return np.random.default_rng(list(shape)).standard_normal(shape).astype(dtype)


def expected_slices(g, indices, n, axis):
    out = np.zeros((*g.shape[: axis % g.ndim], n, *g.shape[axis % g.ndim + 1 :]))
    np.add.at(np.moveaxis(out, axis, 0), np.asarray(indices, int), np.moveaxis(g, axis, 0))
    return out


@pytest.mark.parametrize(
    ("name", "label"),
    [
        (name, label)
        for name in readings.NAMES
        for label, (shape, *_) in CASES.items()
        if name != "dask" or 0 not in shape  # Dask's chunks are not empty
    ],
)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_slices(name, label, dtype):
    shape, axis, n, indices = CASES[label]
    reading, g = readings.reading(name), numbers(shape, dtype)
    x, index = reading.asarray(g), reading.asarray(np.array(indices, np.int64))
    found = slices_at(value_namespace(x), x, index, n, axis)
    assert type(found) is type(x)
    assert str(found.dtype).endswith(dtype)
    expected = expected_slices(g, indices, n, axis)
    within = 1e-14 if dtype == "float64" else 1e-5
    np.testing.assert_allclose(reading.to_numpy(found), expected, rtol=within, atol=within)


ELEMENTS = {  # shape of the array taken from, axis, indices
    "rows": ((3, 4), -1, [[3, 3, 0], [0, 0, 0], [1, -1, 2]]),
    "columns": ((4, 2), 0, [[3, 0], [3, 1], [0, 1]]),
    "index is broadcast": ((3, 4), -1, [[3, 3, 0, 1, 1]]),
    "array is broadcast": ((1, 2, 3), 1, [[[1], [1], [0]], [[0], [1], [1]]]),
}


@pytest.mark.parametrize("case", ELEMENTS.values(), ids=ELEMENTS)
@pytest.mark.parametrize("name", WITH_ELEMENTS)
def test_elements(name, case):
    shape, axis, indices = case
    indices = np.array(indices)
    taken = np.take_along_axis(numbers(shape), indices, axis)
    reading, g = readings.reading(name), numbers(taken.shape)
    x, index = reading.asarray(g), reading.asarray(indices)
    found = elements_at(value_namespace(x), x, index, shape, axis)
    assert type(found) is type(x)
    # <taken, g> = <array, found> for every array: the sums are the adjoint.
    for seed in range(4):
        array = np.random.default_rng(seed).standard_normal(shape)
        left = np.sum(np.take_along_axis(array, indices, axis) * g)
        assert np.sum(array * reading.to_numpy(found)) == pytest.approx(left, rel=1e-13)
    assert found.shape == shape


def test_sums_of_one_index_are_pairwise():
    """Added one by one to 1.0, none of 2**12 small numbers would change it."""
    g = np.full((4097, 1), 2.0**-54)
    g[0] = 1.0
    xp = array_api_strict
    found = slices_at(xp, xp.asarray(g), xp.zeros(4097, dtype=xp.int64), 1, 0)
    assert float(found[0, 0]) == 1.0 + 2.0**-42


def test_no_matrix_of_ones_is_made():
    """One for 20,000 samples among 5,000 cells would take 800 MB."""
    xp = array_api_strict
    g = xp.asarray(numbers((20_000, 4)))
    index = xp.asarray(np.random.default_rng(0).integers(5_000, size=20_000))
    tracemalloc.start()
    slices_at(xp, g, index, 5_000, 0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20e6
