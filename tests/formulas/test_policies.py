"""What holds for every formula at the borders of its inputs: the rules of spec/policies.md."""

import copy
import inspect
import math
import pickle
import re
import threading
import typing
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from autograd import make_jvp, make_vjp

import vtnp
from tests.formulas.test_formulas import DIFFERENTIABLE_IDS, IDS, oracle, outputs
from tests.support.compare import assert_close, difference, largest
from tests.support.trees import floats, leaves, replaced, tree_map
from vtnp._array.xp import namespace
from vtnp._registry.params import Table
from vtnp._registry.shapes import Argument, Shape, alternatives
from vtnp._registry.spec import registry
from vtnp.claims.cases import Case, make
from vtnp.tokens import Grid
from vtnp.verify.handlers import calls_of
from vtnp.verify.judge import INVERSE
from vtnp.verify.page_text import inner_formulas

Path = tuple[Any, ...]
OF_ARRAYS = [id for id in IDS if floats(make(id, 0).args)]
each_formula = pytest.mark.parametrize("id", IDS)
each_of_arrays = pytest.mark.parametrize("id", OF_ARRAYS)
each_differentiable = pytest.mark.parametrize("id", DIFFERENTIABLE_IDS)


def opening(id: str) -> str:
    """Return how an error begins that a formula raises itself."""
    return f"{id} ({registry[id].page_path}): "


def named(path: Path) -> str:
    """Return an array as errors name it, such as "params['norm']['gamma']"."""
    name, *keys = path
    return str(name) + "".join(f"[{key!r}]" for key in keys)


def changed(case: Case, path: Path, value: Any) -> Case:
    return case.with_args(**replaced(case.args, path, value))


def shaped(case: Case) -> Iterator[tuple[Path, Argument, np.ndarray]]:
    """Yield every array of a case whose axes the signature names: path, entry and value."""
    signature = registry[case.id].signature
    for argument in signature.arguments:
        if case.args.get(argument.name) is not None:
            yield (argument.name,), argument, case[argument.name]
    for argument in signature.sequences:
        for i, value in enumerate(case[argument.name]):
            yield (argument.name, i), argument, value
    for name, table in signature.tables.items():
        yield from _shaped_in((name,), table, case[name])


def _shaped_in(path: Path, table: Table, values: Any) -> Iterator[Any]:
    for key, field in table.fields.items():
        value = values.get(key)
        if value is not None and isinstance(field, Argument):
            yield (*path, key), field, value
        elif value is not None and isinstance(field, Table):
            yield from _shaped_in((*path, key), field, value)
        elif isinstance(field, list):
            for i, each in enumerate(value):
                yield from _shaped_in((*path, key, i), field[0], each)


def places(shape: Shape, ndim: int) -> dict[int, str]:
    """Return the axes of an array by position; its batch axes have none, but for the first, "b"."""
    found = dict(enumerate(shape.before)) | {
        ndim - len(shape.after) + i: axis for i, axis in enumerate(shape.after)
    }
    first = len(shape.before)
    if shape.row is not None and ndim > first + len(shape.after):
        found[first] = "b"
    return found


def differentiated(case: Case, weights: list[Any], paths: list[Path]) -> tuple[Any, list[Any]]:
    """Return <finite results, weights> as a function of arrays of a case, and these arrays."""

    def f(*values: Any) -> Any:
        args = case.args
        for path, value in zip(paths, values, strict=True):
            args = replaced(args, path, value)
        total = 0.0
        for y, weight in zip(outputs(case.function(**args)), weights, strict=True):
            xp = namespace(y)
            total = total + xp.sum(xp.where(xp.isfinite(y), y, 0.0) * weight)
        return total

    found = dict(leaves(case.args))
    return f, [found[path] for path in paths]


def gradients(case: Case, weights: list[Any], paths: list[Path]) -> list[Any]:
    """Return the gradients with respect to several arrays, all differentiated at once."""
    f, values = differentiated(case, weights, paths)
    return list(make_vjp(f, argnum=tuple(range(len(paths))))(*values)[0](1.0))


