"""The check of every call: what it accepts, what it refuses, and its messages."""

import gc
import os
import pickle
import subprocess
import sys
import time
import weakref
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import array_api_strict as strict
import dask.array as da
import numpy as np
import pytest
from autograd import grad

import vtnp
from vtnp._array.typing import Array, Bool, Float
from vtnp._array.xp import namespace
from vtnp._registry.shapes import bind, parse
from vtnp._registry.spec import registry, spec


@pytest.fixture
def formula():
    """A formula that lives for one test."""

    @spec("made-up")
    def made_up(
        Q: Float[Array, "*b n d"],
        K: Float[Array, "*b m d"],
        *,
        mask: Bool[Array, "*#b n m"] | None = None,
        wrong: bool = False,
    ) -> Float[Array, "*b n m"]:
        scores = Q @ np.swapaxes(K, -1, -2)
        return scores[..., :1] if wrong else scores

    yield made_up
    del registry["made-up"]


def ones(*shape: int) -> Any:
    return np.ones(shape)


def test_the_message_names_formula_page_argument_and_shapes(formula):
    with pytest.raises(vtnp.ShapeError) as error:
        formula(ones(2, 3, 4), ones(2, 5, 6))
    assert str(error.value) == (
        'made-up (spec/test_spec/made-up.md): argument K: expected axes "*b m d", got shape '
        "(2, 5, 6): axis d has size 6, expected 4 (axes bound so far: n=3, d=4, b=(2,), m=5)"
    )
    assert isinstance(error.value, ValueError)


@pytest.mark.parametrize(
    ("Q", "K", "what"),
    [
        (ones(4), ones(5, 4), "argument Q: .*: expected 2 or more axes, got 1"),
        (ones(2, 3, 4), ones(7, 5, 4), r"argument K: .*: batch axes b are \(7,\), expected \(2,\)"),
        (ones(2, 3, 4), ones(5, 4), r"argument K: .*: batch axes b are \(\), expected \(2,\)"),
    ],
)
def test_axes_that_do_not_fit_are_refused(formula, Q, K, what):
    with pytest.raises(vtnp.ShapeError, match=what):
        formula(Q, K)


def test_a_mask_broadcasts_onto_the_batch(formula):
    Q, K = ones(2, 3, 4), ones(2, 5, 4)
    for shape in [(3, 5), (1, 3, 5), (2, 3, 5)]:
        assert formula(Q, K, mask=np.ones(shape, bool)).shape == (2, 3, 5)
    with pytest.raises(vtnp.ShapeError, match=r"argument mask: .* do not broadcast onto b="):
        formula(Q, K, mask=np.ones((7, 3, 5), bool))
    with pytest.raises(TypeError, match="argument mask: expected a bool dtype, got float64"):
        formula(Q, K, mask=ones(3, 5))


def test_a_mask_may_be_passed_before_the_arrays_it_broadcasts_onto():
    Q, K, mask = np.ones((2, 3, 4)), np.ones((2, 5, 4)), np.ones((3, 5), bool)
    assert vtnp.encoder.attention_weights(mask=mask, Q=Q, K=K).shape == (2, 3, 5)


def test_mixed_dtypes_libraries_and_devices_are_refused(formula):
    Q, K = ones(3, 4), ones(5, 4)
    with pytest.raises(TypeError, match=r"mix dtypes \(Q: float64, K: float32\)"):
        formula(Q, K.astype(np.float32))
    with pytest.raises(TypeError, match=r"mix array libraries \(Q: .*numpy, K: array_api_strict\)"):
        formula(Q, strict.asarray(K))
    near = strict.asarray(Q)
    far = strict.asarray(K, device=strict.Device("device1"))
    with pytest.raises(TypeError, match=r"mix devices \(Q: .*CPU_DEVICE.*, K: .*device1"):
        formula(near, far)
    with pytest.raises(TypeError, match=r"arrays of .*numpy and of array_api_strict"):
        namespace(Q, near)


