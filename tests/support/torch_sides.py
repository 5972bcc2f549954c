"""The two sides of a comparison with torch: its modules and gradients, and ours of the same.

A side is a pair: the value of a function of a dict of arrays, and its gradients by name.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from autograd import make_vjp

from tests.support.compare import assert_close
from tests.support.peers import installed
from tests.support.trees import leaves, tree_map

torch = installed("torch")

Arrays = dict[str, Any]
Side = tuple[Any, Arrays]


def randomised(module: Any) -> Any:
    """Give every parameter random numbers, none its initial value; double precision."""
    module = module.double().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator).double())
    return module


def arrays_of(module: Any) -> Arrays:
    return {name: p.detach().numpy() for name, p in module.named_parameters()}


def gradients_of(module: Any) -> Arrays:
    """Return what the last backward pass left at each parameter."""
    return {name: p.grad.numpy() for name, p in module.named_parameters()}


def channels_first(video: Any) -> Any:
    """Turn a video, `b T H W C`, into a tensor `b T C H W`."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(video, -1, -3)))


def tensors(arrays: Arrays) -> Arrays:
    """Turn arrays into tensors that collect gradients."""
    return {name: torch.tensor(x, requires_grad=x.dtype.kind == "f") for name, x in arrays.items()}


def torch_side(f: Callable[[Arrays], Any], arrays: Arrays, cotangent: Any) -> Side:
    """Return value and gradients by torch, as NumPy."""
    inputs = tensors(arrays)
    y = f(inputs)
    y.backward(torch.tensor(cotangent))
    gradients = {name: x.grad for name, x in inputs.items()}
    assert all(g is not None for g in gradients.values()), "some argument was not used"
    return y.detach().numpy(), {name: g.numpy() for name, g in gradients.items()}


def autograd_side(f: Callable[[Arrays], Any], arrays: Arrays, cotangent: Any) -> Side:
    """Return value and gradients by autograd, on NumPy."""
    pull, y = make_vjp(f)(arrays)
    return y, pull(cotangent)


def assert_same_side(ours: Side, theirs: Side, what: str = "") -> None:
    assert_close(ours[0], theirs[0], what=what)
    assert ours[1].keys() == theirs[1].keys()
    for name, gradient in theirs[1].items():
        assert_close(ours[1][name], gradient, what=f"{what} {name}")


def assert_runs_on_tensors(apply: Callable[..., Any], params: Any, video: Any, config: Any) -> None:
    """Assert that the same text on torch's tensors is a torch program, with torch's gradients."""
    there = tree_map(lambda x: torch.from_numpy(x.copy()).requires_grad_(), params)
    logits = apply(there, torch.from_numpy(video), config)
    pull, expected = make_vjp(lambda params: apply(params, video, config))(params)
    assert_close(logits.detach().numpy(), expected)
    logits.square().sum().backward()
    wanted = dict(leaves(pull(2.0 * expected)))
    for path, tensor in leaves(there):
        assert_close(tensor.grad.numpy(), wanted[path], what=str(path))
