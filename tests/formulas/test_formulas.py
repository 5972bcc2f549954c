"""Tests of every formula: oracle, gradients, dtypes, memory layouts, batches, errors."""

import warnings
from functools import partial
from importlib import import_module

import numpy as np
import pytest
from autograd import elementwise_grad, make_jvp, make_vjp
from hypothesis import given, settings
from hypothesis import strategies as st

import vtnp
from tests.support.compare import assert_close, difference, largest
from tests.support.strategies import BATCHES, SIZINGS, cases, put, seeded
from tests.support.trees import floats, leaves, replaced, tree_map
from vtnp._array.xp import namespace
from vtnp._registry.spec import registry
from vtnp.claims import Claim
from vtnp.claims.cases import Case, make
from vtnp.verify.page_text import inner_formulas

IDS = [each.id for each in vtnp.formulas()]
INVERSES = {"pseudo-inverse", "iterative-pinv"}


def oracle(id: str):
    """Return the slow loop that is written from the formula's page."""
    entry = registry[id]
    return getattr(import_module(f"tests.oracles.{entry.module}"), entry.function.__name__)


def outputs(result) -> list:
    """Return the arrays among the results; the oracle alone checks what else there is."""
    results = result if isinstance(result, tuple) else (result,)
    return [y for y in results if hasattr(y, "dtype")]


def paired(y, cotangent):
    """Return <y, cotangent> without infinite entries: the log of an empty sum, a constant."""
    xp = namespace(y)
    return xp.sum(xp.where(xp.isinf(y), 0.0, y) * cotangent)


def of_leaf(case: Case, path):
    """Return <results, cotangents> as a function of one of the formula's arrays."""

    def f(x, cotangents):
        results = outputs(case.function(**replaced(case.args, path, x)))
        return sum(paired(y, c) for y, c in zip(results, cotangents, strict=True))

    return f


def slope(f, h: float = 1e-4):
    """Return f'(0) by central differences of fourth order."""
    return (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h)


def has_gradient(id: str) -> bool:
    # With respect to arrays in the signature, in params or in lists, but not to `like`.
    named = {argument.name for argument in registry[id].signature.arguments}
    if not any(path[0] in named or len(path) > 1 for path, _ in floats(make(id, 0).args)):
        return False
    return any(result.kind == "float" for result in registry[id].signature.returns)


DIFFERENTIABLE_IDS = [id for id in IDS if has_gradient(id)]


def compared(id: str) -> st.SearchStrategy[Case]:
    """Return cases of which float64 knows what a lower precision should find.

    In float16, scores of large numbers are rounded by more than a softmax forgives; and the rank
    that a pseudo-inverse sees depends on the precision.
    """
    sizings = (*SIZINGS, "empty")
    if INVERSES & {id, *inner_formulas(id)}:
        return cases(id, sizings=sizings)
    usual = cases(id, dtypes=("float64", "float32"), sizings=sizings)
    return usual | cases(id, dtypes=("float16",), sizings=sizings, families=("typical", "tiny"))


@pytest.mark.parametrize("id", IDS)
@given(data=st.data())
def test_equals_the_oracle(id, data):
    """On sizes, options, masks and numbers of all kinds, empty axes included, in any precision."""

    def equals(case: Case) -> None:
        assert_close(case(), oracle(id)(**case.args), what=id)

    claim = Claim("law", id, "equals-the-oracle", equals, {})
    put(claim, data.draw(compared(id)))


