"""Params of a formula: the keys and shapes of its TypedDict, and the messages of its errors."""

from typing import Annotated, Any, NotRequired, TypedDict

import numpy as np
import pytest
from autograd import grad

import vtnp
from tests.registry import layers
from vtnp._array.typing import Array, Float
from vtnp._registry.params import AtLeast, renamed, shapes_of
from vtnp._registry.spec import registry, spec

RNG = np.random.default_rng(5)
X = RNG.normal(size=(3, 4))
Z, CLS = RNG.normal(size=(2, 6, 4)), RNG.normal(size=4)
ENCODER_LAYER = "encoder-layer (spec/encoder/encoder-layer.md)"
MADE_UP = "made-up (spec/test_params/made-up.md)"


def layer():
    return layers.layer(RNG)


def divided():
    attention = {name: layers.attention_sublayer(RNG) for name in ("time", "space")}
    return attention | layers.feed_forward_sublayer(RNG)


def message_of(error, call, *args, **kwargs):
    """Return the message of the error that a call raises."""
    with pytest.raises(error) as raised:
        call(*args, **kwargs)
    return str(raised.value)


# --- Keys -----------------------------------------------------------------------------------------

ATTENTION_KEYS = ["W_c", "W_k", "W_q", "W_v", "b_c", "b_k", "b_q", "b_v"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda p: p.pop("norm_2"),
            "params: expected a key 'norm_2', got ['norm_1', 'attention', 'feed_forward']",
        ),
        (
            lambda p: p["attention"].pop("W_c"),
            (
                "params['attention']: expected a key 'W_c', "
                "got ['W_q', 'W_k', 'W_v', 'b_q', 'b_k', 'b_v', 'b_c']"
            ),
        ),
        (
            lambda p: p["norm_1"].update(beta=None),
            "params['norm_1']: expected a key 'beta', got ['gamma', 'beta']",
        ),
        (
            lambda p: p["attention"].update(W_o=X),
            f"params['attention']: expected no keys but {ATTENTION_KEYS}, got ['W_o']",
        ),
        (
            lambda p: p.update(norm2={}),
            (
                "params: expected no keys but ['attention', 'feed_forward', 'norm_1', 'norm_2'], "
                "got ['norm2']"
            ),
        ),
        (lambda p: p.update(norm_1="gamma"), "params['norm_1']: expected a mapping, got 'gamma'"),
    ],
)
@pytest.mark.parametrize("formula", ["encoder_layer", "pre_norm_layer"])
def test_a_wrong_key_is_named_with_its_place(formula, spoil, message):
    params = layer()
    spoil(params)
    id = formula.replace("_", "-")
    expected = f"{id} (spec/encoder/{id}.md): argument {message}"
    call = getattr(vtnp.encoder, formula)
    assert message_of(vtnp.FormulaError, call, X, params, eps=1e-6) == expected


@pytest.mark.parametrize("params", [None, 3, "abc", X, np.array([0]), [{}]])
def test_params_that_are_no_mapping_are_refused(params):
    expected = f"{ENCODER_LAYER}: argument params: expected a mapping, got {params!r}"
    assert message_of(vtnp.FormulaError, vtnp.encoder.encoder_layer, X, params, eps=0) == expected


def test_a_key_of_a_nested_table_is_named_with_its_place():
    params = divided()
    del params["time"]["attention"]["W_q"]
    expected = r"^divided-layer .*: argument params\['time'\]\['attention'\]: expected a key 'W_q'"
    with pytest.raises(vtnp.FormulaError, match=expected):
        vtnp.timesformer.divided_layer(Z, CLS, params)


def test_a_sublayer_ignores_the_keys_of_the_other():
    """So that a layer can pass it all its params."""
    params = layer()
    assert vtnp.encoder.feed_forward_sublayer(X, params | {"more": X}, eps=1e-6).shape == X.shape
    expected = (
        "feed-forward-sublayer (spec/encoder/feed-forward-sublayer.md): argument params['norm_2']: "
        "expected no keys but ['beta', 'gamma'], got ['more']"
    )
    params["norm_2"]["more"] = X
    call = vtnp.encoder.feed_forward_sublayer
    assert message_of(vtnp.FormulaError, call, X, params, eps=1e-6) == expected


def test_boxed_params_are_looked_through():
    params = layer()
    slope = grad(lambda p: np.sum(1.0) * vtnp.encoder.encoder_layer(X, p, eps=1e-6)[0, 0])(params)
    assert slope.keys() == params.keys()
    del params["norm_1"]["beta"]
    with pytest.raises(vtnp.FormulaError, match=r"params\['norm_1'\]: expected a key 'beta'"):
        grad(lambda p: vtnp.encoder.encoder_layer(X, p, eps=1e-6)[0, 0])(params)
    params = layer()
    params["norm_1"]["beta"] = np.ones(5)
    with pytest.raises(
        vtnp.ShapeError, match=r"params\['norm_1'\]\['beta'\]: .* d has size 5, expected 4"
    ):
        grad(lambda p: vtnp.encoder.encoder_layer(X, p, eps=1e-6)[0, 0])(params)