@pytest.mark.parametrize(
    ("K", "got"),
    [
        ([[1.0]], "list"),
        (3.0, "float"),
        (np.ma.masked_array([[1.0]]), "MaskedArray"),
        (np.ones((5, 4), object), "object"),
        (np.ones((5, 4), np.int32), "int32"),
        (np.ones((5, 4), bool), "bool"),
        (np.ones((5, 4), complex), "complex128"),
    ],
)
def test_anything_but_a_plain_array_of_floats_is_refused(formula, K, got):
    with pytest.raises(TypeError, match=rf"made-up .* argument K: expected .*, got {got}"):
        formula(ones(3, 4), K)


class Derived(np.ndarray):
    """Arrays of a subclass, which knows its own multiplication."""

    def __mul__(self, other: Any) -> Any:
        raise AssertionError("the formula met an array of a subclass")

    __rmul__ = __matmul__ = __mul__


def test_a_formula_never_meets_arrays_of_subclasses():
    """Nor where the call of that kind was right before, nor where a handler replaces them."""
    Q, K, V = ones(3, 4), ones(5, 4), ones(5, 2)
    expected = vtnp.encoder.attention(Q, K, V)
    for _ in range(3):
        result = vtnp.encoder.attention(Q.view(Derived), K.view(Derived), V.view(Derived))
        assert type(result) is np.ndarray
        assert np.array_equal(result, expected)

    def derived(call, proceed):
        if call.id == "attention-weights":
            call = call.replace(arguments={**call.arguments, "K": K.view(Derived)})
        return proceed(call)

    with vtnp.intercept(derived):
        assert np.array_equal(vtnp.encoder.attention(Q, K, V), expected)
    slope = grad(lambda x: namespace(x).sum(vtnp.encoder.attention(x, K, V)))(Q.view(Derived))
    assert type(slope) is np.ndarray


@pytest.fixture
def of_many():
    """A formula of a sequence of arrays, that lives for one test."""

    @spec("made-up", requires=("len(parts) >= 1",))
    def made_up(
        parts: Sequence[Float[Array, "*b n d"]], x: Float[Array, "*b n"]
    ) -> Float[Array, "*b n d"]:
        return sum(parts) * x[..., None]

    yield made_up
    del registry["made-up"]


def test_a_sequence_of_arrays_is_a_list_or_tuple_whose_axes_fit(of_many):
    for parts in ([ones(3, 4), ones(3, 4)], (ones(3, 4),)):
        for _ in range(2):
            assert of_many(parts, ones(3)).shape == (3, 4)
    assert type(of_many([ones(3, 4).view(Derived)], ones(3))) is np.ndarray
    slope = grad(lambda x: namespace(x).sum(of_many([ones(3, 4), x], ones(3))))(ones(3, 4))
    assert np.array_equal(slope, ones(3, 4))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (ones(2, 3, 4), "parts: expected a list or tuple of arrays, got ndarray"),
        (iter([ones(3, 4)]), "parts: expected a list or tuple of arrays, got list_iterator"),
        (None, "parts: expected a list or tuple of arrays, got NoneType"),
        ([ones(3, 4), None], r"parts\[1\]: expected an array, got NoneType"),
        ([ones(3, 4), [1.0]], r"parts\[1\]: expected an array, got list"),
        ([ones(3, 4), 1j * ones(3, 4)], r"parts\[1\]: expected a float dtype, got complex128"),
        ([ones(3, 4), ones(3, 5)], r"parts\[1\]: .*: axis d has size 5, expected 4"),
        ([ones(3, 4), ones(2, 3, 4)], r"parts\[1\]: .*: batch axes b are \(2,\), expected \(\)"),
        (
            [ones(3, 4), ones(3, 4).astype(np.float32)],
            r"mix dtypes \(x: float64, parts\[1\]: float32\)",
        ),
        ([], r"expected len\(parts\) >= 1, got parts = \[\]"),
    ],
)
def test_other_sequences_are_refused_by_name(of_many, parts, message):
    of_many([ones(3, 4), ones(3, 4)], ones(3))
    with pytest.raises((TypeError, vtnp.FormulaError), match=f"^made-up .*{message}"):
        of_many(parts, ones(3))


def test_each_kind_of_call_is_checked(formula):
    Q, K = ones(3, 4), ones(5, 4)
    assert formula(Q, K).shape == formula(Q, K).shape == (3, 5)
    with pytest.raises(vtnp.ShapeError):
        formula(Q, ones(5, 7))
    with pytest.raises(TypeError):
        formula(Q, K.astype(int))


