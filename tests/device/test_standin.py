"""The stand-in refuses what CuPy refuses; formulas, laws and models run on it, on either device."""

import re
from dataclasses import replace
from functools import cache
from typing import Any

import array_api_compat
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.device.libraries import LIBRARIES, _CuPy
from tests.device.tasks import UPLOADS, failure_of, stepped
from tests.support.cupy_standin import Device, UndefinedError, install, watched
from tests.support.cupy_standin.signatures import DATA, loops, signature
from tests.support.strategies import cases
from tests.support.trees import tree_map
from tests.support.whole_models import SMALL, Small, drawn, videos
from vtnp._array.traced import CONSTANT, DIFFERENTIABLE
from vtnp._array.trees import tree_leaves
from vtnp._array.xp import device as device_of
from vtnp._array.xp import namespace
from vtnp._registry.spec import registry
from vtnp.claims import claims
from vtnp.claims.cases import make
from vtnp.models import deformable
from vtnp.verify.gradients import random_cotangents
from vtnp.verify.judge import as_list, results_of

FORMULAS = list(registry)
FAR = 1  # the device that is not the current one


@pytest.fixture
def cupy():
    return install()


@cache
def standin():
    """Return the device of the script; it tries CuPy out first."""
    return LIBRARIES["cupy-standin"]()


def far(x):
    with Device(FAR):
        return install().asarray(x)


# --- What CuPy takes ------------------------------------------------------------------------------


def test_signatures_are_those_of_cupy_14():
    assert DATA["version"].startswith("14.")
    assert str(signature("cupy.sum")) == "(a, axis=None, dtype=None, out=None, keepdims=False)"
    assert "where" not in signature("cupy.mean").parameters  # NumPy's has it
    assert {"cuda.Device", "ndarray"} == {*DATA["unhashable"]}


@pytest.mark.parametrize("name", sorted({*DIFFERENTIABLE, *CONSTANT} - {"erfc"}))
def test_every_name_that_formulas_use_is_there(cupy, name):
    """In CuPy itself, or made of what CuPy has by array-api-compat."""
    xp: Any = namespace(cupy.asarray(np.ones(1)))
    for part in name.split("."):
        xp = getattr(xp, part)
    assert xp is None or callable(xp) or isinstance(xp, float | type | np.dtype)


