"""Numbers that others computed, tests/data/vectors: how they are read, and how ours are compared.

An array's name says what it is: `in.`, `par.` and `const.` went in, `out.` came out, `aux.` lies
between, `cot.` is the cotangent of a result, `gin.` and `gpar.` are the gradients.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from autograd import grad

from tests.support.compare import assert_close
from vtnp._array.xp import namespace

Arrays = dict[str, Any]
WITHIN = 1e-10


def load(name: str) -> Arrays:
    """Return the arrays of one file by their full names."""
    with np.load(Path(__file__).parents[1] / "data" / "vectors" / f"{name}.npz") as file:
        return dict(file)


def named(vectors: Arrays, kind: str) -> Arrays:
    """Return the arrays of one kind by the rest of their names."""
    front = f"{kind}."
    return {k.removeprefix(front): x for k, x in vectors.items() if k.startswith(front)}


def assert_results(f: Callable[[Arrays], Arrays], vectors: Arrays) -> None:
    """Assert that f makes all results of the arrays by their full names, and the same."""
    results = f(vectors)
    assert set(results) == {key for key in vectors if key.startswith("out.")}
    for key, y in results.items():
        assert_close(y, vectors[key], within=WITHIN, what=key)


def gradients(f: Callable[[Arrays], Arrays], vectors: Arrays) -> Arrays:
    """Return f's gradients by all inputs and parameters, under the full names of those."""
    inputs = {key: x for key, x in vectors.items() if key.startswith(("in.", "par."))}

    def loss(inputs: Arrays) -> Any:
        results = f({**vectors, **inputs})
        terms = [
            namespace(y).sum(y * vectors[f"cot.{key.removeprefix('out.')}"])
            for key, y in results.items()
        ]
        return sum(terms[1:], terms[0])

    return grad(loss)(inputs)


def assert_gradients(f: Callable[[Arrays], Arrays], vectors: Arrays) -> None:
    """Assert that f has the gradients of the file, of nothing more and nothing less."""
    found = gradients(f, vectors)
    wanted = {key[1:]: x for key, x in vectors.items() if key.startswith(("gin.", "gpar."))}
    assert wanted
    assert wanted.keys() == found.keys()
    for key, value in wanted.items():
        assert_close(found[key], value, within=WITHIN, what=f"gradient of {key}")
