"""The encoder's formulas as JAX programs: jitted, and differentiated by jax.grad."""

import numpy as np
import pytest
from autograd import value_and_grad

import vtnp
from tests.support.compare import assert_close
from tests.support.peers import installed, needs
from tests.support.trees import leaves, replaced, tree_map
from vtnp._registry.spec import registry
from vtnp.claims.cases import make

jax = installed("jax")
pytestmark = needs(jax, "vtnp[jax]")
if jax is not None:
    jax.config.update("jax_enable_x64", True)

IDS = [id for id, entry in registry.items() if entry.module == "encoder" and id != "causal-mask"]


def of_floats(case, paths):
    """Return the formula as a function of a list of its float arrays."""

    def f(arrays, asarray):
        args = tree_map(asarray, {k: v for k, v in case.args.items() if k == "mask"})
        args = {**case.args, **args}
        for path, x in zip(paths, arrays, strict=True):
            args = replaced(args, path, x)
        return case.function(**args)

    return f


@pytest.mark.parametrize("id", IDS)
def test_value_and_gradient_of_every_argument(id):
    case = make(id, 0, (2,))
    found = [(path, x) for path, x in leaves(case.args) if x.dtype.kind == "f"]
    f = of_floats(case, [path for path, _ in found])
    arrays = [x for _, x in found]
    cotangent = case.rng.standard_normal(f(arrays, np.asarray).shape)

    def jax_loss(arrays):
        return (f(arrays, jax.numpy.asarray) * jax.numpy.asarray(cotangent)).sum()

    def numpy_loss(arrays):
        return (f(arrays, np.asarray) * cotangent).sum()

    value, gradient = jax.jit(jax.value_and_grad(jax_loss))([jax.numpy.asarray(x) for x in arrays])
    expected, expected_gradient = value_and_grad(numpy_loss)(arrays)
    # Sums have another order, and the large scores of these random weights magnify their rounding.
    assert_close(np.asarray(value), np.asarray(expected), within=1e-11, what=id)
    for (path, _), g, e in zip(found, gradient, expected_gradient, strict=True):
        assert_close(np.asarray(g), e, within=1e-11, what=f"{id}, {path}")


def test_relu_has_gradient_zero_at_zero():
    gradient = jax.grad(lambda x: vtnp.encoder.relu(x).sum())(jax.numpy.zeros(3))
    assert np.all(np.asarray(gradient) == 0.0)


def test_a_fully_masked_row_has_gradient_zero():
    Q, K = (jax.numpy.asarray(x) for x in np.random.default_rng(0).standard_normal((2, 4, 3)))
    mask = jax.numpy.asarray(np.zeros((4, 4), bool))
    gradient = jax.grad(lambda Q: (vtnp.encoder.attention_weights(Q, K, mask=mask) ** 2).sum())(Q)
    assert np.all(np.asarray(gradient) == 0.0)


def test_softmax_of_minus_infinities_is_nan_in_jax_and_zero_here():
    row = jax.numpy.full((1, 3), -np.inf)
    assert np.all(np.isnan(np.asarray(jax.nn.softmax(row))))
    assert np.all(np.asarray(vtnp.encoder.softmax(row)) == 0.0)
