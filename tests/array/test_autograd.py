"""Gradients: every name that formulas may use, on every library, in every mode."""

import importlib.util
import math
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from typing import Any

import array_api_compat
import array_api_compat.numpy as xnp
import array_api_strict
import autograd
import autograd.numpy as anp
import numpy as np
import pytest
from autograd.extend import vspace
from autograd.test_util import check_grads

from tests.support import readings
from vtnp._array.pinv import pinv_matmul
from vtnp._array.traced import CONSTANT, DIFFERENTIABLE, traced
from vtnp._array.xp import erfc, is_boxed, unboxed, value_namespace

# --- The libraries --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Backend:
    """One library: how to make its arrays of NumPy's and back, and the cases it cannot compute."""

    name: str
    from_numpy: Any
    to_numpy: Any
    gaps: frozenset[str] = frozenset()
    slow: bool = False  # builds or compiles a program for each case: fewer modes are tried

    def __repr__(self):
        return self.name


def _strict(device):
    device = array_api_strict.Device(device)

    def from_numpy(x):
        names = {"float16": "float32"}  # array-api-strict has no float16
        dtype = getattr(array_api_strict, names.get(x.dtype.name, x.dtype.name))
        return array_api_strict.asarray(x, dtype=dtype, device=device)

    return from_numpy


def _from_strict(x):
    return np.asarray(x.to_device(array_api_strict.Device("CPU_DEVICE")))


def _cupy():
    """CuPy on a GPU, or its stand-in where there is none."""
    reading = readings.reading("cupy" if "cupy" in readings.NAMES else "cupy-standin")
    return Backend(reading.name, reading.asarray, reading.to_numpy)


def _torch():
    import torch

    return Backend("torch", torch.tensor, lambda x: x.numpy())


def _jax():
    import jax

    jax.config.update("jax_enable_x64", True)
    gaps = frozenset({"permute_dims negative"})
    return Backend("jax", jax.numpy.asarray, np.asarray, gaps, slow=True)


