"""Conditions of a formula, `@spec(requires=...)`: what they may name, and their messages."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, NotRequired, TypedDict

import array_api_strict as strict
import dask.array as da
import numpy as np
import pytest
from autograd import grad

import vtnp
from vtnp._array.typing import Array, Float
from vtnp._array.xp import namespace
from vtnp._registry.expressions import ExpressionError, evaluated, names_in
from vtnp._registry.spec import registry, spec

Q, ONE, ZERO = np.ones((3, 4)), np.ones(4), np.zeros(4)
MADE_UP = "made-up (spec/test_requires/made-up.md)"


class Table(TypedDict):
    """Params with an axis of their own."""

    W: Float[Array, "d d_out"]
    b: NotRequired[Float[Array, " d_b"]]


@pytest.fixture
def register():
    """Registers formulas that live for one test, each by its conditions."""
    added = []

    def with_conditions(*requires):
        @spec(f"made-up{'-' * len(added)}", requires=requires)
        def made_up(
            x: Float[Array, "*b n d"],
            *,
            M: Float[Array, "r d"] | None = None,
            l: int = 1,
            sizes: tuple[int, int] = (1, 1),
            factor: float = 1.0,
            more: Mapping[str, Any] | None = None,
        ) -> Float[Array, "*b n d"]:
            return x * factor

        added.append(f"made-up{'-' * len(added)}")
        return made_up

    yield with_conditions
    for id in added:
        del registry[id]


def message_of(call):
    """Return the message of the FormulaError that a call raises."""
    with pytest.raises(vtnp.FormulaError) as error:
        call()
    return str(error.value)


# --- Messages -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: vtnp.encoder.layer_norm(Q, ONE, ZERO, eps=math.inf),
            "layer-norm (spec/encoder/layer-norm.md): expected 0 <= eps < inf, got eps = inf",
        ),
        (
            lambda: vtnp.encoder.layer_norm(Q, ONE, ZERO, eps=-1),
            "layer-norm (spec/encoder/layer-norm.md): expected 0 <= eps < inf, got eps = -1.0",
        ),
        (
            lambda: vtnp.encoder.layer_norm(Q, ONE, ZERO, eps=np.float32(-0.5)),
            "layer-norm (spec/encoder/layer-norm.md): expected 0 <= eps < inf, got eps = -0.5",
        ),
        (
            lambda: vtnp.encoder.causal_mask(-1, like=Q),
            "causal-mask (spec/encoder/causal-mask.md): expected n >= 0, got n = -1",
        ),
        (
            lambda: vtnp.encoder.softmax(np.ones((3, 0))),
            "softmax (spec/encoder/softmax.md): expected n >= 1, got n = 0",
        ),
        (
            lambda: vtnp.encoder.attention(Q, Q, Q, scale=math.inf),
            (
            "attention-weights (spec/encoder/attention-weights.md): expected scale is None or "
            "abs(scale) < inf, got scale = inf; called by attention (spec/encoder/attention.md)"
            ),
        ),
        (
            lambda: vtnp.encoder.attention(np.ones((3, 0)), np.ones((5, 0)), np.ones((5, 2))),
            (
            "attention-weights (spec/encoder/attention-weights.md): expected d_k >= 1, got "
            "d_k = 0; called by attention (spec/encoder/attention.md)"
            ),
        ),
    ],
)  # fmt: skip
def test_the_message_names_formula_page_condition_values_and_caller(call, message):
    assert message_of(call) == message


def test_the_caller_is_the_formula_that_the_user_called():
    """Not the one in between."""
    params = {
        "attention": {"W_q": np.ones((2, 4, 0)), "W_k": np.ones((2, 4, 0)),
                      "W_v": np.ones((2, 4, 2)), "W_c": np.ones((2, 2, 4))},
        "norm_1": {"gamma": ONE, "beta": ZERO},
    }  # fmt: skip
    found = message_of(lambda: vtnp.encoder.self_attention_sublayer(Q, params, eps=1e-6))
    assert found == (
        "attention-weights (spec/encoder/attention-weights.md): expected d_k >= 1, got d_k = 0; "
        "called by self-attention-sublayer (spec/encoder/self-attention-sublayer.md)"
    )


def test_a_condition_may_name_axes_options_and_whether_an_array_is_there(register):
    formula = register("1 <= l <= n", "M is None or r <= n", "sizes[0] * sizes[1] == l")
    assert formula(Q, l=3, sizes=(3, 1), M=np.ones((2, 4))).shape == Q.shape
    assert message_of(lambda: formula(Q, l=4, sizes=(4, 1))) == (
        f"{MADE_UP}: expected 1 <= l <= n, got l = 4, n = 3"
    )
    assert message_of(lambda: formula(Q, M=np.ones((5, 4)))) == (
        f"{MADE_UP}: expected M is None or r <= n, got M = an array (5, 4), n = 3, r = 5"
    )
    assert message_of(lambda: formula(Q, l=2)) == (
        f"{MADE_UP}: expected sizes[0] * sizes[1] == l, got l = 2, sizes = (1, 1)"
    )


def test_conditions_are_checked_in_their_order(register):
    formula = register("l >= 2", "factor > 0")
    assert "expected l >= 2, got l = 1" in message_of(lambda: formula(Q, factor=-1.0))


def test_the_values_in_a_message_are_short(register):
    formula = register("more is None or len(more) == 1", "factor > 0")
    params = {"a": np.ones((100, 100)), "b": {"c": np.ones(100)}, "d": [{}] * 100, "e": 5}
    assert message_of(lambda: formula(Q, more=params)) == (
        f"{MADE_UP}: expected more is None or len(more) == 1, "
        "got more = {'a': an array (100, 100), 'b': {...}, 'd': [...], 'e': 5}"
    )
    found = message_of(lambda: grad(lambda c: namespace(c).sum(formula(Q, factor=c)))(-2.0))
    assert found == f"{MADE_UP}: expected factor > 0, got factor = -2.0"


def test_len_counts_the_rows_of_an_array_of_any_library(register):
    """array-api-strict's arrays have no `len`, and boxes have the length of what they hold."""
    formula = register("M is None or len(M) <= 2")
    for as_array in (np.asarray, strict.asarray):
        Q_there, M = as_array(Q), as_array(np.ones((2, 4)))
        assert formula(Q_there, M=M).shape == Q.shape
        too_long = as_array(np.ones((3, 4)))
        assert "got M = an array (3, 4)" in message_of(
            lambda Q=Q_there, M=too_long: formula(Q, M=M)
        )