def test_a_result_of_another_shape_than_promised_is_refused(formula):
    with pytest.raises(
        vtnp.ShapeError,
        match=r"result: expected axes .* got shape .* axis m has size 1, expected 5",
    ):
        formula(ones(3, 4), ones(5, 4), wrong=True)


def test_unchecked_switches_the_check_off_and_on_again(formula):
    Q, K = ones(3, 4), np.ones((5, 4), np.float32)
    with vtnp.unchecked():
        assert formula(Q, K).shape == (3, 5)
        with vtnp.unchecked():
            assert formula(Q, K).shape == (3, 5)
        assert formula(Q, K).shape == (3, 5)
    with pytest.raises(TypeError):
        formula(Q, K)


def test_boxes_are_checked_like_their_values(formula):
    K = ones(5, 4)
    assert grad(lambda Q: np.sum(1.0) * namespace(Q).sum(formula(Q, K)))(ones(3, 4)).shape == (3, 4)
    with pytest.raises(vtnp.ShapeError):
        grad(lambda Q: namespace(Q).sum(formula(Q, K)))(ones(3, 7))


def test_the_message_names_the_formula_that_the_user_called():
    """The formula that fails comes first, with its page; the one called by the user last."""
    x, weights = ones(3, 4), [ones(2, 4, 2)] * 3
    with pytest.raises(vtnp.FormulaError) as error:
        vtnp.encoder.multi_head_self_attention(ones(0, 4), *weights, ones(2, 2, 4))
    assert str(error.value) == (
        "softmax (spec/encoder/softmax.md): expected n >= 1, got n = 0; called by "
        "multi-head-self-attention (spec/encoder/multi-head-self-attention.md)"
    )
    with pytest.raises(vtnp.FormulaError) as error:
        vtnp.encoder.attention(x, x, x, scale="2")
    assert str(error.value) == (
        "attention (spec/encoder/attention.md): argument scale: expected a number, got '2'"
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: f(ones(3, 4)), "missing a required argument: 'K'"),
        (lambda f: f(ones(3, 4), ones(5, 4), None), "too many positional arguments"),
        (lambda f: f(ones(3, 4), ones(5, 4), Q=ones(3, 4)), "multiple values for argument 'Q'"),
        (lambda f: f(ones(3, 4), ones(5, 4), bias=1), "got an unexpected keyword argument 'bias'"),
    ],
)
@pytest.mark.parametrize("handler", [None, lambda call, proceed: proceed(call)])
def test_arguments_that_do_not_fit_the_signature_are_refused(formula, call, message, handler):
    """Also under a handler, which gets the arguments by name."""
    within = vtnp.intercept(handler) if handler else nullcontext()
    with within, pytest.raises(TypeError) as error:
        call(formula)
    assert str(error.value) == f"made-up (spec/test_spec/made-up.md): {message}"


def test_an_id_is_registered_once(formula):
    with pytest.raises(ValueError, match="'made-up' is registered twice"):
        spec("made-up")(lambda x: x)


def test_an_axis_of_unknown_length_fits_any_other():
    unknown = float("nan")
    for text, first, second in (("n d", unknown, 3), ("*b d", unknown, 3), ("*b d", 3, unknown)):
        bound: dict[str, Any] = {}
        assert bind(parse(text), (first, 4), bound) is None
        assert bind(parse(text), (second, 4), bound) is None
    assert bind(parse("n d"), (unknown, 4), bound := {}) is None
    assert bind(parse("n d"), (3, 4), bound) is None
    assert "axis n has size 5, expected 3" in (bind(parse("n d"), (5, 4), bound) or "")
    assert bind(parse("n n"), (3, unknown), {}) is None
    assert bind(parse("*#b n"), (unknown, 4), {"b": (3,)}) is None


def test_arrays_of_unknown_length_are_computed():
    Q = np.random.default_rng(0).normal(size=(5, 4))
    some = da.from_array(Q, chunks=5)
    some = some[some[:, 0] > 0]
    known = Q[Q[:, 0] > 0]
    result = vtnp.encoder.attention(some, some, some).compute()
    np.testing.assert_allclose(result, vtnp.encoder.attention(known, known, known), rtol=1e-14)


