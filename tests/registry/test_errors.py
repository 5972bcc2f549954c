"""Errors as a person reads them: suggestions, and conditions that a body checks."""

import pytest

from vtnp._registry.errors import FormulaError, did_you_mean, require

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