def test_torchs_parameter_dicts_are_looked_through():
    torch = pytest.importorskip("torch", reason="needs pip install 'vtnp[peers]'")

    def parameters(table):
        return torch.nn.ParameterDict(
            {
                key: parameters(value) if isinstance(value, dict) else torch.tensor(value)
                for key, value in table.items()
            }
        )

    params, x = parameters(layer()), torch.tensor(X)
    assert vtnp.encoder.encoder_layer(x, params, eps=1e-6).shape == X.shape
    del params["norm_1"]["beta"]
    expected = f"{ENCODER_LAYER}: argument params['norm_1']: expected a key 'beta', got ['gamma']"
    call = vtnp.encoder.encoder_layer
    assert message_of(vtnp.FormulaError, call, x, params, eps=1e-6) == expected


def test_values_that_are_to_be_projected_need_their_matrix():
    attention = layers.attention(RNG)
    W = np.ones((2, 4, 2))
    params = {"attention": attention, "trajectory": {"W_q": W, "W_k": W}}
    assert vtnp.motionformer.trajectory_self_attention(Z, CLS, params)[0].shape == Z.shape
    with pytest.raises(vtnp.FormulaError, match="W_v"):
        vtnp.motionformer.trajectory_self_attention(Z, CLS, params, value_projection=True)


# --- Shapes, dtypes and libraries -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "shape", "message"),
    [
        (
            "norm_1 gamma",
            (5,),
            (
                "params['norm_1']['gamma']: expected axes \"d\", got shape (5,): "
                "axis d has size 5, expected 4 (axes bound so far: n=3, d=4, b=())"
            ),
        ),
        (
            "attention W_v",
            (3, 4, 2),
            (
                "params['attention']['W_v']: expected axes \"heads d d_v\", got shape (3, 4, 2): "
                "axis heads has size 3, expected 2 "
                "(axes bound so far: n=3, d=4, b=(), heads=2, d_h=2)"
            ),
        ),
        (
            "feed_forward b_1",
            (2, 8),
            (
                "params['feed_forward']['b_1']: expected axes \"d_f\", got shape (2, 8): "
                "expected 1 axis, got 2 "
                "(axes bound so far: n=3, d=4, b=(), heads=2, d_h=2, d_v=2, d_f=8)"
            ),
        ),
    ],
)
def test_axes_are_bound_together_with_those_of_other_arguments(keys, shape, message):
    params, (table, key) = layer(), keys.split()
    params[table][key] = np.ones(shape)
    found = message_of(vtnp.ShapeError, vtnp.encoder.encoder_layer, X, params, eps=1e-6)
    assert found == f"{ENCODER_LAYER}: argument {message}"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            np.ones(4, np.float32),
            "arguments mix dtypes (x: float64, params['norm_1']['gamma']: float32)",
        ),
        (np.ones(4, int), "argument params['norm_1']['gamma']: expected a float dtype, got int64"),
        ([1.0] * 4, "argument params['norm_1']['gamma']: expected an array, got list"),
        (
            np.ma.masked_array(np.ones(4)),
            "argument params['norm_1']['gamma']: expected a plain array, got MaskedArray",
        ),
    ],
)
def test_arrays_in_params_are_named_by_their_place(value, message):
    params = layer()
    params["norm_1"]["gamma"] = value
    found = message_of(TypeError, vtnp.encoder.encoder_layer, X, params, eps=1e-6)
    assert found == f"{ENCODER_LAYER}: {message}"


# --- Tables of tables, and lists of them ----------------------------------------------------------


class Linear(TypedDict):
    """A linear map from width d, and its bias."""

    W: Float[Array, "d d_out"]
    b: NotRequired[Float[Array, " d_out"]]


class Branch(TypedDict):
    """Linear maps beside others, which may have another width."""

    layers: list[Linear]
    last: Linear


class Stack(TypedDict):
    """Linear maps, in a list and by name."""

    layers: list[Linear]
    last: AtLeast[Linear]
    first: NotRequired[Linear]
    rows: NotRequired[Float[Array, "_n d"]]
    side: NotRequired[Annotated[Branch, renamed(d_out="d_side")]]


@pytest.fixture
def stack():
    """A formula of nested params that lives for one test."""

    @spec("made-up")
    def made_up(x: Float[Array, "*b d"], params: Stack) -> Float[Array, "*b d"]:
        for each in params["layers"]:
            x = x @ each["W"]
        return x @ params["last"]["W"]

    yield made_up
    del registry["made-up"]


def square(d=4, **more):
    return {"W": np.eye(d)[:, :4], **more}


def test_nested_tables_and_lists_are_checked(stack):
    params = {"layers": [square(), square(b=np.ones(4))], "last": square(), "first": square()}
    assert np.array_equal(stack(X, params), X)
    assert np.array_equal(stack(X, params | {"layers": ()}), X)


def test_none_counts_as_left_out(stack):
    params = {"layers": [square(b=None)], "last": square(), "first": None, "rows": None}
    for _ in range(2):
        assert np.array_equal(stack(X, params), X)


