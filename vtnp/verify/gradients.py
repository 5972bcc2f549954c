"""Gradients of a formula itself, by autograd."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from autograd import make_vjp
from autograd.builtins import tuple as boxed_tuple
from numpy.typing import NDArray

from vtnp._array.trees import tree_leaves, tree_map
from vtnp._array.xp import is_boxed
from vtnp.verify.judge import as_list

Results = list[NDArray[Any]]
Gradients = Mapping[str, NDArray[Any]]  # by the path of the argument


def random_cotangents(results: Results, seed: int) -> Results:
    """Draw a weight for each number of the results; 0 for what has no gradient."""
    rng = np.random.default_rng(seed)
    drawn = [rng.standard_normal(y.shape) for y in results]
    real = [y.dtype.kind == "f" for y in results]
    return [
        np.where(np.isfinite(y), w, 0.0) if is_real else np.zeros(y.shape)
        for y, w, is_real in zip(results, drawn, real, strict=True)
    ]


def gradients_of(
    function: Callable[..., Any], arguments: Mapping[str, Any], cotangents: Results, dtype: str
) -> Gradients:
    """Return the gradient of sum(result * cotangent) by every real array, by the array's path."""
    like = {name: x for name, x in arguments.items() if name == "like"}
    rest = {name: x for name, x in arguments.items() if name != "like"}
    real = {path: x.astype(dtype) for path, x in tree_leaves(rest) if x.dtype.kind == "f"}
    differentiable: list[int] = []

    def of_variables(variables: list[Any]) -> Any:
        values = iter(variables)
        placed = tree_map(lambda x: next(values) if x.dtype.kind == "f" else x, rest)
        results = as_list(function(**placed, **like))
        differentiable[:] = [i for i, y in enumerate(results) if is_boxed(y)]
        return boxed_tuple([results[i] for i in differentiable])

    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Output seems independent of input")
        pull, _ = make_vjp(of_variables)(list(real.values()))
        gradients = pull(tuple(cotangents[i].astype(dtype) for i in differentiable))
    return dict(zip(real, gradients, strict=True))