@pytest.mark.parametrize("id", DIFFERENTIABLE_IDS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_gradient_of_every_argument(id, seed):
    """Reverse mode, forward mode and central differences agree in a random direction."""
    case = make(id, seed, BATCHES[seed])
    cotangents = [case.rng.standard_normal(np.shape(y)) for y in outputs(case())]
    for path, x in floats(case.args):
        f = of_leaf(case, path)
        direction = case.rng.standard_normal(x.shape)
        gradient = make_vjp(lambda x, f=f: f(x, cotangents))(x)[0](1.0)
        assert gradient.shape == x.shape, path
        reverse = np.sum(gradient * direction)
        forward = make_jvp(lambda x, f=f: f(x, cotangents))(x)(direction)[1]
        scale = max(1.0, abs(reverse), largest(gradient) * np.sqrt(x.size))
        assert abs(reverse - forward) <= 1e-11 * scale, (id, path, reverse, forward)
        along = partial(lambda h, f, x, v, c: f(x + h * v, c), f=f, x=x, v=direction, c=cotangents)
        central = slope(along)
        if abs(reverse - central) > 1e-8 * scale:  # a sharp bend; a third of the step errs by 1/81
            central = slope(along, h=3e-5)
        assert abs(reverse - central) <= 1e-8 * scale, (id, path, reverse, central)


@pytest.mark.parametrize("id", DIFFERENTIABLE_IDS)
def test_second_order(id):
    """The gradient of <gradient, direction> agrees with differences of the gradient."""
    case = make(id, 5)
    cotangents = [case.rng.standard_normal(np.shape(y)) for y in outputs(case())]
    path, x = floats(case.args)[0]
    f = of_leaf(case, path)
    gradient = elementwise_grad(lambda x: f(x, cotangents))
    direction = case.rng.standard_normal(x.shape)
    with warnings.catch_warnings():
        # A formula that is linear in this argument has a gradient that does not depend on it.
        warnings.filterwarnings("ignore", "Output seems independent of input", UserWarning)
        curved = elementwise_grad(lambda x: namespace(x).sum(gradient(x) * direction))(x)
    central = slope(lambda h: gradient(x + h * direction))
    scale = max(1.0, largest(curved), largest(gradient(x)))
    assert largest(curved - central) <= 1e-8 * scale


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("id", IDS)
def test_dtype_stays(id, dtype):
    case = make(id, 3, (2,))
    single = tree_map(lambda x: x.astype(dtype) if x.dtype.kind == "f" else x, case.args)
    for y, full in zip(outputs(case.function(**single)), outputs(case()), strict=True):
        assert y.dtype == (dtype if full.dtype.kind == "f" else full.dtype)
    for path, x in floats(single) if id in DIFFERENTIABLE_IDS else []:
        f = of_leaf(Case(id, single, case.rng, case.function), path)
        ones = [np.ones(np.shape(y), dtype) for y in outputs(case())]
        assert elementwise_grad(lambda x, f=f, ones=ones: f(x, ones))(x).dtype == dtype, path


# The loop in float32 is the slowest of all, since it rounds number by number.
FEWER = settings(max_examples=settings().max_examples // 3)


@pytest.mark.parametrize("id", DIFFERENTIABLE_IDS)
@FEWER
@given(data=st.data())
def test_float32_is_as_accurate_as_the_loop(id, data):
    assert_float32_is_as_accurate_as_the_loop(data.draw(seeded(id)))


@pytest.mark.deep
@pytest.mark.parametrize("id", DIFFERENTIABLE_IDS)
@given(data=st.data())
def test_float32_is_as_accurate_as_the_loop_in_more_cases(id, data):
    assert_float32_is_as_accurate_as_the_loop(data.draw(seeded(id)))


def assert_float32_is_as_accurate_as_the_loop(case: Case) -> None:
    """The error against float64 is at most four times that of the slow loop, or 8 ulps.

    The loop may be accurate by chance where the formula is ill-conditioned, so that the error that
    rounding the inputs alone causes counts as its error, too.
    """
    single = tree_map(lambda x: x.astype(np.float32) if x.dtype.kind == "f" else x, case.args)
    widened = tree_map(lambda x: x.astype(np.float64) if x.dtype.kind == "f" else x, single)
    exact, found = outputs(case.function(**widened)), outputs(case.function(**single))
    eps = np.finfo(np.float32).eps

    def rounded(x):
        ulps = eps / 2 * np.sign(case.rng.standard_normal(x.shape))
        return x * (1 + ulps) if x.dtype.kind == "f" else x

    others = [outputs(oracle(case.id)(**single))]
    others += [outputs(case.function(**tree_map(rounded, widened))) for _ in range(6)]
    for i, (y, a) in enumerate(zip(exact, found, strict=True)):
        unavoidable = max(difference(other[i], y) for other in others)
        assert difference(a, y) <= max(4 * unavoidable, 8 * eps)


@pytest.mark.parametrize("id", IDS)
def test_inputs_of_any_layout_give_the_same_and_are_not_changed(id):
    """Strided, Fortran-ordered, read-only and big-endian inputs, whose memory no result shares."""
    case = make(id, 4, (2,))
    expected = case()

    def strided(x):
        wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype) if x.ndim else x.copy()
        if x.ndim:
            wide[..., ::2] = x
            wide = wide[..., ::2]
        wide.flags.writeable = False
        return wide

    def big_endian(x):
        return x.astype(x.dtype.newbyteorder(">")) if x.dtype.kind == "f" else x

    for change in (strided, np.asfortranarray, big_endian):
        args = tree_map(change, case.args)
        before = [x.copy() for _, x in leaves(args)]
        result = case.function(**args)
        assert_close(result, expected, within=1e-13, what=f"{id}, {change.__name__}")
        for (path, x), old in zip(leaves(args), before, strict=True):
            assert np.array_equal(x, old), f"{id} wrote to {path}"
            for y in outputs(result):
                assert not np.shares_memory(x, y), f"the result of {id} aliases {path}"


def batched_arguments(id: str) -> set[str]:
    arguments = registry[id].signature.arguments
    return {a.name for a in arguments if a.shape.row and not a.shape.broadcasts}


@pytest.mark.parametrize("id", [id for id in IDS if batched_arguments(id)])
def test_each_element_of_a_batch_is_computed_alone(id):
    """It has the result that it has without the batch; an empty batch has an empty result."""
    entry, batched = registry[id], batched_arguments(id)
    case = make(id, 6, (3,))
    if case.args.get("start") == "original":  # One start value for the whole batch.
        case = case.with_args(start="paper")
    whole = outputs(case())
    for i in range(3):
        args = {k: v[i] if k in batched and v is not None else v for k, v in case.args.items()}
        args = {k: _mask_of(v, i, entry, k) for k, v in args.items()}
        for y, alone in zip(whole, outputs(case.function(**args)), strict=True):
            assert_close(y[i], alone, within=1e-13, what=id)
    empty = {k: v[:0] if k in batched and v is not None else v for k, v in case.args.items()}
    empty = {k: _mask_of(v, slice(0), entry, k) for k, v in empty.items()}
    for y, full in zip(outputs(case.function(**empty)), whole, strict=True):
        assert y.shape == (0, *full.shape[1:])


def _mask_of(value, index, entry, name):
    """Return an element of a mask that has the batch axis; any other value as it is."""
    for argument in entry.signature.arguments:
        if argument.name == name and argument.shape.broadcasts and value is not None:
            fixed = len(argument.shape.before) + len(argument.shape.after)
            return value[index] if np.ndim(value) > fixed else value
    return value


@pytest.mark.parametrize("id", [id for id in IDS if registry[id].signature.arguments])
def test_wrong_arrays_are_refused_by_name(id):
    case = make(id, 7, (2,))
    page = f"spec/{registry[id].module}/{id}.md"
    for argument in registry[id].signature.arguments:
        if case.args.get(argument.name) is None:
            continue
        x = case[argument.name]
        what = f"{id} ({page}): argument {argument.name}: "
        if argument.kind == "float":
            with pytest.raises(TypeError) as error:
                case(**{argument.name: np.ones(x.shape, np.int64)})
            assert str(error.value) == f"{what}expected a float dtype, got int64"
        with pytest.raises(TypeError, match="expected an array, got list"):
            case(**{argument.name: x.tolist()})
        if argument.shape.before or argument.shape.after:
            with pytest.raises(vtnp.ShapeError) as shape_error:
                case(**{argument.name: np.ones((), x.dtype)})
            assert str(shape_error.value).startswith(
                f'{what}expected axes "{argument.shape.text}", got shape ()'
            )
    mixed = [a.name for a in registry[id].signature.arguments if a.kind == "float"]
    mixed = [name for name in mixed if case.args.get(name) is not None]
    if len(mixed) > 1:
        with pytest.raises(TypeError, match=f"{id} .* arguments mix dtypes .*float32"):
            case(**{mixed[-1]: case[mixed[-1]].astype(np.float32)})