def test_an_open_table_within_a_table_ignores_further_keys(stack):
    params = {"layers": [square()], "last": square(more=3)}
    assert np.array_equal(stack(X, params), X)
    params = {"layers": [square(more=3)], "last": square()}
    expected = (
        f"{MADE_UP}: argument params['layers'][0]: expected no keys but ['W', 'b'], got ['more']"
    )
    assert message_of(vtnp.FormulaError, stack, X, params) == expected


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"layers": [square(), square(5)]},
            (
                "params['layers'][1]['W']: expected axes \"d d_out\", got shape (5, 4): "
                "axis d has size 5, expected 4 (axes bound so far: d=4, b=(3,), d_out=4)"
            ),
        ),
        ({"layers": [square(), {}]}, "params['layers'][1]: expected a key 'W', got []"),
        ({"layers": square()}, f"params['layers']: expected a list, got {square()!r}"),
        ({"layers": 3}, "params['layers']: expected a list, got 3"),
        ({"layers": None}, "params: expected a key 'layers', got ['layers', 'last']"),
        (
            {"rows": np.ones((7, 5))},
            (
                "params['rows']: expected axes \"_n d\", got shape (7, 5): "
                "axis d has size 5, expected 4 (axes bound so far: d=4, b=(3,), d_out=4)"
            ),
        ),
    ],
)
def test_a_wrong_table_in_a_list_is_named_with_its_index(stack, changed, message):
    params = {"layers": [square()], "last": square()} | changed
    assert message_of(vtnp.FormulaError, stack, X, params) == f"{MADE_UP}: argument {message}"


def test_an_axis_with_an_underscore_has_any_size(stack):
    for n in (3, 7):
        params = {"layers": [], "last": square(), "rows": np.ones((n, 4))}
        assert np.array_equal(stack(X, params), X)


def test_renamed_axes_are_bound_apart(stack):
    wide = {"W": np.ones((4, 7))}
    params = {"layers": [square()], "last": square(), "side": {"layers": [wide], "last": wide}}
    assert np.array_equal(stack(X, params), X)
    params["side"]["last"] = square()
    expected = (
        f"{MADE_UP}: argument params['side']['last']['W']: expected axes \"d d_side\", "
        "got shape (4, 4): axis d_side has size 4, expected 7 "
        "(axes bound so far: d=4, b=(3,), d_out=4, d_side=7)"
    )
    assert message_of(vtnp.ShapeError, stack, X, params) == expected


def test_pages_list_the_arrays_of_a_table(stack):
    assert list(shapes_of(registry["made-up"].signature.tables["params"])) == [
        ("layers[].W", "d d_out"),
        ("layers[].b?", "d_out"),
        ("last.W", "d d_out"),
        ("last.b?", "d_out"),
        ("first?.W", "d d_out"),
        ("first?.b?", "d_out"),
        ("rows?", "_n d"),
        ("side?.layers[].W", "d d_side"),
        ("side?.layers[].b?", "d_side"),
        ("side?.last.W", "d d_side"),
        ("side?.last.b?", "d_side"),
    ]


@pytest.mark.parametrize(
    "hint", [Any, int, list[Float[Array, " n"]], list[int], Linear | None], ids=str
)
def test_a_value_that_is_neither_array_nor_table_is_refused_at_registration(hint):
    class Odd(TypedDict):
        key: hint

    def made_up(x, params):
        return x

    made_up.__annotations__ = {"x": Float[Array, " n"], "params": Odd}
    with pytest.raises(TypeError) as error:
        spec("odd-one")(made_up)
    assert str(error.value) == f"Odd.key: {hint} is neither an array with a shape nor a table"
    assert "odd-one" not in registry


# --- Every kind of params is checked --------------------------------------------------------------


def widths(d):
    """Return params that take tokens of width 8 to results of width d."""
    shapes = {"W_q": (2, 8, 4), "W_k": (2, 8, 4), "W_v": (2, 8, 4), "W_c": (2, 4, d)}
    return {name: np.ones(shape) for name, shape in shapes.items()}


def test_params_of_another_width_are_checked_after_a_right_call():
    """What was right of one width says nothing of another, though x is the same."""
    x, pool = np.ones((24, 8)), vtnp.mvit.multi_head_pooling_attention
    with pytest.raises(vtnp.ShapeError):
        pool(x, widths(12), grid=(2, 3, 4))
    assert pool(x, widths(8), grid=(2, 3, 4))[0].shape == (24, 8)
    with pytest.raises(vtnp.ShapeError):
        pool(x, widths(12), grid=(2, 3, 4))


def test_a_result_of_another_width_is_refused_after_a_right_call(stack):
    """Here the arguments fit: only the result does not have the width that is promised."""
    wide = {"layers": [], "last": {"W": np.ones((4, 6))}}
    right = {"layers": [], "last": square()}
    expected = (
        f'{MADE_UP}: result: expected axes "*b d", got shape (3, 6): axis d has size 6, expected 4'
    )
    assert message_of(vtnp.ShapeError, stack, X, wide) == expected
    assert stack(X, right).shape == (3, 4)
    assert message_of(vtnp.ShapeError, stack, X, wide) == expected
