"""Laws and special cases of the activations and of the feed-forward network."""

import math

import numpy as np
import scipy.special

from vtnp.claims._registry import law, special
from vtnp.claims.common import assert_each_token_alone, gradient_at
from vtnp.claims.compare import assert_close, largest
from vtnp.claims.encoder.symmetries import permuted_hidden
from vtnp.claims.errors import needs

# --- ReLU -----------------------------------------------------------------------------------------


@law("relu", "positive-part")
def relu_positive_part(case):
    mirrored = case(x=-case["x"])
    assert np.array_equal(case() - mirrored, case["x"])
    assert np.array_equal(case() + mirrored, np.abs(case["x"]))


@law("relu", "idempotent")
def relu_idempotent(case):
    y = case()
    assert np.all(y >= 0)
    assert np.array_equal(case(x=y), y)


@law("relu", "homogeneous")
def relu_homogeneous(case):
    for factor in (0.0, 0.25, 1024.0 if case.dtype != "float16" else 4.0):
        assert np.array_equal(case(x=factor * case["x"]), factor * case())


@law("relu", "keeps-order")
def relu_keeps_order(case):
    step = np.abs(case.numbers(case["x"].shape))
    assert np.all(case(x=case["x"] + step) >= case())


@law("relu", "contraction")
def relu_contraction(case):
    other = case.rounded(6.0 * case.numbers(case["x"].shape))
    assert np.all(np.abs(case(x=other) - case()) <= np.abs(other - case["x"]))


@special("relu", "zero", differentiates=True)
def relu_zero(case):
    for zero in (0.0, -0.0):
        x = np.full_like(case["x"], zero)
        assert np.all(case(x=x) == 0.0)
        assert np.all(gradient_at(case, "x", x, np.ones_like(x)) == 0.0)


@special("relu", "infinities")
def relu_infinities(case):
    assert np.all(case(x=np.full_like(case["x"], np.inf)) == np.inf)
    assert np.all(case(x=np.full_like(case["x"], -np.inf)) == 0.0)


@special("relu", "nan")
def relu_nan(case):
    assert np.all(np.isnan(case(x=np.full_like(case["x"], np.nan))))


# --- GELU -----------------------------------------------------------------------------------------


@law("gelu", "reflection")
def gelu_reflection(case):
    assert_close(case() - case(x=-case["x"]), case["x"], within=1e-15)


@law("gelu", "below-relu")
def gelu_below_relu(case):
    for x in (case["x"], case.rounded(np.linspace(-9, 9, 1801))):
        gap, slack = np.maximum(x, 0.0) - case(x=x), 4 * case.ulp * (1 + np.abs(x))
        assert np.all((gap >= -slack) & (gap <= 0.1701 + slack))


@law("gelu", "derivative", differentiates=True)
def gelu_derivative(case):
    x = np.concatenate([case["x"].ravel(), [-math.sqrt(2), 0.0, math.sqrt(2)]])
    exact = case.with_args(approximate="none")
    slope = gradient_at(exact, "x", x, np.ones_like(x))
    density = np.exp(-(x**2) / 2.0) / math.sqrt(2.0 * math.pi)
    assert_close(slope, scipy.special.ndtr(x) + x * density)
    assert np.all((slope >= -0.12891) & (slope <= 1.12891))


@law("gelu", "two-forms-are-close")
def gelu_two_forms_are_close(case):
    needs(case.dtype == "float64", "digits that show the largest difference")
    x = np.linspace(-6, 6, 2401)
    apart = np.abs(case(x=x, approximate="none") - case(x=x, approximate="tanh"))
    assert 4.7e-4 < np.max(apart) < 4.8e-4
    assert 2.69 <= abs(x[np.argmax(apart)]) <= 2.71


@special("gelu", "zero", differentiates=True)
def gelu_zero(case):
    x = np.zeros_like(case["x"])
    assert np.all(case(x=x) == 0.0)
    assert_close(gradient_at(case, "x", x, np.ones_like(x)), np.full_like(x, 0.5), within=1e-15)


