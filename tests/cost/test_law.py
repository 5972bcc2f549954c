"""The law of cost: what a page states is what its formula takes, exactly, at any sizes."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vtnp
from tests.cost.sizes import sizes
from vtnp import FormulaError, cost
from vtnp._array.trees import tree_leaves
from vtnp._registry.expressions import FUNCTIONS, ExpressionError, names_in
from vtnp._registry.pages import pages_folder
from vtnp._registry.spec import registry
from vtnp.cost import recipes
from vtnp.cost.forms import closed_form, integer
from vtnp.cost.sizes import call, defaults, names, parsed

IDS = list(registry)


def counted(id, **given):
    """Return a call's closed form and what is counted."""
    made = call(id, **given)
    return closed_form(id, made.letters), cost.counted(registry[id].function, **made.arguments)


@pytest.mark.parametrize("id", IDS)
@given(data=st.data())
def test_the_closed_form_is_what_is_counted(id, data):
    """For each element of a batch alike, so that a batch multiplies it."""
    drawn = data.draw(sizes(id))
    stated, found = counted(id, **drawn)
    assert found.multiply_adds == stated * math.prod(drawn["batch"])


@pytest.mark.parametrize("id", IDS)
def test_defaults_run(id):
    """They are real sizes: those of a published model, not of a test."""
    stated, found = counted(id)
    assert found.multiply_adds == stated
    assert defaults(id).keys() == names(id).keys()
    numbers = [n for n in defaults(id).values() if type(n) is int]
    assert max(numbers, default=14) >= 8


def test_every_recipe_says_where_its_defaults_come_from():
    assert recipes.tables.__doc__
    for module in {entry.module for entry in registry.values()}:
        doc = getattr(recipes._module(module_of(module)), "__doc__", "")
        assert doc.startswith(f"Sizes of vtnp.{module}'"), module


def module_of(module):
    """Return one formula of a module."""
    return next(entry.id for entry in registry.values() if entry.module == module)


def test_recipes_are_of_formulas_that_there_are():
    known = {(entry.module, entry.id) for entry in registry.values()}
    for module in {entry.module for entry in registry.values()}:
        for id, recipe in recipes._module(module_of(module)).RECIPES.items():
            assert (module, id) in known
            assert recipe.sizes.keys() <= names(id).keys(), f"{id}: a default of no name"


def test_sizes_at_which_nothing_could_be_computed():
    stated, found = counted("attention", n=10**9, d_k=64, dtype="float32")
    assert found.multiply_adds == stated == 128 * 10**18
    n, heads = 2**40, 16
    stated, found = counted("dilated-attention", n=n, heads=heads)
    segments, dilations = defaults("dilated-attention")["segments"], (1, 2, 4, 6, 12)
    each = sum(n // w * math.ceil(w / r) ** 2 for w, r in zip(segments, dilations, strict=True))
    assert found.multiply_adds == stated == heads * each * 128


# --- From sizes to arguments ----------------------------------------------------------------------


def test_arguments_have_the_shapes_of_the_signature():
    made = call("attention", n=5, m=7, d_k=3, d_v=2, batch=(4, 1), mask=True, dtype="float16")
    shapes = {name: x.shape for name, x in made.arguments.items() if name != "scale"}
    assert shapes == {"Q": (4, 1, 5, 3), "K": (4, 1, 7, 3), "V": (4, 1, 7, 2), "mask": (5, 7)}
    assert [x.dtype for _, x in tree_leaves(made.arguments)] == [*[np.float16] * 3, np.bool_]
    assert made.letters["n"] == 5
    assert made.letters["scale"] is None


def test_what_is_left_out_follows_from_what_is_given():
    assert defaults("attention", n=1000)["m"] == 1000
    widths = defaults("encoder-layer", d=96, heads=4)
    assert (widths["d_h"], widths["d_v"], widths["d_f"]) == (24, 24, 384)
    assert defaults("axial-layer", grid=(3, 5))["s"] == 15
    assert defaults("deformable-layer", t=12, clips=3)["u"] == 4
    assert defaults("multiscale-block", grid=(2, 4, 6), cls=False)["n"] == 48
    assert call("tubelet-embedding", T=9, p_t=4).letters["t"] == 2
    assert defaults("nystrom-attention", Q_tilde=True)["landmarks"] is None


def test_formulas_go_by_their_numbers_too():
    for name in ("eq2", 2):
        assert call(name, t=3).id == "trajectory-tokens"
        assert defaults(name, t=3)["t"] == parsed(name, "t", "3") == 3
    for act in (call, defaults, names):
        with pytest.raises(
            LookupError, match="no formula is called 'atention'; near it: attention"
        ):
            act("atention")


def test_switches_leave_arrays_out():
    plus_bias, plain = (call("encoder-layer", biases=flag).arguments for flag in (True, False))
    more = {path for path, _ in tree_leaves(plus_bias)} - {path for path, _ in tree_leaves(plain)}
    assert {path.rpartition(".")[2] for path in more} == {"b_q", "b_k", "b_v", "b_c", "b_1", "b_2"}
    assert call("attention").arguments["mask"] is None
    assert call("time-attention", K_cls=True).arguments["V_cls"].shape == (1, 64)
    assert "time" not in call("factorised-encoder", time_layers=None).arguments["params"]
    assert "fc" not in call("divided-layer", fc=False).arguments["params"]["time"]


def test_a_name_that_there_is_not_is_refused():
    expected = (
        r"^attention: nothing is called 'heads'; there are n, d_k, m, d_v, mask, scale, batch, "
        r"dtype; nearest: \w+$"
    )
    for act in (call, defaults):
        with pytest.raises(FormulaError, match=expected):
            act("attention", heads=3)
    with pytest.raises(FormulaError, match=r"nearest: d_k$"):
        parsed("attention", "dk", "3")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n": -1}, "n: expected a whole number >= 0, got -1"),
        ({"n": 2.5}, "n: expected a whole number >= 0, got 2.5"),
        ({"n": True}, "n: expected a whole number >= 0, got True"),
        (
            {"dtype": "int64"},
            "dtype: expected one of .'float16', 'float32', 'float64'., got 'int64'",
        ),
        ({"batch": 3}, "batch: expected a row of sizes, got 3"),
        ({"batch": (2, -1)}, "batch: expected a whole number >= 0, got -1"),
    ],
)
def test_sizes_that_are_none_are_refused(given, message):
    with pytest.raises(FormulaError, match=f"^{message}$"):
        call("attention", **given)