REFUSED = {
    "keyword of a reduction": (
        lambda cp, x: cp.sum(x, where=x > 0), TypeError, "unexpected keyword argument 'where'"
    ),
    "keyword of a function": (
        lambda cp, x: cp.expand_dims(x, axis=0, out=x), TypeError, "unexpected keyword"
    ),
    "keyword of a ufunc": (lambda cp, x: cp.add(x, x, subok=True), TypeError, "Wrong arguments"),
    "positional alone": (lambda cp, x: cp.astype(x=x, dtype="f"), TypeError, "'x'"),
    "function of NumPy": (lambda cp, x: cp.unstack(x), AttributeError, "unstack"),
    "difference of truth values": (
        lambda cp, x: cp.subtract(x > 0, x > 0), TypeError, "Wrong type"
    ),
    "inverse in half": (
        lambda cp, x: cp.linalg.inv(x.astype("e")), TypeError, "float16 is unsupported"
    ),
    "pseudo-inverse in half": (
        lambda cp, x: cp.linalg.pinv(x.astype("e")), TypeError, "float16 is unsupported"
    ),
    "NumPy on the right": (lambda cp, x: x + np.ones(2), TypeError, "Unsupported type"),
    "NumPy on the left": (lambda cp, x: np.ones(2) + x, TypeError, "Unsupported type"),
    "product with a number": (lambda cp, x: cp.matmul(x, 2.0), TypeError, "expected a CuPy array"),
    "NumPy among arrays": (
        lambda cp, x: cp.concatenate([x, np.ones((2, 2))]), TypeError, "expected a CuPy array"
    ),
    "conversion": (lambda cp, x: np.asarray(x), TypeError, "Implicit conversion"),
    "condition": (lambda cp, x: cp.where(1.0, x, x), AttributeError, "astype"),
    "index": (lambda cp, x: x[2], IndexError, "out of bounds"),
    "indices of fewer axes": (
        lambda cp, x: cp.take_along_axis(x, cp.asarray([0]), 0), ValueError, "same number of dim"
    ),
    "real index": (lambda cp, x: x[x], IndexError, "integer or boolean"),
    "hash of a device": (lambda cp, x: hash(x.device), TypeError, "unhashable"),
    "hash": (lambda cp, x: hash(x), TypeError, "unhashable"),
    "other device": (
        lambda cp, x: x + far(np.ones(2)), ValueError, "different from the current device"
    ),
    "not computed": (
        lambda cp, x: cp.fft.fft(x), NotImplementedError, "does not compute cupy.fft.fft"
    ),
    "take": (lambda cp, x: cp.take(x, cp.asarray([2]), axis=0), UndefinedError, "2 to 2 among 2"),
    "index array": (lambda cp, x: x[..., cp.asarray([-3])], UndefinedError, "-3 to -3 among 2"),
    "sum": (lambda cp, x: cp.add.at(x, cp.asarray([5]), 1.0), UndefinedError, "5 to 5 among 2"),
    "NaN": (lambda cp, x: (x * np.nan).astype("i8"), UndefinedError, "nan is cast to int64"),
    "too large": (lambda cp, x: (x * 1e10).astype("i4"), UndefinedError, "cast to int32"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_is_refused(cupy, call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call(cupy, cupy.asarray(np.ones((2, 2))))


DTYPES = {
    "quotient": (lambda cp, x: x / 2, "float16"),
    "NumPy's numbers bind": (lambda cp, x: x * np.float32(2), "float32"),
    "Python's do not": (lambda cp, x: x * 2.0, "float16"),
    "quotient of integers": (lambda cp, x: cp.arange(3) / cp.arange(3), "float64"),
    "function of integers": (lambda cp, x: cp.exp(cp.arange(3)), "float64"),
    "sum of truth values": (lambda cp, x: cp.sum(x > 0), "int64"),
    "mean": (lambda cp, x: cp.mean(x), "float16"),
    "power": (lambda cp, x: x**2, "float16"),
    "choice": (lambda cp, x: cp.where(x > 0, x, 0.0), "float16"),
    "product": (lambda cp, x: x @ x, "float16"),
    "comparison": (lambda cp, x: x > 0, "bool"),
    "index": (lambda cp, x: cp.argmax(x), "int64"),
}


@pytest.mark.parametrize(("call", "dtype"), DTYPES.values(), ids=DTYPES)
def test_dtype_of_result(cupy, call, dtype):
    found = call(cupy, cupy.asarray(np.ones((2, 2), np.float16)))
    assert isinstance(found, cupy.ndarray)
    assert found.dtype == dtype


def test_loops_are_tried_in_cupys_order():
    first = loops(DATA["ufuncs"]["cupy.subtract"])[0]
    assert first.is_error
    assert first.takes == (np.dtype(bool), np.dtype(bool))
    # A product of truth values has a loop, one in float64 has, one of half precision has.
    assert {"??->?", "dd->d", "ee->e"} <= {*DATA["ufuncs"]["cupy.multiply"].split()}


def test_nothing_warns_and_singular_matrices_have_no_error(cupy):
    x = cupy.asarray(np.zeros((1, 2, 2)))
    assert np.all(np.isnan(cupy.linalg.inv(x).get()) | np.isinf(cupy.linalg.inv(x).get()))
    assert np.isnan((x / x).get()).all()
    assert np.isnan(cupy.mean(x[:, :0])).get()


def test_a_matrix_is_inverted_in_its_own_precision(cupy):
    """NumPy inverts single precision in double."""
    A = np.random.default_rng(0).standard_normal((6, 6))
    single = cupy.linalg.inv(cupy.asarray(A.astype(np.float32)))
    assert single.dtype == np.float32
    assert np.any(single.get() != np.linalg.inv(A.astype(np.float32)))


# --- What is counted ------------------------------------------------------------------------------

TRANSFERS = {
    "bool": (lambda cp, x: bool(x[0, 0] > 0), "synchronisation"),
    "float": (lambda cp, x: float(x[0, 0]), "synchronisation"),
    "get": (lambda cp, x: x.get(), "download"),
    "asnumpy": (lambda cp, x: cp.asnumpy(x), "download"),
    "mask": (lambda cp, x: x[x > 0], "synchronisation"),
    "assignment by mask": (lambda cp, x: x.__setitem__(x > 0, 0.0), "synchronisation"),
    "list": (lambda cp, x: cp.asarray([1, 2]), "upload"),
    "NumPy's array": (lambda cp, x: cp.asarray(np.ones(2)), "upload"),
    "index of NumPy": (lambda cp, x: x[np.array([0, 1])], "upload"),
    "the wrapper's clip": (
        lambda cp, x: array_api_compat.cupy.clip(x, 0.0, 1.0),
        "synchronisation",
    ),
    "the wrapper's sign": (lambda cp, x: array_api_compat.cupy.sign(x), "synchronisation"),
}
NONE = {
    "arithmetic": lambda cp, xp, x: -x * 2 + xp.sum(x) / 3,
    "creation": lambda cp, xp, x: xp.zeros((2,), dtype=x.dtype, device=device_of(x)),
    "full": lambda cp, xp, x: xp.full((2,), 3.0, device=device_of(x)),
    "view": lambda cp, xp, x: x[0, ...].T,
    "same array": lambda cp, xp, x: cp.asarray(x),
    "clip": lambda cp, xp, x: xp.clip(x, 0.0, 1.0),
    "sign": lambda cp, xp, x: xp.sign(x),
}


@pytest.mark.parametrize(("call", "kind"), TRANSFERS.values(), ids=TRANSFERS)
def test_is_counted(cupy, call, kind):
    x = cupy.asarray(np.ones((2, 2)))
    with watched() as record:
        call(cupy, x)
    assert record.of(kind)


@pytest.mark.parametrize("call", NONE.values(), ids=NONE)
def test_is_no_transfer(cupy, call):
    x = cupy.asarray(np.ones((2, 2)))
    with watched() as record:
        call(cupy, namespace(x), x)
    assert record.transfers == []
    assert record.calls


def test_a_record_ends_with_its_block(cupy):
    x = cupy.asarray(np.ones(1))
    with watched() as outer:
        float(x[0])
        with watched() as inner:
            float(x[0])
    float(x[0])
    assert (len(outer.transfers), len(inner.transfers)) == (2, 1)
    assert outer.transfers[0].what == "cupy.ndarray.__float__"


def test_cupys_own_methods_are_counted_by_patching_them(cupy):
    """As on a GPU, where there is no record to look at."""
    device, x = standin(), cupy.asarray(np.ones((2, 2)))
    with _CuPy.watched(device) as seen:
        bool(x[0, 0] > 0)
        x.get()
        cupy.asarray([1.0])
        cupy.asarray(x)
    assert [each[0] for each in seen] == ["synchronisation", "download", "upload"]
    bool(x[0, 0] > 0)
    assert len(seen) == 3


@pytest.mark.parametrize(("low", "high"), [(-1.0, 0.5), (None, 0.5), (-1.0, None), (None, None)])
def test_clip_is_numpys(cupy, low, high):
    x = np.array([-2.0, -1.0, -0.0, 0.3, 0.5, 7.0, np.nan, np.inf], np.float32)
    y = cupy.asarray(x)
    found = namespace(y).clip(y, low, high)
    assert found.dtype == np.float32
    assert found is not y
    expected = x if low is high is None else np.clip(x, low, high)
    np.testing.assert_array_equal(found.get(), expected)


def test_clip_of_integers_takes_bounds_that_they_cannot_have(cupy):
    x = cupy.asarray(np.array([-5, 3], np.int8))
    found = namespace(x).clip(x, -1000, 1000)
    assert found.dtype == np.int8
    assert list(found.get()) == [-5, 3]


def test_sign_is_numpys(cupy):
    x = np.array([-2.0, 0.0, 3.0, np.nan, -np.inf])
    y = cupy.asarray(x)
    np.testing.assert_array_equal(namespace(y).sign(y).get(), np.sign(x))
    whole = cupy.asarray(np.array([-2, 0, 3]))
    np.testing.assert_array_equal(namespace(whole).sign(whole).get(), [-1, 0, 1])


# --- Two devices ----------------------------------------------------------------------------------


def gradients(function, args, cotangents):
    """Return the gradient of <results, cotangents> by every real array."""
    like = {name: x for name, x in args.items() if name == "like"}
    rest = {name: x for name, x in args.items() if name != "like"}
    variables = [x for _, x in tree_leaves(rest) if x.dtype.kind == "f"]
    real = [
        (i, w)
        for i, (y, w) in enumerate(zip(as_list(function(**args)), cotangents, strict=True))
        if hasattr(y, "dtype") and y.dtype.kind == "f"
    ]

    def of_variables(*values):
        each = iter(values)
        placed = tree_map(lambda x: next(each) if x.dtype.kind == "f" else x, rest)
        results = as_list(function(**placed, **like))
        return [results[i] for i, _ in real]

    weights = [w for _, w in real]
    if not (variables and real):
        return []
    return standin().gradients(of_variables, variables, weights)


@pytest.mark.parametrize("id", FORMULAS)
def test_formula_on_another_device_than_the_current_one(cupy, id):
    """Result and gradient are there and NumPy's, with no copies but the uploads that are known."""
    entry = registry[id]
    case = make(id, 8, (2,))
    args = tree_map(far, case.args)
    expected = results_of(entry.function, case.args)
    cotangents = random_cotangents(expected, 0)
    with watched() as record:
        found = [y for y in as_list(entry.function(**args)) if hasattr(y, "dtype")]
    assert all(y.device == Device(FAR) for y in found)
    for y, x in zip(found, expected, strict=False):
        np.testing.assert_allclose(y.get(), x, rtol=1e-11, atol=1e-11)
    weights = [far(w) for w in cotangents]
    standin()
    with watched() as backward:
        there = gradients(entry.function, args, weights)
    expected = gradients(entry.function, case.args, cotangents)
    assert len(there) == len(expected)
    for g, x in zip(there, expected, strict=True):
        assert g.device == Device(FAR)
        np.testing.assert_allclose(g.get(), x, rtol=1e-9, atol=1e-9)
    record.transfers += backward.transfers
    assert {each.kind for each in record.transfers} <= {"upload"}
    assert {each.where for each in record.transfers} <= {*UPLOADS}


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("id", FORMULAS)
def test_dtype_stays(cupy, id, dtype):
    """Half precision has fewer loops than others, and routines of linear algebra have none."""
    case, function = make(id, 3, (2,)), registry[id].function
    full = [np.asarray(y) for y in as_list(function(**case.args))]
    with np.errstate(over="ignore"):
        args = tree_map(lambda x: x.astype(dtype) if x.dtype.kind == "f" else x, case.args)
    found = as_list(function(**tree_map(cupy.asarray, args)))
    for y, x in zip(found, full, strict=True):
        if hasattr(y, "dtype"):
            assert isinstance(y, cupy.ndarray)
            assert y.dtype == (dtype if x.dtype.kind == "f" else x.dtype)


def test_every_known_upload_happens(cupy):
    """None is on the list that no formula makes any more."""
    from vtnp import motionformer, positions, vivit
    from vtnp.models import motionformer as model

    rng = np.random.default_rng(0)
    x = cupy.asarray(rng.standard_normal((2, 6, 4)))
    config = replace(SMALL["motionformer-released"].config, table=(2, 3))
    with watched() as record:
        vivit.uniform_frame_sampling(9, 3, like=x)
        positions.sinusoidal_positions(3, 4, like=x)
        motionformer.orthogonal_prototypes(x, 2, rng=rng)
        model._spatial_positions(x[0, ...], config)
    seen = {each.where for each in record.transfers}
    assert seen == {*UPLOADS}
    assert {each.kind for each in record.transfers} == {"upload"}


def test_start_of_prototypes_on_a_device_is_not_read(cupy):
    from vtnp.motionformer import orthogonal_prototypes

    x = np.random.default_rng(0).standard_normal((2, 5, 4))
    expected = orthogonal_prototypes(x, 3, start=np.array([4, 1]))
    there = cupy.asarray(x)
    start = cupy.asarray(np.array([9, 1]))
    with watched() as record:
        found = orthogonal_prototypes(there, 3, start=start)
    assert record.transfers == []
    np.testing.assert_array_equal(found.get(), expected)
    with pytest.raises(ValueError, match="start: expected 0 to 4"):
        orthogonal_prototypes(there, 3, start=np.array([9, 1]))


def test_a_kind_of_call_is_remembered(cupy, monkeypatch):
    """CuPy's devices have no hash; without one every call would be checked anew."""
    from vtnp._registry import contract
    from vtnp.encoder import softmax

    x = cupy.asarray(np.ones((3, 7)))
    softmax(x)

    def fail(*args):
        raise AssertionError("checked again")

    monkeypatch.setattr(contract, "check_arguments", fail)
    softmax(x)
    with pytest.raises(AssertionError, match="checked again"):
        softmax(far(np.ones((3, 7))))


@pytest.mark.parametrize("id", FORMULAS)
def test_laws_and_special_cases(id):
    found = {
        claim.name: failure_of(claim, standin(), "float64")
        for claim in claims.values()
        if claim.id == id
    }
    assert found
    assert not {name: why for name, why in found.items() if why}


@pytest.mark.deep
@pytest.mark.parametrize("claim", claims.values(), ids=lambda claim: "-".join(claim[:3]))
@given(data=st.data())
def test_law_on_drawn_cases(claim, data):
    case = data.draw(cases(claim.id))
    with np.errstate(all="ignore"):
        assert not failure_of(claim, standin(), case.dtype, case)


MODELS = {**SMALL, "deformable-tiny": Small(deformable, deformable.CONFIGS["deformable-tiny"])}
QUICK = {"nystromformer-odd", "deformable-tiny", "motionformer-both", "vivit-spatio-temporal"}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n in QUICK else pytest.mark.deep) for n in MODELS],
)
def test_model_on_another_device_than_the_current_one(name):
    """Its logits and one step of training are those of the CPU."""
    model, config = MODELS[name]
    params, video = drawn(model, config), videos(config, (2,))
    right = np.eye(config.classes)[[0, 1]]
    there = tree_map(far, params)
    logits = model.apply(there, far(video), config)
    np.testing.assert_allclose(
        logits.get(), model.apply(params, video, config), rtol=1e-11, atol=1e-11
    )
    _, after = stepped(there, model, config, far(video), far(right))
    _, expected = stepped(params, model, config, video, right)
    for (path, x), (_, y) in zip(tree_leaves(after), tree_leaves(expected), strict=True):
        assert x.device == Device(FAR), path
        np.testing.assert_allclose(x.get(), y, rtol=1e-10, atol=1e-10, err_msg=path)
