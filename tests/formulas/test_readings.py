"""Every formula on every array library: values and gradients equal NumPy's, and stay there."""

import numpy as np
import pytest
from autograd import make_vjp

from tests.formulas.test_formulas import DIFFERENTIABLE_IDS, IDS, outputs, paired
from tests.support import readings
from tests.support.compare import assert_close
from tests.support.trees import floats, replaced, tree_map
from vtnp.claims.cases import make

OTHERS = [name for name in readings.NAMES if name != "numpy"]
# What a library cannot compute: (formula, library) -> its error.
MISSING: dict[tuple[str, str], str] = {
    (id, "dask"): rf"a library with linalg\.pinv, got '.*\.dask\.array'; called by {id} "
    for id in (
        "pseudo-inverse",
        "nystrom-approximation",
        "nystrom-attention",
        "nystrom-self-attention",
    )
}


# Dask warns where a computed index selects from several chunks.
@pytest.mark.filterwarnings("ignore:Increasing number of chunks")
@pytest.mark.parametrize("id", IDS)
@pytest.mark.parametrize("name", OTHERS)
def test_value_is_numpys(id, name):
    reading, case = readings.reading(name), make(id, 8, (2,))
    args = tree_map(reading.asarray, case.args)
    if (id, name) in MISSING:
        with pytest.raises(Exception, match=MISSING[id, name]):
            tree_map(reading.to_numpy, case.function(**args))
        return
    results = outputs(case.function(**args))
    kind = type(reading.asarray(np.ones(1)))
    for y, expected in zip(results, outputs(case.function(**case.args)), strict=True):
        assert type(y) is kind, f"{id} left {name}: {type(y)}"
        assert_close(reading.to_numpy(y), expected, within=1e-12, what=f"{id} on {name}")


WITH_GRADIENT = [
    (name, id) for name in OTHERS for id in DIFFERENTIABLE_IDS if (id, name) not in MISSING
]


@pytest.mark.filterwarnings("ignore:Increasing number of chunks")
@pytest.mark.parametrize(("name", "id"), WITH_GRADIENT)
def test_gradient_is_numpys(id, name):
    """Of all arguments at once, by our own rules; each gradient is an array of the library."""
    reading, case = readings.reading(name), make(id, 9, (2,))
    cotangents = [
        case.rng.standard_normal(np.shape(y)) for y in outputs(case.function(**case.args))
    ]
    paths = [path for path, _ in floats(case.args)]
    start = [at(case.args, path) for path in paths]
    expected = gradients(case, paths, cotangents, np.asarray(1.0), start)
    on_library = case.with_args(**tree_map(reading.asarray, case.args))
    in_library = [reading.asarray(c) for c in cotangents]
    one = reading.asarray(np.asarray(1.0))
    start = [at(on_library.args, path) for path in paths]

    def f(arrays):
        found = gradients(on_library, paths, in_library, one, arrays)
        # Checked within f: compiled code would convert an array of another library to its own.
        for path, x, gradient in zip(paths, arrays, found, strict=True):
            assert type(gradient) is type(x), f"{id}: the gradient of {path} left {name}"
        return found

    actual = reading.compiled(f)(start)
    for path, g, e in zip(paths, reading.all_to_numpy(actual), expected, strict=True):
        assert_close(g, e, within=1e-11, what=f"{id} {path}")


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