def weights_of(case: Case, results: list[Any]) -> list[np.ndarray]:
    return [case.rng.standard_normal(np.shape(y)) for y in results]


def paths_of(case: Case) -> list[Path]:
    """Return the arrays that a gradient exists for."""
    if case.id not in DIFFERENTIABLE_IDS:
        return []
    return [path for path, _ in floats(case.args) if path[0] != "like"]


# --- Numbers: NaN, infinities, ties, half precision -----------------------------------------------


def batched(id: str) -> list[str]:
    arguments = registry[id].signature.arguments
    return [
        a.name for a in arguments if a.kind == "float" and a.shape.row and not a.shape.broadcasts
    ]


POISONS = [("one", math.nan), ("one", math.inf), ("one", -math.inf), ("all", math.nan)]


def assert_poison_stays(case: Case) -> None:
    """Spoil the middle one of three elements; the others keep value and gradient to the bit."""
    names = [name for name in batched(case.id) if case.args.get(name) is not None]
    paths: list[Path] = [(name,) for name in names] if case.id in DIFFERENTIABLE_IDS else []
    expected = outputs(case())
    weights = weights_of(case, expected)
    slopes = gradients(case, weights, paths) if paths else []
    for how_many, poison in POISONS:
        spoilt = {name: case[name].copy() for name in names}
        for x in spoilt.values():
            x[(1, *[0] * (x.ndim - 1)) if how_many == "one" else 1] = poison
        # NumPy says that infinity minus infinity is invalid, as it should.
        with np.errstate(invalid="ignore", over="ignore"):
            found = outputs(case(**spoilt))
            turned = gradients(case.with_args(**spoilt), weights, paths) if paths else []
        for a, b in zip([*found, *turned], [*expected, *slopes], strict=True):
            assert np.array_equal(a[[0, 2]], b[[0, 2]], equal_nan=True), (how_many, poison)


WITH_BATCH = [id for id in IDS if batched(id)]


@pytest.mark.parametrize("id", WITH_BATCH)
def test_nan_and_infinities_stay_in_their_batch_element(id):
    case = make(id, 3, (3,))
    if case.args.get("start") == "original":  # the exception, below
        case = case.with_args(start="paper")
    assert_poison_stays(case)


@pytest.mark.deep
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("id", WITH_BATCH)
def test_nan_and_infinities_stay_in_their_batch_element_in_more_cases(id, seed):
    case = make(id, 20 + seed, (3,))
    if case.args.get("start") == "original":
        case = case.with_args(start="paper")
    assert_poison_stays(case)


@pytest.mark.parametrize("id", ["iterative-pinv", "nystrom-attention", "nystrom-self-attention"])
def test_nan_reaches_the_whole_batch_where_the_formula_says_so(id):
    """The original start value of the iteration is one for the whole batch."""
    case = make(id, 3, (3,)).with_args(start="original")
    if id != "iterative-pinv":
        case = case.with_args(pinv="iterative")
    spoilt = {name: case[name].copy() for name in batched(id) if case.args.get(name) is not None}
    for x in spoilt.values():
        x[1] = math.nan
    assert np.all(np.isnan(case(**spoilt)))


def with_ties(case: Case) -> Case:
    """Replace every number by -1, 0 or 1.

    Candidates become unit vectors, whose cosines are 0 and 1: others may tie up to rounding alone.
    Layers, which project theirs, choose none.
    """

    def tied(x: np.ndarray) -> np.ndarray:
        return np.sign(np.round(x)) if x.dtype.kind == "f" else x

    args = tree_map(tied, case.args)
    if "candidates" in args:
        width = args["candidates"].shape[-1]
        args["candidates"] = np.eye(width)[np.argmax(case["candidates"], axis=-1)]
    if args.get("prototypes") is not None:
        args["prototypes"] = None
    return case.with_args(**args)


