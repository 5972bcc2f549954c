"""Options of a formula: the values that each kind accepts, and the messages for all others."""

import math
import re
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import array_api_strict as strict
import numpy as np
import pytest
from autograd import grad

import vtnp
from vtnp._array.typing import Array, Float
from vtnp._registry.spec import registry, spec

RNG = np.random.default_rng(3)
VIDEO = RNG.normal(size=(4, 6, 8, 3))
Q = RNG.normal(size=(3, 4))
ONE, ZERO = np.ones(4), np.zeros(4)
PATCHES = np.ones((2, 6, 4))


E = vtnp.encoder


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: E.causal_mask(2.0, like=Q), "n: expected an integer, got 2.0"),
        (lambda: E.causal_mask(True, like=Q), "n: expected an integer, got True"),
        (lambda: E.causal_mask("3", like=Q), "n: expected an integer, got '3'"),
        (lambda: E.causal_mask(None, like=Q), "n: expected an integer, got None"),
        (lambda: E.attention(Q, Q, Q, scale=math.nan), "scale: expected a number, got nan"),
        (lambda: E.attention(Q, Q, Q, scale="2"), "scale: expected a number, got '2'"),
        (lambda: E.attention(Q, Q, Q, scale=True), "scale: expected a number, got True"),
        (lambda: E.attention(Q, Q, Q, scale=1j), "scale: expected a number, got 1j"),
        (
            lambda: E.attention(Q, Q, Q, scale=np.ones(3)),
            "scale: expected a number, got array([1., 1., 1.])",
        ),
        (lambda: E.layer_norm(Q, ONE, ZERO, eps=math.nan), "eps: expected a number, got nan"),
        (lambda: E.layer_norm(Q, ONE, ZERO, eps="1e-6"), "eps: expected a number, got '1e-6'"),
        (lambda: E.layer_norm(Q, ONE, ZERO, eps=None), "eps: expected a number, got None"),
        (
            lambda: E.gelu(Q, approximate=[]),
            "approximate: expected one of 'none', 'tanh', got []",
        ),
        (
            lambda: E.gelu(Q, approximate="fast"),
            "approximate: expected one of 'none', 'tanh', got 'fast'",
        ),
        (
            lambda: E.gelu(Q, approximate=None),
            "approximate: expected one of 'none', 'tanh', got None",
        ),
        (
            lambda: E.feed_forward(Q, Q.T, Q, activation="tanh"),
            "activation: expected one of 'relu', 'gelu', 'gelu_tanh', got 'tanh'",
        ),
    ],
)
def test_a_value_of_another_kind_is_refused(call, message):
    """The message names the formula, its page, the argument, what was expected and what came."""
    with pytest.raises(vtnp.FormulaError) as error:
        call()
    formula, _, rest = str(error.value).partition(": argument ")
    id = formula.partition(" ")[0]
    assert formula == f"{id} (spec/encoder/{id}.md)"
    assert rest == message


class Box(NamedTuple):
    """An option of several numbers, the last of which has a default."""

    h: int
    w: int
    depth: float = 1.0


@pytest.fixture
def options():
    """A formula that returns its options as it gets them, and lives for one test."""

    @spec("made-up", requires=("box is None or box.h <= box.w",))
    def made_up(
        x: Float[Array, " n"],
        *,
        box: Box | None = None,
        sizes: tuple[int, int] = (1, 1),
        many: Sequence[int] = (),
        boxes: Sequence[Box] = (),
        kind: Literal["a", "b"] | None = None,
        flag: bool = False,
        name: str = "",
    ) -> Any:
        return {"box": box, "sizes": sizes, "many": many, "boxes": boxes, "kind": kind}

    yield lambda **arguments: made_up(np.ones(2), **arguments)
    del registry["made-up"]