# --- When a condition counts ----------------------------------------------------------------------


def test_each_value_of_an_option_is_checked(register):
    """A value that was right says nothing of another, nor does one array of another."""
    formula = register("factor > 0", "n >= 2")
    for _ in range(2):
        assert formula(Q, factor=2.0).shape == Q.shape
        assert message_of(lambda: formula(Q, factor=-2.0)).endswith("got factor = -2.0")
        assert message_of(lambda: formula(Q[:1], factor=2.0)).endswith("got n = 1")
    assert grad(lambda c: namespace(c).sum(formula(Q, factor=c)))(2.0) == Q.size


def test_defaults_are_checked_like_values(register):
    formula = register("l >= 2")
    assert message_of(lambda: formula(Q)) == f"{MADE_UP}: expected l >= 2, got l = 1"


@pytest.mark.parametrize("condition", ["r >= 2", "M is None or r >= 2"])
def test_an_axis_of_an_array_that_is_left_out_counts_as_met(register, condition):
    formula = register(condition)
    assert formula(Q).shape == formula(Q, M=None).shape == Q.shape
    assert formula(Q, M=np.ones((2, 4))).shape == Q.shape
    assert f"expected {condition}, got " in message_of(lambda: formula(Q, M=np.ones((1, 4))))


def test_axes_of_params_may_be_named():
    try:

        @spec("made-up", requires=("d_out >= d", "d_b <= d"))
        def made_up(x: Float[Array, "n d"], params: Table) -> Float[Array, "n d_out"]:
            return x @ params["W"]

        assert made_up(Q, {"W": np.ones((4, 5))}).shape == (3, 5)
        assert made_up(Q, {"W": np.ones((4, 5)), "b": np.ones(4)}).shape == (3, 5)
        assert message_of(lambda: made_up(Q, {"W": np.ones((4, 3))})) == (
            f"{MADE_UP}: expected d_out >= d, got d = 4, d_out = 3"
        )
        assert message_of(lambda: made_up(Q, {"W": np.ones((4, 5)), "b": np.ones(6)})) == (
            f"{MADE_UP}: expected d_b <= d, got d = 4, d_b = 6"
        )
    finally:
        del registry["made-up"]