def condition(case: Case) -> float:
    """Return the condition number of the matrices that a formula inverts, 1 where it does not.

    The loop multiplies by the inverse, whose numbers are as inexact as that.
    """
    if case.id == INVERSE or INVERSE not in inner_formulas(case.id):
        return 1.0
    matrices = [call.arguments["A"] for call in calls_of({INVERSE}, case.function, case.args)]
    return max((float(np.max(np.linalg.cond(A))) for A in matrices), default=1.0)


def assert_defined_at_ties(case: Case) -> None:
    """The value is that of the loop; reverse and forward mode give one finite gradient."""

    results, paths = case(), paths_of(case)
    within = max(1e-12, 16 * 2.0**-52 * condition(case))
    assert_close(results, oracle(case.id)(**case.args), within=within, what=case.id)
    if not paths:
        return
    weights = weights_of(case, outputs(results))
    f, values = differentiated(case, weights, paths)
    directions = [case.rng.standard_normal(x.shape) for x in values]
    slopes = gradients(case, weights, paths)
    assert all(np.all(np.isfinite(slope)) for slope in slopes)
    reverse = sum(np.sum(g * v) for g, v in zip(slopes, directions, strict=True))

    def along(step: Any) -> Any:
        return f(*(x + step * v for x, v in zip(values, directions, strict=True)))

    forward = make_jvp(along)(0.0)(1.0)[1]
    scale = max(1.0, *(largest(g) * math.sqrt(max(g.size, 1)) for g in slopes))
    assert abs(reverse - forward) <= 1e-11 * scale


@each_of_arrays
def test_ties_have_a_value_and_a_gradient(id):
    assert_defined_at_ties(with_ties(make(id, 1)))


@pytest.mark.deep
@pytest.mark.parametrize("seed", range(8))
@each_of_arrays
def test_ties_have_a_value_and_a_gradient_in_more_cases(id, seed):
    assert_defined_at_ties(with_ties(make(id, 10 + seed, (2,))))


def in_half(case: Case, factor: float) -> tuple[Case, Case]:
    """Return the case in float16, its numbers being multiplied, and the same numbers in float64."""
    half = tree_map(
        lambda x: np.clip(factor * x, -6e4, 6e4).astype(np.float16) if x.dtype.kind == "f" else x,
        case.args,
    )
    full = tree_map(lambda x: x.astype(np.float64) if x.dtype == np.float16 else x, half)
    return case.with_args(**half), case.with_args(**full)


HALF_EPS = float(np.finfo(np.float16).eps)


@each_of_arrays
def test_half_precision_is_computed_and_kept(id):
    """Of standard normal numbers nothing overflows.

    The error is at most 16 eps, or 4 times what rounding the arguments once more would change.
    """
    half, full = in_half(make(id, 2, (2,)), 1.0)
    exact = outputs(full())
    rounded = [
        outputs(full.function(**tree_map(lambda x: nudged(full, x), full.args))) for _ in range(3)
    ]
    for i, (y, right) in enumerate(zip(outputs(half()), exact, strict=True)):
        assert y.dtype == (np.float16 if right.dtype.kind == "f" else right.dtype)
        unavoidable = max(difference(other[i], right) for other in rounded)
        bound = max(16 * HALF_EPS, 4 * unavoidable)
        assert difference(y.astype(right.dtype), right) <= bound


def nudged(case: Case, x: np.ndarray) -> np.ndarray:
    """Change each number by half a unit in the last place of float16, up or down."""
    ulps = HALF_EPS / 2 * np.sign(case.rng.standard_normal(x.shape))
    return x * (1 + ulps) if x.dtype.kind == "f" else x


def warns_of_products() -> bool:
    """Tell whether this NumPy warns of tensor products that overflow: 2.0 does not."""
    x = np.full((2, 2), 300.0, np.float16)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        np.tensordot(x, x, 1)
    return bool(caught)


WARNS_OF_PRODUCTS = warns_of_products()