@pytest.mark.parametrize(
    "value",
    [(2, 3), [2, 3], np.asarray([2, 3]), (np.int64(2), 3), Box(2, 3), (2, 3, 1), [2, 3, 1.0]],
)
def test_a_named_tuple_is_made_of_any_sequence(options, value):
    box = options(box=value)["box"]
    assert (type(box), type(box.h), type(box.depth)) == (Box, int, float)
    assert box == Box(2, 3, 1.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"box": (2,)}, "argument box: expected Box(h, w, depth), got (2,)"),
        ({"box": (2, 3, 1.0, 4)}, "argument box: expected Box(h, w, depth), got (2, 3, 1.0, 4)"),
        ({"box": (2.0, 3)}, "argument box.h: expected an integer, got 2.0"),
        ({"box": Box(2, True)}, "argument box.w: expected an integer, got True"),
        ({"box": (2, 3, "deep")}, "argument box.depth: expected a number, got 'deep'"),
        ({"box": "23"}, "argument box: expected Box(h, w, depth), got '23'"),
        ({"box": 5}, "argument box: expected Box(h, w, depth), got 5"),
        (
            {"box": {"h": 2, "w": 3}},
            "argument box: expected Box(h, w, depth), got {'h': 2, 'w': 3}",
        ),
        (
            {"box": (3, 2)},
            "expected box is None or box.h <= box.w, got box = Box(h=3, w=2, depth=1.0)",
        ),
        ({"sizes": 5}, "argument sizes: expected 2 integers, got 5"),
        ({"sizes": (1, 2, 3)}, "argument sizes: expected 2 integers, got (1, 2, 3)"),
        ({"sizes": (1.0, 2)}, "argument sizes: expected 2 integers, got (1.0, 2)"),
        ({"sizes": "12"}, "argument sizes: expected 2 integers, got '12'"),
        ({"many": 4}, "argument many: expected integers, got 4"),
        ({"many": (1, "2")}, "argument many: expected integers, got (1, '2')"),
        (
            {"boxes": [(1, 2), (3,)]},
            "argument boxes: expected a sequence, each Box(h, w, depth), got [(1, 2), (3,)]",
        ),
        (
            {"boxes": [(1, 2.5)]},
            "argument boxes: expected a sequence, each Box(h, w, depth), got [(1, 2.5)]",
        ),
        ({"kind": "c"}, "argument kind: expected one of 'a', 'b', got 'c'"),
        ({"kind": 1}, "argument kind: expected one of 'a', 'b', got 1"),
        ({"flag": 1}, "argument flag: expected True or False, got 1"),
        ({"flag": "no"}, "argument flag: expected True or False, got 'no'"),
        ({"name": 3}, "argument name: expected a string, got 3"),
    ],
)
def test_each_kind_of_option_is_refused_with_its_own_message(options, arguments, message):
    with pytest.raises(vtnp.FormulaError) as error:
        options(**arguments)
    assert str(error.value) == f"made-up (spec/test_options/made-up.md): {message}"


