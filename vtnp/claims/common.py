"""What several claims share: reordered tokens, masks with one key less, gradients."""

import numpy as np
from autograd import make_vjp

from vtnp._array.trees import tree_leaves
from vtnp.claims.compare import assert_close
from vtnp.claims.errors import needs

EPS = np.finfo(np.float64).eps


def rows(x, order):
    """Reorder, select or repeat the tokens of x, its rows."""
    return np.take(x, order, axis=-2)


def columns(x, order):
    """Reorder, select or repeat the columns of x."""
    return np.take(x, order, axis=-1)


def is_generic(case):
    """Tell whether no number occurs twice in any array, and tokens have several channels."""
    arrays = [x for _, x in tree_leaves(case.args) if x.dtype.kind == "f" and x.ndim]
    unique = all(np.unique(x).size == x.size for x in arrays)
    return case.family == "typical" and unique and all(x.shape[-1] > 1 for x in arrays)


def passed_on(case, *names):
    """Return options that a formula hands to its parts."""
    return {name: case[name] for name in names or ("eps", "activation")}


def needs_generic(case):
    """Go on only with numbers of which no result is 0, or as large as another one, by chance."""
    needs(is_generic(case) and case.dtype == "float64", "generic numbers in float64")


def permutation(case, length):
    """Draw a permutation that is not the identity."""
    order = case.rng.permutation(length)
    return np.roll(np.arange(length), 1) if np.array_equal(order, np.arange(length)) else order


def mask_of(case, n, m):
    """Return the case's mask; where it has none, one that is True everywhere."""
    mask = case.args.get("mask")
    return np.ones((n, m), bool) if mask is None else mask


def attends(case, n, m):
    """Return which queries may attend to some key, with an axis of length 1 for their values."""
    return mask_of(case, n, m).any(axis=-1)[..., None]


def mask_one_key(case, n, m):
    """Mask one key for all queries; return its index, the mask, and the indices of all others."""
    needs(m >= 2, "two keys")
    masked, other = case.rng.permutation(m)[:2]
    mask = mask_of(case, n, m).copy()
    mask[..., masked] = False
    # Every query keeps a key to attend to.
    mask[..., other] |= ~mask.any(axis=-1)
    return masked, mask, np.delete(np.arange(m), masked)


def well_conditioned(case, heads, width):
    """Draw a well conditioned matrix for each head; return the matrices and their inverses."""
    rotations = np.linalg.qr(case.numbers((heads, width, width)))[0]
    scales = case.rng.uniform(0.5, 2.0, (heads, width))
    A = rotations * scales[:, None, :]
    return A, np.linalg.inv(A)


def gradient_at(case, name, value, cotangent):
    """Return the gradient of <formula, cotangent> with respect to one argument, at a value."""
    return make_vjp(lambda x: case.function(**{**case.args, name: x}))(value)[0](cotangent)


def assert_each_token_alone(case, name):
    """Assert that the result of one token does not depend on the others."""
    chosen = case.rng.permutation(case[name].shape[-2])[:1]
    assert_close(case(**{name: rows(case[name], chosen)}), rows(case(), chosen))


def assert_only_first_row_is_nan(y):
    """Assert that the first row of y is NaN throughout, and that all others are finite."""
    first, *others = y.reshape(-1, y.shape[-1])
    assert np.all(np.isnan(first))
    assert np.all(np.isfinite(others))