@each_of_arrays
def test_half_precision_overflows_with_a_warning(id):
    """Where float64 has a number and float16 has none, NumPy has said "overflow"."""
    for factor in (30.0, 1e3, 3e4):
        half, full = in_half(make(id, 2, (2,)), factor)
        with np.errstate(invalid="ignore"), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = outputs(half())
        with np.errstate(invalid="ignore"):
            exact = outputs(full())
        lost = any(
            np.any(np.isfinite(b) & ~np.isfinite(a)) for a, b in zip(found, exact, strict=True)
        )
        warned = any("overflow" in str(each.message) for each in caught)
        assert not lost or warned or not WARNS_OF_PRODUCTS


# --- Empty axes, and queries that may attend to nothing -------------------------------------------


def emptied_with(case: Case, axis: str) -> set[str]:
    """Return an axis and those whose size depends on it."""
    if case.id.startswith("trajectory") and axis in {"heads", "d_v"}:
        return {axis, "e"}
    if case.id == "multiscale-block" and "shortcut" not in case["params"] and axis == "d_out":
        return {axis, "d"}
    return {axis}


def without(case: Case, axis: str) -> Case:
    """Return the case with one axis of size 0: in arrays, and in the options that count it."""
    args, axes = case.args, emptied_with(case, axis)
    for path, argument, x in list(shaped(case)):
        where = [i for i, name in places(argument.shape, x.ndim).items() if name in axes]
        if where:
            index = tuple(slice(0) if i in where else slice(None) for i in range(x.ndim))
            args = replaced(args, path, x[index])
    if isinstance(args.get(axis), int):
        args = {**args, axis: 0}
    grid = args.get("grid")
    if grid is not None and axis in {"t", "s", "n"}:
        args = {**args, "grid": Grid(*grid)._replace(**{"t" if axis == "t" else "h": 0})}
    if case.id in ENCODERS and axis in {"n", "t", "s"}:
        args = with_fitting_positions(args)
    return case.with_args(**args)


ENCODERS = {"sequence-encoder", "spatio-temporal-encoder", "factorised-encoder"}


def with_fitting_positions(args: dict[str, Any]) -> dict[str, Any]:
    """Shorten the positions of encoders to their tokens."""
    params = args["params"]
    lengths = args["x"].shape[-2:-1] if "x" in args else args["z"].shape[-3:-1]
    if "space" in params:
        of = {("params", "time"): lengths[0], ("params", "space"): lengths[1]}
    else:
        of = {("params",): math.prod(lengths)}
    for path, tokens in of.items():
        encoder = params.get(path[1]) if path[1:] else params
        if encoder is not None:
            rows = tokens + (encoder.get("cls") is not None)
            args = replaced(args, (*path, "positions"), encoder["positions"][:rows])
    return args


def axes_of(case: Case) -> list[str]:
    """Return the axes of a case's arrays, and its options that are the size of one."""
    found = {
        axis for _, argument, x in shaped(case) for axis in places(argument.shape, x.ndim).values()
    }
    named = {axis for each in registry[case.id].signature.returns for axis in each.shape.axes}
    sizes = {name for name in named if isinstance(case.args.get(name), int)}
    return sorted(axis for axis in found | sizes if not axis.isdigit())


def assert_empty_axis_is_defined_or_refused(case: Case, axis: str) -> str:
    """Return the condition that refuses the empty axis; "" where there is a result, the loop's."""
    empty = without(case, axis)
    try:
        results = empty()
    except vtnp.ShapeError:
        raise  # sizes do not fit each other, which says nothing of an empty axis
    except vtnp.FormulaError as error:
        message = str(error)
        found = re.match(
            r"[a-z0-9-]+ \((spec/[a-z]+/[a-z0-9-]+\.md)\): expected (.*), got ", message
        )
        assert found, message
        return f"{found[1]}: {found[2]}"
    assert_close(results, oracle(case.id)(**empty.args), what=f"{case.id}, {axis}")
    paths = paths_of(empty)
    weights = weights_of(empty, outputs(results))
    if paths:
        for path, slope in zip(paths, gradients(empty, weights, paths), strict=True):
            assert slope.shape == dict(leaves(empty.args))[path].shape
            assert np.all(np.isfinite(slope))
    return ""


