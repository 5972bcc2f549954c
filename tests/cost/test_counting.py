"""Arrays without numbers have NumPy's shapes, dtypes and layouts, and operations are counted."""

import gc
import math
from collections.abc import Mapping

import array_api_compat.numpy as xnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.formulas.test_formulas import DIFFERENTIABLE_IDS, IDS, outputs
from tests.support.strategies import BATCHES
from tests.support.trees import floats, leaves, tree_map
from vtnp import cost
from vtnp._array.xp import NAMES
from vtnp.claims.cases import make
from vtnp.cost import CostArray, Ledger, memory_layout, namespace
from vtnp.encoder import attention


def without_numbers(tree, ledger=None):
    """Replace the arrays of a tree by those of one ledger, as new and contiguous."""
    ledger = Ledger() if ledger is None else ledger
    return tree_map(lambda x: ledger.array(np.shape(x), x.dtype), tree)


# --- Every formula --------------------------------------------------------------------------------


@pytest.mark.parametrize("id", IDS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_results_have_numpys_shapes_and_dtypes(id, seed):
    case = make(id, seed, BATCHES[seed])
    args = tree_map(lambda x: x.astype(np.float32) if x.dtype.kind == "f" else x, case.args)
    found = case.function(**without_numbers(args))
    expected = case.function(**args)
    if not isinstance(expected, tuple):
        found, expected = (found,), (expected,)
    assert len(found) == len(expected)
    for y, expected_y in zip(found, expected, strict=True):
        if not hasattr(expected_y, "dtype"):
            assert y == expected_y
            continue
        assert isinstance(y, CostArray) or not list(leaves(args)), "it left vtnp.cost"
        assert y.shape == expected_y.shape
        assert y.dtype == expected_y.dtype


@pytest.mark.parametrize("id", IDS)
def test_counting_is_of_shapes_alone(id):
    """Given NumPy's arrays, in whatever layout, it counts the same."""
    case = make(id, 3, (2,))
    on_numpy = cost.counted(case.function, **case.args)
    turned = tree_map(np.asfortranarray, case.args)
    assert cost.counted(case.function, **turned) == on_numpy
    assert cost.counted(case.function, **without_numbers(case.args)) == on_numpy
    results = [y for y in outputs(case()) if list(leaves(case.args))]
    assert on_numpy.result_bytes == sum(y.nbytes for y in results)
    assert on_numpy.argument_bytes == sum(np.asarray(x).nbytes for _, x in leaves(case.args))
    assert on_numpy.peak_bytes >= on_numpy.argument_bytes


@pytest.mark.parametrize("id", DIFFERENTIABLE_IDS)
def test_gradients_are_counted(id):
    """There is one for every real array, and it takes no less than the value alone."""
    case = make(id, 4, (2,))
    value, both = (
        count(case.function, **case.args) for count in (cost.counted, cost.counted_gradient)
    )
    assert both.result_bytes == sum(x.nbytes for _, x in floats(case.args))
    weights = sum(y.nbytes for y in outputs(case()) if y.dtype.kind == "f")
    assert value.argument_bytes <= both.argument_bytes <= value.argument_bytes + weights
    assert both.multiply_adds >= value.multiply_adds
    assert both.bytes_written >= value.bytes_written


def test_a_gradient_of_attention_takes_three_times_the_multiply_adds():
    """Each product of matrices has two gradients, each a product of the same size."""
    Q, K, V = (cost.array(shape, "float32") for shape in ((1000, 64), (700, 64), (700, 32)))
    value, both = (count(attention, Q, K, V) for count in (cost.counted, cost.counted_gradient))
    assert value.multiply_adds == 1000 * 700 * (64 + 32)
    assert both.multiply_adds == 3 * value.multiply_adds


# --- The names of the standard --------------------------------------------------------------------


def test_there_is_every_name_that_formulas_may_use():
    homes = {"": namespace, "linalg": namespace.linalg}
    paths = [name.rpartition(".") for name in NAMES]
    missing = [name for home, _, name in paths if not hasattr(homes[home], name)]
    assert not missing


X = np.arange(24.0, dtype=np.float32).reshape(2, 3, 4)
Y = X[:, :1] + 1
INTEGERS = np.arange(24).reshape(2, 3, 4)
MASK = X > 3
CALLS = {
    "add": lambda xp, x, y, n, m: x + y,
    "minus a number": lambda xp, x, y, n, m: 1.5 - x,
    "integer arithmetic": lambda xp, x, y, n, m: n * 2 // 3 % 5,
    "divide integers": lambda xp, x, y, n, m: n / 2,
    "power": lambda xp, x, y, n, m: -(x**2) + abs(x),
    "matmul operator": lambda xp, x, y, n, m: x @ xp.matrix_transpose(y),
    "compare": lambda xp, x, y, n, m: (x < y) & (x != 2.0) | ~m,
    "where": lambda xp, x, y, n, m: xp.where(m, x, 0.0),
    "where both": lambda xp, x, y, n, m: xp.where(m, x, y),
    "clip": lambda xp, x, y, n, m: xp.clip(x, 0.0, 1.0),
    "exp of integers": lambda xp, x, y, n, m: xp.exp(xp.astype(n, xp.float64)),
    "floor": lambda xp, x, y, n, m: xp.floor(x),
    "sum": lambda xp, x, y, n, m: xp.sum(x, axis=(0, -1)),
    "sum kept": lambda xp, x, y, n, m: xp.sum(x, axis=1, keepdims=True),
    "sum of all": lambda xp, x, y, n, m: xp.sum(n),
    "mean": lambda xp, x, y, n, m: xp.mean(x, axis=-1),
    "max": lambda xp, x, y, n, m: xp.max(x, axis=(-2, -1), keepdims=True),
    "any": lambda xp, x, y, n, m: xp.any(m, axis=0),
    "argmin": lambda xp, x, y, n, m: xp.argmin(x, axis=-1),
    "argsort": lambda xp, x, y, n, m: xp.argsort(x, axis=-1),
    "cumulative sum": lambda xp, x, y, n, m: xp.cumulative_sum(x, axis=1),
    "vecdot": lambda xp, x, y, n, m: xp.vecdot(x, y, axis=-1),
    "vecdot of other axes": lambda xp, x, y, n, m: xp.vecdot(x, x, axis=-2),
    "tensordot": lambda xp, x, y, n, m: xp.tensordot(x, y, axes=((0, 2), (0, 2))),
    "tensordot of last": lambda xp, x, y, n, m: xp.tensordot(x, xp.moveaxis(x, 0, -1), axes=2),
    "matrix and vector": lambda xp, x, y, n, m: x @ y[0, 0],
    "vector and matrix": lambda xp, x, y, n, m: x[0, 0] @ xp.moveaxis(x, -1, -2),
    "permuted": lambda xp, x, y, n, m: xp.permute_dims(x, (2, 0, 1)),
    "expanded": lambda xp, x, y, n, m: xp.expand_dims(x, axis=-1),
    "squeezed": lambda xp, x, y, n, m: xp.squeeze(y, axis=1),
    "flipped": lambda xp, x, y, n, m: xp.flip(x, axis=1),
    "rolled": lambda xp, x, y, n, m: xp.roll(x, 2, axis=0),
    "repeated": lambda xp, x, y, n, m: xp.repeat(x, 3, axis=1),
    "tiled": lambda xp, x, y, n, m: xp.tile(x, (2, 1, 1, 2)),
    "reshaped": lambda xp, x, y, n, m: xp.reshape(x, (6, -1)),
    "concat": lambda xp, x, y, n, m: xp.concat([x, y, x], axis=1),
    "concat of all": lambda xp, x, y, n, m: xp.concat([x, y], axis=None),
    "stack": lambda xp, x, y, n, m: xp.stack([x, x], axis=-1),
    "unstack": lambda xp, x, y, n, m: xp.unstack(x, axis=1)[2],
    "broadcast": lambda xp, x, y, n, m: xp.broadcast_arrays(x, y)[1],
    "take": lambda xp, x, y, n, m: xp.take(x, xp.asarray([0, 2, 1, 1], device=x.device), axis=1),
    "take along": lambda xp, x, y, n, m: xp.take_along_axis(x, xp.argsort(y, axis=1), axis=1),
    "lower": lambda xp, x, y, n, m: xp.tril(x),
    "zeros": lambda xp, x, y, n, m: xp.zeros((3, 2), dtype=xp.float32, device=x.device),
    "ones like": lambda xp, x, y, n, m: xp.ones_like(n),
    "full": lambda xp, x, y, n, m: xp.full((3,), 2.5, device=x.device),
    "eye": lambda xp, x, y, n, m: xp.eye(3, 4, dtype=xp.float32, device=x.device),
    "arange": lambda xp, x, y, n, m: xp.arange(1, 10, 4, device=x.device),
    "arange of reals": lambda xp, x, y, n, m: xp.arange(2.5, device=x.device),
    "linspace": lambda xp, x, y, n, m: xp.linspace(0.0, 1.0, 7, device=x.device),
    "pinv": lambda xp, x, y, n, m: xp.linalg.pinv(x),
    "inv": lambda xp, x, y, n, m: xp.linalg.inv(y @ xp.matrix_transpose(y)),
    "indexed": lambda xp, x, y, n, m: x[..., None, 1:, ::-2],
    "an element": lambda xp, x, y, n, m: x[1, -1, 0],
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_a_name_gives_numpys_shape_and_dtype(name):
    arrays = X, Y, INTEGERS, MASK
    y = CALLS[name](namespace, *without_numbers(list(arrays)))
    expected = np.asarray(CALLS[name](xnp, *arrays))
    assert (y.shape, y.dtype) == (expected.shape, expected.dtype)


NO_NUMBERS = "has no values to convert or compare"
WRONG = {
    "bool": (bool, TypeError, NO_NUMBERS),
    "float": (lambda x: float(x[0, 0, 0]), TypeError, NO_NUMBERS),
    "int": (lambda x: int(x[0, 0, 0]), TypeError, NO_NUMBERS),
    "index": (lambda x: range(x[0, 0, 0]), TypeError, NO_NUMBERS),
    "comparison": (lambda x: 1 if x > 0 else 2, TypeError, NO_NUMBERS),
    "length": (lambda x: len(x[0, 0, 0]), TypeError, "without axes has no length"),
    "numpy-right": (lambda x: x + np.ones(4), TypeError, "ndarray combined with an array"),
    "numpy-left": (
        lambda x: np.ones(4) + x,
        TypeError,
        "ndarray combined with an array|unsupported operand",
    ),
    "broadcast": (lambda x: x + x[:, :2], ValueError, "do not broadcast together"),
    "matmul": (lambda x: x @ x, ValueError, "the axes summed over have sizes 4 and 3"),
    "index-outside": (lambda x: x[3], IndexError, "index 3 is out of bounds for an axis of size 2"),
    "mask-as-index": (lambda x: x[x > 0], IndexError, "no basic index"),
    "reshape": (lambda x: namespace.reshape(x, (5, -1)), ValueError, "24 elements do not fill"),
    "squeeze": (lambda x: namespace.squeeze(x, 0), ValueError, "not all of size 1"),
    "permutation": (
        lambda x: namespace.permute_dims(x, (0, 0, 1)),
        ValueError,
        "not a permutation of 3 axes",
    ),
    "concat": (lambda x: namespace.concat([x, x[:, :, :1]], axis=0), ValueError, "do not join"),
    "axis": (lambda x: namespace.sum(x, axis=3), ValueError, "axis 3 is out of bounds"),
    "broadcast-to": (
        lambda x: namespace.broadcast_to(x, (3, 4)),
        ValueError,
        "does not broadcast to",
    ),
    "no-ledger": (
        lambda x: namespace.asarray([1.0]),
        TypeError,
        "no argument is an array of vtnp.cost: pass device=",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_is_refused(name):
    wrong, error, message = WRONG[name]
    with pytest.raises(error, match=message):
        wrong(cost.array((2, 3, 4)))


# --- Where the elements lie -----------------------------------------------------------------------


def layout_of(x):
    return memory_layout.MemoryLayout(x.shape, tuple(step // x.itemsize for step in x.strides))


def assert_alike(layout, y):
    """Strides along axes of one element, and of empty arrays, are arbitrary."""
    assert layout.shape == y.shape
    expected = layout_of(y)
    if y.size:
        for n, stride, stride_of_y in zip(
            layout.shape, layout.strides, expected.strides, strict=True
        ):
            assert n == 1 or stride == stride_of_y, (layout, expected)


@st.composite
def strided(draw, shape=None):
    """Draw an array whose axes lie in any order, forwards, backwards, with gaps, or repeated."""
    if shape is None:
        shape = draw(st.lists(st.sampled_from([1, 2, 3, 4, 6]), max_size=4))
    order = draw(st.permutations(range(len(shape))))
    steps = [draw(st.sampled_from([1, 1, 1, 2, -1, 0])) for _ in shape]
    x = np.zeros([1 if steps[i] == 0 else abs(steps[i]) * shape[i] for i in order])
    x = np.transpose(x, np.argsort(order)) if shape else x
    x = x[tuple(slice(None, None, step or 1) for step in steps)]
    return np.broadcast_to(x, shape)


@given(x=strided(), data=st.data())
def test_reshape_looks_or_copies_as_numpy_does(x, data):
    shape = data.draw(st.permutations(parts(x.size, data) + x.ndim * [1]))
    view = memory_layout.reshaped(layout_of(x), tuple(shape))
    try:
        y = np.reshape(x, shape, copy=False)
    except ValueError:
        assert view is None
        y, view = np.reshape(x, shape), memory_layout.contiguous(shape)
    assert view is not None, "NumPy need not copy"
    assert_alike(view, y)


@given(x=strided(), data=st.data())
def test_neighbouring_axes_merge_as_numpys_do(x, data):
    """Shapes that differ in one merged axis: views are common among these."""
    if x.ndim < 2:
        return
    at = data.draw(st.integers(0, x.ndim - 2))
    shape = (*x.shape[:at], x.shape[at] * x.shape[at + 1], *x.shape[at + 2 :])
    view = memory_layout.reshaped(layout_of(x), shape)
    assert (view is not None) == np.may_share_memory(x, np.reshape(x, shape))


def parts(n, data):
    """Return numbers of that product."""
    found = []
    while n > 1:
        divisor = data.draw(st.sampled_from([d for d in range(2, n + 1) if n % d == 0]))
        found.append(divisor)
        n //= divisor
    return found


@given(data=st.data())
def test_results_of_elementwise_operations_lie_as_numpys_do(data):
    x = data.draw(strided())
    y = data.draw(strided([data.draw(st.sampled_from([1, n])) for n in x.shape]))
    assert_alike(memory_layout.alike(x.shape, layout_of(x), layout_of(y)), np.add(x, y))
    assert_alike(memory_layout.alike(x.shape, layout_of(x)), np.exp(x))


@given(x=strided(), data=st.data())
def test_indices_permutations_and_repetitions_are_numpys(x, data):
    taken = [data.draw(st.integers(-n, n - 1) | st.slices(n)) for n in x.shape]
    before, after = sorted(data.draw(st.tuples(*[st.integers(0, x.ndim)] * 2)))
    # Entries before an ellipsis are of the first axes, those behind it of the last.
    entries = [*taken[:before], ..., *taken[after:]] if data.draw(st.booleans()) else taken[:after]
    for _ in range(data.draw(st.integers(0, 2))):
        entries.insert(data.draw(st.integers(0, len(entries))), None)
    index = tuple(entries)
    kept = index if ... in index else (*index, ...)  # a view, not a number, where all axes go
    assert_alike(memory_layout.indexed(layout_of(x), index), x[kept])
    axes = data.draw(st.permutations(range(x.ndim)))
    assert_alike(memory_layout.permuted(layout_of(x), axes), np.transpose(x, axes))
    wide = (data.draw(st.integers(1, 3)), *(n if n > 1 else 5 for n in x.shape))
    assert_alike(memory_layout.broadcast(layout_of(x), wide), np.broadcast_to(x, wide))


# --- What is counted, by hand ---------------------------------------------------------------------


def of(function, *arrays):
    return cost.counted(function, *arrays)


def test_a_product_of_matrices():
    found = of(namespace.matmul, cost.array((2, 3), "float32"), cost.array((3, 5), "float32"))
    assert found.multiply_adds == 2 * 3 * 5
    assert found.operations == {}
    assert found.bytes_read == 4 * (6 + 15)
    assert found.bytes_written == found.result_bytes == 4 * 10
    assert found.argument_bytes == 4 * (6 + 15)
    assert found.peak_bytes == 4 * (6 + 15 + 10)


def test_what_is_no_longer_named_is_no_longer_alive():
    x = cost.array((10,))  # 80 bytes
    chain = of(lambda x: (x + 1.0) * 2.0 - 3.0, x)
    assert chain.operations == {"add": 10, "multiply": 10, "subtract": 10}
    assert chain.peak_bytes == 3 * 80  # the argument, one operand and one result

    def all_named(x):
        y = x + 1.0
        z = y * 2.0
        return z - 3.0

    assert of(all_named, x).peak_bytes == 4 * 80
    assert of(lambda x: [x + 1.0, x + 2.0, x + 3.0], x).peak_bytes == 4 * 80


def test_views_take_no_memory():
    def looked_at(x):
        y = namespace.permute_dims(x, (1, 0))[::2]
        return namespace.broadcast_to(namespace.reshape(x, (1, 20)), (1000, 20)), y

    found = of(looked_at, cost.array((4, 5)))
    assert found.peak_bytes == found.argument_bytes == 160
    assert found.bytes_read == found.bytes_written == 0


def test_a_reshape_that_has_to_copy_does():
    found = of(
        lambda x: namespace.reshape(namespace.matrix_transpose(x), (20,)), cost.array((4, 5))
    )
    assert found.bytes_read == found.bytes_written == 160
    assert found.peak_bytes == 320
    assert found.operations == {}


def test_what_is_repeated_is_read_once():
    def add(x):
        return namespace.broadcast_to(x, (1000, 4)) + 1.0

    found = of(add, cost.array((1, 4)))
    assert found.bytes_read == 32
    assert found.bytes_written == 32_000
    assert found.operations == {"add": 4000}


def test_sums_count_what_is_added():
    x = cost.array((6, 7))
    assert of(lambda x: namespace.sum(x, axis=1), x).operations == {"add": 6 * 6}
    assert of(namespace.mean, x).operations == {"add": 41, "divide": 1}
    assert of(lambda x: namespace.max(x, axis=0), x).operations == {"maximum": 5 * 7}
    assert of(namespace.argsort, x).operations == {"less": 42 * 3}
    assert of(lambda x: namespace.sum(x[:0], axis=0), x).operations == {}


def test_rules_for_what_depends_on_numbers():
    square, wide = cost.array((3, 5, 5)), cost.array((5, 8))
    assert of(namespace.linalg.pinv, wide).operations == {"pinv": 5 * 8 * 5}
    assert of(namespace.linalg.inv, square).operations == {"inv": 3 * 5**3}
    index = cost.array((6,), "int64")
    taken = of(lambda x, i: namespace.take(x, i, axis=0), wide, index)
    assert taken.bytes_read == 8 * 6 + 8 * 6 * 8  # the indices, and the elements gathered
    gradient = cost.counted_gradient(lambda x, i: namespace_of(x).take(x, i, axis=0), wide, index)
    assert gradient.operations["add"] == 6 * 8


def namespace_of(x):
    from vtnp._array.xp import namespace

    return namespace(x)


def test_a_gradient_counts_what_it_takes_and_no_more():
    """One product for the value and one for each factor, none of them added to zeros."""
    x, y = cost.array((10,)), cost.array((10,))  # 80 bytes each
    found = cost.counted_gradient(lambda x, y: x * y, x, y)
    assert found.operations == {"multiply": 30}
    assert found.bytes_read == 3 * 160
    assert found.bytes_written == 3 * 80
    assert found.argument_bytes == 3 * 80  # with the weight of the result
    twice = cost.counted_gradient(lambda x: x * x, x)
    assert twice.operations == {"multiply": 30, "add": 10}
    unused = cost.counted_gradient(lambda x, y: x * 2.0, x, y)
    assert unused.operations == {"multiply": 20}
    assert unused.result_bytes == 160  # the gradient of an unused argument is an array of zeros
    assert cost.counted_gradient(lambda x: cost.array((3,)), x).result_bytes == 80


def test_softmax_by_hand():
    """Shift, exponentials, their sum, a quotient; two `where` for each vector."""
    from vtnp.encoder import softmax

    found = of(softmax, cost.array((10, 4), "float16"))
    assert found.multiply_adds == 0
    assert found.operations == {
        "maximum": 30, "equal": 20, "where": 20, "subtract": 40, "exp": 40, "add": 30, "divide": 40,
    }  # fmt: skip
    # At the quotient: x, its exponentials and the result; three elements for each vector.
    assert found.peak_bytes == 2 * (3 * 40 + 3 * 10)


def test_nothing_stays_alive():
    ledger = Ledger()
    args = without_numbers(make("dilated-attention", 0, (2,)).args, ledger)
    before = ledger.allocated_bytes
    result = make("dilated-attention", 0).function(**args)
    gc.collect()
    assert ledger.allocated_bytes == before + math.prod(result.shape) * result.dtype.itemsize
    del result
    gc.collect()
    assert ledger.allocated_bytes == before


def test_a_cost_says_all_of_itself():
    found = of(attention, *(cost.array((2, 3)) for _ in "QKV"))
    assert isinstance(found.operations, Mapping)
    assert list(found.operations) == sorted(found.operations)
    assert repr(cost.array((2, 3), "float16")) == "CostArray((2, 3), float16)"
    assert repr(Ledger()) == "cost"
