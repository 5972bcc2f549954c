"""The only module through which formulas reach array libraries."""

from typing import Any

import array_api_compat

from vtnp._array import boxes as _registered  # noqa: F401  (registers boxes with autograd)
from vtnp._array.primitives import erfc, plain
from vtnp._array.traced import CONSTANT, DIFFERENTIABLE, traced
from vtnp._array.typing import Array
from vtnp._array.values import (
    is_at_hand,
    is_boxed,
    is_subclassed,
    on_its_device,
    unboxed,
    value_namespace,
)

# Every array-API name that a formula may use: nothing else is traced, counted or tested.
NAMES: tuple[str, ...] = (*DIFFERENTIABLE, *CONSTANT)


def namespace(*arrays: Array | None) -> Any:
    """Return the array-API namespace of the arrays; of the gradient reading, where one is boxed.

    Arguments that are None (options left out) do not count.
    Raises TypeError where the arrays belong to different libraries, or to none.
    """
    present = [array for array in arrays if array is not None]
    xp = value_namespace(*present)
    return traced(xp) if any(map(is_boxed, present)) else xp


def device(x: Array) -> Any:
    """Return the device of an array, boxed or not."""
    return array_api_compat.device(unboxed(x))


def transposed(x: Array) -> Array:
    """Swap the last two axes, the T of the papers."""
    return namespace(x).matrix_transpose(x)


def plus_bias(y: Array, bias: Array | None) -> Array:
    """Add a bias where there is one."""
    return y if bias is None else y + bias


def constant(x: Array) -> Array:
    """Return an array's value, cut off from any gradient: for what provably has none."""
    return unboxed(x)


__all__ = [
    "NAMES",
    "constant",
    "device",
    "erfc",
    "is_at_hand",
    "is_boxed",
    "is_subclassed",
    "namespace",
    "on_its_device",
    "plain",
    "plus_bias",
    "transposed",
    "unboxed",
    "value_namespace",
]