@each_formula
def test_an_empty_axis_has_a_result_or_is_refused(id):
    case = make(id, 4)
    for axis in axes_of(case):
        assert_empty_axis_is_defined_or_refused(case, axis)


@pytest.mark.deep
@pytest.mark.parametrize("seed", range(8))
@each_formula
def test_an_empty_axis_has_a_result_or_is_refused_in_more_cases(id, seed):
    case = make(id, 10 + seed)
    for axis in axes_of(case):
        assert_empty_axis_is_defined_or_refused(case, axis)


MASKED = [id for id in IDS if any(a.kind == "bool" for a in registry[id].signature.arguments)]
# What attention takes from the tokens that may not be attended to.
VALUES = {"V", "W_v", "b_v", "w_V"}
OF_ATTENTION = VALUES | {"Q", "K", "W_q", "W_k", "b_q", "b_k", "w_K"}


def size_of(case: Case, axis: str) -> int:
    return next(
        x.shape[i]
        for _, argument, x in shaped(case)
        for i, name in places(argument.shape, x.ndim).items()
        if name == axis
    )


def with_mask(case: Case, row: int | slice) -> Case:
    """Mask everything in one row of the mask, or in all; in other rows nothing."""
    (mask,) = (a for a in registry[case.id].signature.arguments if a.kind == "bool")
    found = np.ones([size_of(case, axis) for axis in mask.shape.after], bool)
    found[row] = False
    return case.with_args(mask=found)


def assert_nothing_is_attended_to(case: Case, row: int | slice) -> None:
    """Attention gives 0: as values of 0 would, and with gradient 0; nothing is NaN."""
    masked = with_mask(case, row)
    paths = paths_of(masked)
    without_values = masked
    for path in paths:
        if path[-1] in VALUES:
            zeros = np.zeros_like(dict(leaves(masked.args))[path])
            without_values = changed(without_values, path, zeros)
    where = (..., row, slice(None))
    (found,), (expected,) = outputs(masked()), outputs(without_values())
    assert np.all(np.isfinite(found))
    if not any(path[-1] in VALUES for path in paths):  # the weights, or means of the tokens
        expected = np.zeros_like(found)
    assert np.array_equal(found[where], expected[where])
    weights = np.zeros_like(found)
    weights[where] = case.rng.standard_normal(weights[where].shape)
    for path, slope in zip(paths, gradients(masked, [weights], paths), strict=True):
        assert np.all(np.isfinite(slope)), path
        assert path[-1] not in OF_ATTENTION or np.all(slope == 0.0), path


@pytest.mark.parametrize("id", MASKED)
def test_a_query_that_may_attend_to_nothing_gets_zero(id):
    for seed in (0, 1):
        case = make(id, seed, (2,))
        assert_nothing_is_attended_to(case, slice(None))
        (mask,) = (a for a in registry[id].signature.arguments if a.kind == "bool")
        if len(mask.shape.after) == 2:  # for each query, and not for the whole sequence
            assert_nothing_is_attended_to(case, 1)


@pytest.mark.parametrize(
    ("id", "name"), [("softmax", "x"), ("deformable-weights", "logits"), ("mix-branches", None)]
)
def test_a_row_of_minus_infinity_gets_zero(id, name):
    """As scores have it that a mask has set: no weight, and no gradient."""
    case = make(id, 1, (2,))
    if name is None:
        lowest = [np.full_like(l, -math.inf) for l in case["log_denominators"]]
        case = case.with_args(log_denominators=lowest)
    else:
        case = case.with_args(**{name: np.full_like(case[name], -math.inf)})
    (y,) = outputs(case())
    assert np.array_equal(y, np.zeros_like(y))
    for slope in gradients(case, [np.ones_like(y)], paths_of(case)):
        assert np.array_equal(slope, np.zeros_like(slope))


