"""Rules of differentiation at the places where random numbers do not lie."""

import numpy as np
from autograd import make_jvp, make_vjp

from vtnp._array.primitives import add, bounded, negative


def test_forward_mode_has_the_shape_of_the_result():
    """Also where an argument is broadcast, and its derivative is the direction itself."""
    row, table = np.arange(3.0), np.ones((2, 3))
    value, slope = make_jvp(lambda x: add(x, table))(row)(np.array([1.0, 2.0, 3.0]))
    assert value.shape == slope.shape == (2, 3)
    assert np.array_equal(slope, [[1.0, 2.0, 3.0]] * 2)
    value, slope = make_jvp(negative)(row)(np.ones(3))
    assert np.array_equal(slope, -np.ones(3))


def test_a_number_at_its_limit_takes_the_whole_gradient():
    x, low, high = np.array([0.0, 1.0, 2.0]), np.array(0.0), np.array(2.0)
    of_x = make_vjp(lambda x: bounded(x, low, high))(x)[0](np.ones(3))
    of_low = make_vjp(lambda low: bounded(x, low, high))(low)[0](np.ones(3))
    of_high = make_vjp(lambda high: bounded(x, low, high))(high)[0](np.ones(3))
    assert np.array_equal(of_x, np.ones(3))
    assert (of_low, of_high) == (0.0, 0.0)
    below = make_vjp(lambda low: bounded(x - 0.5, low, high))(low)[0](np.ones(3))
    assert below == 1.0
