"""Laws and special cases of layer-norm and add-and-norm."""

import math

import numpy as np

from vtnp import encoder
from vtnp.claims._registry import law, special
from vtnp.claims.common import (
    EPS,
    assert_only_first_row_is_nan,
    columns,
    gradient_at,
    permutation,
    rows,
)
from vtnp.claims.compare import assert_close, largest
from vtnp.claims.errors import needs


def variances(x):
    """Return the variance of every token, on a last axis of length 1."""
    return np.var(x, axis=-1, keepdims=True)


def unit_gain(case, name="x"):
    """Return the case with gain 1 and offset 0."""
    d = case[name].shape[-1]
    return case.with_args(gamma=np.ones(d), beta=np.zeros(d))


# --- Layer norm -----------------------------------------------------------------------------------


def assert_within_rounding_of_the_mean(case, x):
    """Assert that no error exceeds that of rounding the token's mean, 2^-53 |x| / deviation."""
    x = case.rounded(x)
    x_wide = np.longdouble(x)
    deviation = np.sqrt(variances(x_wide) + case["eps"])
    centred = x_wide - np.mean(x_wide, axis=-1, keepdims=True)
    exact = case["gamma"] * centred / deviation + case["beta"]
    size = np.max(np.abs(x), axis=-1, keepdims=True) / deviation
    bound = 4 * case.ulp * (largest(case["gamma"]) * (1 + size) + largest(case["beta"]))
    assert np.all(np.abs(case(x=x) - exact) <= bound)


@law("layer-norm", "mean-zero")
def layer_norm_mean_zero(case):
    plain = unit_gain(case)()
    assert_close(plain.mean(axis=-1), np.zeros(plain.shape[:-1]))
    assert_close(case(), case["gamma"] * plain + case["beta"])


@law("layer-norm", "variance")
def layer_norm_variance(case):
    varies = np.ptp(case["x"], axis=-1, keepdims=True) > 0
    for eps in (0.0, 1e-6, 0.5):
        with np.errstate(invalid="ignore"):  # a constant token, with eps 0
            plain = unit_gain(case)(eps=eps)
        variance = variances(case["x"])
        expected = variance / (variance + eps) if eps else np.where(varies, 1.0, np.nan)
        assert_close(np.mean(plain**2, axis=-1, keepdims=True), expected)


@law("layer-norm", "shift-invariant")
def layer_norm_shift_invariant(case):
    shift = 1000.0 * case.numbers((*case["x"].shape[:-1], 1))
    # Dividing by a small standard deviation magnifies the rounding of x + shift.
    magnified = np.max(np.abs(shift) / np.sqrt(variances(case["x"]) + case["eps"]))
    within = 8 * EPS * (1 + magnified) * largest(case["gamma"])
    assert_close(case(x=case["x"] + shift), case(), within=within)


@law("layer-norm", "scale-moves-eps")
def layer_norm_scale_moves_eps(case):
    for scale in (1e-3, 0.125, 7.0):
        scaled = case(x=scale * case["x"])
        assert_close(scaled, case(eps=case["eps"] / scale**2), within=1e-11)


@law("layer-norm", "reflect")
def layer_norm_reflect(case):
    assert_close(case(x=-case["x"]) - case["beta"], case["beta"] - case())


@law("layer-norm", "permute-channels")
def layer_norm_permute_channels(case):
    order = permutation(case, case["x"].shape[-1])
    changed = {name: columns(case[name], order) for name in ("x", "gamma", "beta")}
    # The sums of the mean have another order; see shift-invariant.
    assert_close(case(**changed), columns(case(), order), within=1e-11)


@law("layer-norm", "each-token-alone")
def layer_norm_each_token_alone(case):
    other = case.numbers(case["x"].shape)
    both = case(x=np.stack([case["x"], other]))
    assert_close(both[0], case())
    assert_close(both[1], case(x=other))


@law("layer-norm", "gradient-sums-to-zero", differentiates=True)
def layer_norm_gradient_sums_to_zero(case):
    cotangent = case.numbers(case["x"].shape)
    gradient = gradient_at(case, "x", case["x"], cotangent)
    sums = gradient.sum(axis=-1)
    within = 1e-12 * max(1.0, largest(gradient))
    assert_close(sums, np.zeros_like(sums), within=within)


@special("layer-norm", "one-channel")
def layer_norm_one_channel(case):
    y = case(**{name: case[name][..., :1] for name in ("x", "gamma", "beta")})
    assert np.array_equal(y, np.broadcast_to(case["beta"][:1], y.shape))


