"""Which types an option may have, as its hint says, and what an index may be."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from vtnp._registry import options


class OnlyAShape:
    shape = ()


class OnlyADtype:
    dtype = np.dtype(np.int64)


@pytest.mark.parametrize("value", [OnlyAShape(), OnlyADtype(), 1.5, "1", None])
def test_what_is_no_index_is_refused(value: Any):
    with pytest.raises(TypeError):
        options._index(value)


@pytest.mark.parametrize("value", [3, np.int64(3), np.array(3)])
def test_an_index_is_an_integer(value: Any):
    assert options._index(value) == 3


def test_an_index_is_an_array_of_integers():
    several = np.array([2, 0])
    assert np.array_equal(options._index(several), several)
    with pytest.raises(TypeError):
        options._index(np.array([2.0]))


@pytest.mark.parametrize("hint", [tuple[int, ...], Sequence[int]])
def test_a_sequence_of_any_length(hint: Any):
    assert options.is_sequence(hint)
    kind = options.kind_of_option(hint)
    assert kind is not None
    assert kind.says == "integers"
    assert kind.read((1, np.int64(2), 3)) == (1, 2, 3)
    with pytest.raises(TypeError):
        kind.read((1, 2.5))


def test_a_tuple_of_fixed_length_is_no_sequence():
    assert not options.is_sequence(tuple[int, int])
    assert not options.is_sequence(int)
    kind = options.kind_of_option(tuple[int, int])
    assert kind is not None
    assert kind.says == "2 integers"
