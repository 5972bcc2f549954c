"""The law of cost: what a page states is what its formula takes, exactly, at any sizes."""

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

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
from vtnp._registry.params import shapes_of
from vtnp._registry.spec import registry
from vtnp.cost import closed_forms, recipes
from vtnp.cost.closed_forms import ClosedFormError, closed_form, integer
from vtnp.cost.option_text import text_of, value_of
from vtnp.cost.sizes import default_sizes, parsed_size, size_names, sized_call
from vtnp.longnet import Branch
from vtnp.motionformer import Prototypes
from vtnp.mvit import Pooling
from vtnp.tokens import Grid

IDS = list(registry)


def counted(id, **given):
    """Return a call's closed form and what is counted."""
    made = sized_call(id, **given)
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
    assert default_sizes(id).keys() == size_names(id).keys()
    numbers = [n for n in default_sizes(id).values() if type(n) is int]
    assert max(numbers, default=14) >= 8


def test_every_recipe_says_where_its_defaults_come_from():
    assert recipes.CHAPTERS.keys() == {entry.module for entry in registry.values()}
    for chapter, module in recipes.CHAPTERS.items():
        assert module.__doc__.startswith(f"Sizes of vtnp.{chapter}'"), chapter


def test_recipes_are_of_formulas_that_there_are():
    known = {(entry.module, entry.id) for entry in registry.values()}
    for chapter, module in recipes.CHAPTERS.items():
        for id, recipe in module.RECIPES.items():
            assert (chapter, id) in known
            assert recipe.sizes.keys() <= size_names(id).keys(), f"{id}: a default of no name"
            assert recipe.params.keys() <= params_of(id), f"{id}: a rule of no entry"


def params_of(id):
    """Return the paths of all arrays, tables and lists in the params of a formula."""
    tables = registry[id].signature.tables.values()
    paths = [path for table in tables for path, _ in shapes_of(table)]
    parts = [path.replace("?", "").replace("[]", "").split(".") for path in paths]
    return {".".join(part[:i]) for part in parts for i in range(1, len(part) + 1)}


