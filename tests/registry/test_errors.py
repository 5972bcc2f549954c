"""Errors as a person reads them: suggestions, and conditions that a body checks."""

import pytest

from vtnp._registry.errors import FormulaError, did_you_mean, require
from vtnp._registry.expressions import ExpressionError, compiled
from vtnp._registry.printable import shortened

KNOWN = ("softmax", "softplus", "softmin", "relu")


@pytest.mark.parametrize(
    ("name", "known", "question"),
    [
        ("soft", (), ""),
        ("quux", KNOWN, ""),
        ("rel", KNOWN, "; did you mean relu?"),
        ("gelu_tan", ("gelu_tanh", "gelu", "xyz"), "; did you mean gelu_tanh or gelu?"),
        ("softma", KNOWN, "; did you mean softmax, softmin or softplus?"),
    ],
)
def test_the_nearest_names_are_suggested(name, known, question):
    assert did_you_mean(name, known) == question


def test_a_name_that_is_hardly_like_another_is_not_suggested():
    assert did_you_mean("abcdefghij", ("abcdxxxxxx",)) == "; did you mean abcdxxxxxx?"  # 0.4 alike
    assert did_you_mean("abcdefghij", ("abcxxxxxxx",)) == ""


def test_a_condition_that_holds_is_silent_and_one_that_does_not_says_what_was_passed():
    require(True, "n", "a number", None)
    with pytest.raises(FormulaError, match="argument n: expected 1 <= n, got '0'"):
        require(False, "n", "1 <= n", "0")


def test_the_middle_of_a_long_text_is_left_out():
    text = "abcdefghijklmnopqrstuvwxyz"
    assert shortened(text, 26) == text
    assert shortened(text, 12) == "abcdef...xyz"
    assert shortened(text, 15) == "abcdefgh...wxyz"
    assert {len(shortened(text, most)) for most in (12, 13, 14, 15)} == {12, 13, 14, 15}


def test_functions_that_conditions_may_call_are_listed():
    with pytest.raises(ExpressionError, match=r"^only \w+(, \w+)+ may be called in 'eval\(n\)'$"):
        compiled("eval(n)")
