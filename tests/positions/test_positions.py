"""What no law says of vtnp.positions: exact values, refusals, counterexamples, accuracy."""

import numpy as np
import pytest

import vtnp
from tests.exact import positions as derived
from tests.oracles import positions as oracles
from vtnp.claims.positions import frequencies

# --- sinusoidal positions -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 3, "d": 5}, r" \(.*\): expected d % 2 == 0, got d = 5"),
        ({"n": 3, "d": 0}, r" \(.*\): expected d >= 1, got d = 0"),
        ({"n": -1, "d": 4}, r" \(.*\): expected n >= 0, got n = -1"),
        (
            {"n": 3, "d": 4, "layout": "both"},
            r" \(.*\): argument layout: expected one of 'interleaved', 'halves', got 'both'",
        ),
    ],
)
def test_tables_that_do_not_exist_are_refused(arguments, message):
    with pytest.raises(vtnp.FormulaError, match=f"^sinusoidal-positions{message}"):
        vtnp.positions.sinusoidal_positions(**arguments)


def test_tables_are_made_like_arrays_of_floats():
    message = r"^sinusoidal-positions \(.*\): argument like: expected a float dtype, got int64$"
    with pytest.raises(TypeError, match=message):
        vtnp.positions.sinusoidal_positions(3, 4, like=np.zeros(2, np.int64))


def test_tables_are_numpys_by_default():
    for table in (
        vtnp.positions.sinusoidal_positions(3, 4),
        vtnp.positions.sinusoidal_positions_2d(3, 2, 4),
        vtnp.positions.sinusoidal_positions_3d(3, 2, 5, 6),
    ):
        assert type(table) is np.ndarray
        assert table.dtype == np.float64


@pytest.mark.parametrize("n", [50, 3136])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_narrow_tables_are_rounded_once(dtype, n):
    info = np.finfo(dtype)
    narrow = vtnp.positions.sinusoidal_positions(n, 64, like=np.zeros(1, dtype))
    exact = oracles.sinusoidal_positions(n, 64)
    angle = np.repeat(np.arange(n)[:, None] * frequencies(64), 2, axis=-1)
    of_oracle = np.finfo(np.float64).eps * (angle + 1.0)
    half_ulp = np.maximum(np.abs(exact), float(info.tiny)) * float(info.eps) / 2
    assert np.all(np.abs(narrow.astype(np.float64) - exact) <= half_ulp + of_oracle)


def test_double_tables_keep_their_digits_at_large_positions():
    """At position 10^6 a frequency rounded to float64 leaves ten digits."""
    row = vtnp.positions.sinusoidal_positions(10**6 + 1, 6, layout="halves")[-1]
    exact = derived.sinusoidal_positions_at(10**6, 6).astype(np.float64)
    assert np.all(np.abs(row - exact) <= 4e-16)


def test_2d_tables_need_a_width_divisible_by_4():
    expected = r"^sinusoidal-positions-2d \(.*\): expected d % 4 == 0, got d = 6$"
    with pytest.raises(vtnp.FormulaError, match=expected):
        vtnp.positions.sinusoidal_positions_2d(2, 2, 6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"d": 0}, "expected d >= 1, got d = 0"),
        ({"d": 1024}, r"expected d % \(6 if .* else 16\) == 0, got d = 1024, split = 'thirds'"),
        (
            {"d": 24, "split": "quarter"},
            r"expected d % \(6 if .* else 16\) == 0, got d = 24, split = 'quarter'",
        ),
        (
            {"d": 48, "split": "half"},
            "argument split: expected one of 'thirds', 'quarter', got 'half'",
        ),
    ],
)
def test_3d_tables_that_do_not_exist_are_refused(options, message):
    with pytest.raises(vtnp.FormulaError, match=rf"^sinusoidal-positions-3d \(.*\): {message}$"):
        vtnp.positions.sinusoidal_positions_3d(2, 2, 2, **options)


# --- relative attention ---------------------------------------------------------------------------


def test_an_even_number_of_rows_is_refused():
    x = np.zeros((3, 2))
    expected = r"^relative-attention \(.*\): expected r % 2 == 1, got r = 4$"
    with pytest.raises(vtnp.FormulaError, match=expected):
        vtnp.positions.relative_attention(x, x, x, np.zeros((4, 2)), np.zeros((4, 2)))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((3, 0), r"^relative-attention \(.*\): expected d_h >= 1, got d_h = 0$"),
        ((0, 2), r"^softmax \(.*\): expected n >= 1, got n = 0; called by relative-attention \("),
    ],
)
def test_an_average_over_nothing_is_refused(shape, message):
    x, table = np.zeros(shape), np.zeros((3, shape[-1]))
    with pytest.raises(vtnp.FormulaError, match=message):
        vtnp.positions.relative_attention(x, x, x, table, table)