@special("gelu", "minimum", differentiates=True)
def gelu_minimum(case):
    exact = case.with_args(approximate="none")
    x = np.full_like(case["x"], -0.751792)
    assert_close(exact(x=x), np.full_like(x, -0.169971), within=5e-7)
    assert largest(gradient_at(exact, "x", x, np.ones_like(x))) < 1e-6


@special("gelu", "tails")
def gelu_tails(case):
    x = case.rounded(10.0 + np.abs(case["x"]))
    assert np.array_equal(case(x=x), x)
    tail = case(x=-x)
    assert np.all((tail >= -7.7e-23) & (tail <= 0.0))
    assert np.all(case(x=-x - 30.0) == 0.0)


@special("gelu", "infinities")
def gelu_infinities(case):
    infinite = np.full_like(case["x"], np.inf)
    assert np.all(case(x=infinite) == np.inf)
    with np.errstate(invalid="ignore"):
        assert np.all(np.isnan(case(x=-infinite)))


@special("gelu", "nan")
def gelu_nan(case):
    assert np.all(np.isnan(case(x=np.full_like(case["x"], np.nan))))


# --- Feed-forward network -------------------------------------------------------------------------


def network_weights(case):
    """Return the params of the feed-forward network among the arguments."""
    return {name: case[name] for name in ("W_1", "W_2", "b_1", "b_2") if name in case.args}


@law("feed-forward", "each-token-alone")
def feed_forward_each_token_alone(case):
    assert_each_token_alone(case, "u")


@law("feed-forward", "permute-hidden")
def feed_forward_permute_hidden(case):
    assert_close(case(**permuted_hidden(case, network_weights(case))), case())


@law("feed-forward", "sum-of-hidden")
def feed_forward_sum_of_hidden(case):
    parts = []
    for part in (slice(0, 1), slice(1, None)):
        b_1 = case.args.get("b_1")
        changed = {"W_1": case["W_1"][:, part], "W_2": case["W_2"][part]}
        parts.append(case(**changed, b_1=None if b_1 is None else b_1[part], b_2=None))
    assert_close(sum(parts), case(b_2=None))


@law("feed-forward", "output-bias-adds")
def feed_forward_output_bias_adds(case):
    b_2 = case.numbers(case["u"].shape[-1])
    assert_close(case(b_2=b_2), case(b_2=None) + b_2)


@law("feed-forward", "relu-rescales-hidden")
def feed_forward_relu_rescales_hidden(case):
    c = case.rng.uniform(0.25, 4.0, case["W_1"].shape[1])
    changed = {"W_1": case["W_1"] * c, "W_2": case["W_2"] / c[:, None]}
    if "b_1" in case.args:
        changed["b_1"] = case["b_1"] * c
    assert_close(case(**changed, activation="relu"), case(activation="relu"))


@special("feed-forward", "zero-weights")
def feed_forward_zero_weights(case):
    b_2 = case.numbers(case["u"].shape[-1])
    z = case(W_2=np.zeros_like(case["W_2"]), b_2=b_2)
    assert np.array_equal(z, np.broadcast_to(b_2, z.shape))


@special("feed-forward", "all-off")
def feed_forward_all_off(case):
    b_1 = np.full(case["W_1"].shape[1], -1e6 - 2.0 * largest(case["u"] @ case["W_1"]))
    b_2 = case.numbers(case["u"].shape[-1])
    z = case(b_1=b_1, b_2=b_2, activation="relu")
    assert np.array_equal(z, np.broadcast_to(b_2, z.shape))


@special("feed-forward", "all-on")
def feed_forward_all_on(case):
    b_1 = np.full(case["W_1"].shape[1], 1e3 + 2.0 * largest(case["u"] @ case["W_1"]))
    z = case(b_1=b_1, b_2=None, activation="relu")
    assert_close(z, (case["u"] @ case["W_1"] + b_1) @ case["W_2"])