def test_widths_that_heads_do_not_share_out_are_refused():
    with pytest.raises(FormulaError, match="d: expected a multiple of heads = 5, got 768"):
        call("encoder-layer", heads=5)
    with pytest.raises(FormulaError, match="d: expected a multiple of heads = 0"):
        call("encoder-layer", heads=0)


@pytest.mark.parametrize(
    ("id", "given"),
    [
        ("attention", {"m": 0}),
        ("segment-means", {"n": 5, "l": 6}),
        ("local-attention", {"grid": (3, 4)}),
        ("sparse-to-dense", {"n": 0}),
        ("sparse-to-dense", {"dilation": 0}),
        ("dilated-attention", {"segments": (8, 16)}),
        ("axial-layer", {"s": 195}),
    ],
)
def test_what_a_formula_has_no_meaning_for_it_refuses_itself(id, given):
    with pytest.raises(FormulaError, match=r"^[a-z-]+( \(.*\))?: argument "):
        counted(id, **given)


# --- As a command line has it ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("id", "name", "text", "value"),
    [
        ("attention", "n", "4096", 4096),
        ("attention", "n", "1e9", 10**9),
        ("attention", "n", "1.5e3", 1500),
        ("attention", "n", "2**20", 2**20),
        ("attention", "n", "1_000_000", 10**6),
        ("attention", "scale", "0.125", 0.125),
        ("attention", "scale", "none", None),
        ("attention", "mask", "true", True),
        ("attention", "batch", "2,3", (2, 3)),
        ("attention", "batch", "5", (5,)),
        ("attention", "dtype", "float16", "float16"),
        ("axial-layer", "grid", "14x14", (14, 14)),
        ("axial-layer", "grid", "14,14", (14, 14)),
        ("class-attention", "grid", "none", None),
        ("pool", "size", "3x3x3", (3, 3, 3)),
        ("multiscale-block", "kernel_q", "none", None),
        ("dilated-attention", "segments", "2048,4096", (2048, 4096)),
        ("dilated-attention", "segments", "2**11,1e4", (2048, 10_000)),
        ("dilated-attention", "causal", "False", False),
        ("dilated-attention", "offsets", "torchscale", "torchscale"),
        ("adaptive-strides", "strides_q", "1x2x2,1x1x1", ((1, 2, 2), (1, 1, 1))),
        ("trajectory-layer", "prototypes", "128", 128),
        ("trajectory-layer", "prototypes", "none", None),
        ("orthogonal-prototypes", "start", "3", 3),
        ("nystrom-attention", "landmarks", "none", None),
        ("nystrom-attention", "start", "original", "original"),
    ],
)
def test_texts_are_read_as_what_a_name_takes(id, name, text, value):
    assert parsed(id, name, text) == value
    assert type(parsed(id, name, text)) is type(value)