def test_sizes_at_which_nothing_could_be_computed():
    stated, found = counted("attention", n=10**9, d_k=64, dtype="float32")
    assert found.multiply_adds == stated == 128 * 10**18
    n, heads = 2**40, 16
    stated, found = counted("dilated-attention", n=n, heads=heads)
    branches = default_sizes("dilated-attention")["branches"]
    each = sum(n // w * math.ceil(w / r) ** 2 for w, r in branches)
    assert found.multiply_adds == stated == heads * each * 128


# --- From sizes to arguments ----------------------------------------------------------------------


def test_arguments_have_the_shapes_of_the_signature():
    made = sized_call("attention", n=5, m=7, d_k=3, d_v=2, batch=(4, 1), mask=True, dtype="float16")
    shapes = {name: x.shape for name, x in made.arguments.items() if name != "scale"}
    assert shapes == {"Q": (4, 1, 5, 3), "K": (4, 1, 7, 3), "V": (4, 1, 7, 2), "mask": (5, 7)}
    assert [x.dtype for _, x in tree_leaves(made.arguments)] == [*[np.float16] * 3, np.bool_]
    assert made.letters["n"] == 5
    assert made.letters["scale"] is None


def test_what_is_left_out_follows_from_what_is_given():
    assert default_sizes("attention", n=1000)["m"] == 1000
    widths = default_sizes("encoder-layer", d=96, heads=4)
    assert (widths["d_h"], widths["d_v"], widths["d_f"]) == (24, 24, 384)
    assert default_sizes("axial-layer", grid=(2, 3, 5))["s"] == 15
    assert default_sizes("axial-layer", grid=(2, 3, 5))["t"] == 2
    assert default_sizes("axial-layer", t=2)["grid"] == (2, 14, 14)
    assert default_sizes("deformable-layer", t=12, clips=3)["u"] == 4
    assert default_sizes("multiscale-block", grid=(2, 4, 6), has_cls=False)["n"] == 48
    assert sized_call("tubelet-embedding", T=9, p_t=4).letters["t"] == 2
    assert default_sizes("nystrom-attention", Q_tilde=True)["landmarks"] is None


def test_formulas_go_by_their_numbers_too():
    for name in ("eq2", 2):
        assert sized_call(name, t=3).id == "trajectory-tokens"
        assert default_sizes(name, t=3)["t"] == parsed_size(name, "t", "3") == 3
    for act in (sized_call, default_sizes, size_names):
        with pytest.raises(
            LookupError, match="no formula is called 'atention'; did you mean attention"
        ):
            act("atention")


def test_switches_leave_arrays_out():
    plus_bias, plain = (
        sized_call("encoder-layer", biases=flag).arguments for flag in (True, False)
    )
    more = {path for path, _ in tree_leaves(plus_bias)} - {path for path, _ in tree_leaves(plain)}
    assert {path.rpartition(".")[2] for path in more} == {"b_q", "b_k", "b_v", "b_c", "b_1", "b_2"}
    assert sized_call("attention").arguments["mask"] is None
    assert sized_call("time-attention", K_cls=True).arguments["V_cls"].shape == (1, 64)
    assert "time" not in sized_call("factorised-encoder", time_layers=None).arguments["params"]
    assert "fc" not in sized_call("divided-layer", fc=False).arguments["params"]["time"]


def test_a_name_that_there_is_not_is_refused():
    expected = (
        r"^attention: no size or option is called 'heads'; there are n, d_k, m, d_v, mask, scale, "
        r"batch, dtype; nearest: \w+$"
    )
    for act in (sized_call, default_sizes):
        with pytest.raises(FormulaError, match=expected):
            act("attention", heads=3)
    with pytest.raises(FormulaError, match=r"nearest: d_k$"):
        parsed_size("attention", "dk", "3")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n": -1}, "n: expected an integer >= 0, got -1"),
        ({"n": 2.5}, "n: expected an integer >= 0, got 2.5"),
        ({"n": True}, "n: expected an integer >= 0, got True"),
        ({"dtype": "int64"}, "dtype: expected one of float16, float32, float64, got 'int64'"),
        ({"batch": 3}, "batch: expected a sequence of sizes, got 3"),
        ({"batch": (2, -1)}, "batch: expected an integer >= 0, got -1"),
    ],
)
def test_sizes_that_are_none_are_refused(given, message):
    with pytest.raises(FormulaError, match=f"^attention: {message}$"):
        sized_call("attention", **given)


def test_widths_that_heads_do_not_share_out_are_refused():
    with pytest.raises(FormulaError, match="d: expected a multiple of heads = 5, got 768"):
        sized_call("encoder-layer", heads=5)
    with pytest.raises(FormulaError, match="d: expected a multiple of heads = 0"):
        sized_call("encoder-layer", heads=0)


@pytest.mark.parametrize(
    ("id", "given"),
    [
        ("attention", {"m": 0}),
        ("segment-means", {"n": 5, "l": 6}),
        ("local-attention", {"grid": (8, 3, 4)}),
        ("sparse-to-dense", {"n": 0}),
        ("sparse-to-dense", {"branch": (1, 0)}),
        ("dilated-attention", {"branches": ((8, 16),)}),
        ("axial-layer", {"s": 195}),
    ],
)
def test_what_a_formula_has_no_meaning_for_it_refuses_itself(id, given):
    with pytest.raises(FormulaError, match=r"^[a-z-]+( \(.*\))?: (argument|expected) "):
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
        ("axial-layer", "grid", "8x14x14", Grid(8, 14, 14)),
        ("axial-layer", "grid", "8,14,14", Grid(8, 14, 14)),
        ("class-attention", "grid", "none", None),
        ("pooled-residual", "stride", "1x2x2", (1, 2, 2)),
        ("pool", "pooling", "1x8x8", Pooling((1, 8, 8))),
        ("pool", "pooling", "1x2x2,3x3x3,none,max", Pooling((1, 2, 2), (3, 3, 3), mode="max")),
        ("multiscale-block", "kernel_q", "none", None),
        ("dilated-branch", "branch", "2048x1", Branch(2048, 1)),
        ("dilated-attention", "branches", "2048x1", (Branch(2048, 1),)),
        ("dilated-attention", "branches", "2048x1,4096x2", (Branch(2048, 1), Branch(4096, 2))),
        ("dilated-attention", "branches", "2**11x1,1e4x3", (Branch(2048, 1), Branch(10_000, 3))),
        ("dilated-attention", "causal", "False", False),
        ("dilated-attention", "offsets", "torchscale", "torchscale"),
        ("adaptive-strides", "strides_q", "1x2x2,1x1x1", ((1, 2, 2), (1, 1, 1))),
        ("trajectory-layer", "prototypes", "128", Prototypes(128)),
        ("trajectory-layer", "prototypes", "128,both", Prototypes(128, "both")),
        ("trajectory-layer", "prototypes", "none", None),
        ("orthogonal-prototypes", "start", "3", 3),
        ("nystrom-attention", "landmarks", "none", None),
        ("nystrom-attention", "start", "original", "original"),
    ],
)
def test_texts_are_read_as_what_a_name_takes(id, name, text, value):
    assert parsed_size(id, name, text) == value
    assert type(parsed_size(id, name, text)) is type(value)