@special("layer-norm", "constant-token")
def layer_norm_constant_token(case):
    level = np.round(4 * case["x"][..., :1]) / 4
    y = case(x=np.broadcast_to(level, case["x"].shape))
    assert np.array_equal(y, np.broadcast_to(case["beta"], y.shape))


@special("layer-norm", "zero-eps-constant-token")
def layer_norm_zero_eps_constant_token(case):
    with np.errstate(invalid="ignore"):
        assert np.all(np.isnan(case(x=np.ones_like(case["x"]), eps=0.0)))


@special("layer-norm", "low-variance")
def layer_norm_low_variance(case):
    for scale in (1e-3, 1e-6, 1e-160):
        assert_within_rounding_of_the_mean(case, scale * case["x"])
        assert_within_rounding_of_the_mean(case, 3.0 + scale * case["x"])


@special("layer-norm", "large-offset")
def layer_norm_large_offset(case):
    needs(case.dtype != "float16", "offsets of 1e15")
    for offset in (1e3, 1e6, 1e9, 1e15):
        assert_within_rounding_of_the_mean(case, offset + case["x"])


@special("layer-norm", "nan-token")
def layer_norm_nan_token(case):
    for bad in (math.nan, math.inf):
        x = np.stack([case["x"], case["x"]])
        first = (0,) * (x.ndim - 1)
        x[first][0] = bad
        with np.errstate(invalid="ignore"):
            y = case(x=x)
        assert_only_first_row_is_nan(y)


@special("layer-norm", "overflowing-square")
def layer_norm_overflowing_square(case):
    needs(case["x"].shape[-1] >= 2, "two channels")
    for dtype, size in ((np.float16, 300.0), (np.float32, 2e19)):
        narrow = {name: case[name].astype(dtype) for name in ("gamma", "beta")}
        x = np.zeros(case["x"].shape, dtype)
        x[..., 0], x[..., 1] = 2 * size, -2 * size
        # On NumPy: not every library has float16.
        with np.errstate(over="ignore"):
            y = case.function(x=x, **narrow, eps=case["eps"])
        assert np.array_equal(y, np.broadcast_to(narrow["beta"], y.shape))


# --- Add and norm ---------------------------------------------------------------------------------


@law("add-and-norm", "mean-zero")
def add_and_norm_mean_zero(case):
    plain = unit_gain(case)()
    assert_close(plain.mean(axis=-1), np.zeros(plain.shape[:-1]))
    assert_close(case(), case["gamma"] * plain + case["beta"])


@law("add-and-norm", "variance")
def add_and_norm_variance(case):
    plain = unit_gain(case)(eps=0.5)
    variance = variances(case["x"] + case["update"])
    expected = variance / (variance + 0.5)
    assert_close(np.mean(plain**2, axis=-1, keepdims=True), expected)


@law("add-and-norm", "only-the-sum")
def add_and_norm_only_the_sum(case):
    assert_close(case(x=case["update"], update=case["x"]), case(), within=0.0)
    total = case["x"] + case["update"]
    assert_close(case(x=0.25 * total, update=0.75 * total), case(), within=1e-11)


@law("add-and-norm", "shift-invariant")
def add_and_norm_shift_invariant(case):
    shift = case.numbers((*case["x"].shape[:-1], 1))
    for name in ("x", "update"):
        assert_close(case(**{name: case[name] + shift}), case(), within=1e-11)


@law("add-and-norm", "each-token-alone")
def add_and_norm_each_token_alone(case):
    chosen = case.rng.permutation(case["x"].shape[-2])[:1]
    alone = case(x=rows(case["x"], chosen), update=rows(case["update"], chosen))
    assert_close(alone, rows(case(), chosen))


@special("add-and-norm", "no-update")
def add_and_norm_no_update(case):
    expected = encoder.layer_norm(case["x"], case["gamma"], case["beta"], eps=case["eps"])
    # Libraries round the mean differently.
    assert_close(case(update=np.zeros_like(case["x"])), expected, within=1e-11)


@special("add-and-norm", "cancelling-update")
def add_and_norm_cancelling_update(case):
    u = case(update=-case["x"])
    assert np.array_equal(u, np.broadcast_to(case["beta"], u.shape))


@special("add-and-norm", "low-variance")
def add_and_norm_low_variance(case):
    # Multiples of powers of two make x + update exact.
    x = np.round(64 * case["x"]) / 64
    left = 2.0**-20 * np.round(8 * case["update"])
    u = case(x=x, update=left - x)
    centred = left - np.mean(left, axis=-1, keepdims=True)
    plain = centred / np.sqrt(variances(left) + case["eps"])
    assert_close(u, case["gamma"] * plain + case["beta"])