def test_options_reach_the_formula_as_plain_values(options):
    """Integers are Python's, sequences are tuples, an optional one may be None."""
    n = np.int64(2)
    found = options(sizes=[n, 3], many=np.asarray([4, 5]), boxes=[[1, n]], kind=None)
    assert found == {
        "box": None,
        "sizes": (2, 3),
        "many": (4, 5),
        "boxes": (Box(1, 2),),
        "kind": None,
    }
    integers = (*found["sizes"], *found["many"], found["boxes"][0].w)
    assert {type(each) for each in integers} == {int}
    assert options(kind="b")["kind"] == "b"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: vtnp.tokens.patch_tokens(VIDEO, size=5), "size: expected 3 integers, got 5"),
        (
            lambda: vtnp.tokens.patch_tokens(VIDEO, size=(1, 2)),
            r"size: expected 3 integers, got \(1, 2\)",
        ),
        (
            lambda: vtnp.tokens.patch_tokens(VIDEO, size=(1.0, 2, 2)),
            r"size: expected 3 integers, got \(1.0, 2, 2\)",
        ),
        (
            lambda: vtnp.tokens.patch_tokens(VIDEO, size="122"),
            "size: expected 3 integers, got '122'",
        ),
        (
            lambda: vtnp.tokens.clip_tokens(VIDEO, length=2.0),
            "length: expected an integer, got 2.0",
        ),
        (
            lambda: vtnp.longnet.dilated_attention(
                *[np.ones((1, 4, 2))] * 3, branches=[(4, 1), (4,)], causal=True
            ),
            r"branches: expected a sequence, each Branch\(.*\), got \[\(4, 1\), \(4,\)\]",
        ),
        (
            lambda: vtnp.longnet.dilated_attention(
                *[np.ones((1, 4, 2))] * 3, branches=[(4, 1)], causal=1
            ),
            "causal: expected True or False, got 1",
        ),
        (
            lambda: vtnp.timesformer.width_attention(*[PATCHES] * 3, grid=(2, 3)),
            r"grid: expected Grid\(t, h, w\), got \(2, 3\)",
        ),
        (
            lambda: vtnp.timesformer.class_attention(ONE[None], PATCHES, PATCHES, over="x"),
            "over: expected one of 'space', 'time', .*, got 'x'",
        ),
    ],
)
def test_options_of_every_chapter_are_read(call, message):
    with pytest.raises(vtnp.FormulaError, match=r"^[a-z-]+ \(spec/.*\.md\): argument " + message):
        call()


def test_a_grid_that_does_not_fit_is_refused():
    with pytest.raises(
        vtnp.FormulaError, match=r"^width-attention .*: expected min\(grid\) >= 0, g"
    ):
        vtnp.timesformer.width_attention(*[PATCHES] * 3, grid=(2, -2, -3))
    with pytest.raises(
        vtnp.FormulaError, match=r"^width-attention .*: expected grid.h \* grid.w =="
    ):
        vtnp.timesformer.width_attention(*[PATCHES] * 3, grid=(2, 2, 2))


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.float16])
def test_numpys_numbers_do_not_change_the_dtype(kind):
    """Where NumPy adds a float64 number to float32 arrays, it answers in float64."""
    x, one, zero = (a.astype(np.float32) for a in (Q, ONE, ZERO))
    assert vtnp.encoder.attention(x, x, x, scale=kind(0.5)).dtype == np.float32
    assert vtnp.encoder.layer_norm(x, one, zero, eps=kind(0.5)).dtype == np.float32
    with vtnp.unchecked():
        assert vtnp.encoder.layer_norm(x, one, zero, eps=kind(0.5)).dtype == np.float32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: vtnp.timesformer.class_attention(ONE[None], *[np.ones((0, 6, 4))] * 2),
            r"^class-attention \(.*\): expected t \* s >= 1, got s = 6, t = 0$",
        ),
        (
            lambda: vtnp.positions.relative_attention(
                *[np.ones((3, 0))] * 2, *[np.ones((3, 0))] * 3
            ),
            r"^relative-attention \(.*\): expected d_h >= 1, got d_h = 0$",
        ),
    ],
)
def test_an_average_over_nothing_is_refused(call, message):
    with pytest.raises(vtnp.FormulaError, match=message):
        call()


def test_numpys_integers_and_lists_are_accepted():
    n = np.int64(2)
    expected = vtnp.tokens.patch_tokens(VIDEO, size=(1, 2, 2))
    for size in ([1, 2, 2], (1, n, n), np.asarray([1, 2, 2])):
        assert np.array_equal(vtnp.tokens.patch_tokens(VIDEO, size=size), expected)
    on_strict = strict.asarray(VIDEO)
    wide = vtnp.tokens.sliding_windows(on_strict, size=[n, n, n], stride=[n, n, n])
    assert wide.shape == (2, 3, 4, 2, 2, 2, 3)
    assert vtnp.positions.sinusoidal_positions(np.int64(3), np.int64(4)).shape == (3, 4)
    z = np.ones((2, 6, 4))
    assert vtnp.timesformer.width_attention(z, z, z, grid=[2, n, 3]).shape == z.shape


