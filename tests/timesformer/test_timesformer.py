"""What no law says of vtnp.timesformer: exact values, refusals, counterexamples, accuracy."""

import itertools
import re

import numpy as np
import pytest

import vtnp
from tests.oracles import timesformer as oracles
from tests.support.compare import assert_close, difference
from vtnp.claims.cases import make
from vtnp.claims.timesformer import as_image, own_orders, without_time

RULES = ("out", "key", "mean", "all")


# --- Neighbourhoods -------------------------------------------------------------------------------


def refusal(id, condition):
    """Return the error of a formula for a condition that does not hold."""
    return {"match": re.escape(f"{id}.md): expected {condition}, got")}


@pytest.mark.parametrize("attend", ["local", "global", "width", "height"])
def test_grids_that_do_not_fit_are_refused(attend):
    case = make(f"{attend}-attention", 0)
    t, h, w = case["grid"]
    with pytest.raises(vtnp.FormulaError, **refusal(f"{attend}-attention", "grid.h * grid.w == s")):
        case(grid=(t, 2, 1))
    with pytest.raises(vtnp.FormulaError, **refusal(f"{attend}-attention", "grid.t == t")):
        case(grid=(t + 2, h, w))
    with pytest.raises(vtnp.FormulaError, **refusal(f"{attend}-attention", "min(grid) >= 0")):
        case(grid=(t, -h, -w))


@pytest.mark.parametrize("attend", ["local", "global", "width", "height"])
def test_neighbourhoods_on_a_grid_need_one(attend):
    with pytest.raises(
        vtnp.FormulaError,
        **refusal("class-attention", "grid is not None or over in ('space', 'time', 'joint')"),
    ):
        make("class-attention", 0)(over=attend, grid=None)
    with pytest.raises(
        vtnp.FormulaError,
        **refusal("attention-sublayer", "grid is not None or attend in ('space', 'time', 'joint')"),
    ):
        make("attention-sublayer", 0)(attend=attend, grid=None)


@pytest.mark.parametrize("id", ["space-attention", "class-attention"])
def test_a_class_key_without_its_value_is_refused(id):
    case = make(id, 0)
    K_cls = np.ones((1, case["K"].shape[-1]))
    with pytest.raises(vtnp.FormulaError, **refusal(id, "(K_cls is None) == (V_cls is None)")):
        case(K_cls=K_cls, V_cls=None)


# --- One sublayer ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value"), [("attend", "diagonal"), ("class_token", "maybe"), ("class_token", None)]
)
def test_unknown_options_are_refused(option, value):
    case = make("attention-sublayer", 0)
    with pytest.raises(
        vtnp.FormulaError, match=rf"attention-sublayer .*: argument {option}: .*{value!r}"
    ):
        case(**{option: value})


@pytest.mark.parametrize(("rule", "needs"), [("out", ""), ("key", "kv"), ("all", "qkv")])
def test_the_class_token_has_only_the_projections_that_it_needs(rule, needs):
    case = make("attention-sublayer", 0)
    seen = []

    def note(call, proceed):
        if call.id == "qkv-projection" and call.arguments["x"].shape[-2] == 1:
            seen.append(call.arguments["W"])
        return proceed(call)

    with vtnp.intercept(note):
        case(class_token=rule)
    weights = case["params"]["attention"]
    assert {id(W) for W in seen} == {id(weights[f"W_{letter}"]) for letter in needs}


# --- Layers ---------------------------------------------------------------------------------------


def test_not_a_law_local_then_global_reaches_everything_in_two_columns():
    case = make("local-global-layer", 0)
    z = case.rng.standard_normal((2, 8, case["z"].shape[-1]))
    other = z.copy()
    other[0, 0] += 1.0 + case.rng.random(z.shape[-1])
    after, before = case(z=other, grid=(2, 4, 2))[0], case(z=z, grid=(2, 4, 2))[0]
    assert np.array_equal(after[:, 1::2], before[:, 1::2])


# --- What is not a law: the pages say so, with these counterexamples ------------------------------


def test_not_a_law_replicate_clip_with_the_papers_class_key():
    case = make("divided-layer", 0).with_args(cls_in_time="key")
    again = np.concatenate([case["z"], case["z"]], axis=-3)
    assert difference(case(z=again)[1], case()[1]) > 1e-3


def test_not_a_law_divided_attention_with_positions_permuted_in_each_frame():
    case = make("divided-layer", 1)
    reorder = own_orders(case, case["z"], -2)
    assert difference(case(z=reorder(case["z"]))[0], reorder(case()[0])) > 1e-3


def test_not_a_law_one_softmax_for_the_class_token():
    case = make("class-attention", 2).with_args(over="space", grid=None)
    assert case["K"].shape[-3] > 1
    assert difference(case(over="joint"), case()) > 1e-3


def test_not_a_law_moving_clip_is_the_mean_of_images():
    """From the second layer on a shared class token differs from one for each frame."""
    case = make("divided-layer", 3)
    params = without_time(case["params"])
    z, cls = case(params=params)
    twice = vtnp.timesformer.divided_layer(z, cls, params)[1]
    image = as_image(params)
    class_tokens = []
    for i in range(case["z"].shape[-3]):
        frame = case["z"][..., i : i + 1, :, :], case["cls"]
        class_tokens.append(
            vtnp.timesformer.space_layer(*vtnp.timesformer.space_layer(*frame, image), image)[1]
        )
    assert difference(twice, sum(class_tokens) / len(class_tokens)) > 1e-3


# --- Options, each against the loops --------------------------------------------------------------


@pytest.mark.parametrize(
    ("id", "options"),
    [
        *(("space-layer", {"cls_in_space": rule}) for rule in RULES),
        *(
            ("divided-layer", {"order": order, "cls_in_time": time, "cls_in_space": space})
            for order, time, space in itertools.product(
                ("time-space", "space-time"), ("out", "key", "all"), ("key", "mean", "all")
            )
        ),
        *(
            ("local-global-layer", {"cls_in_local": first, "cls_in_global": second})
            for first, second in (("key", "mean"), ("mean", "mean"), ("all", "all"))
        ),
        *(
            ("axial-layer", {"cls_in_time": first, "cls_in_width": second, "cls_in_height": third})
            for first, second, third in (("key", "key", "mean"), ("all", "all", "all"))
        ),
        ("joint-layer", {"activation": "relu", "eps": 1e-3}),
        ("divided-layer", {"activation": "gelu_tanh", "eps": 1e-3}),
    ],
    ids=str,
)
def test_options_equal_the_loops(id, options):
    case = make(id, 11).with_args(**options)
    loop = getattr(oracles, id.replace("-", "_"))
    assert_close(case(), loop(**case.args), within=1e-11)


def test_an_unknown_order_is_refused():
    with pytest.raises(vtnp.FormulaError, match=r"divided-layer .*: argument order: .*'parallel'"):
        make("divided-layer", 0)(order="parallel")