# --- What counts as an array ----------------------------------------------------------------------


def assert_refused(case: Case, path: Path, value: Any, got: str) -> None:
    with pytest.raises(TypeError) as error:
        changed(case, path, value)()
    message = str(error.value)
    assert message.startswith(f"{opening(case.id)}argument {named(path)}: expected "), message
    assert message.endswith(f", got {got}"), message


STRANGE = [
    *(np.dtype(d) for d in ("c8", "c16", "O", "U3", "S3", "M8[s]", "m8[s]", "V4")),
    np.dtype([("x", "f4")]),
]
NOT_FLOATS = [*STRANGE, *(np.dtype(d) for d in ("i8", "u1", "?", "g"))]


def arrays_in(case: Case) -> Iterator[tuple[Path, str, np.ndarray]]:
    """Yield path, kind and value of every array that a formula takes, `like` included."""
    for path, argument, x in shaped(case):
        yield path, argument.kind, x
    if case.args.get("like") is not None:
        of_floats = any(each.kind == "float" for each in registry[case.id].signature.returns)
        yield ("like",), "float" if of_floats else "any", case["like"]


@each_of_arrays
def test_other_dtypes_are_refused_wherever_an_array_comes_in(id):
    """Complex, object, text, dates, records, integers and extended precision, one after another."""
    case = make(id, 5, (2,))
    for path, kind, x in arrays_in(case):
        for dtype in {"float": NOT_FLOATS, "bool": [*STRANGE, np.dtype("f8")], "any": STRANGE}[
            kind
        ]:
            assert_refused(case, path, np.zeros(x.shape, dtype), dtype.name)


@each_of_arrays
def test_extended_precision_is_refused_as_a_whole(id):
    """Neither scipy nor LAPACK has it: some formulas would work, others fail within."""
    case = make(id, 5, (2,))
    wide = tree_map(lambda x: x.astype(np.longdouble) if x.dtype.kind == "f" else x, case.args)
    accepted = "expected one of the dtypes float16, float32, float64 or bfloat16, got "
    with pytest.raises(TypeError) as error:
        case.function(**wide)
    assert str(error.value).startswith(f"{opening(id)}argument ")
    assert accepted + np.dtype(np.longdouble).name in str(error.value)


class Masked(np.ma.MaskedArray):
    """A masked array of another name."""


@each_of_arrays
def test_what_is_no_plain_array_is_refused_wherever_an_array_comes_in(id):
    """Masked arrays and matrices, whose operators differ; sparse matrices, lists and numbers."""
    case = make(id, 6, (2,))
    for path, _, x in arrays_in(case):
        assert_refused(case, path, np.ma.masked_array(x), "MaskedArray")
        assert_refused(case, path, np.ma.masked_array(x).view(Masked), "Masked")
        assert_refused(case, path, x.tolist(), "list")
        assert_refused(case, path, 1.0, "float")
        assert_refused(case, path, scipy.sparse.csr_array(np.eye(2)), "csr_array")
        if x.ndim == 2:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", PendingDeprecationWarning)
                assert_refused(case, path, np.asmatrix(x), "matrix")


class Subclass(np.ndarray):
    """As libraries derive them, for units or for labels."""


@each_of_arrays
def test_subclasses_give_plain_arrays(id):
    """The same numbers, as NumPy's own arrays; gradients as well."""
    case = make(id, 7, (2,))
    derived = case.with_args(**tree_map(lambda x: x.view(Subclass), case.args))
    expected, found = outputs(case()), outputs(derived())
    paths = paths_of(case)
    if paths:
        weights = weights_of(case, expected)
        expected += gradients(case, weights, paths)
        found += gradients(derived, weights, paths)
    for a, b in zip(found, expected, strict=True):
        assert type(a) is type(b)
        assert not isinstance(a, Subclass)
        assert np.array_equal(a, b, equal_nan=True)