def test_an_axis_of_unknown_length_counts_as_met(register):
    formula = register("1 <= l <= n", "factor > 0")
    x = da.from_array(np.arange(12.0).reshape(3, 4), chunks=3)
    unknown = x[x[:, 0] > 1]
    assert math.isnan(unknown.shape[0])
    assert formula(unknown, l=7).compute().shape == (2, 4)
    assert message_of(lambda: formula(unknown, factor=-1.0)).endswith("got factor = -1.0")


def test_unchecked_switches_conditions_off(register):
    formula = register("l >= 2")
    with vtnp.unchecked():
        assert formula(Q).shape == Q.shape
    with pytest.raises(vtnp.FormulaError):
        formula(Q)


# --- Registration ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "names"),
    [
        ("1 <= landmarks <= n", ["landmarks"]),
        ("k >= 1 and w >= 1", ["k", "w"]),
        ("b >= 1", ["b"]),
        ("all(i < size for i in sizes)", ["size"]),
        ("math.pi > l", ["math"]),
    ],
)
def test_unknown_letters_are_refused_at_registration(register, condition, names):
    """Batch axes are not letters: they may be several."""
    with pytest.raises(ValueError, match=r"^made-up ") as error:
        register(condition)
    assert str(error.value) == f"{MADE_UP}: {condition!r} names {names}"
    assert "made-up" not in registry


def test_an_axis_of_any_size_cannot_be_named():
    def odd(x: Float[Array, "_n d"]) -> Float[Array, " d"]:
        return x[0]

    with pytest.raises(ValueError, match=r"'_n >= 1' names \['_n'\]"):
        spec("made-up", requires=("_n >= 1",))(odd)
    assert "made-up" not in registry


@pytest.mark.parametrize(
    "condition",
    ["n >=", "n = 1", "[i for i in sizes] == []", "(lambda: n)() > 1", "open('n') is None",
     "factor > 0.5", "f'{n}' == '1'", "n.bit_length() > 1"],
)  # fmt: skip
def test_what_is_no_expression_of_the_language_is_refused_at_registration(register, condition):
    with pytest.raises(ExpressionError):
        register(condition)
    assert "made-up" not in registry


# --- The language ---------------------------------------------------------------------------------


class Grid(NamedTuple):
    """A number of rows and of columns."""

    h: int
    w: int


@pytest.mark.parametrize(
    ("expression", "names", "value"),
    [
        ("1 <= l <= n", {"l", "n"}, True),
        ("n % l == 0 and not n < l", {"l", "n"}, True),
        ("abs(l - n) < inf", {"l", "n"}, True),
        ("grid.h * grid.w == n", {"grid", "n"}, True),
        ("all(1 <= size <= n for size in sizes)", {"n", "sizes"}, True),
        ("any(size > n for size in sizes)", {"n", "sizes"}, False),
        ("sum(a * b for a, b in zip(sizes, sizes)) == 5", {"sizes"}, True),
        ("kind in ('a', 'b')", {"kind"}, True),
        ("nothing is None or nothing >= 1", {"nothing"}, True),
        ("len(sizes) == 2 if kind == 'a' else l", {"sizes", "kind", "l"}, True),
        ("max(sizes) - min(sizes) + sizes[-1] ** 2 // 3", {"sizes"}, 2),
    ],
)
def test_expressions(expression, names, value):
    letters = {"l": 2, "n": 6, "grid": Grid(2, 3), "sizes": (1, 2), "kind": "a", "nothing": None}
    assert names_in(expression) == names
    assert evaluated(expression, letters) == value


@pytest.mark.parametrize("expression", ["l.real", "grid.t", "grid.count", "grid.__class__"])
def test_only_a_named_tuple_has_fields(expression):
    with pytest.raises(ExpressionError, match="has no field"):
        evaluated(expression, {"l": 2, "grid": Grid(2, 3)})