@pytest.mark.parametrize(
    ("id", "name", "text", "expected"),
    [
        ("attention", "n", "many", "an integer, such as 4096, 1e6 or 2.*20"),
        ("attention", "n", "2.5", "an integer, .*"),
        ("attention", "n", "", "an integer, .*"),
        ("attention", "n", "2**x", "an integer, .*"),
        ("attention", "n", "inf", "an integer, .*"),
        ("attention", "n", "1e999999999", "an integer, .*"),
        ("attention", "n", "9**99999999", "an integer, .*"),
        ("attention", "n", "2**-1", "an integer, .*"),
        ("attention", "n", "none", "an integer, .*"),
        ("attention", "scale", "half", "a number, or none"),
        ("attention", "mask", "maybe", "True or False"),
        ("axial-layer", "grid", "14x14", r"Grid\(t, h, w\), such as 8x14x14"),
        ("pooled-residual", "stride", "1x2", "3 integers, such as 1x2x2"),
        (
            "dilated-attention",
            "branches",
            "2048,4096",
            r"a sequence, each Branch\(segment, dilation\), such as 2048x1,4096x2,8192x4,.*",
        ),
        (
            "adaptive-strides",
            "strides_q",
            "1x2",
            "a sequence, each 3 integers, such as 1x1x1,1x2x2",
        ),
    ],
)
def test_texts_that_are_none_are_refused(id, name, text, expected):
    with pytest.raises(FormulaError, match=rf"^{id}: {name}: expected {expected}, got '.*'$"):
        parsed_size(id, name, text)


@pytest.mark.parametrize("id", IDS)
def test_every_default_can_be_written(id):
    """As the command line prints it, and read as the same."""
    hints = size_names(id)
    for name, value in default_sizes(id).items():
        assert parsed_size(id, name, text_of(value, hints[name])) == value, name


class Interval(NamedTuple):
    length: int
    step: int = 1


class Window(NamedTuple):
    stride: tuple[int, int]
    size: tuple[int, int] | None = None
    mode: Literal["conv", "max"] = "conv"


@pytest.mark.parametrize(
    ("hint", "text", "value"),
    [
        (Literal["relu", "gelu"], "gelu", "gelu"),
        (Literal["none", "tanh"], "none", "none"),
        (Literal["none", "tanh"] | None, "none", None),
        (Grid, "8x14x14", Grid(8, 14, 14)),
        (Grid, "8,14,14", Grid(8, 14, 14)),
        (Grid | None, "none", None),
        (Interval, "2048", Interval(2048)),
        (Sequence[Branch], "2048x1,4096x2", (Branch(2048, 1), Branch(4096, 2))),
        (Sequence[Branch], "2**11x1", (Branch(2048, 1),)),
        (Window, "1x2,3x3", Window((1, 2), (3, 3))),
        (Window, "1x2,none,max", Window((1, 2), None, "max")),
        (tuple[int, ...], "1,2,3", (1, 2, 3)),
        (Sequence[int], "", ()),
        (bool, "yes", True),
    ],
)
def test_texts_are_read_as_the_options_type(hint, text, value):
    read = value_of("a formula", "an option", hint, text)
    assert read == value
    assert type(read) is type(value)
    again = value_of("a formula", "an option", hint, text_of(value, hint))
    assert again == value


