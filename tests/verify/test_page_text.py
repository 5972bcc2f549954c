"""What reports take from pages: the text of each mistake, as plain text on one line."""

import re

import pytest

import vtnp
from vtnp.mistakes import mistakes
from vtnp.verify.page_text import inner_formulas, plain_line, what_goes_wrong, where_to_look
from vtnp.verify.plain_math import plain_math


@pytest.mark.parametrize(("id", "name"), list(mistakes))
def test_every_mistake_has_a_text_without_tex(id, name):
    text = what_goes_wrong(id, name)
    assert text
    assert not re.search(r"[$\\{}\n]|\]\(", text), text
    assert "Not told apart" not in text


@pytest.mark.parametrize("formula", vtnp.formulas(), ids=lambda formula: formula.id)
def test_pages_are_plain_text_throughout(formula):
    """All TeX of the pages, also that which no report quotes today."""
    lines = [line for line in formula.page.split("```")[-1].splitlines() if "$$" not in line]
    for passage in "\n".join(lines).split("\n\n"):
        if passage.count("$") % 2 == 0 and "\\begin" not in passage:
            assert not re.search(r"[$\\]", plain_math(passage)), passage


@pytest.mark.parametrize(
    ("tex", "plain"),
    [
        (r"$1/\sqrt d$ instead of $1/\sqrt{d_h}$", "1/sqrt(d) instead of 1/sqrt(d_h)"),
        (r"$10^{-5}$, $d^{1/4}$, $V_{i-j}$", "10^-5, d^(1/4), V_(i-j)"),
        (r"$x\,\sigma(1.702 x)$", "x sigma(1.702 x)"),
        (r"$\frac14(\ldots)Z$ and $\frac{w-1}{w}$", "1/4(...)Z and (w-1)/w"),
        (r"$\langle Q_i, a^K_{ij}\rangle$", "<Q_i, a^K_ij>"),
        (r"$r\lceil w/r \rceil - w$", "r ceil(w/r) - w"),
        (r"$\sum_j \exp(x_j - \max x)$", "sum_j exp(x_j - max x)"),
        (r"$\mathrm{erf}(x / \sqrt2)$, $\hat x$, $\tilde Y$", "erf(x / sqrt(2)), x^, Y~"),
        (r"$j \ge i$, $-\infty$, $n \times d$", "j >= i, -inf, n x d"),
        (r"$\overline{x^2} - \mu^2$, $\|A\|_\infty$", "mean(x^2) - mu^2, |A|_inf"),
        ("costs $5 and no more", "costs $5 and no more"),
    ],
)
def test_plain_math(tex, plain):
    assert plain_math(tex) == plain


def test_links_are_their_words():
    assert plain_line("see\n[the page](../encoder/softmax.md).") == "see the page."


def test_a_mistake_that_the_page_does_not_have():
    assert what_goes_wrong("softmax", "no-such-mistake") == ""


def test_inner_formulas_are_all_of_them_once():
    inner = inner_formulas("pre-norm-layer")
    assert len(set(inner)) == len(inner)
    assert {"self-attention-sublayer", "layer-norm", "attention", "softmax", "gelu"} <= {*inner}
    assert inner_formulas("softmax") == ()


def test_where_to_look():
    formula = "y[i] = exp(x[i]) / sum_j exp(x[j])"
    page = "spec/encoder/softmax.md, Formula and Usual mistakes"
    assert where_to_look("softmax") == f"{formula} ({page})"
