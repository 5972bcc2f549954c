"""Options of a formula: what each kind takes, and in which words it refuses the rest."""

import math

import array_api_strict as strict
import numpy as np
import pytest
from autograd import grad

import vtnp
from vtnp._registry.spec import registry, spec

RNG = np.random.default_rng(3)
VIDEO = RNG.normal(size=(4, 6, 8, 3))
Q = RNG.normal(size=(3, 4))
ONE, ZERO = np.ones(4), np.zeros(4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: vtnp.encoder.causal_mask(2.0, like=Q), "n: expected a whole number, got 2.0"),
        (lambda: vtnp.encoder.causal_mask(True, like=Q), "n: expected a whole number, got True"),
        (lambda: vtnp.encoder.causal_mask("3", like=Q), "n: expected a whole number, got '3'"),
        (lambda: vtnp.encoder.causal_mask(None, like=Q), "n: expected a whole number, got None"),
        (lambda: vtnp.encoder.causal_mask(3, like=None), "like: expected an array, got None"),
        (lambda: vtnp.encoder.causal_mask(3, like=[1.0]), r"like: expected an array, got \[1.0\]"),
        (
            lambda: vtnp.encoder.attention(Q, Q, Q, scale=math.nan),
            "scale: expected a number, got nan",
        ),
        (
            lambda: vtnp.encoder.attention(Q, Q, Q, scale=math.inf),
            "scale: expected a finite number, got",
        ),
        (lambda: vtnp.encoder.attention(Q, Q, Q, scale="2"), "scale: expected a number, got '2'"),
        (lambda: vtnp.encoder.attention(Q, Q, Q, scale=True), "scale: expected a number, got True"),
        (lambda: vtnp.encoder.attention(Q, Q, Q, scale=1j), "scale: expected a number, got 1j"),
        (
            lambda: vtnp.encoder.attention(Q, Q, Q, scale=np.ones(3)),
            r"scale: expected a number, got arr",
        ),
        (
            lambda: vtnp.encoder.layer_norm(Q, ONE, ZERO, eps=math.nan),
            "eps: expected a number, got nan",
        ),
        (
            lambda: vtnp.encoder.layer_norm(Q, ONE, ZERO, eps=math.inf),
            "eps: expected a finite number >= 0",
        ),
        (
            lambda: vtnp.encoder.layer_norm(Q, ONE, ZERO, eps="1e-6"),
            "eps: expected a number, got '1e-6'",
        ),
        (
            lambda: vtnp.encoder.layer_norm(Q, ONE, ZERO, eps=None),
            "eps: expected a number, got None",
        ),
        (lambda: vtnp.encoder.gelu(Q, approximate=[]), r"approximate: expected a word, got \[\]"),
        (lambda: vtnp.tokens.patch_tokens(VIDEO, size=5), "size: expected 3 whole numbers, got 5"),
        (
            lambda: vtnp.tokens.patch_tokens(VIDEO, size=(1, 2)),
            r"size: expected 3 whole .*, got \(1, 2\)",
        ),
        (
            lambda: vtnp.tokens.patch_tokens(VIDEO, size=(1.0, 2, 2)),
            "size: expected 3 whole numbers",
        ),
        (
            lambda: vtnp.tokens.patch_tokens(VIDEO, size="122"),
            "size: expected 3 whole numbers, got '122'",
        ),
        (
            lambda: vtnp.tokens.clip_tokens(VIDEO, length=2.0),
            "length: expected a whole number, got 2.0",
        ),
        (
            lambda: vtnp.longnet.dilated_attention(
                *[np.ones((1, 4, 2))] * 3, segments=4, dilations=(1,), causal=1
            ),
            "segments: expected whole numbers, got 4",
        ),
        (
            lambda: vtnp.longnet.dilated_attention(
                *[np.ones((1, 4, 2))] * 3, segments=(4,), dilations=(1,), causal=1
            ),
            "causal: expected True or False, got 1",
        ),
        (
            lambda: vtnp.timesformer.width_attention(*[np.ones((2, 6, 4))] * 3, grid=(-2, -3)),
            r"grid: expected \(h, w\) with h w = 6, got \(-2, -3\)",
        ),
        (
            lambda: vtnp.timesformer.class_attention(
                ONE[None], *[np.ones((2, 6, 4))] * 2, over="x"
            ),
            "over: expected one of .*, got 'x'",
        ),
    ],
)
def test_what_is_no_such_option_is_refused(call, message):
    with pytest.raises(vtnp.FormulaError, match=r"^[a-z-]+: argument " + message):
        call()


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
            "class-attention: argument K: expected at least one group of patches",
        ),
        (
            lambda: vtnp.positions.relative_attention(
                *[np.ones((3, 0))] * 2, *[np.ones((3, 0))] * 3
            ),
            "relative-attention: argument K: expected a width of at least 1",
        ),
    ],
)
def test_an_average_over_nothing_is_refused(call, message):
    with pytest.raises(vtnp.FormulaError, match=message):
        call()


def test_numpys_whole_numbers_and_lists_are_taken():
    n = np.int64(2)
    meant = vtnp.tokens.patch_tokens(VIDEO, size=(1, 2, 2))
    for size in ([1, 2, 2], (1, n, n), np.asarray([1, 2, 2])):
        assert np.array_equal(vtnp.tokens.patch_tokens(VIDEO, size=size), meant)
    on_strict = strict.asarray(VIDEO)
    wide = vtnp.tokens.sliding_windows(on_strict, size=[n, n, n], stride=[n, n, n])
    assert wide.shape == (2, 3, 4, 2, 2, 2, 3)
    assert vtnp.positions.sinusoidal_positions(np.int64(3), np.int64(4)).shape == (3, 4)
    z = np.ones((2, 6, 4))
    assert vtnp.timesformer.width_attention(z, z, z, grid=[2, 3]).shape == z.shape


def test_a_number_may_be_differentiated():
    slope = grad(lambda scale: np.sum(1.0) * vtnp.encoder.attention(Q, Q, Q, scale=scale)[0, 0])(
        0.5
    )
    h = 1e-6
    up, down = (vtnp.encoder.attention(Q, Q, Q, scale=0.5 + s)[0, 0] for s in (h, -h))
    assert abs(slope - (up - down) / (2 * h)) < 1e-8


def test_an_array_that_is_not_optional_is_asked_for():
    with pytest.raises(TypeError, match=r"^attention .*argument K: expected an array, got NoneT"):
        vtnp.encoder.attention(Q, None, Q)


def test_a_kind_of_option_that_nobody_can_check_is_refused():
    def odd(n: set[int]) -> int:
        return len(n)

    with pytest.raises(TypeError, match=r"odd-one: argument n: no check for set\[int\]"):
        spec("odd-one")(odd)
    assert "odd-one" not in registry
