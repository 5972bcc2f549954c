"""xFormers' Orthoformer (up to 0.0.28), which runs on the CPU: the same values and gradients.

It draws the first prototype from the global generator of torch, chooses among queries only, and
computes exact attention where there are as many prototypes as tokens, where the formula is an
approximation too.
"""

import warnings

import numpy as np
import pytest

import vtnp
from tests.support.compare import assert_close, difference
from tests.support.peers import installed, needs
from tests.support.torch_sides import assert_same_side, autograd_side, tensors

torch = installed("torch")
# Importing it without a GPU warns about missing features.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    ortho = installed("xformers.components.attention.ortho")
pytestmark = [
    needs(torch, "vtnp[peers]"),
    needs(ortho, "xformers==0.0.28"),
    # It is deprecated, and later versions do not have it.
    pytest.mark.filterwarnings("ignore:.*is deprecated and is not maintained:FutureWarning"),
]

SHAPE, R = (3, 14, 6), 5


def drawn():
    rng = np.random.default_rng(0)
    return {name: 2.0 * rng.standard_normal(SHAPE) for name in "QKV"}


def theirs(arrays, r, cotangent, seed=0):
    """Return values, gradients, and the first prototypes, which torch draws."""
    inputs = tensors(arrays)
    torch.manual_seed(seed)
    start = torch.randint(SHAPE[1], (SHAPE[0], 1, 1)).flatten().numpy()
    torch.manual_seed(seed)
    y = ortho.OrthoFormerAttention(0.0, num_landmarks=r)(*inputs.values())
    y.backward(torch.from_numpy(cotangent))
    return y.detach().numpy(), {name: x.grad.numpy() for name, x in inputs.items()}, start


def test_values_and_gradients():
    arrays, cotangent = drawn(), np.random.default_rng(1).standard_normal(SHAPE)
    *expected, start = theirs(arrays, R, cotangent)

    def ours(arrays):
        index = vtnp.motionformer.orthogonal_prototypes(arrays["Q"], R, start=start)
        # Prototypes have no gradient there.
        P = np.take_along_axis(drawn()["Q"], index[..., None], axis=-2)
        return vtnp.motionformer.prototype_attention(**arrays, P=P)

    assert_same_side(autograd_side(ours, arrays, cotangent), expected)


def test_all_tokens_as_prototypes_are_exact_in_xformers():
    arrays = drawn()
    value, _, _ = theirs(arrays, SHAPE[1], np.ones(SHAPE))
    assert_close(vtnp.encoder.attention(**arrays), value)
    ours = vtnp.motionformer.prototype_attention(**arrays, P=arrays["Q"])
    assert difference(ours, value) > 0.01
