"""What no law says of vtnp.positions: exact values, refusals, counterexamples, accuracy."""

import numpy as np
import pytest

import vtnp
from tests.oracles import positions as oracles
from vtnp.claims.positions import frequencies

# --- sinusoidal positions -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"n": 3, "d": 5}, "argument d: expected an even number"),
        ({"n": 3, "d": 0}, "argument d: expected an even number"),
        ({"n": -1, "d": 4}, "argument n: expected a number of positions"),
        ({"n": 3, "d": 4, "layout": "both"}, "argument layout: expected one of"),
        ({"n": 3, "d": 4, "like": np.zeros(2, np.int64)}, "argument like: expected an array of"),
    ],
)
def test_tables_that_do_not_exist_are_refused(arguments, word):
    with pytest.raises(vtnp.FormulaError, match=f"sinusoidal-positions: {word}"):
        vtnp.positions.sinusoidal_positions(**arguments)


def test_without_an_example_tables_are_numpys():
    for table in (
        vtnp.positions.sinusoidal_positions(3, 4),
        vtnp.positions.sinusoidal_positions_2d(3, 2, 4),
        vtnp.positions.sinusoidal_positions_3d(3, 2, 5, 6),
    ):
        assert type(table) is np.ndarray
        assert table.dtype == np.float64


@pytest.mark.parametrize("n", [50, 3136])
def test_float32_tables_err_by_the_angle_times_eps(n):
    """The frequency and the product are each rounded once, the sine once more."""
    eps = float(np.finfo(np.float32).eps)
    single = vtnp.positions.sinusoidal_positions(n, 64, like=np.zeros(1, np.float32))
    angle = np.repeat(np.arange(n)[:, None] * frequencies(64), 2, axis=-1)
    error = np.abs(single - oracles.sinusoidal_positions(n, 64))
    assert np.all(error <= eps * (angle + 1.0))


def test_2d_tables_need_a_width_divisible_by_4():
    with pytest.raises(vtnp.FormulaError, match=r"sinusoidal-positions-2d: argument d: .* of 4"):
        vtnp.positions.sinusoidal_positions_2d(2, 2, 6)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"d": 1024}, "argument d: expected a multiple of 6"),
        ({"d": 24, "split": "quarter"}, "argument d: expected a multiple of 16"),
        ({"d": 48, "split": "half"}, "argument split: expected one of"),
    ],
)
def test_3d_tables_that_do_not_exist_are_refused(options, word):
    with pytest.raises(vtnp.FormulaError, match=f"sinusoidal-positions-3d: {word}"):
        vtnp.positions.sinusoidal_positions_3d(2, 2, 2, **options)


# --- relative attention ---------------------------------------------------------------------------


def test_an_even_number_of_rows_is_refused():
    x = np.zeros((3, 2))
    with pytest.raises(vtnp.FormulaError, match=r"relative-attention: argument w_K: .* got 4"):
        vtnp.positions.relative_attention(x, x, x, np.zeros((4, 2)), np.zeros((4, 2)))