def test_remembered_calls_hold_no_arrays():
    """Else arrays, and the graphs that autograd builds on them, would outlive their use."""

    def loss(x):
        xp, eye = namespace(x), np.eye(3)
        return xp.sum(vtnp.encoder.attention(eye, eye, eye, scale=xp.sum(x)))

    x, like = ones(3), ones(3)
    grad(loss)(x)
    vtnp.encoder.causal_mask(2, like=like)
    alive = [weakref.ref(x), weakref.ref(like)]
    del x, like
    gc.collect()
    assert [reference() for reference in alive] == [None, None]


def test_the_check_is_cheap(formula, record_property):
    """Recorded for the report, with no bound: timings on shared machines vary too much."""
    Q, K = ones(3, 4), ones(5, 4)

    def seconds() -> float:
        start = time.perf_counter()
        for _ in range(1000):
            formula(Q, K)
        return (time.perf_counter() - start) / 1000

    checked = min(seconds() for _ in range(5))
    with vtnp.unchecked():
        free = min(seconds() for _ in range(5))
    record_property("microseconds_per_check", 1e6 * (checked - free))
    assert checked > 0


def test_every_equation_is_one_formula():
    named = {number: vtnp.formula(number).id for number in range(1, 15)}
    assert named == {
        1: "space-time-embedding",
        2: "trajectory-tokens",
        3: "trajectory-attention",
        4: "prototype-attention",
        5: "deformable-attention",
        6: "deformable-logits",
        7: "deformable-weights",
        8: "sampling-locations",
        9: "sampling-offsets",
        10: "pooled-projection",
        11: "pooling-attention",
        12: "softmax-blocks",
        13: "nystrom-approximation",
        14: "nystrom-attention",
    }
    stated = [each.survey for each in vtnp.formulas()]
    assert all(stated.count(f"eq. ({number})") == 1 for number in named)


def test_what_a_page_says_cannot_be_changed():
    with pytest.raises(TypeError):
        vtnp.formula(2).source["key"] = "nobody"
    with pytest.raises(TypeError):
        vtnp.formula(2).cost["multiply_adds"] = "0"


def test_another_process_restores_a_formula():
    """The chapter is imported there, and the formula is that of the process."""
    sent = pickle.dumps([vtnp.formula("pool"), vtnp.mvit.pool])
    program = (
        "import pickle, sys; formula, function = pickle.load(sys.stdin.buffer); import vtnp; "
        "assert formula is vtnp.formula('pool') and formula.function is function; print(formula.id)"
    )
    command = [sys.executable, "-c", program]
    found = subprocess.run(command, input=sent, capture_output=True, check=False)
    assert (found.stdout, found.stderr) == (b"pool" + os.linesep.encode(), b"")


def test_errors_keep_their_message_between_processes():
    with pytest.raises(vtnp.FormulaError) as raised:
        vtnp.encoder.attention(*[ones(3, 4)] * 3, scale=np.inf)
    restored = pickle.loads(pickle.dumps(raised.value))
    assert type(restored) is vtnp.FormulaError
    assert str(restored) == str(raised.value)
    assert str(restored).endswith("called by attention (spec/encoder/attention.md)")


def test_a_formula_is_found_by_its_id_and_its_equation():
    weights = vtnp.formula("attention-weights")
    assert weights.function is vtnp.encoder.attention_weights
    assert weights.plain in (weights.function.__doc__ or "")
    assert weights.page.startswith("# Attention weights")
    with pytest.raises(vtnp.UnknownFormulaError, match=r"did you mean .*attention-weights"):
        vtnp.formula("attention-weight")
    assert vtnp.formula("SoftMax").id == "softmax"
    assert vtnp.formula("EQ2") == vtnp.formula(2)
    with pytest.raises(vtnp.UnknownFormulaError, match="no formula is called 'eq99'"):
        vtnp.formula("eq99")


def test_formulas_are_made_of_what_cannot_change():
    for each in vtnp.formulas():
        parts = each.laws, each.special, each.mistakes, each.requires
        assert all(type(part) is tuple for part in parts)
        with pytest.raises(TypeError):
            each.source["key"] = "another"


def test_a_shape_has_one_row_of_batch_axes():
    with pytest.raises(ValueError, match=r"^shape '\*a n \*b': at most one row of batch axes$"):
        parse("*a n *b")