@pytest.mark.parametrize(
    ("hint", "text", "example", "expected"),
    [
        (Literal["relu", "gelu"], "tanh", "relu", "one of 'relu', 'gelu'"),
        (Literal["relu", "gelu"] | None, "tanh", "relu", "one of 'relu', 'gelu', or none"),
        (Grid, "8x14", Grid(8, 14, 14), "Grid(t, h, w), such as 8x14x14"),
        (Grid, "8x14x", Grid(8, 14, 14), "Grid(t, h, w), such as 8x14x14"),
        (Grid, "8x14x1.5", None, "Grid(t, h, w)"),
        (
            Sequence[Branch],
            "2048x1x2",
            (Branch(2048, 1), Branch(4096, 2)),
            "a sequence, each Branch(segment, dilation), such as 2048x1,4096x2",
        ),
        (Window, "1x2x3", Window((1, 2)), "Window(stride, size, mode), such as 1x2,none,conv"),
        (int | None, "x", 3, "an integer, such as 4096, 1e6 or 2**20, or none"),
    ],
)
def test_the_message_says_what_can_be_written(hint, text, example, expected):
    message = f"attention: an option: expected {expected}, got {text!r}"
    with pytest.raises(FormulaError, match=f"^{re.escape(message)}$"):
        value_of("attention", "an option", hint, text, example=example)


def test_what_no_text_says_cannot_be_set():
    with pytest.raises(FormulaError, match="attention: rng cannot be set on the command line"):
        value_of("attention", "rng", Any, "0")


# --- The language of the pages --------------------------------------------------------------------


@pytest.mark.parametrize("id", IDS)
def test_a_cost_names_what_the_call_knows(id):
    assert names_in(vtnp.formula(id).cost["multiply_adds"]) <= sized_call(id).letters.keys()


def test_the_readme_says_which_names_a_cost_may_use():
    page = (pages_folder() / "README.md").read_text(encoding="utf-8")
    _, _, said = page.partition("The expression of `[cost]`")
    paragraph = " ".join(said.partition("\n\n")[0].split())
    assert all(f"`{name}`" in paragraph for name in FUNCTIONS)
    assert "`vtnp.cost.closed_form`" in paragraph


@pytest.mark.parametrize(
    ("form", "value"),
    [
        ("n**2 * (d + 1)", 48),
        ("-(-n // 3)", 2),
        ("n if mask is None else 0", 4),
        ("sum(a * b for a, b in zip(sizes, sizes))", 13),
        ("len(sizes) + sizes[0] + min(n, 1) + max(n, d)", 9),
        ("n * (option in ('one', 'two')) * (option != 'two')", 4),
        ("grid.h * grid.w if all(side > 0 for side in grid) else 0", 15),
        ("10**30 + 1", 10**30 + 1),
        ("cost('softmax')", 0),
        ("2 * cost('attention', m=n, d_k=d, d_v=3)", 2 * 4 * 4 * (2 + 3)),
    ],
)
def test_costs_are_integers(form, value):
    letters = {"n": 4, "d": 2, "mask": None, "sizes": (2, 3), "option": "one"}
    assert integer(form, {**letters, "grid": Grid(2, 3, 5)}, ("here",)) == value


@pytest.mark.parametrize(
    "form",
    [
        "n.real",
        "grid.h.real",
        "grid._fields",
        "grid.count",
        "__import__('os')",
        "open(n)",
        "min(n, key=len)",
        "max(*rows)",
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
        "n + mask",
        "n // 0",
        "rows[5]",
        "cost()",
        "cost(n)",
        "cost('softmax', 'attention')",
        "cost('softmax', n=1, n=2)",
        "cost('softmax', **grid)",
        "cost.real",
    ],
)
def test_anything_else_has_no_place_in_a_cost(form):
    letters = {"n": 4, "rows": (2, 3), "mask": None, "grid": Grid(2, 3, 5)}
    with pytest.raises(ExpressionError, match=r"^here: multiply_adds: "):
        integer(form, letters, ("here",))


def test_functions_of_python_are_not_to_be_had():
    with pytest.raises(FormulaError, match=r"no value for 'open' in 'n \+ open'$"):
        integer("n + open", {"n": 4}, ("here",))


