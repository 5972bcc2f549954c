"""xFormers' Orthoformer (up to 0.0.28), which runs on the CPU: the same values and gradients.

It draws the first prototype from torch's global generator, chooses among queries alone, and
computes exact attention where there are as many prototypes as tokens; here that is an
approximation like any other.
"""

import warnings
from importlib.util import find_spec

import numpy as np
import pytest
from autograd import grad

import vtnp
from tests.compare import assert_close, difference
from vtnp._xp import namespace

# Importing it logs and warns about what it lacks without a GPU.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    present = find_spec("xformers") is not None
    if present and find_spec("xformers.components") is not None:
        from xformers.components.attention.ortho import OrthoFormerAttention
    else:
        present = False
pytestmark = [
    pytest.mark.skipif(not present, reason="needs xformers 0.0.28 and torch"),
    # It calls itself deprecated; later versions no longer have it.
    pytest.mark.filterwarnings("ignore:.*is deprecated and is not maintained:FutureWarning"),
]

WITHIN = 1e-12
SHAPE, R = (3, 14, 6), 5


def drawn():
    rng = np.random.default_rng(0)
    return {name: 2.0 * rng.standard_normal(SHAPE) for name in "QKV"}


def theirs(arrays, r, cotangent, seed=0):
    """Return values, gradients, and the first prototypes that torch's generator draws."""
    import torch

    tensors = {name: torch.tensor(x, requires_grad=True) for name, x in arrays.items()}
    torch.manual_seed(seed)
    start = torch.randint(SHAPE[1], (SHAPE[0], 1, 1)).flatten().numpy()
    torch.manual_seed(seed)
    y = OrthoFormerAttention(0.0, num_landmarks=r)(*tensors.values())
    y.backward(torch.from_numpy(cotangent))
    return y.detach().numpy(), {name: x.grad.numpy() for name, x in tensors.items()}, start


def test_values_and_gradients():
    arrays, cotangent = drawn(), np.random.default_rng(1).standard_normal(SHAPE)
    value, gradients, start = theirs(arrays, R, cotangent)

    def ours(arrays):
        index = vtnp.orthogonal_prototypes(arrays["Q"], R, start=start)
        # Prototypes are constants, as there.
        P = np.take_along_axis(drawn()["Q"], index[..., None], axis=-2)
        return vtnp.prototype_attention(**arrays, P=P)

    assert_close(ours(arrays), value, within=WITHIN)
    found = grad(lambda arrays: namespace(ours(arrays)).sum(ours(arrays) * cotangent))(arrays)
    for name, gradient in gradients.items():
        assert_close(found[name], gradient, within=WITHIN, what=name)


def test_all_tokens_as_prototypes_are_exact_there():
    arrays = drawn()
    value, _, _ = theirs(arrays, SHAPE[1], np.ones(SHAPE))
    assert_close(vtnp.attention(**arrays), value, within=WITHIN)
    here = vtnp.prototype_attention(**arrays, P=arrays["Q"])
    assert difference(here, value) > 0.01