@pytest.mark.parametrize(
    ("id", "name", "text", "expected"),
    [
        ("attention", "n", "many", "a whole number, such as 4096, 1e6 or 2.*20"),
        ("attention", "n", "2.5", "a whole number, .*"),
        ("attention", "n", "", "a whole number, .*"),
        ("attention", "n", "2**x", "a whole number, .*"),
        ("attention", "n", "inf", "a whole number, .*"),
        ("attention", "n", "1e999999999", "a whole number, .*"),
        ("attention", "n", "9**99999999", "a whole number, .*"),
        ("attention", "n", "2**-1", "a whole number, .*"),
        ("attention", "n", "none", "a whole number, .*"),
        ("attention", "scale", "half", "a number, or none"),
        ("attention", "mask", "maybe", "true or false"),
        ("axial-layer", "grid", "14", "2 whole numbers, such as 14x14"),
        ("pool", "stride", "1x2", "3 whole numbers, such as 8x14x14"),
        ("dilated-attention", "segments", "a,b", "whole numbers, such as 2048,4096"),
        ("adaptive-strides", "strides_q", "1x2", "rows of whole numbers, such as 1x2x2,1x1x1"),
    ],
)
def test_texts_that_are_none_are_refused(id, name, text, expected):
    with pytest.raises(FormulaError, match=rf"^{id}: {name}: expected {expected}, got '.*'$"):
        parsed(id, name, text)


@pytest.mark.parametrize("id", IDS)
def test_every_default_can_be_written(id):
    """As a person would write it, and read as the same."""
    for name, value in defaults(id).items():
        assert parsed(id, name, written(value)) == value, name


def written(value):
    if isinstance(value, tuple):
        nested = any(isinstance(each, tuple) for each in value)
        return ",".join("x".join(map(str, each)) if nested else str(each) for each in value)
    return str(value)


# --- The language of the pages --------------------------------------------------------------------


@pytest.mark.parametrize("id", IDS)
def test_a_cost_names_what_the_call_knows(id):
    assert names_in(vtnp.formula(id).cost["multiply_adds"]) <= call(id).letters.keys()


def test_the_readme_says_which_names_a_cost_may_use():
    page = (pages_folder() / "README.md").read_text(encoding="utf-8")
    _, _, said = page.partition("The expression of `[cost]`")
    paragraph = said.partition("\n\n")[0]
    assert all(f"`{name}`" in paragraph for name in FUNCTIONS)
    assert "`vtnp.cost.forms.closed_form`" in paragraph


@pytest.mark.parametrize(
    ("form", "value"),
    [
        ("n**2 * (d + 1)", 48),
        ("-(-n // 3)", 2),
        ("n if mask is None else 0", 4),
        ("sum(a * b for a, b in zip(rows, rows))", 13),
        ("len(rows) + rows[0] + min(n, 1) + max(n, d)", 9),
        ("n * (word in ('one', 'two')) * (word != 'two')", 4),
        ("10**30 + 1", 10**30 + 1),
    ],
)
def test_costs_are_whole_numbers(form, value):
    letters = {"n": 4, "d": 2, "mask": None, "rows": (2, 3), "word": "one"}
    assert integer(form, letters, "here") == value


@pytest.mark.parametrize(
    "form",
    [
        "n.real",
        "__import__('os')",
        "open(n)",
        "min(n, key=len)",
        "(lambda: n)()",
        "[n for n in rows]",
        "(m := n)",
        "n / 2",
        "2.5 * n",
        "f'{n}'",
        "n <",
        "rows[0:1]",
        "{n: n}",
        "True",
        "n == 4",
        "'n'",
    ],
)
def test_anything_else_has_no_place_in_a_cost(form):
    with pytest.raises(ExpressionError):
        integer(form, {"n": 4, "rows": (2, 3)}, "here")


def test_functions_of_python_are_not_to_be_had():
    with pytest.raises(FormulaError, match="here: the cost needs a value for 'open'"):
        integer("n + open", {"n": 4}, "here")


def test_a_letter_without_a_value_is_named():
    with pytest.raises(FormulaError, match="attention: the cost needs a value for 'd_v'"):
        closed_form("attention", {"n": 2, "m": 3, "d_k": 4})