@each_of_arrays
def test_any_memory_layout_gives_the_same(id):
    """Reversed, repeated along an axis of stride 0, and on addresses that are not aligned."""
    case = make(id, 8, (2,))

    def reversed_in_memory(x: np.ndarray) -> np.ndarray:
        back = (slice(None, None, -1),) * x.ndim
        return x[back].copy()[back]

    def unaligned(x: np.ndarray) -> np.ndarray:
        raw = np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
        raw[...] = x
        return raw

    def repeated(x: np.ndarray) -> np.ndarray:
        return np.broadcast_to(x[:1], x.shape) if x.ndim else x

    pairs = [(reversed_in_memory, lambda x: x), (unaligned, lambda x: x), (repeated, copied)]
    for change, same in pairs:
        base = case.with_args(
            **tree_map(repeated if change is repeated else lambda x: x, case.args)
        )
        assert_close(
            case.function(**tree_map(change, case.args)),
            case.function(**tree_map(same, base.args)),
            within=1e-13,
        )


def copied(x: np.ndarray) -> np.ndarray:
    return np.array(x)


WITHOUT_AXES = [
    id
    for id in OF_ARRAYS
    if registry[id].signature.arguments
    and all(not a.shape.before + a.shape.after for a in registry[id].signature.arguments)
]


@pytest.mark.parametrize("id", WITHOUT_AXES)
@pytest.mark.parametrize("make_number", [np.asarray, np.float64], ids=["array", "scalar"])
def test_a_number_is_an_array_without_axes(id, make_number):
    """0-d arrays and NumPy's scalars: the result has no axes, and the dtype."""
    case = make(id, 9)
    (name,) = (a.name for a in registry[id].signature.arguments)
    y = case(**{name: make_number(0.7)})
    assert (y.shape, y.dtype) == ((), np.float64)
    assert y == case(**{name: np.asarray([0.7])})[0]


# --- Arguments left out, and numbers --------------------------------------------------------------


def parameters_of(id: str) -> Iterator[inspect.Parameter]:
    yield from inspect.signature(registry[id].function).parameters.values()


@each_formula
def test_none_for_a_required_argument_is_refused(id):
    """By position and by keyword, with the argument's name; nothing is computed from it."""
    case = make(id, 2)
    for given in parameters_of(id):
        if given.default is not given.empty:
            continue
        message = re.escape(f"{opening(id)}argument {given.name}: expected ")
        with pytest.raises((TypeError, vtnp.FormulaError), match=f"^{message}"):
            case(**{given.name: None})
        if given.kind is given.KEYWORD_ONLY:
            continue
        positional, rest = [], dict(case.args)
        for each in parameters_of(id):
            if each.name not in rest or each.kind is each.KEYWORD_ONLY:
                break
            value = rest.pop(each.name)
            positional.append(None if each.name == given.name else value)
        with pytest.raises((TypeError, vtnp.FormulaError), match=f"^{message}"):
            case.function(*positional, **rest)


@each_formula
def test_a_default_given_is_a_default_left_out(id):
    """To the bit, None included, wherever the case itself leaves the argument out."""
    case = make(id, 3)
    left_out = [
        each
        for each in parameters_of(id)
        if each.default is not each.empty and each.name not in case.args
    ]
    given = {each.name: each.default for each in left_out}
    for a, b in zip(outputs(case(**given)), outputs(case()), strict=True):
        assert np.array_equal(a, b, equal_nan=True)


def numbers_of(id: str) -> list[str]:
    hints = typing.get_type_hints(inspect.unwrap(registry[id].function))
    return [
        name for name, hint in hints.items() if float in alternatives(hint) and name != "return"
    ]


WITH_NUMBER = [id for id in IDS if numbers_of(id)]