def _dask():
    import dask.array as da

    def from_numpy(x):
        return da.from_array(x, chunks=tuple(max(1, (n + 1) // 2) for n in x.shape))

    gaps = frozenset(
        {
            "linalg.inv",
            "linalg.pinv",
            "linalg.pinv tall",
            "linalg.pinv product",
            "linalg.pinv singular",
            "repeat flat",
            "repeat many",
            "reshape across chunks",
            "take_along_axis",
            "take_along_axis broadcast",
        }
    )
    return Backend(
        "dask", from_numpy, lambda x: np.asarray(x.compute(scheduler="sync")), gaps, slow=True
    )


BACKENDS = [
    Backend("numpy", np.array, np.asarray),
    Backend("strict-device1", _strict("device1"), _from_strict),
    Backend("strict-device2", _strict("device2"), _from_strict),
    _cupy(),
    *(
        make()
        for name, make in {"torch": _torch, "jax": _jax, "dask": _dask}.items()
        if importlib.util.find_spec(name)
    ),
]
NUMPY = BACKENDS[0]


def namespace(*arrays):
    xp = value_namespace(*arrays)
    return traced(xp) if any(map(is_boxed, arrays)) else xp


# --- At least one case for every name -------------------------------------------------------------


def numbers(*shape, low=-2.0, high=2.0, seed=0):
    """Return numbers from low to high in random order: no two equal, none near a kink at 0."""
    size = int(np.prod(shape))
    order = np.random.default_rng([seed, *shape]).permutation(size)
    return ((order + 0.53) / size * (high - low) + low).reshape(shape)


def positive(*shape, seed=0):
    return numbers(*shape, low=0.3, high=2.0, seed=seed)


def integers(like, values):
    """Integers of the library of an array, on its device."""
    value = unboxed(like)
    xp = value_namespace(value)
    return xp.asarray(values, dtype=xp.int64, device=array_api_compat.device(value))


def truths(x):
    return namespace(x).greater(x, 0)


INVERTIBLE = numbers(2, 3, 3) + 4 * np.eye(3)

# label -> (function of xp and arrays, arrays); the first word of a label is the name tested.
CASES = {
    "abs": (lambda xp, x: xp.abs(x), [numbers(2, 3)]),
    "add": (lambda xp, x, y: xp.add(x, y), [numbers(2, 3), numbers(3, seed=1)]),
    "add scalar": (lambda xp, x: xp.add(2.0, xp.add(x, 1)), [numbers(2, 3)]),
    "add twice": (lambda xp, x: xp.add(x, x), [numbers(3)]),
    "add 0-d": (lambda xp, x, y: xp.add(x, y), [numbers(), numbers(2, 1)]),
    "add empty": (lambda xp, x, y: xp.add(x, y), [numbers(0, 3), numbers(1, 3)]),
    "subtract": (lambda xp, x, y: xp.subtract(x, y), [numbers(2, 1), numbers(1, 3)]),
    "subtract scalar": (lambda xp, x: xp.subtract(1.0, x), [numbers(3)]),
    "multiply": (lambda xp, x, y: xp.multiply(x, y), [numbers(2, 3), numbers(2, 1, seed=1)]),
    "multiply scalar": (lambda xp, x: xp.multiply(x, 3.0), [numbers(3)]),
    "divide": (lambda xp, x, y: xp.divide(x, y), [numbers(3), positive(2, 3)]),
    "divide scalar": (lambda xp, x: xp.divide(xp.divide(1.0, x), 3.0), [positive(3)]),
    "negative": (lambda xp, x: xp.negative(x), [numbers(3)]),
    "pow": (lambda xp, x, y: xp.pow(x, y), [positive(2, 3), numbers(3)]),
    "pow integer": (lambda xp, x: xp.pow(x, 3), [numbers(5)]),
    "pow real": (lambda xp, x: xp.pow(x, -0.5), [positive(5)]),
    "pow zero": (lambda xp, x: xp.multiply(x, xp.pow(x, 0)), [numbers(5)]),
    "pow of scalar": (lambda xp, x: xp.pow(2.0, x), [numbers(5)]),
    "exp": (lambda xp, x: xp.exp(x), [numbers(5)]),
    "log": (lambda xp, x: xp.log(x), [positive(5)]),
    "log1p": (lambda xp, x: xp.log1p(x), [positive(5)]),
    "sqrt": (lambda xp, x: xp.sqrt(x), [positive(5)]),
    "square": (lambda xp, x: xp.square(x), [numbers(5)]),
    "sin": (lambda xp, x: xp.sin(x), [numbers(5)]),
    "cos": (lambda xp, x: xp.cos(x), [numbers(5)]),
    "tanh": (lambda xp, x: xp.tanh(x), [numbers(5)]),
    "erfc": (lambda xp, x: erfc(x), [numbers(5)]),
    "maximum": (lambda xp, x, y: xp.maximum(x, y), [numbers(2, 3), numbers(3, seed=1)]),
    "maximum scalar": (lambda xp, x: xp.maximum(x, 0), [numbers(5)]),
    "minimum": (lambda xp, x, y: xp.minimum(x, y), [numbers(2, 3), numbers(3, seed=1)]),
    "minimum scalar": (lambda xp, x: xp.minimum(0.5, x), [numbers(5)]),
    "clip": (lambda xp, x: xp.clip(x, -1.0, 0.7), [numbers(7)]),
    "clip words": (lambda xp, x: xp.clip(xp.clip(x, min=-1.0), max=0.7), [numbers(7)]),
    "clip bounds": (
        lambda xp, x, low, high: xp.clip(x, low, high),
        [numbers(5, 3), numbers(3, low=-1.2, high=-0.8), numbers(5, 1, low=0.6, high=1.4)],
    ),
    "where": (
        lambda xp, x, y: xp.where(truths(x), xp.square(x), y),
        [numbers(3), numbers(2, 1, seed=1)],
    ),
    "where scalar": (lambda xp, x: xp.where(truths(x), x, 0.0), [numbers(2, 3)]),
    "sum": (lambda xp, x: xp.sum(x), [numbers(2, 3)]),
    "sum axis": (lambda xp, x: xp.sum(x, axis=-2), [numbers(2, 3, 2)]),
    "sum axes": (lambda xp, x: xp.sum(x, axis=(0, -1), keepdims=True), [numbers(2, 3, 2)]),
    "sum dtype": (lambda xp, x: xp.sum(x, axis=0, dtype=x.dtype), [numbers(2, 3)]),
    "sum empty": (lambda xp, x: xp.sum(x, axis=0), [numbers(0, 3)]),
    "sum 0-d": (lambda xp, x: xp.sum(x), [numbers()]),
    "mean": (lambda xp, x: xp.mean(x), [numbers(2, 3)]),
    "mean axis": (lambda xp, x: xp.mean(x, axis=-1, keepdims=True), [numbers(2, 3)]),
    "mean axes": (lambda xp, x: xp.mean(x, axis=(0, -1)), [numbers(2, 3, 2)]),
    "max": (lambda xp, x: xp.max(x), [numbers(2, 3)]),
    "max axis": (lambda xp, x: xp.max(x, axis=-1, keepdims=True), [numbers(2, 3)]),
    "max axes": (lambda xp, x: xp.max(x, axis=(0, -1)), [numbers(2, 3, 2)]),
    "min": (lambda xp, x: xp.min(x), [numbers(2, 3)]),
    "min axis": (lambda xp, x: xp.min(x, axis=0), [numbers(2, 3)]),
    "cumulative_sum": (lambda xp, x: xp.cumulative_sum(x, axis=-2), [numbers(2, 3, 2)]),
    "cumulative_sum initial": (
        lambda xp, x: xp.cumulative_sum(x, include_initial=True),
        [numbers(5)],
    ),
    "matmul": (lambda xp, x, y: xp.matmul(x, y), [numbers(2, 3), numbers(3, 2)]),
    "matmul batch": (lambda xp, x, y: xp.matmul(x, y), [numbers(2, 1, 2, 3), numbers(3, 3, 1)]),
    "matmul vector right": (lambda xp, x, y: xp.matmul(x, y), [numbers(2, 2, 3), numbers(3)]),
    "matmul vector left": (lambda xp, x, y: xp.matmul(x, y), [numbers(3), numbers(2, 3, 2)]),
    "matmul vectors": (lambda xp, x, y: xp.matmul(x, y), [numbers(3), numbers(3, seed=1)]),
    "vecdot": (lambda xp, x, y: xp.vecdot(x, y), [numbers(2, 3), numbers(3)]),
    "vecdot axis": (lambda xp, x, y: xp.vecdot(x, y, axis=-2), [numbers(3, 2), numbers(3, 1)]),
    "tensordot": (lambda xp, x, y: xp.tensordot(x, y, axes=1), [numbers(2, 3), numbers(3, 2)]),
    "tensordot all": (lambda xp, x, y: xp.tensordot(x, y), [numbers(2, 3), numbers(2, 3, 2)]),
    "tensordot outer": (lambda xp, x, y: xp.tensordot(x, y, axes=0), [numbers(2), numbers(3)]),
    "tensordot pairs": (
        lambda xp, x, y: xp.tensordot(x, y, axes=((2, 0), (-2, 0))),
        [numbers(2, 1, 3), numbers(2, 3, 2)],
    ),
    "matrix_transpose": (lambda xp, x: xp.matrix_transpose(x), [numbers(2, 3, 2)]),
    "linalg.inv": (lambda xp, x: xp.linalg.inv(x), [INVERTIBLE]),
    "linalg.pinv": (lambda xp, x: xp.linalg.pinv(x), [numbers(2, 2, 3)]),
    "linalg.pinv tall": (lambda xp, x: xp.linalg.pinv(x), [numbers(3, 2)]),
    "linalg.pinv product": (
        lambda xp, x, y: pinv_matmul(x, y, rtol=1e-12),
        [INVERTIBLE, numbers(2, 3, 2)],
    ),
    # Of rank 2 wherever its factors are.
    "linalg.pinv singular": (
        lambda xp, x, y, z: pinv_matmul(xp.matmul(x, y), z, rtol=1e-5),
        [INVERTIBLE[0, :, :2], INVERTIBLE[1, :2], numbers(3, 2)],
    ),
    "permute_dims": (lambda xp, x: xp.permute_dims(x, (2, 0, 1)), [numbers(2, 3, 2)]),
    "permute_dims negative": (lambda xp, x: xp.permute_dims(x, (-1, 0, -2)), [numbers(2, 3, 2)]),
    "moveaxis": (lambda xp, x: xp.moveaxis(x, 0, -1), [numbers(2, 3, 2)]),
    "moveaxis many": (lambda xp, x: xp.moveaxis(x, (0, -1), (1, 0)), [numbers(2, 3, 2)]),
    "reshape": (lambda xp, x: xp.reshape(x, (2, -1)), [numbers(2, 3, 2)]),
    "reshape across chunks": (lambda xp, x: xp.reshape(x, (3, -1)), [numbers(2, 3, 2)]),
    "reshape 0-d": (lambda xp, x: xp.reshape(x, ()), [numbers(1, 1)]),
    "expand_dims": (lambda xp, x: xp.expand_dims(x, axis=-1), [numbers(2, 3)]),
    "squeeze": (lambda xp, x: xp.squeeze(x, axis=(0, -2)), [numbers(1, 3, 1, 2)]),
    "broadcast_to": (lambda xp, x: xp.broadcast_to(x, (2, 3, 2)), [numbers(3, 1)]),
    "broadcast_arrays": (
        lambda xp, x, y: xp.multiply(*xp.broadcast_arrays(x, y)),
        [numbers(3, 1), numbers(2)],
    ),
    "concat": (
        lambda xp, x, y: xp.concat([x, y, x], axis=-1),
        [numbers(2, 3), numbers(2, 1)],
    ),
    "concat flat": (lambda xp, x, y: xp.concat([x, y], axis=None), [numbers(2, 2), numbers(3)]),
    "stack": (lambda xp, x, y: xp.stack((x, y), axis=-1), [numbers(2, 3), numbers(2, 3, seed=1)]),
    "unstack": (
        lambda xp, x: xp.multiply(*xp.unstack(x, axis=-1)),
        [numbers(3, 2)],
    ),
    "flip": (lambda xp, x: xp.flip(x, axis=-1), [numbers(2, 3)]),
    "flip all": (lambda xp, x: xp.flip(x), [numbers(2, 3)]),
    "roll": (lambda xp, x: xp.roll(x, 2, axis=-1), [numbers(2, 3)]),
    "roll flat": (lambda xp, x: xp.roll(x, -1), [numbers(2, 3)]),
    "roll many": (lambda xp, x: xp.roll(x, (1, -1), axis=(0, 1)), [numbers(2, 3)]),
    "tile": (lambda xp, x: xp.tile(x, (2, 3)), [numbers(2, 3)]),
    "tile longer": (lambda xp, x: xp.tile(x, (2, 1, 2)), [numbers(2, 3)]),
    "tile shorter": (lambda xp, x: xp.tile(x, (2,)), [numbers(2, 3)]),
    "repeat": (lambda xp, x: xp.repeat(x, 2, axis=-2), [numbers(2, 3)]),
    "repeat flat": (lambda xp, x: xp.repeat(x, 2), [numbers(2, 3)]),
    "repeat many": (
        lambda xp, x: xp.repeat(x, integers(x, [2, 0, 1]), axis=1),
        [numbers(2, 3)],
    ),
    "tril": (lambda xp, x: xp.tril(x, k=-1), [numbers(2, 3, 3)]),
    "triu": (lambda xp, x: xp.triu(x), [numbers(2, 3, 3)]),
    "triu above": (lambda xp, x: xp.triu(x, k=1), [numbers(2, 3, 3)]),
    "take": (lambda xp, x: xp.take(x, integers(x, [2, 0, 2]), axis=-2), [numbers(2, 3, 2)]),
    "take vector": (lambda xp, x: xp.take(x, integers(x, [2, 0, 2])), [numbers(3)]),
    "take_along_axis": (
        lambda xp, x: xp.take_along_axis(x, integers(x, [[1, 1, 0, 1]] * 3), axis=-1),
        [numbers(3, 2)],
    ),
    "take_along_axis broadcast": (
        lambda xp, x: xp.take_along_axis(x, integers(x, [[[1], [1], [0]]] * 2), axis=1),
        [numbers(1, 2, 2)],
    ),
    "astype": (lambda xp, x: xp.multiply(xp.astype(x, x.dtype), x), [numbers(3)]),
    "asarray": (lambda xp, x: xp.multiply(xp.asarray(x), x), [numbers(3)]),
}

# Operators and indexing, which are not names of the namespace.
OPERATORS = {
    "+": (lambda xp, x, y: 1 + x + y + 2.0, [numbers(2, 3), numbers(3)]),
    "-": (lambda xp, x, y: 1 - x - y - 2.0, [numbers(2, 3), numbers(3)]),
    "*": (lambda xp, x, y: 2 * x * y * 3.0, [numbers(2, 3), numbers(3)]),
    "/": (lambda xp, x, y: 2 / x / y / 3.0, [positive(2, 3), positive(3)]),
    "**": (lambda xp, x, y: 2.0 ** (x**y) ** 2, [positive(2, 3), numbers(3, low=-1, high=1)]),
    "@": (lambda xp, x, y: x @ y, [numbers(2, 3), numbers(3, 2)]),
    "-x": (lambda xp, x: -x, [numbers(3)]),
    "abs()": (lambda xp, x: abs(x), [numbers(3)]),
    "T": (lambda xp, x: x.T @ x, [numbers(2, 3)]),
    "mT": (lambda xp, x: x * x.mT if is_boxed(x) else x * xp.matrix_transpose(x), [numbers(3, 3)]),
    "x[0, ...]": (lambda xp, x: x[0, ...], [numbers(2, 3)]),
    "x[..., -1]": (lambda xp, x: x[..., -1], [numbers(2, 3)]),
    "x[:, 1:]": (lambda xp, x: x[:, 1:], [numbers(2, 3)]),
    "x[..., ::2]": (lambda xp, x: x[..., ::2], [numbers(2, 3)]),
    "x[..., None, 1]": (lambda xp, x: x[..., None, 1], [numbers(2, 3)]),
    "x[None, 0, :]": (lambda xp, x: x[None, 0, :], [numbers(2, 3)]),
    "x[1, 2]": (lambda xp, x: x[1, 2], [numbers(2, 3)]),
    "x[0] x[1]": (lambda xp, x: x[0, ...] * x[1, ...] + x[1, ...], [numbers(2, 3)]),
    "rows": (
        lambda xp, x: sum(row * row for row in (x if is_boxed(x) else xp.unstack(x))),
        [numbers(3, 2)],
    ),
}
ALL = CASES | OPERATORS


# --- Derivatives in NumPy, by central differences -------------------------------------------------

STEP = 1e-5
CLOSE = {"rtol": 1e-6, "atol": 1e-6}  # the differences' own error: STEP**2, and 1e-16 / STEP


def loss(label, cotangent):
    """Return a number whose first and second derivatives depend on those of the case."""

    def total(*arrays):
        xp = namespace(*arrays)
        result = ALL[label][0](xp, *arrays)
        return xp.sum(xp.multiply(xp.square(result), cotangent))

    return total


def every(arrays):
    return tuple(range(len(arrays)))


def assert_near(actual, expected, **within):
    """Assert equal shapes, too: assert_allclose broadcasts."""
    assert np.shape(actual) == np.shape(expected)
    np.testing.assert_allclose(actual, expected, **within)


def value(label):
    return np.asarray(ALL[label][0](xnp, *ALL[label][1]))


def cotangent_of(label):
    return numbers(*value(label).shape, seed=7)


def tangents_of(label):
    return [numbers(*x.shape, seed=8 + i) for i, x in enumerate(ALL[label][1])]


def along(function, arrays, tangents):
    """Return the central difference of a function along tangents."""
    ahead = function(*(x + STEP * t for x, t in zip(arrays, tangents, strict=True)))
    behind = function(*(x - STEP * t for x, t in zip(arrays, tangents, strict=True)))
    return [(a - b) / (2 * STEP) for a, b in zip(ahead, behind, strict=True)]


@cache
def jvp_by_differences(label):
    function, arrays = ALL[label]
    return along(lambda *xs: [np.asarray(function(xnp, *xs))], arrays, tangents_of(label))[0]


@cache
def gradient_by_differences(label):
    arrays = ALL[label][1]
    total = loss(label, cotangent_of(label))
    gradients = [np.zeros(x.shape) for x in arrays]
    for i, gradient in enumerate(gradients):
        for index in np.ndindex(gradient.shape):
            tangents = [np.zeros(x.shape) for x in arrays]
            tangents[i][index] = 1
            gradient[index] = along(lambda *xs: [total(*xs)], arrays, tangents)[0]
    return gradients


@cache
def second_by_differences(label):
    """Differentiate NumPy's gradients, tested against the above, along the tangents."""
    arrays = ALL[label][1]
    gradients = autograd.grad(loss(label, cotangent_of(label)), every(arrays))
    return along(gradients, arrays, tangents_of(label))


def inputs(backend, label, dtype="float64"):
    """Return the case's arrays, its loss and its tangents, in one library."""
    arrays = [backend.from_numpy(x.astype(dtype)) for x in ALL[label][1]]
    total = loss(label, backend.from_numpy(cotangent_of(label).astype(dtype)))
    return arrays, total, [backend.from_numpy(t.astype(dtype)) for t in tangents_of(label)]


def second(total, arrays, tangents):
    """Return the gradients of <gradient, tangents>: reverse mode over reverse mode."""

    def slope(*xs):
        gradients = autograd.grad(total, every(xs))(*xs)
        xp = namespace(*xs)
        products = [xp.sum(xp.multiply(g, t)) for g, t in zip(gradients, tangents, strict=True)]
        return sum(products[1:], products[0])

    return autograd.grad(slope, every(arrays))(*arrays)


def kind(x):
    return type(x), str(x.dtype), str(array_api_compat.device(x))


def runs(wanted):
    """Return every case on every library: of those wanted, the ones the library can compute."""
    return pytest.mark.parametrize(
        ("backend", "label"),
        [
            pytest.param(backend, label, id=f"{backend}-{label}")
            for backend in BACKENDS
            for label in ALL
            if label not in backend.gaps and wanted(backend, label)
        ],
    )


on_every_library = runs(lambda backend, label: True)
once_on_the_slow = runs(lambda backend, label: not backend.slow or label in DIFFERENTIABLE)
on_the_quick = runs(lambda backend, label: not backend.slow)


# --- Tests ----------------------------------------------------------------------------------------


def test_every_name_has_a_case():
    assert {label.split(" ")[0] for label in CASES} == set(DIFFERENTIABLE)


def test_names_are_sorted_and_disjoint():
    assert list(DIFFERENTIABLE) == sorted(set(DIFFERENTIABLE))
    assert list(CONSTANT) == sorted(set(CONSTANT))
    assert not set(DIFFERENTIABLE) & set(CONSTANT)


@on_every_library
def test_value(backend, label):
    arrays = inputs(backend, label)[0]
    plain = ALL[label][0](namespace(*arrays), *arrays)
    boxed = autograd.make_vjp(lambda *xs: ALL[label][0](namespace(*xs), *xs))(*arrays)[1]
    assert kind(boxed) == kind(plain)
    np.testing.assert_array_equal(backend.to_numpy(boxed), backend.to_numpy(plain))
    assert_near(backend.to_numpy(boxed), value(label), rtol=1e-13, atol=1e-13)


@once_on_the_slow
def test_reverse(backend, label):
    arrays, total, _ = inputs(backend, label)
    # autograd adds the gradients of several to zeros of their shapes, which hides a wrong shape.
    several = len(arrays) > 1
    gradients = autograd.grad(total, every(arrays) if several else 0)(*arrays)
    gradients = gradients if several else [gradients]
    for x, g, expected in zip(arrays, gradients, gradient_by_differences(label), strict=True):
        assert kind(g) == kind(x)
        assert_near(backend.to_numpy(g), expected, **CLOSE)


@once_on_the_slow
def test_forward(backend, label):
    arrays, _, tangents = inputs(backend, label)
    jvp = autograd.make_jvp(lambda *xs: ALL[label][0](namespace(*xs), *xs), every(arrays))
    ans, g = jvp(*arrays)(tuple(tangents))
    assert kind(g) == kind(ans)
    assert_near(backend.to_numpy(g), jvp_by_differences(label), **CLOSE)


@on_the_quick
def test_second_order(backend, label):
    arrays, total, tangents = inputs(backend, label)
    reverse = second(total, arrays, tangents)
    gradient = autograd.grad(total, every(arrays))
    forward = autograd.make_jvp(gradient, every(arrays))(*arrays)(tuple(tangents))[1]
    for r, f, expected in zip(reverse, forward, second_by_differences(label), strict=True):
        assert_near(backend.to_numpy(r), expected, **CLOSE)
        assert_near(backend.to_numpy(f), expected, **CLOSE)


@on_the_quick
def test_single_precision_stays(backend, label):
    arrays, total, tangents = inputs(backend, label, "float32")
    gradients = autograd.grad(total, every(arrays))(*arrays)
    seconds = second(total, arrays, tangents)
    for x, g, h, expected in zip(
        arrays, gradients, seconds, gradient_by_differences(label), strict=True
    ):
        assert kind(g) == kind(x)
        assert kind(h) == kind(x)
        assert_near(backend.to_numpy(g), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("backend", "label"),
    [(backend, label) for backend in BACKENDS for label in sorted(backend.gaps)],
)
def test_gaps_are_the_libraries_own(backend, label):
    """The library fails without any gradient, too. Where it no longer does, remove the gap."""
    arrays = inputs(backend, label)[0]
    with pytest.raises((AttributeError, NotImplementedError, TypeError, ValueError)):
        backend.to_numpy(ALL[label][0](namespace(*arrays), *arrays))


def program(x, y):
    """Combine many of the functions: a norm, and a small attention."""
    xp = namespace(x, y)
    x = (x - xp.mean(x, axis=-1, keepdims=True)) / xp.sqrt(xp.mean(x * x, axis=-1, keepdims=True))
    scores = x @ xp.matrix_transpose(y) / 3**0.5
    e = xp.exp(scores - xp.max(scores, axis=-1, keepdims=True))
    mixed = xp.concat([e / xp.sum(e, axis=-1, keepdims=True) @ y, xp.tanh(x)], axis=-1)
    return xp.where(mixed > 0, mixed, 0.1 * mixed**2)[..., 1:]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("backend", BACKENDS, ids=str)
def test_program(backend, dtype):
    """Gradients and Hessian-vector products of one program agree with NumPy's on every library."""

    def total(*arrays):
        ans = program(*arrays)
        return namespace(ans).sum(ans * ans)

    def derivatives(from_numpy, dtype):
        arrays = [from_numpy(x.astype(dtype)) for x in (numbers(2, 3, 3), numbers(3, 3, seed=1))]
        tangents = [
            from_numpy(x.astype(dtype)) for x in (numbers(2, 3, 3, seed=2), numbers(3, 3, seed=3))
        ]
        first = autograd.grad(total, (0, 1))(*arrays)
        found = (*first, *second(total, arrays, tangents))
        assert [kind(g) for g in found] == 2 * [kind(x) for x in arrays]
        return found

    # Single precision: 2**-24, through two derivatives of divisions by small norms.
    within = 1e-12 if dtype == "float64" else 2e-4
    expected = derivatives(np.asarray, "float64")
    for g, e in zip(derivatives(backend.from_numpy, dtype), expected, strict=True):
        assert_near(backend.to_numpy(g), e, rtol=within, atol=within * np.max(np.abs(e)))


def test_dask_stays_lazy():
    dask = next((b for b in BACKENDS if b.name == "dask"), None)
    assert dask is not None or importlib.util.find_spec("dask") is None
    if dask:
        import dask as library

        def refuse(*args, **kwargs):
            raise AssertionError("computed")

        with library.config.set(scheduler=refuse):
            arrays, total, _ = inputs(dask, "matmul")
            gradients = autograd.grad(total, (0, 1))(*arrays)
        assert [g.shape for g in gradients] == [x.shape for x in arrays]


# --- Where there is no derivative -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "at", "gradient"),
    [
        (lambda xp, x: xp.abs(x), [0.0, -1.0], [0.0, -1.0]),
        (lambda xp, x: xp.max(x), [2.0, 1.0, 2.0], [0.5, 0.0, 0.5]),
        (lambda xp, x: xp.min(x), [2.0, 1.0, 1.0], [0.0, 0.5, 0.5]),
        (lambda xp, x: xp.maximum(x, 0), [0.0, 1.0, -1.0], [0.0, 1.0, 0.0]),
        (lambda xp, x: xp.maximum(0, x), [0.0, 1.0, -1.0], [1.0, 1.0, 0.0]),
        (lambda xp, x: xp.minimum(x, 0), [0.0, 1.0, -1.0], [0.0, 0.0, 1.0]),
        (lambda xp, x: xp.clip(x, -1, 1), [-1.0, 1.0, 0.5, 2.0, -3.0], [1.0, 1.0, 1.0, 0.0, 0.0]),
        (lambda xp, x: xp.pow(x, 0), [0.0, 2.0], [0.0, 0.0]),
        (lambda xp, x: xp.pow(x, xp.zeros_like(x)), [0.0, 2.0], [0.0, 0.0]),
        (lambda xp, x: xp.pow(xp.zeros_like(x), x), [0.0, 2.0], [0.0, 0.0]),
        (lambda xp, x: xp.pow(0.0, x), [0.0, 2.0], [0.0, 0.0]),
        (lambda xp, x: xp.pow(x, 2), [0.0], [0.0]),
        (lambda xp, x: xp.sqrt(x), [0.0, 4.0], [np.inf, 0.25]),
        (lambda xp, x: xp.where(xp.isnan(x), 0.0, x), [np.nan, 0.5], [0.0, 1.0]),
    ],
)
@pytest.mark.parametrize("backend", [b for b in BACKENDS if not b.slow], ids=str)
@pytest.mark.filterwarnings("ignore:Output seems independent")
def test_choices(backend, function, at, gradient):
    with np.errstate(all="ignore"):
        x = backend.from_numpy(np.array(at))
        g = autograd.elementwise_grad(lambda x: function(namespace(x), x))(x)
    np.testing.assert_array_equal(backend.to_numpy(g), gradient)


# --- Dtypes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", [n for n in ALL if not n.startswith("linalg")])
def test_half_precision_stays(label):
    arrays, total, tangents = inputs(NUMPY, label, "float16")
    gradients = autograd.grad(total, every(arrays))(*arrays)
    seconds = second(total, arrays, tangents)
    assert [g.dtype for g in (*gradients, *seconds)] == 2 * len(arrays) * [np.float16]


@pytest.mark.parametrize("backend", BACKENDS, ids=str)
def test_astype(backend):
    """The gradient of a conversion has the dtype that was converted."""
    x, y = backend.from_numpy(numbers(3).astype("float32")), backend.from_numpy(numbers(3, seed=1))

    def total(x, y):
        xp = namespace(x, y)
        wide = xp.astype(x, unboxed(y).dtype)
        assert wide.dtype == y.dtype
        return xp.sum(xp.multiply(wide, y))

    gradients = autograd.grad(total, (0, 1))(x, y)
    assert [kind(g) for g in gradients] == [kind(x), kind(y)]
    np.testing.assert_array_equal(
        backend.to_numpy(gradients[0]), numbers(3, seed=1).astype("float32")
    )


@pytest.mark.parametrize("backend", BACKENDS, ids=str)
def test_constants_lose_their_boxes(backend):
    x = backend.from_numpy(numbers(2, 3))
    plain = namespace(x)

    def total(x):
        xp = namespace(x)
        assert is_boxed(x)
        assert not is_boxed(xp.floor(x))
        assert not is_boxed(xp.astype(x, xp.int64))
        assert not is_boxed(xp.argmax(x, axis=-1))
        assert not is_boxed(x > 0)
        assert not is_boxed(x == 0)
        assert xp.asarray(x) is x
        assert xp.isdtype(x.dtype, "real floating")
        assert (x.shape, x.ndim, x.size, len(x)) == ((2, 3), 2, 6, 2)
        assert x.device == array_api_compat.device(unboxed(x))
        assert {n for n in CONSTANT if hasattr(plain, n)} <= set(vars(xp))
        zeros = xp.zeros((2, 3), dtype=x.dtype, device=x.device)
        return xp.sum(xp.add(x, zeros))

    np.testing.assert_array_equal(backend.to_numpy(autograd.grad(total)(x)), np.ones((2, 3)))


@pytest.mark.parametrize("backend", BACKENDS, ids=str)
@pytest.mark.parametrize("size", [1e-170, 1e170])
def test_slope_of_a_quotient_whose_denominator_has_no_square(backend, size):
    x = backend.from_numpy(np.array([size, 3 * size]))
    slope = autograd.elementwise_grad(lambda y: 3.0 * size / y)(x)
    assert_near(backend.to_numpy(slope) * size, [-3.0, -1 / 3], rtol=1e-15)


# --- The complementary error function -------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS, ids=str)
def test_erfc(backend):
    """Accurate to a few units in the last place of x or the result, in the tail as well."""
    x = np.concat([np.linspace(-7, 26, 133), [-0.0, 1e-300, -1e-9, 30.0, np.inf, -np.inf]])
    expected = np.array([math.erfc(v) for v in x])
    found = backend.to_numpy(erfc(backend.from_numpy(x)))
    # erfc(x) falls as exp(-x^2): rounding x changes it by 2 x^2 as many units in the last place.
    unit = np.finfo(float).eps / 2 * expected * (1 + np.where(expected > 0, 2 * x**2, 0))
    assert np.all(np.abs(found - expected) <= 8 * unit)
    assert np.isnan(backend.to_numpy(erfc(backend.from_numpy(np.array([np.nan])))))
    single = erfc(backend.from_numpy(x.astype("float32")))
    assert kind(single) == kind(backend.from_numpy(x.astype("float32")))


def test_erfc_of_numpy_does_not_cancel():
    """scipy's own is 13 half units in the last place off between 0.7 and 1."""
    x = np.linspace(0.25, 1.0, 301)
    found, scalar = erfc(x), erfc(np.array(0.9))
    assert np.all(np.abs(found / [math.erfc(v) for v in x] - 1) <= np.finfo(float).eps * 2)
    assert scalar == math.erfc(0.9)
    assert erfc(x.astype("float16")).dtype == np.float16


# --- Which library an array belongs to ------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS, ids=str)
def test_value_namespace(backend):
    x = backend.from_numpy(numbers(2))
    assert value_namespace(x, 2.0, None) is value_namespace(x)
    assert traced(value_namespace(x)) is traced(value_namespace(x))


@pytest.mark.parametrize("backend", BACKENDS[1:], ids=str)
def test_libraries_do_not_mix(backend):
    with pytest.raises(TypeError, match="in one call"):
        value_namespace(backend.from_numpy(numbers(2)), numbers(2))


def test_anything_but_an_array_is_refused():
    with pytest.raises(TypeError):
        value_namespace([1.0, 2.0])
    with pytest.raises(TypeError):
        autograd.grad(lambda x: x)("text")
    assert value_namespace(2.0) is xnp


def test_libraries_are_not_imported():
    optional = "torch jax dask cupy scipy array_api_strict"
    code = f"import sys, vtnp._array.xp; print(set('{optional}'.split()) & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"


@pytest.mark.parametrize("backend", BACKENDS[1:], ids=str)
def test_vector_space(backend):
    x, y = backend.from_numpy(numbers(2, 3)), backend.from_numpy(numbers(2, 3, seed=1))
    space = vspace(x)
    assert (space.shape, space.ndim, space.size) == ((2, 3), 2, 6)
    for made in (space.zeros(), space.ones(), space.add(x, y), space.scalar_mul(x, 2.0)):
        assert kind(made) == kind(x)
    basis = [backend.to_numpy(e) for e in space.standard_basis()]
    np.testing.assert_array_equal(np.reshape(np.stack(basis), (6, 6)), np.eye(6))
    inner = float(backend.to_numpy(space.inner_prod(x, y)))
    assert inner == pytest.approx(np.sum(numbers(2, 3) * numbers(2, 3, seed=1)))


@pytest.mark.parametrize("backend", BACKENDS[1:], ids=str)
def test_index_arrays_are_refused(backend):
    with pytest.raises(TypeError, match="use take"):
        autograd.grad(lambda x: x[[0, 1]])(backend.from_numpy(numbers(3)))


@pytest.mark.parametrize("backend", BACKENDS, ids=str)
def test_many_indices_add_up(backend):
    """The gradients of overlapping slices of one array add up."""

    def total(x):
        xp = namespace(x)
        return xp.sum(x[1:]) + xp.sum(x[:-1]) + x[1] * x[1] + x[None, 0][0]

    x = backend.from_numpy(np.array([5.0, 3.0, 4.0]))
    np.testing.assert_array_equal(backend.to_numpy(autograd.grad(total)(x)), [2.0, 8.0, 1.0])
    # Forward mode over reverse mode, where the sparse gradients are themselves traced.
    forward = autograd.make_jvp(autograd.grad(total))(x)(backend.from_numpy(np.ones(3)))[1]
    np.testing.assert_array_equal(backend.to_numpy(forward), [0.0, 2.0, 0.0])


# --- autograd's own functions and operators -------------------------------------------------------


def cubes(x):
    return namespace(x).sum(x**3)


@pytest.mark.parametrize("backend", BACKENDS, ids=str)
def test_value_and_grad(backend):
    x = backend.from_numpy(numbers(3))
    ans, g = autograd.value_and_grad(cubes)(x)
    assert float(backend.to_numpy(ans)) == pytest.approx(np.sum(numbers(3) ** 3))
    assert_near(backend.to_numpy(g), 3 * numbers(3) ** 2, rtol=1e-14)
    each = autograd.elementwise_grad(lambda x: x**3)(x)
    np.testing.assert_array_equal(backend.to_numpy(each), backend.to_numpy(g))


@pytest.mark.parametrize("backend", BACKENDS, ids=str)
def test_containers(backend):
    """Parameters are nested dicts and lists of arrays."""
    params = {
        "layers": [
            {"W": backend.from_numpy(numbers(2, 2))},
            {"W": backend.from_numpy(positive(2, 2))},
        ]
    }

    def total(params):
        first, last = (layer["W"] for layer in params["layers"])
        return namespace(first).sum(first * last)

    g = autograd.grad(total)(params)
    np.testing.assert_array_equal(backend.to_numpy(g["layers"][0]["W"]), positive(2, 2))
    np.testing.assert_array_equal(backend.to_numpy(g["layers"][1]["W"]), numbers(2, 2))


def test_matrices_of_derivatives():
    x, v = numbers(3), numbers(3, seed=1)
    hessian = np.diag(6 * x)
    assert_near(autograd.jacobian(autograd.grad(cubes))(x), hessian, rtol=1e-13)
    assert_near(autograd.hessian(cubes)(x), hessian, rtol=1e-13)
    assert_near(autograd.hessian_vector_product(cubes)(x, v), 6 * x * v, rtol=1e-13)


def test_mixes_with_autograd_numpy():
    def total(x):
        y = anp.sin(x)[anp.array([0, 0, 2])]  # autograd's function, autograd's fancy indices
        z = namespace(y).concat([y, anp.reshape(x, (-1,))])
        return anp.sum(anp.dot(z, z) * erfc(x))

    x = numbers(3)
    numeric = along(lambda x: [total(x)], [x], [np.ones(3)])[0]
    assert np.sum(autograd.grad(total)(x)) == pytest.approx(numeric, rel=1e-8)


OWN = {
    "scalar power": lambda x: 2.0**x,
    "power": lambda x: x**x,
    "square": lambda x: x**2,
    "where": lambda x: anp.where(x > 1, x, 0.5),
    "abs": abs,
    "index": lambda x: x[..., 0],
    "arithmetic": lambda x: 1 / x - x @ x.T,
}


@pytest.mark.parametrize("function", OWN.values(), ids=OWN)
def test_own_operators_keep_single_precision(function):
    """autograd 1.9's own rules for some of these gave float64."""
    x = positive(3, 3).astype("float32")
    gradient = autograd.grad(lambda x: anp.sum(function(x) ** 2))
    assert gradient(x).dtype == np.float32
    assert autograd.grad(lambda x: anp.sum(gradient(x) ** 2))(x).dtype == np.float32


def test_own_selection_is_unbroadcast():
    g = autograd.grad(lambda x: anp.sum(anp.where(numbers(2, 3) > 0, x, 0.0)))(numbers(3))
    np.testing.assert_array_equal(g, np.sum(numbers(2, 3) > 0, axis=0))


LISTS = {
    "matrix": lambda x: anp.matmul(x, [[1.0], [2.0], [3.0]]),
    "base": lambda x: anp.power([1.0, 2.0, 3.0], x),
    "exponent": lambda x: anp.power(x, [1.0, 2.0, 3.0]),
    "where": lambda x: anp.where([True, False, True], x**2, [4.0, 5.0, 6.0]),
}


@pytest.mark.parametrize("function", LISTS.values(), ids=LISTS)
def test_own_functions_take_lists(function):
    """Programs that never call vtnp keep working."""
    check_grads(function, modes=["rev", "fwd"], order=2)(positive(3, 3))


@pytest.mark.filterwarnings("error")
def test_own_functions_take_real_and_complex_numbers():
    x, c = positive(3, 3), positive(3, 3) + 1j
    for function in (anp.power, anp.matmul, lambda x, c: anp.where(c.real > 0.7, x, c)):
        check_grads(lambda x, f=function: anp.real(f(x, c) * (1 - 2j)), order=1)(x)
        check_grads(lambda x, c, f=function: anp.abs(f(x, c)), order=1)(x, c)


def test_gradients_pass_through_jit():
    """A gradient that autograd takes is an ordinary JAX program."""
    jax_backend = next((b for b in BACKENDS if b.name == "jax"), None)
    assert jax_backend is not None or importlib.util.find_spec("jax") is None
    if jax_backend:
        import jax

        x = jax_backend.from_numpy(numbers(3))
        assert_near(jax.jit(autograd.grad(cubes))(x), jax.grad(cubes)(x), rtol=1e-14)


def test_backends_ran(record_property):
    """Record the libraries that this run has tested."""
    record_property("libraries", ", ".join(map(str, BACKENDS)))
    assert len({backend.name for backend in BACKENDS}) == len(BACKENDS) >= 4