CANDIDATES = RNG.normal(size=(2, 5, 3))
M = vtnp.motionformer


def chosen(start):
    return M.orthogonal_prototypes(CANDIDATES, 3, start=start)


@pytest.mark.parametrize(
    "start",
    [1.0, True, "1", [0, 1], np.asarray([0.0, 1.0]), np.asarray([True, False])],
    ids=["float", "bool", "string", "list", "array of floats", "array of booleans"],
)
def test_an_index_is_an_integer_or_an_array_of_integers(start):
    with pytest.raises(vtnp.FormulaError) as error:
        chosen(start)
    expected = f"start: expected an integer or an array of integers, got {start!r}"
    assert str(error.value).endswith(f": argument {expected}")


def test_an_index_in_a_field_is_named():
    message = r"argument prototypes.start: expected an integer or an array of integers, got 1.5$"
    with pytest.raises(vtnp.FormulaError, match=message):
        M.trajectory_self_attention(Q, Q, {}, prototypes=(2, "queries", True, 1.5))


def test_an_index_may_be_any_integer_or_plain_array():
    for start in (np.int64(1), np.uint8(1), np.asarray(1), np.asarray([1, 1], np.int32)):
        assert np.array_equal(chosen(start), chosen(1))
    masked = np.ma.masked_array([1, 1], mask=[True, False])
    with pytest.raises(vtnp.FormulaError, match="start: expected an integer or an array of int"):
        chosen(masked)


@pytest.mark.parametrize("rng", [3, "drawn", np.random])
def test_a_generator_is_numpys(rng):
    with pytest.raises(vtnp.FormulaError, match=r"rng: expected a numpy.random.Generator, got "):
        M.orthogonal_prototypes(CANDIDATES, 2, rng=rng)


def test_a_number_beyond_the_floats_is_refused():
    for value in (10**400, -(10**400)):
        with pytest.raises(vtnp.FormulaError, match=r"scale: expected a number, got -?1000"):
            vtnp.encoder.attention(Q, Q, Q, scale=value)


def test_a_number_may_be_differentiated():
    slope = grad(lambda scale: np.sum(1.0) * vtnp.encoder.attention(Q, Q, Q, scale=scale)[0, 0])(
        0.5
    )
    h = 1e-6
    up, down = (vtnp.encoder.attention(Q, Q, Q, scale=0.5 + s)[0, 0] for s in (h, -h))
    assert abs(slope - (up - down) / (2 * h)) < 1e-8


@pytest.mark.parametrize(
    ("like", "message"),
    [
        (None, "expected an array, got NoneType"),
        ([1.0], "expected an array, got list"),
        (Q * 1j, "expected a float or int or bool dtype, got complex128"),
        (Q.astype(object), "expected a float or int or bool dtype, got object"),
        (Q.astype(np.longdouble), f"expected one of the dtypes .*, got {np.dtype('g').name}"),
    ],
)
def test_like_is_checked_as_an_array(like, message):
    with pytest.raises(TypeError, match=rf"^causal-mask \(.*\): argument like: {message}$"):
        vtnp.encoder.causal_mask(3, like=like)


def test_none_for_an_array_that_is_not_optional_is_refused():
    with pytest.raises(TypeError, match=r"^attention .*argument K: expected an array, got NoneT"):
        vtnp.encoder.attention(Q, None, Q)


@pytest.mark.parametrize("hint", [set[int], int | str, tuple[int, float], list[Float[Array, " n"]]])
def test_a_kind_of_option_without_a_check_is_refused(hint):
    def odd(n):
        return n

    odd.__annotations__ = {"n": hint}
    message = f"odd-one (spec/test_options/odd-one.md): argument n: no check for {hint}"
    with pytest.raises(TypeError, match=re.escape(message)):
        spec("odd-one")(odd)
    assert "odd-one" not in registry
