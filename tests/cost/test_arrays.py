"""Arrays that are counted, as arrays: their methods, and shapes in any sequence."""

import numpy as np
import pytest

from vtnp import cost
from vtnp.cost import namespace


def test_astype_is_a_copy_in_another_dtype():
    x = cost.array((3, 4), "float32")
    y = x.astype("float64")
    assert (y.shape, y.dtype) == ((3, 4), np.float64)
    assert x.dtype == np.float32
    assert y.device is x.device


@pytest.mark.parametrize("kind", [list, tuple])
def test_a_shape_is_any_sequence(kind):
    x = cost.array(kind((3, 1)), "float32")
    assert x.shape == (3, 1)
    wide = namespace.broadcast_to(x, kind((2, 3, 4)))
    assert wide.shape == (2, 3, 4)
    assert namespace.reshape(x, kind((1, 3))).shape == (1, 3)
    assert namespace.broadcast_to(wide, kind((2, 3, 4))).shape == (2, 3, 4)
    assert hash(wide.layout) == hash(namespace.broadcast_to(x, (2, 3, 4)).layout)