@pytest.mark.parametrize("id", WITH_NUMBER)
def test_any_real_number_is_accepted_and_nothing_else(id):
    """Python's and NumPy's, fractions too, as the float that they are nearest to."""
    case = make(id, 4)
    for name in numbers_of(id):
        for value in (1, np.int64(1), np.float32(1), np.float16(1), Fraction(1), np.uint8(1)):
            for a, b in zip(
                outputs(case(**{name: value})), outputs(case(**{name: 1.0})), strict=True
            ):
                assert a.dtype == b.dtype
                assert np.array_equal(a, b, equal_nan=True)
        for value in (
            True, np.True_, "1", b"1", 1j, math.nan, np.float32("nan"), Decimal(1), 10**400,
            np.asarray(1.0), [1.0], object,
        ):  # fmt: skip
            with pytest.raises(vtnp.FormulaError) as error:
                case(**{name: value})
            message = f"{opening(id)}argument {name}: expected a number, got {value!r}"
            assert str(error.value) == message


# --- Gradients, objects, threads ------------------------------------------------------------------


@each_differentiable
def test_a_gradient_does_not_depend_on_what_else_is_differentiated(id):
    """One array among plain ones has the gradient that it has among differentiated ones."""
    case = make(id, 10)
    paths = paths_of(case)
    weights = weights_of(case, outputs(case()))
    for path, expected in list(zip(paths, gradients(case, weights, paths), strict=True))[
        :: max(1, len(paths) - 1)
    ]:
        (alone,) = gradients(case, weights, [path])
        assert alone.dtype == expected.dtype
        assert_close(alone, expected, within=1e-13, what=str(path))


@pytest.mark.parametrize("other", [None, np.ones(3), 2.0])
def test_one_differentiated_array_is_enough(other):
    """Of several arrays any may be the one that is differentiated."""

    def kinds(x: Any) -> Any:
        for arrays in ((x, other), (other, x), (other, x, other)):
            assert hasattr(namespace(*arrays).sum(x), "_trace"), arrays
        return namespace(x).sum(x)

    assert make_vjp(kinds)(np.ones(3))[0](1.0).shape == (3,)
    assert namespace(other, np.ones(3)) is namespace(np.ones(3))


@each_formula
def test_a_formula_is_one_object(id):
    """Copies and what pickle restores are the object itself, so that it is a key of dicts."""
    formula = vtnp.formula(id)
    assert pickle.loads(pickle.dumps(formula)) is formula
    assert copy.copy(formula) is formula
    assert copy.deepcopy([formula])[0] is formula
    assert {formula: 1}[vtnp.formula(id)] == 1
    assert formula != id
    assert pickle.loads(pickle.dumps(formula.function)) is formula.function
    assert copy.deepcopy(formula.function) is formula.function


@contextmanager
def noted() -> Iterator[list[str]]:
    calls: list[str] = []

    def note(call: vtnp.Call, proceed: Any) -> Any:
        calls.append(call.id)
        return proceed(call)

    with vtnp.intercept(note):
        yield calls


def in_a_thread(task: Any, *args: Any) -> None:
    thread = threading.Thread(target=task, args=args)
    thread.start()
    thread.join()


@each_formula
def test_a_thread_starts_without_handlers(id):
    """It has those of whoever starts it where it is given a copy of the context."""
    case = make(id, 11)
    with noted() as calls:
        in_a_thread(case)
        assert calls == []
        in_a_thread(copy_context().run, case)
        assert calls[0] == id
        assert calls.count(id) == 1


@each_formula
def test_blocks_may_be_left_in_any_order(id):
    """As generators leave them. Each block takes away its own handler; none stays behind."""
    case = make(id, 11)

    def block(calls: list[list[str]]) -> Iterator[None]:
        with noted() as own:
            calls.append(own)
            yield

    calls: list[list[str]] = []
    first, second = block(calls), block(calls)
    next(first)
    next(second)
    case()
    first.close()
    case()
    second.close()
    case()
    assert [own.count(id) for own in calls] == [1, 2]