def test_a_letter_without_a_value_is_named():
    place = r"^attention \(spec/encoder/attention\.md\): multiply_adds: (cost\('.*'\): )*"
    message = rf"{place}no value for 'd_v' in "
    with pytest.raises(FormulaError, match=message):
        closed_form("attention", {"n": 2, "m": 3, "d_k": 4})


# --- Composed closed forms ------------------------------------------------------------------------


@pytest.fixture
def pages(monkeypatch):
    """Return a table of costs by id, which stand in for those of the pages."""
    costs = {}
    read = closed_forms.formula

    def formula(id):
        page = read(id)
        return replace(page, cost={"multiply_adds": costs[id]}) if id in costs else page

    monkeypatch.setattr(closed_forms, "formula", formula)
    closed_forms._letters.cache_clear()
    yield costs
    closed_forms._letters.cache_clear()


def test_a_part_has_the_letters_of_the_whole_but_for_those_given(pages):
    pages["softmax"] = "n"
    pages["attention"] = "m * cost('softmax', n=m) + d_k * cost('softmax')"
    assert closed_form("attention", {"n": 2, "m": 3, "d_k": 5}) == 3 * 3 + 5 * 2


def test_parts_have_parts_and_keep_letters_given_further_out(pages):
    pages["softmax"] = "n * m"
    pages["attention-weights"] = "cost('softmax', n=10 * n)"
    pages["attention"] = "cost('attention-weights', m=m + 1)"
    pages["cross-attention"] = "2 * cost('attention', n=t * s)"
    letters = {"n": 1, "m": 3, "t": 4, "s": 5}
    assert closed_form("cross-attention", letters) == 2 * (10 * 20) * (3 + 1)


def test_a_part_that_is_not_needed_is_not_evaluated(pages):
    pages["softmax"] = "letter_without_value"
    pages["attention"] = "n if mask is None else cost('softmax')"
    assert closed_form("attention", {"n": 2, "mask": None}) == 2


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (
            "cost('atention')",
            "cost('atention'): no formula is called 'atention'; did you mean attent",
        ),
        ("cost('softmax', N=n)", "cost('softmax'): softmax has no letter 'N'; it has n, x"),
        ("cost('softmax', 3)", """cost takes a formula's id and letters by name, as in cost('"""),
        ("n * open", "no value for 'open' in 'n * open'"),
        ("n / 2", "Div is not allowed in 'n / 2'"),
    ],
)
def test_errors_name_the_page_and_the_expression(pages, form, message):
    pages["softmax"] = "n"
    pages["attention"] = form
    message = f"attention (spec/encoder/attention.md): multiply_adds: {message}"
    with pytest.raises((ClosedFormError, FormulaError), match=f"^{re.escape(message)}"):
        closed_form("attention", {"n": 2})


def test_errors_of_a_part_name_the_way_to_it(pages):
    pages["softmax"] = "n * missing"
    pages["attention-weights"] = "cost('softmax')"
    pages["attention"] = "cost('attention-weights')"
    message = (
        "attention (spec/encoder/attention.md): multiply_adds: cost('attention-weights'): "
        "cost('softmax'): no value for 'missing' in 'n * missing'"
    )
    with pytest.raises(FormulaError, match=f"^{re.escape(message)}$"):
        closed_form("attention", {"n": 2})


def test_a_cost_that_refers_to_itself_names_the_pages_of_the_circle(pages):
    pages["softmax"] = "n + cost('attention-weights')"
    pages["attention-weights"] = "cost('softmax')"
    pages["attention"] = "cost('attention-weights')"
    message = (
        "the cost refers to itself: spec/encoder/attention-weights.md -> spec/encoder/softmax.md "
        "-> spec/encoder/attention-weights.md"
    )
    with pytest.raises(ClosedFormError, match=f"{re.escape(message)}$"):
        closed_form("attention", {"n": 2})
    pages["relu"] = "cost('relu')"
    message = (
        "cost('relu'): the cost refers to itself: spec/encoder/relu.md -> spec/encoder/relu.md"
    )
    with pytest.raises(ClosedFormError, match=f"{re.escape(message)}$"):
        closed_form("relu", {})
